"""Charge curves: their values, their slopes, and what they refuse."""

import dataclasses
import pickle

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from brainhw.chip import ChargeCurve, LinearCharge, SaturatingCharge, TabulatedCharge

LINEAR = LinearCharge(0.45 * u.fcoulomb)
SATURATING = SaturatingCharge(1.034 * u.fcoulomb, 1.8)
TABLE_W = np.array([-0.9, -0.5, -0.1, 0.0, 0.2, 0.6, 0.9])
TABLE_Q = np.array([-0.70, -0.45, -0.10, 0.0, 0.21, 0.50, 0.50])
TABULATED = TabulatedCharge(TABLE_W, TABLE_Q * u.fcoulomb)
CURVES = (LINEAR, SATURATING, TABULATED)


def plain(curve, w):
    return curve(w).mantissa


@st.composite
def tables(draw):
    n = draw(st.sampled_from([2, 3, 7]))  # few shapes, few compilations
    steps = draw(st.lists(st.floats(0.05, 1.0), min_size=n, max_size=n))
    rises = draw(st.lists(st.one_of(st.just(0.0), st.floats(0.01, 2.0)), min_size=n, max_size=n))
    w = draw(st.floats(-2.0, 0.5)) + np.cumsum(steps)
    q = draw(st.floats(-2.0, 0.5)) + np.cumsum(rises)
    q[-1] += 0.1
    return w, q


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.kind)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_shape_dtype_and_unit_are_kept(curve, dtype, shape):
    charge = curve(jnp.full(shape, 0.25, dtype))
    assert charge.unit == u.fcoulomb
    assert charge.mantissa.shape == shape
    assert charge.mantissa.dtype == dtype
    assert np.allclose(np.asarray(charge.mantissa, float), np.asarray(plain(curve, 0.25), float), rtol=5e-3)


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.kind)
def test_every_kind_of_plain_number_is_taken(curve):
    for one in (1.0, 1, np.float64(1), np.array(1, dtype=np.int32), jnp.ones(()), True):
        assert np.allclose(plain(curve, one), plain(curve, jnp.float32(1.0)))
    assert plain(curve, [1.0, 2.0]).shape == (2,)
    assert plain(curve, np.zeros((0, 4), np.float32)).shape == (0, 4)


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.kind)
def test_zero_weight_brings_no_charge(curve):
    assert float(plain(curve, 0.0)) == 0.0


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.kind)
@pytest.mark.parametrize("weights", [0.5 * u.fcoulomb, jnp.ones(2) * u.mV, u.Quantity(0.5)])
def test_weight_with_a_unit_is_refused(curve, weights):
    with pytest.raises(TypeError, match=rf"{type(curve).__name__}: weights must be plain numbers"):
        curve(weights)


@pytest.mark.parametrize("weights", [None, "0.5", ["a"], jnp.ones(2, jnp.complex64)])
def test_what_is_no_real_array_is_refused(weights):
    with pytest.raises(TypeError, match="LinearCharge: weights must be"):
        LINEAR(weights)


def test_linear_values():
    assert np.allclose(plain(LINEAR, np.array([-1.66, 0.0, 1.0])), [-0.747, 0.0, 0.45])


def test_saturating_values():
    w = np.linspace(-3, 3, 31)
    assert np.allclose(plain(SATURATING, w), 1.034 * 1.8 * np.tanh(w / 1.8), rtol=1e-6, atol=1e-7)
    assert float(plain(SATURATING, 1e4)) == pytest.approx(1.034 * 1.8)


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.kind)
def test_slope_at_zero_is_the_gradient_there(curve):
    slope = curve.slope_at_zero
    assert slope.unit == u.fcoulomb
    assert float(jax.grad(lambda w: plain(curve, w))(0.0)) == pytest.approx(float(slope.mantissa), rel=1e-6)


def test_slope_at_zero_is_the_gain():
    assert SATURATING.slope_at_zero.mantissa == SATURATING.gain.mantissa == 1.034
    assert LINEAR.slope_at_zero.mantissa == LINEAR.gain.mantissa == 0.45
    assert SATURATING.saturation == 1.8


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.kind)
def test_jit_and_vmap_equal_eager(curve):
    w = jnp.linspace(-1.5, 1.5, 61)
    eager = plain(curve, w)
    assert np.allclose(plain(jax.jit(curve), w), eager, rtol=1e-6, atol=1e-7)
    assert np.allclose(plain(jax.vmap(curve), w), eager, rtol=1e-6, atol=1e-7)
    one_by_one = [float(plain(curve, x)) for x in w[::10]]
    assert np.allclose(one_by_one, eager[::10], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.kind)
def test_float64_is_kept_where_jax_has_it(curve):
    with jax.enable_x64(True):
        assert plain(curve, jnp.asarray(0.3, jnp.float64)).dtype == jnp.float64


def test_tabulated_gives_the_table_back():
    assert np.allclose(plain(TABULATED, TABLE_W), TABLE_Q, atol=1e-7)
    assert np.array_equal(TABULATED.weights, TABLE_W)
    assert np.array_equal(TABULATED.charges.mantissa, TABLE_Q)
    assert TABULATED.charges.unit == u.fcoulomb


@settings(derandomize=True, deadline=None, max_examples=20)
@given(tables())
def test_tabulated_is_scipys_pchip_inside_and_straight_outside(table):
    w, q = table
    curve, pchip = TabulatedCharge(w, q * u.fcoulomb), PchipInterpolator(w, q)
    inside = np.linspace(w[0], w[-1], 57)
    assert np.allclose(plain(curve, inside), pchip(inside), rtol=1e-4, atol=1e-4)
    for end, step in ((w[0], -1.5), (w[-1], 1.5)):
        line = pchip(end) + pchip(end, 1) * step
        assert np.allclose(plain(curve, end + step), line, rtol=1e-4, atol=1e-4)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(tables())
def test_tabulated_never_falls(table):
    w, q = table
    values = np.asarray(plain(TabulatedCharge(w, q * u.fcoulomb), np.linspace(w[0] - 1, w[-1] + 1, 201)), float)
    assert np.all(np.diff(values) > -1e-5 * np.abs(values).max())


@settings(derandomize=True, deadline=None, max_examples=6)
@given(tables())
def test_tabulated_gradient_is_continuous_and_right(table):
    w, q = table
    with jax.enable_x64(True):
        curve = TabulatedCharge(w, q * u.fcoulomb)
        # Left of, on and right of every knot the slope is the same: no jump, and none lost on a knot itself.
        around = np.stack([w - 1e-9, w, w + 1e-9])
        between = np.linspace(w[0] - 0.5, w[-1] + 0.5, 83)
        x, h = jnp.concatenate([around.ravel(), between]), 1e-8
        value = jax.jit(lambda x: plain(curve, x))
        slopes = np.asarray(jax.jit(jax.grad(lambda x: value(x).sum()))(x))
        left, on, right = slopes[: around.size].reshape(around.shape)
        assert np.allclose(left, on, rtol=1e-5, atol=1e-5)
        assert np.allclose(right, on, rtol=1e-5, atol=1e-5)
        assert np.allclose(slopes, (value(x + h) - value(x - h)) / (2 * h), rtol=1e-4, atol=2e-4)


def test_tabulated_gradient_on_the_end_points_in_float32():
    pchip = PchipInterpolator(TABLE_W, TABLE_Q)
    ends = jnp.asarray([TABLE_W[0], TABLE_W[-1]], jnp.float32)
    gradient = jax.vmap(jax.grad(lambda x: plain(TABULATED, x)))(ends)
    assert np.allclose(gradient, pchip(TABLE_W[[0, -1]], 1), atol=1e-5)


def test_tabulated_slope_at_zero_outside_the_table_is_the_end_slope():
    curve = TabulatedCharge([1.0, 2.0], [1.0, 4.0] * u.fcoulomb)
    assert float(curve.slope_at_zero.mantissa) == pytest.approx(3.0)
    assert float(plain(curve, 0.0)) == pytest.approx(-2.0)


def test_units_of_charge_are_converted():
    assert LinearCharge(0.45e-15 * u.coulomb) == LINEAR
    assert TabulatedCharge([0, 1], [0, 1e-3] * u.pcoulomb) == TabulatedCharge([0.0, 1.0], [0.0, 1.0] * u.fcoulomb)


def test_numbers_typed_as_float32_are_the_numbers_typed():
    assert LinearCharge(jnp.float32(0.45) * u.fcoulomb) == LINEAR
    assert TabulatedCharge(jnp.asarray(TABLE_W), TABLE_Q.tolist() * u.fcoulomb) == TABULATED


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.kind)
def test_equal_by_value_hashable_frozen_and_picklable(curve):
    again = ChargeCurve.from_dict(curve.to_dict())
    assert again == curve
    assert hash(again) == hash(curve)
    assert pickle.loads(pickle.dumps(curve)) == curve
    assert len({*CURVES, again}) == len(CURVES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        curve.kind = "other"
    assert repr(curve).startswith(f"{type(curve).__name__}(")


def test_what_a_curve_hands_out_cannot_change_it():
    TABULATED.weights[0] = 7.0
    charges = TABULATED.charges
    charges[0] = 7.0 * u.fcoulomb
    assert np.array_equal(TABULATED.charges.mantissa, TABLE_Q)
    assert np.array_equal(TABULATED.weights, TABLE_W)


def test_different_values_are_different_curves():
    assert LinearCharge(0.46 * u.fcoulomb) != LINEAR
    assert SaturatingCharge(1.034 * u.fcoulomb, 1.7) != SATURATING
    assert TabulatedCharge(TABLE_W, 2 * TABLE_Q * u.fcoulomb) != TABULATED


@pytest.mark.parametrize(
    ("gain", "error", "match"),
    [
        (0.45, TypeError, "must be a Quantity"),
        (0.45 * u.mV, TypeError, "dimension of fC"),
        (0.0 * u.fcoulomb, ValueError, "greater than zero"),
        (-1.0 * u.fcoulomb, ValueError, "greater than zero"),
        (float("nan") * u.fcoulomb, ValueError, "finite"),
        (np.ones(2) * u.fcoulomb, ValueError, "scalar"),
        (None, TypeError, "must be a Quantity"),
        (1j * u.fcoulomb, TypeError, "real numbers"),
    ],
)
def test_bad_gain_is_refused(gain, error, match):
    with pytest.raises(error, match=rf"LinearCharge: gain .*{match}"):
        LinearCharge(gain)
    with pytest.raises(error, match=rf"SaturatingCharge: gain .*{match}"):
        SaturatingCharge(gain, 1.8)


@pytest.mark.parametrize(
    ("saturation", "error"),
    [
        (0.0, ValueError),
        (-1.0, ValueError),
        (np.inf, ValueError),
        (1.8 * u.mV, TypeError),
        ("1.8", TypeError),
        (True, TypeError),
    ],
)
def test_bad_saturation_is_refused(saturation, error):
    with pytest.raises(error, match="SaturatingCharge: saturation "):
        SaturatingCharge(1.0 * u.fcoulomb, saturation)


@pytest.mark.parametrize(
    ("weights", "charges", "error", "match"),
    [
        ([0.0], [0.0] * u.fcoulomb, ValueError, "at least 2"),
        ([0.0, 1.0], [0.0, 1.0, 2.0] * u.fcoulomb, ValueError, "same length"),
        ([[0.0, 1.0]], [[0.0, 1.0]] * u.fcoulomb, ValueError, "two lists"),
        ([0.0, 0.0], [0.0, 1.0] * u.fcoulomb, ValueError, "weights must be strictly increasing"),
        ([1.0, 0.0], [0.0, 1.0] * u.fcoulomb, ValueError, "weights must be strictly increasing"),
        ([0.9, 0.9 + 1e-12], [0.0, 1.0] * u.fcoulomb, ValueError, "weights must be strictly increasing"),
        ([0.0, 1.0], [1.0, 0.0] * u.fcoulomb, ValueError, "charges must not decrease"),
        ([0.0, 1.0], [1.0, 1.0] * u.fcoulomb, ValueError, "the last charge must be larger than the first"),
        ([0.0, np.nan], [0.0, 1.0] * u.fcoulomb, ValueError, "weights must be finite"),
        ([0.0, 1.0], [0.0, np.inf] * u.fcoulomb, ValueError, "charges must be finite"),
        ([0.0, 1.0], [0.0, 1.0], TypeError, "charges must be a Quantity"),
        ([0.0, 1.0], [0.0, 1.0] * u.mV, TypeError, "charges must have the dimension"),
        ([0.0, 1.0] * u.mV, [0.0, 1.0] * u.fcoulomb, TypeError, "weights must be a number without a unit"),
        ([[0.0], [1.0, 2.0]], [0.0, 1.0] * u.fcoulomb, TypeError, "weights must be real numbers"),
    ],
)
def test_bad_table_is_refused(weights, charges, error, match):
    with pytest.raises(error, match=f"TabulatedCharge: {match}|TabulatedCharge: weights and charges .*{match}"):
        TabulatedCharge(weights, charges)


def test_curve_cannot_be_built_from_traced_numbers():
    with pytest.raises(TypeError, match="LinearCharge: gain must be concrete; got a traced value"):
        jax.jit(lambda g: LinearCharge(g * u.fcoulomb)(1.0).mantissa)(1.0)


def test_base_class_cannot_be_built():
    with pytest.raises(TypeError, match="abstract"):
        ChargeCurve()


def test_from_dict_converts_any_unit_of_charge():
    assert ChargeCurve.from_dict({"kind": "linear", "gain": 0.45e-3, "unit": "pcoulomb"}) == LINEAR
    assert ChargeCurve.from_dict({"kind": "linear", "gain": 0.45, "unit": "fC"}) == LINEAR


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({}, "kind must be one of 'linear', 'saturating', 'tabulated'; got None"),
        ({"kind": "cubic"}, "kind must be one of"),
        ({"kind": ["linear"]}, "kind must be one of"),
        ({"kind": "linear", "unit": "fC"}, "requires 'gain'"),
        ({"kind": "linear", "gain": 1.0}, "requires 'unit'"),
        ({"kind": "linear", "gain": 1.0, "unit": "fC", "saturate": 1}, "has no parameter 'saturate'"),
        ({"kind": "saturating", "gain": 1.0, "unit": "fC", "saturation": 1, "Gain": 1}, "did you mean 'gain'"),
        ({"kind": "linear", "gain": 1.0, "unit": "mV"}, "has the wrong dimension"),
        ({"kind": "linear", "gain": 1.0, "unit": "fcoulom"}, "does not know .did you mean 'fcoulomb'"),
        ({"kind": "linear", "gain": 1.0, "unit": 3}, "must be the name of a brainunit unit"),
    ],
)
def test_from_dict_refuses(data, match):
    with pytest.raises(ValueError, match=rf"ChargeCurve.from_dict: .*{match}"):
        ChargeCurve.from_dict(data)


@pytest.mark.parametrize("gain", ["1.0", True, None])
def test_from_dict_refuses_what_is_no_number(gain):
    with pytest.raises(TypeError, match="LinearCharge: gain must be real numbers"):
        ChargeCurve.from_dict({"kind": "linear", "gain": gain, "unit": "fC"})
