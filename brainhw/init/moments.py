"""What the input of a layer does to a membrane, before any weight is drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import signal

from brainhw.init.kernel import Kernel

__all__ = ["InputMoments", "MembraneBasis", "input_moments", "membrane_basis"]


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
    """

    rates: np.ndarray
    nu_mean: float
    nu_var: float

    @property
    def fan_in(self) -> int:
        """Number of input channels."""
        return len(self.rates)

    @property
    def participation(self) -> float:
        """How many channels carry the mean: the participation ratio of the rates."""
        squares = float(np.sum(self.rates**2))
        return float(np.sum(self.rates)) ** 2 / squares if squares > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class MembraneBasis:
    r"""Variance of the sub-threshold membrane as a quadratic form in the weights' mean and spread.

    .. math:: \sigma_U^2 = \mu_W^2\, m + \sigma_W^2\, s

    Attributes
    ----------
    of_mean, of_spread : numpy.ndarray
        :math:`m` and :math:`s` for each neuron, ``[n]`` in mV^2.
    """

    of_mean: np.ndarray
    of_spread: np.ndarray


def input_moments(x: np.ndarray, dt: float) -> InputMoments:
    """Measure the moments of ``x`` ``[B, T, N]`` with step ``dt`` in seconds."""
    return InputMoments(
        rates=x.mean(axis=(0, 1), dtype=np.float64),
        nu_mean=float(x.mean(dtype=np.float64)) / dt,
        nu_var=float(np.square(x, dtype=np.float64).mean()) / dt,
    )


def membrane_basis(
    x: np.ndarray, kernel: Kernel, moments: InputMoments, *, exact: bool, direction: np.ndarray | None
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
    exact : bool
        Filter ``x`` through the kernel and take the covariance over time and batch: right for spikes of any rate,
        analog values, correlated and unequal channels. Otherwise the second moment of Rossbroich et al. (2022), right
        for sparse independent spikes.
    direction : numpy.ndarray or None
        Unit vector ``[N]`` that centring projects out of every weight column.
    """
    n_in = moments.fan_in
    if not exact:
        per_weight = n_in * moments.nu_var * kernel.square_integral
        return MembraneBasis(per_weight, per_weight)

    # Neurons of one time constant share a kernel: filter once for each distinct one.
    distinct, inverse = np.unique(kernel.response.T, axis=0, return_inverse=True)
    of_mean, of_spread = np.empty(len(distinct)), np.empty(len(distinct))
    for i, response in enumerate(distinct):
        covariance = _filtered_covariance(x, response)
        of_mean[i] = covariance.sum()
        trace = np.trace(covariance)
        if direction is not None:
            # tr(PCP) with P = I - d d^T, rescaled because centred columns are stretched back to the same spread.
            trace = (trace - direction @ covariance @ direction) / (1 - 1 / n_in)
        of_spread[i] = trace
    inverse = inverse.reshape(-1)
    return MembraneBasis(of_mean[inverse], of_spread[inverse])


def _filtered_covariance(x: np.ndarray, response: np.ndarray) -> np.ndarray:
    n_steps = x.shape[1]
    response = response[:n_steps]
    y = signal.oaconvolve(x.astype(np.float64), response[None, :, None], axes=1)[:, :n_steps]
    # Leave out the rise from rest, as far as the recording is long enough to do without it.
    settled = np.searchsorted(np.cumsum(response), 0.99 * response.sum())
    flat = y[:, min(int(settled), n_steps // 2) :].reshape(-1, x.shape[2])
    return np.atleast_2d(np.cov(flat, rowvar=False, bias=True))
