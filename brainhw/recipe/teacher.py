"""Teachers: classical classifiers whose class probabilities are the training targets of the network on the chip."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import softmax

__all__ = ["KernelTeacher", "LinearTeacher", "choose_teacher"]

# Each pair contains the weights of the two blocks of features in a kernel.
_SHARES = ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.3), (0.3, 1.0))
# 0 is the linear kernel; other values are widths of Gaussian kernels.
_WIDTHS = (0.0, 1.0, 3.0)
_RIDGES = 10.0 ** np.arange(-3, 1.6, 0.5)
# If the error of a kernel is larger than that of the best kernel by the fraction e, its weight in the mean is exp(-10
# e). Weights below the second number are set to zero.
_PREFERENCE, _LEAST_WEIGHT = 10.0, 0.02
# Scores of a kernel teacher lie between about -1 and 1; this factor turns them into logits.
_SHARPNESS = 5.0
# The cost of a kernel grows with the third power of the number of recordings.
_MOST_RECORDINGS = 1500


class KernelTeacher:
    """Weighted mean of several kernel ridge regressions with different kernels. The targets are one-hot.

    A regression with a smaller leave-one-out error has a larger weight.

    Parameters
    ----------
    features : ndarray
        Standardised features ``[n, F]``.
    sizes : list of int
        Number of features in each block of ``features``. There are one or two blocks.
    y : ndarray
        Classes, ``[n]``.
    n_classes : int
        Number of classes.
    rng : numpy.random.Generator
        Generator that selects a part of the recordings if there are more than 1500.
    """

    def __init__(
        self, features: np.ndarray, sizes: list[int], y: np.ndarray, n_classes: int, rng: np.random.Generator
    ) -> None:
        if len(y) > _MOST_RECORDINGS:
            rows = rng.choice(len(y), _MOST_RECORDINGS, replace=False)
            features, y = features[rows], y[rows]
        self._sizes, targets = sizes, 2 * np.eye(n_classes)[y] - 1
        found = []
        for shares in _SHARES if len(sizes) == 2 else ((1.0,),):
            x = self._scale_blocks(features, shares)
            found += [(*_ridge(_kernel(x, x, width), targets), shares, width, x) for width in _WIDTHS]
        least = min(error for error, *_ in found)
        weights = np.array([np.exp(-_PREFERENCE * (error - least) / least) for error, *_ in found])
        weights = np.where(weights < _LEAST_WEIGHT, 0, weights) / weights[weights >= _LEAST_WEIGHT].sum()
        self._parts = [(w, *part[1:]) for w, part in zip(weights, found, strict=True) if w]
        # Use the weights of the two blocks of features to scale the inputs of the network.
        relative = [weight * np.array(shares) / np.max(shares) for weight, _, shares, _, _ in self._parts]
        held = np.sum(relative, axis=0)
        held = np.where(held < _LEAST_WEIGHT * held.max(), 0, held)
        self.gains = np.repeat(np.sqrt(held / sizes), sizes)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the probability of each class, ``[n, n_classes]``."""
        scores = sum(
            weight * ((_kernel(self._scale_blocks(features, shares), x, width) + 1.0) @ alpha)
            for weight, alpha, shares, width, x in self._parts
        )
        return softmax(_SHARPNESS * scores, axis=1)

    def _scale_blocks(self, features: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
        scales = np.repeat(np.sqrt(np.array(shares) / self._sizes / sum(shares)), self._sizes)
        return features[:, scales > 0] * scales[scales > 0]


def _kernel(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    return a @ b.T if not width else np.exp(-width / 2 * cdist(a, b, "sqeuclidean"))


def _ridge(kernel: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the smallest leave-one-out error over several ridge parameters, and the coefficients of this fit.

    If ``A = (K + 1 + ridge I)^-1``, the leave-one-out error of recording ``i`` is ``(A y)_i / A_ii``.
    """
    values, vectors = np.linalg.eigh(kernel + 1.0)
    best = (np.inf, targets)
    for ridge in _RIDGES:
        inverse = vectors / (np.maximum(values, 0) + ridge)
        alpha = inverse @ (vectors.T @ targets)
        error = float(np.mean((alpha / np.sum(inverse * vectors, axis=1)[:, None]) ** 2))
        if error < best[0]:
            best = (error, alpha)
    return best


class LinearTeacher:
    """Mean of two logistic regressions on the first block of features.

    The first regression uses the standardised features. The second uses the features on their original scale.

    Parameters
    ----------
    features, sizes, y, n_classes
        As for :class:`KernelTeacher`.
    std : ndarray
        Standard deviation of each feature, ``[F]``.
    """

    def __init__(self, features: np.ndarray, sizes: list[int], y: np.ndarray, n_classes: int, std: np.ndarray) -> None:
        self._n = sizes[0]
        self._scales = (np.ones(self._n), std[: self._n])
        self._weights = [_logistic(features[:, : self._n] * scale, y, n_classes) for scale in self._scales]
        self.gains = np.where(np.arange(sum(sizes)) < self._n, 1 / np.sqrt(self._n), 0.0)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the probability of each class, ``[n, n_classes]``."""
        given = features[:, : self._n]
        each = [
            softmax(_append_ones(given * scale) @ weights, axis=1)
            for scale, weights in zip(self._scales, self._weights, strict=True)
        ]
        return np.mean(each, axis=0)


def _append_ones(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _logistic(x: np.ndarray, y: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the weights of a logistic regression, ``[n_features + 1, n_classes]``. The last row is the bias.

    They minimise the summed cross-entropy plus half of the sum of squared weights. The bias is not part of this sum.
    """
    x, hot = _append_ones(x), np.eye(n_classes)[y]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(x.shape[1], n_classes)
        p = softmax(x @ weights, axis=1)
        free = np.where(np.arange(len(weights))[:, None] < len(weights) - 1, weights, 0.0)
        error = -np.sum(np.log(np.maximum(np.sum(p * hot, axis=1), 1e-300))) + 0.5 * np.sum(free**2)
        return float(error), (x.T @ (p - hot) + free).ravel()

    start = np.zeros(x.shape[1] * n_classes)
    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x.reshape(-1, n_classes)


Teacher = KernelTeacher | LinearTeacher


def choose_teacher(features: np.ndarray, sizes: list[int], y: np.ndarray, n_classes: int, std: np.ndarray) -> Teacher:
    """Return the kernel teacher if it is more accurate in a cross-validation, otherwise the linear teacher."""
    rng = np.random.default_rng(0)
    makers: list[Callable[..., Teacher]] = [
        lambda x, y: KernelTeacher(x, sizes, y, n_classes, rng),
        lambda x, y: LinearTeacher(x, sizes, y, n_classes, std),
    ]
    right = np.zeros(2)
    n_folds, n_repeats = (5, 4) if len(y) <= 100 else (5, 1) if len(y) <= 500 else (3, 1)
    for _ in range(n_repeats):
        order = rng.permutation(len(y))
        fold = np.empty(len(y), int)
        fold[order[np.argsort(y[order], kind="stable")]] = (
            np.arange(len(y)) % n_folds
        )  # distribute each class over all folds
        for one in range(n_folds):
            inside, outside = fold != one, fold == one
            if not outside.any() or not inside.any():
                continue
            for i, make in enumerate(makers):
                answers = make(features[inside], y[inside])(features[outside])
                right[i] += np.sum(answers.argmax(axis=1) == y[outside])
    return makers[0 if right[0] > right[1] else 1](features, y)
