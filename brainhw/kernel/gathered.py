"""The gradient of a parameter, from that of each neuron and sample."""

from __future__ import annotations

import jax

__all__ = ["gathered"]


def gathered(value: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Sum ``[..., N]`` down to a scalar or ``[N]``."""
    return value.reshape((-1, *shape)).sum(axis=0) if shape else value.sum()
