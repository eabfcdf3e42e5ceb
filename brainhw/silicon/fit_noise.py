"""Fit of the trial noise from repeated recordings of the membrane potential with the same input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._drawn import Drawn
from brainhw._shown import Shown
from brainhw.silicon._results import student_scale, with_error

__all__ = ["NoiseFit", "fit_noise"]

LEAST_STEPS = 10
LEAST_VALUES = 100


@final
@dataclass(frozen=True, eq=False, repr=False)
class NoiseFit(Shown, Drawn):
    """Fitted noise of the membrane potential. ``value +- 1.96 error`` is a 95 % interval.

    Attributes
    ----------
    noise_std, noise_std_error : Quantity, scalar
        Standard deviation of the noise that is added to the membrane potential in each step, mV.
    read_noise, read_noise_error : Quantity, scalar
        Standard deviation of the noise of one reading, mV.
    residuals : Quantity, shape [trials, T - 1, N]
        ``d[t + 1] - beta d[t]`` in mV, where ``d`` is the deviation of a trial from the mean of all trials and ``beta``
        is ``exp(-dt / tau)``.
    notes : tuple of str
        Limits of the data.
    """

    noise_std: u.Quantity
    noise_std_error: u.Quantity
    read_noise: u.Quantity
    read_noise_error: u.Quantity
    residuals: u.Quantity
    notes: tuple[str, ...]

    def _parts(self) -> Iterator[str]:
        rows = (("trial noise per step", "noise_std"), ("read noise", "read_noise"))
        lines = [
            f"{text}: {with_error(float(getattr(self, n).mantissa), float(getattr(self, n + '_error').mantissa), 'mV')}"
            for text, n in rows
        ]
        yield from lines
        yield from self.notes

    def __repr__(self) -> str:
        return f"NoiseFit({float(self.noise_std.mantissa):.4g} mV per step)"


def fit_noise(V: u.Quantity, *, tau: u.Quantity, dt: u.Quantity = 1.0 * u.ms) -> NoiseFit:
    """Fit the noise per step and the read noise from repeated recordings of the membrane potential.

    The deviation ``d`` of a trial from the mean of all trials follows ``d[t + 1] = beta d[t] + noise`` with ``beta =
    exp(-dt / tau)``, and each reading adds read noise. So ``e[t] = d[t + 1] - beta d[t]`` has variance ``s^2 + (1 +
    beta^2) r^2``, and its covariance with ``e[t + 1]`` is ``-beta r^2``. From these two values, the fit computes the
    noise per step ``s`` and the read noise ``r``. The neurons must not spike. Their membrane potentials must stay above
    zero, because clipping at zero reduces the noise.

    Parameters
    ----------
    V : Quantity, shape [trials, T, N]
        Membrane potentials of at least 2 trials, each with at least 10 steps. All trials must have the same input.
    tau : Quantity, scalar or shape [N]
        Time constants of the neurons (`fit_leak`).
    dt : Quantity, optional
        Time step. Default 1 ms.

    Returns
    -------
    NoiseFit
        The noise per step and the read noise, with their errors.

    Raises
    ------
    TypeError
        If an argument has the wrong unit.
    ValueError
        If an argument has the wrong shape or is not finite, or if there are too few data.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u, numpy as np
    >>> rng, V = np.random.default_rng(0), np.full((20, 200, 8), 50.0)
    >>> for t in range(1, 200):
    ...     V[:, t] = 50 + np.exp(-1 / 20) * (V[:, t - 1] - 50) + 1.5 * rng.standard_normal((20, 8))
    >>> fit = bh.silicon.fit_noise((V + 0.4 * rng.standard_normal(V.shape)) * u.mV, tau=20 * u.ms)
    >>> round(float(fit.noise_std.mantissa), 1), round(float(fit.read_noise.mantissa), 1)
    (1.5, 0.4)
    """
    call = "fit_noise"
    held = np.asarray(_arguments.quantity(V, u.mV, call=call, name="V").mantissa, float)
    if held.ndim != 3 or held.shape[0] < 2 or held.shape[1] < LEAST_STEPS or held.size < LEAST_VALUES:
        raise ValueError(
            f"{call}: V must have shape [trials, T, N] with at least 2 trials, {LEAST_STEPS} steps and {LEAST_VALUES} "
            f"values; got shape {held.shape}. Record more."
        )
    trials, _, n = held.shape
    given = _arguments.quantity(tau, u.ms, call=call, name="tau", shapes=[(), (n,)], positive=True).mantissa
    step = float(_arguments.quantity(dt, u.ms, call=call, name="dt", shapes=[()], positive=True).mantissa)
    beta = np.broadcast_to(np.exp(-step / np.asarray(given, float)), (n,))
    # The mean over trials includes the noise of each trial, so deviations from the mean are too small by this factor.
    d = (held - held.mean(0)) * np.sqrt(trials / (trials - 1))
    e = d[:, 1:] - beta * d[:, :-1]
    notes = []
    if (held <= 0).any():
        notes.append(
            f"{int((held <= 0).sum())} readings are at or below zero, where clipping makes the noise look smaller"
        )
    # Each pair of trial and neuron yields one sample of the moments. The errors follow from the scatter of the samples.
    variance, covariance = (e**2).mean(1), (e[:, 1:] * e[:, :-1]).mean(1)
    read = -covariance / beta
    own = variance - (1 + beta**2) * read
    return NoiseFit(
        *_root(own, trials),
        *_root(read, trials),
        residuals=u.Quantity(e, unit=u.mV),
        notes=tuple(notes),
    )


def _root(squares: np.ndarray, trials: int) -> tuple[u.Quantity, u.Quantity]:
    """Return the square root of the mean of ``squares``, and the standard error of this root, in mV.

    A negative mean counts as zero.
    """
    mean = max(float(squares.mean()), 0.0)
    # Subtracting the mean over trials costs one degree of freedom per neuron.
    count = squares.size * (trials - 1) / trials
    error = float(squares.std(ddof=1) / np.sqrt(count)) * student_scale(count - 1)
    root = np.sqrt(mean)
    # Near zero the derivative of the root diverges, so the error is limited to the root of the error in the mean
    # square.
    bound = min(error / (2 * root), np.sqrt(error)) if root else np.sqrt(error)
    return u.Quantity(float(root), unit=u.mV), u.Quantity(float(bound), unit=u.mV)
