"""Current-based and adaptive neurons, many steps at once: spikes, states and gradients equal those of single steps."""

from __future__ import annotations

import importlib
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

# Import the module here; `brainhw.transform.rollout` is the function.
layerwise = importlib.import_module("brainhw.transform.rollout")

N_IN, N = 5, 7
SPIKES = {
    "StepPWL": bh.surrogate.StepPWL(),
    "PeriodicExponential": bh.surrogate.PeriodicExponential(0.3),
    "fast_sigmoid": bh.surrogate.fast_sigmoid(3.0),
}
RECORD = ("layers.1.spk", "layers.1.V", "layers.1.V_pre")


def learnt(low: float, high: float, unit: Any, shape: tuple[int, ...]) -> brainstate.nn.Param:
    return brainstate.nn.Param(jnp.linspace(low, high, int(np.prod(shape))).reshape(shape) * unit)


def net(
    kind: str, *, n_synapses: int = 1, recurrent: bool = False, learns: bool = False, seed: int = 0, **options: Any
) -> brainstate.nn.Sequential:
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> u.Quantity:
        return jnp.asarray(rng.normal(0.15, 0.6, shape), jnp.float32) * u.mV

    if learns:
        options |= {
            "tau_mem": learnt(5.0, 30.0, u.ms, (N,)),
            "tau_syn": learnt(3.0, 20.0, u.ms, (1, n_synapses)),
            "V_th": learnt(0.8, 1.2, u.mV, (N,)),
            "bias": brainstate.nn.Param(0.02 * u.mV),
        }
        options |= (
            {"tau_ahp": learnt(10.0, 90.0, u.ms, (1,)), "w_ahp": learnt(-0.5, -0.1, u.mV, (N,))}
            if kind == "ALIF"
            else {}
        )
    layer = {"Cuba": bh.nn.CubaLIFLayer, "ALIF": bh.nn.ALIFLayer}[kind]
    # Weak weights of both signs: otherwise counts without a limit would grow without bound.
    w_rec = jnp.asarray(rng.normal(-0.02, 0.1, (N, N * n_synapses)), jnp.float32) * u.mV if recurrent else None
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(N_IN, N * n_synapses, weight_init=weights(N_IN, N * n_synapses)),
        layer(N, n_synapses, w_rec=w_rec, **options),
        bh.nn.LeakyReadout(N, 3, tau=10 * u.ms, weight_init=weights(N, 3).mantissa),
    )


def inputs(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).random((*shape, N_IN)) < 0.35, jnp.float32)


def run(model: Any, xs: jax.Array, *, fast: bool, **options: Any) -> Any:
    """Return outputs, records, states and gradients."""
    weights = model.states(brainstate.ParamState)

    def loss() -> Any:
        outputs, seen = bh.rollout(model, xs, record=RECORD, layerwise=fast, **options)
        score = (outputs**2).mean() + 0.1 * seen["layers.1.spk"].mean()
        score += sum((0.1 * seen[f"layers.1.{name}"].mantissa ** 2).mean() for name in ("V", "V_pre"))
        return score, (outputs, seen)

    gradients, (outputs, seen) = brainstate.transform.jit(brainstate.transform.grad(loss, weights, has_aux=True))()
    states = {path: state.value for path, state in model.states(brainstate.HiddenState).items()}
    return outputs, seen, states, gradients


def assert_same(model: Any, xs: jax.Array, tolerance: float = 1e-5, **options: Any) -> None:
    with brainstate.environ.context(dt=1.0 * u.ms):
        bh.prepare_net(model, xs.shape[1] if xs.ndim > 2 else None)
        assert layerwise.plan_layerwise(model, xs[0], call="test") is not None
        found, expected = (run(model, xs, fast=fast, **options) for fast in (True, False))
    np.testing.assert_array_equal(found[1]["layers.1.spk"], expected[1]["layers.1.spk"])
    assert float(expected[1]["layers.1.spk"].sum()) > 10
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, one), other in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        largest = float(np.abs(np.asarray(other)).max())
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * largest + 1e-12, err_msg=str(path))


@pytest.mark.parametrize("kind", ["Cuba", "ALIF"])
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("n_synapses", [1, 2])
def test_spikes_states_and_gradients_are_those_of_the_steps(
    kind: str, recurrent: bool, learns: bool, n_synapses: int
) -> None:
    assert_same(net(kind, n_synapses=n_synapses, recurrent=recurrent, learns=learns), inputs(1, 37, 3))


@pytest.mark.slow
@pytest.mark.parametrize("spikes", SPIKES)
@pytest.mark.parametrize("detach_reset", [False, True])
def test_every_spike_function_and_reset(spikes: str, detach_reset: bool) -> None:
    options = {"spk_fun": SPIKES[spikes], "detach_reset": detach_reset, "learns": True, "recurrent": True}
    assert_same(net("ALIF", **options), inputs(2, 30, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"leak": "decays", "alpha": 0.9, "beta": 0.7},
        {"leak": "bitshifts", "dash_mem": 3.0, "dash_syn": 2.0},
        {"max_spikes_per_step": 1},
        {"leak": "decays", "alpha": 0.95, "beta": 0.5},
    ],
)
def test_every_leak_and_limit(options: dict[str, Any]) -> None:
    assert_same(net("Cuba", recurrent=True, **options), inputs(3, 30, 2))
    assert_same(net("ALIF", **options), inputs(4, 50, 3))


def test_neurons_in_a_plane_and_one_sample_without_a_batch() -> None:
    layer = bh.nn.ALIFLayer((2, 3), tau_mem=jnp.linspace(5.0, 20.0, 6).reshape(2, 3) * u.ms)
    xs = jnp.asarray(np.random.default_rng(0).normal(0.3, 0.5, (25, 4, 2, 3))) * u.mV
    with brainstate.environ.context(dt=1.0 * u.ms):
        for given in (xs, xs[:, 0]):
            fast, steps = (bh.rollout(layer, given, layerwise=one)[0] for one in (True, False))
            np.testing.assert_array_equal(fast, steps)
            assert float(fast.sum()) > 5
    assert_same(net("ALIF", learns=True, recurrent=True), inputs(5, 40))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["Cuba", "ALIF"]),
    recurrent=st.booleans(),
    n_synapses=st.integers(1, 3),
    n_steps=st.integers(1, 40),
    batch=st.one_of(st.none(), st.integers(1, 4)),
    numbers=st.sampled_from([1, 100, 2**17]),
    seed=st.integers(0, 99),
)
def test_any_cut_of_any_sequence_gives_the_same_spikes(
    kind: str, recurrent: bool, n_synapses: int, n_steps: int, batch: int | None, numbers: int, seed: int
) -> None:
    model = net(kind, recurrent=recurrent, n_synapses=n_synapses, seed=seed)
    xs = inputs(seed, n_steps) if batch is None else inputs(seed, n_steps, batch)
    with brainstate.environ.context(dt=1.0 * u.ms), pytest.MonkeyPatch.context() as patch:
        patch.setattr(layerwise, "_MAX_VALUES_UNSPLIT", 0)
        patch.setattr(layerwise, "_VALUES_PER_PIECE", numbers)
        fast, steps = (bh.rollout(model, xs, record=RECORD, layerwise=one) for one in (True, False))
    for one, other in zip(jax.tree.leaves(fast[1]), jax.tree.leaves(steps[1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(fast[1]["layers.1.spk"], steps[1]["layers.1.spk"])


@pytest.mark.parametrize("checkpoint", ["auto", 7])
def test_segments_keep_the_gradient(checkpoint: Any) -> None:
    model = net("ALIF", recurrent=True, learns=True)
    assert_same(model, inputs(6, 37, 2), checkpoint=checkpoint)


def test_a_state_of_another_unit_keeps_it_and_begins_the_sequence() -> None:
    model = net("ALIF", recurrent=True)
    xs = inputs(7, 20, 2)
    with brainstate.environ.context(dt=1.0 * u.ms):
        found = []
        for fast in (True, False):
            bh.prepare_net(model, 2)
            layer = model.layers[1]
            layer.V.value = jnp.full((2, N), 4e-4) * u.volt
            layer.I_ahp.value = jnp.full((2, N), -0.2) * u.mV
            layer.spk.value = jnp.ones((2, N))
            outputs = bh.rollout(model, xs, prepare="weights", layerwise=fast)[0]
            found.append((outputs, layer.V.value))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    assert found[0][1].unit == u.volt
    np.testing.assert_allclose(found[0][1].mantissa, found[1][1].mantissa, rtol=1e-5, atol=1e-8)


def test_noise_and_an_own_form_of_the_current_go_step_by_step() -> None:
    class Own(bh.nn.ALIFLayer):
        def own_current(self, spk: jax.Array, dt: u.Quantity) -> u.Quantity:
            return 2 * super().own_current(spk, dt)

    class Adapting(bh.nn.ALIFLayer):
        def threshold(self) -> u.Quantity:
            return 1.0 * u.mV - self.I_ahp.value

    noisy = bh.nn.CubaLIFLayer(N, noise_std=0.5 * u.mV / u.second**0.5)
    with brainstate.environ.context(dt=1.0 * u.ms):
        for layer in (Own(N), noisy, Adapting(N)):
            bh.prepare_net(layer, 2)
            assert layerwise.plan_layerwise(layer, jnp.zeros((2, N)) * u.mV, call="test") is None
        xs = jnp.full((30, 2, N), 0.1) * u.mV
        found = []
        for run in (noisy.update_sequence, lambda xs: jnp.stack([noisy.update(x) for x in xs])):
            bh.prepare_net(noisy, 2)
            brainstate.random.seed(3)
            found.append(run(xs))
        np.testing.assert_array_equal(*found)
        assert float(found[0].sum()) > 5


def test_a_schedule_of_the_surrogate_has_its_gradient() -> None:
    # A learnt slope would be a state that the rules read.
    class Slope(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = brainstate.ParamState(jnp.asarray(3.0))

        def __call__(self, x: jax.Array) -> jax.Array:
            soft = jax.nn.sigmoid(self.slope.value * x)
            return soft + jax.lax.stop_gradient((x >= 0) - soft)

    model = net("ALIF", recurrent=True)
    model.layers[1].spk_fun = Slope()
    assert_same(model, inputs(8, 25, 2), tolerance=3e-5)
