"""Wrong use of ALIFLayer and CubaLIFLayer: one clear error each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

CALLS: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda L: L(0), ValueError, r"size must be at least 1; got 0"),
    (lambda L: L(3, 0), ValueError, r"n_synapses must be at least 1; got 0"),
    (lambda L: L(3, 1.5), TypeError, r"n_synapses must be an integer; got 1.5"),
    (lambda L: L(3, tau_mem=20.0), TypeError, r"tau_mem must be a Quantity with the dimension of ms.*got 20.0"),
    (lambda L: L(3, tau_mem=0 * u.ms), ValueError, r"tau_mem must be greater than zero"),
    (lambda L: L(3, tau_mem=np.ones((3, 1)) * u.ms), ValueError, r"tau_mem must be .*shape \(3,\); got shape \(3, 1\)"),
    (lambda L: L(3, 2, tau_syn=-1 * u.ms), ValueError, r"tau_syn must be greater than zero"),
    (
        lambda L: L(3, 2, tau_syn=np.ones((2, 3)) * u.ms),
        ValueError,
        r"tau_syn must be a scalar or .* or shape \(3, 2\) or shape \(6,\); got shape \(2, 3\)",
    ),
    (lambda L: L(3, tau_syn=brainstate.ParamState(5 * u.ms)), TypeError, r"tau_syn .* got a ParamState.*nn.Param"),
    (lambda L: L(3, V_th=0 * u.mV), ValueError, r"V_th must be greater than zero"),
    (lambda L: L(3, V_th=[1.0, -1.0, 1.0] * u.mV), ValueError, r"V_th must be greater than zero; .*minimum -1"),
    (lambda L: L(3, V_th=brainstate.nn.Param(-1 * u.mV)), ValueError, r"V_th must be greater than zero"),
    (lambda L: L(3, V_th=1 * u.ms), TypeError, r"V_th must have the dimension of mV"),
    (lambda L: L(3, bias=0.1), TypeError, r"bias must be a Quantity with the dimension of mV"),
    (lambda L: L(3, bias=np.nan * u.mV), ValueError, r"bias must be finite"),
    (lambda L: L(3, leak="euler"), ValueError, r"leak must be one of 'taus', 'decays', 'bitshifts'; got 'euler'"),
    (lambda L: L(3, leak=None), ValueError, r"leak must be one of"),
    (
        lambda L: L(3, leak="decays", tau_mem=20 * u.ms),
        ValueError,
        r"tau_mem belongs to leak='taus', but leak is 'decays', which takes alpha and beta",
    ),
    (lambda L: L(3, alpha=np.full(3, 0.9)), ValueError, r"alpha belongs to leak='decays', but leak is 'taus'"),
    (
        lambda L: L(3, leak="bitshifts", beta=0.9),
        ValueError,
        r"beta belongs to leak='decays', .* dash_mem and dash_syn",
    ),
    (lambda L: L(3, dash_syn=2), ValueError, r"dash_syn belongs to leak='bitshifts'"),
    (lambda L: L(3, leak="decays", alpha=1.1), ValueError, r"alpha must be from 0 to 1; got 1.1"),
    (
        lambda L: L(3, leak="decays", beta=[[0.5], [-0.1], [0.5]]),
        ValueError,
        r"beta must be from 0 to 1; got -0.1 at index \(1, 0\)",
    ),
    (lambda L: L(3, leak="decays", alpha=0.5 * u.ms), TypeError, r"alpha must be a number without a unit"),
    (lambda L: L(3, leak="bitshifts", dash_mem=0), ValueError, r"dash_mem must be greater than zero"),
    (
        lambda L: L(3, 2, w_rec=np.ones((3, 3)) * u.mV),
        ValueError,
        r"w_rec must have shape \(3, 6\) \(row: presynaptic neuron, column: .* \+ synapse\); got shape \(3, 3\)",
    ),
    (lambda L: L(3, w_rec=np.ones((3, 3))), TypeError, r"w_rec must be a Quantity with the dimension of mV"),
    (lambda L: L(3, w_rec=np.full((3, 3), np.nan) * u.mV), ValueError, r"w_rec must be finite"),
    (lambda L: L(3, w_rec=False), TypeError, r"w_rec must be None, True, an initializer, voltages of shape \(3, 3\)"),
    (
        lambda L: L(3, w_rec=jnp.ones),
        TypeError,
        r"the initializer of w_rec must return voltages; got an array .*Use an initializer with the unit mV",
    ),
    (
        lambda L: L(3, 2, w_rec=lambda shape: jnp.ones(shape[::-1]) * u.mV),
        ValueError,
        r"w_rec must have shape \(3, 6\).*got shape \(6, 3\)",
    ),
    (lambda L: L(3, detach_reset=1), TypeError, r"detach_reset must be True or False; got 1"),
    (lambda L: L(3, detach_reset=None), TypeError, r"detach_reset must be True or False; got None"),
    (
        lambda L: L(3, max_spikes_per_step=2**31 - 1),
        ValueError,
        r"max_spikes_per_step must be at most 2\*\*24 = 16777216, .*float32; got 2147483647. Pass None",
    ),
    (
        lambda L: L(3, tau_mem=brainstate.nn.Param(0.5 * u.ms, t=brainstate.nn.SoftplusT(1 * u.ms))),
        ValueError,
        r"tau_mem must lie strictly inside the range of its transform SoftplusT; got 1 of 1 value\(s\) outside",
    ),
    (
        lambda L: L(3, V_th=brainstate.nn.Param([1.0, 0.5, 2.0] * u.mV, t=brainstate.nn.SoftplusT(0.5 * u.mV))),
        ValueError,
        r"V_th must lie strictly inside the range of its transform SoftplusT; got 1 of 3 .* at a bound",
    ),
    (
        lambda L: L(3, leak="decays", beta=brainstate.nn.Param(1.5, t=brainstate.nn.SigmoidT(0.0, 1.0))),
        ValueError,
        r"beta must lie strictly inside the range of its transform SigmoidT; got 1 of 1",
    ),
    (lambda L: L(3, noise_std=0.1), TypeError, r"noise_std must be a Quantity"),
    (lambda L: L(3, noise_std=0.1 * u.mV), TypeError, r"noise_std must have the dimension of mV / s\^0.5"),
    (lambda L: L(3, noise_std=-0.1 * u.mV / u.second**0.5), ValueError, r"noise_std must be zero or greater"),
    (lambda L: L(3, max_spikes_per_step=0), ValueError, r"max_spikes_per_step must be at least 1"),
    (lambda L: L(3, max_spikes_per_step=2.5), TypeError, r"max_spikes_per_step must be an integer.* got 2\.5"),
    (
        lambda L: L(3, max_spikes_per_step=2, spk_fun=bh.surrogate.atan()),
        ValueError,
        r"max_spikes_per_step is 2, but ATan.* allows one spike per step. Pass spk_fun=.*StepPWL",
    ),
    (lambda L: L(3, spk_fun="StepPWL"), TypeError, r"spk_fun must be a spike function"),
    (lambda L: L(3, spk_fun=bh.surrogate.StepPWL), TypeError, r"spk_fun must be a spike function, .*StepPWL\(\)"),
]


@pytest.mark.parametrize("kind", [bh.nn.ALIFLayer, bh.nn.CubaLIFLayer])
@pytest.mark.parametrize(("wrong", "error", "match"), CALLS)
def test_constructor(kind: Any, wrong: Callable[[Any], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"{kind.__name__}: {match}"):
        wrong(kind)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"tau_ahp": 0 * u.ms}, ValueError, r"tau_ahp must be greater than zero"),
        ({"tau_ahp": 20}, TypeError, r"tau_ahp must be a Quantity"),
        ({"w_ahp": -0.9}, TypeError, r"w_ahp must be a Quantity with the dimension of mV"),
        ({"w_ahp": [-0.9, -0.9] * u.mV}, ValueError, r"w_ahp must be a scalar or .*shape \(3,\); got shape \(2,\)"),
        ({"gamma": 0.9}, ValueError, r"gamma replaces tau_ahp and requires leak='decays', but leak is 'taus'"),
        (
            {"gamma": 0.9, "leak": "decays", "tau_ahp": 9 * u.ms},
            ValueError,
            r"gamma replaces .*tau_ahp is also passed",
        ),
        ({"gamma": 1.9, "leak": "decays"}, ValueError, r"gamma must be from 0 to 1; got 1.9"),
        (
            {"w_ahp": brainstate.nn.Param(0.1 * u.mV, t=brainstate.nn.SoftplusT(0.5 * u.mV))},
            ValueError,
            r"w_ahp must lie strictly inside the range of its transform SoftplusT",
        ),
    ],
)
def test_constructor_of_the_adaptive_layer(arguments: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"ALIFLayer: {match}"):
        bh.nn.ALIFLayer(3, **arguments)


@pytest.mark.parametrize("kind", [bh.nn.ALIFLayer, bh.nn.CubaLIFLayer])
@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (jnp.ones(6), TypeError, r"the input must be a Quantity with the dimension of mV .*LIFSynapse"),
        (jnp.ones(6) * u.ms, TypeError, r"the input must be a Quantity with the dimension of mV"),
        (
            jnp.ones(7) * u.mV,
            ValueError,
            r"the last axis of the input must have length 6; got shape \(7,\)",
        ),
        (jnp.ones(3) * u.mV, ValueError, r"the last axis of the input must have length 6; got shape \(3,\)"),
        (jnp.ones(()) * u.mV, ValueError, r"got shape \(\)"),
        (jnp.ones((5, 4, 6)) * u.mV, ValueError, r"got shape \(5, 4, 6\)"),
        (jnp.ones(6).at[4].set(jnp.nan) * u.mV, ValueError, r"the input contains 1 NaN .* first at index \(4,\)"),
        (jnp.ones((5, 6)) * u.mV, ValueError, r"shape \(5, 6\) but the state was prepared for \(6,\); .*batch_size=5"),
    ],
)
def test_input(kind: Any, x: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"{kind.__name__}.update: .*{match}"):
        kind(3, 2)(x)


@pytest.mark.no_dt
def test_no_time_step() -> None:
    with pytest.raises(RuntimeError, match=r"ALIFLayer.update: no time step is set"):
        bh.nn.ALIFLayer(3)(jnp.ones(3) * u.mV)
    with pytest.raises(RuntimeError, match=r"ALIFLayer.as_lif_with_ahp_synapses: no time step is set"):
        bh.nn.ALIFLayer(3, leak="decays").as_lif_with_ahp_synapses()
