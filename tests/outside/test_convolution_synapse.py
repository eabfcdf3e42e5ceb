"""A synapse from outside the package, with images in and out, gets everything that its protocols promise."""

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
from convolution_synapse import ConvolutionSynapse

import brainhw as bh
from brainhw.nn.protocols import HasWeight, SequenceModule, fulfils, runs_whole_sequence


def a_net(**options: object) -> brainstate.nn.Sequential:
    brainstate.random.seed(3)
    return brainstate.nn.Sequential(
        ConvolutionSynapse((8, 7, 2), 4), AdaptingNeuron((6, 5, 4), tau=20 * u.ms, **options)
    )


def images(steps: int = 60, batch: int = 3) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).random((steps, batch, 8, 7, 2)) < 0.2, jnp.float32)


def test_it_has_the_protocols_of_a_synapse() -> None:
    synapse = ConvolutionSynapse((8, 7, 2), 4)
    assert all(fulfils(synapse, protocol, call="test") for protocol in (HasWeight, SequenceModule))
    assert runs_whole_sequence(synapse, call="test")
    slot = synapse.weight_slot()
    assert slot.value.shape == (3, 3, 2, 4)
    slot.write(jnp.ones((3, 3, 2, 4)))
    assert float(synapse(jnp.ones((8, 7, 2)))[2, 2, 0].to(u.mV).mantissa) == 18


def test_leading_axes_are_free() -> None:
    synapse, xs = ConvolutionSynapse((8, 7, 2), 4), images()
    np.testing.assert_allclose(
        synapse.update_sequence(xs).mantissa, jnp.stack([synapse(x).mantissa for x in xs]), rtol=1e-5, atol=1e-6
    )
    assert synapse(xs[0, 0]).shape == (6, 5, 4)


def test_rollout_takes_the_fast_path_and_gives_the_spikes_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    net, xs = a_net(), images()
    slow, _ = bh.rollout(net, xs, layerwise=False)
    calls = []
    whole = AdaptingNeuron.update_sequence
    monkeypatch.setattr(AdaptingNeuron, "update_sequence", lambda self, xs: calls.append(1) or whole(self, xs))
    fast, _ = bh.rollout(net, xs)
    assert calls
    assert 0 < float(slow.mean()) < 0.5
    np.testing.assert_array_equal(fast, slow)


def test_every_way_through_time_gives_the_same_spikes() -> None:
    net, xs = a_net(), images()
    wanted, _ = bh.rollout(net, xs)
    for loop in (brainstate.transform.for_loop, brainstate.transform.checkpointed_for_loop):
        bh.prepare_net(net, 3)
        np.testing.assert_array_equal(loop(net, xs), wanted)
    np.testing.assert_array_equal(bh.rollout(net, xs, checkpoint=10)[0], wanted)
    step = bh.stream(net, batch_size=3)
    np.testing.assert_array_equal(jnp.stack([step(x) for x in xs]), wanted)


@pytest.mark.slow
def test_fluct_init_meets_the_target() -> None:
    net, xs = a_net(), images(200, 8)
    bh.fluct_init(net, [np.swapaxes(np.asarray(xs), 0, 1)], 2.0, families="any", verbose=False)
    V = net.layers[1].subthreshold(net.layers[0](xs)).to(u.mV).mantissa
    xi = (1.0 - V.mean((0, 1))) / V.std((0, 1))
    assert xi.size == 120
    assert float(np.median(xi)) == pytest.approx(2.0, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("layerwise", [True, False])
def test_gradients_are_those_of_finite_differences(layerwise: bool) -> None:
    # A smooth spike function makes the whole run smooth.
    net, xs = a_net(spk_fun=lambda v: jax.nn.sigmoid(4 * v)), images(20, 2)
    weight = net.layers[0].weight
    start = weight.value.to(u.mV).mantissa
    way = jnp.asarray(np.random.default_rng(1).normal(size=start.shape), jnp.float32)

    def loss(step: jax.Array) -> jax.Array:
        weight.value = (start + step * way) * u.mV
        return bh.rollout(net, xs, layerwise=layerwise)[0].mean()

    slope = brainstate.transform.grad(lambda: loss(scale.value), scale := brainstate.ParamState(jnp.zeros(())))()
    eps = 2e-3
    np.testing.assert_allclose(slope, (loss(eps) - loss(-eps)) / (2 * eps), rtol=1e-2)


class Flat(brainstate.nn.Module):
    """The network for flat inputs, as formats present them."""

    def __init__(self) -> None:
        super().__init__()
        self.synapse, self.neuron = ConvolutionSynapse((8, 7, 2), 4), AdaptingNeuron((6, 5, 4), tau=20 * u.ms)
        self.in_size, self.out_size = (112,), (6, 5, 4)

    def update(self, x: jax.Array) -> jax.Array:
        return self.neuron(self.synapse(x.reshape(*x.shape[:-1], 8, 7, 2)))


def test_formats_refuse_it_by_name(tmp_path: Path) -> None:
    pytest.importorskip("nir")
    with pytest.raises(bh.interop.nir.NIRError, match="ConvolutionSynapse"):
        bh.interop.nir.to_nir(Flat(), dt=1.0 * u.ms, sample=jnp.ones((2, 112)))
    chip = brainstate.nn.Sequential(
        ConvolutionSynapse((8, 7, 2), 4), bh.nn.H1v1Synapse(4, 3), bh.nn.H1v1Layer(3, tau=20 * u.ms)
    )
    with pytest.raises((TypeError, ValueError), match=r"(?s)check_deployable: .*ConvolutionSynapse"):
        bh.deploy.export_bundle(chip, tmp_path / "net.bundle")
    assert not list(tmp_path.iterdir())
