"""Exclude f-I curves that do not follow the model, because they would bias the shared parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from brainhw.silicon.fit_leak import LeakFit
from brainhw.silicon.rate_fit import Bar, RateData, RateSolution, solve_rates
from brainhw.silicon.rate_settings import first_prior, fit_with_decays, is_poor

__all__ = ["MAX_DEVIATION", "MAX_THRESHOLD_ERROR", "fit_screened"]

# Largest mean deviation of a valid curve, in spikes per step. In good fits of bench data, the deviation is 0.0005.
MAX_DEVIATION = 0.02
# A threshold with a relative error above this value counts as not measured.
MAX_THRESHOLD_ERROR = 0.2
# A spec allows a relative standard deviation of the thresholds of 20 %. A threshold is an outlier if it differs from
# the median by more than this factor.
_MAX_THRESHOLD_RATIO = 2.0
# Trial noise above this fraction of the threshold has a different cause. On a bench, trial noise is a few percent.
MAX_NOISE = 0.05
# All neurons share the noise, so a neuron with more than this multiple of the median noise is an outlier.
_MORE_NOISE = 4.0
_MORE_SCATTER = 10.0
# With fewer neurons, outliers cannot be identified.
_MIN_NEURONS = 3


def fit_screened(
    data: RateData, leak: LeakFit | None, settings: np.ndarray, neurons: np.ndarray, *, search: bool, progress: bool
) -> tuple[RateSolution, np.ndarray, bool, list[str]]:
    """Fit f-I curves with `fit_with_decays`, without the neurons whose curves do not follow the model.

    The results of these neurons are NaN, and a note names the neurons.
    """
    with Bar(progress) as bar:
        found, named, combined, notes = fit_with_decays(data, leak, settings, neurons, search=search, bar=bar)
        if not _may_have_outliers(data, found):
            return found, named, combined, notes
        alone = _fit_each_neuron(data, leak, settings, neurons, search, bar)
        odd = _outliers(data, alone, found.determined)
        # If half of the curves are outliers, the cause is not single curves, so all are kept.
        if not odd.any() or 2 * odd.sum() >= found.determined.sum():
            return found, named, combined, notes
        kept = np.flatnonzero(~odd)
        some, named, combined, notes = fit_with_decays(
            _select_neurons(data, kept), leak, settings, neurons[kept], search=search, bar=bar
        )
    notes.append(
        f"not measured, because their curves do not follow the model that fits the others: neuron "
        f"{', '.join(map(str, neurons[odd][:8]))} ({odd.sum()} in total). Check these rows of the table"
    )
    return _expand_to_all(data, some, kept, alone, found), named, combined, notes


def _may_have_outliers(data: RateData, found: RateSolution) -> bool:
    known = found.determined & np.isfinite(found.error) & (found.error < MAX_THRESHOLD_ERROR)
    if is_poor(found) or (found.determined & ~known).any() or not known.any():
        return True
    theta = found.theta[known]
    apart = np.abs(np.log(theta / np.median(theta))).max()
    return bool(
        apart > np.log(_MAX_THRESHOLD_RATIO)
        or found.noise > MAX_NOISE * np.median(theta)
        or (_mean_deviation(data, found.mean)[found.determined] > MAX_DEVIATION).any()
    )


def _mean_deviation(data: RateData, mean: np.ndarray) -> np.ndarray:
    """Return, for each neuron, the mean absolute difference of fitted and measured rates, in spikes per step."""
    miss = np.abs(mean - data.count) / data.n_steps
    return np.asarray(np.bincount(data.neuron, miss) / np.bincount(data.neuron))


def _select_neurons(data: RateData, kept: np.ndarray) -> RateData:
    rows = np.isin(data.neuron, kept)
    columns = {name: getattr(data, name)[rows] for name in ("setting", "inputs", "charge", "n_steps", "count")}
    return replace(data, neuron=np.searchsorted(kept, data.neuron[rows]), **columns)


def _fit_each_neuron(
    data: RateData, leak: LeakFit | None, settings: np.ndarray, neurons: np.ndarray, search: bool, bar: Bar
) -> list[RateSolution]:
    """Fit the f-I curves and the noise of each neuron separately.

    The prior for tau is the same as in a fit of all neurons together (see `first_prior`).
    """
    prior = first_prior(data, leak, settings, neurons, search=search)[0]
    found = []
    for i in range(neurons.size):
        one = _select_neurons(data, np.array([i]))
        own = None if prior is None else tuple(held[: int(one.setting.max()) + 1, i : i + 1] for held in prior)
        found.append(solve_rates(one, own, bar)[1])  # type: ignore[arg-type]
    return found


def _outliers(data: RateData, alone: list[RateSolution], determined: np.ndarray) -> np.ndarray:
    """Return a mask of the neurons whose curves do not fit the model or differ too much from those of other neurons.

    ``alone`` contains the separate fit of each neuron.
    """
    rows = [data.neuron == i for i in range(determined.size)]
    off = np.array(
        [
            float(np.mean(np.abs(one.mean - data.count[at]) / data.n_steps[at]))
            for one, at in zip(alone, rows, strict=True)
        ]
    )
    theta = np.array([one.theta[0] for one in alone])
    noise = np.array([one.noise for one in alone]) / theta
    excess = np.array([one.excess for one in alone])
    odd = off > MAX_DEVIATION
    if determined.sum() >= _MIN_NEURONS:
        middle = {
            name: np.median(held[determined]) for name, held in (("V", theta), ("noise", noise), ("excess", excess))
        }
        odd |= np.abs(np.log(theta / middle["V"])) > np.log(_MAX_THRESHOLD_RATIO)
        odd |= noise > max(MAX_NOISE, _MORE_NOISE * middle["noise"])
        poor = np.array([is_poor(one) for one in alone])
        odd |= poor & (excess > _MORE_SCATTER * max(middle["excess"], 1.0))
    return np.asarray(odd & determined)


def _expand_to_all(
    data: RateData, some: RateSolution, kept: np.ndarray, alone: list[RateSolution], whole: RateSolution
) -> RateSolution:
    """Expand the solution ``some``, which contains only the kept neurons, to all neurons.

    The values of the kept neurons are copied from ``some``. The values of the other neurons are NaN, and the rates of
    these neurons are copied from their separate fits.
    """
    n = whole.theta.size
    theta, error = np.full(n, np.nan), np.full(n, np.inf)
    theta[kept], error[kept] = some.theta, some.error
    tau, tau_error = np.full(whole.tau.shape, np.nan), np.full(whole.tau.shape, np.nan)
    tau[: some.tau.shape[0], kept], tau_error[: some.tau.shape[0], kept] = some.tau, some.tau_error
    mean, variance = np.zeros_like(whole.mean), np.ones_like(whole.variance)
    rows = np.isin(data.neuron, kept)
    mean[rows], variance[rows] = some.mean, some.variance
    for i in np.setdiff1d(np.arange(n), kept):
        mean[data.neuron == i], variance[data.neuron == i] = alone[i].mean, alone[i].variance
    determined = np.zeros(n, bool)
    determined[kept] = some.determined
    return replace(
        some,
        theta=theta,
        error=error,
        tau=tau,
        tau_error=tau_error,
        mean=mean,
        variance=variance,
        determined=determined,
    )
