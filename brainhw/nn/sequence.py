"""What a module offers that can run over a whole sequence at once."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

__all__ = ["SequenceModule", "SequenceSynapse"]


@runtime_checkable
class SequenceModule(Protocol):
    """A module whose output at a step depends on its own input up to that step alone, and that can use knowing it all.

    Attributes
    ----------
    sequence_records : tuple of str
        What it offers to a recorder (``tap``) as a whole sequence.
    can_be_cut : bool
        Whether it may as well run some steps at a time, with gradients that go from one piece to the one before.
    """

    sequence_records: ClassVar[tuple[str, ...]]
    can_be_cut: ClassVar[bool]

    def gains_from_sequence(self) -> bool:
        """Whether it is worth running a chain layer by layer for this module."""

    def update_sequence(self, xs: Any) -> Any:
        """Return what ``update`` returns at each step of ``xs [T, ...]``, and leave the states as the steps would."""


class SequenceSynapse:
    """What the synapses share as sequence modules: no state, so nothing to record, to carry over a cut or to gain."""

    sequence_records: ClassVar[tuple[str, ...]] = ()
    can_be_cut: ClassVar[bool] = True

    def gains_from_sequence(self) -> bool:
        """Whether a chain should run layer by layer for the synapse alone: no."""
        return False
