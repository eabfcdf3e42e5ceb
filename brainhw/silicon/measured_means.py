"""Build a measured chip from the fitted values of single neurons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import brainunit as u
import numpy as np

from brainhw.chip import TauProfiles
from brainhw.chip.spec import WIDEST_THRESHOLD
from brainhw.silicon._results import corrected_std
from brainhw.silicon.measured import MeasuredChip
from brainhw.silicon.program import ChipProgram

__all__ = ["measured_chip"]


def measured_chip(program: ChipProgram, layers: Mapping[str, Any]) -> MeasuredChip:
    """Return a measured chip from the fit of each layer (:class:`LayerFit`) and the placement of the program.

    The charge curve and the capacitance of the program's chip are kept, and the thresholds are scaled such that ``V_th
    C / q`` has the fitted value. If membrane potentials determine the mean charge gain, the capacitance is divided by
    this gain, so that the membrane potentials of the model agree with those of the bench.
    """
    chip = program.chip
    profiles = np.asarray(chip.tau_profiles.values.to(u.ms).mantissa, float)
    tau, tau_error = np.full((2, len(profiles), chip.n_neurons), np.nan)
    V_th, V_th_error = np.full((2, chip.n_neurons), np.nan)
    ratios, gains, noises = [], [], []
    for path, one in layers.items():
        at, leak = program.physical(path), program.leak(path)
        V_th[at], V_th_error[at] = one.threshold.mantissa, one.threshold_error.mantissa
        tau[leak, at], tau_error[leak, at] = one.tau.mantissa, one.tau_error.mantissa
        ratios.append(one.tau.mantissa / profiles[leak])
        noises.append(one.noise.mantissa)
        gains.append(one.gain)
    gain = 1.0
    if all(held is not None for held in gains):
        gain = float(np.exp(np.nanmean(np.log(np.concatenate(gains)))))
    V_th, V_th_error = gain * V_th, gain * V_th_error
    ratio = np.concatenate(ratios)
    mean = float(np.nanmean(V_th))
    changes: dict[str, Any] = {
        "name": f"{chip.name}, measured",
        "V_th": mean * u.mV,
        # Scale all leak settings by one factor, because a program uses few of them, and their order must not change.
        "tau_profiles": TauProfiles(profiles * float(np.exp(np.nanmean(np.log(ratio)))) * u.ms),
        "noise_std": gain * float(np.nanmedian(np.concatenate(noises))) * u.mV,
    }
    if np.isfinite(spread := corrected_std(V_th / mean, V_th_error / mean)):
        changes["threshold_mismatch_std"] = min(spread, WIDEST_THRESHOLD)
    relative = np.concatenate([one.tau_error.mantissa / one.tau.mantissa for one in layers.values()])
    if np.isfinite(spread := corrected_std(np.log(ratio), relative)):
        changes["leak_mismatch_std"] = spread
    notes = "Fitted to recorded spikes. V_th is fitted for the charge and the capacitance of the program."
    if gain != 1.0:
        changes["C"] = chip.C / gain
        notes = "Fitted to recorded spikes and membranes. The charge is from the program. C includes the measured gain."
    return MeasuredChip(
        spec=chip.replace(provenance="measured", **changes),
        tau=tau * u.ms,
        V_th=V_th * u.mV,
        tau_error=tau_error * u.ms,
        V_th_error=V_th_error * u.mV,
        notes=notes,
    )
