"""Fit of the time constant of each neuron at each leak setting, from decays of the membrane potential."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._drawn import Drawn
from brainhw._shown import Shown
from brainhw.silicon._results import corrected_std, counted, percent, with_error
from brainhw.silicon.decay_fit import LEAST_POINTS, fit_decays
from brainhw.silicon.decay_readings import note_of_faulty, outlier_readings
from brainhw.silicon.tables import DecayTable, named

__all__ = ["LeakFit", "fit_leak"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class LeakFit(Shown, Drawn):
    """Fitted time constants. ``value +- 1.96 error`` is a 95 % interval. NaN marks values that were not measured.

    Attributes
    ----------
    table : DecayTable
        The measurement.
    settings : array of int, shape [S]
        Indices of the leak settings, as in the table.
    neurons : array of int, shape [N]
        Physical indices of the neurons in the table.
    tau, error : Quantity, shape [S, N]
        Time constant and its standard error, ms.
    start : Quantity, shape [S, N]
        Fitted membrane potential at the first reading of each decay, mV.
    offset, offset_error : Quantity, scalar
        Offset of the read-out, shared by all decays, mV; zero if it is not significant.
    read_noise : Quantity, scalar
        Noise of one reading, mV.
    mean : Quantity, shape [S]
        Geometric mean of the time constants of each setting, ms. The mean is geometric because brainhw assumes
        log-normal leak currents.
    mean_error : Quantity, shape [S]
        Standard error of ``mean``, ms. Here ``mean`` is an estimate for all neurons of the chip. So the error combines
        the standard deviation over the neurons with the errors of their time constants. It is inversely proportional to
        the square root of the number of neurons.
    spread : array, shape [S]
        Standard deviation of the log leak current over the neurons, corrected for estimation errors.
    residuals : Quantity, shape [R]
        Measured minus fitted membrane potential of each row of the table, mV. NaN for rows that the fit excluded.
    notes : tuple of str
        Excluded data, and assumptions.
    """

    table: DecayTable
    settings: np.ndarray
    neurons: np.ndarray
    tau: u.Quantity
    error: u.Quantity
    start: u.Quantity
    offset: u.Quantity
    offset_error: u.Quantity
    read_noise: u.Quantity
    mean: u.Quantity
    mean_error: u.Quantity
    spread: np.ndarray
    residuals: u.Quantity
    notes: tuple[str, ...]

    def _parts(self) -> Iterator[str]:
        lines = [f"leak: {counted(self.settings.size, 'setting')}, {counted(self.neurons.size, 'neuron')}"]
        for place, setting in enumerate(self.settings):
            mean, error = float(self.mean.mantissa[place]), float(self.mean_error.mantissa[place])
            relative = self.error.mantissa[place] / self.tau.mantissa[place]
            if not np.isfinite(relative).any():
                lines.append(f"  setting {setting}: not measured")
                continue
            one, spread = float(np.nanmedian(relative)), float(self.spread[place])
            lines.append(
                f"  setting {setting}: tau {with_error(mean, error, 'ms')} (geometric mean), "
                f"standard deviation {percent(spread)}, error of one neuron {100 * one:.2g} %"
            )
        offset, error = float(self.offset.mantissa), float(self.offset_error.mantissa)
        lines.append(f"  read noise {float(self.read_noise.mantissa):.3g} mV, offset {with_error(offset, error, 'mV')}")
        yield from lines
        yield from (f"  {note}" for note in self.notes)

    def __repr__(self) -> str:
        return f"LeakFit({counted(self.settings.size, 'setting')}, {counted(self.neurons.size, 'neuron')})"


def fit_leak(table: DecayTable) -> LeakFit:
    """Fit an exponential decay to each neuron at each setting: ``V(t) = V_0 exp(-t / tau) + offset + noise``.

    The model is linear in the amplitude, so the amplitude is eliminated (variable projection: G. H. Golub and V.
    Pereyra, SIAM J. Numer. Anal. 10, 413, 1973). The only remaining parameter of each decay is tau. A grid search
    yields the start values of tau, and Gauss-Newton steps then refine them for all decays at once. All decays share the
    read noise. They also share an offset, which is set to zero if it is below four standard errors.

    If the bench clips readings at zero, readings with a fitted value within four standard deviations of zero are
    excluded, because their mean differs from the membrane potential. If the read-out saturates, readings with a fitted
    value within four standard deviations of the saturation value are also excluded. Single readings far from their
    neighbours are excluded too. A decay that scatters far more than the others counts as not measured. The notes report
    these readings and decays.

    If neighbouring residuals correlate, the fit assumes that the membrane potential itself is noisy, and that this
    noise decays with the same tau. The variances of the membrane noise and of the read noise are then estimated from
    the squares of the residuals and the products of neighbouring residuals. The standard errors of tau include the
    membrane noise and the read noise. Readings with a fitted value within four standard deviations of zero are then
    also excluded.

    Parameters
    ----------
    table : DecayTable
        The readings, at least 4 for each pair of setting and neuron. During a decay, the neuron must have neither input
        nor spikes.

    Returns
    -------
    LeakFit
        The time constants with their errors.

    Raises
    ------
    TypeError
        If ``table`` is not a :class:`DecayTable`.
    ValueError
        If a decay has too few readings, if no time constant can be fitted to any decay, or if the decays are straight
        lines.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u, numpy as np
    >>> t, neuron = np.tile(np.arange(61.0), 2), np.repeat([0, 1], 61)
    >>> V = 60 * np.exp(-t / np.where(neuron == 0, 18.0, 22.0)) + np.random.default_rng(0).normal(0, 0.4, 122)
    >>> fit = bh.silicon.fit_leak(bh.silicon.DecayTable(0 * neuron, neuron, t * u.ms, V * u.mV))
    >>> np.round(fit.tau.mantissa, 0).tolist()
    [[18.0, 22.0]]
    """
    call = "fit_leak"
    _arguments.instance(table, DecayTable, call=call, name="table", source="read_table")
    settings, s = np.unique(table.setting, return_inverse=True)
    neurons, n = np.unique(table.neuron, return_inverse=True)
    decays, d = np.unique(s * neurons.size + n, return_inverse=True)
    counts = np.bincount(d)
    if counts.min() < LEAST_POINTS:
        short = int(decays[int(np.argmin(counts))])
        raise ValueError(
            f"{call}: each decay of {named(table)} must have at least {LEAST_POINTS} readings; setting "
            f"{settings[short // neurons.size]}, neuron {neurons[short % neurons.size]} has {counts.min()}. Read the "
            "membrane at more times."
        )
    # One row per decay, padded to the same length. `used` is 0 for the padding.
    trials = np.zeros_like(d) if table.trial is None else table.trial
    order = np.lexsort((np.asarray(table.t.mantissa), trials, d))
    column = np.arange(d.size) - np.repeat(np.cumsum(counts) - counts, counts)
    t, V, used, trial = (np.zeros((decays.size, counts.max())) for _ in range(4))
    t[d[order], column] = np.asarray(table.t.mantissa)[order]
    V[d[order], column] = np.asarray(table.V.mantissa)[order]
    trial[d[order], column] = trials[order]
    used[d[order], column] = 1.0
    # Count time from the first reading of each decay, because late times would overflow. This changes only the
    # amplitude.
    t = np.where(used > 0, t - np.min(np.where(used > 0, t, np.inf), axis=1, keepdims=True), 0.0)
    used_all = used.copy()
    faulty = outlier_readings(d, trials, np.asarray(table.t.mantissa), np.asarray(table.V.mantissa))
    used[d[order], column] = ~faulty[order]
    # If too few readings of a decay remain, use all readings of this decay, including the outliers.
    used[used.sum(1) < LEAST_POINTS] = used_all[used.sum(1) < LEAST_POINTS]
    found, notes = fit_decays(t, V, used, trial, call=call, what=named(table))
    if faulty.any():
        notes.append(note_of_faulty(table, faulty))

    def spread_out(values: np.ndarray) -> np.ndarray:
        dense = np.full(settings.size * neurons.size, np.nan)
        dense[decays] = values
        return dense.reshape(settings.size, neurons.size)

    lost = np.flatnonzero(~found.known)
    if lost.size:
        who = ", ".join(
            f"setting {settings[decays[i] // neurons.size]} neuron {neurons[decays[i] % neurons.size]}"
            for i in lost[:5]
        )
        shows = "decay shows" if lost.size == 1 else "decays show"
        notes.append(f"{lost.size} {shows} no time constant; not measured: {who}")
    tau, error = spread_out(found.tau), spread_out(found.error)
    residuals = np.empty(d.size)
    residuals[order] = np.where(found.used > 0, found.residuals, np.nan)[d[order], column]
    spread = np.array([corrected_std(np.log(row), e / row) for row, e in zip(tau, error, strict=True)])
    known = np.isfinite(tau).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known > 0, np.exp(np.nansum(np.log(tau), 1) / known), np.nan)
        relative = np.sqrt(np.nan_to_num(spread) ** 2 + np.nansum((error / tau) ** 2, 1) / known) / np.sqrt(known)
        mean_error = mean * relative
    return LeakFit(
        table=table,
        settings=settings,
        neurons=neurons,
        tau=u.Quantity(tau, unit=u.ms),
        error=u.Quantity(error, unit=u.ms),
        start=u.Quantity(spread_out(found.start), unit=u.mV),
        offset=u.Quantity(found.offset, unit=u.mV),
        offset_error=u.Quantity(found.offset_error, unit=u.mV),
        read_noise=u.Quantity(found.noise, unit=u.mV),
        mean=u.Quantity(mean, unit=u.ms),
        mean_error=u.Quantity(mean_error, unit=u.ms),
        spread=spread,
        residuals=u.Quantity(residuals, unit=u.mV),
        notes=tuple(notes),
    )
