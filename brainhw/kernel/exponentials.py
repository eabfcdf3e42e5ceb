"""Approximation of the weights of past values in a fractional derivative by a sum of decaying exponentials."""

from __future__ import annotations

import bisect
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.kernel.fractional_weights import METHODS, FractionalMethod, Method

__all__ = ["amplitudes", "check_count", "decay_rates", "n_exponentials", "weight_error"]

MOST_STEPS = 2**26  # limits memory, because one weight is computed per step of the horizon
MIN_EXPONENTIALS, MAX_EXPONENTIALS = 4, 128
_WORST_ORDERS = (0.05, 0.2, 0.5, 0.8, 0.95)


def decay_rates(method: FractionalMethod, n: int, horizon: int) -> np.ndarray:
    """Return the ``n`` decay rates per step of the exponentials: ``n - 1`` increasing rates, then the slowest rate.

    The rates depend neither on the order nor on the coefficients. Therefore all terms of an operator can use the same
    leaky sums, and the order can be trainable.
    """
    # With a rate above 8, an exponential decays to less than e**-8 = 3e-4 in one step. With a rate below
    # reach / horizon, it is nearly constant over the run. More exponentials make the grid finer and extend it at both
    # ends.
    slowest, fastest = method.reach * 24 / (n * horizon), 8 + n / 12
    sampled = np.geomspace(slowest, fastest, n - 1)
    return np.append(sampled, method.slow_rate * sampled[0])


def amplitudes(method: FractionalMethod, alpha: jax.Array, rates: np.ndarray) -> jax.Array:
    r"""Return the amplitudes ``[n, *alpha.shape]`` with :math:`W_m \approx \sum_q A_q e^{-(m-1) r_q}` for ``m >= 2``.

    The amplitudes come from the trapezoidal rule in the logarithm of the rate. For this integrand the rule converges
    faster than any power of its step size. The integral below the smallest sampled rate is replaced by additional
    amplitudes at the two slowest rates. These amplitudes preserve the zeroth and first moment of the integral.
    """
    return _compiled_amplitudes(method, alpha, tuple(rates.tolist()))


# Outside jit, JAX would compile each operation. The rates are a tuple, because static arguments must be hashable.
@functools.partial(jax.jit, static_argnums=(0, 2), inline=True)
def _compiled_amplitudes(method: FractionalMethod, alpha: jax.Array, static_rates: tuple[float, ...]) -> jax.Array:
    rates = np.asarray(static_rates)
    sampled = rates[:-1].reshape((-1,) + (1,) * jnp.ndim(alpha)).astype(alpha.dtype)
    # In log r the integrand is analytic and decays at both ends, so the error of the trapezoidal rule decreases as
    # exp(-c / step) (Trefethen and Weideman, SIAM Review 56, 2014; for power laws Beylkin and Monzon, Appl. Comput.
    # Harmon. Anal. 28, 2010).
    step = math.log(rates[1] / rates[0])
    p, kappa = method.tail(alpha)
    density = method.density(alpha, sampled) * sampled * step
    scale = density[0] / (1 + kappa * sampled[0])
    # `mass` is the sum of the density over the rates r0 e^-step, r0 e^-2step, ..., and `moment` is the sum of the
    # density times rate / r0. Over the horizon these exponentials are nearly 1 - (m - 1) r, so two moments suffice.
    linear = p / jnp.expm1((p + 1) * step)
    mass = scale * (_geometric(p, step) + kappa * sampled[0] * linear)
    moment = scale * linear
    slow = method.slow_rate
    to_sampled = (moment - slow * mass) / (1 - slow)
    inner = (p * density).at[0].add(to_sampled)
    return jnp.concatenate([inner, (mass - to_sampled)[None]])


def _geometric(p: jax.Array, step: float) -> jax.Array:
    """Return ``p / expm1(p * step)``. At ``p = 0``, return the limit of this expression."""
    # For ``pred``, p is 0 at order 1. The inner `where` avoids 0 / 0 in the unused branch, whose gradient would be NaN.
    x = p * step
    tiny = jnp.abs(x) < 1e-4
    safe = jnp.where(tiny, 1.0, x)
    return jnp.where(tiny, 1 - x / 2 + x**2 / 12, safe / jnp.expm1(safe)) / step


@functools.lru_cache(maxsize=256)
def _weight_errors(method: str, alphas: tuple[float, ...], n: int, horizon: int) -> np.ndarray:
    scheme = METHODS[method]()
    # In float32 the rounding error of the sum over lags would hide approximation errors below about 1e-7.
    with jax.enable_x64(True):
        orders = jnp.asarray(alphas, dtype=jnp.float64)
        exact = np.asarray(scheme.weights(orders, horizon))
        rates = decay_rates(scheme, n, horizon)
        amplitude = np.asarray(amplitudes(scheme, orders, rates))
    off = -exact
    lags = np.arange(horizon)
    for a, r in zip(amplitude, rates, strict=True):
        off += np.exp(-lags * r)[:, None] * a
    total = np.abs(off[1:]).sum(axis=0)
    return total / np.abs(exact).sum(axis=0) if scheme.remembers_rate else total


def weight_error(method: Method, alpha: float, n: int, horizon: int) -> float:
    r"""Return the total error of the weights if they are approximated by exponentials.

    This is :math:`\sum_{m=2}^{T} |\text{error of } W_m|`. If the voltage stays within :math:`\pm V`, the error of each
    step is at most this sum times ``V``. The errors of the steps accumulate like an input of the neuron. With a leak,
    the accumulated error is at most about :math:`(\tau/\Delta t)^\alpha` times the error of one step. Without a leak,
    it is not bounded. The weights of ``pred`` have no finite sum. For ``pred``, the returned error is therefore divided
    by the sum of the weights over the horizon.

    Parameters
    ----------
    method : {'gl', 'l1', 'trap', 'pred', 'cn'}
        The scheme.
    alpha : float
        The order, greater than 0 and at most 1.
    n : int
        Number of exponentials, at least 4.
    horizon : int
        Number of steps ``T``.

    Returns
    -------
    float
        The error, computed in double precision.

    Raises
    ------
    TypeError
        If ``alpha`` is not a number, or if ``n`` or ``horizon`` is not an integer.
    ValueError
        If ``method`` is unknown, or if an argument is out of range. The message names the argument.

    Examples
    --------
    >>> import brainhw as bh
    >>> bh.kernel.weight_error("gl", 0.5, n=24, horizon=2048) < 5e-7
    True
    """
    call = "weight_error"
    _arguments.choice(method, METHODS, call=call, name="method")
    alpha = _arguments.number(alpha, call=call, name="alpha", positive=True)
    if alpha > 1:
        raise ValueError(f"{call}: alpha must be greater than 0 and at most 1; got {alpha}.")
    n = check_count(n, call=call, name="n")
    return float(
        _weight_errors(
            method, (alpha,), n, _arguments.positive_int(horizon, call=call, name="horizon", most=MOST_STEPS)
        )[0]
    )


def check_count(n: int, *, call: str, name: str) -> int:
    """Return ``n`` as an int. Raise if it is not a valid number of exponentials for :func:`amplitudes`."""
    n = _arguments.positive_int(n, call=call, name=name)
    if not MIN_EXPONENTIALS <= n <= MAX_EXPONENTIALS:
        raise ValueError(f"{call}: {name} must be from {MIN_EXPONENTIALS} to {MAX_EXPONENTIALS}; got {n}.")
    return n


def n_exponentials(tolerance: float, horizon: int, method: Method = "gl") -> int:
    """Return the smallest number of exponentials with a :func:`weight_error` of at most ``tolerance``.

    The error must not exceed ``tolerance`` for any of five orders from 0.05 to 0.95.

    Parameters
    ----------
    tolerance : float
        Largest allowed error, positive. Values below about 1e-7 have no effect in single precision.
    horizon : int
        Number of steps over which the error is computed.
    method : {'gl', 'l1', 'trap', 'pred', 'cn'}, optional
        The scheme.

    Returns
    -------
    int
        Number of exponentials, for the argument ``n_exponentials`` of a layer with this ``horizon``.

    Raises
    ------
    ValueError
        If even 128 exponentials do not reach the tolerance.

    Examples
    --------
    >>> import brainhw as bh
    >>> bh.kernel.n_exponentials(1e-6, 1000)
    22
    """
    call = "n_exponentials"
    tolerance = _arguments.number(tolerance, call=call, name="tolerance", positive=True)
    horizon = _arguments.positive_int(horizon, call=call, name="horizon", most=MOST_STEPS)
    _arguments.choice(method, METHODS, call=call, name="method")

    def reached(n: int) -> bool:
        return bool((_weight_errors(method, _WORST_ORDERS, n, horizon) <= tolerance).all())

    if not reached(MAX_EXPONENTIALS):
        raise ValueError(
            f"{call}: {MAX_EXPONENTIALS} exponentials do not reach an error of {tolerance:g} over {horizon} steps. "
            "Use a larger tolerance."
        )
    return bisect.bisect_left(range(MAX_EXPONENTIALS), True, lo=MIN_EXPONENTIALS, key=reached)
