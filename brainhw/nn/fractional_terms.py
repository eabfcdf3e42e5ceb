"""The orders and coefficients of a fractional operator: checked, learnt or fixed, read back term by term."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.nn.parameter import current_value

__all__ = ["coefficient_parameter", "is_constrained", "order_parameter", "orders_of"]

_LEARN = (False, True, "raw")


def is_constrained(flag: Any, *, call: str, name: str) -> bool | None:
    """Return whether a learnt parameter keeps to its range, ``None`` if it is not learnt."""
    if not any(flag is option or (isinstance(flag, str) and flag == option) for option in _LEARN):
        raise ValueError(f"{call}: {name} must be False, True or 'raw'; got {_arguments.describe(flag)}.")
    return None if flag is False else flag is True


def order_parameter(alpha: Any, learn: Any, n: int, *, call: str) -> tuple[Any, bool]:
    """Return the orders, fixed or learnt, and whether there is one for each neuron.

    A number is one term; a list holds one entry for each term, a number or an array ``[n]``; an array ``[n]`` is one
    order for each neuron, and ``[J, n]`` both. A ``Param`` keeps the shape it came in; anything else becomes ``[J]`` or
    ``[J, n]``.
    """
    constrained = is_constrained(learn, call=call, name="learn_alpha")
    learnt = isinstance(alpha, brainstate.nn.Param)
    terms = _as_terms(alpha.value() if learnt else alpha, n, call)
    per_neuron = terms.ndim == 2
    if not np.all(np.isfinite(terms)) or np.any(terms <= 0) or np.any(terms > 1):
        raise ValueError(
            f"{call}: alpha must be above 0 and at most 1 (1 is the integer-order neuron); got "
            f"{_arguments.describe(terms.tolist() if terms.size <= 8 else terms)}."
        )
    if learnt:
        if constrained is not None:
            raise ValueError(f"{call}: alpha is a Param, which is learnt as it is; leave learn_alpha out.")
        return alpha, per_neuron
    value = jnp.asarray(terms, dtype=brainstate.environ.dftype())
    if constrained is None:
        return value, per_neuron
    if not constrained:
        return brainstate.nn.Param(value), per_neuron
    if np.any(terms >= 1):
        raise ValueError(
            f"{call}: learn_alpha=True keeps alpha between 0 and 1, so it must start below 1; got "
            f"{_arguments.describe(alpha)}. Start at 0.99, or pass learn_alpha='raw'."
        )
    return brainstate.nn.Param(value, t=brainstate.nn.SigmoidT(0.0, 1.0)), per_neuron


def _as_terms(alpha: Any, n: int, call: str) -> np.ndarray:
    if isinstance(alpha, (list, tuple)):
        if not alpha:
            raise ValueError(f"{call}: alpha is empty; give the order of at least one term.")
        if any(isinstance(term, (list, tuple)) for term in alpha):
            raise ValueError(
                f"{call}: alpha holds a list within a list; a layer takes one list, one entry for each term. "
                "brainhw.set_fractional_orders takes one list for each layer."
            )
        terms = [
            np.asarray(_arguments.number(term, call=call, name="each term of alpha", shapes=[(), (n,)]))
            for term in alpha
        ]
        return np.stack(np.broadcast_arrays(*terms))
    values = np.asarray(_arguments.number(alpha, call=call, name="alpha", shapes=None))
    if values.ndim == 0:
        return values[None]
    if values.shape[-1] != n or values.ndim > 2 or not values.size:
        raise ValueError(
            f"{call}: alpha must be a number, a list with one entry for each term, an array of shape ({n},) with one "
            f"order for each neuron, or (terms, {n}); got {_arguments.describe(alpha)}."
        )
    return np.atleast_2d(values)


def orders_of(parameter: Any, n: int, *, per_neuron: bool) -> jax.Array:
    """Return the present orders, ``[J]`` or ``[J, n]``."""
    value = current_value(parameter)
    return value.reshape((-1, n)) if per_neuron else jnp.atleast_1d(value)


def coefficient_parameter(coefficients: Any, learn: Any, n_terms: int, *, call: str) -> Any:
    """Return the coefficients ``[J]``, fixed or learnt; default ones."""
    constrained = is_constrained(learn, call=call, name="learn_coefficients")
    learnt = isinstance(coefficients, brainstate.nn.Param)
    given = coefficients.value() if learnt else coefficients
    if given is None:
        given = np.ones(n_terms)
    if isinstance(given, u.Quantity):
        raise TypeError(f"{call}: coefficients have no unit; got {_arguments.describe(given)}.")
    values = np.atleast_1d(_arguments.number(given, call=call, name="coefficients", shapes=None))
    if values.shape != (n_terms,):
        raise ValueError(
            f"{call}: coefficients must hold one number for each of the {n_terms} term(s) of alpha; got "
            f"{_arguments.describe(given)}."
        )
    if learnt:
        if constrained is not None:
            raise ValueError(f"{call}: coefficients is a Param, which is learnt as it is; leave the flag out.")
        return coefficients
    if constrained is not False and np.any(values <= 0):
        raise ValueError(
            f"{call}: coefficients must be above zero; got {given}. Pass learn_coefficients='raw' to allow others."
        )
    if np.any(values == 0):
        raise ValueError(f"{call}: coefficients must not be zero; got {given}. Leave a term out instead.")
    value = jnp.asarray(values, dtype=brainstate.environ.dftype())
    if constrained is None:
        return value
    return brainstate.nn.Param(value, t=brainstate.nn.SoftplusT(0.0)) if constrained else brainstate.nn.Param(value)
