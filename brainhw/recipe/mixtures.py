"""Synthetic training data: mixtures of recordings, labelled by a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from brainhw.recipe.encoding import Encoding

__all__ = ["Mixtures"]

# Standard deviation of the noise. Standard deviation of the factor by which the difference of two recordings is
# multiplied.
_NOISE, _MOVE = 0.1, 0.3


class Mixtures:
    """Batches for :func:`brainhw.train.fit`: random mixtures of two recordings, drawn anew in every epoch.

    Half of the mixtures are the features of a single recording. The others are interpolated between two recordings.
    Half of all mixtures are shifted by a random multiple of the difference between two further recordings. Such a shift
    resembles natural variation. Noise is added to all mixtures. The teacher computes the class probabilities of each
    mixture.

    Parameters
    ----------
    features : ndarray
        Standardised features of the training recordings, ``[n, F]``.
    teacher : callable
        Function that returns class probabilities ``[n, n_classes]`` for features.
    encoding : Encoding
        Encoding that converts features to inputs.
    n_batches, batch_size, seed : int
        Number of batches per epoch, number of mixtures per batch, and random seed.
    """

    def __init__(
        self,
        features: np.ndarray,
        teacher: Callable[[np.ndarray], np.ndarray],
        encoding: Encoding,
        *,
        n_batches: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self._features, self._teacher, self._encoding = features, teacher, encoding
        self._n_batches, self._batch_size, self._seed = n_batches, batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int, numbers: Mapping[str, float] | None) -> None:
        """Store the index of the epoch, which is part of the random seed. Used as a callback of `brainhw.train.fit`."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        rng = np.random.default_rng((self._seed, self._epoch))
        for _ in range(self._n_batches):
            mixed = self._draw_mixtures(rng)
            x = self._encoding.rows(mixed)[:, None]
            yield x, self._teacher(mixed).astype(np.float32), np.ones(len(x), int)

    def _draw_mixtures(self, rng: np.random.Generator) -> np.ndarray:
        n, n_features = self._batch_size, self._features.shape[1]
        one, other, left, right = self._features[rng.integers(len(self._features), size=(4, n))]
        share = np.where(rng.random(n) < 0.5, 1.0, rng.random(n))[:, None]
        move = (_MOVE * rng.normal(size=n) * (rng.random(n) < 0.5))[:, None]
        return share * one + (1 - share) * other + move * (left - right) + _NOISE * rng.normal(size=(n, n_features))
