"""Joint least-squares fit of exponential decays of the membrane potential, with a shared offset and read noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from brainhw.silicon._results import student_scale
from brainhw.silicon.decay_noise import correlated_errors
from brainhw.silicon.decay_readings import ceiling, reason_for_no_fit

__all__ = ["LEAST_POINTS", "Decays", "fit_decays"]

LEAST_POINTS = 4
# A time constant with a relative error above this value counts as not measured, because the decay is flat or only
# noise.
_MAX_ERROR = 0.5
# A read-out that clips at zero raises the mean of small readings above the membrane potential. So a reading is excluded
# if its fitted value is below this many standard deviations of the noise. Excluding readings by their measured value
# would bias the fit.
_CLIPPED_BELOW = 4.0
_ITERATIONS = 12
# If neighbouring residuals correlate by more than this, the fit assumes that the membrane potential itself is noisy.
_MAX_CORRELATION = 0.1
# A decay counts as not exponential if the standard deviation of its residuals exceeds both ``_SCATTER`` times the
# median over all decays and the fraction ``_PART`` of the median amplitude.
_SCATTER, _PART = 10.0, 0.05


@dataclass
class Decays:
    """Fit of ``D`` decays with up to ``R`` readings each.

    The time constants ``tau``, their standard errors ``error``, the amplitudes ``start`` and the mask ``known`` of the
    successfully fitted decays have shape ``[D]``. The residuals and the mask ``used`` of the readings in the fit have
    shape ``[D, R]``. The offset, its standard error and the standard deviation of the noise are shared by all decays.
    """

    tau: np.ndarray
    error: np.ndarray
    start: np.ndarray
    known: np.ndarray
    residuals: np.ndarray
    used: np.ndarray
    offset: float
    offset_error: float
    noise: float


def fit_decays(
    t: np.ndarray,
    V: np.ndarray,
    used: np.ndarray,
    trial: np.ndarray,
    *,
    call: str,
    what: str,
) -> tuple[Decays, list[str]]:
    """Fit an exponential to each decay ``V [D, R]``, using the readings where ``used`` is 1. Return the fit and notes.

    ``t [D, R]`` contains the times in ms since the first reading of each decay, and ``trial [D, R]`` the trial indices.
    The readings of each trial must be sorted by time. Voltages are in mV. ``what`` describes the decays in error
    messages.
    """
    notes: list[str] = []
    there = used > 0
    clipped = V[there].min() >= 0 and np.mean(V[there] == 0) > 1e-3
    top = ceiling(V, used)
    capped = np.isfinite(top)
    offset, offset_error, mask = 0.0, 0.0, used * (top > V)
    mask = np.where(mask.sum(1, keepdims=True) >= LEAST_POINTS, mask, used)
    log_tau = _scan(t, V, mask, call, what)
    for _ in range(3 if clipped or capped else 1):
        log_tau = _newton(t, V - offset, mask, log_tau)
        start, slope, residuals = _linear_fit(t, V - offset, mask, log_tau)
        noise = _noise(residuals, mask)
        if clipped or capped:
            expected = start[:, None] * np.exp(-t / np.exp(log_tau)[:, None])
            low = _CLIPPED_BELOW * noise if clipped else -np.inf
            mask = used * (expected > low) * (expected < top - _CLIPPED_BELOW * noise if capped else True) * (top > V)
            # If too few readings of a decay remain, use all readings of this decay.
            mask = np.where(mask.sum(1, keepdims=True) >= LEAST_POINTS, mask, used)
    if capped:
        notes.append(f"the read-out saturates at {top:g} mV, so readings with a fitted value near it were excluded")
    if clipped:
        notes.append(
            "readings are clipped at zero, so readings with a fitted value near zero were excluded "
            f"({int((used - mask).sum())})"
        )
    else:
        log_tau, offset, offset_error = _with_offset(t, V, mask, log_tau)
        height = float(np.abs(V[there]).max())
        if abs(offset) > height:
            raise ValueError(
                f"{call}: the decays must not be straight lines; the fit to {what} decays to {offset:.4g} mV, but "
                f"no reading exceeds {height:.4g} mV. Check the leak of the bench, or record for longer."
            )
    start, slope, residuals = _linear_fit(t, V - offset, mask, log_tau)
    if not clipped and _autocorrelation(residuals, mask) > _MAX_CORRELATION:
        log_tau, offset, offset_error, mask = _refit_above_noise(t, V, mask, log_tau, offset, offset_error)
        start, slope, residuals = _linear_fit(t, V - offset, mask, log_tau)
    freedom = mask.sum(1) - 2
    own = np.sqrt((residuals**2).sum(1) / np.maximum(freedom, 1))
    broken = _not_exponential(own, start)
    # Decays that are not exponential must not change the noise estimate of the others.
    noise = _noise(residuals[~broken], mask[~broken])
    # All decays share the read noise, except those that are clearly noisier than the others or not exponential.
    odd = stats.chi2.sf((own / max(noise, 1e-300)) ** 2 * freedom, freedom) < 1e-4
    if odd.any():
        some = "decay scatters" if odd.sum() == 1 else "decays scatter"
        notes.append(f"{int(odd.sum())} {some} more than the read noise, so the errors there are enlarged")
    correlation = _autocorrelation(residuals, mask)
    own = np.where(odd, own, noise)
    kept = residuals * ~broken[:, None]
    error = _errors(
        t, mask, trial, log_tau, slope, kept, own, noise, offset_error, correlated=correlation > _MAX_CORRELATION
    )
    known = (error < _MAX_ERROR) & (start > 0) & ~broken
    if not known.any():
        raise ValueError(
            f"{call}: no time constant can be fitted to the {known.size} decays of {what}: {reason_for_no_fit(V, used)}"
        )
    if correlation > _MAX_CORRELATION:
        notes.append(
            f"neighbouring residuals correlate ({correlation:.2f}), so the decays have trial noise or are not single "
            "exponentials. The errors are enlarged. Average decays over trials, or check the residuals"
        )
    tau = np.where(known, np.exp(log_tau), np.nan)
    found = Decays(
        tau, error * tau, np.where(known, start, np.nan), known, residuals, mask, offset, offset_error, noise
    )
    return found, notes


def _with_offset(
    t: np.ndarray, V: np.ndarray, mask: np.ndarray, log_tau: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """Fit the time constants and a shared offset. Return log tau, the offset and the standard error of the offset.

    An offset smaller than four standard errors is set to 0.
    """

    def refined(log_tau: np.ndarray, offset: float, rounds: int) -> tuple[np.ndarray, float, float]:
        error = 0.0
        for _ in range(rounds):
            step, error = _shared_offset(t, V - offset, mask, log_tau)
            offset += step
            log_tau = _newton(t, V - offset, mask, log_tau)
        if not abs(offset) > 4.0 * error:
            offset, error = 0.0, 0.0
            log_tau = _newton(t, V, mask, log_tau)
        return log_tau, offset, error

    def cost(log_tau: np.ndarray, offset: float) -> float:
        return float((_linear_fit(t, V - offset, mask, log_tau)[2] ** 2).sum())

    best = refined(log_tau, 0.0, 4)
    # These steps start at an offset of 0 and do not find an offset of some 10 mV. So restart from an offset near the
    # lowest readings.
    ends = np.sort(np.where(mask > 0, V, np.inf), 1)[:, : max(2, mask.shape[1] // 10)]
    level = float(np.min(np.median(ends, 1)))
    for part in (1.0, 0.8, 0.5):
        other = refined(_best_on_grid(t, V - part * level, mask, _grid(t, mask)), part * level, 8)
        noise = cost(other[0], other[1]) / max(mask.sum() - 2 * mask.shape[0], 1.0)
        # Accept the new result only if it reduces the sum of squares by more than 25 noise variances. This corresponds
        # to an offset of five standard errors. Without an offset, the first result is kept.
        if cost(best[0], best[1]) - cost(other[0], other[1]) > 25.0 * noise:
            best = other
    return best


def _errors(
    t: np.ndarray, mask: np.ndarray, trial: np.ndarray, log_tau: np.ndarray, slope: np.ndarray, residuals: np.ndarray,
    own: np.ndarray, noise: float, offset_error: float, *, correlated: bool,
) -> np.ndarray:  # fmt: skip
    """Return the standard error of each log tau, from the noise of the decay and the error in the offset."""
    power, tau = (slope**2).sum(1), np.exp(log_tau)
    # A flat decay does not depend on tau, so `power` is zero. The error is then infinite, or NaN without noise, and the
    # decay counts as not measured.
    with np.errstate(divide="ignore", invalid="ignore"):
        error = noise / np.sqrt(power)
        if correlated:
            shape = mask * np.exp(-t / tau[:, None])
            error = np.maximum(error, correlated_errors(t, trial, mask, tau, shape, slope, residuals))
        error *= own / max(noise, 1e-300)
        error = np.hypot(error, _offset_effect(t, mask, log_tau, slope, power) * offset_error)
    return np.asarray(error * student_scale(float((mask.sum(1) - 2).sum())))


def _refit_above_noise(
    t: np.ndarray, V: np.ndarray, mask: np.ndarray, log_tau: np.ndarray, offset: float, offset_error: float
) -> tuple[np.ndarray, float, float, np.ndarray]:
    """Repeat the fit with only the readings well above the membrane noise.

    Return log tau, the offset, the standard error of the offset, and the mask of the readings in the fit. If the
    membrane potential is clamped at zero, noise alone has a positive mean, so late readings seem to have an offset.
    """
    start, _, residuals = _linear_fit(t, V - offset, mask, log_tau)
    noise = _noise(residuals, mask)
    high = mask * (start[:, None] * np.exp(-t / np.exp(log_tau)[:, None]) > _CLIPPED_BELOW * noise)
    mask = np.where(high.sum(1, keepdims=True) >= LEAST_POINTS, high, mask)
    if abs(offset) < noise:
        offset, offset_error = 0.0, 0.0
    return _newton(t, V - offset, mask, log_tau), offset, offset_error, mask


def _not_exponential(own: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return a mask of the decays that scatter far more than the median decay and are therefore not exponential."""
    return (own > _SCATTER * np.median(own)) & (own > _PART * np.median(np.abs(start)))


def _scan(t: np.ndarray, V: np.ndarray, used: np.ndarray, call: str, what: str) -> np.ndarray:
    """Return the best log tau of each decay on a grid.

    The grid extends from 1/5 of the shortest interval between readings to 100 times the total duration.
    """
    if not np.ptp(t[used > 0]):
        time = f"{t[used > 0][0]:g} ms"
        raise ValueError(f"{call}: all readings of {what} are at one time, {time}. Read the membrane at more times.")
    return _best_on_grid(t, V, used, _grid(t, used))


def _grid(t: np.ndarray, used: np.ndarray) -> np.ndarray:
    steps = np.diff(np.unique(t[used > 0]))
    return np.linspace(np.log(steps.min() / 5), np.log(100 * np.ptp(t[used > 0])), 80)


def _best_on_grid(t: np.ndarray, V: np.ndarray, used: np.ndarray, grid: np.ndarray) -> np.ndarray:
    best, best_score = np.full(t.shape[0], grid[0]), np.full(t.shape[0], -np.inf)
    first = np.min(np.where(used > 0, t, np.inf), axis=1, keepdims=True)
    for log_tau in grid:
        # Count time from the first used reading. If it is late, the amplitude at time 0 could overflow.
        shape = used * np.exp(-(t - first) / np.exp(log_tau))
        score = np.maximum((shape * V).sum(1), 0.0) ** 2 / (shape**2).sum(1)
        better = score > best_score
        best, best_score = np.where(better, log_tau, best), np.where(better, score, best_score)
    return best


def _linear_fit(
    t: np.ndarray, V: np.ndarray, used: np.ndarray, log_tau: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the amplitudes, the derivatives of the fit with respect to log tau, and the residuals.

    The derivatives do not contain the component that a change of the amplitude can explain.
    """
    tau = np.exp(log_tau)[:, None]
    shape = used * np.exp(-t / tau)
    power = np.maximum((shape**2).sum(1), 1e-300)
    start = (shape * V).sum(1) / power
    slope = start[:, None] * shape * t / tau
    # Remove the component of the derivative that a change of the amplitude can explain.
    slope = slope - shape * ((slope * shape).sum(1) / power)[:, None]
    return start, slope, used * V - start[:, None] * shape


def _newton(t: np.ndarray, V: np.ndarray, used: np.ndarray, log_tau: np.ndarray) -> np.ndarray:
    for _ in range(_ITERATIONS):
        _, slope, residuals = _linear_fit(t, V, used, log_tau)
        power = (slope**2).sum(1)
        step = np.divide((slope * residuals).sum(1), power, out=np.zeros_like(power), where=power > 0)
        # Limit the steps, so that a flat decay does not diverge. Other decays need smaller steps, because the grid is
        # fine.
        log_tau = log_tau + np.clip(step, -0.2, 0.2)
        if np.max(np.abs(step)) < 1e-10:
            break
    return log_tau


def _noise(residuals: np.ndarray, used: np.ndarray) -> float:
    return float(np.sqrt((residuals**2).sum() / max(used.sum() - 2 * used.shape[0], 1.0)))


def _shared_offset(t: np.ndarray, V: np.ndarray, used: np.ndarray, log_tau: np.ndarray) -> tuple[float, float]:
    """Return the Gauss-Newton step of the shared offset, and the standard error of the offset.

    The step takes into account that the amplitudes and time constants change with the offset.
    """
    _, slope, residuals = _linear_fit(t, V, used, log_tau)
    flat = _orthogonalise(used, used * np.exp(-t / np.exp(log_tau)[:, None]), slope)
    power = max(float((flat**2).sum()), 1e-300)
    return float((flat * residuals).sum()) / power, _noise(residuals, used) / float(np.sqrt(power))


def _offset_effect(
    t: np.ndarray, used: np.ndarray, log_tau: np.ndarray, slope: np.ndarray, power: np.ndarray
) -> np.ndarray:
    """Return the change of each log tau per mV of the shared offset."""
    return np.divide((slope * used).sum(1), power, out=np.zeros_like(power), where=power > 0)


def _orthogonalise(flat: np.ndarray, *others: np.ndarray) -> np.ndarray:
    for other in others:
        # The vectors in `others` are orthogonal, so the projections can be subtracted one after the other.
        power = np.maximum((other**2).sum(1, keepdims=True), 1e-300)
        flat = flat - other * (flat * other).sum(1, keepdims=True) / power
    return flat


def _autocorrelation(residuals: np.ndarray, used: np.ndarray) -> float:
    pairs = used[:, 1:] * used[:, :-1]
    square = (residuals**2).sum()
    if not square:
        return 0.0
    # Fitting two parameters per decay makes neighbouring residuals slightly anticorrelated, even for white noise.
    expected = -2.0 / used.sum(1).mean()
    return float((pairs * residuals[:, 1:] * residuals[:, :-1]).sum() / square - expected)
