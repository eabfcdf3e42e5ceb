"""Metrics and losses of NaN spikes, of no steps and of targets the wrong way round gave plausible numbers.

Seen in the nonsense walk of issue 17: accuracy of NaN spikes 0.25, of no steps 0.5; `balanced_population_mse` took
NaN, complex numbers and `high` below `low`.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

SPIKES = np.array([[[1.0, 0, 0, 0], [0, 0, 2, 1]], [[0, 1, 0, 0], [0, 0, 0, 1]]], np.float32)
LABELS = np.array([0, 1])
CALLS = {
    "accuracy": lambda spikes: bh.train.accuracy(spikes, LABELS),
    "accuracy_population": lambda spikes: bh.train.accuracy_population(spikes, LABELS, 2),
    "population_votes": lambda spikes: bh.train.population_votes(spikes, 2),
    "balanced_population_mse": lambda spikes: bh.train.balanced_population_mse(spikes, LABELS, 2, high=2.0),
    "firing_rate_target_mse_loss": lambda spikes: bh.train.firing_rate_target_mse_loss([spikes], [0.1], [1.0]),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("spikes", "error", "got"),
    [
        (np.full((5, 2, 4), np.nan), ValueError, "40 NaN"),
        (np.zeros((0, 2, 4)), ValueError, r"\(0, 2, 4\)"),
        (SPIKES * 1j, TypeError, "complex"),
    ],
)
def test_spikes_that_are_none_are_refused(name: str, spikes: np.ndarray, error: type[Exception], got: str) -> None:
    with pytest.raises(error, match=rf"^{name}: spikes.*{got}"):
        CALLS[name](spikes)


@pytest.mark.parametrize(
    ("high", "low", "match"),
    [(1.0, 2.0, "low must not exceed high; got 2 and 1"), (np.nan, 0.0, "high must be finite"), (1j, 0.0, "high.*1j"),
     (1.0, -1.0, "low must be zero or greater; got -1")],
)  # fmt: skip
def test_targets_the_wrong_way_round_are_refused(high, low, match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^balanced_population_mse: {match}"):
        bh.train.balanced_population_mse(SPIKES, LABELS, 2, high=high, low=low)


def test_counts_of_any_type_of_number_are_exact() -> None:
    # 300 and 301 spikes: uint8 wraps at 256, and bfloat16 rounds both to 300.
    spikes = np.zeros((301, 1, 2))
    spikes[:300, 0, 0] = spikes[:, 0, 1] = 1
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32, jnp.uint8, bool):
        assert float(bh.train.accuracy(jnp.asarray(spikes, dtype), np.array([1]))) == 1.0, dtype


def test_a_plain_target_that_was_meant_in_hertz_is_said():
    spikes = np.zeros((100, 1, 2))
    with pytest.warns(UserWarning, match=r"offsets\[0\] is a plain number, .* 20 spikes per step.*20 \* u\.Hz"):
        bh.train.firing_rate_target_mse_loss([spikes], [20.0], [1.0])
