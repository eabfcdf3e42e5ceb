"""Weights saved with braintools and loaded into a new net give the same spikes."""

from __future__ import annotations

import brainstate
import braintools
import brainunit as u
import numpy as np
import pytest

import brainhw as bh


@pytest.mark.parametrize("kind", ["lif", "H1v1"])
def test_a_fresh_net_with_loaded_weights_gives_the_same_spikes(make_net, make_input, tmp_path, kind: str) -> None:
    xs, net, file = make_input(15), make_net(kind), str(tmp_path / "weights.msgpack")
    for state in net.states(brainstate.ParamState).values():
        state.value = state.value * -0.7
    spikes = bh.rollout(net, xs, key=4)[0]
    braintools.file.msgpack_save(file, net.states(brainstate.ParamState), verbose=False)

    fresh = make_net(kind)
    assert not np.array_equal(bh.rollout(fresh, xs, key=4)[0], spikes)
    braintools.file.msgpack_load(file, fresh.states(brainstate.ParamState), verbose=False)
    np.testing.assert_array_equal(bh.rollout(fresh, xs, key=4)[0], spikes)
    # Loaded weights are numpy arrays; this must make no difference, compiled or not.
    run = brainstate.transform.jit(lambda xs: bh.rollout(fresh, xs, key=4)[0])
    np.testing.assert_array_equal(run(xs), spikes)
    bh.prepare_net(fresh, 2, key=4)
    np.testing.assert_array_equal(fresh(xs[0]), spikes[0])


def test_learnt_time_constants_and_the_readout_are_saved_too(make_input, tmp_path) -> None:
    def build(tau: float) -> brainstate.nn.Sequential:
        brainstate.random.seed(1)
        learnt = brainstate.nn.Param(tau * u.ms, t=brainstate.nn.SoftplusT(1.0 * u.ms))
        layer = bh.nn.LIFLayer(3, tau=learnt)
        return brainstate.nn.Sequential(
            bh.nn.LIFSynapse(4, 3), layer, bh.nn.LeakyReadout(3, 2, tau=tau * u.ms, bias=True)
        )

    xs, file, net = make_input(15), str(tmp_path / "weights.msgpack"), build(7.0)
    params = net.states(brainstate.ParamState)
    assert set(params) == {
        ("layers", 0, "weight"),
        ("layers", 1, "tau", "val"),
        ("layers", 2, "weight"),
        ("layers", 2, "bias"),
    }
    ys = bh.rollout(net, xs, record=("layers.1.V",))[1]["layers.1.V"]
    braintools.file.msgpack_save(file, params, verbose=False)
    fresh = build(12.0)
    braintools.file.msgpack_load(file, fresh.states(brainstate.ParamState), verbose=False)
    again = bh.rollout(fresh, xs, record=("layers.1.V",))[1]["layers.1.V"]
    np.testing.assert_allclose(again.mantissa, ys.mantissa, rtol=1e-6)
    np.testing.assert_allclose(fresh.layers[1].tau.value().to(u.ms).mantissa, 7.0, rtol=1e-6)
