"""Teachers against closed forms, and the features that they learn from."""

from __future__ import annotations

import numpy as np
import pytest

from brainhw.recipe.features import position_means, statistics
from brainhw.recipe.teacher import KernelTeacher, LinearTeacher, _ridge, choose_teacher

RNG = np.random.default_rng(0)


def test_the_leave_one_out_error_is_that_of_leaving_one_out() -> None:
    x, targets = RNG.normal(size=(12, 3)), RNG.normal(size=(12, 2))
    kernel = x @ x.T
    error, alpha = _ridge(kernel, targets)
    ridges = 10.0 ** np.arange(-3, 1.6, 0.5)

    def left_out(ridge: float) -> float:
        misses = []
        for i in range(12):
            rest = np.arange(12) != i
            coefficients = np.linalg.solve((kernel + 1)[np.ix_(rest, rest)] + ridge * np.eye(11), targets[rest])
            misses.append((kernel + 1)[i, rest] @ coefficients - targets[i])
        return float(np.mean(np.square(misses)))

    errors = [left_out(ridge) for ridge in ridges]
    np.testing.assert_allclose(error, min(errors), rtol=1e-6)
    best = ridges[int(np.argmin(errors))]
    np.testing.assert_allclose(alpha, np.linalg.solve(kernel + 1 + best * np.eye(12), targets), rtol=1e-6)


def test_means_of_parts_keep_the_mean_and_split_steps() -> None:
    recording = RNG.normal(size=(7, 2))
    np.testing.assert_allclose(position_means(recording, 7), recording)
    np.testing.assert_allclose(position_means(recording, 3).mean(axis=0), recording.mean(axis=0))
    half = (recording[0] + recording[1] + recording[2] + recording[3] / 2) / 3.5
    np.testing.assert_allclose(position_means(recording, 2)[0], half)
    np.testing.assert_allclose(position_means(recording[:1], 4), recording[[0, 0, 0, 0]])


def test_statistics_know_no_position() -> None:
    recording = RNG.normal(size=(40, 2))
    found = statistics(recording, (1, 2))
    assert found.shape == (11, 2)
    np.testing.assert_allclose(found[0], recording.mean(axis=0))
    np.testing.assert_allclose(found[4], np.quantile(recording, 0.25, axis=0))
    np.testing.assert_allclose(np.exp(found[9]) - 1e-3, np.abs(np.diff(recording, axis=0)).mean(axis=0))
    np.testing.assert_allclose(statistics(recording[::-1], (1, 2)), found)
    assert np.isfinite(statistics(recording[:1], (1, 2))).all()


@pytest.mark.parametrize("sizes", [[6], [4, 2]])
def test_teachers_give_probabilities_and_learn(sizes: list[int]) -> None:
    y = np.arange(60) % 3
    x = RNG.normal(size=(60, 6)) + 2 * np.eye(3)[y].repeat(2, axis=1)
    rng = np.random.default_rng(1)
    for teacher in (KernelTeacher(x, sizes, y, 3, rng), LinearTeacher(x, sizes, y, 3, np.ones(6))):
        p = teacher(x)
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert np.mean(p.argmax(axis=1) == y) > 0.9
        assert teacher.gains.shape == (6,)
        assert teacher.gains.max() > 0


def test_the_linear_teacher_is_at_its_minimum() -> None:
    y = np.arange(40) % 2
    x = RNG.normal(size=(40, 3)) + y[:, None]
    weights = LinearTeacher(x, [3], y, 2, np.ones(3))._weights[0]
    with_one = np.c_[x, np.ones(40)]
    scores = with_one @ weights
    p = np.exp(scores - scores.max(1, keepdims=True))
    gradient = with_one.T @ (p / p.sum(1, keepdims=True) - np.eye(2)[y]) + np.vstack([weights[:-1], np.zeros((1, 2))])
    assert np.abs(gradient).max() < 1e-2


@pytest.mark.slow
def test_the_better_teacher_is_chosen() -> None:
    y = np.arange(80) % 2
    ring = RNG.normal(size=(80, 2))
    ring *= (1 + 2 * y[:, None]) / np.linalg.norm(ring, axis=1, keepdims=True)
    assert isinstance(choose_teacher(ring, [2], y, 2, np.ones(2)), KernelTeacher)
    line = np.c_[y + 0.1 * RNG.normal(size=80), RNG.normal(size=80)]
    assert isinstance(choose_teacher(line, [2], y, 2, np.ones(2)), LinearTeacher)
