"""Gradients: against central differences of the smooth relaxation, and against a two-step computation by hand."""

from __future__ import annotations

from collections.abc import Iterator

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

N_IN, N, T, B = 4, 3, 12, 2


@pytest.fixture
def double() -> Iterator[None]:
    with brainstate.environ.context(precision=64):
        yield


class Net(brainstate.nn.Module):
    def __init__(self, *stages: brainstate.nn.Module) -> None:
        super().__init__()
        self.stages = stages

    def update(self, x: jax.Array) -> jax.Array:
        for stage in self.stages:
            x = stage(x)
        return x


def smooth() -> dict[str, object]:
    """The surrogate's own relaxation as the spike function, and the reset let through: then all of it is smooth."""
    return {"spk_fun": bh.surrogate.sigmoid(slope=4.0).surrogate_fun, "detach_reset": False}


def lif(topology: str, reset: str) -> Net:
    softplus = brainstate.nn.SoftplusT
    layer = bh.nn.LIFLayer(
        N,
        tau=brainstate.nn.Param(np.array([5.0, 10.0, 20.0]) * u.ms, t=softplus(0.0 * u.ms)),
        V_th=brainstate.nn.Param(np.array([0.8, 1.0, 1.2]) * u.mV, t=softplus(0.0 * u.mV)),
        reset=reset,
        topology=topology,
        **smooth(),
    )
    readout_tau = brainstate.nn.Param(15.0 * u.ms, t=softplus(0.0 * u.ms))
    return Net(bh.nn.LIFSynapse(N_IN, N), layer, bh.nn.LeakyReadout(N, 2, tau=readout_tau, bias=True))


def chip(family: str, topology: str) -> Net:
    synapse = {"H1v1": bh.nn.H1v1Synapse, "H1v2": bh.nn.H1v2Synapse}[family]
    layer = {"H1v1": bh.nn.H1v1Layer, "H1v2": bh.nn.H1v2Layer}[family]
    frontend = {"H1v1": bh.nn.H1v1Frontend, "H1v2": bh.nn.H1v2Frontend}[family]
    preset = {"H1v1": bh.chip.H1V1, "H1v2": bh.chip.H1V2}[family].replace(frontend_channels=N_IN)
    return Net(
        frontend(chip=preset),
        layer(N_IN, tau=10 * u.ms, chip=preset, **smooth()),
        synapse(N_IN, N, chip=preset, weight_init=np.random.default_rng(0).uniform(0.1, 0.9, (N_IN, N))),
        layer(N, tau=20 * u.ms, topology=topology, chip=preset, **smooth()),
    )


NETS = {
    "lif-ff-subtract": (lambda: lif("FF", "subtract"), 1.0),
    "lif-rc-zero": (lambda: lif("RC", "zero"), 1.0),
    "lif-rc-none": (lambda: lif("RC", "none"), 1.0),
    "h1v1-ff": (lambda: chip("H1v1", "FF"), 8.0),
    "h1v1-rc": (lambda: chip("H1v1", "RC"), 8.0),
    "h1v2-rc": (lambda: chip("H1v2", "RC"), 20.0),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.usefixtures("double")
def test_gradient_of_the_relaxation_agrees_with_central_differences(name: str) -> None:
    build, strength = NETS[name]
    net = build()
    rng = np.random.default_rng(1)
    xs = jnp.asarray(strength * rng.random((T, B, N_IN)))
    weight = jnp.asarray(rng.normal(size=T))[:, None, None]
    params = net.states(brainstate.ParamState)

    def loss() -> jax.Array:
        out = bh.rollout(net, xs)[0]
        return jnp.sum(weight * out**2)

    grads = brainstate.transform.jit(brainstate.transform.grad(loss, params))()
    value = brainstate.transform.jit(loss)
    for path, state in params.items():
        start, unit = state.value, u.get_unit(state.value)
        numbers, grad = np.asarray(u.get_mantissa(start)), np.asarray(u.get_mantissa(grads[path]))
        assert numbers.dtype == np.float64
        direction = rng.normal(size=numbers.shape)
        h = 1e-6
        sides = []
        for sign in (1, -1):
            moved = jnp.asarray(numbers + sign * h * direction)
            state.value = moved if unit == u.UNITLESS else u.Quantity(moved, unit=unit)
            sides.append(float(value()))
        state.value = start
        slope = (sides[0] - sides[1]) / (2 * h)
        np.testing.assert_allclose(np.sum(grad * direction), slope, rtol=2e-6, atol=1e-8, err_msg=str(path))
        assert abs(slope) > 1e-5, path


def test_surrogate_gradient_reaches_a_learnt_tau_and_threshold_of_every_neuron() -> None:
    softplus = brainstate.nn.SoftplusT
    layer = bh.nn.LIFLayer(
        N,
        tau=brainstate.nn.Param(np.full(N, 10.0) * u.ms, t=softplus(1.0 * u.ms)),
        V_th=brainstate.nn.Param(np.full(N, 1.0) * u.mV, t=softplus(0.0 * u.mV)),
    )
    params = layer.states(brainstate.ParamState)
    assert set(params) == {("tau", "val"), ("V_th", "val")}
    drive = np.random.default_rng(2).uniform(0, 0.5, (30, N)) * u.mV
    grads = brainstate.transform.grad(lambda: jnp.sum(bh.rollout(layer, drive)[0]), params)()
    for grad in grads.values():
        assert grad.shape == (N,)
        assert np.isfinite(grad).all()
        assert (np.abs(grad) > 1e-3).all()
    # Longer memory brings more spikes, a higher threshold fewer.
    assert (grads["tau", "val"] > 0).all()
    assert (grads["V_th", "val"] < 0).all()


def two_steps(layer: bh.nn.SpikingLayer, unit: u.Unit, weight: float, xs: tuple[float, float]) -> float:
    """The derivative by the weight of the spike at the second step, as JAX computes it."""
    w = brainstate.ParamState(jnp.asarray(weight))

    def loss() -> jax.Array:
        bh.prepare_net(layer)
        for x in xs:
            spk = layer(jnp.reshape(w.value * x, (1,)) * unit)
        return spk[0]

    return float(brainstate.transform.grad(loss, w)())


def surrogate_slope(V: float, V_th: float) -> float:
    return 1 / (1 + 5.0 * abs(V / V_th - 1)) ** 2 / V_th


CASES = [
    (name, w, detach)
    for name in ("zero", "subtract", "none", "H1v1", "H1v2")
    for w in (0.8, 1.3, 2.6)
    for detach in (True, False)
]


@pytest.mark.parametrize(("name", "weight", "detach"), CASES)
def test_gradient_through_the_reset_equals_two_steps_by_hand(name: str, weight: float, detach: bool) -> None:
    options = {"spk_fun": bh.surrogate.fast_sigmoid(slope=5.0), "detach_reset": detach}
    if name in ("H1v1", "H1v2"):
        layer = {"H1v1": bh.nn.H1v1Layer, "H1v2": bh.nn.H1v2Layer}[name](1, tau=10 * u.ms, **options)
        unit, V_th, gain = u.fcoulomb, 100.0, 10.0
        weight = 10.0 * weight
    else:
        layer = bh.nn.LIFLayer(1, tau=10 * u.ms, reset=name, **options)
        unit, V_th, gain = u.mV, 1.0, 1.0
    x1, x2 = 1.0, 0.3
    beta = np.exp(-0.1)

    V1 = gain * weight * x1
    dV1 = gain * x1
    spike = float(V_th <= V1)
    d_spike = 0.0 if detach else surrogate_slope(V1, V_th) * dV1
    if name in ("zero", "H1v1"):
        V, dV = V1 * (1 - spike), dV1 * (1 - spike) - V1 * d_spike
    elif name in ("subtract", "H1v2"):
        V, dV = V1 - spike * V_th, dV1 - V_th * d_spike
    else:
        V, dV = V1, dV1
    V2 = beta * V + gain * weight * x2
    by_hand = surrogate_slope(V2, V_th) * (beta * dV + gain * x2)
    np.testing.assert_allclose(two_steps(layer, unit, weight, (x1, x2)), by_hand, rtol=1e-4, atol=1e-7)


def test_detaching_is_the_default_and_changes_the_gradient() -> None:
    def layer(**options: bool) -> bh.nn.LIFLayer:
        return bh.nn.LIFLayer(1, tau=10 * u.ms, **options)

    default, detached, through = (
        two_steps(layer(**options), u.mV, 1.3, (1.0, 0.3))
        for options in ({}, {"detach_reset": True}, {"detach_reset": False})
    )
    assert default == detached
    assert abs(through / detached - 1) > 5e-3


def test_the_clamp_at_zero_stops_the_gradient() -> None:
    layer = bh.nn.H1v1Layer(1, tau=10 * u.ms)
    assert two_steps(layer, u.fcoulomb, -5.0, (1.0, 0.0)) == 0.0
    assert two_steps(layer, u.fcoulomb, 5.0, (1.0, 0.0)) > 0.0
