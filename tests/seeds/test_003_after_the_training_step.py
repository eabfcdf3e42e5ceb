"""Seed 003, after its step, which makes states inside ``jit``: evaluations outside equal those of a fresh net.

For H1 nets the step cannot work as written, since charges come from the weights inside the loss: one sentence says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from seed_nets import BATCH, N_IN, N_OUT, N_REC, SNN, STEPS, synapse

import brainhw as bh

X = (np.random.default_rng(7).random((STEPS, BATCH, N_IN)) < 0.2).astype(np.float32)


def h1_pair() -> tuple[Any, Any]:
    return bh.nn.H1v1Synapse(N_IN, N_REC), bh.nn.H1v1Layer(N_REC, tau=20.0 * u.ms)


RELU = braintools.surrogate.ReluGrad
NETS: dict[str, Callable[[], Any]] = {
    "LIF": lambda: SNN(synapse(), bh.nn.LIFLayer(N_REC, tau=20.0 * u.ms, spk_fun=RELU())),
    "recurrent aLIF": lambda: SNN(synapse(), bh.nn.ALIFLayer(N_REC, V_th=5.0 * u.mV, w_rec=True)),
    "fractional": lambda: SNN(synapse(), bh.nn.FractionalLIFLayer(N_REC, tau=2.0 * u.ms, spk_fun=RELU())),
    "readout": lambda: bh.nn.LeakyReadout(N_IN, N_OUT, tau=10.0 * u.ms, bias=True),
}
H1_NETS: dict[str, Callable[[], Any]] = {
    "H1": lambda: SNN(*h1_pair()),
    "H1 in a Sequential": lambda: brainstate.nn.Sequential(*h1_pair(), bh.nn.LeakyReadout(N_REC, N_OUT, 10.0 * u.ms)),
}


def build(kind: str) -> Any:
    brainstate.random.seed(11)
    return (NETS | H1_NETS)[kind]()


def train(net: Any, steps: int = 2, *, in_loss: Callable[[], None] = lambda: None) -> list[float]:
    """Train as the tutorial does, line by line; ``in_loss`` is what a chip needs besides."""
    labels = jnp.arange(BATCH) % 2
    optimizer = braintools.optim.Adam(lr=3e-2)
    optimizer.register_trainable_weights(net.states(brainstate.ParamState))

    def loss_fn() -> Any:
        in_loss()
        preds = brainstate.transform.for_loop(net.update, X)  # [T, B, C]
        preds = u.math.mean(preds, axis=0)  # [B, C]
        return braintools.metric.softmax_cross_entropy_with_integer_labels(preds, labels).mean()

    @brainstate.transform.jit
    def train_step() -> Any:
        brainstate.nn.init_all_states(net, batch_size=BATCH)
        grads, loss = brainstate.transform.grad(loss_fn, net.states(brainstate.ParamState), return_value=True)()
        optimizer.update(grads)
        return loss

    return [float(train_step()) for _ in range(steps)]


def prepared_loop(net: Any) -> Any:
    bh.prepare_net(net, BATCH)
    return brainstate.transform.for_loop(net.update, X)


def compiled(net: Any) -> Any:
    return brainstate.transform.jit(lambda x: bh.rollout(net, x)[0])(X)


def streamed(net: Any) -> Any:
    step = bh.stream(net, BATCH)
    return jnp.stack([step(x) for x in X])


EVALUATIONS: dict[str, Callable[[Any], Any]] = {
    "rollout": lambda net: bh.rollout(net, X)[0],
    "rollout step by step": lambda net: bh.rollout(net, X, layerwise=False)[0],
    "rollout with check_finite": lambda net: bh.rollout(net, X, check_finite=True)[0],
    "compiled rollout": compiled,
    "prepare_net and for_loop": prepared_loop,
    "stream": streamed,
}


def with_the_weights_of(net: Any, kind: str) -> Any:
    fresh = build(kind)
    for path, state in fresh.states(brainstate.ParamState).items():
        state.value = jax.tree.map(jnp.asarray, net.states(brainstate.ParamState)[path].value)
    return fresh


# Every evaluation of one net, and for the others the three that go different ways.
WAYS = [("LIF", evaluation) for evaluation in EVALUATIONS]
WAYS += [(kind, way) for kind in list(NETS)[1:] for way in ("rollout", "prepare_net and for_loop", "stream")]


@pytest.mark.parametrize(("kind", "evaluation"), WAYS)
def test_an_evaluation_outside_equals_that_of_a_fresh_net(kind: str, evaluation: str) -> None:
    net = build(kind)
    train(net)
    expected = np.asarray(bh.rollout(with_the_weights_of(net, kind), X)[0])
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(EVALUATIONS[evaluation](net), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", NETS)
def test_training_goes_on_after_an_evaluation(kind: str) -> None:
    net, other = build(kind), build(kind)
    train(net)
    bh.rollout(net, X)
    train(other)
    np.testing.assert_allclose(train(net), train(other), rtol=1e-5)


@pytest.mark.parametrize("kind", H1_NETS)
def test_the_step_as_written_says_of_an_h1_net_what_to_add(kind: str) -> None:
    # The first line is the sentence; JAX adds a note on its traceback.
    with pytest.raises(Exception, match=r"^H1v1Synapse[^\n]{1,200}prepare_net\(net, batch_size\)[^\n]{1,100}\."):
        train(build(kind))


@pytest.mark.parametrize("evaluation", ["rollout", "prepare_net and for_loop", "stream"])
def test_an_h1_net_is_whole_after_the_step_was_refused(evaluation: str) -> None:
    net = build("H1")
    with pytest.raises(Exception, match=r"prepare_net|failed to update"):
        train(net)
    expected = np.asarray(bh.rollout(build("H1"), X)[0])
    np.testing.assert_allclose(EVALUATIONS[evaluation](net), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", H1_NETS)
def test_with_prepare_net_in_the_loss_an_h1_net_trains_and_is_evaluated(kind: str) -> None:
    net = build(kind)
    bh.init.kaiming_init(net)
    losses = train(net, 3, in_loss=lambda: bh.prepare_net(net, BATCH))
    assert np.all(np.isfinite(losses))
    expected = np.asarray(bh.rollout(with_the_weights_of(net, kind), X)[0])
    np.testing.assert_allclose(bh.rollout(net, X)[0], expected, rtol=1e-4, atol=1e-5)
