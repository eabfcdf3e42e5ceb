"""Number types for half precision: weights and spikes may be half, but membranes, decay factors and counts are float32.

Near 1 the numbers of bfloat16 are 0.4 % apart: a decay factor of exp(-1/500) becomes that of 184 steps, and counts stop
at 256.
"""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

__all__ = ["as_dtype", "for_sums", "is_half", "narrowed", "state_dtype", "wide", "widened"]


def wide(dtype: Any) -> Any:
    """Return ``dtype``, or float32 for half precision and whole numbers."""
    return jnp.promote_types(dtype, jnp.float32)


def state_dtype() -> Any:
    """Return the dtype of membranes and decay factors in the current ``brainstate.environ``."""
    return wide(brainstate.environ.dftype())


def is_half(dtype: Any) -> bool:
    """Return whether a dtype has half precision or less."""
    return bool(jnp.issubdtype(dtype, jnp.floating)) and jnp.dtype(dtype).itemsize < 4


# These functions return their argument unchanged if possible, so that float32 programs contain no casts.


def as_dtype(value: Any, dtype: Any) -> Any:
    """Return an array or Quantity with the given dtype."""
    return value if value.dtype == dtype else value.astype(dtype)


def widened(value: Any) -> Any:
    """Return a number, array or Quantity; half precision is converted to float32."""
    dtype = getattr(u.get_mantissa(value), "dtype", None)
    return value if dtype is None or not is_half(dtype) else value.astype(jnp.float32)


def narrowed(value: Any, dtype: Any) -> Any:
    """Return an array or Quantity, converted to ``dtype`` if its own dtype is wider."""
    return value if jnp.promote_types(value.dtype, dtype) == dtype else value.astype(dtype)


def for_sums(spikes: Any) -> jax.Array:
    """Return spikes as an array whose sums are exact counts: half precision becomes float32."""
    return widened(jnp.asarray(spikes))
