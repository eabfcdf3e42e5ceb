"""Modules of another package: exported by a registered rule, or refused by name."""

from __future__ import annotations

from dataclasses import dataclass

import brainstate
import brainunit as u
import jax.numpy as jnp
import nir
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop.nir import NIRError, Weights, from_nir, register_export, register_import, to_nir

DT = 1.0 * u.ms
XS = (np.random.default_rng(2).random((50, 3)) < 0.5).astype(np.float32)
SHARE = 0.875


class Outside(brainstate.nn.Dynamics):
    """Neurons that keep a share of their membrane and reset to zero."""

    def __init__(self, n: int) -> None:
        super().__init__((n,))
        self.out_size = (n,)
        self.init_state()

    def init_state(self, batch_size=None, **kwargs) -> None:
        shape = self.in_size if batch_size is None else (batch_size, *self.in_size)
        self.V = brainstate.HiddenState(jnp.zeros(shape) * u.mV)

    def reset_state(self, batch_size=None, **kwargs) -> None:
        shape = self.in_size if batch_size is None else (batch_size, *self.in_size)
        self.V.value = jnp.zeros(shape) * u.mV

    def threshold(self) -> u.Quantity:
        return 1.0 * u.mV

    def update(self, x):
        V = SHARE * self.V.value + x
        spk = (self.threshold() <= V).astype(jnp.float32)
        self.V.value = V * (1 - spk)
        return spk


class Halves(brainstate.nn.Module):
    """A synapse that brings each neuron half a millivolt of each input, and a constant."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.in_size, self.out_size = (n_in,), (n_out,)

    def update(self, x):
        return (jnp.sum(x, -1, keepdims=True) * jnp.full(self.out_size, 0.25) + 0.125) * u.mV


class Unknown(Outside):
    """A neuron that no rule is registered for, since it changes the step of one that has a rule."""

    def update(self, x):
        return super().update(2 * x)


class Stranger(Halves):
    """A subclass that changes nothing."""


class Unregistered(brainstate.nn.Module):
    in_size = out_size = (3,)

    def update(self, x):
        return 2 * x


@register_export(Outside)
def outside(module, at):
    n = module.out_size[-1]
    if at.options.how != "exact":
        at.refuse("is written for the exact discretisation only; pass discretisation='exact'.")
        return None
    beta = np.full(n, SHARE)
    factor, r = at.gains(beta)
    below = np.nextafter(np.float32(1), np.float32(0)) / at.options.millivolts
    tau = -at.seconds / np.log(beta)
    zeros = np.zeros(n)
    node = at.nir.LIF(tau=tau, r=r, v_leak=zeros, v_threshold=np.full(n, below), v_reset=zeros)
    return at.add(node, at.source(factor, voltage=True))


@register_export(Halves)
def halves(module, at):
    return Weights(np.full((module.out_size[-1], module.in_size[-1]), 0.25), np.full(module.out_size[-1], 0.125))


@pytest.mark.parametrize("options", [{}, {"gain": "R"}, {"voltage_unit": u.volt}], ids=str)
@pytest.mark.parametrize("synapse", [Halves, Stranger])
def test_a_neuron_and_a_synapse_from_outside_come_back_with_the_same_spikes(synapse, options) -> None:
    net = brainstate.nn.Sequential(synapse(3, 2), Outside(2))
    graph = to_nir(net, dt=DT, **options)
    assert [type(node).__name__ for node in graph.nodes.values()] == ["Input", "Affine", "LIF", "Output"]
    assert graph.nodes["layers_0"].metadata["brainhw"]["kind"] == synapse.__name__
    spikes, again = (np.asarray(bh.rollout(each, XS)[0]) for each in (net, from_nir(graph, dt=DT)))
    assert 0 < spikes.mean() < 1
    np.testing.assert_array_equal(spikes, again)


@pytest.mark.parametrize(
    ("layer", "options", "words"),
    [
        (Outside, {"discretisation": "euler"}, r"layers\.1 \(Outside\) is written for the exact discretisation only"),
        (Unknown, {}, r"layers\.1 \(Unknown\) overrides a member of the class.*register_export"),
    ],
)
def test_what_a_rule_refuses_and_a_changed_class_are_named(layer, options, words) -> None:
    with pytest.raises(NIRError, match=words):
        to_nir(brainstate.nn.Sequential(Halves(3, 2), layer(2)), dt=DT, **options)


def test_a_class_without_a_rule_is_named_with_every_other_problem() -> None:
    net = brainstate.nn.Sequential(Unregistered(), bh.nn.LIFSynapse(3, 2), bh.nn.LIFLayer(2, tau=9 * u.ms))
    with pytest.raises(NIRError, match="to_nir: 2 problems") as refusal:
        to_nir(net, dt=DT)
    first, second = refusal.value.problems
    assert first.startswith("layers.0 (Unregistered) has no export rule")
    assert second.startswith("layers.2 (LIFLayer) subtracts its threshold")


def test_a_registration_or_a_rule_with_a_mistake_is_named() -> None:
    with pytest.raises(TypeError, match=r"register_export: cls must be a subclass of brainstate\.nn\.Module; got 3"):
        register_export(3)
    with pytest.raises(TypeError, match=r"register_import: kind must be the name of a node class"):
        register_import(nir.LIF)

    class Forgetful(Unregistered):
        pass

    register_export(Forgetful)(lambda module, at: None)
    with pytest.raises(TypeError, match=r"to_nir: the rule for Forgetful must return Weights or the name of a node"):
        to_nir(brainstate.nn.Sequential(Forgetful()), dt=DT)


@dataclass(eq=False)
class Square(nir.NIRNode):
    """A node from outside."""

    power: np.ndarray

    def __post_init__(self) -> None:
        self.input_type, self.output_type = {"input": np.array([3])}, {"output": np.array([3])}


class Power(brainstate.nn.Module):
    def __init__(self, power) -> None:
        super().__init__()
        self.in_size = self.out_size = (len(power),)
        self.power = jnp.asarray(power)

    def update(self, x):
        return x**self.power


def test_a_node_from_outside_is_imported_by_its_rule_and_its_arrays_are_checked() -> None:
    register_import("Square", arrays=("power",))(lambda builder, name, node: builder.put(name, Power(node.power)))
    graph = nir.NIRGraph.from_list(Square(np.array([1.0, 2.0, 3.0])))
    np.testing.assert_array_equal(bh.rollout(from_nir(graph, dt=DT), 2 * np.ones((1, 3), np.float32))[0], [[2, 4, 8]])
    with pytest.raises(NIRError, match=r"square \(Square\) has NaN .* in power"):
        from_nir(nir.NIRGraph.from_list(Square(np.full(3, np.nan))), dt=DT)
