"""The adaptive layer as a plain one with a synapse more: what is learnt, what stays fixed, and inside of ``jit``."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

N, S, T = 3, 2, 25
param, const = brainstate.nn.Param, brainstate.nn.Const


def weights() -> u.Quantity:
    return np.random.default_rng(0).normal(0, 0.2, (N, N * S)) * u.mV


def learnt(layer: Any) -> set[str]:
    return {path[0] for path in layer.states(brainstate.ParamState)}


def drive(n: int = N * S) -> u.Quantity:
    return jnp.asarray(np.random.default_rng(1).normal(0.1, 0.4, (T, n))) * u.mV


def push(layer: Any) -> None:
    """Move everything that is learnt, as an optimiser with weight decay would: also where the gradient is zero."""
    for state in layer.states(brainstate.ParamState).values():
        state.value = state.value * 1.5


def test_nothing_that_was_fixed_is_learnt() -> None:
    layer = bh.nn.ALIFLayer(
        N, S, tau_mem=const(9.0 * u.ms), tau_syn=param(5.0 * u.ms, fit=False), tau_ahp=const(50.0 * u.ms),
        w_ahp=const(-0.3 * u.mV), bias=param(0.1 * u.mV, fit=False), V_th=const(0.9 * u.mV), w_rec=const(weights()),
    )  # fmt: skip
    lif = layer.as_lif_with_ahp_synapses()
    assert not learnt(lif)
    assert not lif.tau_mem.fit
    np.testing.assert_array_equal(bh.rollout(lif, layer.widen_input(drive()))[0], bh.rollout(layer, drive())[0])
    assert not learnt(bh.nn.ALIFLayer(N).as_lif_with_ahp_synapses())


@pytest.mark.parametrize("of_synapses", [True, False])
def test_where_two_are_joined_only_what_was_learnt_moves(of_synapses: bool) -> None:
    def of(value: Any, is_learnt: bool) -> Any:
        return param(value) if is_learnt else const(value)

    layer = bh.nn.ALIFLayer(
        N, S, tau_syn=of(5.0 * u.ms, of_synapses), tau_ahp=of(50.0 * u.ms, not of_synapses),
        w_rec=weights() if of_synapses else const(weights()), w_ahp=of(-0.3 * u.mV, not of_synapses),
    )  # fmt: skip
    lif = layer.as_lif_with_ahp_synapses()
    assert learnt(lif) == {"tau_syn", "recurrent_weight"}
    before = lif.tau_syn.value().mantissa, lif.recurrent_matrix().mantissa.reshape(N, N, S + 1)
    push(lif)
    after = lif.tau_syn.value().mantissa, lif.recurrent_matrix().mantissa.reshape(N, N, S + 1)
    synapses, ahp = (1.5, 1.0) if of_synapses else (1.0, 1.5)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new[..., :S], synapses * old[..., :S], rtol=1e-6)
        np.testing.assert_allclose(new[..., S], ahp * old[..., S], rtol=1e-6)
    np.testing.assert_array_equal(after[1][:, :, S] == 0, ~np.eye(N, dtype=bool))


def test_one_parameter_keeps_its_regulariser_and_transform_and_a_joined_one_does_not() -> None:
    reg = brainstate.nn.L2Reg(0.5)
    softplus = brainstate.nn.SoftplusT
    layer = bh.nn.ALIFLayer(
        N, S, tau_mem=param(9.0 * u.ms, t=softplus(1.0 * u.ms), reg=bh.train.BoundsReg(upper=4.0 * u.ms)),
        tau_syn=param(5.0 * u.ms, reg=bh.train.BoundsReg(upper=1.0 * u.ms)),
        V_th=param(0.9 * u.mV, precompute=lambda V: 2 * V), bias=param(0.1 * u.mV, t=softplus(0.0 * u.mV), reg=reg),
    )  # fmt: skip
    lif = layer.as_lif_with_ahp_synapses()
    assert float(lif.tau_mem.reg_loss()) == pytest.approx(25.0, rel=1e-5)
    assert type(lif.tau_mem.t) is softplus
    assert lif.bias.reg is reg
    assert lif.tau_syn.reg is None
    assert float(lif.V_th.value() / u.mV) == pytest.approx(1.8)
    state, other = lif.tau_mem.val, layer.tau_mem.val
    assert state is not other
    assert float(u.get_mantissa(state.value)) == float(u.get_mantissa(other.value))


@pytest.mark.slow
@pytest.mark.parametrize("leak", ["taus", "decays", "decays with gamma", "bitshifts"])
def test_made_inside_of_jit_and_grad(leak: str) -> None:
    mode = leak.split(maxsplit=1)[0]
    leaks: dict[str, Any] = {
        "taus": {"tau_mem": param(9.0 * u.ms), "tau_syn": param(np.full((N, S), 5.0) * u.ms)},
        "decays": {"alpha": param(0.8), "beta": param(np.full((N, S), 0.7))},
        "bitshifts": {"dash_mem": param(3.0), "dash_syn": param(np.full((N, S), 2.0))},
    }[mode]
    ahp = {"gamma": param(0.9)} if "gamma" in leak else {"tau_ahp": param(30.0 * u.ms)}
    layer = bh.nn.ALIFLayer(
        N, S, leak=mode, **leaks, **ahp, w_ahp=param(-0.3 * u.mV), w_rec=weights(),
        spk_fun=bh.surrogate.PeriodicExponential(),
    )  # fmt: skip
    x = drive()

    def through_the_view() -> jax.Array:
        lif = layer.as_lif_with_ahp_synapses()
        return jnp.mean(bh.rollout(lif, layer.widen_input(x))[0] ** 2)

    def directly() -> jax.Array:
        return jnp.mean(bh.rollout(layer, x)[0] ** 2)

    states = layer.states(brainstate.ParamState)
    results = []
    for loss in (through_the_view, directly):
        gradients, value = brainstate.transform.jit(brainstate.transform.grad(loss, states, return_value=True))()
        results.append((value, {path[0]: np.asarray(u.get_mantissa(g)) for path, g in gradients.items()}))
    (value, gradients), (expected, references) = results
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    assert float(value) > 0
    for name, reference in references.items():
        np.testing.assert_allclose(
            gradients[name], reference, rtol=0, atol=1e-4 * np.abs(reference).max(), err_msg=name
        )
        assert (gradients[name] != 0).any()


def test_a_traced_leak_has_its_shape_checked() -> None:
    def make(beta: jax.Array) -> jax.Array:
        return bh.nn.CubaLIFLayer(N, S, leak="decays", beta=beta).beta

    np.testing.assert_array_equal(jax.jit(make)(jnp.full((N, S), 0.5)), np.full((N, S), 0.5))
    with pytest.raises(ValueError, match=r"CubaLIFLayer: beta must be .* or shape \(3, 2\).*; got shape \(2, 3\)"):
        jax.jit(make)(jnp.full((S, N), 0.5))
