"""fluct_init of less common layers and wirings: links, channel groups, frozen weights, feedback loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

N_IN, N, T, B = 40, 100, 100, 16


@pytest.fixture(scope="module")
def x(poisson: Callable) -> np.ndarray:
    return poisson(200, (B, T, N_IN))


class Linked(brainstate.nn.Module):
    """One pair in which half of the drive is scaled on the way."""

    def __init__(self, synapse: Any, layer: Any) -> None:
        super().__init__()
        self.s1, self.l1 = synapse, layer

    def update(self, x: Any) -> Any:
        return self.l1(self.s1(x) * jnp.where(jnp.arange(N) < N // 2, 0.5, 1.0))


def synapse(n_in: int = N_IN, n: int = N) -> Any:
    return bh.nn.LIFSynapse(n_in, n, weight_init=np.zeros((n_in, n)) * u.mV)


@pytest.mark.slow
def test_recurrent_layer_behind_a_link_shares_its_variance(x: np.ndarray, fluct_run: Callable) -> None:
    layer = bh.nn.LIFLayer(N, tau=20 * u.ms, topology="RC", recurrent_init=np.zeros((N, N)) * u.mV)
    run = fluct_run(Linked(synapse(), layer), [x], families="any", alpha=0.9, xi_target=1.5)
    assert run.layer.xi_median == pytest.approx(1.5, rel=0.1)
    assert run.layer.share_RC == pytest.approx(0.1, rel=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["H1v1", "H1v2"])
def test_chip_layer_behind_a_link_meets_the_target(family: str, x: np.ndarray, fluct_run: Callable) -> None:
    weights = getattr(bh.nn, f"{family}Synapse")(N_IN, N, weight_init=np.zeros((N_IN, N)))
    run = fluct_run(Linked(weights, getattr(bh.nn, f"{family}Layer")(N, tau=20 * u.ms)), [x], xi_target=3.0)
    assert run.layer.xi_median == pytest.approx(3.0, rel=0.05)


class Grouped(brainstate.nn.Module):
    """Two groups of channels, average pooling, a layer of tuple size."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = brainstate.nn.Conv2d((8, 8, 2), 12, 3, groups=2)
        self.pool = brainstate.nn.AvgPool2d(2, 2, channel_axis=-1)
        self.l1 = bh.nn.LIFLayer((4, 4, 12), tau=10 * u.ms)

    def update(self, x: Any) -> Any:
        return self.l1(self.pool(self.c1(x)) * u.mV)


@pytest.mark.slow
def test_groups_of_channels_and_average_pooling_meet_the_target(fluct_run: Callable) -> None:
    x = (np.random.default_rng(0).random((8, 60, 8, 8, 2)) < [0.05, 0.2]).astype(np.float32)
    run = fluct_run(Grouped(), [x], families="any")
    for of_channel in run.layer.xi.reshape(16, 12).T:
        assert np.median(of_channel) == pytest.approx(2.0, rel=0.05)


class Two(brainstate.nn.Module):
    """Two pairs; the spikes of the second are fed back to the input with a gain."""

    def __init__(self, back: float = 0.0) -> None:
        super().__init__()
        self.s1, self.l1 = synapse(), bh.nn.LIFLayer(N, tau=20 * u.ms)
        self.s2, self.l2 = synapse(N), bh.nn.LIFLayer(N, tau=20 * u.ms)
        self.back = back

    def update(self, x: Any) -> Any:
        if self.back:
            x = x + self.back * self.l2.spk.value[..., :N_IN]
        return self.l2(self.s2(self.l1(self.s1(x))))


@pytest.mark.slow
def test_frozen_recurrent_weights_behind_a_link_stay(x: np.ndarray, fluct_run: Callable) -> None:
    frozen = np.full((N, N), 0.01, np.float32) * u.mV
    net = Linked(synapse(), bh.nn.ALIFLayer(N, w_rec=brainstate.nn.Const(frozen)))
    run = fluct_run(net, [x], families="any", xi_target=1.5)
    np.testing.assert_array_equal(net.l1.recurrent_matrix().mantissa, frozen.mantissa)
    assert run.layer.recurrent_spread is None
    assert run.layer.dead < N


@pytest.mark.slow
def test_loop_over_two_pairs_is_drawn_again_until_both_meet_the_target(x: np.ndarray, fluct_run: Callable) -> None:
    run = fluct_run(Two(back=2.0), [x], families="any")
    if not run.told("the feedback loop l1, l2 do not converge"):
        for found in run.report.layers:
            assert found.xi_median == pytest.approx(2.0, rel=0.05)


def test_feedback_that_does_not_settle_is_named(
    x: np.ndarray, fluct_run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainhw.init.fluct._FEEDBACK_ROUNDS", 2)
    run = fluct_run(Two(back=2.0), [x], families="any")
    assert run.told("fluct_init: the weights of the feedback loop l1, l2 do not converge")
    assert run.told("after 2 rounds")
