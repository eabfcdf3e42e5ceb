"""Randman data set: generated spike patterns on smooth random manifolds."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from brainhw._arguments import number, positive_int, whole_number
from brainhw.data.dataset import Dataset, Split

__all__ = ["randman"]

_CALL = "randman"
_HIGHEST_FREQUENCY = 1000
_SMALLEST_WEIGHT = 1e-3
_GRID_POINTS = 1001
_MOST_NUMBERS = 2**31  # 8 GiB


def _recordings(value: Any, n_classes: int, name: str) -> int:
    result = positive_int(value, call=_CALL, name=name)
    if result < n_classes:
        raise ValueError(
            f"{_CALL}: {name} must be at least n_classes, {n_classes}, so that no class is missing; got {result}."
        )
    return result


def _cutoff(alpha: float) -> int:
    # The tolerance of 0.05 % keeps the last frequency if its weight is exactly the smallest weight, as for alpha 1 and
    # alpha 3.
    last = math.log((1 + 5e-4) / _SMALLEST_WEIGHT) / alpha
    return int(np.sum(np.log(np.arange(1, _HIGHEST_FREQUENCY + 1)) <= last))


def _factors(series: np.ndarray, z: np.ndarray, alpha: float) -> np.ndarray:
    """Return the factors of the product in the equation of :func:`randman`, as ``[n, manifold_dim, n_units]``.

    ``z [n, manifold_dim]`` contains the intrinsic coordinates of ``n`` points.
    """
    total = np.zeros((*z.shape, series.shape[-1]))
    for k, (a, b, c) in enumerate(series, start=1):
        total += a * k**-alpha * np.sin(2 * np.pi * (k * b * z[..., None] + c))
    return total


def _extremes(series: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the minimum and the maximum of each factor over the grid, two arrays ``[manifold_dim, n_units]``."""
    a, b, c = series.swapaxes(0, 1)
    k = np.arange(1, len(series) + 1)[:, None, None]
    # From one grid point to the next, the phase of each sine advances by a constant angle. Multiplying a phasor is much
    # faster than computing new sines.
    phasor = a * k**-alpha * np.exp(2j * np.pi * c)
    turn = np.exp(2j * np.pi * k * b / (_GRID_POINTS - 1))
    least = most = phasor.imag.sum(axis=0)
    for _ in range(_GRID_POINTS - 1):
        phasor *= turn
        factor = phasor.imag.sum(axis=0)
        least, most = np.minimum(least, factor), np.maximum(most, factor)
    return least, most


@dataclasses.dataclass(frozen=True)
class _Manifold:
    series: np.ndarray
    alpha: float
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def draw(cls, source: np.random.SeedSequence, manifold_dim: int, n_units: int, alpha: float) -> _Manifold:
        # The first axis is the frequency. A different alpha then uses fewer or more terms of the same random series, so
        # only the smoothness changes.
        series = np.random.default_rng(source).random((_cutoff(alpha), 3, manifold_dim, n_units))
        # Each factor depends on only one intrinsic coordinate. The extremes of the factors therefore give the extremes
        # of their product over all grid points.
        low = high = np.ones(n_units)
        for least, most in zip(*_extremes(series, alpha), strict=True):
            corners = np.stack([low * least, low * most, high * least, high * most])
            low, high = corners.min(axis=0), corners.max(axis=0)
        return cls(series, alpha, low, high)

    def spike_steps(self, z: np.ndarray, n_steps: int) -> np.ndarray:
        times = (_factors(self.series, z, self.alpha).prod(axis=1) - self.low) / (self.high - self.low)
        # Clip, because a point between grid points can be slightly outside of 0 to 1. A time of 1 belongs to the last
        # step.
        return np.clip(np.floor(times * n_steps), 0, n_steps - 1).astype(int)


def _split(source: np.random.SeedSequence, manifolds: list[_Manifold], n: int, n_steps: int) -> Split:
    manifold_dim, n_units = manifolds[0].series.shape[2:]
    rng = np.random.default_rng(source)
    y = rng.permutation(np.arange(n) % len(manifolds))
    z = rng.random((n, manifold_dim))
    x = np.zeros((n, n_steps, n_units), np.float32)
    for label, manifold in enumerate(manifolds):
        rows = np.flatnonzero(y == label)
        x[rows[:, None], manifold.spike_steps(z[rows], n_steps), np.arange(n_units)] = 1
    return Split(x, y)


def randman(
    n_classes: int = 10,
    n_units: int = 20,
    n_steps: int = 100,
    n_train: int = 3200,
    n_test: int = 800,
    *,
    manifold_dim: int = 1,
    alpha: float = 2.0,
    seed: int = 0,
) -> Dataset:
    r"""Generate Randman, a data set of spike patterns. The class of a pattern is the random manifold on which it lies.

    Each class is a manifold of ``manifold_dim`` dimensions in the unit cube of ``n_units`` dimensions. A recording is a
    random point on the manifold; its ``manifold_dim`` intrinsic coordinates are drawn from a uniform distribution. The
    point has ``n_units`` coordinates in the unit cube. Each of them is the firing time of one input neuron, relative to
    the length of the recording. Each input neuron fires exactly once, so spike counts carry no information.
    ``n_classes``, ``manifold_dim`` and ``alpha`` determine the difficulty. Training and test points are drawn
    independently from the same manifolds, so the size of one split does not affect the other split.

    Parameters
    ----------
    n_classes
        Number of manifolds, at least 1.
    n_units
        Number of input neurons, at least 1.
    n_steps
        Number of steps per recording, at least 1. Their duration ``dt`` is set in the simulation.
    n_train, n_test
        Number of recordings in each split, at least ``n_classes``. All classes occur equally often, in random order. If
        the number is not a multiple of ``n_classes``, the first classes have one recording more.
    manifold_dim
        Intrinsic dimension of every manifold, at least 1. A larger dimension makes the task harder.
    alpha
        Exponent with which the amplitude falls with frequency, finite and greater than zero. A larger value makes
        the manifolds smoother and the task easier. At 1 and below, 1000 frequencies are used, and generation takes
        seconds instead of a tenth of a second.
    seed
        Seed of the manifolds, the points and their order, an integer of at least 0. If only ``alpha`` changes, the
        frequencies that are used for both values of ``alpha`` keep their random coefficients.

    Returns
    -------
    Dataset
        ``x`` is float32 ``[n, n_steps, n_units]`` with zeros and ones, ``y`` is int32 ``[n]``, and every length is
        ``n_steps``.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If a number is below its limit, or ``alpha`` is NaN or infinite.

    Notes
    -----
    If :math:`z \in [0, 1]^D` are the intrinsic coordinates of a point on a manifold of dimension :math:`D`, coordinate
    :math:`i` of the point in the unit cube is

    .. math::

        f_i(z) = \prod_{d=1}^{D} \sum_{k=1}^{K} \frac{a_{idk}}{k^{\alpha}}
                 \sin\bigl(2 \pi (k \, b_{idk} \, z_d + c_{idk})\bigr)

    where :math:`a`, :math:`b` and :math:`c` are drawn once for each class, uniformly from 0 to 1. The sum contains the
    frequencies whose weight :math:`k^{-\alpha}` is at least 0.001, at most 1000 of them. There are 1000 frequencies for
    alpha 1, 31 for alpha 2, and one for alpha 10 and above. Input neuron :math:`i` fires in step

    .. math::

        \min\Bigl(\Bigl\lfloor n_\text{steps} \frac{f_i - \min f_i}{\max f_i - \min f_i} \Bigr\rfloor,
        \; n_\text{steps} - 1\Bigr)

    The minimum and the maximum of :math:`f_i` are computed for each class on a regular grid of 1001 points along every
    intrinsic dimension. The few coordinates outside of this range are clipped.

    The equation for :math:`f_i(z)` is the equation in the paper. In the package ``randman`` of the same authors, the
    weight of frequency :math:`k` is :math:`1 / ((k + 1)^{\alpha} + 1)` instead. This weight falls more slowly at low
    frequencies. For the same alpha, the manifolds of the package are rougher, so accuracies are not comparable.

    References
    ----------
    F. Zenke, T. P. Vogels, The Remarkable Robustness of Surrogate Gradient Learning for Instilling Complex Function in
    Spiking Neural Networks, Neural Computation 33, 899-925 (2021). Used again by J. Rossbroich, J. Gygax, F. Zenke,
    Fluctuation-driven initialization for spiking neural network training, Neuromorphic Computing and Engineering 2,
    044016 (2022).

    Examples
    --------
    >>> from brainhw.data import randman
    >>> data = randman(n_classes=2, n_units=5, n_steps=50, n_train=100, n_test=40)
    >>> data
    Dataset(randman: 2 classes, licence none needed (generated)
      train Split(100 recordings, x [100, 50, 5], lengths 50 to 50)
      test  Split(40 recordings, x [40, 50, 5], lengths 50 to 50))

    In the first training recording, the five input neurons fire in these steps:

    >>> data.train.x[0].argmax(axis=0).tolist()
    [14, 35, 10, 25, 36]
    """
    n_classes = positive_int(n_classes, call=_CALL, name="n_classes")
    n_units = positive_int(n_units, call=_CALL, name="n_units")
    n_steps = positive_int(n_steps, call=_CALL, name="n_steps")
    n_train = _recordings(n_train, n_classes, "n_train")
    n_test = _recordings(n_test, n_classes, "n_test")
    manifold_dim = positive_int(manifold_dim, call=_CALL, name="manifold_dim")
    alpha = number(alpha, call=_CALL, name="alpha", positive=True)
    sizes = {"n_train": n_train, "n_test": n_test, "n_steps": n_steps, "n_units": n_units, "manifold_dim": manifold_dim}
    sizes["n_classes"] = n_classes
    if (n_train + n_test) * n_steps * n_units > _MOST_NUMBERS or n_classes * manifold_dim * n_units > _MOST_NUMBERS:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"{_CALL}: the data may have at most {_MOST_NUMBERS} values; got {listed}. Use smaller sizes.")
    sequence = np.random.SeedSequence(whole_number(seed, call=_CALL, name="seed"))
    train_source, test_source, *class_sources = sequence.spawn(2 + n_classes)
    manifolds = [_Manifold.draw(source, manifold_dim, n_units, alpha) for source in class_sources]
    return Dataset(
        name="randman",
        train=_split(train_source, manifolds, n_train, n_steps),
        test=_split(test_source, manifolds, n_test, n_steps),
        n_classes=n_classes,
        class_names=tuple(f"manifold {label}" for label in range(n_classes)),
        licence="none needed (generated)",
        citation=(
            "F. Zenke, T. P. Vogels, The Remarkable Robustness of Surrogate Gradient Learning for Instilling Complex "
            "Function in Spiking Neural Networks, Neural Computation 33, 899-925 (2021). DOI 10.1162/neco_a_01367."
        ),
    )
