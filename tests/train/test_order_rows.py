"""An order of rows for blocks of one sign: its share, closed forms, what project_signs then keeps, refusals."""

from __future__ import annotations

import itertools
from typing import Any

import brainunit as u
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import brainhw as bh
from brainhw.chip import H1V1


def kept(weight: np.ndarray, block: int) -> float:
    """Return the share of squares that project_signs leaves, by that call itself."""
    synapse = bh.nn.H1v1Synapse(*weight.shape, chip=H1V1.replace(sign_block=block), weight_init=weight)
    bh.train.project_signs(synapse)
    return float(np.sum(np.asarray(synapse.weight.value, float) ** 2) / np.sum(weight**2))


@pytest.mark.slow
@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 13), st.integers(1, 4)), elements=st.integers(-8, 8).map(lambda n: n / 9)
    ),
    st.integers(1, 6),
)
@settings(derandomize=True, deadline=None, max_examples=40)
def test_it_is_an_order_whose_share_is_what_the_projection_keeps(weight: np.ndarray, block: int) -> None:
    order, share = bh.train.order_rows(weight, block=block, starts=3)
    assert sorted(order) == list(range(len(weight)))
    if not weight.any():
        assert share == 1.0
        return
    assert share == pytest.approx(kept(weight[order], block), rel=1e-5)
    assert share >= kept(weight, block) - 1e-6


@pytest.mark.slow
def test_small_matrices_reach_the_best_of_all_orders() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        weight = rng.uniform(-0.8, 0.8, size=(6, 3)).astype(np.float32)
        best = max(kept(weight[list(order)], 2) for order in itertools.permutations(range(6)))
        assert bh.train.order_rows(weight, block=2)[1] == pytest.approx(best, rel=1e-5)


def test_rows_of_like_sign_find_each_other() -> None:
    rng = np.random.default_rng(1)
    patterns = np.repeat(rng.choice([-1.0, 1.0], size=(8, 40)), 5, axis=0)
    weight = (patterns * rng.uniform(0.1, 0.9, size=patterns.shape))[rng.permutation(40)]
    assert kept(weight.astype(np.float32), 5) < 0.8
    assert bh.train.order_rows(weight, block=5)[1] == 1.0


def test_weights_of_any_size_and_balanced_blocks() -> None:
    weight = np.random.default_rng(4).normal(size=(20, 6))
    order, share = bh.train.order_rows(weight, block=4)
    for scale in (2.0**-600, 2.0**600):
        again = bh.train.order_rows(scale * weight, block=4)
        assert np.array_equal(order, again[0])
        assert share == pytest.approx(again[1])
    # Sums of zero have no sign to begin with.
    assert bh.train.order_rows([[1.0], [-1.0], [1.0], [-1.0]], block=2, starts=0)[1] == 1.0


def test_another_seed_starts_elsewhere_and_the_same_one_does_not() -> None:
    weight = np.random.default_rng(2).normal(size=(40, 30))
    one = bh.train.order_rows(weight, block=5, starts=2, seed=3)
    assert np.array_equal(one[0], bh.train.order_rows(weight, block=5, starts=2, seed=3)[0])
    assert not np.array_equal(one[0], bh.train.order_rows(weight, block=5, starts=2, seed=4)[0])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"weight": np.ones(3)}, r"^order_rows: weight must be a matrix \[n_rows, n_columns\]; got shape \(3,\)"),
        ({"weight": np.ones((0, 3))}, r"got shape \(0, 3\)"),
        ({"weight": np.full((2, 2), np.nan)}, r"^order_rows: weight"),
        ({"weight": np.ones((2, 2)) * u.mV}, r"^order_rows: weight must be an array without a unit.* got values in mV"),
        ({"block": 0}, r"^order_rows: block must be"),
        ({"starts": -1}, r"^order_rows: starts must be"),
        ({"seed": 0.5}, r"^order_rows: seed must be"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        bh.train.order_rows(**{"weight": np.ones((4, 2)), "block": 2, **arguments})
