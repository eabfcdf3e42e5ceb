"""Weights of the schemes against spikeDE, closed forms, and their derivative by the order."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.special import binom, gamma

from brainhw.kernel import METHODS

GOLDEN = Path(__file__).parents[1] / "golden" / "spikede" / "g10_weights_float64.npz"
ALPHAS = np.array([0.05, 0.3, 0.5, 0.7, 0.95])
SCHEMES = ("gl", "l1", "pred")


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True), brainstate.environ.context(precision=64):
        yield


def weights(method: str, alpha: float | np.ndarray, n: int, *, compatible: bool = False) -> np.ndarray:
    with double_precision():
        return np.asarray(METHODS[method](compatible=compatible).weights(jnp.asarray(alpha, dtype=float), n))


def gain(method: str, alpha: float | np.ndarray, h: float, *, compatible: bool = False) -> np.ndarray:
    with double_precision():
        return np.asarray(METHODS[method](compatible=compatible).gain(jnp.asarray(alpha, dtype=float), jnp.asarray(h)))


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_weights_of_spikede(alpha: float) -> None:
    with np.load(GOLDEN) as data:
        h = float(data["h"])
        coefficients = data[f"gl_c_a{alpha}"]
        assert coefficients[0] == 1
        expected = {"gl": coefficients[1:]}
        # Index j in spikeDE multiplies y_j (l1, trap) or f_j (pred) in the step from 63 to 64: lag 64 - j of the
        # voltages, of which y_0 is never stored, and lag 63 - j of the rates, with lag 0 the newest.
        expected |= {name: data[f"{name}_w_k63_a{alpha}"][:0:-1] for name in ("l1", "trap")}
        scaled = data[f"pred_w_k63_a{alpha}"][::-1]
        scales = dict(zip(("gl", "l1", "pred"), data[f"scale_a{alpha}"], strict=True))
    for name, reference in expected.items():
        found = weights(name, alpha, len(reference), compatible=True)
        np.testing.assert_allclose(found, reference, rtol=0, atol=1e-12, err_msg=name)
    for name, reference in scales.items():
        np.testing.assert_allclose(gain(name, alpha, h, compatible=True), reference, rtol=0, atol=1e-12)
    np.testing.assert_allclose(scaled[0], scales["pred"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(scales["pred"] * weights("pred", alpha, len(scaled) - 1), scaled[1:], rtol=0, atol=1e-12)


def test_closed_forms() -> None:
    m = np.arange(1, 41)[:, None]
    np.testing.assert_allclose(weights("gl", ALPHAS, 40), (-1.0) ** m * binom(ALPHAS, m), rtol=1e-11, atol=0)
    np.testing.assert_array_equal(weights("cn", ALPHAS, 40), weights("gl", ALPHAS, 40))
    b = 1 - ALPHAS
    powers = (m + 1.0) ** b - 2 * m**b + (m - 1.0) ** b
    np.testing.assert_allclose(weights("l1", ALPHAS, 40), powers, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(weights("trap", ALPHAS, 40), weights("l1", ALPHAS, 40))
    np.testing.assert_allclose(weights("pred", ALPHAS, 40), (m + 1.0) ** ALPHAS - m**ALPHAS, rtol=0, atol=1e-13)

    h = 0.3
    for method, factor in (
        ("gl", 1),
        ("cn", 1),
        ("l1", gamma(2 - ALPHAS)),
        ("trap", gamma(2 - ALPHAS)),
        ("pred", 1 / gamma(1 + ALPHAS)),
    ):
        np.testing.assert_allclose(gain(method, ALPHAS, h), h**ALPHAS * factor, rtol=1e-12, err_msg=method)


def test_sums_of_weights() -> None:
    # Each follows from summing the weights by hand. With more and more lags the first two go to zero: the derivative
    # of a value that has been constant for long is zero.
    n = 3000
    binomial = np.prod(1 - ALPHAS / np.arange(1, n + 1)[:, None], axis=0)  # (-1)^n binom(alpha - 1, n)
    np.testing.assert_allclose(1 + weights("gl", ALPHAS, n).sum(axis=0), binomial, rtol=0, atol=1e-12)
    step = (n + 1) ** (1 - ALPHAS) - n ** (1 - ALPHAS)
    np.testing.assert_allclose(1 + weights("l1", ALPHAS, n).sum(axis=0), step, rtol=0, atol=1e-12)
    np.testing.assert_allclose(1 + weights("pred", ALPHAS, n).sum(axis=0), (n + 1) ** ALPHAS, rtol=1e-12)


@pytest.mark.parametrize("method", SCHEMES)
def test_the_past_counts_with_one_sign_and_ever_less(method: str) -> None:
    found = weights(method, ALPHAS, 20_000) * (1 if method == "pred" else -1)
    assert np.all(found > 0)
    # At large lags the difference of neighbours is below double precision.
    assert np.all(np.diff(found[::50], axis=0) < 0)


def test_l1_is_accurate_far_back() -> None:
    # There the second difference of the powers is alpha (alpha - 1) m^(-1-alpha) (1 + O(m^-2)), while the three powers
    # themselves agree in their first ten digits.
    m = 20_000
    leading = -ALPHAS * (1 - ALPHAS) * m ** (-1 - ALPHAS)
    np.testing.assert_allclose(weights("l1", ALPHAS, m)[-1], leading, rtol=1e-8)


@pytest.mark.parametrize("method", SCHEMES)
def test_weights_are_the_integral_of_their_density(method: str) -> None:
    scheme, x = METHODS[method](), np.linspace(-20, 5, 8001)[:, None]
    rates = np.exp(x)
    with double_precision():
        orders = jnp.asarray(ALPHAS)
        p, kappa = (np.asarray(value) for value in scheme.tail(orders))
        per_log_rate = np.asarray(scheme.density(orders, jnp.asarray(rates))) * rates
    # Below the first rate the density is a power: the integral over the rest of p r^p / r is r^p.
    below = per_log_rate[0]
    for lag in (2, 7):
        found = below + p * simpson(per_log_rate * np.exp(-(lag - 1) * rates), x=x[:, 0], axis=0)
        np.testing.assert_allclose(found, weights(method, ALPHAS, lag)[-1], rtol=0, atol=2e-9)
    # The stated behaviour at small rates: to second order in the rate.
    at = np.searchsorted(x[:, 0], np.log(1e-3))
    of_power = per_log_rate[at] / rates[at] ** p / (1 + kappa * rates[at])
    limit = per_log_rate[0] / rates[0] ** p
    np.testing.assert_allclose(of_power, limit, rtol=2e-6)


@pytest.mark.parametrize("method", list(METHODS))
def test_order_one_remembers_one_value(method: str) -> None:
    found = weights(method, 1.0, 50)
    if METHODS[method].remembers_rate:
        np.testing.assert_allclose(found, 1, rtol=0, atol=1e-14)
    else:
        np.testing.assert_allclose(found, -np.eye(50)[0], rtol=0, atol=1e-15)
    assert gain(method, 1.0, 0.3) == pytest.approx(0.3, rel=1e-12)
    # The orders just below come close to it.
    np.testing.assert_allclose(weights(method, 1 - 1e-9, 50), found, rtol=0, atol=1e-7)


def test_compatible_l1_forgets_everything_at_order_one() -> None:
    np.testing.assert_array_equal(weights("l1", 1.0, 50, compatible=True), np.zeros(50))
    np.testing.assert_array_equal(weights("l1", 0.7, 50, compatible=True), weights("l1", 0.7, 50))


@pytest.mark.slow
@pytest.mark.parametrize("method", SCHEMES)
def test_derivative_by_the_order(method: str) -> None:
    # Compare with central differences, through order 1 as well: every weight and gain is smooth there.
    alphas, step = np.array([0.05, 0.5, 0.99, 1.0]), 1e-5
    scheme = METHODS[method]()
    with double_precision():
        orders, h = jnp.asarray(alphas), jnp.asarray(0.2)

        def both(a: jax.Array) -> tuple[jax.Array, jax.Array]:
            return scheme.weights(a, 30), scheme.gain(a, h)

        # Each column depends only on its own order.
        _, (of_weights, of_gain) = jax.jvp(both, (orders,), (jnp.ones_like(orders),))
        _, pullback = jax.vjp(both, orders)
        cotangent = (jnp.cos(jnp.arange(30.0))[:, None] * jnp.ones(4), 2 * jnp.ones(4))
        reverse = np.asarray(pullback(cotangent)[0])
    of_weights, of_gain = np.asarray(of_weights), np.asarray(of_gain)
    np.testing.assert_allclose(reverse, (np.asarray(cotangent[0]) * of_weights).sum(axis=0) + 2 * of_gain, rtol=1e-10)
    differences = (weights(method, alphas + step, 30) - weights(method, alphas - step, 30)) / (2 * step)
    np.testing.assert_allclose(of_weights, differences, rtol=0, atol=1e-8)
    difference = (gain(method, alphas + step, 0.2) - gain(method, alphas - step, 0.2)) / (2 * step)
    np.testing.assert_allclose(of_gain, difference, rtol=0, atol=1e-8)


def test_compatible_gradient_passes_gamma_by() -> None:
    with double_precision():
        alpha, h = jnp.asarray(0.4, dtype=float), jnp.asarray(0.2)
        for method, without_gamma in (("l1", math.log(0.2)), ("pred", math.log(0.2) - 1 / 0.4)):
            scheme = METHODS[method](compatible=True)
            relative = jax.grad(lambda a, scheme=scheme: jnp.log(scheme.gain(a, h)))(alpha)
            assert float(relative) == pytest.approx(without_gamma)


@pytest.mark.parametrize("method", SCHEMES)
def test_orders_of_any_shape(method: str) -> None:
    alphas = np.array([[0.2, 0.5, 1.0], [0.9, 0.05, 0.7]])
    together = weights(method, alphas, 20)
    assert together.shape == (20, 2, 3)
    for index in np.ndindex(alphas.shape):
        np.testing.assert_allclose(together[(..., *index)], weights(method, alphas[index], 20), rtol=0, atol=1e-15)


@pytest.mark.parametrize("method", SCHEMES)
def test_single_precision_stays_close(method: str) -> None:
    alpha = np.float32(0.6)
    found = METHODS[method]().weights(jnp.asarray(alpha), 2000)
    assert found.dtype == np.float32
    exact = weights(method, float(alpha), 2000)
    assert np.abs(found - exact).sum() <= 2e-6 * np.abs(exact).sum()
