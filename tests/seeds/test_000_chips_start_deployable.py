"""Seed 000 promises nets that a chip takes and no dead neuron, its quick starts with defaults among them."""

from __future__ import annotations

import functools
import re
import warnings
from typing import Any

import brainstate
import brainunit as u
import numpy as np
import pytest
from seed_nets import TinyH1Net, TinyH1v2Net

import brainhw as bh

LIMITS = {"H1v1": 0.9, "H1v2": 1.66}


def spikes_of(rate: float, n_in: int, *, batch: int = 16, steps: int = 200) -> np.ndarray:
    return (np.random.default_rng(0).random((batch, steps, n_in)) < rate * 1e-3).astype(np.float32)


def net_of(family: str, n_in: int, n: int, tau: float) -> brainstate.nn.Sequential:
    synapse, layer = getattr(bh.nn, f"{family}Synapse"), getattr(bh.nn, f"{family}Layer")
    return brainstate.nn.Sequential(synapse(n_in, n, weight_init=np.zeros((n_in, n))), layer(n, tau=tau * u.ms))


def counts(net: Any, x: np.ndarray) -> np.ndarray:
    with brainstate.environ.context(dt=1.0 * u.ms):
        return np.asarray(bh.rollout(net, x.swapaxes(0, 1))[0].sum(axis=(0, 1)))


def initialise(net: Any, data: Any, **options: Any) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as caught, brainstate.environ.context(dt=1.0 * u.ms):
        warnings.simplefilter("always")
        report = bh.fluct_init(net, data, verbose=False, return_report=True, **options)
    return report.layers[0], [str(warning.message) for warning in caught]


QUICK_STARTS = {"H1v1 FF": (TinyH1Net, 16, 1.0), "H1v2 RC": (TinyH1v2Net, 8, 0.85)}
each_start = pytest.mark.parametrize("start", QUICK_STARTS)


@functools.cache
def quick_start(start: str) -> tuple[Any, Any, list[str], np.ndarray]:
    """Run a quick start as it is written, with defaults for all that it does not name."""
    kind, n_in, alpha = QUICK_STARTS[start]
    x = (np.random.default_rng(0).random((64, 100, n_in)) < 0.3).astype(np.float32)
    train_dl = [[x[i : i + 16]] for i in range(0, 64, 16)]
    model = kind()
    layer, warned = initialise(model, train_dl, xi_target=1.0, alpha=alpha, n_batches=4)
    return model, layer, warned, x


@each_start
def test_the_quick_start_draws_weights_that_the_chip_takes(start: str) -> None:
    model, layer, warned, _ = quick_start(start)
    assert layer.out_of_range == 0
    for state in model.states(brainstate.ParamState).values():
        assert float(np.abs(state.value).max()) <= LIMITS[start[:4]]
    assert "weights in range" not in str(bh.check_deployable(model))
    assert not [m for m in warned if "outside" in m]


@each_start
def test_the_quick_start_wakes_every_neuron_within_the_range(start: str) -> None:
    model, _, _, x = quick_start(start)
    assert np.all(counts(model, x) > 0)
    assert float(np.abs(next(iter(model.states(brainstate.ParamState).values())).value).max()) <= LIMITS[start[:4]]


@each_start
def test_the_quick_start_meets_its_target_within_the_range(start: str) -> None:
    _, layer, _, _ = quick_start(start)
    assert layer.xi_median == pytest.approx(1.0, abs=0.15)
    assert layer.out_of_range == 0


def test_the_feed_forward_quick_start_warns_of_nothing() -> None:
    assert quick_start("H1v1 FF")[2] == []


def test_in_range_false_draws_the_weights_as_the_target_asks() -> None:
    layer, warned = initialise(net_of("H1v1", 16, 32, 10.0), [spikes_of(300, 16)], xi_target=1.0, in_range=False)
    assert layer.out_of_range > 100
    assert [m for m in warned if f"{layer.out_of_range} weight(s) are outside [-0.9, 0.9]" in m]


def test_nets_without_a_chip_have_no_range() -> None:
    lif = brainstate.nn.Sequential(bh.nn.LIFSynapse(64, 8), bh.nn.LIFLayer(8, tau=20 * u.ms))
    layer, _ = initialise(lif, [spikes_of(100, 64)], families="any")
    assert layer.out_of_range == 0
    assert layer.xi_median == pytest.approx(2.0, rel=0.1)


# Family, inputs, Hz, ms: no membrane is moved more by spikes than that of equal weights at the limit.
WAKES_IN_RANGE = [
    ("H1v1", 1, 300, 50.0),
    ("H1v1", 2, 300, 20.0),
    ("H1v1", 4, 50, 50.0),
    ("H1v2", 1, 300, 50.0),
    ("H1v2", 2, 150, 50.0),
    ("H1v2", 4, 150, 20.0),
    ("H1v2", 8, 300, 5.0),
]
WAKES_BEYOND = [("H1v1", 2, 150, 20.0), ("H1v1", 1, 300, 20.0), ("H1v2", 2, 150, 20.0), ("H1v2", 1, 150, 20.0)]
SLEEPS = [("H1v1", 1, 20, 5.0), ("H1v1", 2, 20, 20.0)]


Case = tuple[str, int, float, float]


@functools.cache
def started(case: Case, **options: Any) -> tuple[np.ndarray, np.ndarray, Any, list[str]]:
    """Return weights, spike counts, report and warnings of 32 neurons, with defaults for what is not given."""
    family, n_in, rate, tau = case
    net, x = net_of(family, n_in, 32, tau), spikes_of(rate, n_in)
    layer, warned = initialise(net, [x], **options)
    return np.asarray(net.layers[0].weight.value), counts(net, x), layer, warned


def fires_with(weight: float, family: str, n_in: int, rate: float, tau: float) -> bool:
    net = net_of(family, n_in, 1, tau)
    net.layers[0].weight.value = np.full((n_in, 1), weight, np.float32)
    return bool(counts(net, spikes_of(rate, n_in))[0] > 0)


@pytest.mark.slow
@pytest.mark.parametrize("case", WAKES_IN_RANGE, ids=str)
def test_no_neuron_is_dead_where_weights_in_the_range_wake_it(case: Case) -> None:
    assert fires_with(LIMITS[case[0]], *case)
    weights, spikes, layer, _ = started(case)
    assert layer.dead == int(np.sum(spikes == 0)) == 0
    assert np.abs(weights).max() <= LIMITS[case[0]]
    assert len(np.unique(weights)) == weights.size


@pytest.mark.parametrize("case", WAKES_BEYOND, ids=str)
def test_no_neuron_is_dead_where_weights_beyond_the_range_wake_it(case: Case) -> None:
    limit = LIMITS[case[0]]
    assert not fires_with(limit, *case)
    assert fires_with(3 * limit, *case)
    weights, spikes, layer, warned = started(case)
    assert layer.dead == int(np.sum(spikes == 0)) == 0
    assert np.abs(weights).max() <= 3.3 * limit  # a weight that wakes, and a tenth
    assert len(np.unique(weights)) == weights.size
    assert [m for m in warned if f"{np.sum(np.abs(weights) > limit)} weight(s)" in m and f"{limit}" in m]


@pytest.mark.parametrize("case", SLEEPS, ids=str)
def test_where_no_weight_wakes_a_neuron_the_warning_says_so_in_numbers(case: Case) -> None:
    assert not fires_with(1000.0, *case)
    _, _, layer, warned = started(case)
    assert layer.dead == 32
    assert [m for m in warned if re.search(r"layer 1: 32\b.*\d", m)]


@pytest.mark.parametrize("case", [("H1v1", 1, 300, 50.0), ("H1v2", 1, 300, 50.0)], ids=str)
def test_one_input_warns_that_it_is_mean_driven_with_defaults(case: Case) -> None:
    warned = started(case)[3]
    assert [m for m in warned if re.search(r"layer 1: \d+ .*mean-driven.*(smaller xi_target|more inputs)", m)]


ADVISED = [(case, {}) for case in (*WAKES_IN_RANGE, *WAKES_BEYOND, *SLEEPS)]
ADVISED += [(case, {"in_range": False}) for case in WAKES_BEYOND]


@pytest.mark.parametrize(("case", "options"), ADVISED, ids=str)
def test_no_call_advises_a_smaller_and_a_larger_target(case: Case, options: dict[str, bool]) -> None:
    text = " ".join(started(case, **options)[3])
    named = [float(number) for number in re.findall(r"xi_target=(\d+(?:\.\d+)?)", text)]
    smaller = "smaller xi_target" in text or any(number < 2.0 for number in named)
    larger = "larger xi_target" in text or any(number > 2.0 for number in named)
    assert not (smaller and larger), text
