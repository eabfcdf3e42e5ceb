"""Compare measured values with those of the chip before the calibration, to detect a wrong unit in a table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from brainhw.chip import ChipSpec
from brainhw.silicon.fit_charge import ChargeFit
from brainhw.silicon.fit_leak import LeakFit
from brainhw.silicon.fit_threshold import ThresholdFit

__all__ = ["note_charge", "note_leak", "note_taus", "note_threshold"]

# brainhw assumes that real chips usually deviate from their data sheet by less than the first factor, and always by
# less than the second.
_UNUSUAL, _IMPOSSIBLE = 5.0, 100.0
# brainhw also assumes that a time constant always deviates from the nearest profile by less than this factor.
_IMPOSSIBLE_TAU = 20.0
# brainhw assumes that thresholds deviate from the data sheet by less than this factor. The factor is below 2, because
# half the time window or twice the charge changes the fitted threshold by a factor of 2.
_UNUSUAL_V_TH = 1.9
# brainhw assumes that the charge of a chip at weight zero is smaller than this fraction of its largest charge.
_HIGH_ZERO = 0.1
# If this many readings have exactly the largest or the smallest value, the read-out may saturate.
_LEAST_SAME = 5
# If decays start above this multiple of the threshold, the neuron has spiked before, or the unit is wrong.
_HIGH_START = 3.0


def note_charge(fit: ChargeFit, chip: ChipSpec, *, call: str) -> list[str]:
    """Return notes on an implausible largest charge, a large charge at code 0, and a saturated read-out."""
    charge, weights = np.asarray(fit.charge.mantissa), np.asarray(fit.curve.weights, np.float32)
    at = int(np.argmax(np.abs(charge)))
    usual = float(np.asarray(chip.charge(weights).mantissa)[at])
    notes = _note_deviation(
        abs(charge[at]), abs(usual), f"the charge of code {fit.codes[at]}", "charge", "fC", call=call
    )
    share = float(np.abs(charge[fit.codes == 0]).sum() / np.abs(charge[at]))
    if share > _HIGH_ZERO:
        notes.append(
            f"code 0 has {100 * share:.0f} % of the largest charge. This looks like a baseline of the read-out, which "
            "must be subtracted before the fit. Otherwise every unused synapse of this chip adds this charge"
        )
    readings = np.asarray(fit.table.charge.mantissa)
    for word, end in (("largest", readings.max()), ("smallest", readings.min())):
        same = readings == end
        if same.sum() >= _LEAST_SAME and np.unique(fit.table.code[same]).size > 1:
            notes.append(
                f"{int(same.sum())} charges of several codes have exactly the {word} value, {end:.4g} fC. The read-out "
                "may saturate there, and the curve would then be wrong near this value"
            )
    return notes


def note_leak(fit: LeakFit, chip: ChipSpec, *, call: str) -> list[str]:
    """Return a note if the decays start at an implausibly high membrane potential."""
    start, V_th = float(np.nanmedian(np.asarray(fit.start.mantissa))), float(chip.V_th.mantissa)
    if start <= V_th:
        return []
    return _note_deviation(start, V_th, "the median start of the decays", "V", "mV", call=call, note=_HIGH_START)


def note_taus(means: Mapping[int, float], presets: np.ndarray, *, call: str) -> list[str]:
    """Return a note for each leak setting whose time constant (ms) is far from the nearest profile."""
    notes = []
    for setting, tau in means.items():
        nearest = float(presets[int(np.argmin(np.abs(np.log(tau / presets))))])
        notes += _note_deviation(
            tau, nearest, f"tau of setting {setting}", "t", "ms", call=call, refuse=_IMPOSSIBLE_TAU
        )
    return notes


def note_threshold(fit: ThresholdFit, chip: ChipSpec, *, call: str) -> list[str]:
    """Return notes on an implausible mean threshold, and on an implausible capacitance if ``fit`` measured it."""
    mean, usual = float(fit.mean.mantissa), float(chip.V_th.mantissa)
    what = "rate, window and charge"
    if fit.C_measured:
        what += ", and noise_std"
        C = float(fit.C.mantissa), float(chip.C.mantissa)
        notes = _note_deviation(
            *C, "the capacitance", "noise_std", "fF", call=call, note=_UNUSUAL_V_TH, refuse=_UNUSUAL
        )
    else:
        notes = []
    return notes + _note_deviation(mean, usual, "the mean threshold", what, "mV", call=call, note=_UNUSUAL_V_TH)


def _note_deviation(
    value: float,
    usual: float,
    what: str,
    column: str,
    unit: str,
    *,
    call: str,
    note: float = _UNUSUAL,
    refuse: float = _IMPOSSIBLE,
) -> list[str]:
    """Return a note if ``value`` and ``usual`` differ by more than the factor ``note``.

    Raise ``ValueError`` if they differ by more than the factor ``refuse``. In the messages, ``what`` describes the
    value, and ``column`` is the name of its table columns.
    """
    if not (value > 0 and usual > 0):
        return []
    ratio = value / usual
    seen = f"{what} is {value:.4g} {unit}, {ratio:.3g} times the value before the calibration, {usual:.4g} {unit}"
    if not 1 / refuse <= ratio <= refuse:
        raise ValueError(
            f"{call}: {column} must have the right unit: {seen}; at most a factor of {refuse:g} is accepted. Check the "
            "unit in the name of the column, or pass a chip with approximately the right value."
        )
    return [] if 1 / note < ratio < note else [f"{seen}: check the unit of {column}"]
