"""Which unit a number comes in changes no spike."""

from __future__ import annotations

from collections.abc import Callable

import brainstate
import brainunit as u
import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import brainhw as bh

T, N = 12, 3
MILLI = {"ms": (u.ms, 1.0), "s": (u.second, 1e-3), "us": (u.us, 1e3)}
VOLTS = {"mV": (u.mV, 1.0), "V": (u.volt, 1e-3), "uV": (u.uvolt, 1e3)}
CHARGES = {"fC": (u.fcoulomb, 1.0), "pC": (u.pcoulomb, 1e-3)}
examples = settings(derandomize=True, deadline=None, max_examples=25)

drives = hnp.arrays(np.float64, (T, N), elements=st.floats(-1.0, 1.5, width=32))
per_neuron = hnp.arrays(np.float64, (N,), elements=st.floats(0.5, 2.0, width=32))

_compiled: dict[tuple[str, ...], Callable[..., jax.Array]] = {}


def lif(tau_unit: str, V_unit: str, dt_unit: str) -> Callable[..., jax.Array]:
    """A compiled run of LIF neurons whose numbers (in ms and mV) are handed over in the units named."""
    key = (tau_unit, V_unit, dt_unit)
    if key not in _compiled:
        (t_unit, t), (v_unit, v), (d_unit, d) = MILLI[tau_unit], VOLTS[V_unit], MILLI[dt_unit]

        @brainstate.transform.jit
        def spikes(drive: jax.Array, tau: jax.Array, V_th: jax.Array) -> jax.Array:
            layer = bh.nn.LIFLayer(N, tau=tau * t * t_unit, V_th=V_th * v * v_unit)
            with brainstate.environ.context(dt=d * d_unit):
                return bh.rollout(layer, drive * v * v_unit)[0]

        _compiled[key] = spikes
    return _compiled[key]


@pytest.mark.parametrize(
    "units", [("s", "mV", "ms"), ("ms", "V", "ms"), ("ms", "mV", "s"), ("us", "uV", "s"), ("s", "V", "us")], ids=str
)
@examples
@given(drive=drives, tau=per_neuron, V_th=per_neuron)
def test_lif_spikes_do_not_depend_on_units(simulate, units: tuple[str, str, str], drive, tau, V_th) -> None:
    # A membrane that lands on the threshold to within rounding is decided by the rounding: not what is tested.
    assume(simulate(drive, tau=10 * tau, V_th=V_th)["margin"] > 1e-4)
    plain = lif("ms", "mV", "ms")(drive, 10 * tau, V_th)
    np.testing.assert_array_equal(lif(*units)(drive, 10 * tau, V_th), plain)


@pytest.mark.parametrize("family", ["H1v1", "H1v2"])
@pytest.mark.parametrize("charge_unit", ["fC", "pC"])
@pytest.mark.parametrize("units", [("s", "ms"), ("us", "s")], ids=str)
def test_chip_spikes_do_not_depend_on_units(family: str, charge_unit: str, units: tuple[str, str]) -> None:
    layer_class = {"H1v1": bh.nn.H1v1Layer, "H1v2": bh.nn.H1v2Layer}[family]
    (t_unit, t), (d_unit, d), (c_unit, c) = MILLI[units[0]], MILLI[units[1]], CHARGES[charge_unit]
    charge = np.random.default_rng(3).normal(3.0, 5.0, (60, N))
    plain = bh.rollout(layer_class(N, tau=[5, 10, 20] * u.ms), charge * u.fcoulomb)[0]
    with brainstate.environ.context(dt=d * d_unit):
        layer = layer_class(N, tau=np.array([5, 10, 20]) * t * t_unit)
        other = bh.rollout(layer, charge * c * c_unit)[0]
    np.testing.assert_array_equal(other, plain)
    assert 0.05 < plain.mean() < 0.95


@pytest.mark.parametrize("unit", ["V", "uV"])
def test_weights_and_recurrent_weights_may_come_in_any_voltage(unit: str) -> None:
    rng = np.random.default_rng(4)
    w, w_rec, xs = rng.normal(0.3, 0.3, (4, N)), rng.normal(0, 0.5, (N, N)), rng.random((40, 4))

    def spikes(v_unit: u.Unit, scale: float) -> np.ndarray:
        net = brainstate.nn.Sequential(
            bh.nn.LIFSynapse(4, N, weight_init=w * scale * v_unit),
            bh.nn.LIFLayer(N, tau=10 * u.ms, topology="RC", recurrent_init=w_rec * scale * v_unit),
        )
        return np.asarray(bh.rollout(net, xs)[0])

    plain = spikes(*VOLTS["mV"])
    np.testing.assert_array_equal(spikes(*VOLTS[unit]), plain)
    assert 0.05 < plain.mean() < 0.95


@pytest.mark.parametrize(("tau_unit", "V_unit"), [("s", "V"), ("us", "uV")])
def test_learnt_tau_and_threshold_may_come_in_any_unit(tau_unit: str, V_unit: str) -> None:
    drive = np.random.default_rng(5).uniform(0, 0.8, (40, N)) * u.mV
    param, softplus = brainstate.nn.Param, brainstate.nn.SoftplusT

    def spikes(t_unit: u.Unit, t: float, v_unit: u.Unit, v: float) -> np.ndarray:
        layer = bh.nn.LIFLayer(
            N,
            tau=param(np.array([5.0, 10.0, 20.0], np.float32) * t * t_unit, t=softplus(0.0 * t_unit)),
            V_th=param(1.05 * v * v_unit, t=softplus(0.0 * v_unit)),
        )
        return np.asarray(bh.rollout(layer, drive)[0])

    np.testing.assert_array_equal(spikes(*MILLI[tau_unit], *VOLTS[V_unit]), spikes(*MILLI["ms"], *VOLTS["mV"]))
