"""Every public call that touches a network, broken off at each stage: the network is as it was, and runs as before.

`rollout` inside `jax.disable_jit()` failed and left tracers where the weights had been; their numbers were gone.
"""

from __future__ import annotations

import contextlib
import sys

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop import nir, stablehlo

T, B, N = 8, 2, 4
XS = jnp.asarray(np.random.default_rng(0).random((T, B, N)) < 0.6, jnp.float32)
BATCH = [np.asarray(XS.swapaxes(0, 1))]


class Broken(Exception):
    """The failure that is injected."""


def weights(*shape):
    return np.random.default_rng(len(shape)).normal(0.4, 0.6, shape).astype(np.float32)


def chip():
    """A net on a chip with all that a failure could spoil: a chip in place, rounded weights, states in use."""
    net = brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(N, 5, weight_init=weights(N, 5), weight_bits="chip"),
        bh.nn.H1v2Layer(5, tau=20 * u.ms, topology="RC", recurrent_init=0.2 * weights(5, 5)),
        bh.nn.H1v2Synapse(5, 3, weight_init=weights(5, 3)),
        bh.nn.H1v2Layer(3, tau=10 * u.ms),
    )
    bh.sample_chip(net, 5)
    bh.rollout(net, XS)
    return net


def plain():
    """Layers of every kind that runs without a chip."""
    net = brainstate.nn.Sequential(
        bh.nn.LIFSynapse(N, 5, weight_init=weights(N, 5) * u.mV),
        bh.nn.LIFLayer(5, tau=brainstate.nn.Param(20.0 * u.ms), reset="zero"),
        bh.nn.LIFSynapse(5, 4, weight_init=weights(5, 4) * u.mV),
        bh.nn.ALIFLayer(4, w_rec=0.1 * weights(4, 4) * u.mV),
        bh.nn.LIFSynapse(4, 3, weight_init=weights(4, 3) * u.mV),
        bh.nn.FractionalLIFLayer(3, alpha=0.7, tau=10 * u.ms),
    )
    bh.rollout(net, XS)
    return net


def annealed():
    net = chip()
    net.annealing = bh.train.SignAnnealing(net, 4)
    return net


def scheduled():
    net = plain()
    net.schedule = bh.train.SurrogateSchedule(net.layers[1], "slope", 4, start=1.0, end=3.0)
    return net


def in_jit(net):
    return brainstate.transform.jit(lambda xs: bh.rollout(net, xs)[0])(XS)


def training_step(net):
    parameters = net.states(brainstate.ParamState)

    def loss():
        return jnp.mean(bh.rollout(net, XS)[0])

    return brainstate.transform.jit(lambda: brainstate.transform.grad(loss, parameters)())()  # noqa: PLW0108


def streaming(net):
    step = bh.stream(net, B)
    step(XS[0])
    step(XS[1])
    step.reset()
    step.write_back()


def robust(net):
    return bh.deploy.robustness(net, lambda net: bh.rollout(net, XS)[0].mean(), 2, key=0, pbar=False)


def fluct(net, **options):
    return bh.init.fluct_init(net, BATCH, families="any", verbose=False, **options)


# The calls that change a network for good: broken off, they must have changed nothing.
CHIP = {
    "sample_chip": lambda net: bh.sample_chip(net, 9),
    "nominal_chip": bh.nominal_chip,
    "prepare_net with a key": lambda net: bh.prepare_net(net, B, key=3),
    "rollout with a key": lambda net: bh.rollout(net, XS, key=3),
    "fluct_init": lambda net: fluct(net, in_range=True),
    "clip_weights": bh.train.clip_weights,
    "project_signs": bh.train.project_signs,
    "set_weight_bits": lambda net: bh.deploy.set_weight_bits(net, 3),
    "SignAnnealing": lambda net: bh.train.SignAnnealing(net, 4),
    "robustness": robust,
    "estimate_power": lambda net: bh.deploy.estimate_power(net, XS),
    "check_deployable": bh.deploy.check_deployable,
    "place": bh.deploy.place,
    "describe": bh.deploy.describe,
    "rollout": lambda net: bh.rollout(net, XS),
    "in jit": in_jit,
    "training step": training_step,
    "stream": streaming,
    "export_step": lambda net: stablehlo.export_step(net, jnp.ones((B, N))),
    "plot_weight_histogram": bh.visualize.plot_weight_histogram,
}
PLAIN = {
    "rollout": lambda net: bh.rollout(net, XS),
    "step by step": lambda net: bh.rollout(net, XS, layerwise=False, record=("layers.1.V_pre",)),
    "checkpoint": lambda net: bh.rollout(net, XS, layerwise=False, checkpoint=3),
    "check_finite": lambda net: bh.rollout(net, XS, check_finite=True),
    "in jit": in_jit,
    "training step": training_step,
    "prepare_net": lambda net: bh.prepare_net(net, 3),
    "stream": streaming,
    "trace_step": lambda net: (bh.prepare_net(net, B), bh.transform.trace_step(net, XS[0])),
    "fluct_init": fluct,
    "fluct_report": lambda net: bh.init.fluct_report(net, BATCH, families="any"),
    "kaiming_init": bh.init.kaiming_init,
    "set_fractional_orders": lambda net: bh.set_fractional_orders(net, [0.5]),
    "fractional_summary": bh.fractional_summary,
    "SurrogateSchedule": lambda net: bh.train.SurrogateSchedule(net.layers[1], "slope", 4, start=1.0, end=3.0).step(1),
    "to_nir": lambda net: nir.to_nir(brainstate.nn.Sequential(net.layers[0], net.layers[1]), dt=1 * u.ms),
    "export_step": lambda net: stablehlo.export_step(net, jnp.ones((B, N))),
}


ANNEALED = {
    "annealing.step": lambda net: net.annealing.step(2),
    "annealing.constrain": lambda net: net.annealing.constrain(),
    "annealing.finish": lambda net: net.annealing.finish(),
    "training step": training_step,
}
SCHEDULED = {"schedule.step": lambda net: net.schedule.step(2), "training step": training_step}
ALL = [(chip, CHIP), (plain, PLAIN), (annealed, ANNEALED), (scheduled, SCHEDULED)]


@contextlib.contextmanager
def broken_off(stage, nth, error):
    """Raise ``error`` at the ``nth`` write of a state, call of a module, or preparation of one."""
    owner, name = {
        "write": (brainstate.State, "_write_value"),
        "call": (brainstate.nn.Module, "__call__"),
        "charge": (bh.nn.EffectiveWeight, "refresh"),
    }[stage]
    original, count = getattr(owner, name), [0]

    def failing(self, *given, **options):
        frame, clearing = sys._getframe(1), False
        while frame is not None and not clearing:
            # What puts back is not broken off: nothing could hold against a failure in its own repair.
            clearing = frame.f_code.co_name in ("put_back", "states_restored", "_restored")
            frame = frame.f_back
        count[0] += not clearing
        if count[0] == nth and not clearing:
            count[0] += 1
            raise error
        return original(self, *given, **options)

    setattr(owner, name, failing)
    try:
        yield count
    finally:
        setattr(owner, name, original)


def kept(net):
    """All that a failure must not change: parameters, the chip in place, grids, plain attributes."""
    states = {
        path: jax.tree.map(np.asarray, state.value)
        for path, state in net.states().items()
        if isinstance(state, (brainstate.ParamState, brainstate.LongTermState))
    }
    grids = [(w.weight_bits, w.rounding, w.sign_alpha) for w in net.nodes().values() if hasattr(w, "weight_bits")]
    return states, grids, {path: sorted(vars(node)) for path, node in net.nodes().items()}


def assert_whole(net, before, right):
    for path, state in net.states().items():
        for leaf in jax.tree.leaves(state._value):
            assert not isinstance(leaf, jax.core.Tracer), path
            assert np.isfinite(np.asarray(leaf)).all(), path
    states, grids, names = kept(net)
    old_states, old_grids, old_names = before
    assert grids == old_grids
    assert names == old_names
    for path, value in states.items():
        for new, old in zip(jax.tree.leaves(value), jax.tree.leaves(old_states[path]), strict=True):
            np.testing.assert_array_equal(new, old, err_msg=str(path))
    np.testing.assert_array_equal(bh.rollout(net, XS)[0], right)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stage", ["write", "call", "charge"])
@pytest.mark.parametrize(
    ("make", "call"),
    [pytest.param(make, call, id=f"{make.__name__} {name}") for make, calls in ALL for name, call in calls.items()],
)
def test_a_call_that_is_broken_off_leaves_the_network_as_it_was(make, call, stage):
    net = make()
    before, right = kept(net), np.asarray(bh.rollout(net, XS)[0])
    nth, fired = 1, True
    # At the first write, at the next, and then ever farther, until the call gets through.
    while fired and nth < 20_000:
        fired = break_off(call, net, stage, nth, Broken(f"{stage} {nth}") if nth % 2 else KeyboardInterrupt())
        if fired:
            assert_whole(net, before, right)
        nth += 1 if nth < 4 else nth // 2
    assert not fired


def break_off(call, net, stage, nth, error):
    """Return whether the failure was reached; any other failure is one of the test."""
    with broken_off(stage, nth, error) as count:
        try:
            call(net)
        except BaseException:
            if count[0] <= nth:
                raise
            return True
    return False
