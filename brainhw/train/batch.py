"""Training batches: time first, with lengths and a PRNG key."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from brainhw import _arguments
from brainhw.data.dataset import Split, batches

__all__ = ["Batch", "Source", "lengths_of"]


class Batch(NamedTuple):
    """One batch of training or validation data.

    Attributes
    ----------
    x : jax.Array
        Input ``[T, B, *N]``.
    y : jax.Array
        Targets ``[B]``, or ``[B, T]`` with one target per frame.
    lengths : jax.Array
        Number of steps of each recording without padding, ``[B]``.
    key : jax.Array or None
        In training, a PRNG key that differs for each batch of a run. In evaluation, None.

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
    key: jax.Array | None


def lengths_of(outputs: Any, batch: Batch) -> jax.Array | None:
    """Return ``batch.lengths`` if the outputs ``[T, B, ...]`` have as many steps as the batch, otherwise None."""
    return batch.lengths if len(outputs) == len(batch.x) else None


def _is_reiterable(data: Any) -> bool:
    if isinstance(data, (str, bytes, u.Quantity, set)) or hasattr(data, "dtype") or hasattr(data, "__next__"):
        return False
    return hasattr(type(data), "__iter__") and not isinstance(data, Mapping)


class Source:
    """Training or validation data from a ``Split``, arrays ``(x, y)`` with the batch axis first, or an iterable.

    An iterable yields batches. Each batch is a ``Split`` or arrays ``(x, y)``.

    Parameters
    ----------
    data : Split, pair or iterable
        The data.
    batch_size : int
        Recordings per batch. It is not used for an iterable, which yields whole batches.
    n_classes : int or None
        Number of classes that ``y`` may contain; None if ``y`` does not contain classes.
    mesh : jax.sharding.Mesh or None
        Devices among which each batch is divided.
    call, name : str
        Name of the calling function and name of its argument that contains the data, for error messages.
    """

    def __init__(
        self, data: Any, batch_size: int, *, n_classes: int | None, mesh: Mesh | None, call: str, name: str
    ) -> None:
        self._call, self._name = call, name
        self._n_classes, self._mesh = n_classes, mesh
        self.batch_size = batch_size
        if isinstance(data, tuple) and len(data) in (2, 3) and not isinstance(data[0], (Split, tuple)):
            data = self._split(data)
        self.split = data if isinstance(data, Split) else None
        self._loader: Any = () if isinstance(data, Split) else data
        if self.split is not None:
            self._check(self.split)
        elif not _is_reiterable(data):
            raise TypeError(
                f"{call}: {name} must be a Split, a pair (x, y) with the batch axis first, or an iterable of pairs "
                f"that can be iterated once per epoch, such as a data loader; got {_arguments.describe(data)}."
            )
        else:
            # Check the first batch before training starts.
            next(self._parts(0, 0, False))

    @property
    def n_batches(self) -> int | None:
        """Number of batches per epoch, or ``None`` if it is unknown."""
        if self.split is not None:
            return -(-len(self.split) // self.batch_size)
        return len(self._loader) if hasattr(type(self._loader), "__len__") else None

    @property
    def is_padded(self) -> bool:
        """Whether a recording may have fewer steps than the array that contains it."""
        return self.split is None or bool((self.split.lengths < np.shape(self.split.x)[1]).any())

    def fingerprint(self) -> str:
        """Return a text that identifies the data; for an iterable, only its number of batches."""
        if self.split is None:
            return f"an iterable of {self.n_batches} batches"
        split = self.split
        sums = [zlib.crc32(np.ascontiguousarray(part).view(np.uint8)) for part in (split.x, split.y, split.lengths)]
        return f"{len(split)} recordings {np.shape(split.x)[1:]} {sums[0]:08x}{sums[1]:08x}{sums[2]:08x}"

    def epoch(self, seed: int, epoch: int, *, training: bool) -> Iterator[Batch]:
        """Yield the batches of one epoch. Their order and their keys depend only on ``seed`` and ``epoch``."""
        base = jax.random.fold_in(jax.random.key(seed), epoch)
        for i, part in enumerate(self._parts(seed, epoch, training)):
            key = jax.random.fold_in(base, i) if training else None
            yield Batch(
                self._to_device(np.swapaxes(np.asarray(part.x), 0, 1), 1),
                self._to_device(part.y, 0),
                self._to_device(part.lengths, 0),
                key,
            )

    def _to_device(self, array: np.ndarray, axis: int) -> jax.Array:
        """Return ``array`` as a JAX array. If there is a mesh, divide ``axis`` among its devices."""
        if self._mesh is None:
            return jnp.asarray(array)
        # JAX divides an axis only into equal parts. A batch that cannot be divided is copied to every device.
        even = array.shape[axis] % self._mesh.size == 0
        spec = PartitionSpec(*[None] * axis, *self._mesh.axis_names) if even else PartitionSpec()
        return jax.make_array_from_callback(array.shape, NamedSharding(self._mesh, spec), array.__getitem__)

    def _parts(self, seed: int, epoch: int, shuffle: bool) -> Iterator[Split]:
        if self.split is not None:
            yield from batches(self.split, self.batch_size, seed=seed, epoch=epoch, shuffle=shuffle)
            return
        n = 0
        for item in self._loader:
            n += 1
            with warnings.catch_warnings():
                # Warnings about a whole data set, such as a missing class 0, do not apply to one batch.
                warnings.simplefilter("ignore", UserWarning)
                part = item if isinstance(item, Split) else self._split(item)
            self._check(part)
            yield part
        if not n:
            raise ValueError(f"{self._call}: {self._name} yielded no batch. It must yield at least one.")

    def _split(self, pair: Any) -> Split:
        try:
            x, y, *rest = pair
            (lengths,) = rest or (None,)
        except (TypeError, ValueError):
            raise TypeError(
                f"{self._call}: {self._name} must yield pairs (x, y), triples (x, y, lengths) or Splits; got "
                f"{_arguments.describe(pair)}."
            ) from None
        x = np.asarray(_arguments.as_array(x, call=self._call, name=f"x of {self._name}"))
        if x.ndim < 3:
            raise ValueError(
                f"{self._call}: x of {self._name} must be [B, T, *N], with the batch axis first; got shape {x.shape}. "
                "Repeat static data over time with bh.data.hold."
            )
        y, given = (
            np.asarray(_arguments.as_array(y, call=self._call, name=f"y of {self._name}")),
            [] if lengths is None else [lengths],
        )
        if y.dtype.kind != "f":
            return Split(x, y, *given)
        if self._n_classes is not None:
            raise ValueError(
                f"{self._call}: y of {self._name} must contain class indices if n_classes is passed; got "
                f"{_arguments.describe(y)}. For class probabilities, omit n_classes and pass "
                "loss=bh.train.classifier_loss(...)."
            )
        # These targets are not classes, but regression targets or class probabilities of a teacher.
        _arguments.check_finite(y, call=self._call, name=f"y of {self._name}")
        if len(y) != len(x):
            raise ValueError(
                f"{self._call}: x of {self._name} contains {len(x)} recordings, but y contains {len(y)} targets. Pass "
                "one target per recording."
            )
        return Split(x, np.zeros(len(x), int), *given)._with(y=y.astype(np.float32))

    def _check(self, split: Split) -> None:
        call, name = self._call, self._name
        if not isinstance(split.x, np.ndarray):
            raise TypeError(f"{call}: {name} contains raw audio. Convert it to frames with bh.data.filterbank.")
        if not len(split):
            raise ValueError(f"{call}: {name} is empty. Pass at least one recording.")
        if split.lengths.min() < 1:
            n = int(np.sum(split.lengths < 1))
            raise ValueError(f"{call}: {name} contains {n} recordings of length 0. Remove them.")
        if self._n_classes is not None:
            if split.y.ndim != 1:
                raise ValueError(
                    f"{call}: y of {name} must have one label per recording if n_classes is passed; got shape "
                    f"{split.y.shape}. For one label per frame, pass loss and metrics instead of n_classes."
                )
            if split.y.max() >= self._n_classes:
                raise ValueError(
                    f"{call}: labels of {name} must be between 0 and {self._n_classes - 1}, because n_classes is "
                    f"{self._n_classes}; got {split.y.max()}."
                )
