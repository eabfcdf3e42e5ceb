"""Protocols of modules: who fulfils which, and what a layer written outside the package gets by them."""

from __future__ import annotations

from dataclasses import dataclass

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.nn.protocols import (
    HasWeight,
    Neuron,
    Preparable,
    Recurrent,
    Sampled,
    SequenceModule,
    Slot,
    fulfils,
    weight_slot_of,
)
from brainhw.nn.protocols import runs_whole_sequence as whole

MS = 10 * u.ms


@dataclass(frozen=True)
class ToRest(bh.kernel.Firing):
    def after(self, V, spk, V_th):
        return jnp.where(spk > 0, 0.2 * V_th, V)


class Resting(bh.nn.LIFLayer):
    """Resets above zero, rests for two steps, and reads a state where a drive becomes a voltage."""

    refractory_steps = 2

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.gain = brainstate.ShortTermState(jnp.linspace(0.5, 1.5, self.n_neurons))

    def firing(self):
        return ToRest(self.spk_fun, self.reset, self.detach_reset, self.clamped, self.refractory_steps)

    def to_voltage(self, drive):
        return drive * self.gain.value


class Rest(Resting):
    refractory_steps = 0


class Feedback(bh.nn.LIFLayer):
    def recurrent_drive(self, spk):
        return 2 * super().recurrent_drive(spk)


def test_the_layers_of_the_package_fulfil_their_protocols():
    every = {
        bh.nn.LIFSynapse(3, 2): (HasWeight, SequenceModule),
        bh.nn.H1v1Synapse(3, 2): (HasWeight, SequenceModule, Preparable, Sampled),
        bh.nn.H1v2Frontend(): (HasWeight, SequenceModule, Preparable, Sampled),
        bh.nn.LIFLayer(3, MS): (Neuron, Recurrent, SequenceModule),
        bh.nn.H1v1Layer(3, MS): (Neuron, Recurrent, SequenceModule, Preparable, Sampled),
    }
    for module, protocols in every.items():
        for protocol in (HasWeight, Neuron, Preparable, Recurrent, Sampled, SequenceModule):
            assert fulfils(module, protocol, call="t") == (protocol in protocols), (module, protocol)


def test_half_a_protocol_is_named_with_the_missing_members():
    class Half(brainstate.nn.Module):
        def subthreshold(self, xs):
            return xs

        out_size = (3,)

    with pytest.raises(TypeError, match=r"^my call: Half has subthreshold but lacks threshold .*Neuron"):
        fulfils(Half(), Neuron, call="my call")


def test_slots_read_and_write_the_weights():
    pairs = [
        (bh.nn.LIFSynapse(3, 2), u.mV, np.inf, -1),
        (bh.nn.H1v1Synapse(3, 2, weight_bits=5), u.UNITLESS, 0.9, -1),
        (bh.nn.H1v2Frontend(), u.UNITLESS, 1.66, None),
    ]
    for module, unit, limit, out_axis in pairs:
        slot = weight_slot_of(module)
        assert (slot.unit, slot.limit, slot.out_axis) == (unit, limit, out_axis)
        slot.write(jnp.full(slot.value.shape, 0.25))
        np.testing.assert_array_equal(u.get_mantissa(module.weight.value), 0.25)
    assert weight_slot_of(pairs[1][0]).grid.step == pytest.approx(0.06)
    assert bh.nn.LIFLayer(3, MS).recurrent_slot() is None
    assert bh.nn.LIFLayer(3, MS, topology="RC").recurrent_slot().unit == u.mV
    assert bh.nn.H1v1Layer(3, MS, topology="RC").recurrent_slot().limit == 0.9


@pytest.mark.parametrize("unit", [u.mV, u.UNITLESS])
def test_modules_of_brainstate_have_a_slot(unit):
    w_init = brainstate.nn.Linear(3, 2).weight.value["weight"] * unit
    linear = brainstate.nn.Linear(3, 2, w_init=w_init, b_init=jnp.zeros(2) * unit)
    for module in (linear, brainstate.nn.Conv2d((6, 6, 2), 4, 3)):
        slot = weight_slot_of(module)
        assert slot.out_axis == -1
        assert slot.value.shape[-1] == module.out_size[-1]
        slot.write(jnp.ones(slot.value.shape))
        np.testing.assert_array_equal(u.get_mantissa(module.weight.value["weight"]), 1)
        assert u.get_unit(module.weight.value["weight"]) == slot.unit
    assert weight_slot_of(linear).unit == unit
    assert "bias" in linear.weight.value
    assert weight_slot_of(brainstate.nn.MaxPool2d((2, 2))) is None


def test_a_class_can_be_registered():
    class Theirs(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = brainstate.ParamState(jnp.ones((2, 3)))

    weight_slot_of.register(Theirs)(lambda module, **options: Slot(module.w))
    assert weight_slot_of(Theirs()).value.shape == (2, 3)


def test_quiet_switches_rounding_off_and_puts_everything_back():
    synapse = bh.nn.H1v1Synapse(4, 3, weight_bits=3)
    bh.prepare_net(synapse)
    charge = np.asarray(synapse.effective.charge.value.mantissa)
    with synapse.quiet():
        assert synapse.weight_slot().grid is None
        bh.prepare_net(synapse)
        exact = synapse(jnp.eye(4)).mantissa
        np.testing.assert_allclose(exact, synapse.chip.charge(synapse.weight.value).mantissa, rtol=1e-6)
    assert synapse.effective.weight_bits == 3
    np.testing.assert_array_equal(synapse(jnp.eye(4)).mantissa, charge)


@pytest.mark.parametrize("kind", [Resting, Rest])
@pytest.mark.parametrize("topology", ["FF", "RC"])
def test_another_reset_and_a_refractory_time_keep_the_fast_path(kind, topology):
    layer = kind(5, MS, topology=topology)
    assert whole(layer, call="t")
    xs = jnp.asarray(np.random.default_rng(0).random((30, 2, 5)) * 0.8) * u.mV
    found = []
    for fast in (True, False):

        @brainstate.transform.jit
        def run(xs, fast=fast):
            def loss(mantissa):
                bh.prepare_net(layer, 2)
                xs = mantissa * u.mV
                spk = layer.update_sequence(xs) if fast else brainstate.transform.for_loop(layer.update, xs)
                return (spk * jnp.arange(5)).sum(), spk

            return jax.tree.leaves(brainstate.transform.grad(loss, argnums=0, has_aux=True)(xs.mantissa))

        found.append([*run(xs), layer.V.value.mantissa])
    (g_fast, spk_fast, V_fast), (g, spk, V) = found
    np.testing.assert_array_equal(spk_fast, spk)
    np.testing.assert_allclose(V_fast, V, rtol=1e-6)
    np.testing.assert_allclose(g_fast, g, rtol=1e-5, atol=1e-6)
    assert spk.sum() > 5
    if kind is Resting:
        for lag in (1, 2):
            assert not np.any(spk[lag:] * spk[:-lag])


class Drained(Resting):
    """Loses a tenth of its membrane in every step in which it may spike."""

    def firing(self):
        @dataclass(frozen=True)
        class Drain(bh.kernel.Firing):
            def after(self, V, spk, V_th):
                return jnp.where(spk > 0, 0.2 * V_th, 0.9 * V)

        return Drain(self.spk_fun, self.reset, self.detach_reset, self.clamped, self.refractory_steps)


def test_recorded_membranes_of_waiting_neurons_are_those_of_the_steps():
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 5, weight_init=np.full((4, 5), 0.4) * u.mV), Drained(5, MS))
    xs = jnp.asarray(np.random.default_rng(0).random((30, 2, 4)) < 0.5, jnp.float32)
    (spk, fast), (_, steps) = (bh.rollout(net, xs, record=("layers.1.V",), layerwise=way) for way in (True, False))
    assert spk.sum() > 5
    np.testing.assert_allclose(fast["layers.1.V"].mantissa, steps["layers.1.V"].mantissa, rtol=1e-6)


def test_members_that_the_sequence_does_not_call_cost_the_fast_path():
    assert whole(bh.nn.LIFLayer(3, MS, topology="RC"), call="t")
    assert not whole(Feedback(3, MS, topology="RC"), call="t")


def test_a_layer_without_recurrence_need_not_have_recurrent_weights():
    """The base class calls `recurrent_matrix` only for ``'RC'``, so a feed-forward layer may raise there."""

    class FeedForward(bh.nn.LIFLayer):
        def recurrent_matrix(self):
            raise NotImplementedError

    class FeedForwardCuba(bh.nn.CubaLIFLayer):
        def recurrent_matrix(self):
            raise NotImplementedError

    assert whole(FeedForward(3, MS), call="t")
    assert whole(FeedForwardCuba(3, tau_mem=MS, tau_syn=MS), call="t")


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize(("kind", "unit"), [(bh.nn.LIFLayer, u.mV), (bh.nn.H1v1Layer, u.fcoulomb)])
def test_a_layer_of_several_axes_is_the_flat_layer_reshaped(kind, unit):
    size, drives = (3, 2, 4), np.random.default_rng(1).random((20, 2, 24)) * (0.4 if unit == u.mV else 8)
    tau = np.linspace(5, 50, 24)
    tau = np.array([5.0, 10, 20, 50] * 6) if kind is bh.nn.H1v1Layer else tau
    flat, cube = kind(24, tau * u.ms), kind(size, tau.reshape(size) * u.ms)
    assert cube.in_size == cube.out_size == size
    assert cube.n_neurons == 24
    found = []
    for layer, shape in ((flat, (24,)), (cube, size)):
        xs = jnp.asarray(drives.reshape(20, 2, *shape)) * unit
        bh.prepare_net(layer, 2)
        steps = np.stack([layer(x) for x in xs])
        assert layer.V.value.shape == (2, *shape)
        bh.prepare_net(layer, 2)
        np.testing.assert_array_equal(layer.update_sequence(xs), steps)
        membrane = layer.subthreshold(xs).mantissa
        found.append((steps.reshape(20, 2, 24), np.asarray(membrane).reshape(20, 2, 24)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)
    assert found[0][0].sum() > 0
    with pytest.raises(ValueError, match=r"update: the input must have shape \[3, 2, 4\] or \[B, 3, 2, 4\]; got .*24"):
        cube(jnp.ones(24) * unit)
    with pytest.raises(ValueError, match=r"update_sequence: .* \[T, 3, 2, 4\] or \[T, B, 3, 2, 4\]; got shape \(2,\)"):
        cube.update_sequence(jnp.ones(2) * unit)
    with pytest.raises(ValueError, match=r"\(5, 3, 2, 4\) but .* \(2, 3, 2, 4\); call .*batch_size=5"):
        cube(jnp.ones((5, *size)) * unit)


def test_gradients_of_a_parameter_per_neuron_sum_over_the_batch_alone():
    tau = brainstate.nn.Param(np.full((3, 2), 9.0) * u.ms)
    layer = bh.nn.LIFLayer((3, 2), tau)
    xs = jnp.asarray(np.random.default_rng(2).random((12, 4, 3, 2)) * 0.6) * u.mV
    found = []
    for run in (layer.update_sequence, lambda xs: brainstate.transform.for_loop(layer.update, xs)):

        def loss(run=run):
            bh.prepare_net(layer, 4)
            return (run(xs) * jnp.arange(6).reshape(3, 2)).sum()

        gradient = brainstate.transform.grad(loss, layer.states(brainstate.ParamState))()
        found.append(np.asarray(u.get_mantissa(jax.tree.leaves(gradient)[0])))
    assert found[0].shape == (3, 2)
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert np.any(found[0] != 0)
