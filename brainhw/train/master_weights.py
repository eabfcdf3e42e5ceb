"""Optimizer steps in float32 for weights of half precision."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from brainhw.kernel.precision import is_half, widened

__all__ = ["has_half_weights", "with_master_weights"]


class MasterWeights(NamedTuple):
    """State of an optimizer with master weights: the state of the original optimizer, and the float32 weights."""

    optimizer: Any
    weights: Any


def has_half_weights(weights: Any) -> bool:
    """Return whether any array of a tree has half precision."""
    return any(is_half(jnp.asarray(leaf).dtype) for leaf in jax.tree.leaves(weights))


def with_master_weights(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return an optimizer that updates float32 copies of the weights and rounds them to the precision of the weights.

    Without the copies, an update is lost if it is smaller than half the distance from the weight to the next
    floating-point number. In bfloat16, this is 0.2 to 0.4 % of the weight. In float16, the epsilon of Adam, 1e-8, is
    rounded to zero, and the step of Adam is NaN. The method is that of Micikevicius et al., "Mixed precision training"
    (2018), but without loss scaling.
    """

    def start(weights: Any) -> MasterWeights:
        copies = _wide(weights)
        return MasterWeights(optimizer.init(copies), copies)

    def update(gradients: Any, state: MasterWeights, weights: Any = None) -> tuple[Any, MasterWeights]:
        # If a weight differs from its rounded copy, it was changed after the last update, for example clipped to the
        # range of the chip. The copy is then set to the new value.
        copies = jax.tree.map(
            lambda copy, now: jnp.where(copy.astype(now.dtype) == now, copy, now.astype(copy.dtype)),
            state.weights,
            weights,
        )
        steps, inner = optimizer.update(_wide(gradients), state.optimizer, copies)
        copies = optax.apply_updates(copies, steps)
        # `optax.apply_updates` adds in float32 and rounds once, so that the weight becomes the rounded copy.
        change = jax.tree.map(lambda copy, now: copy - now.astype(copy.dtype), copies, weights)
        return change, MasterWeights(inner, copies)

    return optax.GradientTransformation(start, update)


def _wide(tree: Any) -> Any:
    return jax.tree.map(widened, tree)
