"""check_finite: names state and step, compiled or not, even if the loss stays finite; no false alarm."""

from __future__ import annotations

from collections.abc import Callable

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

ERRORS = (FloatingPointError, jax.errors.JaxRuntimeError)
compiled_or_not = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])


class SpoiltInput(brainstate.nn.Module):
    """Runs a net and adds ``bad`` to one input value from step ``at`` on, so that no check of xs can see it."""

    def __init__(self, net: brainstate.nn.Module, at: int, bad: float = np.nan) -> None:
        super().__init__()
        self.net, self.at, self.bad = net, at, bad
        self.t = brainstate.HiddenState(jnp.zeros((), jnp.int32))

    def reset_state(self, batch_size: int | None = None) -> None:
        self.t.value = jnp.zeros((), jnp.int32)

    def update(self, x: jax.Array) -> jax.Array:
        x = x.at[..., 1].add(jnp.where(self.t.value == self.at, self.bad, 0.0))
        self.t.value = self.t.value + 1
        return self.net(x)


class BadSlope:
    """A spike function with derivative ``slope`` within half a threshold of the threshold, and 0 elsewhere."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def __call__(self, x: jax.Array) -> jax.Array:
        slope = self.slope

        @jax.custom_jvp
        def step(x: jax.Array) -> jax.Array:
            return (x >= 0).astype(x.dtype)

        @step.defjvp
        def step_jvp(primals: tuple, tangents: tuple) -> tuple:
            return step(*primals), jnp.where(jnp.abs(primals[0]) < 0.5, slope, 0.0) * tangents[0]

        return step(x)


def execute(function: Callable, compiled: bool) -> object:
    return jax.block_until_ready((brainstate.transform.jit(function) if compiled else function)())


@compiled_or_not
@pytest.mark.parametrize(("kind", "bad"), [("lif", np.nan), ("one layer", np.inf)])
def test_the_first_state_and_step_are_named(make_net, make_input, kind: str, bad: float, compiled: bool) -> None:
    net, xs = SpoiltInput(make_net(kind), at=7, bad=bad), make_input(15)
    with pytest.raises(ERRORS, match=r"rollout: net.hidden.V is not finite from step 7 on. Check the input"):
        execute(lambda: bh.rollout(net, xs, check_finite=True)[0], compiled)


@compiled_or_not
def test_a_loss_that_stays_finite_over_a_nan_membrane_is_caught(make_net, make_input, compiled: bool) -> None:
    net, xs = SpoiltInput(make_net("one layer"), at=4), make_input(15)

    def loss(check_finite: bool) -> jax.Array:
        return jnp.mean(bh.rollout(net, xs, check_finite=check_finite)[0])

    def train(check_finite: bool) -> tuple:
        weights = net.states(brainstate.ParamState)
        return brainstate.transform.grad(lambda: loss(check_finite), weights, return_value=True)()

    value = execute(lambda: train(False), compiled)[1]
    assert np.isfinite(value)
    with pytest.raises(ERRORS, match=r"net.hidden.V is not finite from step 4 on"):
        execute(lambda: train(True), compiled)


@compiled_or_not
@pytest.mark.parametrize(("slope", "checkpoint"), [(np.nan, None), (np.inf, 4)])
def test_a_gradient_that_stops_being_finite_is_named(make_input, slope: float, checkpoint, compiled: bool) -> None:
    brainstate.random.seed(0)
    net = brainstate.nn.Sequential(
        bh.nn.LIFSynapse(4, 3, weight_init=np.full((4, 3), 0.06) * u.mV),
        bh.nn.LIFLayer(3, tau=10 * u.ms, V_th=20 * u.mV, spk_fun=BadSlope(slope)),
    )
    xs = make_input(12)

    def train(check_finite: bool) -> dict:
        loss = lambda: jnp.mean(bh.rollout(net, xs, check_finite=check_finite, checkpoint=checkpoint)[0])  # noqa: E731
        return brainstate.transform.grad(loss, net.states(brainstate.ParamState))()

    unnoticed = execute(lambda: train(False), compiled)
    assert not np.isfinite(u.get_mantissa(unnoticed["layers", 0, "weight"])).all()
    with pytest.raises(
        ERRORS, match=r"the gradient flowing back into layers.1.V at step \d+ is not finite\. Check .* lower"
    ):
        execute(lambda: train(True), compiled)


def test_an_exploding_gradient_through_the_reset_is_named() -> None:
    layer = bh.nn.LIFLayer(1, tau=10 * u.ms, reset="zero", spk_fun=BadSlope(1e4), detach_reset=False)
    w = brainstate.ParamState(jnp.asarray(1.05))

    def loss() -> jax.Array:
        return jnp.mean(bh.rollout(layer, jnp.ones((30, 1)) * w.value * u.mV, check_finite=True)[0])

    with pytest.raises(ERRORS, match=r"the gradient flowing back into V at step .* keep detach_reset=True"):
        jax.block_until_ready(brainstate.transform.grad(loss, w)())


@pytest.mark.parametrize("kind", ["lif", "one layer"])
def test_a_healthy_net_raises_no_alarm_and_gives_the_same_numbers(make_net, make_input, kind: str) -> None:
    net, xs = make_net(kind), make_input(15)
    weights = net.states(brainstate.ParamState)

    def train(check_finite: bool) -> tuple:
        loss = lambda: jnp.mean(bh.rollout(net, xs, check_finite=check_finite)[0])  # noqa: E731
        return brainstate.transform.grad(loss, weights, return_value=True)()

    (grads, value), (plain, plain_value) = (execute(lambda flag=flag: train(flag), True) for flag in (True, False))
    np.testing.assert_array_equal(value, plain_value)
    for path in plain:
        grad, other = (np.asarray(u.get_mantissa(of[path])) for of in (plain, grads))
        np.testing.assert_allclose(other, grad, rtol=1e-5, atol=1e-6 * np.abs(grad).max())
    np.testing.assert_array_equal(bh.rollout(net, xs, check_finite=True)[0], bh.rollout(net, xs)[0])


def test_mapping_over_inputs_raises_no_alarm_and_still_finds_the_bad_one(make_input) -> None:
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), bh.nn.LIFLayer(3, tau=10 * u.ms))
    xs = make_input(10)
    states = {0: net.states(brainstate.HiddenState)}
    weights = net.states(brainstate.ParamState)

    def gradient(scale: jax.Array) -> dict:
        loss = lambda: jnp.mean(bh.rollout(net, xs * scale, check_finite=True)[0])  # noqa: E731
        return brainstate.transform.grad(loss, weights)()

    run = brainstate.transform.jit(brainstate.transform.vmap(gradient, out_states=states))
    grads = run(jnp.array([1.0, 0.5]))
    assert all(np.isfinite(u.get_mantissa(grad)).all() for grad in grads.values())
    # XLA decides whether the error of the forward or of the backward pass is reported first.
    with pytest.raises(ERRORS, match=r"layers.1.V (is not finite from step 0 on|at step \d+ is not finite)"):
        jax.block_until_ready(run(jnp.array([1.0, np.inf])))
