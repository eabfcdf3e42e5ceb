"""Blocks of weights that must have the same sign: measure, anneal and enforce the signs."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

__all__ = ["block_signs", "fold", "from_blocks", "nearest", "to_blocks"]


# Outside jit, JAX would compile each operation of these functions for each shape.
@partial(jax.jit, static_argnames=("block", "axis"), inline=True)
def to_blocks(weights: jax.Array, block: int, axis: str) -> jax.Array:
    """Split weights ``[N_in, N_out]`` into blocks along the inputs ('pre') or outputs ('post').

    The result has the shape ``[n_blocks, block, N_out]`` for 'pre' and ``[n_blocks, block, N_in]`` for 'post'. A
    shorter last block is filled with zeros, which are compatible with both signs.
    """
    lines = weights if axis == "pre" else weights.T
    # Pad, so that all blocks form one array. JAX would unroll a Python loop over blocks.
    padded = jnp.pad(lines, ((0, -len(lines) % block), (0, 0)))
    return padded.reshape(-1, block, lines.shape[1])


@partial(jax.jit, static_argnames=("shape", "axis"), inline=True)
def from_blocks(blocks: jax.Array, shape: tuple[int, ...], axis: str) -> jax.Array:
    """Invert :func:`to_blocks`: return the weights ``[N_in, N_out]``."""
    n = shape[0] if axis == "pre" else shape[1]
    lines = blocks.reshape(-1, blocks.shape[-1])[:n]
    return lines if axis == "pre" else lines.T


@partial(jax.jit, inline=True)
def block_signs(blocks: jax.Array) -> jax.Array:
    r"""Return the mean sign of the weights in each block, from -1 to 1, weighted with the squared weights.

    .. math:: s_b = \frac{\sum_{i \in b} w_i |w_i|}{\sum_{i \in b} w_i^2}

    To give all weights of a block the same sign, set the weights with the sign opposite to :math:`s_b` to zero. This is
    the smallest possible change of the block in the Euclidean norm. A block of zeros has :math:`s_b = 0`. The result
    has the shape of ``blocks``, with length 1 along the second axis.
    """
    largest = jnp.max(jnp.abs(blocks), axis=1, keepdims=True)
    scaled = blocks / jnp.where(largest > 0, largest, 1)  # without scaling, squares could underflow or overflow
    energy = jnp.sum(scaled**2, axis=1, keepdims=True)
    return jnp.sum(scaled * jnp.abs(scaled), axis=1, keepdims=True) / jnp.where(energy > 0, energy, 1)


@partial(jax.jit, static_argnames=("block", "axis"), inline=True)
def nearest(weights: jax.Array, *, block: int, axis: str) -> jax.Array:
    """Set weights to zero, so that all nonzero weights of a block have the same sign.

    The result is the closest such array to ``weights`` in the Euclidean norm. In case of a tie, the block becomes
    positive.
    """
    blocks = to_blocks(weights, block, axis)
    hard = jnp.where(block_signs(blocks) < 0, -1.0, 1.0)
    return from_blocks(jnp.where(blocks * hard < 0, 0.0, blocks), weights.shape, axis)


@partial(jax.jit, static_argnames=("block", "axis", "limits"), inline=True)
def fold(
    weights: jax.Array, alpha: jax.Array, *, block: int, axis: str, limits: tuple[float, float] | None = None
) -> jax.Array:
    r"""Flip the weights whose sign differs from the sign of their block, gradually with growing ``alpha``.

    .. math:: w_i \mapsto w_i \,(1 - 2 |\sigma_b|) \text{ where } w_i \sigma_b < 0, \quad \sigma_b = \tanh(\alpha s_b)

    Here :math:`s_b` is the result of :func:`block_signs`. With ``alpha = 0`` the weights do not change. With
    ``alpha = inf`` every weight keeps its magnitude and gets the sign of its block (positive in case of a tie). The
    magnitude of a weight never grows. The gradient treats :math:`\sigma_b` as constant. If the range ``limits`` is not
    symmetric, a flipped weight may be out of range. It is then clipped.
    """
    blocks = to_blocks(weights, block, axis)
    signs = jax.lax.stop_gradient(block_signs(blocks))
    hard = jnp.where(signs < 0, -1.0, 1.0)
    # An infinite alpha times zero is NaN, and `where` would pass this NaN to the gradient even from the unused branch.
    finite = jnp.where(jnp.isinf(alpha), 0.0, alpha)
    sigma = jnp.where(jnp.isinf(alpha), hard, jnp.tanh(finite * signs)).astype(weights.dtype)
    folded = jnp.where(blocks * sigma < 0, blocks * (1 - 2 * jnp.abs(sigma)), blocks)
    if limits is not None:
        folded = jnp.where(folded * blocks < 0, jnp.clip(folded, *limits), folded)
    return from_blocks(folded, weights.shape, axis)
