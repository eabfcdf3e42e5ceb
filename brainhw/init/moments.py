"""What the input of a layer does to a membrane, before any weight is drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import fft

from brainhw.init.kernel import Kernel

__all__ = ["InputMoments", "MembraneBasis", "input_moments", "membrane_basis", "participation"]

_CHUNK = 4_000_000  # numbers transformed at a time


@dataclasses.dataclass(frozen=True)
class InputMoments:
    """First and second moment of an input, as rates.

    Attributes
    ----------
    rates : numpy.ndarray
        Mean of each channel over time and batch, per step.
    nu_mean : float
        ``E[x]/dt`` in Hz over all channels.
    nu_var : float
        ``E[x^2]/dt`` in Hz; equal to ``nu_mean`` for binary spikes.
    nu_size : float
        ``E[|x|]/dt`` in Hz; equal to ``nu_mean`` for input that is never negative.
    dt : float
        Step in seconds.
    """

    rates: np.ndarray
    nu_mean: float
    nu_var: float
    nu_size: float
    dt: float

    @property
    def fan_in(self) -> int:
        """Number of input channels."""
        return len(self.rates)

    @property
    def mean_is_a_lever(self) -> bool:
        """Whether shifting all weights shifts the mean membrane: not so for input that is symmetric about zero."""
        return abs(self.nu_mean) > 0.05 * self.nu_size


@dataclasses.dataclass(frozen=True)
class MembraneBasis:
    r"""Variance of the sub-threshold membrane as a quadratic form in the weights' spread and in the mean membrane.

    .. math:: \sigma_{U,i}^2 = \mu_{U,i}^2\, m_i + \textstyle\sum_{c \in i} \sigma_{W,c}^2\, s_c

    Attributes
    ----------
    mean_response : numpy.ndarray
        Mean membrane per unit of mean weight of a column, ``[n_columns]`` in mV.
    of_mean : numpy.ndarray
        :math:`m`, ``[n_neurons]``: what the common part of all weights adds, per square of the mean membrane it makes.
    of_spread : numpy.ndarray
        :math:`s`, ``[n_columns]`` in mV^2.
    kept : float
        Share of the spread's variance that centring leaves, of the neuron with the least; 1 without.
    step_correlation : float
        Correlation of a membrane with itself one step later, the mean over neurons.
    """

    mean_response: np.ndarray
    of_mean: np.ndarray
    of_spread: np.ndarray
    kept: float
    step_correlation: float


def participation(rates: np.ndarray) -> float:
    """Return how many channels carry the mean: the participation ratio of their rates."""
    squares = float(np.sum(rates**2))
    return float(np.sum(rates)) ** 2 / squares if squares > 0 else 0.0


def input_moments(x: np.ndarray, dt: float) -> InputMoments:
    """Measure the moments of ``x`` ``[B, T, N]`` with step ``dt`` in seconds."""
    return InputMoments(
        rates=x.mean(axis=(0, 1), dtype=np.float64),
        nu_mean=float(x.mean(dtype=np.float64)) / dt,
        nu_var=float(np.square(x, dtype=np.float64).mean()) / dt,
        nu_size=float(np.abs(x).mean(dtype=np.float64)) / dt,
        dt=dt,
    )


def membrane_basis(
    x: np.ndarray,
    kernel: Kernel,
    moments: InputMoments,
    n_synapses: int = 1,
    *,
    exact: bool,
    direction: np.ndarray | None,
) -> MembraneBasis:
    """Return the variance basis of a layer.

    Parameters
    ----------
    x : numpy.ndarray
        Input ``[B, T, N]``.
    kernel : Kernel
        Response of the layer.
    moments : InputMoments
        Moments of ``x``.
    n_synapses : int, optional
        Columns of each neuron; each carries an equal part of the mean. Default 1.
    exact : bool
        Take the covariance of the filtered input over time and batch: right for spikes of any rate, analog values,
        correlated and unequal channels. Otherwise the second moment of Rossbroich et al. (2022), right for sparse
        independent spikes.
    direction : numpy.ndarray or None
        Unit vector ``[N]`` that centring projects out of every weight column.
    """
    mean_response = moments.fan_in * moments.nu_mean * kernel.integral
    with np.errstate(divide="ignore", invalid="ignore"):
        weight_per_mean = 1 / (n_synapses * mean_response)
    each, common, along = _autocovariances(x, direction)
    response = kernel.response[: len(each)]
    products = _autocorrelation(response, len(each) + 1)
    spread = _weighted(each, products[:-1])
    spread_later = _weighted(each, _shifted(products))
    kept = 1.0
    if exact:
        if direction is not None:
            # tr(PCP) with P = I - d d^T, rescaled because centred columns are stretched back to the same spread.
            whole = spread
            spread = np.maximum(spread - _weighted(along, products[:-1]), 0.0) / (1 - 1 / moments.fan_in)
            kept = float(np.min(spread / np.maximum(whole, 1e-30)))
            spread_later = (spread_later - _weighted(along, _shifted(products))) / (1 - 1 / moments.fan_in)
        of_mean = _weighted(common, _autocorrelation(_joined(response, weight_per_mean, n_synapses), len(common)))
        of_spread = spread * kernel.asymmetry**2
    else:
        of_spread = moments.fan_in * moments.nu_var * kernel.square_integral
        joined = kernel.asymmetry * _joined(kernel.response, weight_per_mean, n_synapses)
        of_mean = moments.fan_in * moments.nu_var * kernel.dt * (joined**2).sum(axis=0)
    correlation = float(np.mean(spread_later) / np.mean(spread)) if np.mean(spread) > 0 else 0.0
    return MembraneBasis(mean_response, of_mean, of_spread, kept, correlation)


def _joined(response: np.ndarray, weight_per_mean: np.ndarray, n_synapses: int) -> np.ndarray:
    """Return the response of each neuron, ``[L, n_neurons]``, to one spike that reaches all of its synapses."""
    return (response * weight_per_mean).reshape(len(response), -1, n_synapses).sum(axis=2)


def _autocovariances(x: np.ndarray, direction: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each lag below T, the covariances of the channels added up, of their sum, and along ``direction``.

    A membrane's variance is a weighted sum of these, whatever its kernel: one pass over the input serves all neurons.
    Divided by the full length at every lag, which keeps every such sum from being negative.
    """
    n_batch, n_steps, n_in = x.shape
    mean = x.mean(axis=(0, 1), dtype=np.float64)
    n_fft = fft.next_fast_len(2 * n_steps, real=True)
    power = np.zeros((3, n_fft // 2 + 1))
    for first in range(0, n_batch, max(1, _CHUNK // (n_steps * n_in))):
        part = x[first : first + max(1, _CHUNK // (n_steps * n_in))] - mean
        power[0] += np.square(np.abs(fft.rfft(part, n_fft, axis=1))).sum(axis=(0, 2))
        power[1] += np.square(np.abs(fft.rfft(part.sum(axis=2), n_fft, axis=1))).sum(axis=0)
        if direction is not None:
            power[2] += np.square(np.abs(fft.rfft(part @ direction, n_fft, axis=1))).sum(axis=0)
    each, common, along = fft.irfft(power, n_fft, axis=1)[:, :n_steps] / (n_batch * n_steps)
    return each, common, along


def _autocorrelation(response: np.ndarray, n_lags: int) -> np.ndarray:
    """Return ``sum_t k(t) k(t + lag)``, ``[n_lags, columns]``; neurons that share a kernel are worked out once."""
    distinct, inverse = np.unique(response.T, axis=0, return_inverse=True)
    n_fft = fft.next_fast_len(len(response) + max(n_lags, len(response)), real=True)
    power = np.square(np.abs(fft.rfft(distinct, n_fft, axis=1)))
    return fft.irfft(power, n_fft, axis=1)[:, :n_lags].T[:, inverse.reshape(-1)]


def _weighted(covariance: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Return the sum over lags of both signs."""
    return covariance[0] * products[0] + 2 * covariance[1:] @ products[1 : len(covariance)]


def _shifted(products: np.ndarray) -> np.ndarray:
    """Return the autocorrelation about lag one, made even: the input's weights in the membrane's one step apart."""
    return 0.5 * (np.concatenate([products[1:2], products[:-2]]) + products[1:])
