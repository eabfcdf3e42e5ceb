"""States of adaptive and current-based neurons that were written by hand, and thresholds that were learnt away."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.surrogate import PeriodicExponential, StepPWL

N, S, B, T = 3, 2, 4, 20
BOTH = pytest.mark.parametrize("kind", [bh.nn.ALIFLayer, bh.nn.CubaLIFLayer])


def drive() -> u.Quantity:
    return jnp.asarray(np.random.default_rng(0).normal(0.1, 0.4, (T, B, N * S))) * u.mV


def layer_of(kind: Any, **arguments: Any) -> Any:
    weights = np.random.default_rng(1).normal(0, 0.1, (N, N * S)) * u.mV
    layer = kind(N, S, w_rec=weights, **arguments)
    bh.prepare_net(layer, B)
    return layer


@BOTH
def test_the_voltage_unit_of_an_initial_state_does_not_matter(kind: Any) -> None:
    at = {"V": (B, N), "I_syn": (B, N, S)} | ({"I_ahp": (B, N)} if kind is bh.nn.ALIFLayer else {})
    names = tuple(f".{name}" for name in at)
    seen = {}
    for unit, scale in ((u.mV, 1.0), (u.volt, 1e-3), (u.uvolt, 1e3)):
        layer = layer_of(kind)
        for name, shape in at.items():
            numbers = np.random.default_rng(len(shape)).uniform(-0.5, 0.9, shape)
            getattr(layer, name).value = jnp.asarray(numbers * scale, dtype=jnp.float32) * unit
        spikes, records = bh.rollout(layer, drive(), record=names, prepare=False)
        assert u.get_unit(layer.V.value) == unit
        seen[str(unit)] = (spikes, *(records[name].to(u.mV).mantissa for name in names))
    first, *others = seen.values()
    assert first[0].sum() > 10
    for other in others:
        np.testing.assert_array_equal(other[0], first[0])
        for one, reference in zip(other[1:], first[1:], strict=True):
            np.testing.assert_allclose(one, reference, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "value", "error", "match"),
    [
        ("V", jnp.ones((B, N)), TypeError, r"the state V must be a Quantity .* of mV; got an array of shape \(4, 3\)"),
        ("V", jnp.ones((B, N)) * u.ms, TypeError, r"the state V must be .* of mV; got a Quantity in ms"),
        ("V", jnp.ones((B, N + 1)) * u.mV, ValueError, r"state V must have shape \(4, 3\); got shape \(4, 4\)"),
        ("V", jnp.ones(()) * u.mV, ValueError, r"the state V must have shape \(3,\); got shape \(\)"),
        ("V", jnp.ones(N) * u.mV, ValueError, r"the state was prepared for \(6,\); .*prepare_net"),
        ("I_syn", jnp.ones((B, N, S)), TypeError, r"the state I_syn must be a Quantity .* voltage in u.mV"),
        ("I_syn", jnp.ones((B, N * S)) * u.mV, ValueError, r"I_syn must have shape \(4, 3, 2\); got shape \(4, 6\)"),
        ("I_ahp", 0.0, TypeError, r"the state I_ahp must be a Quantity with the dimension of mV; got 0.0"),
        ("I_ahp", jnp.ones((B, 1)) * u.mV, ValueError, r"I_ahp must have shape \(4, 3\); got shape \(4, 1\)"),
        ("spk", jnp.ones((B, N)) * u.mV, TypeError, r"the state spk must be plain numbers without a unit"),
        ("spk", jnp.ones(N), ValueError, r"the state spk must have shape \(4, 3\); got shape \(3,\)"),
    ],
)
def test_a_state_that_is_none(name: str, value: Any, error: type[Exception], match: str) -> None:
    layer = layer_of(bh.nn.ALIFLayer)
    getattr(layer, name).value = value
    with pytest.raises(error, match=rf"ALIFLayer.update: .*{match}"):
        layer(drive()[0])


def test_the_gradient_through_an_initial_state_as_documented() -> None:
    layer = layer_of(bh.nn.ALIFLayer, spk_fun=PeriodicExponential())

    def loss() -> jax.Array:
        spikes, _ = bh.rollout(layer, drive(), prepare=False)
        return spikes.mean()

    gradients = brainstate.transform.grad(loss, {"V": layer.V})()
    assert gradients["V"].shape == (B, N)
    assert (np.asarray(u.get_mantissa(gradients["V"])) != 0).all()


@BOTH
@pytest.mark.parametrize("spk_fun", [StepPWL(), PeriodicExponential(), bh.surrogate.fast_sigmoid()], ids=str)
@pytest.mark.parametrize("gone", [0.0, -0.3])
def test_a_threshold_that_was_learnt_away_is_never_silent(kind: Any, spk_fun: Any, gone: float) -> None:
    layer = layer_of(kind, V_th=brainstate.nn.Param(np.ones(N) * u.mV), spk_fun=spk_fun)
    (V_th,) = layer.V_th.states(brainstate.ParamState).values()
    x = drive()
    run = brainstate.transform.jit(lambda: bh.rollout(layer, x)[0])
    run_watched = brainstate.transform.jit(lambda: bh.rollout(layer, x, check_finite=True)[0])
    # Compiled while the threshold is right: a first call with a wrong one is refused where it is traced.
    jax.block_until_ready((run(), run_watched()))
    V_th.value = jnp.array([1.0, gone, 1.0]) * u.mV
    with pytest.raises(ValueError, match=rf"{kind.__name__}.V_th must be .*; got {gone:g} mV .*SoftplusT"):
        bh.rollout(layer, drive())

    spikes = np.asarray(run())
    assert np.isnan(spikes[0, :, 1]).all()
    assert np.isfinite(spikes[0][:, [0, 2]]).all()

    def watched() -> None:
        jax.block_until_ready(run_watched())
        jax.effects_barrier()

    with pytest.raises(
        jax.errors.JaxRuntimeError, match=rf"rollout: the parameter {kind.__name__}.V_th is out of range"
    ):
        watched()


def test_a_limit_holds_a_net_that_would_run_away() -> None:
    weights, x = np.full((4, 4), 1.0) * u.mV, jnp.ones((300, 4)) * u.mV
    bh.rollout(bh.nn.CubaLIFLayer(4, w_rec=weights, max_spikes_per_step=3), x, check_finite=True)
    with pytest.raises(FloatingPointError, match="is not finite from step"):
        bh.rollout(bh.nn.CubaLIFLayer(4, w_rec=weights), x, check_finite=True)
