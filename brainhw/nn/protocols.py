"""Protocols: what a module can offer to the rest of brainhw, one for each ability.

No other wing asks for the class of a module. A module from any package that has the members of a protocol gets
everything that rests on it: preparation, sampled chips, the fast path of ``rollout``, ``fluct_init``, streams, figures.
``fulfils`` answers whether it has them, and names the missing member of a protocol that is only half there.
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
    """One weight of a module, as initialisers and checks see it.

    Attributes
    ----------
    parameter : brainstate.State or brainstate.nn.Param
        What holds the weight.
    unit : Unit
        Unit of the weight; ``u.UNITLESS`` for plain numbers.
    limit : float
        Largest magnitude that the hardware takes of either sign; infinite without a chip.
    grid : object or None
        The levels that the weight is rounded to, with ``step``, ``quantize`` and ``codes``; ``None`` without rounding.
    out_axis : int or None
        Axis of the targets: every weight along it belongs to another neuron or, in a convolution, to another channel.
        All other axes are inputs. ``None`` for a one-to-one weight ``[N]``.
    key : str or None
        Entry of the dict that the parameter holds, as in ``brainstate.nn.Linear``; ``None`` if it holds the weight.
    """

    parameter: Any
    unit: u.Unit = u.UNITLESS
    limit: float = math.inf
    grid: Any = None
    out_axis: int | None = -1
    key: str | None = None

    @property
    def learnt(self) -> bool:
        """Whether training may change the weight: not if it is a ``brainstate.nn.Const`` or a plain state."""
        if isinstance(self.parameter, brainstate.nn.Param):
            return self.parameter.fit
        return isinstance(self.parameter, brainstate.ParamState)

    @property
    def quantity(self) -> Any:
        """The present weight: an array, or a Quantity where it has a unit."""
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
        # `set_value` goes back through the transform of a Param; a plain state has none.
        if isinstance(self.parameter, brainstate.nn.Param):
            self.parameter.set_value(new)
        else:
            self.parameter.value = new if self.key is None else {**self.parameter.value, self.key: new}


class Preparable(Protocol):
    """A module that :func:`brainhw.prepare_net` calls once per batch."""

    def prepare(self, key: jax.Array | None = None) -> None:
        """Compute what the steps will use; ``key`` samples a chip, ``None`` is the one in place."""


class Sampled(Protocol):
    """A module that differs from chip to chip."""

    def pin_chip(self, key: jax.Array | None, sizes: Mapping[str, float | None]) -> None:
        """Put the chip of ``key`` in place until the next call; ``None`` is the nominal chip.

        ``sizes`` holds the standard deviation of every kind of mismatch of the module's family; ``None``: no variation.
        """


class HasWeight(Protocol):
    """A synapse: ``update`` turns its input into a drive through one weight, and holds no state of its own.

    ``update`` takes any number of leading axes.
    """

    def weight_slot(self) -> Slot:
        """Return the weight."""


class Neuron(Protocol):
    """A layer of neurons with a threshold and a membrane that can be followed without spikes.

    Attributes
    ----------
    out_size : tuple of int
        Shape of the layer without the batch.
    """

    out_size: tuple[int, ...]

    def threshold(self) -> u.Quantity:
        """Return the firing threshold in mV, scalar or of shape ``out_size``."""

    def subthreshold(self, xs: u.Quantity) -> u.Quantity:
        """Return the membrane ``[T, ..., *out_size]`` in mV that drives ``[T, ..., *in_size]`` alone make from rest.

        No spike, no reset, no clamp, no noise; no state is touched.
        """


class Recurrent(Protocol):
    """A layer whose own spikes come back in the next step."""

    def recurrent_slot(self) -> Slot | None:
        """Return the recurrent weight, ``None`` if this layer has none."""

    def recurrent_drive(self, spk: jax.Array) -> u.Quantity:
        """Return the drive that spikes ``[..., *out_size]`` bring back in the step after."""


class Quietable(Protocol):
    """A module with noise or rounding that an initialiser must switch off to see smooth responses."""

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which there is no noise, no rounding and no annealing."""


class Ranged(Protocol):
    """A module whose parameters must stay in a range, which learning or a later write may leave.

    :func:`brainhw.prepare_net`, and every call that rests on it, refuses a parameter out of range by its path, unless
    it is being traced; ``rollout(check_finite=True)`` does so inside compiled functions.

    Attributes
    ----------
    parameter_ranges : mapping of str to Range
        The range of each attribute that holds a ``brainstate.nn.Param``, a state, a Quantity or plain numbers. An
        attribute that is missing or ``None`` is skipped.
    """

    parameter_ranges: Mapping[str, Range]


class StepLimited(Protocol):
    """A module that can take only so many steps after a preparation.

    Attributes
    ----------
    steps_left : float
        How many more; ``math.inf`` for no limit.
    """

    steps_left: float

    def limit_reached(self, call: str, n_steps: int) -> ValueError:
        """Return the error to raise when ``n_steps`` are asked for and fewer are left."""


class SequenceModule(Protocol):
    """A causal module that can process a whole sequence at once.

    Attributes
    ----------
    sequence_records : tuple of str
        The values that it offers to a recorder (``tap``) as whole sequences.
    can_be_cut : bool
        Whether a long sequence may be processed in pieces, with gradients flowing from each piece to the one before.
    sequence_hooks : tuple of str, optional
        Members that a subclass may override and ``update`` and ``update_sequence`` still agree: both call them, or
        neither does.
    """

    sequence_records: ClassVar[tuple[str, ...]]
    can_be_cut: ClassVar[bool]

    def gains_from_sequence(self) -> bool:
        """Return whether this module makes it worth running a network layer by layer."""

    def update_sequence(self, xs: Any) -> Any:
        """Return what ``update`` returns at each step of ``xs [T, ...]``, and leave the states as the steps would."""


# The first member tells that the protocol is meant; the others must then be there too.
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
        One of the protocols above.
    call : str
        The call to name in errors.

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
    # Methods and properties are looked up on the class, since reading a property may fail; plain attributes in vars.
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

    It does not where a subclass overrides ``update`` or another member after the class that defines
    ``update_sequence``, unless that member is one of ``sequence_hooks``.

    Parameters
    ----------
    module : brainstate.nn.Module
        The module.
    call : str
        The call to name in errors.

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
    """Sequence protocol of a synapse: no state, so nothing to record and nothing to carry over a cut."""

    sequence_records: ClassVar[tuple[str, ...]] = ()
    can_be_cut: ClassVar[bool] = True

    def gains_from_sequence(self) -> bool:
        """Return False: a synapse alone does not make layer by layer worth it."""
        return False


@functools.singledispatch
def weight_slot_of(module: Any, *, call: str = "weight_slot_of") -> Slot | None:
    """Return the weight of a synapse; ``None`` if the module has none that brainhw knows.

    A module answers by its method ``weight_slot``. For a class that cannot be changed, register a function:
    ``weight_slot_of.register(TheirClass)(lambda module, **options: Slot(module.w))``.

    Parameters
    ----------
    module : brainstate.nn.Module
        The module. ``Linear``, ``Conv1d``, ``Conv2d`` and ``Conv3d`` of ``brainstate.nn`` are known.
    call : str, optional
        The call to name in errors.

    Returns
    -------
    Slot or None
        The weight, in the unit in which the module stores it.

    Raises
    ------
    TypeError
        If the module fulfils only a part of the protocol.

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
    if fulfils(module, HasWeight, call=call):  # a subclass that answers itself
        return module.weight_slot()
    # One parameter holds {'weight': ..., 'bias': ...}; kernels are [*window, in, out].
    return Slot(module.weight, unit=u.get_unit(module.weight.value["weight"]), key="weight")


# A module asks this before it calls `tap`: in eager steps a call that does nothing still costs.
heard_now: ContextVar[dict[tuple[int, str], Any] | None] = ContextVar("brainhw_heard", default=None)


def tap(module: Any, name: str, value: Any) -> None:
    """Offer a value inside a step to recorders, such as the membrane before the reset.

    Nothing happens, and nothing is compiled, unless somebody listens. Inside ``update`` offer the value of the step,
    inside ``update_sequence`` the whole sequence, and name it in ``sequence_records``.

    Parameters
    ----------
    module : brainstate.nn.Module
        The module that has the value.
    name : str
        Its name: ``rollout(record=("hidden.V_pre",))`` records ``V_pre`` of ``net.hidden``.
    value : array or Quantity
        The value.
    """
    heard = heard_now.get()
    if heard is not None:
        heard[id(module), name] = value


@contextlib.contextmanager
def listening(heard: dict[tuple[int, str], Any] | None = None) -> Iterator[dict[tuple[int, str], Any]]:
    """Collect the values that modules offer in this block, by ``(id(module), name)``; into ``heard`` if given."""
    heard = {} if heard is None else heard
    token = heard_now.set(heard)
    try:
        yield heard
    finally:
        heard_now.reset(token)
