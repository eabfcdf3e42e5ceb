from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainhw.data import population_currents

FEATURES = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=st.floats(-3, 3, width=32)
)


@given(FEATURES, st.integers(2, 6))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_currents_lie_between_zero_and_one_and_the_nearest_is_the_strongest(x: np.ndarray, n: int) -> None:
    currents = population_currents(x, n, low=-2, high=2)
    assert currents.shape == (*x.shape[:-1], x.shape[-1] * n)
    assert currents.dtype == np.float32
    assert currents.min() >= 0
    assert currents.max() <= 1
    each = currents.reshape(*x.shape, n)
    away = np.abs(np.clip(x, -2, 2)[..., None] - np.linspace(-2, 2, n))
    strongest = np.take_along_axis(away, each.argmax(axis=-1)[..., None], -1)[..., 0]
    np.testing.assert_allclose(strongest, away.min(axis=-1), atol=1e-3)


def test_a_current_is_the_gaussian_of_its_formula() -> None:
    currents = population_currents([[0.3, 5.0]], 4, low=0, high=6, width=1.5)
    expected = [math.exp(-(((v - c) / 1.5) ** 2) / 2) for v in (0.3, 5.0) for c in (0, 2, 4, 6)]
    np.testing.assert_allclose(currents[0], expected, rtol=1e-6)


def test_a_value_beyond_the_range_counts_as_its_edge() -> None:
    np.testing.assert_array_equal(population_currents([9.0, -9.0], 3), population_currents([1.0, 0.0], 3))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"n_neurons": 1}, "n_neurons must be at least 2.*got 1"),
        ({"n_neurons": 3, "low": 1.0}, "low must be less than high; got low 1 and high 1"),
        ({"n_neurons": 3, "width": 0.0}, "width must be greater than zero; got 0"),
    ],
)
def test_bad_numbers_are_refused(arguments: dict, match: str) -> None:
    with pytest.raises(ValueError, match=f"^population_currents: {match}"):
        population_currents([0.5], **arguments)
