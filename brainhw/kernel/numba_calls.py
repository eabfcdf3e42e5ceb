"""Calls of loops that numba compiles, from programs of JAX."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["call_loop"]


def call_loop(loop: Any, results: list[jax.ShapeDtypeStruct], *given: jax.Array) -> list[jax.Array]:
    """Return what a compiled loop writes into arrays of these shapes; it takes ``given`` and then these arrays."""
    from brainevent import numba_kernel

    _compile_now(loop, tuple((one.ndim, np.dtype(one.dtype)) for one in (*given, *results)))
    return list(numba_kernel(loop, results)(*(jnp.asarray(one) for one in given)))


@functools.cache
def _compile_now(loop: Any, kinds: tuple[tuple[int, np.dtype], ...]) -> None:
    # Otherwise numba would compile in the first call, in a thread of XLA that holds up all others.
    loop(*(np.zeros((1,) * ndim, dtype) for ndim, dtype in kinds))
