"""In bfloat16 a time constant of 500 ms acted as one of 184 ms, and 300 spikes counted as many as 301.

Leak, membrane and counts had the precision of the weights. Seen in spikingjelly issue 36; field case 13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

HALF = [16, "bf16"]
MS = 1.0 * u.ms
HIGH = 1e4 * u.mV
ARRAY = np.full(1, 500.0) * u.ms


@pytest.fixture(params=HALF)
def dtype(request: pytest.FixtureRequest) -> Iterator[Any]:
    with brainstate.environ.context(precision=request.param, dt=MS):
        yield jnp.dtype(brainstate.environ.dftype())


LEAKY: dict[str, tuple[Callable[[], Any], str, Any]] = {
    "LIF": (lambda: bh.nn.LIFLayer(1, tau=500.0 * u.ms, V_th=HIGH), "V", u.mV),
    "LIF, array": (lambda: bh.nn.LIFLayer(1, tau=ARRAY, V_th=HIGH), "V", u.mV),
    "LIF, learnt": (lambda: bh.nn.LIFLayer(1, tau=brainstate.nn.Param(500.0 * u.ms), V_th=HIGH), "V", u.mV),
    "H1": (lambda: bh.nn.H1v1Layer(1, tau=200.0 * u.ms), "V", u.fcoulomb),
    "Cuba": (lambda: bh.nn.CubaLIFLayer(1, tau_mem=500.0 * u.ms, tau_syn=MS, V_th=HIGH), "V", u.mV),
    "Cuba, synapse": (lambda: bh.nn.CubaLIFLayer(1, tau_syn=ARRAY, tau_mem=MS, V_th=HIGH), "I_syn", u.mV),
    "Cuba, factors": (
        lambda: bh.nn.CubaLIFLayer(1, leak="decays", alpha=np.exp([-1 / 500]), beta=0.5, V_th=HIGH), "V", u.mV,
    ),
    "ALIF": (lambda: bh.nn.ALIFLayer(1, tau_mem=500.0 * u.ms, tau_syn=MS, V_th=HIGH), "V", u.mV),
    "readout": (lambda: bh.nn.LeakyReadout(1, 1, tau=500.0 * u.ms, weight_init=np.ones((1, 1))), "y", 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKY)
@pytest.mark.parametrize("layerwise", [True, False])
def test_a_time_constant_is_what_was_asked_for(dtype: Any, name: str, layerwise: bool) -> None:
    make, state, unit = LEAKY[name]
    pulse = jnp.zeros((201, 1), dtype).at[0].set(1.0) * unit
    outputs, seen = bh.rollout(make(), pulse, record=(f".{state}",), layerwise=layerwise)
    course = np.asarray(u.get_mantissa(seen[f".{state}"]), np.float64).reshape(201)
    tau = 200.0 if name == "H1" else 500.0
    assert -180 / np.log(course[200] / course[20]) == pytest.approx(tau, rel=3e-3)
    assert outputs.dtype == dtype


def test_a_fractional_membrane_is_that_of_float32(dtype: Any) -> None:
    drive = np.linspace(0, 1, 60, dtype=np.float32)[:, None] * u.mV

    def course() -> np.ndarray:
        layer = bh.nn.FractionalLIFLayer(1, alpha=0.8, tau=500.0 * u.ms, V_th=HIGH)
        return np.asarray(bh.rollout(layer, drive, record=(".V",))[1][".V"].mantissa, np.float64)

    with brainstate.environ.context(precision=32):
        exact = course()
    np.testing.assert_allclose(course(), exact, rtol=1e-5)


NETS: dict[str, Callable[[], Any]] = {
    "recurrent LIF": lambda: [bh.nn.LIFSynapse(6, 8), bh.nn.LIFLayer(8, tau=20 * MS, topology="RC")],
    "recurrent H1": lambda: [bh.nn.H1v2Synapse(6, 8), bh.nn.H1v2Layer(8, tau=20 * MS, topology="RC")],
    "adaptive": lambda: [bh.nn.LIFSynapse(6, 8), bh.nn.ALIFLayer(8, w_rec=True)],
    "fractional": lambda: [bh.nn.LIFSynapse(6, 8), bh.nn.FractionalLIFLayer(8, alpha=0.8, tau=5 * MS)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_outputs_and_gradients_keep_the_precision_and_both_ways_agree(dtype: Any, name: str) -> None:
    net = brainstate.nn.Sequential(*NETS[name](), bh.nn.LeakyReadout(8, 2, tau=20 * MS, bias=True))
    xs = (np.random.default_rng(0).random((10, 3, 6)) < 0.5).astype(np.float32)
    weights = net.states(brainstate.ParamState)

    @brainstate.transform.jit
    def run() -> Any:
        loss = brainstate.transform.grad(lambda: jnp.sum(bh.rollout(net, xs)[0].astype(jnp.float32)), weights)
        return bh.rollout(net, xs)[0], bh.rollout(net, xs, layerwise=False)[0], loss()

    fast, steps, gradients = run()
    assert fast.dtype == steps.dtype == dtype
    assert {u.get_mantissa(g).dtype for g in gradients.values()} == {dtype}
    assert all(np.isfinite(np.asarray(u.get_mantissa(g), np.float32)).all() for g in gradients.values())
    np.testing.assert_array_equal(np.asarray(fast, np.float32), np.asarray(steps, np.float32))


@pytest.mark.parametrize(("fewer", "more"), [(300, 301), (2048, 2049)])
def test_one_spike_more_is_one_spike_more(dtype: Any, fewer: int, more: int) -> None:
    spikes = np.zeros((more + 50, 1, 2), np.float32)
    spikes[:fewer, 0, 0] = spikes[:more, 0, 1] = 1
    spikes, label = jnp.asarray(spikes, dtype), jnp.array([1])
    assert float(bh.train.accuracy(spikes, label)) == 1.0
    assert float(bh.train.accuracy_population(spikes, label, 2)) == 1.0
    assert bh.train.population_votes(spikes, 2).tolist() == [[fewer, more]]
    assert float(bh.train.balanced_population_mse(spikes, label, 2, high=more, low=fewer)) == 0.0
    rate = more / (more + 50)
    of_second = [spikes[..., 1:]]
    assert float(bh.train.firing_rate_target_mse_loss(of_second, [rate], [1e4])) == pytest.approx(0, abs=1e-5)
    assert float(bh.train.firing_rate_bounds_loss(spikes[..., 1:], (1000 * rate - 0.1) * u.Hz)) == 0.0


def test_a_decay_factor_that_is_learnt_in_half_precision_warns_once(dtype: Any) -> None:
    with pytest.warns(UserWarning, match=rf"CubaLIFLayer: alpha is trainable and has dtype {dtype}") as caught:
        bh.nn.CubaLIFLayer(2, leak="decays", alpha=brainstate.nn.Param(0.5))
    assert len(caught) == 1
