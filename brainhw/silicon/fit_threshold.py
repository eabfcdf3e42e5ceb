"""Fit of threshold charge, time constant and trial noise of neurons to f-I curves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._drawn import Drawn
from brainhw._shown import Shown
from brainhw.chip import ChipSpec, get_chip
from brainhw.kernel.quantize import lowest_code, stored_grid
from brainhw.silicon._results import corrected_std, counted, percent, with_error
from brainhw.silicon.fit_charge import ChargeFit
from brainhw.silicon.fit_leak import LeakFit
from brainhw.silicon.rate_fit import RateData, RateSolution
from brainhw.silicon.rate_screen import MAX_DEVIATION, MAX_NOISE, MAX_THRESHOLD_ERROR, fit_screened
from brainhw.silicon.tables import RateTable

__all__ = ["ThresholdFit", "fit_threshold"]

# A relative standard deviation of the synaptic gain above this value is not plausible, so the table is rejected.
WIDEST_GAIN = 0.2
# With fewer points per curve than this number, differences in the gains of synapses cannot be distinguished from noise.
FEW_POINTS = 10

LEAST_POINTS = 3


@final
@dataclass(frozen=True, eq=False, repr=False)
class ThresholdFit(Shown, Drawn):
    """Fitted thresholds. ``value +- 1.96 error`` is a 95 % interval. NaN marks values that the data do not determine.

    Attributes
    ----------
    table : RateTable
        The measurement.
    neurons : array of int, shape [N]
        Physical indices of the neurons in the table.
    threshold_charge, threshold_charge_error : Quantity, shape [N]
        ``V_th * C``, which is the charge that raises the membrane potential from zero to the threshold in one step, fC.
        The error includes the error in the charge curve, which all neurons share (``common_error``).
    V_th, V_th_error : Quantity, shape [N]
        The threshold charge divided by the capacitance ``C``, mV.
    mean, mean_error : Quantity, scalar
        Mean threshold of the measured neurons and its standard error, mV. The mean is an estimate for all neurons of
        the chip, so its error includes the variation over the neurons.
    spread : float
        Relative standard deviation of the thresholds over the neurons, corrected for estimation errors.
    common_error : float
        Relative error that all neurons share. It is the error in the charge per spike or, if ``noise_std`` was passed
        in mV, the error in the fitted noise.
    C : Quantity, scalar
        Capacitance, fF. If ``noise_std`` was passed in mV, it is computed from the trial noise. Otherwise, it is taken
        from the spec.
    C_measured : bool
        Whether ``C`` is computed from the trial noise.
    settings : array of int, shape [S]
        Leak settings of the table. If the table has no column of settings, this array contains one value. It is the
        setting that was passed, or the setting whose decays agree with the curves. It is -1 if no decays agree with the
        curves. It is 0 if neither a setting nor decays were passed.
    tau, tau_error : Quantity, shape [S, N]
        Time constants, ms. They are fitted to the f-I curves and, if ``tau_combined`` is true, also to the decays.
    tau_combined : bool
        Whether ``tau`` is fitted to the f-I curves and the decays together.
    noise_charge, noise_charge_error : Quantity, scalar
        Trial noise per step as a charge, fC.
    noise_std, noise_std_error : Quantity, scalar
        Trial noise divided by ``C``, mV.
    drive_gain_std : float
        Relative standard deviation of the gain of the synapses that drive a neuron. 0 if the curves show no variation.
    rate, residuals : Quantity, shape [R]
        Fitted rate of each row of the table, and measured minus fitted rate, Hz.
    standardised : array, shape [R]
        Residuals divided by the trial-to-trial standard deviation of the rate.
    notes : tuple of str
        Limits of the data, and assumptions.
    """

    table: RateTable
    neurons: np.ndarray
    threshold_charge: u.Quantity
    threshold_charge_error: u.Quantity
    V_th: u.Quantity
    V_th_error: u.Quantity
    mean: u.Quantity
    mean_error: u.Quantity
    spread: float
    common_error: float
    C: u.Quantity
    C_measured: bool
    settings: np.ndarray
    tau: u.Quantity
    tau_error: u.Quantity
    tau_combined: bool
    noise_charge: u.Quantity
    noise_charge_error: u.Quantity
    noise_std: u.Quantity
    noise_std_error: u.Quantity
    drive_gain_std: float
    rate: u.Quantity
    residuals: u.Quantity
    standardised: np.ndarray
    notes: tuple[str, ...]

    def _parts(self) -> Iterator[str]:
        V, error = np.asarray(self.V_th.mantissa), np.asarray(self.V_th_error.mantissa)
        mean, mean_error = float(self.mean.mantissa), float(self.mean_error.mantissa)
        lines = [
            f"threshold: {np.isfinite(V).sum()} of {counted(V.size, 'neuron')}",
            f"  V_th {with_error(mean, mean_error, 'mV')} at C = {float(self.C.mantissa):g} fF, standard deviation "
            f"{percent(self.spread, '.2g')}, error of one neuron {100 * float(np.nanmedian(error / V)):.2g} %",
            f"  of which all neurons share {100 * self.common_error:.2g} %, which is the error in "
            f"{'the fitted noise' if self.C_measured else 'the charge per spike'}",
            f"  trial noise per step {_text(self.noise_std, self.noise_std_error, 'mV')} = "
            f"{_text(self.noise_charge, self.noise_charge_error, 'fC')}",
        ]
        for place, setting in enumerate(self.settings):
            tau, sd = np.asarray(self.tau.mantissa)[place], np.asarray(self.tau_error.mantissa)[place]
            if np.isfinite(tau).any():
                which = f"setting {setting}" if setting >= 0 else "unknown setting"
                lines.append(
                    f"  {which}: tau {np.exp(np.nanmean(np.log(tau))):.4g} ms (geometric mean), error of one "
                    f"neuron {100 * float(np.nanmedian(sd / tau)):.2g} %"
                )
        yield from lines
        yield from (f"  {note}" for note in self.notes)

    def __repr__(self) -> str:
        return f"ThresholdFit({counted(self.neurons.size, 'neuron')})"


def _text(value: u.Quantity, error: u.Quantity, unit: str) -> str:
    return with_error(float(value.mantissa), float(error.mantissa), unit)


def fit_threshold(
    table: RateTable,
    chip: ChipSpec | str,
    *,
    charge: ChargeFit | None = None,
    leak: LeakFit | None = None,
    setting: int | None = None,
    noise_std: u.Quantity | None = None,
    dt: u.Quantity = 1.0 * u.ms,
    progress: bool = True,
) -> ThresholdFit:
    """Fit threshold charge, time constant and trial noise to f-I curves.

    The model is the update equation of the chip with trial noise. In each step, the membrane potential is ``V' =
    max(beta V + n q / C + noise, 0)``. If ``V' >= V_th``, the neuron spikes and is reset. Noise makes the membrane
    potential cross the threshold earlier, so a fit without noise finds thresholds that are about 2 % too low. This fit
    computes the expected spike count from the probability density of the membrane potential. Each neuron has its own
    ``V_th C`` and tau, and all neurons share the noise. The curves are fitted by ``scipy.optimize.least_squares``. Each
    count is weighted by the inverse of its variance in the model.

    Parameters
    ----------
    table : RateTable
        The f-I curves, with at least 3 points per neuron.
    chip : ChipSpec or str
        The chip. The fit uses its reset, its capacitance, its codes and, if ``charge`` is not passed, its charge curve.
    charge : ChargeFit, optional
        The measured charge curve. Default: the charge curve of the chip, without an error.
    leak : LeakFit, optional
        The measured time constants, weighted by their errors. Default: tau is fitted to the f-I curves only.
    setting : int, optional
        The leak setting of the f-I curves. Pass it only if the table has no column of settings. Default: the setting
        whose decays agree with the f-I curves.
    noise_std : Quantity, optional
        Trial noise of the membrane potential per step in mV, if it was measured (`fit_noise`). It determines the
        capacitance, which the f-I curves alone do not determine. Default: the capacitance is taken from the spec.
    dt : Quantity, optional
        Time step of the chip. Default 1 ms.
    progress : bool, optional
        Show a progress bar for fits that take some seconds. Default True.

    Returns
    -------
    ThresholdFit
        The thresholds with their errors.

    Raises
    ------
    TypeError
        If an argument has the wrong type or unit.
    ValueError
        If a code does not exist on the chip, if the charge per spike is not positive, if a rate exceeds one spike per
        time step, if there are too few points, or if no curve shows a threshold.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> bench = bh.silicon.synthetic_bench("H1v1", seed=0, neurons=range(2))
    >>> fit = bh.silicon.fit_threshold(bench.rates, bench.truth.spec, progress=False)
    >>> bool(abs(fit.V_th / bench.truth.V_th[:2] - 1).max() < 0.03)
    True
    """
    call = "fit_threshold"
    _arguments.instance(table, RateTable, call=call, name="table", source="read_table")
    chip = get_chip(chip, call=call)
    if charge is not None:
        _arguments.instance(charge, ChargeFit, call=call, name="charge", source="fit_charge")
    if leak is not None:
        _arguments.instance(leak, LeakFit, call=call, name="leak", source="fit_leak")
    _arguments.flag(progress, call=call, name="progress")
    step = float(_arguments.quantity(dt, u.ms, call=call, name="dt", shapes=[()], positive=True).mantissa)
    if noise_std is not None:
        noise_std = _arguments.quantity(noise_std, u.mV, call=call, name="noise_std", shapes=[()], positive=True)
    if setting is not None:
        setting = _arguments.whole_number(setting, call=call, name="setting")
        if table.setting is not None:
            raise ValueError(f"{call}: setting was passed, but the table has a column of settings. Omit one of them.")
        if leak is not None and setting not in leak.settings:
            raise ValueError(
                f"{call}: setting must be a leak setting of the decays, {leak.settings.tolist()}; got {setting}."
            )
    neurons, index = np.unique(table.neuron, return_inverse=True)
    data, common = _data(table, chip, charge, neurons, index, step, call)
    settings = np.array([0 if setting is None else setting]) if table.setting is None else np.unique(table.setting)
    found, settings, combined, notes = fit_screened(
        data, leak, settings, neurons, search=table.setting is None and setting is None, progress=progress
    )
    notes += found.notes
    if common == 0 and charge is None:
        notes.append("the charge per spike is taken from the spec, without an error")
    gain_std = 0.0 if charge is None or not np.isfinite(charge.gain_std) else charge.gain_std
    C = float(chip.C.mantissa)
    return _result(table, data, found, neurons, settings, C, common, gain_std, noise_std, combined, notes)


def _result(
    table: RateTable,
    data: RateData,
    found: RateSolution,
    neurons: np.ndarray,
    settings: np.ndarray,
    C: float,
    common: float,
    gain_std: float,
    noise_std: u.Quantity | None,
    combined: bool,
    notes: list[str],
) -> ThresholdFit:
    """Check the solution of the fit, and convert it to physical units. Values that the data do not determine are NaN.

    ``common`` is the relative error in the charge per spike, which all neurons share.
    """
    known = np.isfinite(found.error) & (found.error < MAX_THRESHOLD_ERROR)
    determined = np.isin(data.neuron, np.flatnonzero(found.determined))
    off = (
        float(np.mean(np.abs(found.mean - data.count)[determined] / data.n_steps[determined]))
        if determined.any()
        else 0.0
    )
    if off > MAX_DEVIATION:
        raise ValueError(
            f"fit_threshold: the f-I curves do not follow the model of the chip; the rates deviate by {100 * off:.1f} "
            f"% of a spike per step on average (at most {100 * MAX_DEVIATION:g} % is accepted). Check dt, window, "
            "and the family."
        )
    if found.gain_std > WIDEST_GAIN:
        raise ValueError(
            "fit_threshold: the f-I curves do not follow the model of the chip; the gains of the synapses that drive a "
            f"neuron would need a relative standard deviation of {100 * found.gain_std:.0f} % (at most "
            f"{100 * WIDEST_GAIN:g} % is accepted). "
            "Check inputs (the number of active synapses), dt, window, and whether the read-out loses spikes or has "
            "a dead time."
        )
    if not known.any():
        raise ValueError(
            f"fit_threshold: none of the {neurons.size} f-I curves shows a threshold; every neuron is silent or fires "
            "in every step. Measure with input counts that yield intermediate rates."
        )
    if not known.all():
        # Another note names the excluded neurons.
        lost = neurons[~known & ~np.isnan(found.theta)]
        if lost.size:
            notes.append(f"no threshold was found for {counted(lost.size, 'neuron')}: {', '.join(map(str, lost[:8]))}")
    if found.noise > MAX_NOISE * np.median(found.theta[known]):
        notes.append(
            f"the trial noise is {100 * found.noise / np.median(found.theta[known]):.0f} % of the threshold, but "
            f"usually at most {100 * MAX_NOISE:g} %. A wrong leak setting, dt or window looks like noise and leads to "
            "wrong thresholds"
        )
    elif found.noise_error > 1:
        notes.append("the curves do not determine the trial noise, because its error exceeds its value")
    own = np.where(known, found.error, np.nan)
    if found.gain_std == 0 and gain_std > 0 and table.inputs.size < FEW_POINTS * neurons.size:
        # The standard deviation of the mean gain of n synapses is the standard deviation of their gain divided by the
        # square root of n.
        own = np.hypot(own, gain_std / np.sqrt(float(np.mean(table.inputs))))
        notes.append(
            f"with fewer than {FEW_POINTS} points per neuron, the curves cannot show whether the driving synapses "
            f"differ in gain, so the errors include the standard deviation of the gain of {100 * gain_std:.1f} % from "
            "the charge table"
        )
    theta = np.where(known, found.theta, np.nan)
    spread = corrected_std(theta, own * theta) / np.nanmean(theta)
    n = int(known.sum())
    scatter = np.hypot(0.0 if np.isnan(spread) else spread, np.nanmean(own)) / n**0.5
    # All neurons share the error in the charge per spike, or the error in the noise if the noise sets the scale.
    shared = common
    if noise_std is None:
        notes.append(
            "only V_th C / q and noise C / q are measured. q is taken from the charge curve, and C from the spec"
        )
    else:
        C, shared = found.noise / float(noise_std.mantissa) * 1000, found.noise_error
        notes.append(
            f"C = {with_error(C, C * np.hypot(shared, common), 'fF')} follows from the trial noise that was passed in "
            "mV"
        )
    # If the noise was passed in mV, its error is unknown and counts as zero.
    noise_error = found.noise * np.hypot(found.noise_error, common) if noise_std is None else 0.0
    tau_known = np.isfinite(found.tau_error) & (found.tau_error < 0.5) & known
    fitted = found.mean / data.n_steps / data.dt * 1000.0
    return ThresholdFit(
        table=table,
        neurons=neurons,
        threshold_charge=u.Quantity(theta, unit=u.fcoulomb),
        threshold_charge_error=u.Quantity(np.hypot(own, common) * theta, unit=u.fcoulomb),
        V_th=u.Quantity(theta / C * 1000, unit=u.mV),
        V_th_error=u.Quantity(np.hypot(own, shared) * theta / C * 1000, unit=u.mV),
        mean=u.Quantity(float(np.nanmean(theta)) / C * 1000, unit=u.mV),
        mean_error=u.Quantity(float(np.nanmean(theta) * np.hypot(scatter, shared)) / C * 1000, unit=u.mV),
        spread=float(spread),
        common_error=shared,
        C=u.Quantity(C, unit=u.ffarad),
        C_measured=noise_std is not None,
        settings=settings,
        tau=u.Quantity(np.where(tau_known, found.tau, np.nan), unit=u.ms),
        tau_error=u.Quantity(np.where(tau_known, found.tau_error * found.tau, np.nan), unit=u.ms),
        tau_combined=combined,
        noise_charge=u.Quantity(found.noise, unit=u.fcoulomb),
        noise_charge_error=u.Quantity(found.noise * np.hypot(found.noise_error, common), unit=u.fcoulomb),
        noise_std=u.Quantity(found.noise / C * 1000, unit=u.mV),
        noise_std_error=u.Quantity(noise_error / C * 1000, unit=u.mV),
        drive_gain_std=found.gain_std,
        rate=u.Quantity(fitted, unit=u.Hz),
        residuals=u.Quantity(np.asarray(table.rate.mantissa) - fitted, unit=u.Hz),
        standardised=(data.count - found.mean) / np.sqrt(found.variance),
        notes=tuple(notes),
    )


def _data(
    table: RateTable,
    chip: ChipSpec,
    charge: ChargeFit | None,
    neurons: np.ndarray,
    index: np.ndarray,
    dt: float,
    call: str,
) -> tuple[RateData, float]:
    """Return the spike counts and inputs of the f-I curves, and the relative error in the charge per spike."""
    grid = stored_grid(chip, chip.weight_bits)
    code = np.full(index.size, grid.largest_code) if table.code is None else table.code
    off = (code > grid.largest_code) | (code < lowest_code(grid))
    if off.any():
        raise ValueError(
            f"{call}: the codes of table must be from {lowest_code(grid)} to {grid.largest_code}; got "
            f"{code[int(np.argmax(off))]} (in {int(off.sum())} of {off.size} rows). Check the chip and its weight_bits."
        )
    curve = chip.charge if charge is None else charge.curve
    codes, place = np.unique(code, return_inverse=True)
    if not (table.inputs > 0).any():
        raise ValueError(
            f"{call}: the inputs of table must contain at least one positive value; got only 0. Measure with active "
            "synapses."
        )
    each = np.asarray(curve(np.asarray(grid.values(codes.astype(np.float32), np.float32))).mantissa, float)
    if not each.max() > 0:
        raise ValueError(
            f"{call}: at least one code of table must have a positive charge; got the codes {codes.tolist()[:5]}, with "
            f"charges of at most {each.max():.4g} fC. Measure with larger codes."
        )
    common = 0.0
    if charge is not None:
        strongest = codes[int(np.argmax(each))]
        near = int(np.argmin(np.abs(charge.codes - strongest)))
        common = float(np.asarray(charge.error.mantissa)[near] / abs(np.asarray(charge.charge.mantissa)[near]))
    points = np.bincount(index)
    if points.min() < LEAST_POINTS:
        raise ValueError(
            f"{call}: each neuron must have at least {LEAST_POINTS} points; neuron {neurons[int(np.argmin(points))]} "
            f"has {points.min()}. Repeat the measurement with additional input counts."
        )
    window = np.asarray(u.get_mantissa(table.window), float)
    n_steps = np.rint(window / dt)
    count = np.asarray(table.rate.mantissa) * window / 1000.0
    over = count > n_steps + 0.5
    if over.any() or n_steps.min() < 1:
        at = int(np.argmax(over))
        raise ValueError(
            f"{call}: the rate of table must be at most one spike per step, {1000 / dt:g} Hz; got "
            f"{float(table.rate.mantissa[at]):g} Hz for neuron {table.neuron[at]}. Check dt and the units of the rate "
            "and the window."
        )
    settings = np.zeros(index.size, int) if table.setting is None else np.unique(table.setting, return_inverse=True)[1]
    return RateData(
        index, settings, table.inputs.astype(float), each[place], n_steps, count, dt, chip.reset == "subtract"
    ), common
