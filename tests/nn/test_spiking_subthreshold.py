"""subthreshold: the membrane of each layer itself if its threshold could not be reached, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

N, T = 3, 60
FAR = 1e9 * u.mV
TAUS = np.array([5.0, 20.0, 100.0]) * u.ms
SPIKEDE = {**bh.nn.spikede_preset(), "alpha": 0.6}
BATCHES = pytest.mark.parametrize("batch", [(), (4,)], ids=["one sample", "batch"])

LAYERS: dict[str, Callable[[], Any]] = {
    "LIF": lambda: bh.nn.LIFLayer(N, TAUS, FAR),
    "LIF recurrent": lambda: bh.nn.LIFLayer(N, 20 * u.ms, FAR, topology="RC", reset="zero"),
    "LIF learnt tau": lambda: bh.nn.LIFLayer(N, brainstate.nn.Param(TAUS, t=brainstate.nn.SoftplusT(1.0 * u.ms)), FAR),
    "Cuba": lambda: bh.nn.CubaLIFLayer(N, tau_mem=TAUS, tau_syn=8 * u.ms, V_th=FAR),
    "Cuba 2 synapses, bias": lambda: bh.nn.CubaLIFLayer(
        N, 2, tau_syn=np.array([[2.0, 30.0]]) * u.ms, V_th=FAR, bias=np.array([0.1, 0.0, -0.2]) * u.mV
    ),
    "Cuba 2 synapses each": lambda: bh.nn.CubaLIFLayer(
        N, 2, tau_syn=np.arange(2.0, 2 + 2 * N).reshape(N, 2) * u.ms, V_th=FAR
    ),
    "Cuba decays": lambda: bh.nn.CubaLIFLayer(N, 2, leak="decays", alpha=0.9, beta=[[0.5, 0.7]], V_th=FAR),
    "Cuba bitshifts": lambda: bh.nn.CubaLIFLayer(N, leak="bitshifts", dash_mem=4.0, dash_syn=2.0, V_th=FAR),
    "ALIF recurrent": lambda: bh.nn.ALIFLayer(N, 2, w_rec=True, tau_mem=TAUS, V_th=FAR),
    "fractional": lambda: bh.nn.FractionalLIFLayer(N, alpha=jnp.array([0.3, 0.6, 1.0]), tau=TAUS, V_th=FAR),
    "fractional dense": lambda: bh.nn.FractionalLIFLayer(N, kernel="dense", horizon=T, V_th=FAR),
    "fractional short memory": lambda: bh.nn.FractionalLIFLayer(N, kernel="dense", memory=7, V_th=FAR),
    "fractional two terms": lambda: bh.nn.FractionalLIFLayer(N, alpha=[0.4, 0.9], coefficients=[0.5, 2.0], V_th=FAR),
    "fractional implicit": lambda: bh.nn.FractionalLIFLayer(N, method="cn", V_th=FAR),
    "fractional L1, clearing": lambda: bh.nn.FractionalLIFLayer(
        N, method="l1", reset="subtract", history="clear", V_th=FAR
    ),
    "fractional, as spikeDE": lambda: bh.nn.FractionalLIFLayer(N, tau=2 * u.ms, V_th=FAR, **SPIKEDE),
    "fractional IF": lambda: bh.nn.FractionalIFLayer(N, alpha=0.7, V_th=FAR),
}
layers = pytest.mark.parametrize("kind", list(LAYERS))


def drive_for(layer: Any, batch: tuple[int, ...]) -> u.Quantity:
    drive = np.random.default_rng(0).normal(0.1, 0.4, (T, *batch, layer.in_size[-1])).astype(np.float32)
    return drive * u.mV


def membrane_of_a_run(layer: Any, drive: u.Quantity) -> np.ndarray:
    spikes, seen = bh.rollout(layer, drive, record=(".V_pre",))
    assert not np.any(spikes)
    return np.asarray(seen[".V_pre"].to(u.mV).mantissa)


@layers
def test_equals_the_layer_with_a_threshold_out_of_reach(kind: str) -> None:
    layer = LAYERS[kind]()
    drive = drive_for(layer, (4,))
    found = layer.subthreshold(drive)
    assert found.shape == (T, 4, N)
    scale = float(np.abs(found.to(u.mV).mantissa).max())
    np.testing.assert_allclose(found.to(u.mV).mantissa, membrane_of_a_run(layer, drive), rtol=1e-5, atol=1e-6 * scale)
    alone = layer.subthreshold(drive[:, 0])
    assert alone.shape == (T, N)
    np.testing.assert_allclose(alone.mantissa, found.mantissa[:, 0], rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("kind", ["LIF recurrent", "ALIF recurrent", "fractional", "fractional, as spikeDE"])
def test_touches_no_state_and_starts_from_rest_whatever_they_hold(kind: str) -> None:
    layer = LAYERS[kind]()
    drive = drive_for(layer, (4,))
    at_rest = layer.subthreshold(drive)
    bh.rollout(layer, drive)
    before = {path: state.value for path, state in layer.states().items()}
    np.testing.assert_array_equal(layer.subthreshold(drive).mantissa, at_rest.mantissa)
    assert all(layer.states()[path].value is value for path, value in before.items())


@pytest.mark.parametrize("family", ["H1v1", "H1v2"])
@BATCHES
def test_chip_neurons_are_not_held_above_zero(family: str, batch: tuple[int, ...], simulate: Callable) -> None:
    layer = getattr(bh.nn, f"{family}Layer")(N, TAUS)
    charge = np.random.default_rng(1).normal(0.0, 5.0, (T, *batch, N)).astype(np.float32) * u.fcoulomb
    found = np.asarray(layer.subthreshold(charge).to(u.mV).mantissa)
    volts = np.asarray((charge / layer.chip.C).to(u.mV).mantissa)
    plain = simulate(volts, tau=np.asarray(layer.tau.to(u.ms).mantissa), V_th=np.inf, reset="none")["V_pre"]
    assert plain.min() < -10
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("family", ["H1v1", "H1v2"])
def test_chip_neurons_that_are_only_excited_do_what_their_layer_does(family: str) -> None:
    kind = getattr(bh.nn, f"{family}Layer")
    layer = kind(N, TAUS, topology="RC", chip=kind.preset.replace(V_th=1e6 * u.mV))
    charge = np.random.default_rng(2).random((T, 4, N)).astype(np.float32) * u.fcoulomb
    expected = membrane_of_a_run(layer, charge)
    np.testing.assert_allclose(layer.subthreshold(charge).to(u.mV).mantissa, expected, rtol=1e-5)


def test_chip_neurons_leak_as_the_prepared_chip_does(simulate: Callable) -> None:
    chip = bh.chip.H1V2.replace(leak_mismatch_std=0.5, provenance="measured")
    layer = bh.nn.H1v2Layer(N, 20 * u.ms, chip=chip)
    charge = np.random.default_rng(3).random((T, N)).astype(np.float32) * u.fcoulomb
    nominal = layer.subthreshold(charge)
    bh.prepare_net(layer, key=4)
    sampled = np.asarray(layer.subthreshold(charge).to(u.mV).mantissa)
    tau = np.asarray(layer.chip_tau.value.to(u.ms).mantissa)
    volts = np.asarray((charge / chip.C).to(u.mV).mantissa)
    np.testing.assert_allclose(sampled, simulate(volts, tau=tau, V_th=np.inf, reset="none")["V_pre"], rtol=1e-5)
    assert not np.allclose(sampled, nominal.to(u.mV).mantissa, rtol=0.01)


@pytest.mark.parametrize("kind", [bh.nn.CubaLIFLayer, bh.nn.ALIFLayer])
def test_noise_and_spikes_are_left_out(kind: type) -> None:
    noisy = kind(N, 2, noise_std=5 * u.mV / u.second**0.5, w_rec=True)
    silent = kind(N, 2, V_th=FAR)
    drive = drive_for(silent, (4,))
    spikes, _ = bh.rollout(noisy, drive)
    assert np.any(spikes)
    np.testing.assert_array_equal(noisy.subthreshold(drive).mantissa, silent.subthreshold(drive).mantissa)


@pytest.mark.parametrize("kind", ["LIF", "Cuba", "fractional"])
def test_drives_come_in_any_unit_of_voltage(kind: str) -> None:
    layer = LAYERS[kind]()
    drive = drive_for(layer, (2,))
    in_volts = (np.asarray(drive.mantissa) * 1e-3).astype(np.float32) * u.volt
    found = layer.subthreshold(in_volts)
    np.testing.assert_allclose(found.to(u.mV).mantissa, layer.subthreshold(drive).to(u.mV).mantissa, rtol=1e-4)


@pytest.mark.no_dt
@pytest.mark.parametrize("kind", ["LIF", "Cuba", "fractional"])
def test_time_step_must_be_set_and_counts(kind: str) -> None:
    layer = LAYERS[kind]()
    drive = drive_for(layer, ())
    with pytest.raises(RuntimeError, match=r"Layer\.subthreshold: no time step is set"):
        layer.subthreshold(drive)
    with brainstate.environ.context(dt=0.5 * u.ms):
        fine = layer.subthreshold(drive)
        np.testing.assert_allclose(fine.to(u.mV).mantissa, membrane_of_a_run(layer, drive), rtol=1e-4, atol=1e-5)
    with brainstate.environ.context(dt=1.0 * u.ms):
        assert not np.allclose(fine.to(u.mV).mantissa, layer.subthreshold(drive).to(u.mV).mantissa, rtol=0.01)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: bh.nn.LIFLayer(N, TAUS), 1.0),
        (lambda: bh.nn.LIFLayer(N, TAUS, 2e-3 * u.volt), 2.0),
        (lambda: bh.nn.LIFLayer(N, TAUS, np.array([1.0, 2.0, 3.0]) * u.mV), [1.0, 2.0, 3.0]),
        (lambda: bh.nn.CubaLIFLayer(N, V_th=brainstate.nn.Param(2e-3 * u.volt)), 2.0),
        (lambda: bh.nn.ALIFLayer(N, V_th=np.array([1.0, 2.0, 3.0]) * u.mV), [1.0, 2.0, 3.0]),
        (lambda: bh.nn.FractionalLIFLayer(N, V_th=4 * u.mV), 4.0),
        (lambda: bh.nn.H1v1Layer(N, 20 * u.ms), [100.0] * N),
        (lambda: bh.nn.H1v2Layer(N, 20 * u.ms), [100.0] * N),
    ],
)
def test_threshold_is_the_present_one_in_millivolt(layer: Callable[[], Any], expected: Any) -> None:
    V_th = layer().threshold()
    assert V_th.unit == u.mV
    np.testing.assert_allclose(V_th.mantissa, expected, rtol=1e-6)


def test_learnt_thresholds_and_sampled_ones_are_followed() -> None:
    learnt = bh.nn.LIFLayer(N, TAUS, brainstate.nn.Param(1.0 * u.mV))
    learnt.V_th.set_value(1.5 * u.mV)
    assert float(learnt.threshold().mantissa) == pytest.approx(1.5)
    chip = bh.nn.H1v1Layer(N, 20 * u.ms, chip=bh.chip.H1V1.replace(threshold_mismatch_std=0.2, provenance="measured"))
    bh.prepare_net(chip, key=5)
    assert np.std(chip.threshold().to(u.mV).mantissa) > 1
