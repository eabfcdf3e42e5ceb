"""Calibration: fit tables that were measured on a bench, and return a chip with the measured values."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._drawn import Drawn
from brainhw._shown import Shown
from brainhw.chip import ChipSpec, TauProfiles, get_chip
from brainhw.chip.spec import WIDEST_THRESHOLD, Provenance
from brainhw.silicon._results import corrected_std
from brainhw.silicon.fit_charge import ChargeFit, fit_charge
from brainhw.silicon.fit_leak import LeakFit, fit_leak
from brainhw.silicon.fit_threshold import ThresholdFit, fit_threshold
from brainhw.silicon.leak_settings import match_settings, scaled_profiles
from brainhw.silicon.measured import MeasuredChip
from brainhw.silicon.plausible import note_charge, note_leak, note_taus, note_threshold
from brainhw.silicon.table_files import read_table
from brainhw.silicon.tables import ChargeTable, DecayTable, RateTable

__all__ = ["Calibration", "calibrate"]


@final
@dataclass(frozen=True, eq=False, repr=False)
class Calibration(Shown, Drawn):
    """Result of :func:`calibrate`: a measured chip and its fits. ``print`` shows a report.

    Attributes
    ----------
    measured : MeasuredChip
        The measured chip. Its spec has the mean values, and its arrays have the values of each physical neuron. NaN
        marks values that were not measured.
    chip : ChipSpec
        The spec before the calibration.
    charge, leak, threshold : ChargeFit, LeakFit, ThresholdFit or None
        The fits of the charge table, the decays and the f-I curves, in this order. ``None`` for each table that was
        not passed.
    settings : mapping of int to int
        For each leak setting of the tables, the index in the chip's ``tau_profiles``.
    notes : tuple of str
        The assumptions of the calibration, and remarks on the data.
    """

    measured: MeasuredChip
    chip: ChipSpec
    charge: ChargeFit | None
    leak: LeakFit | None
    threshold: ThresholdFit | None
    settings: Mapping[int, int]
    notes: tuple[str, ...]

    def _parts(self) -> Iterator[str]:
        spec = self.measured.spec
        yield f"calibration of {spec.name} (family {spec.family})"
        yield from (str(fit) for fit in (self.charge, self.leak, self.threshold) if fit is not None)
        changed = [name for name, source in spec.provenance.items() if source == "measured"]
        yield f"measured: {', '.join(changed) or 'nothing'}; all other fields are those of {self.chip.name}"
        yield from (f"  {note}" for note in self.notes)

    def __repr__(self) -> str:
        return f"Calibration({self.measured!r})"


def calibrate(
    *tables: ChargeTable | DecayTable | RateTable | str | os.PathLike[str],
    chip: ChipSpec | str,
    settings: Mapping[int, int] | None = None,
    rates_setting: int | None = None,
    noise_std: u.Quantity | None = None,
    dt: u.Quantity = 1.0 * u.ms,
    name: str | None = None,
    progress: bool = True,
) -> Calibration:
    """Fit bench tables and return the measured chip.

    One table is enough. Values that no table determines are copied from ``chip``. Values that the tables determine are
    stored in the spec with provenance ``"measured"``. The charge table determines the charge curve. The decays
    determine, for each profile, the geometric mean of the time constants and the standard deviation of the leak. If no
    decays are passed, the f-I curves determine these values. The f-I curves also determine the trial noise, and the
    mean and the standard deviation of ``V_th``. The standard deviations are corrected for estimation errors. If a
    profile was not measured, its time constant is scaled by a factor. This factor is interpolated between the measured
    profiles.

    f-I curves determine only the ratio ``V_th C / q``. The charge ``q`` is taken from the charge table, or from
    ``chip`` if there is none. The capacitance ``C`` is taken from ``chip``. A network behaves the same if all three
    values are scaled such that the ratio stays the same. If you pass ``noise_std``, the fit also determines
    ``C``.

    Parameters
    ----------
    *tables : ChargeTable, DecayTable, RateTable, or paths of CSV files
        At most one table of each kind, in any order.
    chip : ChipSpec or str
        The chip before the calibration: a family such as ``"h1v1"``, or a spec.
    settings : mapping of int to int, optional
        A mapping from each leak setting in the tables to an index in the chip's ``tau_profiles``. By default, each
        setting is used as the index itself, if every time constant is then within a factor of 2 of its profile.
        Otherwise, settings are assigned to profiles in the order of their time constants. Of all such assignments, the
        one with the smallest deviations of the time constants from the profiles is used. A deviation that all time
        constants share counts less than deviations of single time constants. The report shows the assignment.
    rates_setting : int, optional
        Leak setting of the f-I curves, numbered as in the decays. Default: the setting whose time constants agree with
        the f-I curves.
    noise_std : Quantity, optional
        Trial noise per step in mV, if it is known (see :func:`fit_threshold`).
    dt : Quantity, optional
        Time step of the bench. Default 1 ms.
    name : str, optional
        Name of the measured chip. Default: the name of ``chip``, followed by ``"measured"``.
    progress : bool, optional
        Show a progress bar for fits that take some seconds. Default True.

    Returns
    -------
    Calibration
        The measured chip and the fits.

    Raises
    ------
    TypeError
        If a table or another argument has the wrong type or unit.
    ValueError
        If no table is passed, if two tables are of the same kind, if a table refers to neurons or settings that the
        chip does not have, if a measured value is so far from the value of ``chip`` that its unit must be wrong, or if
        a fit rejects its table.

    Examples
    --------
    >>> import brainhw as bh
    >>> bench = bh.silicon.synthetic_bench("H1v1", seed=0, neurons=range(2))
    >>> done = bh.silicon.calibrate(bench.charge, bench.decays, chip="h1v1")
    >>> done.settings, done.measured
    ({0: 3, 1: 4, 2: 5}, MeasuredChip('H1v1 measured', family='H1v1', 6 tau, 0 V_th measured))
    """
    call = "calibrate"
    chip = get_chip(chip, call=call)
    _arguments.flag(progress, call=call, name="progress")
    dt = _arguments.quantity(dt, u.ms, call=call, name="dt", shapes=[()], positive=True)
    if noise_std is not None:
        noise_std = _arguments.quantity(noise_std, u.mV, call=call, name="noise_std", shapes=[()], positive=True)
    if rates_setting is not None:
        rates_setting = _arguments.whole_number(rates_setting, call=call, name="rates_setting")
    if settings is not None and not isinstance(settings, Mapping):
        raise TypeError(
            f"{call}: settings must map leak settings of the tables to indices in tau_profiles; got "
            f"{_arguments.describe(settings)}."
        )
    if name is not None and (
        not _arguments.text(name, call=call, name="name", some=True).isprintable() or not name.strip()
    ):
        raise ValueError(f"{call}: name must be one line of printable text; got {_arguments.describe(name)}.")
    name = f"{chip.name} measured" if name is None else str(name)
    held = _by_kind(tables, chip, call)
    charge_table, decays, rates = held.get(ChargeTable), held.get(DecayTable), held.get(RateTable)
    if rates is None and (rates_setting is not None or noise_std is not None):
        given = "rates_setting" if rates_setting is not None else "noise_std"
        raise ValueError(
            f"{call}: {given} requires f-I curves, but no RateTable was passed. Pass one, or omit {given}."
        )
    draft = _Draft(chip, name)
    charge = None if charge_table is None else fit_charge(charge_table, chip)
    if charge is not None:
        draft.notes += note_charge(charge, chip, call=call)
        draft.put("charge", charge.curve, f"fitted to {charge.codes.size} codes of {charge.synapses.size} synapses")
    leak = None if decays is None else fit_leak(decays)
    if leak is not None:
        draft.notes += note_leak(leak, chip, call=call)
    threshold = None
    if rates is not None:
        threshold = fit_threshold(
            rates, chip, charge=charge, leak=leak, setting=rates_setting, noise_std=noise_std, dt=dt, progress=progress
        )
    matched = _put_leak(draft, leak, threshold, settings, call)
    if threshold is not None:
        draft.notes += note_threshold(threshold, chip, call=call)
        _put_threshold(draft, threshold)
    measured = MeasuredChip(
        draft.spec(),
        u.Quantity(draft.tau, unit=u.ms),
        u.Quantity(draft.V_th, unit=u.mV),
        u.Quantity(draft.tau_error, unit=u.ms),
        u.Quantity(draft.V_th_error, unit=u.mV),
        "\n".join(draft.notes),
    )
    return Calibration(measured, chip, charge, leak, threshold, matched, tuple(draft.notes))


def _by_kind(tables: tuple[Any, ...], chip: ChipSpec, call: str) -> dict[type, Any]:
    if not tables:
        raise ValueError(f"{call}: tables must contain at least one ChargeTable, DecayTable or RateTable; got none.")
    held: dict[type, Any] = {}
    for table in tables:
        is_path = isinstance(table, (str, os.PathLike)) and table != ""
        given: Any = read_table(table, call=call) if is_path else table
        kind = type(given)
        if kind not in (ChargeTable, DecayTable, RateTable):
            raise TypeError(
                f"{call}: each table must be a ChargeTable, a DecayTable, a RateTable or the path of a CSV file; "
                f"got {_arguments.describe(table)}."
            )
        if kind in held:
            raise ValueError(
                f"{call}: tables must contain at most one {kind.__name__}; got two. Join them, or omit one."
            )
        if kind is not ChargeTable and given.neuron.max() >= chip.n_neurons:
            raise ValueError(
                f"{call}: the neuron indices of the {kind.__name__} must be between 0 and {chip.n_neurons - 1}, as on "
                f"{chip.name}; got {given.neuron.max()}. Check the family."
            )
        held[kind] = given
    return held


@dataclass
class _Draft:
    """Changes to ``chip`` that a calibration has collected.

    The changes are fields of the spec with a note for each, and the values of each physical neuron.
    """

    chip: ChipSpec
    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    field_notes: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = self.chip.n_neurons
        shape = (len(self.chip.tau_profiles.values.mantissa), n)
        self.tau, self.tau_error = np.full(shape, np.nan), np.full(shape, np.nan)
        self.V_th, self.V_th_error = np.full(n, np.nan), np.full(n, np.nan)

    def put(self, name: str, value: Any, note: str) -> None:
        self.changes[name], self.field_notes[name] = value, note

    def spec(self) -> ChipSpec:
        sources: dict[str, Provenance] = dict.fromkeys(self.changes, "measured")
        return self.chip.replace(provenance=sources, name=self.name, notes=self.field_notes, **self.changes)


def _put_leak(
    draft: _Draft, leak: LeakFit | None, threshold: ThresholdFit | None, given: Mapping[int, int] | None, call: str
) -> dict[int, int]:
    """Store the fitted time constants in ``draft``. Return the index in ``tau_profiles`` for each leak setting."""
    # For each leak setting: the neurons, their tau, and the errors of these tau.
    held: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    if leak is not None:
        for place, setting in enumerate(leak.settings.tolist()):
            held[setting] = leak.neurons, np.asarray(leak.tau.mantissa)[place], np.asarray(leak.error.mantissa)[place]
    if threshold is not None:
        for place, setting in enumerate(threshold.settings.tolist()):
            tau, error = np.asarray(threshold.tau.mantissa)[place], np.asarray(threshold.tau_error.mantissa)[place]
            if leak is None:
                held[setting] = threshold.neurons, tau, error
            elif setting in held and threshold.tau_combined:
                # A joint fit of decays and f-I curves determines tau better than a fit of the decays alone.
                neurons, old, old_error = held[setting]
                both = {int(n): (t, e) for n, t, e in zip(threshold.neurons, tau, error, strict=True) if np.isfinite(t)}
                new = [both.get(int(n), (t, e)) for n, t, e in zip(neurons, old, old_error, strict=True)]
                held[setting] = neurons, np.array([t for t, _ in new]), np.array([e for _, e in new])
            elif setting not in held and np.isfinite(tau).any():
                # There are decays, but none at this setting. Then tau is too uncertain to identify the profile.
                which = f"of setting {setting}, without decays," if setting >= 0 else "of an unknown setting"
                draft.notes.append(f"tau {which} is fitted to the f-I curves only and is not stored in the chip")
    held = {setting: one for setting, one in held.items() if np.isfinite(one[1]).any()}
    if not held:
        if given:
            raise ValueError(f"{call}: settings was passed, but no table determines a time constant. Omit settings.")
        return {}
    presets = np.asarray(draft.chip.tau_profiles.values.mantissa, float)
    means = {setting: float(np.exp(np.nanmean(np.log(tau)))) for setting, (_, tau, _) in held.items()}
    draft.notes += note_taus(means, presets, call=call)
    matched, how = match_settings(means, presets, given, call)
    spreads = {}
    for setting, (neurons, tau, error) in held.items():
        row = matched[setting]
        draft.tau[row, neurons], draft.tau_error[row, neurons] = tau, error
        spreads[row] = corrected_std(np.log(tau), error / tau)
    profiles, note = scaled_profiles({matched[s]: mean for s, mean in means.items()}, presets, call)
    draft.notes.append(how)
    if note:
        draft.notes.append(note)
    draft.put("tau_profiles", TauProfiles(u.Quantity(profiles, unit=u.ms)), note or "geometric mean of the neurons")
    known = [spread for spread in spreads.values() if np.isfinite(spread)]
    if known:
        rest = float(np.mean(known))
        values = [spreads.get(row, np.nan) for row in range(presets.size)]
        values = [rest if np.isnan(value) else value for value in values]
        draft.put("leak_mismatch_std", tuple(values), "std of log tau; settings without data have the mean")
    return matched


def _put_threshold(draft: _Draft, fit: ThresholdFit) -> None:
    draft.V_th[fit.neurons] = np.asarray(fit.V_th.mantissa)
    draft.V_th_error[fit.neurons] = np.asarray(fit.V_th_error.mantissa)
    basis = "C follows from the trial noise" if fit.C_measured else "with the assumed C: only V_th C / q is measured"
    draft.put("V_th", fit.mean, f"mean of {int(np.isfinite(fit.V_th.mantissa).sum())} neurons, {basis}")
    draft.put("noise_std", fit.noise_std, f"from f-I curves, {basis}")
    if fit.C_measured:
        draft.put("C", fit.C, "from f-I curves and the trial noise in mV")
    if np.isfinite(fit.spread):
        spread = min(fit.spread, WIDEST_THRESHOLD)
        draft.put("threshold_mismatch_std", spread, "std of the fitted thresholds, without estimation error")
        if fit.spread > WIDEST_THRESHOLD:
            draft.notes.append(
                f"the thresholds have a relative standard deviation of {100 * fit.spread:.0f} %, but the spec stores "
                f"{100 * WIDEST_THRESHOLD:.0f} %, its upper limit"
            )
