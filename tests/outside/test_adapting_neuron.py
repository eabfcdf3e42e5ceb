"""A neuron from outside the package gets everything that its protocols promise."""

from __future__ import annotations

import sys
from pathlib import Path

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

if str(Path(__file__).parent) not in sys.path:
    sys.path.append(str(Path(__file__).parent))

from adapting_neuron import AdaptingNeuron

import brainhw as bh
from brainhw.nn.protocols import Neuron, SequenceModule, fulfils, runs_whole_sequence

N = 120


def a_net(**options: object) -> brainstate.nn.Sequential:
    brainstate.random.seed(3)
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(40, N), AdaptingNeuron(N, tau=20 * u.ms, **options))


def spikes(steps: int = 80, batch: int = 4) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).random((steps, batch, 40)) < 0.2, jnp.float32)


def test_it_has_the_protocols_of_a_neuron() -> None:
    neuron = AdaptingNeuron(3, tau=20 * u.ms)
    assert all(fulfils(neuron, protocol, call="test") for protocol in (Neuron, SequenceModule))
    assert runs_whole_sequence(neuron, call="test")


def test_rollout_takes_the_fast_path_and_gives_the_spikes_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    net, xs = a_net(), spikes()
    slow, _ = bh.rollout(net, xs, layerwise=False)
    after = {key: state.value for key, state in net.states(brainstate.HiddenState).items()}
    calls = []
    whole = AdaptingNeuron.update_sequence
    monkeypatch.setattr(AdaptingNeuron, "update_sequence", lambda self, xs: calls.append(1) or whole(self, xs))
    fast, _ = bh.rollout(net, xs)
    assert calls
    assert 0 < float(slow.mean()) < 0.5
    np.testing.assert_array_equal(fast, slow)
    for key, state in net.states(brainstate.HiddenState).items():
        np.testing.assert_allclose(u.get_mantissa(state.value), u.get_mantissa(after[key]), rtol=1e-5, atol=1e-6)


def test_every_way_through_time_gives_the_same_spikes() -> None:
    net, xs = a_net(), spikes()
    wanted, seen = bh.rollout(net, xs, record=("layers.1.raised",))
    assert seen["layers.1.raised"].shape == (80, 4, N)
    for loop in (brainstate.transform.for_loop, brainstate.transform.checkpointed_for_loop):
        bh.prepare_net(net, 4)
        np.testing.assert_array_equal(loop(net, xs), wanted)
    np.testing.assert_array_equal(bh.rollout(net, xs, checkpoint=10)[0], wanted)
    step = bh.stream(net, batch_size=4)
    np.testing.assert_array_equal(jnp.stack([step(x) for x in xs]), wanted)


def test_a_spike_raises_the_threshold_and_it_decays() -> None:
    neuron = AdaptingNeuron(1, tau=20 * u.ms, tau_b=50 * u.ms, rise=0.5 * u.mV)
    raised = []
    for drive in (1.5, 0.0, 0.0):
        neuron(jnp.array([drive]) * u.mV)
        raised.append(float(neuron.raised.value.to(u.mV).mantissa[0]))
    np.testing.assert_allclose(raised, 0.5 * np.exp(-np.arange(3) / 50), rtol=1e-6)


@pytest.mark.slow
def test_fluct_init_meets_the_target() -> None:
    net, xs = a_net(), spikes(200, 8)
    report = bh.fluct_init(
        net, [np.swapaxes(np.asarray(xs), 0, 1)], 2.0, families="any", verbose=False, return_report=True
    )
    V = net.layers[1].subthreshold(net.layers[0](xs)).to(u.mV).mantissa
    xi = (1.0 - V.mean((0, 1))) / V.std((0, 1))
    assert float(np.median(xi)) == pytest.approx(2.0, rel=0.05)
    rates = bh.rollout(net, xs)[0].mean((0, 1)) / (1 * u.ms)
    np.testing.assert_allclose(report.layers[0].rates.to(u.Hz).mantissa, rates.to(u.Hz).mantissa, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layerwise", [True, False])
def test_gradients_are_those_of_finite_differences(layerwise: bool) -> None:
    # A smooth spike function makes the whole run smooth.
    net, xs = a_net(spk_fun=lambda v: jax.nn.sigmoid(4 * v)), spikes(20, 2)
    weight = net.layers[0].weight
    start = weight.value.to(u.mV).mantissa
    way = jnp.asarray(np.random.default_rng(1).normal(size=start.shape), jnp.float32)

    def loss(step: jax.Array) -> jax.Array:
        weight.value = (start + step * way) * u.mV
        return bh.rollout(net, xs, layerwise=layerwise)[0].mean()

    slope = brainstate.transform.grad(lambda: loss(scale.value), scale := brainstate.ParamState(jnp.zeros(())))()
    eps = 2e-3
    np.testing.assert_allclose(slope, (loss(eps) - loss(-eps)) / (2 * eps), rtol=1e-2)


def test_formats_refuse_it_by_name(tmp_path: Path) -> None:
    net = a_net()
    pytest.importorskip("nir")
    with pytest.raises(bh.interop.nir.NIRError, match="AdaptingNeuron"):
        bh.interop.nir.to_nir(net, dt=1.0 * u.ms)
    chip = brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(4, 3), bh.nn.H1v1Layer(3, tau=20 * u.ms), AdaptingNeuron(3, tau=20 * u.ms)
    )
    with pytest.raises((TypeError, ValueError), match=r"(?s)check_deployable: .*AdaptingNeuron"):
        bh.deploy.export_bundle(chip, tmp_path / "net.bundle")
    assert not list(tmp_path.iterdir())
