"""Storage of a neuron's past values: exact lags, or a few leaky sums."""

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
    """Past values of a neuron, stored in ``n_slots`` stacked arrays: ``[n_slots, ..., N]``."""

    n_slots: int

    @abc.abstractmethod
    def weights(self, method: FractionalMethod, alpha: jax.Array) -> jax.Array:
        """Return the weights of the slots, ``[n_slots, *alpha.shape]``, youngest first if the slots have an age."""

    @abc.abstractmethod
    def push(self, slots: jax.Array, value: jax.Array, position: Any) -> jax.Array:
        """Return the slots after adding one value."""

    def placed(self, weights: jax.Array, position: Any) -> jax.Array:
        """Return the weights in the order of the slots, given the ``position`` of the next value."""
        return weights

    def advance(self, position: Any) -> Any:
        """Return the position after a push."""
        return position


class LagBuffer(Past):
    """The last ``n_slots`` values, stored exactly.

    Older values are dropped. With ``whole`` the buffer must hold the complete past; if it overflows, the weights become
    NaN. A compiled run cannot raise an error, and NaN prevents wrong voltages from going unnoticed.
    """

    def __init__(self, n_slots: int, *, whole: bool = False) -> None:
        self.n_slots, self.whole = n_slots, whole

    def weights(self, method: FractionalMethod, alpha: jax.Array) -> jax.Array:
        """Return the weights of the lags, youngest first."""
        return method.weights(alpha, self.n_slots)

    def placed(self, weights: jax.Array, position: Any) -> jax.Array:
        """Return the weight of each slot, according to the age of its value."""
        age = jnp.mod(position - 1 - jnp.arange(self.n_slots), max(self.n_slots, 1))
        # Reordering the weights costs [n_slots] per step; shifting the slots would cost [n_slots, B, N] per step.
        weights = jnp.take(weights, age, axis=0)
        return jnp.where(position > self.n_slots, jnp.nan, weights) if self.whole else weights

    def push(self, slots: jax.Array, value: jax.Array, position: Any) -> jax.Array:
        """Overwrite the oldest value."""
        return slots.at[jnp.mod(position, self.n_slots)].set(value) if self.n_slots else slots

    def advance(self, position: Any) -> Any:
        """Return the number of values pushed, or without ``whole`` the slot that is written next."""
        return position + 1 if self.whole else jnp.mod(position + 1, max(self.n_slots, 1))


class LeakySums(Past):
    """Sums that decay at fixed rates, plus the last value itself, so that its weight is exact."""

    def __init__(self, method: FractionalMethod, n_exponentials: int, horizon: int) -> None:
        self.rates = decay_rates(method, n_exponentials, horizon)
        self.n_slots = n_exponentials + 1

    def weights(self, method: FractionalMethod, alpha: jax.Array) -> jax.Array:
        """Return the weight of the last value minus its contribution to the sums, then the amplitudes of the sums."""
        # The sum of exponentials holds from lag 2 on. Storing the last value itself makes the weight of lag 1 exact.
        sums = amplitudes(method, alpha, self.rates)
        return jnp.concatenate([method.weights(alpha, 1) - sums.sum(axis=0), sums])

    def push(self, slots: jax.Array, value: jax.Array, position: Any) -> jax.Array:
        """Decay every sum and add the value to it."""
        # The rates are not learnable, so this factor is a constant of the compiled step. The factor 0 is for the first
        # slot, which holds only the last value.
        kept = np.append(0.0, np.exp(-self.rates)).astype(slots.dtype)
        return kept.reshape((-1,) + (1,) * value.ndim) * slots + value[None]
