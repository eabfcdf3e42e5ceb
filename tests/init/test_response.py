"""Measured response to one spike: closed forms, real layers, charge curves of every kind, errors."""

from __future__ import annotations

import warnings
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainhw as bh
from brainhw.init.circuit import Circuit
from brainhw.init.response import Response, measure_response

DT = 1e-3  # s
CHIPS = {"H1v1": bh.chip.H1V1, "H1v2": bh.chip.H1V2}
family = pytest.mark.parametrize("family", sorted(CHIPS))


def kernel_of(layer: Any, n_steps: int = 100, dt: u.Quantity = 1.0 * u.ms) -> Response:
    if isinstance(layer, bh.nn.H1Layer):
        synapse = getattr(bh.nn, f"{layer.family}Synapse")(
            4, layer.n_neurons, chip=layer.chip, weight_init=np.zeros((4, layer.n_neurons))
        )
    else:
        synapse = bh.nn.LIFSynapse(4, layer.in_size[-1], weight_init=np.zeros((4, layer.in_size[-1])) * u.mV)
    return measure_response(Circuit(synapse, layer), dt, n_steps)


def with_table(weights: Any, charges: Any) -> bh.chip.ChipSpec:
    curve = bh.chip.TabulatedCharge(weights, np.asarray(charges) * u.fcoulomb)
    return bh.chip.H1V1.replace(charge=curve, provenance="measured")


def decay(tau: Any) -> Any:
    return np.exp(-DT / (1e-3 * np.asarray(tau, dtype=float)))


def cuba_integrals(tau_mem: Any, tau_syn: Any) -> tuple[Any, Any]:
    """Two exponentials in series whose input decays once as it arrives, per mV of weight."""
    a, b = decay(tau_mem), decay(tau_syn)
    integral = DT * b / ((1 - a) * (1 - b))
    return integral, DT * b**2 * (1 + a * b) / ((1 - a**2) * (1 - b**2) * (1 - a * b))


@family
def test_chip_neurons_have_the_closed_form_for_every_tau(family: str) -> None:
    tau = np.array([1.0, 10.0, 20.0, 50.0, 200.0])
    layer = getattr(bh.nn, f"{family}Layer")(5, tau=tau * u.ms)
    kernel = kernel_of(layer)
    first = float((layer.chip.charge.slope_at_zero / layer.chip.C).to(u.mV).mantissa)
    beta = decay(tau)
    np.testing.assert_allclose(kernel.integral, DT * first / (1 - beta), rtol=1e-5)
    np.testing.assert_allclose(kernel.square_integral, DT * first**2 / (1 - beta**2), rtol=1e-5)
    np.testing.assert_allclose(kernel.peak, first, rtol=1e-5)
    np.testing.assert_allclose(kernel.response[:30], first * beta ** np.arange(30)[:, None], rtol=1e-5)
    assert kernel.asymmetry == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(kernel.offset, 0)


def test_lif_neurons_have_the_closed_form_in_single_precision() -> None:
    beta = decay(20.0)
    kernel = kernel_of(bh.nn.LIFLayer(2, tau=20 * u.ms))
    np.testing.assert_allclose(kernel.integral, DT / (1 - beta), rtol=1e-5)
    np.testing.assert_allclose(kernel.square_integral, DT / (1 - beta**2), rtol=1e-5)


@settings(max_examples=5, derandomize=True, deadline=None)
@given(tau=st.floats(0.5, 150), dt=st.sampled_from([0.5, 1.0, 2.0]), threshold=st.floats(1e-3, 1e3))
def test_any_lif_neuron_has_the_closed_form(tau: float, dt: float, threshold: float) -> None:
    with brainstate.environ.context(dt=dt * u.ms):
        kernel = kernel_of(bh.nn.LIFLayer(1, tau=tau * u.ms, V_th=threshold * u.mV), dt=dt * u.ms)
    beta = np.exp(-dt / tau)
    np.testing.assert_allclose(kernel.integral, 1e-3 * dt / (1 - beta), rtol=2e-5)
    np.testing.assert_allclose(kernel.square_integral, 1e-3 * dt / (1 - beta**2), rtol=1e-5)
    assert kernel.dt == pytest.approx(1e-3 * dt)


def test_current_based_neurons_have_the_closed_form() -> None:
    kernel = kernel_of(bh.nn.CubaLIFLayer(2, tau_mem=np.array([20.0, 40.0]) * u.ms, tau_syn=10 * u.ms))
    integral, square = cuba_integrals([20.0, 40.0], 10.0)
    np.testing.assert_allclose(kernel.integral, integral, rtol=1e-5)
    np.testing.assert_allclose(kernel.square_integral, square, rtol=1e-5)
    assert np.all(kernel.response[1] > kernel.response[0])  # the current continues after the spike
    np.testing.assert_allclose(kernel.response[0], decay(10.0), rtol=1e-5)


def test_two_synapses_of_a_neuron_have_a_column_each() -> None:
    tau_syn = np.array([[5.0, 30.0], [10.0, 2.0], [8.0, 8.0]])
    kernel = kernel_of(bh.nn.CubaLIFLayer(3, 2, tau_mem=20 * u.ms, tau_syn=tau_syn * u.ms))
    integral, square = cuba_integrals(20.0, tau_syn.reshape(-1))
    assert kernel.response.shape[1] == 6
    np.testing.assert_allclose(kernel.integral, integral, rtol=1e-5)
    np.testing.assert_allclose(kernel.square_integral, square, rtol=1e-5)


def test_adaptation_takes_no_part_in_the_response() -> None:
    kernel = kernel_of(bh.nn.ALIFLayer(1, tau_mem=20 * u.ms, tau_syn=10 * u.ms, w_rec=True))
    np.testing.assert_allclose(kernel.integral, cuba_integrals(20.0, 10.0)[0], rtol=1e-5)


@pytest.mark.parametrize("bias", [0.04, -0.04])
def test_bias_is_told_as_offset_and_takes_no_part_in_the_response(bias: float) -> None:
    biases = np.array([bias, 0.0])
    layer = bh.nn.CubaLIFLayer(2, tau_mem=20 * u.ms, tau_syn=10 * u.ms, bias=biases * u.mV)
    kernel = kernel_of(layer)
    np.testing.assert_allclose(kernel.offset, biases / (1 - decay(20.0)), rtol=1e-4)
    np.testing.assert_allclose(kernel.integral, cuba_integrals(20.0, 10.0)[0], rtol=1e-4)


def test_fractional_neurons_are_cut_off_at_the_length_of_the_data() -> None:
    """They never forget, so the response ends with the data: later values cannot matter."""
    layer = bh.nn.FractionalLIFLayer(2, alpha=jnp.array([0.3, 0.9]), tau=10 * u.ms, V_th=5 * u.mV)
    kernel = kernel_of(layer, n_steps=70)
    assert kernel.response.shape == (70, 2)
    impulse = jnp.zeros((70, 2)).at[0].set(1.0) * u.mV
    _, seen = bh.rollout(layer, impulse, record=(".V_pre",))
    np.testing.assert_allclose(kernel.response, seen[".V_pre"].to(u.mV).mantissa, rtol=1e-4, atol=1e-6)


def test_record_follows_the_slowest_neuron() -> None:
    fast, slow = (len(kernel_of(bh.nn.LIFLayer(2, tau=np.array(tau) * u.ms)).response) for tau in ((2, 5), (2, 100)))
    assert fast == 256
    assert slow > 100 * np.log(1e6)


def test_neurons_that_hardly_leak_are_reported() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kernel = kernel_of(bh.nn.LIFLayer(1, tau=100 * u.second))
    assert len(kernel.response) == 65_536
    assert len(caught) == 1
    assert "response of LIF neurons to one spike has not decayed after 65536 steps" in str(caught[0].message)


def test_printed_frontend_example_of_the_vendor() -> None:
    """16 inputs at 145.2 Hz, tau 10 ms, dt 1 ms: eps_bar 1.087e-4 V s, and mu_W = 0.3841 gives mu_U = 0.097 V."""
    kernel = kernel_of(bh.nn.H1v1Layer(1, tau=10 * u.ms))
    eps_bar = float(kernel.integral[0]) * 1e-3
    assert eps_bar == pytest.approx(1.087e-4, rel=0.01)
    assert 16 * 0.3841 * 145.2 * eps_bar == pytest.approx(0.097, abs=5e-4)


@family
def test_probe_is_small_enough_for_a_curve_that_bends(family: str) -> None:
    """The slope of the drive at zero weight, to 1 %, although the curve saturates; half of the probe agrees."""
    synapse = getattr(bh.nn, f"{family}Synapse")(3, 2)
    circuit = Circuit(synapse, getattr(bh.nn, f"{family}Layer")(2, tau=20 * u.ms))
    one_spike = jnp.ones((1, 1, 3)) / 3

    def slope(probe: float) -> float:
        return float(circuit.drive(jnp.full((3, 2), probe), one_spike).mantissa[0, 0, 0]) / probe

    probe = 1e-3 * circuit.weight_limit
    assert slope(probe) == pytest.approx(slope(probe / 2), rel=0.01)
    assert slope(probe) == pytest.approx(float(circuit.chip.charge.slope_at_zero.mantissa), rel=1e-4)
    if family == "H1v1":
        assert slope(circuit.weight_limit) < 0.95 * slope(probe)


def test_curve_that_bends_at_small_weights_takes_a_smaller_probe() -> None:
    curve = bh.chip.SaturatingCharge(50.0 * u.fcoulomb, saturation=2e-3)
    layer = bh.nn.H1v1Layer(1, tau=10 * u.ms, chip=bh.chip.H1V1.replace(charge=curve, provenance="measured"))
    expected = float((curve.slope_at_zero / layer.chip.C).to(u.mV).mantissa)
    np.testing.assert_allclose(kernel_of(layer).peak, expected, rtol=0.01)


def test_kink_at_zero_weight_is_measured_on_both_sides() -> None:
    """Slopes of 1 and 0.5 fC on the two sides of zero: their mean sets the mean, their mean square the variance."""
    chip = with_table([-0.9, -1e-5, 0.0, 1e-5, 0.9], [-0.45, -0.5e-5, 0.0, 1e-5, 0.9])
    kernel = kernel_of(bh.nn.H1v1Layer(1, tau=10 * u.ms, chip=chip))
    mean, rms = 0.75, np.sqrt((1 + 0.25) / 2)
    assert kernel.asymmetry == pytest.approx(rms / mean, rel=0.02)
    charge = float((1.0 * u.fcoulomb / chip.C).to(u.mV).mantissa)
    beta = decay(10.0)
    np.testing.assert_allclose(kernel.integral, DT * mean * charge / (1 - beta), rtol=0.02)
    np.testing.assert_allclose(kernel.square_integral, DT * (rms * charge) ** 2 / (1 - beta**2), rtol=0.03)


def test_curve_without_a_slope_at_zero_weight_is_refused() -> None:
    weights = np.logspace(-8, np.log10(0.9), 60)
    weights = np.concatenate([-weights[::-1], [0.0], weights])
    chip = with_table(weights, np.sign(weights) * np.sqrt(np.abs(weights)))
    with pytest.raises(RuntimeError, match="fluct_init: the charge curve of H1v1 is not smooth at zero weight"):
        kernel_of(bh.nn.H1v1Layer(1, tau=10 * u.ms, chip=chip))


def test_curve_that_gives_no_charge_at_small_weights_is_refused() -> None:
    chip = with_table([-0.9, -0.1, 0.0, 0.1, 0.9], [-0.8, 0.0, 0.0, 0.0, 0.8])
    with pytest.raises(RuntimeError, match="fluct_init: the synapse of H1v1 outputs no charge for weights up to"):
        kernel_of(bh.nn.H1v1Layer(1, tau=10 * u.ms, chip=chip))
