"""Statistics and text output for the fits to chip measurements."""

from __future__ import annotations

import numpy as np
from scipy import stats

__all__ = ["PROGRESS_AFTER", "corrected_std", "counted", "percent", "student_scale", "with_error"]

# A fit shows a progress bar after this time, in seconds.
PROGRESS_AFTER = 2.0


def counted(number: int, word: str) -> str:
    """Return the number with its noun: ``1 synapse``, ``20 synapses``."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def percent(share: float, digits: str = ".1f") -> str:
    """Return a fraction as text in percent, or ``unknown`` for NaN."""
    return f"{100 * share:{digits}} %" if np.isfinite(share) else "unknown"


def student_scale(freedom: float) -> float:
    """Return the factor that corrects a standard error if the noise was estimated from few measurements.

    With the corrected error, ``value +- 1.96 error`` is a 95 % interval. The factor is the 97.5 % quantile of
    Student's t distribution with ``freedom`` degrees of freedom, divided by the same quantile of the normal
    distribution.
    """
    return float(stats.t.ppf(0.975, max(freedom, 1.0)) / stats.norm.ppf(0.975))


def corrected_std(values: np.ndarray, errors: np.ndarray) -> float:
    """Estimate the standard deviation of the true values from estimates and their standard errors.

    The squared result is the variance of ``values`` minus the mean square of ``errors``, or 0 if this difference is
    negative. Values that are not finite, or whose error is not finite, are ignored. The result is NaN if fewer than two
    values remain.
    """
    known = np.isfinite(values) & np.isfinite(errors)
    if known.sum() < 2:
        return float("nan")
    return float(np.sqrt(max(np.var(values[known], ddof=1) - np.mean(errors[known] ** 2), 0.0)))


def with_error(value: float, error: float, unit: str = "") -> str:
    """Return ``value +- error unit``.

    The error has two significant digits, and the value has as many decimals as the error.
    """
    tail = f" {unit}" if unit else ""
    if not np.isfinite(error) or error <= 0:
        return f"{value:.5g}{tail}"
    if error < 1e-9 * abs(value):
        # The data have almost no noise. Rounded to the decimals of this error, the value would end in a long row of
        # zeros.
        return f"{value:.5g} +- {error:.1g}{tail}"
    decimals = int(np.clip(1 - np.floor(np.log10(error)), 0, 12))
    return f"{value:.{decimals}f} +- {error:.{decimals}f}{tail}"
