"""Storage of a neuron's past values, either exactly for each lag or as a few leaky sums."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainhw.kernel.exponentials import amplitudes, decay_rates
from brainhw.kernel.fractional_weights import FractionalMethod

__all__ = ["LagBuffer", "LeakySums", "Past", "expand"]


class Past(abc.ABC):
    """Past values of a neuron, stored in ``n_slots`` stacked arrays: ``[n_slots, ..., N]``."""

    n_slots: int

    @abc.abstractmethod
    def weights(self, method: FractionalMethod, alpha: jax.Array) -> jax.Array:
        """Return the weights of the slots, ``[n_slots, *alpha.shape]``.

        For exact lags, the weight of the newest value comes first.
        """

    @abc.abstractmethod
    def push(self, slots: jax.Array, value: jax.Array, position: Any) -> jax.Array:
        """Add the newest value, ``value``, at ``position``, and return the slots."""

    def slot_weights(self, weights: jax.Array, position: Any) -> jax.Array:
        """Return the weights in the order of the slots. ``position`` is the position of the next value."""
        return weights

    def advance(self, position: Any) -> Any:
        """Return the position of the value that is added after the value at ``position``."""
        return position


class LagBuffer(Past):
    """The last ``n_slots`` values, stored exactly.

    Older values are dropped. If ``whole`` is True, the buffer must contain all past values. If it is too small, the
    weights become NaN. A compiled run cannot raise an error, and without NaN, users would not notice wrong voltages.
    """

    def __init__(self, n_slots: int, *, whole: bool = False) -> None:
        self.n_slots, self.whole = n_slots, whole

    def weights(self, method: FractionalMethod, alpha: jax.Array) -> jax.Array:
        """Return the weights of the lags, starting with the weight of the newest value."""
        return method.weights(alpha, self.n_slots)

    def slot_weights(self, weights: jax.Array, position: Any) -> jax.Array:
        """Return the weight of each slot, which depends on the age of its value."""
        age = jnp.mod(position - 1 - jnp.arange(self.n_slots), max(self.n_slots, 1))
        # Reordering the weights moves n_slots values per step. Shifting the slots would move n_slots * B * N values.
        weights = jnp.take(weights, age, axis=0)
        return jnp.where(position > self.n_slots, jnp.nan, weights) if self.whole else weights

    def push(self, slots: jax.Array, value: jax.Array, position: Any) -> jax.Array:
        """Overwrite the oldest value."""
        return slots.at[jnp.mod(position, self.n_slots)].set(value) if self.n_slots else slots

    def advance(self, position: Any) -> Any:
        """Return the slot that is written next. If ``whole`` is True, return the number of values added so far."""
        return position + 1 if self.whole else jnp.mod(position + 1, max(self.n_slots, 1))


class LeakySums(Past):
    """Leaky sums of the past values with fixed decay rates.

    The last value is stored separately, so that its weight is exact.
    """

    def __init__(self, method: FractionalMethod, n_exponentials: int, horizon: int) -> None:
        self.rates = decay_rates(method, n_exponentials, horizon)
        self.n_slots = n_exponentials + 1

    def weights(self, method: FractionalMethod, alpha: jax.Array) -> jax.Array:
        """Return the weights of the slots: a weight for the last value, then the amplitudes of the sums."""
        # The sum of exponentials approximates the weights from lag 2 on. The sums also contain the last value. So the
        # weight of the last value is its exact weight minus its weight in the sums.
        sums = amplitudes(method, alpha, self.rates)
        return jnp.concatenate([method.weights(alpha, 1) - sums.sum(axis=0), sums])

    def push(self, slots: jax.Array, value: jax.Array, position: Any) -> jax.Array:
        """Multiply every sum by its decay factor and add the value."""
        return expand(self.decay([1], slots.dtype)[0], slots.ndim) * slots + value[None]

    def decay(self, n_steps: Sequence[int], dtype: Any) -> np.ndarray:
        """Return the factors by which the slots decay in each number of steps, ``[len(n_steps), n_slots]``."""
        # The rates are not trainable, so these factors are constants of the compiled step. The first slot stores only
        # the last value.
        steps = np.asarray(n_steps, float)[:, None]
        return np.concatenate([steps == 0, np.exp(-steps * self.rates)], axis=1).astype(dtype)


def expand(weights: Any, ndim: int) -> Any:
    """Reshape weights ``[slots]`` or ``[slots, N]`` to broadcast against ``[slots, ..., N]``."""
    between = (1,) * (ndim - weights.ndim)
    return weights.reshape((weights.shape[0], *between, *weights.shape[1:]))
