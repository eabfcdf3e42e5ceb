"""A schedule changes the derivative of compiled functions, and nothing else."""

from __future__ import annotations

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

XS = jnp.asarray(np.random.default_rng(0).random((12, 2, 3)) * 8, jnp.float32)


def net_with(spk_fun) -> brainstate.nn.Module:
    brainstate.random.seed(0)
    return brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(3, 5, weight_init=np.random.default_rng(1).uniform(0.2, 0.8, (3, 5))),
        bh.nn.H1v1Layer(5, tau=10 * u.ms, spk_fun=spk_fun),
        bh.nn.H1v1Synapse(5, 2, weight_init=np.random.default_rng(2).uniform(0.2, 0.8, (5, 2))),
        bh.nn.H1v1Layer(2, tau=10 * u.ms, spk_fun=spk_fun),
    )


def gradient_of(net: brainstate.nn.Module):
    weights = net.states(brainstate.ParamState)
    grad = brainstate.transform.grad(lambda: jnp.mean(bh.rollout(net, XS)[0]), weights)
    return brainstate.transform.jit(grad)


@pytest.mark.parametrize(
    ("make", "parameter"),
    [
        (lambda v: bh.surrogate.fast_sigmoid(slope=v), "slope"),
        (lambda v: bh.surrogate.atan(alpha=v), "alpha"),
        (lambda v: braintools.surrogate.Sigmoid(alpha=v), "alpha"),
    ],
)
def test_a_compiled_gradient_follows_the_schedule(make, parameter: str) -> None:
    net = net_with(make(7.0))
    schedule = bh.train.SurrogateSchedule(net, parameter, 3, start=1.0, end=16.0)
    gradient = gradient_of(net)
    for epoch, value in enumerate((1.0, 4.0, 16.0, 16.0)):
        schedule.step(epoch)
        assert schedule.value == pytest.approx(value)
        plain = net_with(make(value))
        expected = brainstate.transform.jit(lambda net=plain: gradient_of(net)())()
        for path, grad in gradient().items():
            np.testing.assert_allclose(grad, expected[path], rtol=1e-4, atol=1e-8)
        np.testing.assert_array_equal(bh.rollout(net, XS)[0], bh.rollout(plain, XS)[0])
    schedule.finish()
    assert net.layers[1].spk_fun == make(16.0) or net.layers[1].spk_fun.alpha == 16.0


def test_forward_mode_and_second_calls_agree_with_the_derivative() -> None:
    layer = bh.nn.LIFLayer(2, tau=10 * u.ms, spk_fun=bh.surrogate.fast_sigmoid(slope=3.0))
    bh.train.SurrogateSchedule(layer, "slope", 1, start=3.0, end=3.0)
    x = jnp.linspace(-1, 1, 7)
    value, tangent = jax.jvp(layer.spk_fun, (x,), (jnp.ones_like(x),))
    plain = bh.surrogate.fast_sigmoid(slope=3.0)
    np.testing.assert_array_equal(value, plain(x))
    np.testing.assert_allclose(tangent, plain.surrogate_grad(x), rtol=1e-6)
    np.testing.assert_allclose(layer.spk_fun.surrogate_fun(x), plain.surrogate_fun(x), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: layer.spk_fun(x).sum())(x), tangent, rtol=1e-6)


def test_a_scheduled_net_can_be_deployed() -> None:
    net = net_with(bh.surrogate.fast_sigmoid())
    bh.train.SurrogateSchedule(net, "slope", 2, start=1.0, end=5.0)
    assert not [v for v in bh.deploy.check_deployable(net).violations if v.rule == "binary spikes"]


def test_bad_calls_are_named_and_change_nothing() -> None:
    net = net_with(bh.surrogate.fast_sigmoid(slope=5.0))
    call = bh.train.SurrogateSchedule
    with pytest.raises(ValueError, match="got 'steepness', but FastSigmoid has 'slope'"):
        call(net, "steepness", 3, start=1.0, end=2.0)
    with pytest.raises(ValueError, match="start must be greater than zero"):
        call(net, "slope", 3, start=0.0, end=2.0)
    with pytest.raises(ValueError, match="total_epochs must be at least 1"):
        call(net, "slope", 0, start=1.0, end=2.0)
    with pytest.raises(ValueError, match="no layer with a spike function"):
        call(bh.nn.H1v1Synapse(2, 2), "slope", 3, start=1.0, end=2.0)
    with pytest.raises(TypeError, match="net must be"):
        call(3, "slope", 3, start=1.0, end=2.0)
    net.layers[3].spk_fun = bh.surrogate.atan()
    with pytest.raises(ValueError, match="got 'slope', but ATan has 'alpha'"):
        call(net, "slope", 3, start=1.0, end=2.0)
    assert net.layers[1].spk_fun == bh.surrogate.fast_sigmoid(slope=5.0)
    net.layers[3].spk_fun = bh.surrogate.fast_sigmoid(slope=5.0)
    schedule = call(net, "slope", 3, start=1.0, end=2.0)
    with pytest.raises(ValueError, match="epoch must be at least 0; got -1"):
        schedule.step(-1)
    schedule.finish()
    with pytest.raises(RuntimeError, match="is finished"):
        schedule.step(1)
    with pytest.raises(ValueError, match="StepPWL cannot be scheduled"):
        call(bh.nn.ALIFLayer(3, spk_fun=bh.surrogate.StepPWL()), "window", 3, start=0.1, end=2.0)


def test_a_new_schedule_takes_over() -> None:
    layer = bh.nn.LIFLayer(2, tau=10 * u.ms, spk_fun=bh.surrogate.fast_sigmoid(slope=3.0))
    bh.train.SurrogateSchedule(layer, "slope", 2, start=1.0, end=2.0)
    second = bh.train.SurrogateSchedule(layer, "slope", 2, start=7.0, end=8.0)
    assert float(layer.spk_fun.surrogate_grad(0.1)) == float(bh.surrogate.fast_sigmoid(slope=7.0).surrogate_grad(0.1))
    second.finish()
    assert layer.spk_fun == bh.surrogate.fast_sigmoid(slope=7.0)
