"""Three parametrisations of a leak: time constants, decay factors and bit shifts."""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from brainhw import _arguments
from brainhw.kernel.precision import is_half, widened
from brainhw.nn.parameter import current_value, neuron_parameter
from brainhw.nn.ranges import BIT_SHIFT, DECAY, TIME_CONSTANT, Range

__all__ = ["LEAKS", "Leak", "decay_factor", "leak_parameter", "mode_arguments"]


class Leak(NamedTuple):
    """One parametrisation of a leak: the argument names for membrane and synapse, and the default and range of both."""

    names: tuple[str, str]
    default: Any
    within: Range


# Names and defaults are the same as in Rockpool, so that scripts for Rockpool can be reused. Bit shifts model digital
# chips, which shift bits instead of multiplying.
LeakForm = Literal["taus", "decays", "bitshifts"]
LEAKS: dict[str, Leak] = {
    "taus": Leak(("tau_mem", "tau_syn"), 20.0 * u.ms, TIME_CONSTANT),
    "decays": Leak(("alpha", "beta"), 0.5, DECAY),
    "bitshifts": Leak(("dash_mem", "dash_syn"), 1.0, BIT_SHIFT),
}


def mode_arguments(leak: str, given: dict[str, Any], *, call: str) -> dict[str, Any]:
    """Return a dict of the two arguments of the parametrisation ``leak``.

    The argument of the membrane comes first. An argument that is ``None`` is set to its default. Raise ValueError if an
    argument of a different parametrisation is passed.
    """
    leak = _arguments.choice(leak, LEAKS, call=call, name="leak")
    wanted, default, _ = LEAKS[leak]
    for other, mode in LEAKS.items():
        for name in mode.names:
            if given[name] is not None and name not in wanted:
                raise ValueError(
                    f"{call}: {name} belongs to leak={other!r}, but leak is {leak!r}, which takes "
                    f"{wanted[0]} and {wanted[1]}. Omit {name}, or pass leak={other!r}."
                )
    return {name: default if given[name] is None else given[name] for name in wanted}


def leak_parameter(leak: str, value: Any, shapes: list[tuple[int, ...]], *, call: str, name: str) -> Any:
    """Check a time constant (positive), a decay factor (0 to 1) or a bit shift (positive), and return it."""
    _arguments.check_transform(value, call=call, name=name)
    given = current_value(value)
    if leak != "taus" and not _arguments.is_concrete(given):
        # `as_lif_with_ahp_synapses` may run inside `jit`, where trainable values are traced and their range cannot be
        # checked.
        given = _arguments.number(given, call=call, name=name, shapes=shapes, traced=True)
        return value if isinstance(value, brainstate.nn.Param) else given
    parameter = neuron_parameter(value, LEAKS[leak].within, (), call=call, name=name, shapes=shapes)
    held = getattr(current_value(parameter), "dtype", None)
    if leak == "decays" and held is not None and is_half(held):
        warnings.warn(
            f"{call}: {name} is trainable and has dtype {held}, which rounds values just below 1 to multiples of "
            f"{float(jnp.finfo(held).eps) / 2:.2g}, so long time constants are inexact. Train a time constant instead "
            "of a decay factor (leak='taus'), or build the layer inside brainstate.environ.context(precision=32).",
            UserWarning,
            stacklevel=2,
        )
    return parameter


def decay_factor(leak: str, parameter: Any, dt: u.Quantity) -> jax.Array:
    """Return the decay factor per step for the parametrisation ``leak``.

    It is ``exp(-dt/tau)`` for a time constant, the parameter itself for a decay factor, and ``1 - 2**-shift`` for a bit
    shift.
    """
    value = widened(current_value(parameter))
    if leak == "taus":
        return u.math.exp(-dt / value)
    return value if leak == "decays" else 1 - 2.0**-value
