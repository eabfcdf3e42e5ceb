"""Fit of f-I curves together with decays: which leak setting they have, whether they agree, gains of the synapses."""

from __future__ import annotations

import numpy as np

from brainhw.silicon.fit_leak import LeakFit
from brainhw.silicon.rate_fit import Bar, RateData, RateSolution, rough_tau, solve_gains, solve_rates

__all__ = ["fit_with_decays"]

Prior = tuple[np.ndarray, np.ndarray]

# Excess scatter above which a fit is poor.
_POOR = 1.5
# Noise-free curves tell log tau to about 0.3 in the median of the neurons; neighbouring settings lie about 0.7 apart.
_ROUGHLY = 0.5
# The same for curves fitted with noise.
_SAME = 0.2
# Gains of the driving synapses are kept if they lower the cost to this share.
_BETTER = 0.6


def fit_with_decays(
    data: RateData, leak: LeakFit | None, settings: np.ndarray, neurons: np.ndarray, *, search: bool, progress: bool
) -> tuple[RateSolution, np.ndarray, bool, list[str]]:
    """Return the fit, the leak settings of the curves, whether the decays are in it, and notes.

    With ``search`` the one setting of the curves is looked for among those of the decays.
    """
    notes: list[str] = []
    with Bar(progress) as bar:
        prior: Prior | None = None
        if leak is not None:
            taus = _Decays(leak, neurons)
            if search:
                place = taus.nearest(rough_tau(data, taus.range()), _ROUGHLY)
                prior, settings = taus.prior([place]), taus.named([place])
            else:
                known = {int(setting): place for place, setting in enumerate(leak.settings)}
                prior = taus.prior([known.get(int(setting)) for setting in settings])
        p, found = solve_rates(data, prior, bar)
        if prior is not None and found.excess > _POOR:
            # Another setting than thought, another temperature or chip, or synapses that differ.
            p_alone, alone = solve_rates(data, None, bar)
            if search:
                place = taus.nearest(np.log(alone.tau[0]), _SAME)
                if taus.named([place]).tolist() != settings.tolist():
                    prior, settings = taus.prior([place]), taus.named([place])
                    p, found = solve_rates(data, prior, bar)
            if alone.excess <= _POOR < found.excess:
                prior, p, found = None, p_alone, alone
        if found.excess > _POOR:
            gains = solve_gains(data, prior, p, bar)
            found = gains if gains.cost < _BETTER * found.cost else found
    if found.excess > _POOR:
        scale = float(np.sqrt(found.excess))
        found.enlarge(scale)
        notes.append(f"the curves scatter {scale:.1f} times as much as the model says; errors are enlarged")
    if leak is not None and prior is None:
        notes.append("the f-I curves do not agree with the decays: tau comes from the curves alone")
    elif search and leak is not None:
        notes.append(f"the f-I curves were taken at leak setting {settings[0]}, found by its time constants")
    return found, settings, prior is not None, notes


class _Decays:
    """Log tau of the decays for the neurons of the curves, ``[settings, N]``."""

    def __init__(self, leak: LeakFit, neurons: np.ndarray) -> None:
        where = {int(neuron): place for place, neuron in enumerate(leak.neurons)}
        column = np.array([where.get(int(neuron), -1) for neuron in neurons])
        tau, error = (np.asarray(held.mantissa)[:, column] for held in (leak.tau, leak.error))
        self.settings = leak.settings
        self.log_tau = np.where(column >= 0, np.log(tau), np.nan)
        self.error = np.where(column >= 0, error / tau, np.nan)

    def range(self) -> np.ndarray:
        """Return a grid of log tau around all decays."""
        known = self.log_tau[np.isfinite(self.log_tau)]
        return np.linspace(known.min() - 0.5, known.max() + 0.5, 60) if known.size else np.log(np.geomspace(1, 300, 60))

    def nearest(self, log_tau: np.ndarray, most: float) -> int | None:
        """Return the place of the setting with the smallest median distance, if that is at most ``most``."""
        apart = log_tau - self.log_tau
        shared = [place for place in range(self.settings.size) if np.isfinite(apart[place]).any()]
        if not shared:
            return None
        distances = [abs(float(np.nanmedian(apart[place]))) for place in shared]
        return shared[int(np.argmin(distances))] if min(distances) <= most else None

    def named(self, places: list[int | None]) -> np.ndarray:
        """Return the numbers of settings; -1 for one that is not known."""
        return np.array([-1 if place is None else self.settings[place] for place in places])

    def prior(self, places: list[int | None]) -> Prior | None:
        """Return log tau and its error ``[S, N]``, NaN where there is no decay; None if there is none at all."""
        nothing = np.full(self.log_tau.shape[1], np.nan)
        values = np.stack([nothing if place is None else self.log_tau[place] for place in places])
        errors = np.stack([nothing if place is None else self.error[place] for place in places])
        return (values, errors) if np.isfinite(values).any() else None
