"""Calls of numba-compiled loops inside JAX programs."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["call_loop"]


def call_loop(loop: Any, results: list[jax.ShapeDtypeStruct], *given: jax.Array) -> list[jax.Array]:
    """Call a compiled loop with the arrays in ``given``, and return outputs with the shapes in ``results``."""
    from brainevent import numba_kernel

    _compile_now(loop, tuple((one.ndim, np.dtype(one.dtype)) for one in (*given, *results)))
    return list(numba_kernel(loop, results)(*(jnp.asarray(one) for one in given)))


@functools.cache
def _compile_now(loop: Any, kinds: tuple[tuple[int, np.dtype], ...]) -> None:
    # Compile before the first call. Otherwise numba would compile in a thread of XLA and block all other threads.
    loop(*(np.zeros((1,) * ndim, dtype) for ndim, dtype in kinds))
