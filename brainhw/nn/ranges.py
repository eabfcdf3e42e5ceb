"""Allowed ranges of parameters. Modules declare them; brainhw checks them at construction and before every run."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from brainstate._state import TRACE_CONTEXT

from brainhw import _arguments

__all__ = [
    "BIT_SHIFT",
    "DECAY",
    "DENSE_NUMBER",
    "DENSE_VOLTAGE",
    "DURATION",
    "FACTOR",
    "ORDER",
    "THRESHOLD",
    "TIME_CONSTANT",
    "VOLTAGE",
    "Range",
    "check_ranges",
    "dense",
    "held_value",
    "ranged",
    "traced_faults",
]


@dataclass(frozen=True, eq=False)
class Range:
    """Allowed range of a parameter. The values must also be real and finite.

    Attributes
    ----------
    low, high : float
        Bounds in ``unit``, infinite by default. ``high`` itself is allowed.
    includes_low : bool
        Whether ``low`` itself is allowed. Default False.
    unit : Unit
        Unit of the bounds, ``u.UNITLESS`` for dimensionless parameters. Values may have any unit of the same dimension.
    transform : str
        Transform of ``brainstate.nn`` that keeps a trainable parameter in range. It is shown in error messages.
    shape : callable or None
        Function that takes the module and returns the required shape. ``None`` if the shape is not checked.
    per_step : callable or None
        Only for time constants. Function that takes ``dt / tau`` and returns a text for a warning if the time step is
        too long, otherwise ``None``.

    Examples
    --------
    >>> import brainunit as u
    >>> from brainhw.nn.protocols import Range
    >>> Range(0.0, unit=u.ms).words, Range(0.0, 1.0, includes_low=True).words
    ('greater than zero', 'from 0 to 1')
    """

    low: float = -math.inf
    high: float = math.inf
    includes_low: bool = False
    unit: u.Unit = u.UNITLESS
    transform: str = ""
    shape: Callable[[Any], tuple[int, ...]] | None = None
    per_step: Callable[[float], str | None] | None = None

    @property
    def words(self) -> str:
        """Description of the range in error messages, such as ``'greater than zero'``."""
        if math.isfinite(self.high):
            return (
                f"from {self.low:g} to {self.high:g}"
                if self.includes_low
                else f"greater than {self.low:g} and at most {self.high:g}"
            )
        if not math.isfinite(self.low):
            return "finite"
        least = "zero" if self.low == 0 else f"{self.low:g} {self.unit}".strip()
        return f"{least} or greater" if self.includes_low else f"greater than {least}"

    def holds(self, numbers: Any) -> Any:
        """Return, for each element of ``numbers``, whether it is in range; ``numbers`` is a plain array in ``unit``."""
        above = numbers >= self.low if self.includes_low else numbers > self.low
        # Infinity is out of range even without an upper bound. NaN is out of range because every comparison is false.
        return above & (numbers <= self.high if math.isfinite(self.high) else numbers < math.inf)

    def worst(self, numbers: np.ndarray) -> str:
        """Return a text for an error message: the first value that is out of range, its unit and its index."""
        bad = np.argwhere(~np.asarray(self.holds(numbers)))
        where = tuple(int(i) for i in bad[0])
        unit = "" if self.unit == u.UNITLESS else f" {self.unit}"
        return f"{float(numbers[where]):g}{unit}" + (f" at index {where}" if where else "")

    def check(self, value: Any, *, call: str, name: str, fix: str = "") -> None:
        """Raise unless ``value`` has the right dimension and a real dtype, and all its elements are in range.

        The range of traced values is not checked.
        """
        mantissa, unit = (value.mantissa, value.unit) if isinstance(value, u.Quantity) else (value, u.UNITLESS)
        # Return early in the usual case, because every preparation runs this check.
        in_unit = unit is self.unit or unit == self.unit
        if in_unit and type(mantissa) is float and self.holds(mantissa):
            return
        if not in_unit and not u.have_same_dim(value, self.unit):
            wanted = "a plain number without a unit" if self.unit == u.UNITLESS else f"a Quantity in {self.unit}"
            raise TypeError(f"{call}: {name} must be {wanted}; got {_arguments.describe(value)}.{fix}")
        dtype = getattr(mantissa, "dtype", None) or np.asarray(mantissa).dtype
        if dtype.kind == "c":
            raise TypeError(f"{call}: {name} must be real; got numbers of dtype {dtype}.{fix}")
        if not dtype.isnative:
            raise TypeError(
                f"{call}: {name} must have the byte order of this machine; got dtype {dtype.str}. "
                "Convert it with value.astype(value.dtype.newbyteorder('='))."
            )
        if (self.low, self.high) == (-math.inf, math.inf) or isinstance(mantissa, jax.core.Tracer):
            return
        if not in_unit:
            with jax.ensure_compile_time_eval():
                mantissa = value.to(self.unit).mantissa
        numbers = np.asarray(mantissa)
        if not np.all(self.holds(numbers)):
            raise ValueError(f"{call}: {name} must be {self.words}; got {self.worst(numbers)}.{fix}")

    def remedy(self) -> str:
        """Return the part of an error message that explains how to bring a trainable parameter into range."""
        if not self.transform:
            return " Assign a value in range."
        return (
            " Assign a value in range. To keep it in range during training, build the layer with "
            f"brainstate.nn.Param(..., t=brainstate.nn.{self.transform})."
        )


def dense(module: Any) -> tuple[int, ...]:
    """Return the shape ``(inputs, outputs)`` that a dense weight of the module must have."""
    return (module.in_size[-1], module.out_size[-1])


def _decay_warning(ratio: float) -> str | None:
    # For the shortest leak profile of the chips, 1 ms, the decay factor of a step of 1 ms is 0.37. With a wrong unit,
    # it is almost zero.
    left = math.exp(-ratio)
    return f"decay factor exp(-dt/tau) = {left:.2g}" if left < 0.01 else None


# The transforms have positive lower bounds, because the gradients of `exp(-dt / tau)` and `V / V_th` are not useful
# if tau or V_th is close to zero.
TIME_CONSTANT = Range(0.0, unit=u.ms, transform="SoftplusT(1 * u.ms)", per_step=_decay_warning)
DURATION = Range(0.0, unit=u.ms, transform="SoftplusT(1 * u.ms)")
THRESHOLD = Range(0.0, unit=u.mV, transform="SoftplusT(0.1 * u.mV)")
DECAY = Range(0.0, 1.0, includes_low=True, transform="SigmoidT(0.0, 1.0)")
BIT_SHIFT = Range(0.0, transform="SoftplusT(0.1)")
ORDER = Range(0.0, 1.0, transform="SigmoidT(0.0, 1.0)")
FACTOR = Range(0.0, transform="SoftplusT(0.0)")
VOLTAGE = Range(unit=u.mV)
DENSE_VOLTAGE = Range(unit=u.mV, shape=dense)
DENSE_NUMBER = Range(shape=dense)


# Cache of transformed values, because a transform takes about 100 microseconds outside `jit`. The cache is safe because
# JAX arrays are immutable.
_transformed: weakref.WeakKeyDictionary[brainstate.nn.Param, tuple[Any, Any, Any]] = weakref.WeakKeyDictionary()


def ranged(nodes: Mapping[Any, Any]) -> Iterator[tuple[str, Any, Range, Any]]:
    """For every parameter with a range, yield its path, the object that stores it, its range and its module."""
    for path, node in nodes.items():
        ranges = getattr(node, "parameter_ranges", None)
        if not ranges:
            continue
        owner = ".".join(map(str, path)) or type(node).__name__
        for name, within in ranges.items():
            held = getattr(node, name, None)
            if held is not None:
                yield f"{owner}.{name}", held, within, node


def held_value(held: Any) -> Any:
    """Return the value of the parameter ``held`` without letting ``grad`` record that it was read.

    If code inside ``grad`` reads ``.value``, brainstate treats the loss as a function of the parameter. If the value is
    traced and has a transform, return ``None``.
    """
    if isinstance(held, brainstate.State):
        return held._value
    if not isinstance(held, brainstate.nn.Param):
        return held
    value = held.val._value if isinstance(held.val, brainstate.State) else held.val
    if type(held.t) is brainstate.nn.IdentityT and held.precompute is None:
        return value
    # Do not call `precompute` inside a trace, because it may read states and the trace would record this.
    if not _arguments.is_concrete(value) or (held.precompute is not None and TRACE_CONTEXT.state_stack):
        return None
    raw = u.get_mantissa(value)
    cached = _transformed.get(held)
    if cached is not None and cached[0]() is raw and cached[1] is held.t and held.precompute is None:
        return cached[2]
    with jax.ensure_compile_time_eval():
        value = held.t.forward(value)
        value = value if held.precompute is None else held.precompute(value)
    if isinstance(raw, jax.Array):
        _transformed[held] = weakref.ref(raw), held.t, value
    return value


def check_ranges(net: brainstate.nn.Module, *, call: str, nodes: Mapping[Any, Any] | None = None) -> None:
    """Raise if a parameter of ``net`` is out of the range that its module declares (see ``Ranged``).

    An assignment can move a parameter out of range, and so can training if the parameter has no transform. Traced
    values are not checked here. ``rollout(check_finite=True)`` checks them at run time.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.
    call : str
        Name of the calling function, for error messages.
    nodes : mapping, optional
        The result of ``net.nodes()``, to avoid computing it again.

    Raises
    ------
    TypeError
        If a parameter has the wrong dimension or a complex dtype.
    ValueError
        If an element of a parameter is out of range, or if a weight does not have the shape that its module requires.
    """
    for path, held, within, module in ranged(net.nodes() if nodes is None else nodes):
        if isinstance(held, brainstate.nn.Param) and _transform_keeps_range(held, within):
            continue
        value = held_value(held)
        if value is None:
            continue
        name = f"the parameter {path}"
        if within.shape is not None:
            shape, wanted = np.shape(getattr(value, "mantissa", value)), within.shape(module)
            if shape != wanted:
                raise ValueError(
                    f"{call}: {name} must have shape {wanted}; got shape {shape}. Assign a value of that shape."
                )
        # A measured value of a chip is a state that is not trainable, so its message does not mention training.
        trainable = isinstance(held, (brainstate.ParamState, brainstate.nn.Param))
        fix = within.remedy() if trainable or not isinstance(held, brainstate.State) else " Assign a value in range."
        within.check(value, call=call, name=name, fix=fix)


def _transform_keeps_range(parameter: brainstate.nn.Param, within: Range) -> bool:
    """Return whether the transform of a parameter guarantees values in range; the value itself is not computed."""
    if type(parameter.t) not in (brainstate.nn.SoftplusT, brainstate.nn.ExpT) or parameter.precompute is not None:
        return False
    lower = parameter.t.lower
    in_unit = u.get_unit(lower) == within.unit and math.isinf(within.high)
    return in_unit and np.ndim(u.get_mantissa(lower)) == 0 and float(u.get_mantissa(lower)) > within.low


def traced_faults(net: brainstate.nn.Module, *, call: str) -> Iterator[tuple[jax.Array, str]]:
    """For every traced parameter with finite bounds, yield a traced bool and an error message.

    The bool is True if the parameter is out of range.
    """
    for path, held, within, _ in ranged(net.nodes()):
        value = held.value() if isinstance(held, brainstate.nn.Param) else getattr(held, "value", held)
        if isinstance(value, u.Quantity) and u.have_same_dim(value, within.unit):
            value = value.to(within.unit).mantissa
        bounded = math.isfinite(within.low) or math.isfinite(within.high)
        if bounded and isinstance(value, jax.core.Tracer):
            message = f"{call}: the parameter {path} is out of range; it must be {within.words}.{within.remedy()}"
            yield ~jnp.all(within.holds(value)), message
