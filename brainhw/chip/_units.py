"""Conversion of values to exact float64 arrays, and lookup of units by name.

A chip description is compared, hashed and written to a file. Each value is therefore stored as float64 in a fixed unit.
For example, 0.1 V, 100 mV, and 100 mV in float32 must result in the same stored value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainhw._arguments import describe, is_concrete, number, quantity, unit_name
from brainhw._closest import closest

__all__ = ["exact", "unit_named"]


def exact(
    value: Any,
    unit: u.Unit | None,
    *,
    call: str,
    name: str,
    shapes: Sequence[tuple[int, ...]] | None = ((),),
    positive: bool = False,
    nonnegative: bool = False,
) -> np.ndarray:
    """Return ``value`` as a float64 array in ``unit``, or as dimensionless numbers if ``unit`` is ``None``.

    ``shapes`` lists the allowed shapes; with ``None``, any shape is allowed. Error messages start with ``call`` and
    refer to the value as ``name``.
    """
    if not is_concrete(value):
        raise TypeError(
            f"{call}: {name} must be concrete; got a traced value. Make this call outside jit, grad and vmap."
        )
    if isinstance(value, u.Quantity):
        given = u.Quantity(_float64(u.get_mantissa(value), call=call, name=name), unit=u.get_unit(value))
    else:
        given = value if unit is not None else _float64(value, call=call, name=name)
        given = given.item() if isinstance(given, np.ndarray) and given.ndim == 0 else given
    if unit is None:
        checked = number(given, call=call, name=name, shapes=shapes, positive=positive, nonnegative=nonnegative)
        return np.asarray(checked, dtype=np.float64)
    result = quantity(given, unit, call=call, name=name, shapes=shapes, positive=positive, nonnegative=nonnegative)
    numbers = np.asarray(result.mantissa, dtype=np.float64)
    if u.get_unit(given) == unit:
        return numbers
    # A change of unit multiplies by a power of ten, which causes a rounding error. Rounding to 15 digits removes this
    # error.
    return _each(numbers, lambda x: float(f"{x:.15g}"))


def _float64(value: Any, *, call: str, name: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # for example a random key, or a list of lists of different lengths
        array = np.asarray(None)
    if not (jnp.issubdtype(array.dtype, np.floating) or jnp.issubdtype(array.dtype, np.integer)):
        raise TypeError(f"{call}: {name} must be real numbers; got {describe(value)}.")
    if array.dtype.itemsize < 8 and jnp.issubdtype(array.dtype, np.floating):
        # The shortest decimal number that rounds to a float32 is the one that the user typed: 0.1, not 0.10000000149.
        return _each(array, lambda x: float(str(x)))
    return array.astype(np.float64)


def _each(array: np.ndarray, change: Any) -> np.ndarray:
    return np.array([change(x) for x in array.ravel()], dtype=np.float64).reshape(array.shape)


def unit_named(text: Any, wanted: u.Unit, *, call: str, name: str) -> u.Unit:
    """Return the unit whose name or symbol is ``text``, such as ``"mV"``.

    Raise a ``ValueError`` if brainunit has no such unit, or if its dimension differs from that of ``wanted``.
    """
    example = f'for example unit = "{unit_name(wanted)}"'
    if not isinstance(text, str):
        raise ValueError(
            f"{call}: the unit of {name} must be the name of a brainunit unit, {example}; got {describe(text)}."
        )
    found = vars(u).get(text)
    if isinstance(found, u.Unit) and u.have_same_dim(found, wanted):
        return found
    fitting = {key: unit for key, unit in vars(u).items() if isinstance(unit, u.Unit) and u.have_same_dim(unit, wanted)}
    symbols = {str(unit): unit for unit in fitting.values()}
    if text in symbols:
        return symbols[text]
    if isinstance(found, u.Unit):
        raise ValueError(f"{call}: {name} has unit {text!r}, which has the wrong dimension; use {example}.")
    raise ValueError(
        f"{call}: {name} has unit {text!r}, which brainunit does not know{closest(text, fitting)}; use {example}."
    )
