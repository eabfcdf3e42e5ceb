"""Three parametrisations of a decay: time constants, decay factors, bit shifts."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

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
    """One parametrisation: argument names of membrane and synapse, default and range."""

    names: tuple[str, str]
    default: Any
    within: Range


# Names and defaults are those of Rockpool, so that its scripts carry over. Digital chips shift bits instead of
# multiplying.
LEAKS = {
    "taus": Leak(("tau_mem", "tau_syn"), 20.0 * u.ms, TIME_CONSTANT),
    "decays": Leak(("alpha", "beta"), 0.5, DECAY),
    "bitshifts": Leak(("dash_mem", "dash_syn"), 1.0, BIT_SHIFT),
}


def mode_arguments(leak: str, given: dict[str, Any], *, call: str) -> dict[str, Any]:
    """Return the two arguments of a mode by name, membrane first, with defaults; raise for those of another mode."""
    leak = _arguments.choice(leak, LEAKS, call=call, name="leak")
    wanted, default, _ = LEAKS[leak]
    for other, mode in LEAKS.items():
        for name in mode.names:
            if given[name] is not None and name not in wanted:
                raise ValueError(
                    f"{call}: {name} belongs to leak={other!r}, but leak is {leak!r}, which uses "
                    f"{wanted[0]} and {wanted[1]}; leave {name} out or pass leak={other!r}."
                )
    return {name: default if given[name] is None else given[name] for name in wanted}


def leak_parameter(leak: str, value: Any, shapes: list[tuple[int, ...]], *, call: str, name: str) -> Any:
    """Check a decay parameter: a time constant above zero, a factor in [0, 1], or a bit shift above zero."""
    _arguments.check_transform(value, call=call, name=name)
    given = current_value(value)
    if leak != "taus" and not _arguments.is_concrete(given):
        # `as_lif_with_ahp_synapses` may run inside `jit`, where a learnt factor is traced and cannot be checked.
        given = _arguments.number(given, call=call, name=name, shapes=shapes, traced=True)
        return value if isinstance(value, brainstate.nn.Param) else given
    parameter = neuron_parameter(value, LEAKS[leak].within, (), call=call, name=name, shapes=shapes)
    held = getattr(current_value(parameter), "dtype", None)
    if leak == "decays" and held is not None and is_half(held):
        warnings.warn(
            f"{call}: {name} is learnt in {held}, whose numbers are {float(jnp.finfo(held).eps) / 2:.2g} apart below "
            "1, so long time constants are rounded. Learn a time constant (leak='taus'), or build the layer inside "
            "brainstate.environ.context(precision=32).",
            UserWarning,
            stacklevel=2,
        )
    return parameter


def decay_factor(leak: str, parameter: Any, dt: u.Quantity) -> jax.Array:
    """Return the decay factor of one step: ``exp(-dt/tau)``, the factor itself, or ``1 - 2**-shift``."""
    value = widened(current_value(parameter))
    if leak == "taus":
        return u.math.exp(-dt / value)
    return value if leak == "decays" else 1 - 2.0**-value
