"""Check the lengths of recordings in padded batches, and mask or zero the padded steps."""

from __future__ import annotations

from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments

__all__ = ["check_lengths", "is_true_step", "zero_padding"]


def check_lengths(lengths: Any, n_steps: int, batch: tuple[int, ...], *, call: str) -> jax.Array:
    """Return the lengths of recordings as a JAX array of integers with the shape ``batch``.

    Raise a ``ValueError`` if a length is not between 1 and ``n_steps``. The values of traced lengths are not checked.
    """
    array = _arguments.as_array(lengths, call=call, name="lengths")
    # Check before the conversion to a JAX array, because a float may be too large for it.
    if not jnp.issubdtype(array.dtype, jnp.integer) or array.shape != batch:
        wanted = f"one for each of {batch[0]} recordings" if batch else "one for the single recording"
        raise ValueError(
            f"{call}: lengths must be integers, {wanted}, with shape {batch}; got {_arguments.describe(lengths)}."
        )
    given = jnp.asarray(array)
    numbers = np.asarray(given) if _arguments.is_concrete(given) else np.ones(0)
    if numbers.size and not (numbers.min() >= 1 and numbers.max() <= n_steps):
        wrong = np.argwhere((numbers < 1) | (numbers > n_steps))
        first = tuple(wrong[0].tolist())
        where = f" for recording {first[0]} (counted from 0)" if first else ""
        raise ValueError(
            f"{call}: lengths must be between 1 and {n_steps}, the number of steps; got {numbers[first]}{where}."
        )
    return given


def is_true_step(lengths: jax.Array, n_steps: int) -> jax.Array:
    """Return a mask that is True for recorded steps and False for padding, ``[T, *batch]``."""
    steps = jnp.arange(n_steps).reshape(-1, *[1] * lengths.ndim)
    return steps < lengths


def zero_padding(tree: Any, lengths: jax.Array) -> Any:
    """Return arrays and Quantities ``[T, *batch, ...]`` with padded steps set to zero."""

    def zeroed(leaf: Any) -> Any:
        real = is_true_step(lengths, leaf.shape[0])
        real = real.reshape(*real.shape, *[1] * (leaf.ndim - real.ndim))
        # Use `where`, because infinite or NaN padding multiplied by zero is NaN.
        if isinstance(leaf, u.Quantity):
            return u.Quantity(jnp.where(real, leaf.mantissa, jnp.zeros_like(leaf.mantissa)), unit=leaf.unit)
        return jnp.where(real, leaf, jnp.zeros_like(leaf))

    return jax.tree.map(zeroed, tree, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))
