"""Spike functions: threshold, derivative, smooth step, extremes, and JAX transforms."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainhw import surrogate

STEEPEST = 1e5
FACTORIES = {"atan": surrogate.atan, "fast_sigmoid": surrogate.fast_sigmoid, "sigmoid": surrogate.sigmoid}
CLASSES = {"atan": surrogate.ATan, "fast_sigmoid": surrogate.FastSigmoid, "sigmoid": surrogate.Sigmoid}
PARAMETER = {"atan": "alpha", "fast_sigmoid": "slope", "sigmoid": "slope"}
DEFAULT = {"atan": 2.0, "fast_sigmoid": 25.0, "sigmoid": 25.0}
DTYPES = ("float16", "bfloat16", "float32", "float64")
HALF = ("float16", "bfloat16")
ULPS = {name: float(jnp.finfo(name).eps) for name in DTYPES}

every = pytest.mark.parametrize("name", sorted(FACTORIES))
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
examples = settings(derandomize=True, deadline=None, max_examples=40)
steepness = st.floats(0.1, 200.0)
reach = st.floats(-1e4, 1e4, width=32)


# The three derivatives as in the documentation of NWAVE, and their integrals, in double precision.
DERIVATIVE: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "atan": lambda x, a: (a / 2) / (1 + (np.pi / 2 * a * x) ** 2),
    "fast_sigmoid": lambda x, k: 1 / (k * np.abs(x) + 1) ** 2,
    "sigmoid": lambda x, k: k * np.exp(-k * x) / (np.exp(-k * x) + 1) ** 2,
}
STEP: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "atan": lambda x, a: np.arctan(np.pi / 2 * a * x) / np.pi + 0.5,
    "fast_sigmoid": lambda x, k: 0.5 + x / (1 + k * np.abs(x)),
    "sigmoid": lambda x, k: 1 / (1 + np.exp(-k * x)),
}


@pytest.fixture
def wide(request: pytest.FixtureRequest) -> Iterator[None]:
    """Double precision for the tests whose ``dtype`` is float64."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.getfixturevalue("dtype") == "float64")
    yield
    jax.config.update("jax_enable_x64", before)


def slopes(spike: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Gradient of each spike with respect to its own argument."""
    return jax.jit(jax.grad(lambda v: jnp.sum(spike(v))))(x)  # one compilation instead of one per operation


def double(x: jax.Array) -> np.ndarray:
    return np.asarray(x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x).astype(np.float64)


# ---------------------------------------------------------------- forward


@every
@each_dtype
@pytest.mark.usefixtures("wide")
def test_spikes_at_threshold_and_above(name: str, dtype: str) -> None:
    x = jnp.asarray([-1e4, -1.0, -6e-8, 0.0, -0.0, 6e-8, 1.0, 1e4], dtype)
    y = FACTORIES[name]()(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(double(y), [0, 0, 0, 1, 1, 1, 1, 1])


@every
def test_is_a_braintools_surrogate(name: str) -> None:
    spike = FACTORIES[name]()
    assert type(spike) is CLASSES[name]
    assert isinstance(spike, braintools.surrogate.Surrogate)


@every
@pytest.mark.parametrize("x", [-2, True, np.int8(4), jnp.array([0, -1]), [True, False]])
def test_integers_and_booleans_become_floats(name: str, x: object) -> None:
    spike = FACTORIES[name]()
    for function in (spike, spike.surrogate_grad, spike.surrogate_fun):
        y = function(x)
        assert y.dtype == jnp.float32
        np.testing.assert_array_equal(y, function(jnp.asarray(x, jnp.float32)))


@every
def test_python_and_numpy_numbers_are_taken(name: str) -> None:
    spike = FACTORIES[name]()
    for x in (0.25, np.float32(0.25), np.array([0.25, -0.25])):
        np.testing.assert_array_equal(spike(x), np.asarray(x) >= 0)
    assert jax.grad(spike)(0.25) == spike.surrogate_grad(0.25)


# ---------------------------------------------------------------- derivative and smooth step


@every
@each_dtype
@pytest.mark.usefixtures("wide")
def test_gradient_of_the_spike_is_the_written_formula(name: str, dtype: str) -> None:
    x = jnp.linspace(-3, 3, 601).astype(dtype)
    # The exponent k x reaches 75, which amplifies its rounding error by that factor.
    ulps = 100 if name == "sigmoid" and dtype not in HALF else 6
    for value in (DEFAULT[name], 5.0):
        spike = FACTORIES[name](value)
        expected = DERIVATIVE[name](double(x), value)
        smallest = float(jnp.finfo(dtype).smallest_subnormal) if dtype in HALF else 0.0
        for got in (slopes(spike, x), spike.surrogate_grad(x)):
            assert got.dtype == x.dtype
            np.testing.assert_allclose(double(got), expected, rtol=ulps * ULPS[dtype], atol=smallest)


@every
@each_dtype
@pytest.mark.usefixtures("wide")
def test_smooth_step_is_the_integral_of_the_formula(name: str, dtype: str) -> None:
    x = jnp.linspace(-3, 3, 601).astype(dtype)
    spike = FACTORIES[name]()
    got = spike.surrogate_fun(x)
    assert got.dtype == x.dtype
    np.testing.assert_allclose(double(got), STEP[name](double(x), DEFAULT[name]), atol=2 * ULPS[dtype])
    assert spike.surrogate_fun(jnp.zeros((), dtype)) == 0.5


@every
@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.usefixtures("wide")
def test_derivative_is_the_autodiff_of_the_smooth_step(name: str, dtype: str) -> None:
    x = jnp.linspace(-3, 3, 602, dtype=dtype)  # an even number of points, so that none lies at the kink
    spike = FACTORIES[name]()
    np.testing.assert_allclose(slopes(spike.surrogate_fun, x), spike.surrogate_grad(x), rtol=1e-11, atol=1e-14)
    assert jax.grad(spike.surrogate_fun)(0.0) == spike.surrogate_grad(0.0)


@every
@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.usefixtures("wide")
def test_derivative_at_zero_is_that_of_both_sides(name: str, dtype: str) -> None:
    spike, h = FACTORIES[name](), 1e-7
    for side in (h, -h):
        quotient = (spike.surrogate_fun(jnp.asarray(side, dtype)) - 0.5) / side
        np.testing.assert_allclose(quotient, spike.surrogate_grad(0.0), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.usefixtures("wide")
def test_second_derivative_of_fast_sigmoid_jumps_at_the_kink(dtype: str) -> None:
    spike = surrogate.fast_sigmoid(25.0)
    curvature = jax.vmap(jax.grad(jax.grad(spike)))(jnp.asarray([-1e-12, 0.0, 1e-12], dtype))
    np.testing.assert_allclose(curvature, [50.0, -50.0, -50.0], rtol=1e-9)


@every
def test_peak_area_and_reach_are_as_documented(name: str) -> None:
    value = 4.0
    spike = FACTORIES[name](value)
    peak = {"atan": value / 2, "fast_sigmoid": 1.0, "sigmoid": value / 4}[name]
    half_height = {"atan": 0.5, "fast_sigmoid": 1 / value, "sigmoid": 0.5}[name]
    assert float(spike.surrogate_grad(0.0)) == peak
    np.testing.assert_allclose(spike.surrogate_fun(1e7) - 0.5, half_height, rtol=1e-6)
    np.testing.assert_allclose(spike.surrogate_fun(-1e7) - 0.5, -half_height, rtol=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (surrogate.atan(2.0), braintools.surrogate.Arctan(2.0)),
        (surrogate.fast_sigmoid(25.0), braintools.surrogate.InvSquareGrad(25.0)),
        (surrogate.sigmoid(25.0), braintools.surrogate.Sigmoid(25.0)),
    ],
    ids=repr,
)
def test_equals_the_class_of_braintools(ours: surrogate.ATan, theirs: braintools.surrogate.Surrogate) -> None:
    x = jnp.linspace(-1, 1, 401)
    assert isinstance(ours, type(theirs))
    np.testing.assert_array_equal(ours(x), theirs(x))
    # braintools computes 1 - sigma(k x), which loses an absolute 6e-8 times k.
    atol = 25 * 1.2e-7 if isinstance(ours, surrogate.Sigmoid) else 0.0
    np.testing.assert_allclose(slopes(ours, x), slopes(theirs, x), rtol=4 * ULPS["float32"], atol=atol)
    if not isinstance(ours, surrogate.FastSigmoid):
        np.testing.assert_allclose(ours.surrogate_fun(x), theirs.surrogate_fun(x), rtol=0, atol=1.2e-7)


# ---------------------------------------------------------------- extremes


@every
@each_dtype
@pytest.mark.parametrize("value", [None, STEEPEST])
@pytest.mark.usefixtures("wide")
def test_everything_is_finite_far_from_threshold(name: str, dtype: str, value: float | None) -> None:
    spike = FACTORIES[name](DEFAULT[name] if value is None else value)
    edges = np.concatenate([np.logspace(-7, 4, 45), [0.0, 65504.0]])
    x = jnp.asarray(np.concatenate([-edges, edges]), dtype)

    def results(v: jax.Array) -> tuple[jax.Array, ...]:
        return spike(v), slopes(spike, v), spike.surrogate_fun(v)

    for result in (jax.jit(results) if value is None else results)(x):  # fused and op by op
        assert result.dtype == x.dtype
        assert np.all(np.isfinite(double(result)))


@every
@each_dtype
@pytest.mark.usefixtures("wide")
def test_second_derivative_is_finite_and_is_that_of_the_formula(name: str, dtype: str) -> None:
    spike = FACTORIES[name]()
    far = jnp.asarray([-1e4, -100.0, -3.6, -0.1, 0.0, 0.1, 3.6, 100.0, 1e4], dtype)
    curvature = slopes(lambda v: slopes(spike, v), far)
    assert curvature.dtype == far.dtype
    assert np.all(np.isfinite(double(curvature)))
    if dtype == "float64":
        h = 1e-6
        near = jnp.asarray([-0.3, -0.05, 0.05, 0.3], dtype)
        quotient = (spike.surrogate_grad(near + h) - spike.surrogate_grad(near - h)) / (2 * h)
        np.testing.assert_allclose(slopes(lambda v: slopes(spike, v), near), quotient, rtol=1e-6)


@every
def test_half_precision_keeps_what_it_can_hold(name: str) -> None:
    # (pi x)^2 and (25 x + 1)^2 exceed 65504 long before the derivative falls below the smallest float16.
    x = jnp.asarray([12.0, -12.0, 100.0], jnp.float16)
    got = FACTORIES[name]().surrogate_grad(x)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.nan_to_num(DERIVATIVE[name](double(x), DEFAULT[name]))
    np.testing.assert_allclose(double(got), expected, rtol=ULPS["float16"], atol=6e-8)
    if name != "sigmoid":
        assert np.all(double(got) > 0)


@pytest.mark.parametrize("dtype", HALF)
def test_smooth_step_of_fast_sigmoid_ends_at_its_height_in_half_precision(dtype: str) -> None:
    y = surrogate.fast_sigmoid(25.0).surrogate_fun(jnp.asarray([-1e4, 1e4], dtype))
    np.testing.assert_allclose(double(y), [0.46, 0.54], rtol=ULPS[dtype])


# ---------------------------------------------------------------- properties


@every
@examples
@given(value=steepness, a=reach, b=reach)
def test_smooth_step_rises(name: str, value: float, a: float, b: float) -> None:
    low, high = FACTORIES[name](value).surrogate_fun(jnp.asarray(sorted((a, b)), jnp.float32))
    assert high >= low - 4 * ULPS["float32"] * abs(low)


@every
@examples
@given(value=steepness, x=reach)
def test_derivative_is_even_positive_and_below_its_peak(name: str, value: float, x: float) -> None:
    spike = FACTORIES[name](value)
    here, there, peak = (spike.surrogate_grad(jnp.asarray(v, jnp.float32)) for v in (x, -x, 0.0))
    assert here == there
    assert 0 <= here <= peak * (1 + 2 * ULPS["float32"])


@every
@examples
@given(value=steepness, x=reach)
def test_smooth_step_is_odd_about_one_half(name: str, value: float, x: float) -> None:
    here, there = FACTORIES[name](value).surrogate_fun(jnp.asarray([x, -x], jnp.float32))
    np.testing.assert_allclose(here + there, 1.0, atol=4 * ULPS["float32"] * max(1.0, abs(float(here))))


@every
@examples
@given(value=st.floats(1e-300, STEEPEST), x=reach, dtype=st.sampled_from(DTYPES[:3]))
def test_no_accepted_steepness_gives_nan(name: str, value: float, x: float, dtype: str) -> None:
    spike, v = FACTORIES[name](value), jnp.asarray(x, dtype)
    for result in (spike(v), spike.surrogate_grad(v), spike.surrogate_fun(v)):
        assert np.isfinite(double(result))


# ---------------------------------------------------------------- errors


@every
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0.0, ValueError),
        (-1.0, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (1.01 * STEEPEST, ValueError),
        (25.0 * u.mV, TypeError),
        (u.Quantity(25.0), TypeError),
        ("25", TypeError),
        (True, TypeError),
        (None, TypeError),
        (1j, TypeError),
        (lambda: 25.0, TypeError),
        ([25.0, 10.0], ValueError),
    ],
    # The address of a function would give different names in the processes that share the tests.
    ids=lambda given: "a function" if inspect.isfunction(given) else str(given),
)
def test_refuses_a_bad_steepness(name: str, value: Any, error: type[Exception]) -> None:
    for make in (FACTORIES[name], CLASSES[name]):
        with pytest.raises(error, match=f"^{name}: {PARAMETER[name]} "):
            make(value)


@every
def test_refuses_a_traced_steepness(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}: {PARAMETER[name]} must be a number"):
        jax.jit(lambda k: FACTORIES[name](k)(jnp.zeros(2)))(3.0)


@every
@pytest.mark.parametrize("x", [1.0 * u.mV, jnp.ones(3) * u.volt, u.Quantity(0.3)], ids=["mV", "volts", "no unit"])
def test_refuses_a_quantity_and_says_to_divide(name: str, x: u.Quantity) -> None:
    spike = FACTORIES[name]()
    for function in (spike, spike.surrogate_grad, spike.surrogate_fun, jax.jit(spike)):
        with pytest.raises(TypeError, match=rf"{name}: .*Quantity.* Divide by the threshold .*\(V - V_th\) / V_th"):
            function(x)


@every
@pytest.mark.parametrize("x", [1j, jnp.ones(2, jnp.complex64), "0.5", None, [[1.0], [1.0, 2.0]]], ids=str)
def test_refuses_what_is_no_real_number(name: str, x: object) -> None:
    spike = FACTORIES[name]()
    for function in (spike, spike.surrogate_grad, spike.surrogate_fun):
        with pytest.raises(TypeError, match=f"{name}: x must be"):
            function(x)


# ---------------------------------------------------------------- as values


@every
def test_equality_hash_and_printed_form(name: str) -> None:
    make, value = FACTORIES[name], DEFAULT[name]
    spike = make()
    assert spike == make(value) == make(jnp.float32(value)) == make(int(value)) == CLASSES[name]()
    assert hash(spike) == hash(make(value))
    assert spike != make(value + 1)
    assert len({spike, make(value), make(value + 1)}) == 2
    assert repr(spike) == f"{CLASSES[name].__name__}({PARAMETER[name]}={value})"
    assert getattr(spike, PARAMETER[name]) == value
    assert type(getattr(make(int(value)), PARAMETER[name])) is float


@every
def test_a_module_prints_the_parameter_by_its_name(name: str) -> None:
    spike = FACTORIES[name]()
    assert f"spk_fun={spike!r}" in repr(_Membrane(spike))


@every
def test_is_no_equal_of_another_class(name: str) -> None:
    spike = FACTORIES[name](3.0)
    theirs = (braintools.surrogate.Arctan, braintools.surrogate.InvSquareGrad, braintools.surrogate.Sigmoid)
    others = [make(3.0) for other, make in FACTORIES.items() if other != name] + [make(3.0) for make in theirs]
    assert all(spike != other for other in others)
    assert spike != 3.0


@every
def test_survives_copy_and_pickle(name: str) -> None:
    spike = FACTORIES[name](3.5)
    assert copy.deepcopy(spike) == spike
    assert pickle.loads(pickle.dumps(spike)) == spike


@every
def test_equal_objects_share_a_compiled_function(name: str) -> None:
    traces = []

    def run(x: jax.Array, spike: Callable[[jax.Array], jax.Array]) -> jax.Array:
        traces.append(spike)
        return spike(x)

    compiled = jax.jit(run, static_argnums=1)
    for value in (3.0, 3.0, 4.0):
        compiled(jnp.zeros(2), FACTORIES[name](value))
    assert len(traces) == 2


# ---------------------------------------------------------------- transforms


@every
def test_compiled_equals_eager(name: str) -> None:
    spike, x = FACTORIES[name](), jnp.linspace(-2, 2, 81)
    np.testing.assert_array_equal(brainstate.transform.jit(spike)(x), spike(x))
    gradient = jax.grad(lambda v: jnp.sum(spike(v)))
    np.testing.assert_allclose(brainstate.transform.jit(gradient)(x), gradient(x), rtol=1e-6)


@every
def test_vmap_equals_a_loop(name: str) -> None:
    spike, x = FACTORIES[name](), jnp.linspace(-1, 1, 24).reshape(4, 6)
    for function in (spike, jax.grad(lambda v: jnp.sum(spike(v) * jnp.arange(6.0)))):
        compiled = jax.jit(function)
        looped = np.stack([compiled(row) for row in x])
        np.testing.assert_allclose(jax.jit(brainstate.transform.vmap(function))(x), looped, rtol=1e-6)
    np.testing.assert_array_equal(jax.vmap(spike, in_axes=1, out_axes=1)(x), spike(x))


@every
def test_forward_mode_equals_reverse_mode(name: str) -> None:
    spike, x = FACTORIES[name](), jnp.linspace(-1, 1, 7)
    value, tangent = jax.jvp(spike, (x,), (2 * jnp.ones(7),))
    np.testing.assert_array_equal(value, spike(x))
    np.testing.assert_allclose(tangent, 2 * slopes(spike, x), rtol=1e-6)


@every
@pytest.mark.parametrize("dtype", HALF)
def test_works_under_strict_promotion(name: str, dtype: str) -> None:
    spike, x = FACTORIES[name](), jnp.linspace(-1, 1, 7).astype(dtype)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        assert slopes(spike, x).dtype == slopes(spike.surrogate_fun, x).dtype == x.dtype


class _Membrane(brainstate.nn.Module):
    """A leaky integrator of one weight, in mV, that spikes through ``spk_fun`` and subtracts the threshold."""

    def __init__(self, spk_fun: braintools.surrogate.Surrogate) -> None:
        super().__init__()
        self.spk_fun = spk_fun
        self.V_th = 10.0 * u.mV
        self.w = brainstate.ParamState(jnp.asarray([2.0, 6.0, -1.0]) * u.mV)
        self.V = brainstate.HiddenState(jnp.zeros(3) * u.mV)

    def update(self, x: jax.Array) -> jax.Array:
        V = 0.9 * self.V.value + self.w.value * x
        spk = self.spk_fun((V - self.V_th) / self.V_th)
        self.V.value = V - spk * self.V_th
        return spk


@every
def test_trains_a_neuron_in_a_loop(name: str) -> None:
    spike = FACTORIES[name](4.0)
    xs = jnp.asarray([1.0, 1.0, 0.0, 2.0, 1.0, 1.0])

    def loss(neuron: _Membrane) -> jax.Array:
        neuron.V.value = jnp.zeros(3) * u.mV
        return jnp.sum(brainstate.transform.for_loop(neuron.update, xs) * jnp.asarray([1.0, 2.0, 3.0]))

    neuron = _Membrane(spike)
    gradient = brainstate.transform.grad(lambda: loss(neuron), {"w": neuron.w}, return_value=True)
    grads, value = brainstate.transform.jit(gradient)()

    # The same run by hand: forward sensitivity of each membrane with respect to its own weight, in double precision.
    w, V, dV, dw, count = np.array([2.0, 6.0, -1.0]), np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    for x in np.asarray(xs, float):
        V, dV = 0.9 * V + w * x, 0.9 * dV + x
        spk, dspk = V >= 10.0, DERIVATIVE[name](V / 10.0 - 1.0, 4.0) * dV / 10.0
        V, dV = V - 10.0 * spk, dV - 10.0 * dspk
        dw, count = dw + dspk, count + spk
    assert count.sum() > 0
    assert float(value) == count @ [1.0, 2.0, 3.0]
    np.testing.assert_allclose(grads["w"].mantissa, dw * [1.0, 2.0, 3.0], rtol=1e-4)
