"""Imported neurons against the exact solution of their equations for a current that is held over each step."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from scipy.linalg import expm

import brainhw as bh
from brainhw.interop.nir import from_nir, to_nir

pytestmark = pytest.mark.no_dt

DT = 0.5e-3
N = 3
TAU, R, V_LEAK = np.array([0.004, 0.02, 0.09]), np.array([1.0, 3.0, 0.5]), np.array([0.1, 0.0, -0.2])
V_TH = np.array([0.8, 1.1, 0.35])
CURRENTS = np.random.default_rng(7).normal(0.9, 1.2, (300, N))


def run(graph: nir.NIRGraph, xs: np.ndarray, dt: float = DT, record: tuple[str, ...] = (), **options):
    net = from_nir(graph, dt=dt * u.second, **options)
    with brainstate.environ.context(dt=dt * 1000 * u.ms):
        ys, seen = bh.rollout(net, jnp.asarray(xs, jnp.float32), record=record)
    return np.asarray(u.get_mantissa(ys)), {name: np.asarray(u.get_mantissa(value)) for name, value in seen.items()}


def exact(matrix: np.ndarray, drive: np.ndarray, xs: np.ndarray, threshold: float | None, dt: float = DT):
    """Solve z' = A z + b x + c for held x by the matrix exponential; the membrane z[0] resets above threshold."""
    size = len(matrix)
    full = np.zeros((size + 2, size + 2))
    full[:size, :size], full[:size, size:] = matrix, drive
    step = expm(full * dt)
    state, membranes, spikes = np.zeros(size), [], []
    for x in xs:
        state = (step @ np.concatenate([state, [x, 1.0]]))[:size]
        membranes.append(state[0])
        spikes.append(threshold is not None and state[0] > threshold)
        if spikes[-1]:
            state = np.concatenate([[0.0], state[1:]])
    return np.array(membranes), np.array(spikes, float)


def graph_of(node: nir.NIRNode) -> nir.NIRGraph:
    return nir.NIRGraph.from_list(node)


def test_lif_follows_the_closed_form_in_membrane_and_spikes() -> None:
    node = nir.LIF(tau=TAU, r=R, v_leak=V_LEAK, v_threshold=V_TH)
    spikes, seen = run(graph_of(node), CURRENTS, record=("lif.V_pre",))
    for i in range(N):
        V, s = exact(np.array([[-1 / TAU[i]]]), np.array([[R[i], V_LEAK[i]]]) / TAU[i], CURRENTS[:, i], V_TH[i])
        np.testing.assert_allclose(seen["lif.V_pre"][:, i], V, atol=2e-5)
        np.testing.assert_array_equal(spikes[:, i], s)
    assert spikes.sum() > 20


@pytest.mark.parametrize("tau_syn", [0.003, 0.02, 0.0200001])
def test_cuba_lif_follows_the_closed_form_of_both_equations_together(tau_syn: float) -> None:
    syn, w_in = np.full(N, tau_syn), np.array([1.0, 2.0, -1.5])
    xs = CURRENTS * np.sign(w_in)
    node = nir.CubaLIF(tau_syn=syn, tau_mem=TAU, r=R, v_leak=V_LEAK, v_threshold=V_TH, w_in=w_in)
    spikes, seen = run(graph_of(node), xs, record=("cubalif.V_pre",))
    for i in range(N):
        matrix = np.array([[-1 / TAU[i], R[i] / TAU[i]], [0, -1 / tau_syn]])
        drive = np.array([[0, V_LEAK[i] / TAU[i]], [w_in[i] / tau_syn, 0]])
        V, s = exact(matrix, drive, xs[:, i], V_TH[i])
        np.testing.assert_allclose(seen["cubalif.V_pre"][:, i], V, atol=2e-5)
        np.testing.assert_array_equal(spikes[:, i], s)
    assert spikes.sum() > 10


def test_integrators_follow_their_closed_forms() -> None:
    nodes = {
        "LI": (nir.LI(tau=TAU, r=R, v_leak=V_LEAK), [[-1 / TAU], [R / TAU, V_LEAK / TAU]]),
        "I": (nir.I(r=R * 40), [[0 * R], [R * 40, 0 * R]]),
    }
    for node, (matrix, drive) in nodes.values():
        ys, _ = run(graph_of(node), CURRENTS)
        for i in range(N):
            V, _ = exact(np.array([[matrix[0][i]]]), np.array([[drive[0][i], drive[1][i]]]), CURRENTS[:, i], None)
            np.testing.assert_allclose(ys[:, i], V, atol=3e-5)
    cuba = nir.CubaLI(tau_syn=TAU[::-1].copy(), tau_mem=TAU, r=R, v_leak=V_LEAK, w_in=np.array([1.0, 0.5, 2.0]))
    ys, _ = run(graph_of(cuba), CURRENTS)
    for i in range(N):
        syn, w = TAU[::-1][i], cuba.w_in[i]
        matrix, drive = [[-1 / TAU[i], R[i] / TAU[i]], [0, -1 / syn]], [[0, V_LEAK[i] / TAU[i]], [w / syn, 0]]
        V, _ = exact(np.array(matrix), np.array(drive), CURRENTS[:, i], None)
        np.testing.assert_allclose(ys[:, i], V, atol=3e-5)


def test_integrate_and_fire_adds_up_and_starts_again() -> None:
    node = nir.IF(r=R * 100, v_threshold=V_TH)
    spikes, seen = run(graph_of(node), CURRENTS, record=("node_if.V_pre",))
    for i in range(N):
        V, s = exact(np.zeros((1, 1)), np.array([[R[i] * 100, 0.0]]), CURRENTS[:, i], V_TH[i])
        np.testing.assert_allclose(seen["node_if.V_pre"][:, i], V, atol=3e-5)
        np.testing.assert_array_equal(spikes[:, i], s)


def test_forward_euler_is_forward_euler() -> None:
    spikes, seen = run(
        graph_of(nir.LIF(tau=TAU, r=R, v_leak=V_LEAK, v_threshold=V_TH)),
        CURRENTS,
        discretisation="euler",
        record=("lif.V_pre",),
    )
    v = np.zeros(N)
    for t, current in enumerate(CURRENTS):
        v = v + DT / TAU * (V_LEAK - v + R * current)
        np.testing.assert_allclose(seen["lif.V_pre"][t], v, atol=2e-5)
        np.testing.assert_array_equal(spikes[t], v > V_TH)
        v = np.where(v > V_TH, 0, v)


@pytest.mark.parametrize("dt", [0.1, 1.0, 5.0, 40.0])
def test_a_standard_lif_settles_at_its_input_after_import_and_after_a_round_trip(dt: float) -> None:
    one = np.ones(1)
    first = graph_of(nir.LIF(tau=0.02 * one, r=one, v_leak=0 * one, v_threshold=one))
    again = to_nir(from_nir(first, dt=dt * u.ms), dt=dt * u.ms)
    assert [type(node).__name__ for node in again.nodes.values()] == ["Input", "LIF", "Output"]
    for graph in (first, again):
        _, seen = run(graph, np.full((int(400 / dt) + 20, 1), 0.5), dt=dt / 1000, record=("lif.V",))
        assert seen["lif.V"][-1, 0] == pytest.approx(0.5, abs=1e-5)


def test_a_resistance_goes_into_the_weights_whatever_it_is() -> None:
    def settles(r: float, weight: float) -> float:
        linear = nir.Linear(weight=np.full((1, 1), weight))
        lif = nir.LIF(tau=np.full(1, 0.01), r=np.full(1, r), v_leak=np.zeros(1), v_threshold=np.full(1, 9.0))
        graph = nir.NIRGraph.from_list(linear, lif)
        return run(graph, np.ones((200, 1)), dt=1e-3, record=("lif.V",))[1]["lif.V"][-1, 0]

    assert settles(1.0, 0.5) == pytest.approx(0.5, abs=1e-5)
    assert settles(10.0, 0.05) == pytest.approx(0.5, abs=1e-5)
    assert settles(0.1, 5.0) == pytest.approx(0.5, abs=1e-5)


def test_what_goes_back_arrives_one_step_later() -> None:
    one = np.ones(1)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([1])}),
        "lif": nir.LIF(tau=0.01 * one, r=one, v_leak=0 * one, v_threshold=0.05 * one),
        "scale": nir.Scale(scale=100 * one),
        "output": nir.Output(output_type={"output": np.array([1])}),
    }
    edges = [("input", "lif"), ("lif", "scale"), ("scale", "lif"), ("lif", "output")]
    spikes, _ = run(nir.NIRGraph(nodes=nodes, edges=edges), np.eye(6, 1), dt=1e-3)
    np.testing.assert_array_equal(spikes[:, 0], np.ones(6))


def test_a_delay_of_whole_steps_a_flatten_and_a_skip_connection_run() -> None:
    shape = np.array([1, 2])
    nodes = {
        "input": nir.Input(input_type={"input": shape}),
        "flat": nir.Flatten(input_type={"input": shape}, start_dim=0),
        "later": nir.Delay(delay=np.array([0.001, 0.003])),
        "output": nir.Output(output_type={"output": np.array([2])}),
    }
    edges = [("input", "flat"), ("flat", "later"), ("later", "output"), ("flat", "output")]
    ys, _ = run(nir.NIRGraph(nodes=nodes, edges=edges), np.arange(1.0, 11.0).reshape(5, 1, 2), dt=1e-3)
    np.testing.assert_array_equal(ys, [[1, 2], [3 + 1, 4], [5 + 3, 6], [7 + 5, 8 + 2], [9 + 7, 10 + 4]])
