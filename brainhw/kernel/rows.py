"""The product of a whole sequence with one weight matrix."""

from __future__ import annotations

import jax

__all__ = ["tall_product"]


def tall_product(xs: jax.Array, weights: jax.Array) -> jax.Array:
    """Return ``xs [..., N_in] @ weights [N_in, N_out]``, as of a tall matrix: its gradient is one plain product too."""
    return (xs.reshape(-1, xs.shape[-1]) @ weights).reshape(*xs.shape[:-1], -1)
