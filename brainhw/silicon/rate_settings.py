"""Joint fit of f-I curves and decays: find the leak setting, check the agreement, and fit the gains of the synapses."""

from __future__ import annotations

import numpy as np
from scipy import stats

from brainhw.silicon.fit_leak import LeakFit
from brainhw.silicon.rate_fit import Bar, RateData, RateSolution, rough_tau, solve_gains, solve_rates

__all__ = ["first_prior", "fit_with_decays", "is_poor"]

Prior = tuple[np.ndarray, np.ndarray]

# A fit is poor if its excess variance is above ``_POOR`` and the p-value of this excess is below ``_CHANCE``. The
# second condition is needed because a few counts can have a large scatter by chance.
_POOR, _CHANCE = 1.5, 1e-3
# Largest distance between the log tau of noise-free f-I curves and of the decays at the same setting. From such curves,
# the median over neurons of log tau is known to about 0.3. Neighbouring settings are about 0.7 apart.
_ROUGHLY = 0.5
# Largest distance between the log tau of f-I curves that are fitted with noise and the log tau of the decays.
_SAME = 0.2
# A fit with a separate gain for each driving synapse is used only if its cost is less than this fraction of the cost
# with equal gains.
_BETTER = 0.6


def is_poor(found: RateSolution) -> bool:
    """Return whether the counts scatter around a fit significantly more than the model predicts."""
    return found.excess > _POOR and found.chance < _CHANCE


def fit_with_decays(
    data: RateData, leak: LeakFit | None, settings: np.ndarray, neurons: np.ndarray, *, search: bool, bar: Bar
) -> tuple[RateSolution, np.ndarray, bool, list[str]]:
    """Fit f-I curves, with the time constants of the decays as a prior.

    Return the fit, the leak settings of the curves, a bool that is true if the fit includes the decays, and notes. If
    ``search`` is true, all curves have the same setting. The fit then chooses it from the settings of the decays.
    """
    notes: list[str] = []
    prior, settings, taus = first_prior(data, leak, settings, neurons, search=search)
    had_prior = prior is not None
    p, found = solve_rates(data, prior, bar)
    if taus is not None and prior is not None and is_poor(found):
        # The cause may be a wrong setting, a different temperature or chip, or gains that differ between the synapses.
        p_alone, alone = solve_rates(data, None, bar)
        if search:
            place = taus.nearest(np.log(alone.tau[0]), _SAME)
            if taus.named([place]).tolist() != settings.tolist():
                prior, settings = taus.prior([place]), taus.named([place])
                p, found = solve_rates(data, prior, bar)
        # If the decays agree with the curves, they increase the cost by no more than their errors explain.
        ties = max(int(np.isfinite(taus.log_tau).any(0).sum()), 1)
        worse = stats.chi2.sf(max(found.cost - alone.cost, 0.0), ties) < _CHANCE
        if is_poor(found) and worse and not is_poor(alone):
            prior, p, found = None, p_alone, alone
    if is_poor(found):
        gains = solve_gains(data, prior, p, bar)
        found = gains if gains.cost < _BETTER * found.cost else found
    if is_poor(found):
        scale = float(np.sqrt(found.excess))
        found.enlarge(scale)
        notes.append(f"the curves scatter {scale:.1f} times as much as the model predicts, so the errors are enlarged")
    if taus is not None and prior is None:
        notes.append(
            "the f-I curves do not agree with the decays, so tau is fitted to the curves only"
            if had_prior
            else taus.note_on_missing_decays(neurons, settings)
        )
    elif search and leak is not None:
        notes.append(f"the f-I curves were taken at leak setting {settings[0]}, which was found by its time constants")
    return found, settings, prior is not None, notes


def first_prior(
    data: RateData, leak: LeakFit | None, settings: np.ndarray, neurons: np.ndarray, *, search: bool
) -> tuple[Prior | None, np.ndarray, _Decays | None]:
    """Return a prior for log tau, the settings of the curves, and all decays.

    The prior is the log tau of the decays with its error. It is None if there are no decays at these settings. If
    ``search`` is true, it is also None if noise-free curves do not identify the setting.
    """
    if leak is None:
        return None, settings, None
    taus = _Decays(leak, neurons)
    if search:
        place = taus.nearest(rough_tau(data, taus.range()), _ROUGHLY)
        return taus.prior([place]), taus.named([place]), taus
    known = {int(setting): place for place, setting in enumerate(leak.settings)}
    return taus.prior([known.get(int(setting)) for setting in settings]), settings, taus


class _Decays:
    """Log tau of the decays for the neurons of the curves, ``[settings, N]``."""

    def __init__(self, leak: LeakFit, neurons: np.ndarray) -> None:
        where = {int(neuron): place for place, neuron in enumerate(leak.neurons)}
        column = np.array([where.get(int(neuron), -1) for neuron in neurons])
        tau, error = (np.asarray(held.mantissa)[:, column] for held in (leak.tau, leak.error))
        self.settings = leak.settings
        self.log_tau = np.where(column >= 0, np.log(tau), np.nan)
        self.error = np.where(column >= 0, error / tau, np.nan)

    def note_on_missing_decays(self, neurons: np.ndarray, settings: np.ndarray) -> str:
        """Return a note on the reason why the fit of the f-I curves does not use the decays."""
        tail = "tau is fitted to the curves only"
        if not np.isfinite(self.log_tau).any():
            return f"the neurons of the f-I curves have no decays, so {tail}"
        if settings.tolist() == [-1]:
            return f"the f-I curves do not agree with the decays at any leak setting, so {tail}"
        return f"there are no decays at leak setting {', '.join(map(str, settings))} of the f-I curves, so {tail}"

    def range(self) -> np.ndarray:
        """Return a grid of log tau that covers all decays."""
        known = self.log_tau[np.isfinite(self.log_tau)]
        return np.linspace(known.min() - 0.5, known.max() + 0.5, 60) if known.size else np.log(np.geomspace(1, 300, 60))

    def nearest(self, log_tau: np.ndarray, most: float) -> int | None:
        """Return the index of the setting whose decays have the smallest median distance from ``log_tau``.

        Return None if this distance exceeds ``most``.
        """
        apart = log_tau - self.log_tau
        shared = [place for place in range(self.settings.size) if np.isfinite(apart[place]).any()]
        if not shared:
            return None
        distances = [abs(float(np.nanmedian(apart[place]))) for place in shared]
        return shared[int(np.argmin(distances))] if min(distances) <= most else None

    def named(self, places: list[int | None]) -> np.ndarray:
        """Return the leak settings at the indices ``places``, with -1 for None."""
        return np.array([-1 if place is None else self.settings[place] for place in places])

    def prior(self, places: list[int | None]) -> Prior | None:
        """Return log tau and its error ``[S, N]``, NaN for missing decays. Return None if all decays are missing."""
        nothing = np.full(self.log_tau.shape[1], np.nan)
        values = np.stack([nothing if place is None else self.log_tau[place] for place in places])
        errors = np.stack([nothing if place is None else self.error[place] for place in places])
        return (values, errors) if np.isfinite(values).any() else None
