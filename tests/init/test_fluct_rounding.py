"""Nets with rounded weights: the search ignores the grid, the final measurement uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh

N_IN, N = 30, 12


def build(bits: int | str | None) -> brainstate.nn.Sequential:
    return brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(N_IN, N, weight_init=np.zeros((N_IN, N)), weight_bits=bits),
        bh.nn.H1v1Layer(N, tau=20 * u.ms, topology="RC", recurrent_init=np.zeros((N, N)), weight_bits=bits),
    )


def weights(net: brainstate.nn.Sequential) -> list[np.ndarray]:
    return [np.array(state.value) for state in net.states(brainstate.ParamState).values()]


@pytest.fixture(scope="module")
def data(poisson: Callable) -> list[np.ndarray]:
    return [poisson(60, (6, 100, N_IN))]


@pytest.fixture(scope="module")
def runs(data: list[np.ndarray], fluct_run: Callable) -> dict[Any, Any]:
    """Initialise the same net with and without the chip's grid; some of the weights are out of range."""
    return {bits: fluct_run(build(bits), data, alpha=0.9, xi_target=1.0, in_range=False) for bits in (None, "chip")}


def test_the_master_weights_are_those_of_a_net_that_does_not_round(runs: dict[Any, Any]) -> None:
    for plain, rounding in zip(weights(runs[None].net), weights(runs["chip"].net), strict=True):
        assert np.any(plain)
        np.testing.assert_array_equal(rounding, plain)
    synapse, layer = runs["chip"].net.layers
    assert [synapse.effective.weight_bits, layer.effective.weight_bits] == [5, 5]


def test_weights_beyond_the_range_are_told_as_without_a_grid(runs: dict[Any, Any]) -> None:
    """Rounding clips these weights, so the warning matters even more."""
    assert runs[None].layer.out_of_range == sum(int(np.sum(np.abs(w) > 0.9)) for w in weights(runs[None].net)) > 0
    assert runs["chip"].layer.out_of_range == runs[None].layer.out_of_range
    assert runs["chip"].warnings == runs[None].warnings


def test_a_report_measures_the_rounded_weights(data: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    given = [rng.uniform(-0.7, 0.7, (n, N)).astype(np.float32) for n in (N_IN, N)]
    measured = {}
    for bits in (None, 2, 16):
        net = build(bits)
        net.layers[0].weight.value, net.layers[1].recurrent_weight.value = given
        bh.prepare_net(net)
        (measured[bits],) = bh.init.fluct_report(net, data).layers
        # The call changes nothing: the net is still prepared, with the same weights on the same grid.
        net.layers[0](np.ones(N_IN))
        np.testing.assert_array_equal(net.layers[0].weight.value, given[0])
        np.testing.assert_array_equal(net.layers[1].recurrent_weight.value, given[1])
        assert net.layers[0].effective.weight_bits == net.layers[1].effective.weight_bits == bits
    plain, fine, coarse = measured[None], measured[16], measured[2]
    np.testing.assert_allclose(fine.xi, plain.xi, rtol=1e-2)
    # Two bits have three levels, and more than half of these weights round to zero.
    levels = [0.9 * np.round(w / 0.9) for w in given]
    assert coarse.weight_spread == pytest.approx(levels[0].std(), rel=1e-4)
    assert coarse.recurrent_spread == pytest.approx(levels[1].std(), rel=1e-4)
    assert np.median(np.abs(coarse.xi / plain.xi - 1)) > 0.1
