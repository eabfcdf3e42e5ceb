"""Protocols: optional abilities that a module can offer to the rest of brainhw.

No other part of brainhw tests the class of a module. A module from any package that has the members of a protocol gets
all features that rely on it: preparation, sampled chips, the fast path of ``rollout``, ``fluct_init``, streams,
figures. ``fulfils`` tests for a protocol and names the missing members of an incomplete one.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import brainstate
import brainunit as u
import jax

from brainhw.nn.ranges import Range

__all__ = [
    "HasWeight",
    "Neuron",
    "Preparable",
    "Quietable",
    "Range",
    "Ranged",
    "Recurrent",
    "Sampled",
    "SequenceModule",
    "SequenceSynapse",
    "Slot",
    "StepLimited",
    "fulfils",
    "runs_whole_sequence",
    "tap",
    "weight_slot_of",
]


@dataclass(frozen=True, eq=False)
class Slot:
    """One weight of a module, as initialisers and checks access it.

    Attributes
    ----------
    parameter : brainstate.State or brainstate.nn.Param
        The object that holds the weight.
    unit : Unit
        Unit of the weight; ``u.UNITLESS`` for plain numbers.
    limit : float
        Largest magnitude that the hardware accepts with either sign; infinite without a chip.
    grid : object or None
        Levels to which the weight is rounded, with ``step``, ``quantize`` and ``codes``; ``None`` without rounding.
    out_axis : int or None
        Axis of the targets: along it, each weight belongs to another neuron or, in a convolution, to another channel.
        All other axes are inputs. ``None`` for a one-to-one weight ``[N]``.
    key : str or None
        Key, if the parameter holds a dict, as in ``brainstate.nn.Linear``; ``None`` if it holds the weight itself.
    """

    parameter: Any
    unit: u.Unit = u.UNITLESS
    limit: float = math.inf
    grid: Any = None
    out_axis: int | None = -1
    key: str | None = None

    @property
    def learnt(self) -> bool:
        """Whether training may change the weight; False for a ``brainstate.nn.Const`` or a plain state."""
        if isinstance(self.parameter, brainstate.nn.Param):
            return self.parameter.fit
        return isinstance(self.parameter, brainstate.ParamState)

    @property
    def quantity(self) -> Any:
        """The present weight: an array, or a Quantity if it has a unit."""
        held = self.parameter.value() if isinstance(self.parameter, brainstate.nn.Param) else self.parameter.value
        return held if self.key is None else held[self.key]

    @property
    def value(self) -> jax.Array:
        """The present weight as plain numbers in ``unit``."""
        held = self.quantity
        return held.to(self.unit).mantissa if isinstance(held, u.Quantity) else held

    def write(self, value: jax.Array) -> None:
        """Write plain numbers in ``unit`` as the new weight."""
        new = value if self.unit == u.UNITLESS else u.Quantity(value, unit=self.unit)
        # `set_value` applies the inverse transform of a Param; a plain state has none.
        if isinstance(self.parameter, brainstate.nn.Param):
            self.parameter.set_value(new)
        else:
            self.parameter.value = new if self.key is None else {**self.parameter.value, self.key: new}


class Preparable(Protocol):
    """A module that :func:`brainhw.prepare_net` calls once per batch."""

    def prepare(self, key: jax.Array | None = None) -> None:
        """Compute the values that the steps use; ``key`` samples a chip, ``None`` uses the current chip."""


class Sampled(Protocol):
    """A module whose values differ between chips."""

    def pin_chip(self, key: jax.Array | None, sizes: Mapping[str, float | None]) -> None:
        """Use the chip of ``key`` until the next call; ``None`` is the nominal chip.

        ``sizes`` holds the standard deviation of every kind of mismatch of the module's family; ``None``: no variation.
        """


class HasWeight(Protocol):
    """A synapse: ``update`` turns its input into a drive through one weight, without a state.

    ``update`` accepts any number of leading axes.
    """

    def weight_slot(self) -> Slot:
        """Return the weight."""


class Neuron(Protocol):
    """A layer of neurons with a threshold and a membrane that can be computed without spikes.

    Attributes
    ----------
    out_size : tuple of int
        Shape of the layer without the batch.
    """

    out_size: tuple[int, ...]

    def threshold(self) -> u.Quantity:
        """Return the firing threshold in mV, scalar or of shape ``out_size``."""

    def subthreshold(self, xs: u.Quantity) -> u.Quantity:
        """Return the membrane ``[T, ..., *out_size]`` in mV from rest, driven by ``xs [T, ..., *in_size]``.

        Without spikes, reset, clamp and noise; the states do not change.
        """


class Recurrent(Protocol):
    """A layer whose spikes are fed back in the next step."""

    def recurrent_slot(self) -> Slot | None:
        """Return the recurrent weight, or ``None`` without recurrence."""

    def recurrent_drive(self, spk: jax.Array) -> u.Quantity:
        """Return the drive that spikes ``[..., *out_size]`` cause in the next step."""


class Quietable(Protocol):
    """A module with noise or rounding that an initialiser must disable to measure smooth responses."""

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context without noise, rounding and annealing."""


class Ranged(Protocol):
    """A module whose parameters must stay in a range, which learning or a later write may violate.

    :func:`brainhw.prepare_net`, and every call that uses it, raises for a parameter out of range and names its path,
    unless it is traced. Inside compiled functions ``rollout(check_finite=True)`` does the same.

    Attributes
    ----------
    parameter_ranges : mapping of str to Range
        The range of each attribute that holds a ``brainstate.nn.Param``, a state, a Quantity or plain numbers. An
        attribute that is missing or ``None`` is skipped.
    """

    parameter_ranges: Mapping[str, Range]


class StepLimited(Protocol):
    """A module with a limited number of steps after a preparation.

    Attributes
    ----------
    steps_left : float
        Number of steps left; ``math.inf`` without a limit.
    """

    steps_left: float

    def limit_reached(self, call: str, n_steps: int) -> ValueError:
        """Return the error for a run of ``n_steps`` that is longer than the steps left."""


class SequenceModule(Protocol):
    """A causal module that can process a whole sequence at once.

    Attributes
    ----------
    sequence_records : tuple of str
        Names of the values that it offers to recorders (``tap``) as whole sequences.
    can_be_cut : bool
        Whether a long sequence may be processed in pieces, with gradients flowing from each piece to the previous one.
    sequence_hooks : tuple of str, optional
        Members that a subclass may override while ``update`` and ``update_sequence`` still agree: both call them, or
        neither does.
    """

    sequence_records: ClassVar[tuple[str, ...]]
    can_be_cut: ClassVar[bool]

    def gains_from_sequence(self) -> bool:
        """Return whether this module makes it worthwhile to run a network layer by layer."""

    def update_sequence(self, xs: Any) -> Any:
        """Return the outputs of ``update`` for ``xs [T, ...]``, and update the states to the last step."""


# A module with the first member claims the protocol; it must then have the other members too.
_MEMBERS: dict[type, tuple[str, ...]] = {
    Preparable: ("prepare",),
    Sampled: ("pin_chip",),
    HasWeight: ("weight_slot",),
    Neuron: ("subthreshold", "threshold", "out_size"),
    Recurrent: ("recurrent_slot", "recurrent_drive"),
    Quietable: ("quiet",),
    Ranged: ("parameter_ranges",),
    StepLimited: ("steps_left", "limit_reached"),
    SequenceModule: ("update_sequence", "sequence_records", "can_be_cut", "gains_from_sequence"),
}


def fulfils(module: Any, protocol: type, *, call: str) -> bool:
    """Return whether a module has every member of a protocol of this file.

    Parameters
    ----------
    module : brainstate.nn.Module
        The module.
    protocol : type
        One of the protocols of this file.
    call : str
        Name of the call for errors.

    Returns
    -------
    bool
        Whether the module has every member.

    Raises
    ------
    TypeError
        If the module has the first member of the protocol but lacks another.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> from brainhw.nn.protocols import Neuron, fulfils
    >>> fulfils(bh.nn.LIFLayer(3, tau=10 * u.ms), Neuron, call="my function")
    True
    """
    first, *others = _MEMBERS[protocol]
    # Methods and properties are looked up on the class, because reading a property may fail; attributes in vars.
    if not hasattr(type(module), first) and first not in vars(module):
        return False
    missing = [name for name in others if not hasattr(type(module), name) and name not in vars(module)]
    if missing:
        raise TypeError(
            f"{call}: {type(module).__name__} has {first} but lacks {', '.join(missing)} "
            f"(protocol {protocol.__name__}). Add {'it' if len(missing) == 1 else 'them'}, or remove {first}."
        )
    return True


def runs_whole_sequence(module: Any, *, call: str) -> bool:
    """Return whether ``update_sequence`` of a module agrees with its ``update``.

    They disagree if a subclass of the class that defines ``update_sequence`` overrides ``update`` or another member
    that is not in ``sequence_hooks``.

    Parameters
    ----------
    module : brainstate.nn.Module
        The module.
    call : str
        Name of the call for errors.

    Returns
    -------
    bool
        Whether the module has an ``update_sequence`` that agrees with its ``update``.

    Raises
    ------
    TypeError
        If the module has only some members of :class:`SequenceModule`.
    """
    if not fulfils(module, SequenceModule, call=call):
        return False
    hooks = {
        *getattr(module, "sequence_hooks", ()),
        "sequence_hooks",
        "sequence_records",
        "can_be_cut",
        "parameter_ranges",
    }
    # A method may also be replaced on the instance.
    changed = {name for name, value in vars(module).items() if callable(value) and hasattr(type(module), name)} - hooks
    for kind in type(module).__mro__:
        if "update_sequence" in vars(kind):
            return not any(hasattr(kind, name) for name in changed)
        if kind.__module__.split(".")[0] == "brainhw":
            # Classes of this package that only add constants, documentation or hooks are tested to agree.
            return not any(hasattr(kind, name) for name in changed)
        changed |= {name for name in vars(kind) if not name.startswith(("__", "_abc_"))} - hooks
    return False


class SequenceSynapse:
    """Sequence protocol of a synapse: it has no state, so there is nothing to record or to carry between pieces."""

    sequence_records: ClassVar[tuple[str, ...]] = ()
    can_be_cut: ClassVar[bool] = True

    def gains_from_sequence(self) -> bool:
        """Return False: a synapse alone does not make running layer by layer worthwhile."""
        return False


@functools.singledispatch
def weight_slot_of(module: Any, *, call: str = "weight_slot_of") -> Slot | None:
    """Return the weight of a synapse, or ``None`` if the module has no known weight.

    A module provides it through its method ``weight_slot``. For a class that cannot be changed, register a function:
    ``weight_slot_of.register(TheirClass)(lambda module, **options: Slot(module.w))``.

    Parameters
    ----------
    module : brainstate.nn.Module
        The module. ``Linear``, ``Conv1d``, ``Conv2d`` and ``Conv3d`` of ``brainstate.nn`` are supported.
    call : str, optional
        Name of the call for errors.

    Returns
    -------
    Slot or None
        The weight, in the unit in which the module stores it.

    Raises
    ------
    TypeError
        If the module has only a part of the protocol.

    Examples
    --------
    >>> import brainstate
    >>> from brainhw.nn.protocols import weight_slot_of
    >>> slot = weight_slot_of(brainstate.nn.Linear(3, 2))
    >>> slot.value.shape, slot.out_axis
    ((3, 2), -1)
    """
    return module.weight_slot() if fulfils(module, HasWeight, call=call) else None


@weight_slot_of.register(brainstate.nn.Linear)
@weight_slot_of.register(brainstate.nn.Conv1d)
@weight_slot_of.register(brainstate.nn.Conv2d)
@weight_slot_of.register(brainstate.nn.Conv3d)
def _of_brainstate(module: Any, *, call: str = "weight_slot_of") -> Slot:
    if fulfils(module, HasWeight, call=call):  # a subclass with its own method
        return module.weight_slot()
    # One parameter holds {'weight': ..., 'bias': ...}; kernels are [*window, in, out].
    return Slot(module.weight, unit=u.get_unit(module.weight.value["weight"]), key="weight")


# Modules test this before they call `tap`, because in eager steps even an empty call has a cost.
heard_now: ContextVar[dict[tuple[int, str], Any] | None] = ContextVar("brainhw_heard", default=None)


def tap(module: Any, name: str, value: Any) -> None:
    """Offer a value inside a step to recorders, such as the membrane before the reset.

    Without a recorder nothing happens and nothing is compiled. Inside ``update`` offer the value of the step; inside
    ``update_sequence`` offer the whole sequence, and list the name in ``sequence_records``.

    Parameters
    ----------
    module : brainstate.nn.Module
        The module that has the value.
    name : str
        Name of the value: ``rollout(record=("hidden.V_pre",))`` records ``V_pre`` of ``net.hidden``.
    value : array or Quantity
        The value.
    """
    heard = heard_now.get()
    if heard is not None:
        heard[id(module), name] = value


@contextlib.contextmanager
def listening(heard: dict[tuple[int, str], Any] | None = None) -> Iterator[dict[tuple[int, str], Any]]:
    """Collect the values that modules offer in this block by ``(id(module), name)``, in ``heard`` if given."""
    heard = {} if heard is None else heard
    token = heard_now.set(heard)
    try:
        yield heard
    finally:
        heard_now.reset(token)
