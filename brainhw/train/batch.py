"""Batches as a network takes them: steps first, with lengths and a key of their own."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.data.dataset import Split, batches

__all__ = ["Batch", "Source"]


class Batch(NamedTuple):
    """One batch of a training.

    Attributes
    ----------
    x : jax.Array
        Input ``[T, B, *N]``.
    y : jax.Array
        Targets ``[B]``, or ``[B, T]`` for one of each frame.
    lengths : jax.Array
        Number of true steps of each recording, ``[B]``; steps behind them are padding.
    key : jax.Array
        A key that no other batch of the run has.

    Examples
    --------
    >>> import brainhw as bh, jax, jax.numpy as jnp
    >>> batch = bh.train.Batch(jnp.ones((10, 2, 3)), jnp.array([0, 1]), jnp.array([10, 7]), jax.random.key(0))
    >>> batch.x.shape
    (10, 2, 3)
    """

    x: jax.Array
    y: jax.Array
    lengths: jax.Array
    key: jax.Array


class Source:
    """Training or validation data: a `Split`, arrays ``(x, y)`` batch first, or an iterable of such pairs."""

    def __init__(self, data: Any, batch_size: int, *, call: str, name: str) -> None:
        self._call, self._name = call, name
        self.batch_size = batch_size
        if isinstance(data, tuple) and len(data) == 2:
            data = self._split(data)
        self._split_data = data if isinstance(data, Split) else None
        self._loader: Any = () if isinstance(data, Split) else data
        if self._split_data is not None:
            if not isinstance(self._split_data.x, np.ndarray):
                raise TypeError(f"{call}: {name} holds raw audio; turn it into frames, with bh.data.filterbank say.")
            if not len(self._split_data):
                raise ValueError(f"{call}: {name} is empty; give at least one recording.")
        elif isinstance(data, (str, bytes)) or not hasattr(data, "__iter__") or hasattr(data, "__next__"):
            raise TypeError(
                f"{call}: {name} must be a Split, a pair (x, y) with batch first, or an iterable of pairs that can be "
                f"gone through in each epoch, such as a data loader; got {_arguments.describe(data)}."
            )
        elif self.n_batches == 0:
            raise ValueError(f"{call}: {name} gave no batch; give at least one.")

    @property
    def n_batches(self) -> int | None:
        """Number of batches of an epoch, or ``None`` where only an epoch tells."""
        if self._split_data is not None:
            return -(-len(self._split_data) // self.batch_size)
        return len(self._loader) if hasattr(self._loader, "__len__") else None

    def fingerprint(self) -> str:
        """Return a text that is another for other data; an iterable is known by its number of batches alone."""
        if self._split_data is None:
            return f"an iterable of {self.n_batches} batches"
        split = self._split_data
        sums = [zlib.crc32(np.ascontiguousarray(part).view(np.uint8)) for part in (split.x, split.y, split.lengths)]
        return f"{len(split)} recordings {np.shape(split.x)[1:]} {sums[0]:08x}{sums[1]:08x}{sums[2]:08x}"

    def epoch(self, seed: int, epoch: int, *, shuffle: bool) -> Iterator[Batch]:
        """Iterate once over the data; order and keys depend on seed and epoch alone."""
        base = jax.random.fold_in(jax.random.key(seed), epoch)
        for i, part in enumerate(self._parts(seed, epoch, shuffle)):
            x = jnp.asarray(np.swapaxes(np.asarray(part.x), 0, 1))
            yield Batch(x, jnp.asarray(part.y), jnp.asarray(part.lengths), jax.random.fold_in(base, i))

    def _parts(self, seed: int, epoch: int, shuffle: bool) -> Iterator[Split]:
        if self._split_data is not None:
            yield from batches(self._split_data, self.batch_size, seed=seed, epoch=epoch, shuffle=shuffle)
            return
        n = 0
        for item in self._loader:
            n += 1
            yield item if isinstance(item, Split) else self._split(item)
        if not n:
            raise ValueError(f"{self._call}: {self._name} gave no batch; give at least one.")

    def _split(self, pair: Any) -> Split:
        try:
            x, y = pair
        except (TypeError, ValueError):
            raise TypeError(
                f"{self._call}: {self._name} must give pairs (x, y) or Splits; got {_arguments.describe(pair)}."
            ) from None
        x = np.asarray(_arguments.as_array(x, call=self._call, name=f"x of {self._name}"))
        if x.ndim < 3:
            raise ValueError(
                f"{self._call}: x of {self._name} must be [B, T, *N], batch first; got shape {x.shape}. Repeat static "
                "data over time steps."
            )
        return Split(x=x, y=np.asarray(y), lengths=np.full(len(x), x.shape[1]))
