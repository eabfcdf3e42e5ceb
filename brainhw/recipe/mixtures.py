"""Synthetic recordings between those of the training, with the answers of a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from brainhw.recipe.encoding import Encoding

__all__ = ["Mixtures"]

# Noise in standard deviations of a feature, and how far a recording moves along the difference of two others.
_NOISE, _MOVE = 0.1, 0.3


class Mixtures:
    """Batches for :func:`brainhw.train.fit`: mixtures of two recordings each, other ones in every epoch.

    Half of them are a recording, the other half lie between two; half are moved along the difference of two more, as
    recordings differ; all have noise. The teacher answers for each.

    Parameters
    ----------
    features : ndarray
        Standardised features of the training recordings, ``[n, F]``.
    teacher : callable
        Returns probabilities ``[n, n_classes]`` of features.
    encoding : Encoding
        Turns features into inputs.
    n_batches, batch_size, seed : int
        Batches of an epoch, recordings of a batch, and the seed.
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

    def begin(self, epoch: int, numbers: Mapping[str, float] | None) -> None:
        """Take note of the epoch; a callback of :func:`brainhw.train.fit`."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        rng = np.random.default_rng((self._seed, self._epoch))
        for _ in range(self._n_batches):
            mixed = self._mixed(rng)
            x = self._encoding.rows(mixed)[:, None]
            yield x, self._teacher(mixed).astype(np.float32), np.ones(len(x), int)

    def _mixed(self, rng: np.random.Generator) -> np.ndarray:
        n, n_features = self._batch_size, self._features.shape[1]
        one, other, left, right = self._features[rng.integers(len(self._features), size=(4, n))]
        share = np.where(rng.random(n) < 0.5, 1.0, rng.random(n))[:, None]
        move = (_MOVE * rng.normal(size=n) * (rng.random(n) < 0.5))[:, None]
        return share * one + (1 - share) * other + move * (left - right) + _NOISE * rng.normal(size=(n, n_features))
