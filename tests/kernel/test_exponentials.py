"""Weights as sums of exponentials: their errors, the necessary number, invalid arguments."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.kernel.exponentials import amplitudes, decay_rates
from brainhw.kernel.past import LeakySums

METHODS = bh.kernel.METHODS
ALPHAS = np.array([0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99])


def differences(method: str, alphas: np.ndarray, n: int, horizon: int, *, relative: bool = False) -> np.ndarray:
    """Return the summed errors of the lags 2 to ``horizon``, one per order, in double precision."""
    scheme = METHODS[method]()
    with jax.enable_x64(True), brainstate.environ.context(precision=64):
        orders = jnp.asarray(alphas)
        exact = np.asarray(scheme.weights(orders, horizon))
        rates = decay_rates(scheme, n, horizon)
        found = np.asarray(amplitudes(scheme, orders, rates))
    decays = np.exp(-np.arange(1, horizon)[:, None] * rates)
    off = np.abs(decays @ found - exact[1:]).sum(axis=0)
    return off / np.abs(exact).sum(axis=0) if relative else off


@pytest.mark.parametrize(
    ("n", "horizon", "bound"),
    [(24, 16, 2e-6), (24, 512, 2e-6), (24, 2048, 2e-6), (32, 8192, 2e-7)],
)
@pytest.mark.parametrize("method", ["gl", "l1", "cn"])
def test_error_at_every_order(method: str, n: int, horizon: int, bound: float) -> None:
    assert differences(method, ALPHAS, n, horizon).max() <= bound


@pytest.mark.parametrize("method", ["gl", "l1", "pred"])
def test_error_falls_with_every_few_exponentials(method: str) -> None:
    worst = [differences(method, ALPHAS, n, 512, relative=method == "pred").max() for n in (8, 12, 16, 24)]
    # With more exponentials, the omitted rates at both ends matter more than the spacing of the others.
    assert all(later < earlier / 10 for earlier, later in itertools.pairwise(worst))


@pytest.mark.parametrize("method", list(METHODS))
def test_weight_error_is_that_error(method: str) -> None:
    for alpha, n, horizon in ((0.2, 16, 512), (0.9, 24, 512)):
        expected = differences(method, np.array([alpha]), n, horizon, relative=method == "pred")[0]
        assert bh.kernel.weight_error(method, alpha, n, horizon) == pytest.approx(expected, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("method", list(METHODS))
def test_order_one_is_exact(method: str) -> None:
    # At order 1 all schemes but pred remember only the last value. The weights of pred do not decay at all: the
    # exponential of rate zero holds them, and the other amplitudes nearly cancel.
    assert bh.kernel.weight_error(method, 1.0, n=24, horizon=1000) <= (1e-9 if method == "pred" else 0)


@pytest.mark.parametrize("method", list(METHODS))
def test_a_sum_of_leaky_sums_gives_the_weights(method: str) -> None:
    # Push a single one and let it age: the weighted sum of the slots is the weight of each lag, exact for the first.
    scheme, horizon = METHODS[method](), 60
    past = LeakySums(scheme, 24, horizon)
    with jax.enable_x64(True), brainstate.environ.context(precision=64):
        orders = jnp.asarray(ALPHAS)
        found, slots = [], jnp.zeros((past.n_slots, len(ALPHAS)))
        weights = past.weights(scheme, orders)
        assert weights.shape == (past.n_slots, len(ALPHAS))
        for lag in range(horizon):
            slots = past.push(slots, jnp.full(len(ALPHAS), 1.0 if lag == 0 else 0.0), None)
            found.append(np.asarray((weights * slots).sum(axis=0)))
        exact = np.asarray(scheme.weights(orders, horizon))
    np.testing.assert_allclose(found[0], exact[0], rtol=0, atol=1e-14)
    off = np.abs(found - exact).sum(axis=0) / (np.abs(exact).sum(axis=0) if method == "pred" else 1)
    assert off.max() <= 2e-6


def test_rates_depend_on_neither_order_nor_terms() -> None:
    rates = decay_rates(METHODS["gl"](), 24, 1000)
    assert rates.shape == (24,)
    assert np.all(rates > 0)
    assert np.all(np.diff(rates[:-1]) > 0)
    assert rates[-1] == rates.min()
    np.testing.assert_allclose(np.diff(np.log(rates[:-1])), np.log(rates[1] / rates[0]), rtol=1e-9)


@pytest.mark.parametrize("method", ["gl", "l1", "pred"])
def test_amplitudes_have_the_derivative_of_the_weights(method: str) -> None:
    # The gradient is less accurate than the weights near order 1: the factor that makes their error small has a slope.
    scheme, horizon = METHODS[method](), 64
    rates = decay_rates(scheme, 24, horizon)
    with jax.enable_x64(True), brainstate.environ.context(precision=64):
        orders = jnp.asarray([0.05, 0.5, 0.9, 0.99, 1.0])
        _, of_amplitudes = jax.jvp(lambda a: amplitudes(scheme, a, rates), (orders,), (jnp.ones_like(orders),))
        _, of_weights = jax.jvp(lambda a: scheme.weights(a, horizon), (orders,), (jnp.ones_like(orders),))
    of_amplitudes, of_weights = np.asarray(of_amplitudes), np.asarray(of_weights)
    off = np.abs(np.exp(-np.arange(1, horizon)[:, None] * rates) @ of_amplitudes - of_weights[1:]).sum(axis=0)
    scale = np.abs(of_weights).sum(axis=0) if method == "pred" else 1
    assert np.all(off <= 5e-6 * scale)


@pytest.mark.parametrize("method", ["gl", "pred"])
def test_n_exponentials_is_the_fewest_that_reach_the_tolerance(method: str) -> None:
    tolerance, horizon = 1e-5, 512
    n = bh.kernel.n_exponentials(tolerance, horizon, method=method)
    alphas = np.array([0.05, 0.2, 0.5, 0.8, 0.95])
    assert differences(method, alphas, n, horizon, relative=method == "pred").max() <= tolerance
    assert differences(method, alphas, n - 1, horizon, relative=method == "pred").max() > tolerance


def test_n_exponentials_grows_with_what_is_asked() -> None:
    count = bh.kernel.n_exponentials
    assert 4 == count(10.0, 512) < count(1e-3, 512) < count(1e-5, 512)
    assert count(1e-5, 50) < count(1e-5, 512)


ERROR, COUNT = bh.kernel.weight_error, bh.kernel.n_exponentials
BAD = [
    (lambda: ERROR("euler", 0.5, 24, 100), ValueError, r"^weight_error: method must be one of 'gl', .*; got 'euler'"),
    (lambda: ERROR("gl", 0.0, 24, 100), ValueError, r"^weight_error: alpha must be greater than zero; got 0"),
    (
        lambda: ERROR("gl", 1.1, 24, 100),
        ValueError,
        r"^weight_error: alpha must be greater than 0 and at most 1; got 1.1",
    ),
    (lambda: ERROR("gl", np.nan, 24, 100), ValueError, r"^weight_error: alpha must be finite"),
    (lambda: ERROR("gl", "0.5", 24, 100), TypeError, r"^weight_error: alpha must be a number; got '0.5'"),
    (lambda: ERROR("gl", [0.5], 24, 100), ValueError, r"^weight_error: alpha must be a scalar; got shape \(1,\)"),
    (lambda: ERROR("gl", 0.5, 3, 100), ValueError, r"^weight_error: n must be from 4 to 128; got 3"),
    (lambda: ERROR("gl", 0.5, 129, 100), ValueError, r"^weight_error: n must be from 4 to 128; got 129"),
    (lambda: ERROR("gl", 0.5, 24.0, 100), TypeError, r"^weight_error: n must be an integer; got 24.0"),
    (lambda: ERROR("gl", 0.5, 24, 0), ValueError, r"^weight_error: horizon must be at least 1; got 0"),
    (lambda: COUNT(0.0, 100), ValueError, r"^n_exponentials: tolerance must be greater than zero; got 0"),
    (lambda: COUNT("small", 100), TypeError, r"^n_exponentials: tolerance must be a number; got 'small'"),
    (lambda: COUNT(1e-6, 2.5), TypeError, r"^n_exponentials: horizon must be an integer; got 2.5"),
    (lambda: COUNT(1e-6, 100, method="GL"), ValueError, r"^n_exponentials: method must be one of .*; got 'GL'"),
    (
        lambda: COUNT(1e-30, 100),
        ValueError,
        r"^n_exponentials: 128 exponentials do not reach an error of 1e-30 over 100 steps. Use a larger",
    ),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_bad_input(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
