"""Standard errors of the time constants of decays, if the membrane potential itself is noisy."""

from __future__ import annotations

import numpy as np

__all__ = ["correlated_errors"]


def correlated_errors(
    t: np.ndarray, trial: np.ndarray, used: np.ndarray, tau: np.ndarray, shape: np.ndarray, slope: np.ndarray,
    residuals: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Return the standard errors ``[D]`` of log tau in a least-squares fit of ``D`` decays with correlated residuals.

    The noise of a reading is the sum of read noise and membrane noise. Read noise is white and has variance ``r2``.
    Membrane noise is zero at the first reading of a trial. New noise with a variance of ``q2`` per ms is added to it,
    and the sum decays with the time constant ``tau``. Both variances are chosen such that the sum of squared residuals
    and the sum of products of neighbouring residuals equal their expectations.

    Parameters
    ----------
    t, trial, used : array, shape [D, R]
        ``t`` is the time in ms since the first reading of the decay, and ``trial`` is the index of the trial. ``used``
        is 1 for the readings in the fit and 0 for all others. The readings of a trial must be sorted by time.
    tau : array, shape [D]
        Fitted time constants in ms.
    shape, slope, residuals : array, shape [D, R]
        ``shape`` is the fitted exponential with amplitude 1. ``slope`` is the derivative of the fit with respect to log
        tau, without its component along ``shape``. All values are 0 for unused readings.
    """
    noise = _MembraneNoise(t, trial, tau)
    # The fit absorbs the components of the noise along ``shape`` and ``slope``. So compute unit vectors along both.
    fitted = np.stack([part / np.sqrt(np.maximum((part**2).sum(1, keepdims=True), 1e-300)) for part in (shape, slope)])
    carried = np.stack([noise.multiply(part) for part in fitted]) * used
    overlap = np.einsum("adr,bdr->abd", fitted, carried)
    pairs = used[:, 1:] * used[:, :-1] * noise.same_trial
    here, there = np.s_[..., :-1], np.s_[..., 1:]
    # Expected sums of squared residuals and of products of neighbouring residuals, for membrane noise and for white
    # noise of unit variance.
    squares = (noise.variance * used).sum() - np.einsum("aad->", overlap), used.sum() - 2 * len(t)
    mixed = np.einsum("adr,abd,bdr->dr", fitted[here], overlap, fitted[there])
    crossed = (fitted[here] * carried[there] + carried[here] * fitted[there]).sum(0)
    neighbours = (
        (pairs * (noise.variance[here] * noise.step - crossed + mixed)).sum(),
        -(pairs * (fitted[here] * fitted[there]).sum(0)).sum(),
    )
    seen = np.array([(residuals**2).sum(), (pairs * residuals[here] * residuals[there]).sum()])
    q2, r2 = np.linalg.lstsq(np.array([squares, neighbours]), seen, rcond=None)[0]
    if r2 < 0 or q2 < 0:  # the other noise explains all residuals
        q2, r2 = (seen[0] / squares[0], 0.0) if r2 < 0 else (0.0, seen[0] / squares[1])
    power = np.maximum((slope**2).sum(1), 1e-300)
    return np.asarray(np.sqrt(q2 * (slope * noise.multiply(slope)).sum(1) + r2 * power) / power)


class _MembraneNoise:
    """Covariance matrix of the membrane noise at the readings of each decay.

    The noise is zero at the first reading of a trial. New noise with a variance of 1 per ms is then added to it.
    """

    def __init__(self, t: np.ndarray, trial: np.ndarray, tau: np.ndarray) -> None:
        self.same_trial = (trial[:, 1:] == trial[:, :-1]).astype(float)
        ahead = np.diff(t, axis=1)
        # Noise is not carried over from one trial to the next, or into the padding.
        self.same_trial *= ahead >= 0
        self.step = self.same_trial * np.exp(-np.maximum(ahead, 0.0) / tau[:, None])
        self.variance = np.zeros_like(t)
        for j in range(1, t.shape[1]):
            step = self.step[:, j - 1]
            fresh = self.same_trial[:, j - 1] * (1 - step**2) * tau / 2
            self.variance[:, j] = step**2 * self.variance[:, j - 1] + fresh

    def multiply(self, x: np.ndarray) -> np.ndarray:
        """Multiply the covariance matrix by ``x [D, R]``, with one forward and one backward pass over the readings."""
        before, behind = np.zeros_like(x), np.zeros_like(x)
        for j in range(1, x.shape[1]):
            before[:, j] = self.step[:, j - 1] * (before[:, j - 1] + self.variance[:, j - 1] * x[:, j - 1])
            k = x.shape[1] - 1 - j
            behind[:, k] = self.step[:, k] * (behind[:, k + 1] + x[:, k + 1])
        return np.asarray(self.variance * (x + behind) + before)
