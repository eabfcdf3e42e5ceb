"""Dtypes and conversions for networks in half precision.

Weights and spikes may have half precision, but membrane potentials, decay factors and spike counts are float32. The
spacing of bfloat16 values just below 1 is 0.4 %. So a decay factor of exp(-1/500) would be rounded to the factor of a
time constant of 255 steps instead of 500. A counter in bfloat16 would stop at 256.
"""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

__all__ = ["as_dtype", "for_sums", "is_half", "narrowed", "state_dtype", "wide", "widened"]


def wide(dtype: Any) -> Any:
    """Return ``dtype``, or float32 if it has half precision or is an integer type."""
    return jnp.promote_types(dtype, jnp.float32)


def state_dtype() -> Any:
    """Return the dtype of membrane potentials and decay factors for the current ``brainstate.environ``."""
    return wide(brainstate.environ.dftype())


def is_half(dtype: Any) -> bool:
    """Return whether a dtype has half precision or less."""
    return bool(jnp.issubdtype(dtype, jnp.floating)) and jnp.dtype(dtype).itemsize < 4


# These functions return their argument unchanged if possible, so that float32 programs contain no casts.


def as_dtype(value: Any, dtype: Any) -> Any:
    """Return an array or Quantity with the requested dtype."""
    return value if value.dtype == dtype else value.astype(dtype)


def widened(value: Any) -> Any:
    """Return ``value``, a number, array or Quantity. Half precision is converted to float32."""
    dtype = getattr(u.get_mantissa(value), "dtype", None)
    return value if dtype is None or not is_half(dtype) else value.astype(jnp.float32)


def narrowed(value: Any, dtype: Any) -> Any:
    """Return ``value``, an array or Quantity. It is converted to ``dtype`` if its own dtype has more precision."""
    return value if jnp.promote_types(value.dtype, dtype) == dtype else value.astype(dtype)


def for_sums(spikes: Any) -> jax.Array:
    """Return spikes as an array. Half precision is converted to float32, so that sums are exact counts."""
    return widened(jnp.asarray(spikes))
