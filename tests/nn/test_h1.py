"""The chip neurons: closed forms, the numpy simulation, resets, the clamp at zero and the snapping of tau."""

from __future__ import annotations

import warnings

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import brainhw as bh
from brainhw.chip import H1V1, H1V2, TauProfiles

V_TH = 100.0
LAYERS = {"H1v1": bh.nn.H1v1Layer, "H1v2": bh.nn.H1v2Layer}
RESETS = {"H1v1": "zero", "H1v2": "subtract"}
both = pytest.mark.parametrize("family", ["H1v1", "H1v2"])


def run(layer: bh.nn.H1Layer, charge: np.ndarray) -> dict[str, np.ndarray]:
    """Drive a layer with ``[T, ..., N]`` fC and return what it did (membranes in mV)."""
    spikes, seen = bh.rollout(layer, charge * u.fcoulomb, record=("V", "V_pre", "spk"))
    assert np.array_equal(spikes, seen["spk"])
    return {name: np.asarray(u.get_mantissa(value)) for name, value in seen.items()}


@both
def test_membrane_decays_exponentially_without_charge(family: str) -> None:
    taus = np.array([5.0, 10.0, 50.0])
    charge = np.zeros((60, 3))
    charge[0] = 9.0
    V = run(LAYERS[family](3, tau=taus * u.ms), charge)["V"]
    # 1 fC on 100 fF is 10 mV.
    np.testing.assert_allclose(V, 90.0 * np.exp(-np.arange(60)[:, None] / taus), rtol=2e-5)


@both
def test_membrane_settles_under_constant_charge(family: str) -> None:
    V = run(LAYERS[family](1, tau=20 * u.ms), np.full((300, 1), 0.4))["V"]
    beta = np.exp(-1 / 20)
    np.testing.assert_allclose(V[:, 0], 4.0 * (1 - beta ** np.arange(1, 301)) / (1 - beta), rtol=2e-5)


def test_h1v1_fires_with_the_period_of_the_closed_form() -> None:
    charges = np.array([0.9, 1.2, 2.0, 3.5, 7.0, 11.0])
    spikes = run(bh.nn.H1v1Layer(6, tau=10 * u.ms), np.broadcast_to(charges, (400, 6)))["spk"]
    beta = np.exp(-0.1)
    for j, step in enumerate(charges * 10.0):
        if step / (1 - beta) <= V_TH:
            assert spikes[:, j].sum() == 0
            continue
        period = int(np.ceil(np.log(1 - V_TH * (1 - beta) / step) / np.log(beta)))
        np.testing.assert_array_equal(np.flatnonzero(spikes[:, j]) + 1, np.arange(period, 401, period))
    assert spikes.sum(axis=0)[0] == 0
    assert spikes[:, -1].all()


def test_h1v2_fires_at_the_rate_at_which_charge_and_leak_balance() -> None:
    charges = np.array([1.2, 3.5, 7.0, 9.0])
    seen = run(bh.nn.H1v2Layer(4, tau=10 * u.ms), np.broadcast_to(charges, (2000, 4)))
    late = slice(500, None)
    leak = (1 - np.exp(-0.1)) * seen["V"][late].mean(axis=0)
    np.testing.assert_allclose(seen["spk"][late].mean(axis=0), (10 * charges - leak) / V_TH, atol=2.5e-3)


@both
@pytest.mark.parametrize("topology", ["FF", "RC"])
def test_random_charge_equals_the_numpy_simulation(simulate, family: str, topology: str) -> None:
    rng = np.random.default_rng(7)
    charge = rng.normal(1.2, 4.0, (60, 3, 5))
    taus = np.array([5.0, 10.0, 20.0, 50.0, 100.0])
    weights = rng.uniform(-0.9, 0.9, (5, 5)) if topology == "RC" else None
    layer = LAYERS[family](5, tau=taus * u.ms, topology=topology, recurrent_init=weights)
    seen = run(layer, charge)
    recurrent = None
    if weights is not None:
        curve = {"H1v1": lambda w: 1.034 * 1.8 * np.tanh(w / 1.8), "H1v2": lambda w: 0.45 * w}[family]
        recurrent = 10.0 * curve(weights)
    wanted = simulate(10.0 * charge, tau=taus, V_th=V_TH, reset=RESETS[family], clamped=True, recurrent=recurrent)
    assert wanted["margin"] > 1e-3
    np.testing.assert_array_equal(seen["spk"], wanted["spk"])
    np.testing.assert_allclose(seen["V"], wanted["V"], atol=2e-3)
    assert 0.02 < seen["spk"].mean() < 0.9
    assert (seen["V"] == 0).any()


@both
@settings(derandomize=True, deadline=None, max_examples=40)
@given(charge=hnp.arrays(np.float32, (15, 4), elements=st.floats(-1e4, 1e4, width=32)))
def test_membrane_is_never_negative_and_on_h1v1_always_below_threshold(family: str, charge: np.ndarray) -> None:
    seen = compiled(family)(charge)
    V, V_pre, spk = (np.asarray(seen[name]) for name in ("V", "V_pre", "spk"))
    assert (V >= 0).all()
    assert (V_pre >= 0).all()
    np.testing.assert_array_equal(spk, V_pre >= V_TH)
    if family == "H1v1":
        assert (V < V_TH).all()
        assert (V[spk == 1] == 0).all()
    else:
        np.testing.assert_array_equal(V[spk == 1], np.maximum(V_pre - np.float32(V_TH), 0)[spk == 1])
    np.testing.assert_array_equal(V[spk == 0], V_pre[spk == 0])


_compiled: dict[str, brainstate.transform.JittedFunction] = {}


def compiled(family: str):
    """One compiled run for each family, shared by all examples."""
    if family not in _compiled:
        layer = LAYERS[family](4, tau=[5, 10, 20, 100] * u.ms)

        @brainstate.transform.jit
        def step_through(charge):
            seen = bh.rollout(layer, charge * u.fcoulomb, record=("V", "V_pre", "spk"))[1]
            return {name: u.get_mantissa(value) for name, value in seen.items()}

        _compiled[family] = step_through
    return _compiled[family]


@both
def test_negative_charge_leaves_the_membrane_at_zero(family: str) -> None:
    V = run(LAYERS[family](1, tau=10 * u.ms), np.array([[5.0], [-3.0], [-30.0], [-1.0], [2.0]]))["V"][:, 0]
    beta = np.exp(-0.1)
    np.testing.assert_allclose(V, [50.0, 50.0 * beta - 30.0, 0.0, 0.0, 20.0], rtol=1e-5)


@both
def test_threshold_capacitance_and_profiles_come_from_the_chip(family: str) -> None:
    preset = {"H1v1": H1V1, "H1v2": H1V2}[family]
    chip = preset.replace(V_th=0.05 * u.volt, C=0.2 * u.pfarad, tau_profiles=TauProfiles([0.03, 0.3] * u.second))
    layer = LAYERS[family](2, tau=30 * u.ms, chip=chip)
    assert layer.tau.mantissa.tolist() == [30.0, 30.0]
    spikes = layer(jnp.array([9.9, 10.1]) * u.fcoulomb)
    assert spikes.tolist() == [0.0, 1.0]
    np.testing.assert_allclose(layer.V.value.mantissa[0], 49.5, rtol=1e-6)


@both
def test_a_tau_that_moves_by_over_one_percent_is_reported_once(family: str) -> None:
    with pytest.warns(UserWarning, match=rf"{family}Layer: 2 of 3 requested tau .* 9 -> 10 ms, 70 -> 50 ms") as caught:
        layer = LAYERS[family](3, tau=[9.0, 20.0, 70.0] * u.ms)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert layer.tau.mantissa.tolist() == [10.0, 20.0, 50.0]
    assert u.get_unit(layer.tau) == u.ms


@both
def test_a_tau_within_one_percent_snaps_in_silence(family: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = LAYERS[family](3, tau=[9.95, 20.1, 0.1e3] * u.ms)
        same = LAYERS[family](3, tau=[0.00995, 0.0201, 0.1] * u.second)
    assert layer.tau.mantissa.tolist() == same.tau.mantissa.tolist() == [10.0, 20.0, 100.0]


@both
def test_the_snapped_tau_is_the_one_that_decays(family: str) -> None:
    with pytest.warns(UserWarning, match="30 -> 20 ms"):
        layer = LAYERS[family](1, tau=30 * u.ms)
    V = run(layer, np.array([[5.0], [0.0]]))["V"]
    np.testing.assert_allclose(V[:, 0], [50.0, 50.0 * np.exp(-1 / 20)], rtol=1e-6)


@both
@pytest.mark.parametrize("chip", ["h1v1", "H1v2"])
def test_a_chip_may_be_named(family: str, chip: str) -> None:
    if chip.lower() == family.lower():
        assert LAYERS[family](1, tau=10 * u.ms, chip=chip).chip.family == family
    else:
        with pytest.raises(ValueError, match=rf"{family}Layer: chip must be of family '{family}'; got 'H1v"):
            LAYERS[family](1, tau=10 * u.ms, chip=chip)


@both
@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_states_have_the_batch_and_start_at_rest(family: str, batch_size: int | None) -> None:
    layer = LAYERS[family]((3,), tau=10 * u.ms)
    shape = (3,) if batch_size is None else (batch_size, 3)
    layer.init_state(batch_size)
    V = layer.V
    layer(jnp.full(shape, 5.0) * u.fcoulomb)
    layer.reset_state(batch_size)
    assert layer.V is V
    assert np.array_equal(V.value.mantissa, np.zeros(shape))
    assert np.array_equal(layer.spk.value, np.zeros(shape))
    assert u.get_unit(V.value) == u.mV
