"""Blocks of weights that must share a sign: how far they do, and how they are made to."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["block_signs", "fold", "from_blocks", "nearest", "to_blocks"]


def to_blocks(weights: jax.Array, block: int, axis: str) -> jax.Array:
    """Return ``[n_blocks, block, lines]``: runs of ``block`` weights along the rows ('pre') or columns ('post').

    A last run that is shorter is filled with zeros, which agree with either sign.
    """
    lines = weights if axis == "pre" else weights.T
    # Padded, so that all runs are one array: a Python loop over them would be unrolled by the compiler.
    padded = jnp.pad(lines, ((0, -len(lines) % block), (0, 0)))
    return padded.reshape(-1, block, lines.shape[1])


def from_blocks(blocks: jax.Array, shape: tuple[int, ...], axis: str) -> jax.Array:
    """Return the weights ``[N_in, N_out]`` that :func:`to_blocks` had cut into blocks."""
    n = shape[0] if axis == "pre" else shape[1]
    lines = blocks.reshape(-1, blocks.shape[-1])[:n]
    return lines if axis == "pre" else lines.T


def block_signs(blocks: jax.Array) -> jax.Array:
    r"""Return how clearly each block is of one sign, ``[n_blocks, 1, lines]`` from -1 to 1.

    .. math:: s_b = \frac{\sum_{i \in b} w_i |w_i|}{\sum_{i \in b} w_i^2}

    Its sign is the one that costs least: setting the weights of the other sign to zero changes the block by less,
    in the Euclidean norm, than making it one of the opposite sign. A block of zeros is 0.
    """
    largest = jnp.max(jnp.abs(blocks), axis=1, keepdims=True)
    scaled = blocks / jnp.where(largest > 0, largest, 1)  # squares of the weights themselves might under- or overflow
    energy = jnp.sum(scaled**2, axis=1, keepdims=True)
    return jnp.sum(scaled * jnp.abs(scaled), axis=1, keepdims=True) / jnp.where(energy > 0, energy, 1)


def nearest(weights: jax.Array, *, block: int, axis: str) -> jax.Array:
    """Return the nearest weights, in the Euclidean norm, whose blocks have one sign each.

    The weights of the sign that yields become zero; a block with as much on either side becomes positive.
    """
    blocks = to_blocks(weights, block, axis)
    hard = jnp.where(block_signs(blocks) < 0, -1.0, 1.0)
    return from_blocks(jnp.where(blocks * hard < 0, 0.0, blocks), weights.shape, axis)


def fold(
    weights: jax.Array, alpha: jax.Array, *, block: int, axis: str, limits: tuple[float, float] | None = None
) -> jax.Array:
    r"""Turn over, the further the larger ``alpha``, the weights of the sign that yields in their block.

    .. math:: w_i \mapsto w_i \,(1 - 2 |\sigma_b|) \text{ where } w_i \sigma_b < 0, \quad \sigma_b = \tanh(\alpha s_b)

    ``alpha = 0`` changes nothing; at ``alpha = inf`` every weight keeps its magnitude and takes the sign of its block
    (positive for a block with as much on either side). No weight grows. The gradient is that of the weights; it does
    not see that they also decide the signs. Of a range that is not symmetric, ``limits``, a weight that turned over may
    be out on the other side: it is cut off there.
    """
    blocks = to_blocks(weights, block, axis)
    signs = jax.lax.stop_gradient(block_signs(blocks))
    hard = jnp.where(signs < 0, -1.0, 1.0)
    # An infinite alpha times a zero would be NaN, also in the branch that is not taken.
    finite = jnp.where(jnp.isinf(alpha), 0.0, alpha)
    sigma = jnp.where(jnp.isinf(alpha), hard, jnp.tanh(finite * signs)).astype(weights.dtype)
    folded = jnp.where(blocks * sigma < 0, blocks * (1 - 2 * jnp.abs(sigma)), blocks)
    if limits is not None:
        folded = jnp.where(folded * blocks < 0, jnp.clip(folded, *limits), folded)
    return from_blocks(folded, weights.shape, axis)
