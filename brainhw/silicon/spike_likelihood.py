"""Log-likelihood of recorded spikes of leaky neurons with membrane noise, and its derivatives."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr

__all__ = ["Observed", "curvature", "expected_spikes", "log_likelihood", "value_and_gradient"]

_LOG_SQRT_2PI = 0.5 * float(np.log(2 * np.pi))
# Smallest fraction of a variance that remains after a truncation. A smaller fraction could be rounded to zero or below
# in float32.
_LEAST = 1e-6


class Observed(NamedTuple):
    """Recorded data of ``N`` neurons, in ``K`` chunks of ``B`` runs with ``T`` steps.

    ``drive [K, T, B, N]`` is the charge of each step divided by the capacitance, in mV. ``spikes`` is 0 or 1, in the
    same shape. ``valid [K, T, B]`` is 1 for the steps of a run and 0 for padding. ``membranes`` are the membrane
    potentials after the reset in mV, in the shape of ``drive``, or None. ``read_noise`` is the standard deviation of
    one reading in mV. A reading below ``floor`` (mV) shows only that the membrane potential is below ``floor``, because
    the clamp at zero hides lower values. ``least_noise`` (mV) is added in quadrature to the noise of each step, because
    a likelihood without noise has no derivative. ``to_zero`` is true if a spike resets the membrane potential to zero.
    """

    drive: jax.Array
    spikes: jax.Array
    valid: jax.Array
    membranes: jax.Array | None
    read_noise: jax.Array
    floor: jax.Array
    least_noise: jax.Array
    to_zero: bool


def _rectified(mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return mean and variance of ``max(V, 0)`` for a normal ``V``."""
    sd = jnp.sqrt(variance)
    a = mean / sd
    below, density = ndtr(a), jnp.exp(-0.5 * a * a - _LOG_SQRT_2PI)
    first = mean * below + sd * density
    second = (mean * mean + variance) * below + mean * sd * density
    return first, jnp.maximum(second - first * first, _LEAST * variance)


def _condition_on_spike(
    mean: jax.Array, variance: jax.Array, threshold: jax.Array, spike: jax.Array
) -> tuple[Any, Any, Any]:
    """Return the log-probability of the recorded ``spike`` (0 or 1).

    Also return the mean and the variance of the membrane potential, given ``spike``.
    """
    sd = jnp.sqrt(variance)
    sign = 1 - 2 * spike  # +1 if the membrane potential stayed below threshold
    z = (threshold - mean) / sd
    log_p = log_ndtr(sign * z)
    # Compute the inverse Mills ratio from logarithms, because density and probability underflow far from threshold.
    mills = jnp.exp(-0.5 * z * z - _LOG_SQRT_2PI - log_p)
    kept = jnp.maximum(1 - sign * z * mills - mills * mills, _LEAST)
    return log_p, mean - sign * sd * mills, variance * kept


def _condition_on_reading(
    mean: jax.Array, variance: jax.Array, reading: jax.Array, floor: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the log-density of a reading.

    Also return the mean and the variance of the membrane potential, given this reading.
    """
    total = variance + noise**2
    sd = jnp.sqrt(total)
    off = (reading - mean) / sd
    exact = -0.5 * off * off - jnp.log(sd) - _LOG_SQRT_2PI
    low = reading <= floor
    gain = variance / total
    # A reading near zero shows only that the membrane potential before the clamp is below the floor.
    log_p = jnp.where(low, log_ndtr((floor - mean) / sd), exact)
    state = jnp.where(low, jnp.maximum(reading, 0.0), mean + gain * (reading - mean))
    return log_p, state, jnp.maximum(gain * noise**2, _LEAST * variance)


def _chunk(p: jax.Array, seen: Observed) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return three values for each run and neuron of a chunk.

    These are the log-likelihood, the expected spike count, and the variance of the spike count.
    """
    threshold, decay, noise = jnp.exp(p[0]), jnp.exp(-jnp.exp(-p[1])), jnp.exp(2 * p[2]) + seen.least_noise**2
    gain = jnp.exp(p[3]) if seen.membranes is not None else None

    def step(carry: Any, now: Any) -> tuple[Any, None]:
        mean, variance, total, expected, spread = carry
        drive, spike, valid, reading = now
        mean, variance = decay * mean + drive, decay**2 * variance + noise
        probability = ndtr((mean - threshold) / jnp.sqrt(variance))
        log_p: Any = 0.0
        if gain is not None:
            # Divide the reading by the charge gain, because all other values are in units of the nominal drive.
            before = reading if seen.to_zero else reading + spike * threshold * gain
            log_r, mean_r, variance_r = _condition_on_reading(
                mean, variance, before / gain, seen.floor / gain, seen.read_noise / gain
            )
            # After a reset to zero, the reading does not depend on the membrane potential before the reset.
            known = (1 - spike) if seen.to_zero else jnp.ones_like(spike)
            log_p = known * (log_r - jnp.log(gain) * (before > seen.floor))
            mean, variance = jnp.where(known > 0, mean_r, mean), jnp.where(known > 0, variance_r, variance)
        log_s, mean, variance = _condition_on_spike(mean, variance, threshold, spike)
        after = (0.0, 0.0) if seen.to_zero else (jnp.maximum(mean - threshold, 0.0), variance)
        clamped = _rectified(mean, variance)
        mean, variance = (jnp.where(spike > 0, a, c) for a, c in zip(after, clamped, strict=True))
        valid = valid[:, None]
        total = total + valid * (log_p + log_s)
        return (mean, variance, total, expected + valid * probability,
                spread + valid * probability * (1 - probability)), None  # fmt: skip

    zero = jnp.zeros(seen.drive.shape[1:], seen.drive.dtype)
    readings = seen.spikes if seen.membranes is None else seen.membranes
    end, _ = jax.lax.scan(step, (zero,) * 5, (seen.drive, seen.spikes, seen.valid, readings))
    return end[2:]


def _chunk_of(seen: Observed, k: int) -> Observed:
    membranes = None if seen.membranes is None else seen.membranes[k]
    return seen._replace(drive=seen.drive[k], spikes=seen.spikes[k], valid=seen.valid[k], membranes=membranes)


def _static(seen: Observed) -> tuple[Any, bool]:
    return tuple(seen[:-1]), seen.to_zero


@partial(jax.jit, static_argnames="to_zero")
def _value(p: jax.Array, arrays: Any, to_zero: bool) -> jax.Array:
    return _chunk(p, Observed._make((*arrays, to_zero)))[0].sum(0)


@partial(jax.jit, static_argnames="to_zero")
def _gradient(p: jax.Array, arrays: Any, to_zero: bool) -> tuple[jax.Array, jax.Array]:
    value, back = jax.vjp(lambda p: _value(p, arrays, to_zero), p)
    return value, back(jnp.ones_like(value))[0]


@partial(jax.jit, static_argnames="to_zero")
def _hessian(p: jax.Array, arrays: Any, to_zero: bool) -> jax.Array:
    # The Hessian of each neuron depends only on its own parameters. So each of the K directions is differentiated for
    # all neurons at once, and the result has shape [K, K, N].
    def along(direction: jax.Array) -> jax.Array:
        tangent = jnp.broadcast_to(direction[:, None], p.shape)
        return jax.jvp(lambda p: _gradient(p, arrays, to_zero)[1], (p,), (tangent,))[1]

    return jax.vmap(along)(jnp.eye(p.shape[0], dtype=p.dtype))


@partial(jax.jit, static_argnames="to_zero")
def _expected(p: jax.Array, arrays: Any, to_zero: bool) -> tuple[jax.Array, jax.Array]:
    return _chunk(p, Observed._make((*arrays, to_zero)))[1:]


def _sum(function: Any, p: np.ndarray, seen: Observed) -> Any:
    parts = []
    for k in range(seen.drive.shape[0]):
        arrays, to_zero = _static(_chunk_of(seen, k))
        parts.append(function(jnp.asarray(p, seen.drive.dtype), arrays, to_zero=to_zero))
    # Sum in float64, because a float32 sum over many runs would lose the effect of a small step of the optimiser.
    return jax.tree.map(lambda *leaves: np.sum([np.asarray(leaf, np.float64) for leaf in leaves], axis=0), *parts)


def log_likelihood(p: np.ndarray, seen: Observed) -> np.ndarray:
    r"""Return the log-likelihood of each neuron, ``[N]``.

    A neuron with noise :math:`\sigma` per step follows

    .. math:: V' = \max(e^{-\Delta t/\tau} V_{t-1} + I_t + \sigma\xi_t,\; 0), \qquad s_t = H(V' - \theta)

    The distribution of its membrane potential is approximated by a normal distribution. Each recorded step truncates
    this distribution at the threshold. In a step without a spike, the part below the threshold remains. In a step with
    a spike, the part above the threshold remains and is then reset. The mean and the variance after truncation and
    clamp are those of a truncated normal distribution (assumed density filter; Maybeck 1979, Stochastic Models, vol. 2,
    ch. 12). The likelihood is the product of the probabilities of the steps.

    ``p`` contains the logarithms of threshold (mV), time constant (steps), noise (mV) and, with membrane potentials,
    the charge gain. Its shape is ``[3, N]`` or ``[4, N]``.
    """
    return _sum(_value, p, seen)


def value_and_gradient(p: np.ndarray, seen: Observed) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-likelihood of each neuron ``[N]`` and its derivatives with respect to ``p``."""
    return _sum(_gradient, p, seen)


def curvature(p: np.ndarray, seen: Observed) -> np.ndarray:
    """Return the negative Hessian of the log-likelihood of each neuron with respect to ``p [K, N]``, ``[N, K, K]``."""
    return -np.moveaxis(_sum(_hessian, p, seen), -1, 0)


def expected_spikes(p: np.ndarray, seen: Observed) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the variance of the spike count of each run and neuron, ``[runs, N]``.

    In each step, the spike probability is conditioned on the recorded data of all earlier steps.
    """
    parts = []
    for k in range(seen.drive.shape[0]):
        arrays, to_zero = _static(_chunk_of(seen, k))
        parts.append(_expected(jnp.asarray(p, seen.drive.dtype), arrays, to_zero=to_zero))
    return tuple(np.concatenate([np.asarray(part[i], np.float64) for part in parts]) for i in range(2))  # type: ignore[return-value]
