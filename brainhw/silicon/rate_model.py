"""Expected spike count of a neuron with constant input and trial noise.

With the membrane potential in units of the threshold, one step is ``V' = max(beta V + m + s xi, 0)``, where ``xi`` is a
standard normal random number. If ``V' >= 1``, the neuron spikes and resets. So the membrane potential after each step
is a Markov chain, and its transition density is Gaussian.

The density of the membrane potential is represented at Gauss-Legendre nodes on (0, 1) (Nystrom's method). If
neighbouring nodes are closer than the standard deviation ``s`` of the noise, the error falls exponentially with the
number of nodes (spectral accuracy). A clip, or a reset to zero, sets the membrane potential to exactly 0. The
probability of this value is not zero, so 0 is a separate state of the chain.

The mean and the variance of the spike count over many steps, and the derivatives of the mean, are computed from the
fundamental matrix of the chain (J. G. Kemeny and J. L. Snell, Finite Markov Chains, 1960, chapter 4; P. J. Schweitzer,
J. Appl. Probab. 5, 401, 1968).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtr

__all__ = ["LEAST_NOISE", "Counts", "expected_counts"]

LEAST_NOISE = 0.005
"""Smallest noise, relative to the threshold, that the nodes resolve. Smaller noise is set to this value."""
_MOST_NOISE = 0.5
_NODES_PER_WIDTH = 1.25
_ROOT_2PI = np.sqrt(2 * np.pi)
# If the drive exceeds the threshold by this many standard deviations of the noise, a neuron fires in every step.
_SURE = 8.0
# A count with a variance below this value is locked to the time steps. It depends on how many whole interspike
# intervals fit into the window.
_LOCKED = 5.0
_LONGEST_INTERVAL = 64
_BLOCK = 24


class Counts(NamedTuple):
    """Mean and variance of each of ``K`` spike counts, and derivatives of the means. Arrays have shape ``[K]``."""

    mean: np.ndarray
    variance: np.ndarray
    by_drive: np.ndarray
    by_beta: np.ndarray
    by_noise: np.ndarray


def expected_counts(
    drive: np.ndarray, beta: np.ndarray, noise: np.ndarray, n_steps: np.ndarray, *, subtract: bool
) -> Counts:
    """Return the mean and the variance of each of ``K`` spike counts, and the derivatives of each mean.

    A count is the number of spikes in ``n_steps`` steps from rest.

    Parameters
    ----------
    drive, noise : array, shape [K]
        Drive per step and standard deviation of the noise per step, in units of the threshold.
    beta : array, shape [K]
        Decay factor of the membrane potential per step.
    n_steps : array, shape [K]
        Number of steps over which spikes are counted.
    subtract : bool
        If True, a spike subtracts the threshold from the membrane potential, which is then clamped at zero. If False, a
        spike resets the membrane potential to zero.
    """
    noise = np.clip(noise, LEAST_NOISE, _MOST_NOISE)
    result = np.zeros((5, drive.size))
    sure = drive > 1 + _SURE * noise
    result[0, sure] = n_steps[sure]
    open_ = np.flatnonzero(~sure)
    # Sort by noise, because all counts of a block use the nodes for its smallest noise.
    open_ = open_[np.argsort(noise[open_], kind="stable")]
    for block in np.array_split(open_, max(1, -(-open_.size // _BLOCK))):
        if block.size:
            result[:, block] = _block(drive[block], beta[block], noise[block], n_steps[block], subtract)
    return Counts(*result)


@functools.cache
def _nodes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss-Legendre nodes and weights on (0, 1)."""
    x, w = np.polynomial.legendre.leggauss(n)
    return (x + 1) / 2, w / 2


def _block(  # noqa: PLR0915 - one derivation, in the order of the module docstring
    m: np.ndarray, beta: np.ndarray, s: np.ndarray, n_steps: np.ndarray, subtract: bool
) -> np.ndarray:
    x, w = _nodes(8 * int(np.ceil(max(40.0, _NODES_PER_WIDTH / s.min()) / 8)))
    v = np.concatenate([[0.0], x])
    mu, s1, s2 = beta[:, None] * v + m[:, None], s[:, None], s[:, None, None]
    z = (x - mu[:, :, None]) / s2
    low, high = mu / s1, (mu - 1) / s1
    spike, at_low, at_high = ndtr(high), np.exp(-0.5 * low**2) / _ROOT_2PI, np.exp(-0.5 * high**2) / _ROOT_2PI
    # Without a spike, the membrane potential is at a node (`below`) or is clipped to zero (`clipped`).
    below, clipped = np.exp(-0.5 * z * z) * (w / _ROOT_2PI / s2), ndtr(-low)
    n = v.size
    chain = np.empty((m.size, n, n))
    chain[:, :, 1:], chain[:, :, 0] = below, clipped
    above = np.zeros((0, 0, 0))
    if subtract:
        y = z + 1 / s2
        above = np.exp(-0.5 * y * y) * (w / _ROOT_2PI / s2)
        chain[:, :, 1:] += above
    else:
        chain[:, :, 0] += spike
    chain /= chain.sum(2, keepdims=True)
    # I - P + 1 e0' is regular. Its inverse yields the stationary distribution and, for each state, the expected number
    # of later spikes in excess of the mean rate.
    regular = np.eye(n) - chain
    regular[:, :, 0] += 1.0
    inverse = np.linalg.inv(regular)
    law = inverse[:, 0, :]
    rate = (law * spike).sum(1)
    ahead = (inverse @ (spike - rate[:, None])[:, :, None])[:, :, 0]
    ahead -= (law * ahead).sum(1, keepdims=True)
    h, h0 = ahead[:, 1:], ahead[:, :1]
    # Derivatives of a Gaussian are the Gaussian times polynomials, so a second transition matrix is not needed.
    vectors = np.stack([h, x * h, x * x * h, h * h], axis=2)
    k0, k1, k2, kk = np.moveaxis(below @ vectors, 2, 0)
    by_mu = (k1 - mu * k0) / s1**2 - h0 * at_low / s1
    by_s = (k2 - 2 * mu * k1 + mu**2 * k0) / s1**3 - k0 / s1 + h0 * low * at_low / s1
    # Variance per step of a martingale: the spikes of the step plus the expected later excess, minus the expectation of
    # this sum before the step.
    base = ahead + rate[:, None]
    stay = clipped * h0**2 + kk - 2 * base * (clipped * h0 + k0) + base**2 * (1 - spike)
    if subtract:
        a0, a1, a2, aa = np.moveaxis(above @ vectors, 2, 0)
        shifted = mu - 1
        by_mu += (a1 - shifted * a0) / s1**2
        by_s += (a2 - 2 * shifted * a1 + shifted**2 * a0) / s1**3 - a0 / s1
        fire = aa + 2 * (1 - base) * a0 + (1 - base) ** 2 * spike
    else:
        by_mu += h0 * at_high / s1
        by_s -= h0 * high * at_high / s1
        fire = spike * (1 + h0 - base) ** 2
    slope = by_mu + at_high / s1
    by_noise = (law * (by_s - high * at_high / s1)).sum(1)
    variance = n_steps * np.maximum((law * (stay + fire)).sum(1), 0.0)
    mean = n_steps * rate + ahead[:, 0]
    locked = np.flatnonzero((variance < _LOCKED) & (rate > 1e-6))
    if locked.size and not subtract:
        silent = chain[locked]
        silent[:, :, 0] -= spike[locked]
        mean[locked] = _renewals(silent, spike[locked], n_steps[locked], mean[locked])
    slope_m, slope_b = (law * slope).sum(1), (law * slope * v).sum(1)
    return np.stack([mean, variance, n_steps * slope_m, n_steps * slope_b, n_steps * by_noise])


def _renewals(silent: np.ndarray, spike: np.ndarray, n_steps: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Return the exact mean count if the interspike intervals are short. Return ``otherwise`` if they are longer.

    Each spike resets the membrane potential to zero, so the spikes are a renewal process.
    """
    law = np.zeros(spike.shape)
    law[:, 0] = 1.0
    first = np.zeros((spike.shape[0], _LONGEST_INTERVAL + 1))
    for k in range(1, _LONGEST_INTERVAL + 1):
        first[:, k] = (law * spike).sum(1)
        law = (law[:, None, :] @ silent)[:, 0]
        if law.sum(1).max() < 1e-9:
            break
    mean = otherwise.copy()
    for i in np.flatnonzero(law.sum(1) < 1e-6):
        # The expected number of spikes u in each step solves u = first * (start + u), where * is a convolution. A
        # recursive filter computes u.
        impulse = np.zeros(int(n_steps[i]) + 1)
        impulse[0] = 1.0
        mean[i] = lfilter([1.0], np.concatenate([[1.0], -first[i, 1:]]), impulse)[1:].sum()
    return mean
