"""Which class a network chooses, what it could not say, and recordings of different lengths."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainhw as bh


def spikes_of(*neurons: tuple[int, ...], n_steps: int = 6) -> np.ndarray:
    """Return ``[T, 1, N]`` with spikes of each neuron at the steps given."""
    spikes = np.zeros((n_steps, 1, len(neurons)), np.float32)
    for i, steps in enumerate(neurons):
        spikes[list(steps), 0, i] = 1
    return spikes


@pytest.mark.parametrize(
    ("neurons", "expected"),
    [
        (((0, 1), (5,)), (0, False, False, False)),
        (((5,), (0, 1)), (1, False, False, False)),
        (((2, 3), (0, 4)), (1, True, False, False)),  # 5 against 4
        (((0, 4), (2, 3)), (0, True, False, False)),
        (((0, 4), (1, 3)), (0, True, True, False)),
        (((), ()), (0, True, True, True)),
    ],
)
def test_more_spikes_win_then_earlier_ones(neurons: Any, expected: tuple[Any, ...]) -> None:
    decision = bh.train.decide(spikes_of(*neurons))
    assert tuple(part.item() for part in decision) == expected


def test_populations_decide_together() -> None:
    spikes = spikes_of((0,), (5,), (1,), (3,))  # 5 against 4, two neurons for each class
    assert bh.train.decide(spikes, 2).predicted.tolist() == [1]
    assert float(bh.train.accuracy_population(spikes, jnp.array([1]), 2)) == 1.0


def test_a_number_of_classes_may_be_an_array_without_axes() -> None:
    spikes = jnp.zeros((3, 2, 4)).at[0, :, 2].set(1)
    assert bh.train.decide(spikes, np.array(2)).predicted.tolist() == [1, 1]
    assert bh.train.accuracy_population(spikes, np.array([1, 1]), n_classes=np.array(2)) == 1


def test_half_precision_counts_exactly() -> None:
    # In bfloat16 no count passes 256.
    spikes = jnp.ones((600, 1, 2), jnp.bfloat16).at[599, 0, 0].set(0)
    assert bh.train.decide(spikes).predicted.tolist() == [1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 3))
def test_decisions_are_those_of_numpy(seed: int, n_classes: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    spikes = (rng.random((7, 5, n_classes * size)) < 0.3).astype(np.float32)
    lengths = rng.integers(1, 8, 5)
    real = np.where(np.arange(7)[:, None, None] < lengths[:, None], spikes, 0)
    of_class = real.reshape(7, 5, n_classes, size).sum(-1)
    keys = [
        [(-n, t) for n, t in zip(c, w, strict=True)]
        for c, w in zip(of_class.sum(0), np.einsum("t,tbc->bc", np.arange(7), of_class), strict=True)
    ]
    found = bh.train.decide(jnp.asarray(spikes), n_classes, lengths=jnp.asarray(lengths))
    assert found.predicted.tolist() == [min(range(n_classes), key=lambda c, k=k: (k[c], c)) for k in keys]
    assert found.tied.tolist() == [sum(n == min(a for a, _ in k) for n, _ in k) > 1 for k in keys]
    assert found.undecided.tolist() == [k.count(min(k)) > 1 for k in keys]
    assert found.silent.tolist() == (real.sum((0, 2)) == 0).tolist()


def test_a_report_counts() -> None:
    spikes = np.concatenate(
        [spikes_of((0,), (), ()), spikes_of((), (1,), ()), spikes_of((), (), ()), spikes_of((2,), (1,), ())], axis=1
    )
    report = bh.train.class_report(spikes, jnp.array([0, 1, 2, 0]))
    assert report.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert (report.accuracy, report.silent, report.tied, report.undecided) == (0.5, 1, 1, 0)
    assert report.recall.tolist() == [0.5, 1.0, 0.0]
    assert report.never_predicted == (2,)
    text = str(report)
    for part in (
        "1 of 4 recordings have no output spike",
        "1 of 4 recordings tie",
        "never predicted: class 2",
        "50.00% (2 of 4)",
    ):
        assert part in text
    scores = bh.train.class_scores(spikes, jnp.array([0, 1, 2, 0]))
    assert [float(one) for one in scores] == [0.5, 0.25, 0.5, 0.25]


def test_a_report_of_many_classes_shows_the_worst() -> None:
    confusion = np.diag(np.arange(1, 31))
    confusion[7] = np.roll(confusion[7], 1)
    text = str(bh.train.ClassReport(confusion, 0, 0, 0))
    assert "the 20 of 30 classes with the lowest recall" in text
    assert [line.split()[0] for line in text.splitlines() if line.strip().startswith("7 ")] == ["7"]


@pytest.mark.slow
@pytest.mark.parametrize("n_padding", [1, 50])
def test_no_score_depends_on_padding(n_padding: int) -> None:
    rng = np.random.default_rng(1)
    spikes = (rng.random((20, 4, 6)) < 0.3).astype(np.float32)
    lengths = jnp.array([20, 3, 11, 1])
    behind = np.ones((n_padding, 4, 6), np.float32)  # a net may go on firing in the padding
    real = np.where(np.arange(20)[:, None, None] < np.asarray(lengths)[:, None], spikes, 0)
    longer, labels = np.concatenate([spikes, behind]), jnp.array([0, 1, 2, 0])
    with brainstate.environ.context(dt=1.0 * u.ms):
        scores = {
            "votes": lambda s, n: bh.train.population_votes(s, 3, lengths=n),
            "accuracy": lambda s, n: bh.train.accuracy(s, labels, lengths=n),
            "populations": lambda s, n: bh.train.accuracy_population(s, labels, 3, lengths=n),
            "mse": lambda s, n: bh.train.balanced_population_mse(s, labels, 3, high=4, lengths=n),
            "bounds": lambda s, n: bh.train.firing_rate_bounds_loss(s, 1 * u.Hz, 100 * u.Hz, lengths=n),
            "target": lambda s, n: bh.train.firing_rate_target_mse_loss([s], [20 * u.Hz], [50 * u.ms], lengths=n),
        }
        for name, score in scores.items():
            np.testing.assert_allclose(score(longer, lengths), score(spikes, lengths), rtol=1e-6, err_msg=name)
            np.testing.assert_allclose(jax.jit(score)(longer, lengths), score(spikes, lengths), rtol=1e-5, err_msg=name)
        # A count is that of the true steps; a rate is divided by them alone.
        np.testing.assert_allclose(scores["votes"](longer, lengths), bh.train.population_votes(real, 3), rtol=1e-6)
        rate = real.sum() / (6 * 35)
        np.testing.assert_allclose(scores["target"](longer, lengths), ((rate * 1000 - 20) * 0.05) ** 2, rtol=1e-5)


@pytest.mark.parametrize("lengths", [[1, 2], [0, 1, 2, 3], [1, 2, 3, 21], [1.0, 2.0, 3.0, 4.0], "abcd", [[1, 2, 3, 4]]])
def test_bad_lengths_are_named(lengths: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^population_votes: lengths"):
        bh.train.population_votes(np.zeros((20, 4, 6)), 3, lengths=lengths)
