"""Check the orders and coefficients of a fractional operator and store them as fixed or trainable parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.kernel.fractional_weights import METHODS
from brainhw.kernel.precision import state_dtype
from brainhw.nn.parameter import current_value
from brainhw.nn.ranges import ORDER

__all__ = ["Names", "Terms", "make_terms"]


class Names(NamedTuple):
    """Names of the arguments in error messages; functions for a whole network use different names than a layer."""

    alpha: str = "alpha"
    coefficients: str = "coefficients"
    learn_alpha: str = "learn_alpha"
    learn_coefficients: str = "learn_coefficients"


_OWN_NAMES = Names()


class Terms(NamedTuple):
    """Orders and coefficients of a fractional operator, as fixed arrays or trainable parameters.

    ``alpha`` has the shape ``[J]``, or ``[J, *size]`` if ``per_neuron`` is True, and ``coefficients`` has the shape
    ``[J]``. A ``Param`` from the user keeps its shape.
    """

    alpha: Any
    coefficients: Any
    per_neuron: bool


def make_terms(
    alpha: Any,
    coefficients: Any,
    learn_alpha: Any,
    learn_coefficients: Any,
    *,
    size: tuple[int, ...],
    method: str,
    call: str,
    names: Names = _OWN_NAMES,
) -> Terms:
    """Check the orders and coefficients of a layer of shape ``size`` and return them as arrays or parameters.

    If ``alpha`` is a number, it defines one term. An array ``[*size]`` defines one term, with one order per neuron. An
    array ``[J, *size]`` defines ``J`` such terms. A list defines one term per entry. Each entry is a number or an array
    ``[*size]``.
    """
    learn_alpha = _learn_flag(learn_alpha, call, names.learn_alpha)
    given = current_value(alpha)
    orders = _orders(given, size, call, names.alpha)
    for place, of_term in enumerate(orders):
        wrong = of_term[~ORDER.holds(of_term)]
        if wrong.size:
            name = f"{names.alpha}[{place}]" if isinstance(given, (list, tuple)) else names.alpha
            raise ValueError(
                f"{call}: {name} must be {ORDER.words}; got {wrong.flat[0]:g}. Order 1 is the ordinary derivative."
            )
    # A sigmoid keeps a trainable order in range, and it reaches 1 only at infinity.
    if learn_alpha is True and np.any(orders >= 1):
        raise ValueError(
            f"{call}: {names.learn_alpha}=True keeps {names.alpha} between 0 and 1, so its initial value must be below "
            f"1; got {orders.max():g}. Use an initial value such as 0.99, or pass {names.learn_alpha}='raw'."
        )
    if len(orders) > 1 and not METHODS[method].many_terms:
        raise ValueError(
            f"{call}: method {method!r} supports only one term, but {names.alpha} has {len(orders)} terms. "
            "Pass method='gl'."
        )
    held = _array_or_parameter(
        alpha, orders, learn_alpha, brainstate.nn.SigmoidT(0.0, 1.0), call, names.alpha, names.learn_alpha
    )

    learn = _learn_flag(learn_coefficients, call, names.learn_coefficients)
    factors = _factors(current_value(coefficients), len(orders), call, names.coefficients)
    # If the user passes a `Param`, its transform determines the range.
    if not isinstance(coefficients, brainstate.nn.Param):
        within, word = (factors != 0, "nonzero") if learn == "raw" else (factors > 0, "greater than 0")
        if not np.all(within):
            fix = "Omit the term" if learn == "raw" else f"To allow other values, pass {names.learn_coefficients}='raw'"
            wrong = factors[~within][0]
            raise ValueError(f"{call}: {names.coefficients} must be {word}; got {wrong:g}. {fix}.")
    transform = brainstate.nn.SoftplusT(0.0)
    of_terms = _array_or_parameter(
        coefficients, factors, learn, transform, call, names.coefficients, names.learn_coefficients
    )
    return Terms(held, of_terms, per_neuron=orders.ndim > 1)


def _learn_flag(flag: Any, call: str, name: str) -> bool | str:
    if isinstance(flag, (bool, np.bool_)):
        return bool(flag)
    if isinstance(flag, str) and flag == "raw":
        return flag
    raise ValueError(f"{call}: {name} must be False, True or 'raw'; got {_arguments.describe(flag)}.")


def _array_or_parameter(
    given: Any, value: np.ndarray, learn: Any, transform: Any, call: str, name: str, flag: str
) -> Any:
    """Return ``given`` if it is a ``Param``. Otherwise return ``value`` as a ``Param`` if trainable, or as an array."""
    if isinstance(given, brainstate.nn.Param):
        if learn is not False:
            raise ValueError(f"{call}: {name} is a Param, so it is already trainable. Omit {flag}.")
        return given
    if learn is False:
        return jnp.asarray(value, dtype=state_dtype())
    array = jnp.asarray(value, dtype=brainstate.environ.dftype())
    # With 'raw' there is no transform, because spikeDE sets no bounds.
    return brainstate.nn.Param(array, t=transform) if learn is True else brainstate.nn.Param(array)


def _orders(alpha: Any, size: tuple[int, ...], call: str, name: str) -> np.ndarray:
    """Check the orders ``alpha`` and return them as an array, ``[J]`` or ``[J, *size]``."""
    if isinstance(alpha, (list, tuple)):
        if not alpha:
            raise ValueError(f"{call}: {name} is empty. Pass the order of at least one term.")
        if any(isinstance(term, (list, tuple)) for term in alpha):
            raise ValueError(
                f"{call}: {name} is a nested list, but a layer takes one list with one entry per term. "
                "To pass one list per layer, call brainhw.set_fractional_orders."
            )
        terms = [
            _arguments.number(term, call=call, name=f"{name}[{j}]", shapes=[(), size]) for j, term in enumerate(alpha)
        ]
        return np.stack(np.broadcast_arrays(*terms))
    values = np.asarray(_arguments.number(alpha, call=call, name=name, shapes=None))
    if values.ndim == 0:
        return values[None]
    axes = values.ndim - len(size)
    if axes not in (0, 1) or values.shape[axes:] != size or not values.size:
        shape = ", ".join(str(n) for n in size)
        raise ValueError(
            f"{call}: {name} must be a number, a list with one entry per term, or an array with one order per neuron, "
            f"of shape {size} or (terms, {shape}); got {_arguments.describe(alpha)}."
        )
    return values if axes else values[None]


def _factors(coefficients: Any, n_terms: int, call: str, name: str) -> np.ndarray:
    """Check the coefficients and return them as an array ``[J]``. If they are ``None``, every coefficient is 1."""
    if coefficients is None:
        return np.ones(n_terms)
    if isinstance(coefficients, (list, tuple)):
        for j, factor in enumerate(coefficients):
            if isinstance(factor, (list, tuple)) or np.ndim(factor):
                raise TypeError(f"{call}: {name}[{j}] must be a number; got {_arguments.describe(factor)}.")
            _arguments.number(factor, call=call, name=f"{name}[{j}]")
    values = np.atleast_1d(_arguments.number(coefficients, call=call, name=name, shapes=None))
    if values.shape != (n_terms,):
        raise ValueError(
            f"{call}: {name} must have one coefficient for each of the {n_terms} term(s) of alpha; got {values.size}. "
            "Pass one coefficient per term, or omit the argument to set all coefficients to 1."
        )
    return values
