"""Create fixed or trainable parameters and weights of neurons, and check them at construction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.kernel.precision import state_dtype
from brainhw.nn.ranges import Range

__all__ = ["current_value", "drawn_weights", "neuron_parameter", "weight_state"]


def neuron_parameter(
    value: Any,
    within: Range,
    size: int | tuple[int, ...],
    *,
    call: str,
    name: str,
    shapes: Sequence[tuple[int, ...]] | None = None,
) -> Any:
    """Check a parameter that is a scalar or has one value per neuron, and convert it for use in the update.

    A ``brainstate.nn.Param`` is trainable and is returned unchanged, with its transform. Any other value is converted
    to a Quantity in the unit of ``within``, or to a plain array if that unit is ``u.UNITLESS``. ``shapes`` lists the
    allowed shapes, by default a scalar and ``[*size]``.
    """
    # Reject plain states. They have no transform, so an optimizer could make a time constant negative.
    if isinstance(value, brainstate.State):
        raise TypeError(
            f"{call}: {name} must be a Quantity or a brainstate.nn.Param; got a {type(value).__name__}. "
            "For a trainable parameter, pass brainstate.nn.Param(value, t=brainstate.nn.SoftplusT(...))."
        )
    trainable = isinstance(value, brainstate.nn.Param)
    given = value.value() if trainable else value
    shapes = [(), (size,) if isinstance(size, int) else size] if shapes is None else shapes
    unit, positive = within.unit, within.words == "greater than zero"
    if unit == u.UNITLESS:
        mantissa = _arguments.number(given, call=call, name=name, shapes=shapes, positive=positive)
    else:
        mantissa = _arguments.quantity(given, unit, call=call, name=name, shapes=shapes, positive=positive).mantissa
    within.check(mantissa if unit == u.UNITLESS else u.Quantity(mantissa, unit=unit), call=call, name=name)
    if trainable:
        return value
    # Keep a scalar as a Python number. JAX treats it as weakly typed, so it does not change the dtype of the states.
    if np.ndim(mantissa):
        # Half precision would round a decay factor of 0.998 to 1 or to 0.996.
        mantissa = jnp.asarray(mantissa, dtype=state_dtype())
    return mantissa if unit == u.UNITLESS else u.Quantity(mantissa, unit=unit)


def current_value(parameter: Any) -> Any:
    """Return the current value of a parameter, after its transform if it is trainable."""
    return parameter.value() if isinstance(parameter, brainstate.nn.Param) else parameter


def drawn_weights(init: Callable[..., Any], shape: tuple[int, ...], call: str, name: str) -> Any:
    """Call an initializer with a shape and return its result. If it fails, raise an error that names the call."""
    try:
        return init(shape)
    # An initializer of the user may raise any error.
    except Exception as error:
        raise TypeError(
            f"{call}: {name} must be an array or an initializer (a callable that takes a shape and returns an array); "
            f"a call of {_arguments.describe(init)} with shape {shape} raised {type(error).__name__}: {error}."
        ) from error


def weight_state(
    init: Any, shape: tuple[int, ...], *, unit: u.Unit = u.UNITLESS, call: str, name: str
) -> brainstate.ParamState:
    """Create the state of trainable weights with ``shape`` and ``unit`` from an initializer or an array."""
    # Check this first, because a Param is callable but is not an initializer.
    if isinstance(init, (brainstate.State, brainstate.nn.Param)):
        raise TypeError(
            f"{call}: {name} must be an initializer or an array; got a {type(init).__name__}. To keep the weights "
            "fixed, pass an array, and do not pass the state of the weights to grad."
        )
    # Allow broadcasting here, because initializers of other packages rely on it. A user who disables it wants to check
    # their own code.
    with jax.numpy_rank_promotion("allow"):
        value = drawn_weights(init, shape, call, name) if callable(init) else init
    if unit == u.UNITLESS:
        value = _arguments.as_array(value, call=call, name=name)
    else:
        value = _arguments.quantity(value, unit, call=call, name=name)
    # Check for NaN here, because in a run the only symptom of a NaN weight is a neuron that never fires.
    _arguments.check_finite(value, call=call, name=name, fix="pass finite weights")
    if np.shape(u.get_mantissa(value)) != shape:
        raise ValueError(f"{call}: {name} must have shape {shape}; got shape {np.shape(u.get_mantissa(value))}.")
    mantissa = jnp.asarray(u.get_mantissa(value), dtype=brainstate.environ.dftype())
    return brainstate.ParamState(mantissa if unit == u.UNITLESS else u.Quantity(mantissa, unit=unit))
