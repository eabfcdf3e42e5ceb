"""The options of an import: order of CubaLIF, input and reset of IF. None is ignored in silence."""

from __future__ import annotations

import warnings

import brainstate
import brainunit as u
import nir
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop.nir import NIRError, from_nir, to_nir

pytestmark = pytest.mark.no_dt
ONE = np.ones(1)
DT = 0.1 * u.ms
IMPULSE = np.eye(6, dtype=np.float32)[:, 1:2]


def cuba(threshold: float = 1e6, n: int = 1) -> nir.CubaLIF:
    # A step of 0.1 ms adds the current, and the input to the current, as they are.
    one = np.ones(n)
    return nir.CubaLIF(
        tau_syn=5e-4 * one, tau_mem=1e-3 * one, r=10 * one, w_in=5 * one, v_leak=0 * one, v_threshold=threshold * one
    )


def membrane(graph: nir.NIRGraph, **options) -> np.ndarray:
    net = from_nir(graph, dt=DT, **options)
    with brainstate.environ.context(dt=DT):
        _, seen = bh.rollout(net, IMPULSE, record=("cubalif.V",))
    return np.asarray(seen["cubalif.V"].mantissa)[:, 0]


def spikes(graph: nir.NIRGraph, xs: np.ndarray, dt: u.Quantity, **options) -> np.ndarray:
    with brainstate.environ.context(dt=dt):
        return np.asarray(bh.rollout(from_nir(graph, dt=dt, **options), xs)[0])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"discretisation": "euler"}, [0, 1, 1.7, 2.17, 2.465]),
        ({"discretisation": "euler", "cuba_order": "current-first"}, [0, 1, 1.7, 2.17, 2.465]),
        ({"discretisation": "euler", "cuba_order": "old-current"}, [0, 0, 1, 1.7, 2.17]),
    ],
    ids=str,
)
def test_an_impulse_reaches_the_membrane_in_the_order_that_is_asked_for(options: dict, expected: list) -> None:
    np.testing.assert_allclose(membrane(nir.NIRGraph.from_list(cuba()), **options)[:5], expected, atol=1e-6)


def test_the_exact_solution_lies_between_the_two_orders_of_exact_steps() -> None:
    graph = nir.NIRGraph.from_list(cuba())
    alpha, beta = np.exp(-0.1), np.exp(-0.2)
    # Closed form of both equations for an input of one step.
    held = 10 * 5e-4 * (beta - alpha) / (5e-4 - 1e-3)
    direct = ((1 - alpha) * 10 - held) * 5
    np.testing.assert_allclose(membrane(graph)[:3], [0, direct, alpha * direct + held * (1 - beta) * 5], rtol=1e-5)
    first, old = (membrane(graph, cuba_order=order) for order in ("current-first", "old-current"))
    np.testing.assert_allclose(first[1], 10 * (1 - alpha) * 5 * (1 - beta), rtol=1e-5)
    np.testing.assert_array_equal(first[:-1], old[1:])
    assert np.all(old[1:3] < membrane(graph)[1:3])
    assert np.all(membrane(graph)[1:3] < first[1:3])


def test_together_is_no_order_of_euler_steps() -> None:
    with pytest.raises(ValueError, match="from_nir: cuba_order='together' requires discretisation='exact'"):
        from_nir(nir.NIRGraph.from_list(cuba()), dt=DT, discretisation="euler", cuba_order="together")
    graph = nir.NIRGraph.from_list(cuba())
    graph.nodes["cubalif"].metadata = {"brainhw": {"order": "sideways"}}
    with pytest.raises(NIRError, match=r"cubalif \(CubaLIF\) has the order 'sideways'"):
        from_nir(graph, dt=DT)


@pytest.mark.parametrize("order", ["together", "current-first", "old-current"])
def test_an_imported_cuba_net_goes_out_again_in_its_own_order(order: str) -> None:
    rng = np.random.default_rng(0)
    xs = (rng.random((80, 5)) < 0.4).astype(np.float32)
    weight = rng.normal(0.3, 0.3, (4, 5)).astype(np.float32)
    graph = nir.NIRGraph.from_list(nir.Linear(weight=weight), cuba(1.0, 4))
    how = {"discretisation": "exact" if order == "together" else "euler"}
    net = from_nir(graph, dt=DT, cuba_order=order, **how)
    with brainstate.environ.context(dt=DT):
        expected = np.asarray(bh.rollout(net, xs)[0])
    assert 0 < expected.mean() < 1
    for gain in ("weights", "R"):
        out = to_nir(net, dt=DT, gain=gain, **how)
        node = next(node for node in out.nodes.values() if isinstance(node, nir.CubaLIF))
        assert node.metadata["brainhw"]["order"] == out.metadata["brainhw"]["cuba_order"] == order
        np.testing.assert_array_equal(spikes(out, xs, DT), expected)
    other = "old-current" if order != "old-current" else "current-first"
    with pytest.raises(NIRError, match=f"CubaCurrent\\) solves .* in the order '{order}'; omit cuba_order='{other}'"):
        to_nir(net, dt=DT, cuba_order=other, **how)


def test_cuba_li_goes_out_again() -> None:
    one = np.ones(2)
    node = nir.CubaLI(tau_syn=5e-4 * one, tau_mem=1e-3 * one, r=2 * one, w_in=3 * one, v_leak=0.1 * one)
    xs = np.random.default_rng(0).normal(0, 1, (30, 2)).astype(np.float32)
    net = from_nir(nir.NIRGraph.from_list(node), dt=DT)
    with brainstate.environ.context(dt=DT):
        expected = np.asarray(bh.rollout(net, xs)[0])
    out = to_nir(net, dt=DT)
    assert [type(node).__name__ for node in out.nodes.values()] == ["Input", "CubaLI", "Output"]
    np.testing.assert_allclose(spikes(out, xs, DT), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("reset", "count"), [(None, 6), ("zero", 6), ("subtract", 8)])
def test_an_if_neuron_resets_as_asked_for(reset: str | None, count: int) -> None:
    graph = nir.NIRGraph.from_list(nir.IF(r=ONE, v_threshold=ONE))
    xs = np.full((20, 1), 0.4, np.float32)
    assert spikes(graph, xs, 1 * u.second, reset=reset).sum() == count


def test_an_if_net_that_subtracts_comes_back() -> None:
    graph = nir.NIRGraph.from_list(nir.Linear(weight=np.full((1, 2), 0.3)), nir.IF(r=ONE, v_threshold=ONE))
    xs = np.random.default_rng(0).random((50, 2)).astype(np.float32)
    net = from_nir(graph, dt=DT, reset="subtract", if_input="per-step")
    with brainstate.environ.context(dt=DT):
        expected = np.asarray(bh.rollout(net, xs)[0])
    with pytest.raises(NIRError, match=r"\(IFLayer\) subtracts its threshold"):
        to_nir(net, dt=DT)
    for if_input in ("per-second", "per-step"):
        out = to_nir(net, dt=DT, reset="continuous", if_input=if_input)
        scale = 1 if if_input == "per-step" else 1e4
        np.testing.assert_allclose(out.nodes["linear"].weight, 0.3 * scale, rtol=1e-6)
        np.testing.assert_array_equal(spikes(out, xs, DT), expected)


def test_an_if_net_that_is_silent_for_its_time_step_warns() -> None:
    graph = nir.NIRGraph.from_list(nir.Linear(weight=np.full((1, 3), 0.5)), nir.IF(r=ONE, v_threshold=ONE))
    xs = np.ones((10, 3), np.float32)
    with pytest.warns(UserWarning, match=r"if \(IF\): .*every input is 1, .* 6\.67e\+03 steps .* if_input='per-step'"):
        from_nir(graph, dt=DT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert spikes(graph, xs, DT, if_input="per-second").sum() == 0
        assert spikes(graph, xs, DT, if_input="per-step").sum() == 10
        # With weights per second it fires, and no reader of the equation needs the warning.
        strong = nir.NIRGraph.from_list(nir.Linear(weight=np.full((1, 3), 5e3)), nir.IF(r=ONE, v_threshold=ONE))
        assert spikes(strong, xs, DT).sum() == 10


def test_an_integrator_without_leak_goes_out_as_it_came() -> None:
    net = from_nir(nir.NIRGraph.from_list(nir.I(r=2 * ONE)), dt=DT)
    for gain in ("weights", "R"):
        out = to_nir(net, dt=DT, gain=gain)
        assert any(isinstance(node, nir.I) for node in out.nodes.values())
        np.testing.assert_allclose(spikes(out, np.ones((10, 1), np.float32), DT)[-1], 2e-3, rtol=1e-5)


def test_a_delay_and_a_threshold_go_out_as_they_came() -> None:
    graph = nir.NIRGraph.from_list(nir.Delay(delay=np.array([0, 3e-4])), nir.Threshold(threshold=np.full(2, 0.5)))
    xs = np.random.default_rng(0).random((20, 2)).astype(np.float32)
    out = to_nir(from_nir(graph, dt=DT), dt=DT)
    assert [type(node).__name__ for node in out.nodes.values()] == ["Input", "Delay", "Threshold", "Output"]
    np.testing.assert_array_equal(spikes(out, xs, DT), spikes(graph, xs, DT))
    assert spikes(graph, xs, DT).sum() > 5


@pytest.mark.parametrize("name", ["cuba_order", "if_input"])
def test_a_bad_option_is_named(name: str) -> None:
    graph = nir.NIRGraph.from_list(cuba())
    with pytest.raises(ValueError, match=f"from_nir: {name} must be one of"):
        from_nir(graph, dt=DT, **{name: "other"})
    graph.metadata = {"brainhw": {"if_input": "never"}}
    with pytest.raises(NIRError, match="has if_input = 'never'; pass if_input='per-second'"):
        from_nir(graph, dt=DT)
