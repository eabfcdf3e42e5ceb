"""Seed 001, Rockpool's ``aLIFTorch``: each promise as one test, in brainhw's names.

Names: ``aLIFTorch((N * S, N))`` is ``ALIFLayer(N, S)``, ``threshold`` is ``V_th``, ``vmem``, ``isyn``, ``iahp`` and
``spikes`` are ``V``, ``I_syn``, ``I_ahp`` and ``spk``; one unit of Rockpool's membrane is 1 mV, ``dt`` stands in
``brainstate.environ``, and time is the first axis.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

T, B, N, S = 40, 3, 4, 2
RECORD = (".V", ".I_syn", ".I_ahp", ".irec", ".spk")
TAU_MEM, TAU_AHP = np.array([8.0, 12.0, 20.0, 35.0]), np.array([10.0, 40.0, 80.0, 20.0])
TAU_SYN = np.array([[5.0, 10.0], [6.0, 12.0], [7.0, 14.0], [8.0, 16.0]])
W_AHP, BIAS = np.array([-0.9, -0.5, -0.2, -1.3]), np.array([0.0, 0.05, -0.1, 0.1])
THRESHOLD = np.array([1.0, 0.8, 1.5, 0.6])
W_REC = 0.1 * np.random.default_rng(3).standard_normal((N, N * S))
# Strong enough that neurons often fire twice in a step.
X = 0.35 * (np.random.default_rng(2).random((T, B, N * S)) < 0.5)


@dataclasses.dataclass
class Trace:
    """What the seed's ``forward`` records."""

    spikes: np.ndarray
    V: np.ndarray
    I_syn: np.ndarray
    I_ahp: np.ndarray
    irec: np.ndarray


def forward(x: np.ndarray, w_rec: np.ndarray | None, *, dt: float = 1.0, most: float = np.inf) -> Trace:
    """Run the loop of the page's ``forward`` in plain numpy, without noise."""
    batch = x.shape[1]
    alpha, beta, gamma = np.exp(-dt / TAU_MEM), np.exp(-dt / TAU_SYN), np.exp(-dt / TAU_AHP)
    V, spikes, iahp = np.zeros((batch, N)), np.zeros((batch, N)), np.zeros((batch, N))
    isyn, irec = np.zeros((batch, N, S)), np.zeros((batch, N, S))
    seen: list[list[np.ndarray]] = [[], [], [], [], []]
    for step in x:
        isyn = isyn + step.reshape(batch, N, S)
        if w_rec is not None:
            irec = (spikes @ w_rec).reshape(batch, N, S)
            isyn = isyn + irec
        isyn = isyn * beta
        iahp = (iahp + spikes * W_AHP) * gamma
        V = V * alpha + isyn.sum(2) + iahp + BIAS
        spikes = np.minimum((V >= THRESHOLD) * np.floor(V / THRESHOLD), most)
        V = V - spikes * THRESHOLD
        for kept, value in zip(seen, (spikes, V, isyn, iahp, irec), strict=True):
            kept.append(value)
    return Trace(*(np.stack(kept) for kept in seen))


def layer(**options: Any) -> bh.nn.ALIFLayer:
    parameters: dict[str, Any] = {
        "tau_mem": TAU_MEM * u.ms,
        "tau_syn": TAU_SYN * u.ms,
        "tau_ahp": TAU_AHP * u.ms,
        "w_ahp": W_AHP * u.mV,
        "bias": BIAS * u.mV,
        "V_th": THRESHOLD * u.mV,
    }
    return bh.nn.ALIFLayer(N, S, **(parameters | options))


def check(seen: dict[str, Any], spikes: Any, expected: Trace) -> None:
    np.testing.assert_array_equal(spikes, expected.spikes)
    np.testing.assert_array_equal(seen[".spk"], expected.spikes)
    # Forty steps of float32, each rounding sums of a few mV, against float64.
    for name, values in ((".V", expected.V), (".I_syn", expected.I_syn), (".I_ahp", expected.I_ahp)):
        np.testing.assert_allclose(seen[name].to(u.mV).mantissa, values, rtol=1e-4, atol=4e-5, err_msg=name)
    np.testing.assert_allclose(u.get_mantissa(seen[".irec"]), expected.irec, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module", params=["feed-forward", "recurrent"])
def run(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any], Trace]:
    w_rec = W_REC if request.param == "recurrent" else None
    with brainstate.environ.context(dt=1.0 * u.ms):
        made = layer() if w_rec is None else layer(w_rec=w_rec * u.mV)
        spikes, seen = bh.rollout(made, X * u.mV, record=RECORD)
    return spikes, seen, forward(X, w_rec)


def test_every_state_follows_the_update_equations(run: tuple[Any, dict[str, Any], Trace]) -> None:
    spikes, seen, expected = run
    check(seen, spikes, expected)


def test_output_and_records_have_the_shapes_of_the_page(run: tuple[Any, dict[str, Any], Trace]) -> None:
    # Kept otherwise: time is the first axis, not the second.
    spikes, seen, _ = run
    assert spikes.shape == seen[".spk"].shape == seen[".V"].shape == seen[".I_ahp"].shape == (T, B, N)
    assert seen[".I_syn"].shape == seen[".irec"].shape == (T, B, N, S)


def test_a_neuron_fires_several_times_in_a_step_and_loses_its_threshold_for_each(
    run: tuple[Any, dict[str, Any], Trace],
) -> None:
    spikes, seen, _ = run
    assert spikes.max() >= 2
    assert np.all(np.asarray(seen[".V"].to(u.mV).mantissa) < THRESHOLD)


def test_the_recurrent_record_is_zero_without_recurrent_weights() -> None:
    _, seen = bh.rollout(layer(), X[:3] * u.mV, record=(".irec",))
    assert not np.any(u.get_mantissa(seen[".irec"]))


DEFAULTS = {
    "tau_mem": 20.0 * u.ms,
    "tau_syn": 20.0 * u.ms,
    "tau_ahp": 20.0 * u.ms,
    "bias": 0.0 * u.mV,
    "V_th": 1.0 * u.mV,
    "w_ahp": -0.9 * u.mV,
}


@pytest.mark.parametrize(("name", "default"), DEFAULTS.items(), ids=DEFAULTS)
def test_a_parameter_that_is_not_given_has_the_value_of_the_page(name: str, default: u.Quantity) -> None:
    assert u.math.allclose(getattr(bh.nn.ALIFLayer(3), name), default)


def test_recurrence_noise_limit_and_spike_function_have_the_defaults_of_the_page() -> None:
    made = bh.nn.ALIFLayer(3)
    assert made.recurrent_weight is None  # has_rec=False
    assert made.noise_std is None  # noise_std=0.0
    assert made.max_spikes_per_step is None  # np.inf: not clamped
    assert made.spk_fun == bh.surrogate.StepPWL(window=0.5)
    assert made.leak == "taus"


def test_the_arguments_of_the_page_have_their_names() -> None:
    names = {*inspect.signature(bh.nn.ALIFLayer.__init__).parameters}
    names |= {*inspect.signature(bh.nn.CubaLIFLayer.__init__).parameters}
    assert {"tau_mem", "tau_syn", "tau_ahp", "w_ahp", "w_rec", "bias", "noise_std"} <= names
    # Kept otherwise: threshold, spike_generation_fn, max_spikes_per_dt and shape; has_rec is w_rec=True.
    assert {"V_th", "spk_fun", "max_spikes_per_step", "size", "n_synapses"} <= names


def test_one_number_makes_as_many_synapses_as_neurons_and_two_make_several_each() -> None:
    assert (bh.nn.ALIFLayer(5).in_size, bh.nn.ALIFLayer(5).out_size) == ((5,), (5,))
    assert (bh.nn.ALIFLayer(5, 2).in_size, bh.nn.ALIFLayer(5, 2).out_size) == ((10,), (5,))


@pytest.mark.parametrize("shape", [(N,), (1,), ()], ids=str)
def test_tau_ahp_and_w_ahp_take_one_value_or_one_per_neuron(shape: tuple[int, ...]) -> None:
    tau, w = np.full(shape, 30.0), np.full(shape, -0.7)
    made = bh.nn.ALIFLayer(N, tau_ahp=tau * u.ms, w_ahp=w * u.mV)
    x = jnp.zeros((3, N)).at[0].set(1.2) * u.mV
    _, seen = bh.rollout(made, x, record=(".I_ahp",))
    expected = [0.0, -0.7 * np.exp(-1 / 30), -0.7 * np.exp(-2 / 30)]
    np.testing.assert_allclose(seen[".I_ahp"].mantissa, np.tile(np.array(expected)[:, None], N), rtol=1e-5)


@pytest.mark.no_dt
@pytest.mark.parametrize("dt", [0.5, 2.0])
def test_decays_follow_the_time_step(dt: float) -> None:
    with brainstate.environ.context(dt=dt * u.ms):
        spikes, seen = bh.rollout(layer(w_rec=W_REC * u.mV), X * u.mV, record=RECORD)
    check(seen, spikes, forward(X, W_REC, dt=dt))


def test_gamma_is_the_decay_of_one_step() -> None:
    # Kept otherwise: gamma is an argument with leak="decays" and no attribute of a layer with time constants.
    x = X[:6] * u.mV
    decays = {"alpha": np.exp(-1 / TAU_MEM), "beta": np.exp(-1 / TAU_SYN), "gamma": np.exp(-1 / TAU_AHP)}
    given = {"w_ahp": W_AHP * u.mV, "bias": BIAS * u.mV, "V_th": THRESHOLD * u.mV}
    spikes, _ = bh.rollout(bh.nn.ALIFLayer(N, S, leak="decays", **decays, **given), x)
    np.testing.assert_array_equal(spikes, bh.rollout(layer(), x)[0])


def test_a_spike_is_heard_one_step_later_and_pulls_the_membrane_down() -> None:
    x = jnp.zeros((3, 1)).at[0].set(3.0) * u.mV
    membranes = []
    for w_ahp in (-0.9, 0.0):
        made = bh.nn.ALIFLayer(1, tau_syn=1.0 * u.ms, w_ahp=w_ahp * u.mV)
        spikes, seen = bh.rollout(made, x, record=(".V",))
        assert spikes[0, 0] == 1
        membranes.append(np.asarray(seen[".V"].mantissa)[:, 0])
    assert membranes[0][0] == membranes[1][0]
    np.testing.assert_allclose(membranes[0][1] - membranes[1][1], -0.9 * np.exp(-1 / 20), rtol=1e-4)


def test_the_feedback_lowers_the_firing_rate() -> None:
    with_ahp, without = (float(bh.rollout(layer(w_ahp=w * u.mV), X * u.mV)[0].sum()) for w in (W_AHP, np.zeros(N)))
    assert 0 < with_ahp < 0.8 * without


def test_noise_has_the_stated_standard_deviation_after_one_second() -> None:
    n, steps = 2000, 100
    sigma = 0.5 * u.mV / u.second**0.5
    free = bh.nn.ALIFLayer(n, tau_mem=1e7 * u.ms, noise_std=sigma, V_th=1e6 * u.mV)
    with brainstate.environ.context(dt=10.0 * u.ms):
        bh.rollout(free, jnp.zeros((steps, n)) * u.mV)
    assert float(free.V.value.mantissa.std()) == pytest.approx(0.5, rel=0.06)


def test_without_noise_two_runs_are_equal_to_the_bit() -> None:
    made = layer(w_rec=W_REC * u.mV, noise_std=0.0 * u.mV / u.second**0.5)
    (_, first), (_, again) = (bh.rollout(made, X * u.mV, record=(".V",)) for _ in range(2))
    np.testing.assert_array_equal(first[".V"].mantissa, again[".V"].mantissa)


LIMITS = {"np.inf": np.inf, "Rockpool's 2**16": 2.0**16, "2": 2, "1": 1}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_the_limit_on_spikes_clamps_them(limit: float) -> None:
    strong = 4 * X[:10]
    spikes, seen = bh.rollout(layer(max_spikes_per_step=limit), strong * u.mV, record=RECORD)
    check(seen, spikes, forward(strong, None, most=limit))
    assert spikes.max() == limit if limit <= 2 else spikes.max() > 2


SPIKE_FUNCTIONS = {"StepPWL": bh.surrogate.StepPWL, "PeriodicExponential": bh.surrogate.PeriodicExponential}


@pytest.mark.parametrize("spk_fun", SPIKE_FUNCTIONS.values(), ids=SPIKE_FUNCTIONS)
def test_both_spike_functions_count_alike_and_give_a_gradient_within_their_window(spk_fun: Any) -> None:
    V = jnp.array([-0.4, 0.4, 0.9, 1.0, 2.7])
    np.testing.assert_array_equal(spk_fun()(V, 1.0), [0, 0, 0, 1, 2])
    narrow, wide = (jax.grad(lambda V, w=w: spk_fun(window=w)(V, 1.0).sum())(V) for w in (0.05, 0.7))
    assert narrow[1] < 1e-4
    assert wide[1] > 0.3


def test_recurrent_weights_start_as_those_of_the_page() -> None:
    # Kaiming's uniform numbers, as Rockpool draws them.
    weights = bh.nn.ALIFLayer(100, 2, w_rec=True).recurrent_weight.value.to(u.mV).mantissa
    assert weights.shape == (100, 200)
    assert float(np.abs(weights).max()) == pytest.approx(np.sqrt(6 / 200), rel=1e-3)
    assert abs(float(weights.mean())) < 0.002


def test_recurrent_weights_come_from_the_initialiser_that_is_given() -> None:
    made = bh.nn.ALIFLayer(N, S, w_rec=braintools.init.Constant(0.25 * u.mV))
    np.testing.assert_array_equal(made.recurrent_matrix().to(u.mV).mantissa, np.full((N, N * S), 0.25))


def test_concrete_recurrent_weights_are_taken_with_their_shape_checked() -> None:
    # Kept otherwise: w_rec alone makes the layer recurrent; there it is an error without has_rec=True.
    np.testing.assert_allclose(layer(w_rec=W_REC * u.mV).recurrent_matrix().mantissa, W_REC, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^ALIFLayer: w_rec must have shape \(4, 8\).* got shape \(8, 4\)"):
        layer(w_rec=W_REC.T * u.mV)


def test_parameters_are_those_that_were_given() -> None:
    made = layer()
    for name, value in (("tau_mem", TAU_MEM), ("tau_syn", TAU_SYN), ("tau_ahp", TAU_AHP)):
        np.testing.assert_allclose(getattr(made, name).to(u.ms).mantissa, value, rtol=1e-6)
    for name, value in (("w_ahp", W_AHP), ("bias", BIAS), ("V_th", THRESHOLD)):
        np.testing.assert_allclose(getattr(made, name).to(u.mV).mantissa, value, rtol=1e-6)


def test_time_constants_and_feedback_weights_are_learnt() -> None:
    # Kept otherwise: what is learnt is a Param; recurrent weights are learnt as they are.
    made = layer(
        tau_ahp=brainstate.nn.Param(TAU_AHP * u.ms, t=brainstate.nn.SoftplusT(1.0 * u.ms)),
        w_ahp=brainstate.nn.Param(W_AHP * u.mV),
        w_rec=W_REC * u.mV,
        spk_fun=bh.surrogate.PeriodicExponential(),
    )
    learnt = made.states(brainstate.ParamState)
    assert {path[0] for path in learnt} == {"tau_ahp", "w_ahp", "recurrent_weight"}

    def rate() -> jax.Array:
        return bh.rollout(made, X * u.mV)[0].mean()

    for path, grad in brainstate.transform.jit(brainstate.transform.grad(rate, learnt))().items():
        values = np.asarray(jax.tree.leaves(grad)[0])
        assert np.all(np.isfinite(values)), path
        assert np.any(values != 0), path


def test_an_input_without_a_batch_is_one_sample() -> None:
    # Kept otherwise: two axes are time and channels, without a batch of one in the result.
    alone, _ = bh.rollout(layer(), X[:, 0] * u.mV)
    np.testing.assert_array_equal(alone, forward(X, None).spikes[:, 0])


def test_an_input_that_does_not_divide_by_the_neurons_is_refused_with_the_shape_wanted() -> None:
    with pytest.raises(ValueError, match=r"ALIFLayer.*\b8\b.*\(3, 7\)|ALIFLayer.*\b7\b.*\b8\b"):
        bh.rollout(layer(), X[:, :, :7] * u.mV)


def test_states_stay_for_the_next_call() -> None:
    # Kept otherwise: every sample goes on from its own state; there all go on from that of the first.
    made, expected = layer(w_rec=W_REC * u.mV), forward(X, W_REC).spikes
    first, _ = bh.rollout(made, X[:15] * u.mV)
    second, _ = bh.rollout(made, X[15:] * u.mV, prepare=False)
    np.testing.assert_array_equal(np.concatenate([first, second]), expected)


def test_a_call_starts_from_rest_after_a_reset() -> None:
    made = layer(w_rec=W_REC * u.mV)
    (first, _), (again, _) = (bh.rollout(made, X[:15] * u.mV) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert made.I_ahp.value.shape == (B, N)
    bh.prepare_net(made, 2)
    for name in ("V", "I_syn", "I_ahp", "spk"):
        value = np.asarray(u.get_mantissa(getattr(made, name).value))
        assert value.shape[0] == 2, name
        assert not value.any(), name


def test_the_graph_for_a_mapper_has_the_feedback_as_one_synapse_more() -> None:
    # Kept otherwise: as_graph() is as_lif_with_ahp_synapses(), a layer that runs, and widen_input for its input.
    made = layer(w_rec=W_REC * u.mV)
    graph = made.as_lif_with_ahp_synapses()
    tau_syn_ahp = np.concatenate([TAU_SYN, TAU_AHP[:, None]], axis=1)
    np.testing.assert_allclose(graph.tau_syn.to(u.ms).mantissa, tau_syn_ahp, rtol=1e-6)
    weights = np.asarray(graph.recurrent_matrix().to(u.mV).mantissa).reshape(N, N, S + 1)
    np.testing.assert_allclose(weights[:, :, :S].reshape(N, N * S), W_REC, rtol=1e-6)
    np.testing.assert_allclose(weights[:, :, S], np.diag(W_AHP), rtol=1e-6)
    for name, value in (("tau_mem", TAU_MEM * u.ms), ("V_th", THRESHOLD * u.mV), ("bias", BIAS * u.mV)):
        assert u.math.allclose(getattr(graph, name), value), name


def test_the_graph_takes_the_input_nodes_of_the_layer_alone_and_fires_as_it_does() -> None:
    made = layer(w_rec=W_REC * u.mV)
    graph = made.as_lif_with_ahp_synapses()
    x = made.widen_input(X * u.mV)
    assert x.shape == (T, B, N * (S + 1))
    assert not np.any(x.mantissa.reshape(T, B, N, S + 1)[..., S])
    np.testing.assert_array_equal(bh.rollout(graph, x)[0], forward(X, W_REC).spikes)


def test_the_layer_without_feedback_is_the_one_that_it_is_built_on() -> None:
    # LIFTorch is CubaLIFLayer.
    made = bh.nn.CubaLIFLayer(
        N, S, tau_mem=TAU_MEM * u.ms, tau_syn=TAU_SYN * u.ms, bias=BIAS * u.mV, V_th=THRESHOLD * u.mV
    )
    assert isinstance(layer(), bh.nn.CubaLIFLayer)
    np.testing.assert_array_equal(bh.rollout(made, X * u.mV)[0], bh.rollout(layer(w_ahp=0.0 * u.mV), X * u.mV)[0])
