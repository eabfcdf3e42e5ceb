"""The past of a neuron: exact, value by value, or as a few leaky sums."""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainhw.kernel.exponentials import amplitudes, decay_rates
from brainhw.kernel.fractional_weights import FractionalMethod

__all__ = ["LagBuffer", "LeakySums", "Past"]


class Past(abc.ABC):
    """The past values of a neuron in ``n_slots`` arrays of one shape, stacked: ``[n_slots, ..., N]``."""

    n_slots: int

    @abc.abstractmethod
    def weights(self, method: FractionalMethod, alpha: jax.Array) -> jax.Array:
        """Return the weights of the slots, ``[n_slots, *alpha.shape]``, in the order of age where they have one."""

    @abc.abstractmethod
    def push(self, slots: jax.Array, value: jax.Array, position: Any) -> jax.Array:
        """Return the slots with one value more."""

    def placed(self, weights: jax.Array, position: Any) -> jax.Array:
        """Return the weights in the order of the slots when the next value goes to ``position``."""
        return weights

    def advance(self, position: Any) -> Any:
        """Return the position after a push."""
        return position


class LagBuffer(Past):
    """The last ``n_slots`` values themselves.

    Older values are forgotten. Where it must hold all of the past (``whole``), the weights become NaN instead: a
    compiled run cannot raise, but a wrong voltage must not pass for a right one.
    """

    def __init__(self, n_slots: int, *, whole: bool = False) -> None:
        self.n_slots, self.whole = n_slots, whole

    def weights(self, method: FractionalMethod, alpha: jax.Array) -> jax.Array:
        """Return the weights of the lags, the youngest first."""
        return method.weights(alpha, self.n_slots)

    def placed(self, weights: jax.Array, position: Any) -> jax.Array:
        """Return the weight of each slot by how long ago it was written."""
        age = jnp.mod(position - 1 - jnp.arange(self.n_slots), max(self.n_slots, 1))
        # Moving the weights costs [n_slots]; moving the slots would cost [n_slots, B, N] at each step.
        weights = jnp.take(weights, age, axis=0)
        return jnp.where(position > self.n_slots, jnp.nan, weights) if self.whole else weights

    def push(self, slots: jax.Array, value: jax.Array, position: Any) -> jax.Array:
        """Write over the oldest value."""
        return slots.at[jnp.mod(position, self.n_slots)].set(value) if self.n_slots else slots

    def advance(self, position: Any) -> Any:
        """Return how many values were pushed, or, where that does not matter, the slot to be written next."""
        return position + 1 if self.whole else jnp.mod(position + 1, max(self.n_slots, 1))


class LeakySums(Past):
    """Sums that forget at fixed rates, and the last value, whose weight is thereby exact."""

    def __init__(self, method: FractionalMethod, n_exponentials: int, horizon: int) -> None:
        self.rates = decay_rates(method, n_exponentials, horizon)
        self.n_slots = n_exponentials + 1

    def weights(self, method: FractionalMethod, alpha: jax.Array) -> jax.Array:
        """Return the weight that the last value has beyond the sums, then the amplitudes of the sums."""
        # The mixture of decays holds from lag 2 on, so the last value stands apart and its weight is exact.
        sums = amplitudes(method, alpha, self.rates)
        return jnp.concatenate([method.weights(alpha, 1) - sums.sum(axis=0), sums])

    def push(self, slots: jax.Array, value: jax.Array, position: Any) -> jax.Array:
        """Let every sum forget its share, and add the value to it."""
        # The rates depend on no learnt number: a constant of the compiled step. The last value keeps nothing.
        kept = np.append(0.0, np.exp(-self.rates)).astype(slots.dtype)
        return kept.reshape((-1,) + (1,) * value.ndim) * slots + value[None]
