"""Protocols: the members that a module must have so that a feature of brainhw supports the module.

brainhw tests whether a module has the members of a protocol and does not test its class. A module from any package can
therefore use preparation, sampled chips, the fast path of ``rollout``, ``fluct_init``, streams and figures, if it has
the members of the protocols that these features need. ``fulfils`` tests for a protocol and raises an error that names
the missing members if a module has only some of them.
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
    """Access to one weight array of a module, for initialisers and checks.

    Attributes
    ----------
    parameter : brainstate.State or brainstate.nn.Param
        The object that stores the weight.
    unit : Unit
        Unit of the weight, ``u.UNITLESS`` for dimensionless weights.
    limit : float
        Largest magnitude that the hardware accepts for both signs; infinite for modules without a chip.
    grid : object or None
        Object with the levels to which the weight is rounded. It has the members ``step``, ``quantize`` and ``codes``.
        ``None`` if the weight is not rounded.
    out_axis : int or None
        Axis of the targets, which are neurons or, for a convolution, output channels. All other axes belong to inputs.
        ``None`` for one-to-one weights ``[N]``.
    key : str or None
        Key of the weight if the value of the parameter is a dict, as in ``brainstate.nn.Linear``. ``None`` if the value
        is the weight itself.
    """

    parameter: Any
    unit: u.Unit = u.UNITLESS
    limit: float = math.inf
    grid: Any = None
    out_axis: int | None = -1
    key: str | None = None

    @property
    def trainable(self) -> bool:
        """Whether training may change the weight; False for a ``brainstate.nn.Const`` or a plain state."""
        if isinstance(self.parameter, brainstate.nn.Param):
            return self.parameter.fit
        return isinstance(self.parameter, brainstate.ParamState)

    @property
    def quantity(self) -> Any:
        """Present value of the weight, an array, or a Quantity if it has a unit."""
        held = self.parameter.value() if isinstance(self.parameter, brainstate.nn.Param) else self.parameter.value
        return held if self.key is None else held[self.key]

    @property
    def value(self) -> jax.Array:
        """Present value of the weight as a plain array in ``unit``."""
        held = self.quantity
        return held.to(self.unit).mantissa if isinstance(held, u.Quantity) else held

    def write(self, value: jax.Array) -> None:
        """Set the weight to ``value``, a plain array in ``unit``."""
        new = value if self.unit == u.UNITLESS else u.Quantity(value, unit=self.unit)
        # `set_value` of a Param applies the inverse of its transform. A plain state has no transform.
        if isinstance(self.parameter, brainstate.nn.Param):
            self.parameter.set_value(new)
        else:
            self.parameter.value = new if self.key is None else {**self.parameter.value, self.key: new}


class Preparable(Protocol):
    """A module that :func:`brainhw.prepare_net` calls once per batch."""

    def prepare(self, key: jax.Array | None = None) -> None:
        """Compute the values that the steps use.

        They are those of a chip sampled with ``key``, or of the current chip if ``key`` is ``None``.
        """


class Sampled(Protocol):
    """A module with values that differ from chip to chip because of mismatch."""

    def pin_chip(self, key: jax.Array | None, sizes: Mapping[str, float | None]) -> None:
        """Use the chip sampled with ``key`` from now on, or the nominal chip if ``key`` is ``None``.

        ``sizes`` maps each kind of mismatch of the chip family to its standard deviation; ``None`` means no variation.
        """


class HasWeight(Protocol):
    """A synapse without a state, whose ``update`` computes the drive of neurons from its input with one weight array.

    ``update`` accepts any number of leading axes.
    """

    def weight_slot(self) -> Slot:
        """Return a :class:`Slot` for the weight array."""


class Neuron(Protocol):
    """A layer of neurons with a threshold, whose membrane potential can be computed without spikes.

    Attributes
    ----------
    out_size : tuple of int
        Shape of the layer without the batch axis.
    """

    out_size: tuple[int, ...]

    def threshold(self) -> u.Quantity:
        """Return the firing threshold in mV, scalar or of shape ``out_size``."""

    def subthreshold(self, xs: u.Quantity) -> u.Quantity:
        """Return the membrane potential ``[T, ..., *out_size]`` in mV for the inputs ``xs [T, ..., *in_size]``.

        The potential starts at rest and is computed without spikes, reset, clamp and noise. The states of the layer do
        not change.
        """


class Recurrent(Protocol):
    """A layer whose spikes are fed back in the next step."""

    def recurrent_slot(self) -> Slot | None:
        """Return a :class:`Slot` for the recurrent weights, or ``None`` if the layer has no recurrence."""

    def recurrent_drive(self, spk: jax.Array) -> u.Quantity:
        """Return the drive that spikes ``[..., *out_size]`` cause in the next step."""


class Quietable(Protocol):
    """A module with noise or rounding. An initialiser must disable both to measure a smooth response."""

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context manager that disables noise, rounding and sign annealing."""


class Ranged(Protocol):
    """A module with parameters that must stay in range, but that training or an assignment can move out of range.

    :func:`brainhw.prepare_net`, and every function that calls it, raises an error with the path of a parameter that is
    out of range. Traced parameters are not checked there. Inside compiled functions, ``rollout(check_finite=True)``
    checks them.

    Attributes
    ----------
    parameter_ranges : mapping of str to Range
        Maps the name of an attribute to its range. The attribute is a ``brainstate.nn.Param``, a state, a Quantity or a
        plain array. If the attribute is missing or ``None``, it is not checked.
    """

    parameter_ranges: Mapping[str, Range]


class StepLimited(Protocol):
    """A module that can run only a limited number of steps after each preparation.

    Attributes
    ----------
    steps_left : float
        Number of steps that can still be run; ``math.inf`` if there is no limit.
    """

    steps_left: float

    def limit_reached(self, call: str, n_steps: int) -> ValueError:
        """Return the error to raise for a run whose length ``n_steps`` is greater than ``steps_left``."""


class SequenceModule(Protocol):
    """A causal module that can process a whole sequence at once.

    Attributes
    ----------
    sequence_records : tuple of str
        Names of the values that can be recorded and that ``update_sequence`` passes to :func:`tap`.
    can_be_cut : bool
        Whether a long sequence may be processed in pieces, if gradients flow from each piece to the previous piece.
    sequence_hooks : tuple of str, optional
        Names of the members that a subclass may override while ``update`` and ``update_sequence`` still return the same
        results. This holds for a member that both methods call, and for a member that neither method calls.
    """

    sequence_records: ClassVar[tuple[str, ...]]
    can_be_cut: ClassVar[bool]

    def gains_from_sequence(self) -> bool:
        """Return whether a network with this module should process whole sequences, one module after the other."""

    def update_sequence(self, xs: Any) -> Any:
        """Return the outputs of ``update`` for all steps of ``xs [T, ...]``, and update the states."""


# A module that has the first member of a protocol must also have all other members of that protocol.
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
    """Return whether a module has all members of a protocol.

    Parameters
    ----------
    module : brainstate.nn.Module
        The module.
    protocol : type
        One of the protocols in this file.
    call : str
        Name of the calling function, for error messages.

    Returns
    -------
    bool
        Whether the module has all members.

    Raises
    ------
    TypeError
        If the module has the first member of the protocol but not all others.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> from brainhw.nn.protocols import Neuron, fulfils
    >>> fulfils(bh.nn.LIFLayer(3, tau=10 * u.ms), Neuron, call="my function")
    True
    """
    first, *others = _MEMBERS[protocol]
    # Look up methods and properties on the class, because reading a property of the instance may raise an error. Look
    # up other attributes in `vars`.
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
    """Return whether a module has an ``update_sequence`` that returns the same results as its ``update``.

    The two methods can differ if a subclass of the class that defines ``update_sequence`` overrides ``update`` or
    another member that is not in ``sequence_hooks``. The result is then False.

    Parameters
    ----------
    module : brainstate.nn.Module
        The module.
    call : str
        Name of the calling function, for error messages.

    Returns
    -------
    bool
        Whether the whole sequence can be processed with ``update_sequence``.

    Raises
    ------
    TypeError
        If the module has only some of the members of :class:`SequenceModule`.
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
    # Include methods that were replaced on the instance.
    changed = {name for name, value in vars(module).items() if callable(value) and hasattr(type(module), name)} - hooks
    for kind in type(module).__mro__:
        if "update_sequence" in vars(kind):
            return not any(hasattr(kind, name) for name in changed)
        if kind.__module__.split(".")[0] == "brainhw":
            # Ignore what classes of this package define. The tests check that their `update_sequence` agrees with
            # `update`.
            return not any(hasattr(kind, name) for name in changed)
        changed |= {name for name in vars(kind) if not name.startswith(("__", "_abc_"))} - hooks
    return False


class SequenceSynapse:
    """Base class that implements most of :class:`SequenceModule` for synapses, which have no states.

    A subclass defines ``update_sequence``.
    """

    sequence_records: ClassVar[tuple[str, ...]] = ()
    can_be_cut: ClassVar[bool] = True

    def gains_from_sequence(self) -> bool:
        """Return False, because a synapse alone does not justify processing whole sequences."""
        return False


@functools.singledispatch
def weight_slot_of(module: Any, *, call: str = "weight_slot_of") -> Slot | None:
    """Return a :class:`Slot` for the weight of a synapse, or ``None`` if brainhw finds no weight in the module.

    brainhw finds the weight of a module that has a method ``weight_slot``. If you cannot change the class, register a
    function for it: ``weight_slot_of.register(TheirClass)(lambda module, **options: Slot(module.w))``.

    Parameters
    ----------
    module : brainstate.nn.Module
        The module. ``Linear``, ``Conv1d``, ``Conv2d`` and ``Conv3d`` of ``brainstate.nn`` are supported.
    call : str, optional
        Name of the calling function, for error messages.

    Returns
    -------
    Slot or None
        The weight, in the unit in which the module stores it.

    Raises
    ------
    TypeError
        If the module has only some of the members of the protocol :class:`HasWeight`.

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
    # A subclass may define `weight_slot`.
    if fulfils(module, HasWeight, call=call):
        return module.weight_slot()
    # The value of the parameter is a dict {'weight': ..., 'bias': ...}. Convolution kernels are [*window, in, out].
    return Slot(module.weight, unit=u.get_unit(module.weight.value["weight"]), key="weight")


# Modules test this variable before they call `tap`, because outside `jit` even a call that does nothing takes time.
tapped_now: ContextVar[dict[tuple[int, str], Any] | None] = ContextVar("brainhw_tapped", default=None)


def tap(module: Any, name: str, value: Any) -> None:
    """Make a value of a step, such as the membrane potential before the reset, available for recording.

    If nothing is recorded, the call does nothing and adds no operations to a compiled function. Inside ``update``, pass
    the value of the step. Inside ``update_sequence``, pass the values of the whole sequence, and list the name in
    ``sequence_records``.

    Parameters
    ----------
    module : brainstate.nn.Module
        The module to which the value belongs.
    name : str
        Name of the value. For example, ``rollout(record=("hidden.V_pre",))`` records ``V_pre`` of ``net.hidden``.
    value : array or Quantity
        The value.
    """
    tapped = tapped_now.get()
    if tapped is not None:
        tapped[id(module), name] = value


@contextlib.contextmanager
def collect_taps(tapped: dict[tuple[int, str], Any] | None = None) -> Iterator[dict[tuple[int, str], Any]]:
    """Context manager that collects the values passed to :func:`tap` in a dict with keys ``(id(module), name)``.

    If ``tapped`` is not ``None``, the values are added to this dict.
    """
    tapped = {} if tapped is None else tapped
    token = tapped_now.set(tapped)
    try:
        yield tapped
    finally:
        tapped_now.reset(token)
