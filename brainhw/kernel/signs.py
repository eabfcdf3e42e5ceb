"""Sign rules for blocks of weights that must share a sign: measure, anneal and enforce them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["block_signs", "fold", "from_blocks", "nearest", "to_blocks"]


def to_blocks(weights: jax.Array, block: int, axis: str) -> jax.Array:
    """Return ``[n_blocks, block, lines]``: runs of ``block`` weights along the rows ('pre') or columns ('post').

    A shorter last run is filled with zeros, which agree with either sign.
    """
    lines = weights if axis == "pre" else weights.T
    # Pad, so that all runs form one array: the compiler would unroll a Python loop over them.
    padded = jnp.pad(lines, ((0, -len(lines) % block), (0, 0)))
    return padded.reshape(-1, block, lines.shape[1])


def from_blocks(blocks: jax.Array, shape: tuple[int, ...], axis: str) -> jax.Array:
    """Return the weights ``[N_in, N_out]`` that :func:`to_blocks` cut into blocks."""
    n = shape[0] if axis == "pre" else shape[1]
    lines = blocks.reshape(-1, blocks.shape[-1])[:n]
    return lines if axis == "pre" else lines.T


def block_signs(blocks: jax.Array) -> jax.Array:
    r"""Return how clearly each block has one sign, ``[n_blocks, 1, lines]``, from -1 to 1.

    .. math:: s_b = \frac{\sum_{i \in b} w_i |w_i|}{\sum_{i \in b} w_i^2}

    The sign of :math:`s_b` is the one that costs least: setting the weights of the other sign to zero is the smaller
    change of the block in the Euclidean norm. A block of zeros gives 0.
    """
    largest = jnp.max(jnp.abs(blocks), axis=1, keepdims=True)
    scaled = blocks / jnp.where(largest > 0, largest, 1)  # without scaling, squares could underflow or overflow
    energy = jnp.sum(scaled**2, axis=1, keepdims=True)
    return jnp.sum(scaled * jnp.abs(scaled), axis=1, keepdims=True) / jnp.where(energy > 0, energy, 1)


def nearest(weights: jax.Array, *, block: int, axis: str) -> jax.Array:
    """Return the nearest weights, in the Euclidean norm, whose blocks have one sign each.

    Weights with the minority sign become zero. A block with a tie becomes positive.
    """
    blocks = to_blocks(weights, block, axis)
    hard = jnp.where(block_signs(blocks) < 0, -1.0, 1.0)
    return from_blocks(jnp.where(blocks * hard < 0, 0.0, blocks), weights.shape, axis)


def fold(
    weights: jax.Array, alpha: jax.Array, *, block: int, axis: str, limits: tuple[float, float] | None = None
) -> jax.Array:
    r"""Flip the weights with the minority sign of their block, gradually with growing ``alpha``.

    .. math:: w_i \mapsto w_i \,(1 - 2 |\sigma_b|) \text{ where } w_i \sigma_b < 0, \quad \sigma_b = \tanh(\alpha s_b)

    ``alpha = 0`` changes nothing. At ``alpha = inf`` every weight keeps its magnitude and takes the sign of its block
    (positive for a tie). Magnitudes never grow. The gradient treats the signs :math:`\sigma_b` as constants. If the
    range ``limits`` is not symmetric, a flipped weight may exceed it on the other side; it is then clipped.
    """
    blocks = to_blocks(weights, block, axis)
    signs = jax.lax.stop_gradient(block_signs(blocks))
    hard = jnp.where(signs < 0, -1.0, 1.0)
    # An infinite alpha times zero is NaN, and the NaN would reach the gradient even from the unused branch.
    finite = jnp.where(jnp.isinf(alpha), 0.0, alpha)
    sigma = jnp.where(jnp.isinf(alpha), hard, jnp.tanh(finite * signs)).astype(weights.dtype)
    folded = jnp.where(blocks * sigma < 0, blocks * (1 - 2 * jnp.abs(sigma)), blocks)
    if limits is not None:
        folded = jnp.where(folded * blocks < 0, jnp.clip(folded, *limits), folded)
    return from_blocks(folded, weights.shape, axis)
