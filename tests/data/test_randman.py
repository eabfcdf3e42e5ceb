from __future__ import annotations

import importlib
import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainhw.data import Split, randman

# The function shadows its module as an attribute of the package.
MODULE = importlib.import_module("brainhw.data.randman")

SMALL: dict[str, Any] = {"n_classes": 3, "n_units": 6, "n_steps": 40, "n_train": 90, "n_test": 30}


def spike_steps(split: Split) -> np.ndarray:
    return np.asarray(split.x).argmax(axis=1)


def nearest(split: Split, points: np.ndarray) -> np.ndarray:
    distance = np.abs(points[:, None] - spike_steps(split)[None]).sum(axis=-1)
    return split.y[distance.argmin(axis=1)]


def test_the_default_set() -> None:
    data = randman()
    for split, n in ((data.train, 3200), (data.test, 800)):
        x = np.asarray(split.x)
        assert (x.shape, x.dtype, split.y.dtype, split.lengths.dtype) == ((n, 100, 20), np.float32, np.int32, np.int32)
        assert (split.lengths == 100).all()
        assert np.bincount(split.y).tolist() == [n // 10] * 10
    assert data.name == "randman"
    assert data.n_classes == len(data.class_names) == 10
    assert data.rate is None
    assert "Zenke" in data.citation
    # Standardised: the times of the many points of a class fill the recording, up to a narrow crest or two.
    steps = spike_steps(data.train)
    for label in range(10):
        of_class = steps[data.train.y == label]
        assert of_class.min(axis=0).max() <= 10
        assert of_class.max(axis=0).min() >= 89


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    n_classes=st.integers(1, 4),
    n_units=st.integers(1, 5),
    n_steps=st.integers(1, 30),
    extra=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    manifold_dim=st.integers(1, 3),
    alpha=st.floats(1.5, 12),
    seed=st.integers(0, 2**70),
)
def test_every_unit_fires_once_and_classes_are_balanced(
    n_classes: int,
    n_units: int,
    n_steps: int,
    extra: tuple[int, int],
    manifold_dim: int,
    alpha: float,
    seed: int,
) -> None:
    sizes = [n_classes + more for more in extra]
    data = randman(n_classes, n_units, n_steps, *sizes, manifold_dim=manifold_dim, alpha=alpha, seed=seed)
    for split, n in zip((data.train, data.test), sizes, strict=True):
        x = np.asarray(split.x)
        assert x.shape == (n, n_steps, n_units)
        assert set(np.unique(x)) <= {0.0, 1.0}
        assert (x.sum(axis=1) == 1).all()
        expected = [n // n_classes + (label < n % n_classes) for label in range(n_classes)]
        assert np.bincount(split.y, minlength=n_classes).tolist() == expected


def test_the_seed_alone_decides() -> None:
    first, again, other = (randman(**{**SMALL, "seed": seed}) for seed in (3, np.int64(3), 4))
    for half in ("train", "test"):
        one, same, another = (getattr(data, half) for data in (first, again, other))
        np.testing.assert_array_equal(one.x, same.x)
        np.testing.assert_array_equal(one.y, same.y)
        assert not np.array_equal(one.x, another.x)
        assert not np.array_equal(one.y, another.y)


def test_the_global_generator_is_neither_read_nor_set() -> None:
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    first = randman(**SMALL)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(6)
    np.testing.assert_array_equal(randman(**SMALL).train.x, first.train.x)


def test_the_order_is_shuffled() -> None:
    y = randman(**SMALL).train.y
    assert np.abs(np.diff(y)).sum() > 20
    assert not np.array_equal(y, np.arange(len(y)) % 3)


def test_a_half_stays_when_the_other_changes_size() -> None:
    data = randman(**SMALL)
    np.testing.assert_array_equal(randman(**{**SMALL, "n_test": 7}).train.x, data.train.x)
    np.testing.assert_array_equal(randman(**{**SMALL, "n_train": 7}).test.x, data.test.x)


def test_train_and_test_share_manifolds_but_no_points() -> None:
    data = randman(n_train=1000, n_test=200)
    points = spike_steps(data.test)
    assert (nearest(data.train, points) == data.test.y).mean() > 0.95
    # One label in ten is right by chance.
    shuffled = np.random.default_rng(0).permutation(data.train.y)
    guess = nearest(Split(data.train.x, shuffled, data.train.lengths), points)
    assert (guess == data.test.y).mean() < 0.25
    # Another seed has other manifolds.
    stranger = randman(n_train=1000, n_test=200, seed=1)
    assert (nearest(stranger.train, points) == data.test.y).mean() < 0.3
    seen = {tuple(row) for row in spike_steps(data.train)}
    assert np.mean([tuple(row) in seen for row in points]) < 0.2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_larger_alpha_is_smoother(seed: int) -> None:
    # On a curve that wriggles less, the nearest of as many points is nearer.
    gaps = []
    for alpha in (1.0, 2.0, 4.0):
        split = randman(1, 20, 2000, 200, 1, alpha=alpha, seed=seed).train
        steps = spike_steps(split)
        distance = np.abs(steps[:, None] - steps[None]).sum(axis=-1)
        np.fill_diagonal(distance, distance.max())
        gaps.append(np.median(distance.min(axis=1)))
    assert gaps[0] > 4 * gaps[1]
    assert gaps[1] > gaps[2]


def test_a_second_dimension_spreads_the_points() -> None:
    def spread(manifold_dim: int) -> float:
        # Of the directions that 20 units span, as many as the manifold has dimensions matter near one point.
        steps = spike_steps(randman(1, 20, 2000, 1000, 1, manifold_dim=manifold_dim, alpha=10).train).astype(float)
        distance = np.abs(steps - steps[0]).sum(axis=1)
        near = steps[np.argsort(distance)[:20]]
        singular = np.linalg.svd(near - near.mean(axis=0), compute_uv=False)
        return float(singular[1] / singular[0])

    assert spread(1) < 0.1 < spread(2)


def test_one_frequency_has_a_closed_form() -> None:
    # From alpha 10 on every coordinate is a sin(2 pi (b z + c)); amplitude and offset go when it is standardised.
    n_steps = 1000
    data = randman(1, 8, n_steps, 300, 1, alpha=10, seed=7)
    train, _, manifold = np.random.SeedSequence(7).spawn(3)
    _, b, c = np.random.default_rng(manifold).random((1, 3, 1, 8))[0, :, 0]
    rng = np.random.default_rng(train)
    rng.permutation(300)
    z = rng.random((300, 1))
    value = np.sin(2 * np.pi * (b * z + c))
    for unit in range(8):
        # A crest lies on the manifold where b z + c reaches a quarter past a whole number, a trough at three quarters.
        ends = np.sin(2 * np.pi * np.array([c[unit], b[unit] + c[unit]]))
        crest = any(c[unit] <= turn + 0.25 <= b[unit] + c[unit] for turn in range(3))
        trough = any(c[unit] <= turn + 0.75 <= b[unit] + c[unit] for turn in range(3))
        low, high = -1 if trough else ends.min(), 1 if crest else ends.max()
        expected = (value[:, unit] - low) / (high - low) * n_steps
        # A spike lies in the step that holds its time, up to what the grid misses of a crest.
        assert np.abs(spike_steps(data.train)[:, unit] + 0.5 - expected).max() < 0.6


def plain(
    n_classes: int, n_units: int, n_steps: int, n: int, manifold_dim: int, alpha: float, seed: int, grid: int
) -> list[list[int]]:
    """Spike steps of the training half, one number after the other, the extremes over every point of the grid."""
    frequencies = [k for k in range(1, 1001) if k**alpha < 1000.4]
    train, _, *manifolds = np.random.SeedSequence(seed).spawn(n_classes + 2)
    rng = np.random.default_rng(train)
    y = rng.permutation(np.arange(n) % n_classes)
    z = rng.random((n, manifold_dim))

    def coordinate(drawn: np.ndarray, unit: int, point: tuple[float, ...]) -> float:
        product = 1.0
        for d, at in enumerate(point):
            total = 0.0
            for k in frequencies:
                a, b, c = (float(drawn[k - 1, which, d, unit]) for which in range(3))
                total += a / k**alpha * math.sin(2 * math.pi * (k * b * at + c))
            product *= total
        return product

    rows: list[list[int]] = [[] for _ in range(n)]
    for label in range(n_classes):
        drawn = np.random.default_rng(manifolds[label]).random((len(frequencies), 3, manifold_dim, n_units))
        for unit in range(n_units):
            places = itertools.product([i / (grid - 1) for i in range(grid)], repeat=manifold_dim)
            values = [coordinate(drawn, unit, place) for place in places]
            low, high = min(values), max(values)
            for row in range(n):
                if y[row] == label:
                    time = (coordinate(drawn, unit, tuple(z[row])) - low) / (high - low)
                    rows[row].append(min(max(math.floor(time * n_steps), 0), n_steps - 1))
    return rows


@pytest.mark.parametrize(
    ("manifold_dim", "alpha", "grid"), [(1, 2.0, 101), (2, 2.0, 13), (2, 3.0, 21), (3, 5.5, 9), (1, 1.0, 5)]
)
def test_plain_loops_give_the_same(monkeypatch: pytest.MonkeyPatch, manifold_dim: int, alpha: float, grid: int) -> None:
    monkeypatch.setattr(MODULE, "_GRID_POINTS", grid)
    data = randman(2, 3, 50, 12, 2, manifold_dim=manifold_dim, alpha=alpha, seed=11)
    assert spike_steps(data.train).tolist() == plain(2, 3, 50, 12, manifold_dim, alpha, 11, grid)


def test_extremes_hardly_depend_on_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    before = spike_steps(randman(**SMALL).train)
    monkeypatch.setattr(MODULE, "_GRID_POINTS", 8001)
    assert np.abs(spike_steps(randman(**SMALL).train) - before).max() <= 1


@pytest.mark.parametrize("alpha", [5e-324, 0.5, 1e6, 1e308])
def test_an_extreme_alpha_gives_spikes_and_no_warning(alpha: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = randman(2, 3, 20, 4, 4, alpha=alpha)
    assert (np.asarray(data.train.x).sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("alpha", "frequencies"), [(0.5, 1000), (1, 1000), (1.5, 100), (2, 31), (3, 10), (9.9, 2), (10, 1)]
)
def test_weights_of_at_least_a_thousandth_are_kept(alpha: float, frequencies: int) -> None:
    assert MODULE._cutoff(alpha) == frequencies


@pytest.mark.parametrize("name", ["n_classes", "n_units", "n_steps", "n_train", "n_test", "manifold_dim"])
def test_sizes_are_positive_whole_numbers(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^randman: {name} must be at least 1; got 0\.$"):
        randman(**{**SMALL, name: 0})
    with pytest.raises(TypeError, match=rf"^randman: {name} must be an integer; got 2\.5\.$"):
        randman(**{**SMALL, name: 2.5})
    with pytest.raises(ValueError, match=rf"^randman: {name} must be at least 1; got True\.$"):
        randman(**{**SMALL, name: True})


@pytest.mark.parametrize("name", ["n_train", "n_test"])
def test_each_half_holds_every_class(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^randman: {name} must be at least n_classes, 3, .*; got 2\.$"):
        randman(**{**SMALL, name: 2})


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("alpha", 0, ValueError, "must be greater than zero; got 0"),
        ("alpha", -1.0, ValueError, "must be greater than zero; got -1"),
        ("alpha", math.nan, ValueError, "must be finite"),
        ("alpha", math.inf, ValueError, "must be finite"),
        ("alpha", "2", TypeError, "must be a number; got '2'"),
        ("seed", -1, ValueError, "must be at least 0; got -1"),
        ("seed", True, ValueError, "must be at least 0; got True"),
        ("seed", 0.5, TypeError, r"must be an integer; got 0\.5"),
        ("seed", None, TypeError, "must be an integer; got None"),
    ],
)
def test_other_arguments_are_checked(name: str, value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf"^randman: {name} {message}"):
        randman(**{**SMALL, name: value})
