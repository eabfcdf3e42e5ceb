"""Command ``calibrate``: fit tables of measurements, and write a measured chip."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import brainunit as u

from brainhw.chip import ChipSpec
from brainhw.cli.bar import wants_bar
from brainhw.cli.chip_spec import spec_from_file
from brainhw.cli.look import measured_data
from brainhw.cli.outputs import check_output
from brainhw.cli.picture import figure_format, write_figure
from brainhw.cli.result import Result
from brainhw.silicon import Calibration
from brainhw.silicon import calibrate as fit_tables

__all__ = ["calibrate"]


def calibrate(
    tables: list[str],
    *,
    family: str | None,
    chip: str | None,
    out: str | None,
    figure: str | None,
    settings: dict[int, int] | None,
    rates_setting: int | None,
    noise: float | None,
    dt: float,
    name: str | None,
    quiet: bool = False,
) -> Result:
    """Fit the tables of measurements, write the measured chip and the figure, and return the results of the fit."""
    call = "calibrate"
    if (family is None) == (chip is None):
        fault = "neither" if family is None else "both"
        raise ValueError(f"{call}: pass either --family or --chip; got {fault}. Example: --family h1v1.")
    start: ChipSpec | str = str(family) if chip is None else spec_from_file(chip, call=call)
    # Check the output files before the fit, which takes a while.
    if out is not None:
        check_output("--out", out, "chip", (*tables, chip), call=call)
    if figure is not None:
        check_output("--figure", figure, "picture", (*tables, chip, out), call=call)
    if figure is not None:
        figure_format(figure, call=call)
    if name is None and out is not None:
        name = Path(out).stem
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        result = fit_tables(
            *tables,
            chip=start,
            settings=settings,
            rates_setting=rates_setting,
            noise_std=None if noise is None else noise * u.mV,
            dt=dt * u.ms,
            name=name,
            progress=wants_bar(quiet),
        )
    # Warnings report, for example, columns that were not used.
    notes = tuple(str(warning.message) for warning in caught if issubclass(warning.category, UserWarning))
    if out is not None:
        result.measured.save(out)
    if figure is not None:
        write_figure(figure, result, call=call)
    written = [path for path in (out, figure) if path is not None]
    lines = (
        *(f"note: {note}" for note in notes),
        str(result),
        "",
        str(result.measured),
        *(f"wrote {path}" for path in written),
    )
    return Result(lines, {**_data(result), "written": written}, notes)


def _data(result: Calibration) -> dict[str, Any]:
    spec, charge, leak, threshold = result.measured.spec, result.charge, result.leak, result.threshold
    return {
        "name": spec.name,
        "family": spec.family,
        "measured": [field for field, source in spec.provenance.items() if source == "measured"],
        "settings": [{"setting": setting, "profile": profile} for setting, profile in result.settings.items()],
        "charge": None
        if charge is None
        else {
            "form": charge.form,
            "codes": charge.codes,
            "charge_fC": charge.charge.to(u.fcoulomb).mantissa,
            "error_fC": charge.error.to(u.fcoulomb).mantissa,
            "gain_spread": float(charge.gain_std),
            "gain_spread_error": float(charge.gain_std_error),
            "read_noise_fC": _number(charge.read_noise, u.fcoulomb),
            "notes": charge.notes,
        },
        "leak": None
        if leak is None
        else {
            "settings": leak.settings,
            "tau_ms": leak.mean.to(u.ms).mantissa,
            "error_ms": leak.mean_error.to(u.ms).mantissa,
            "spread": leak.spread,
            "read_noise_mV": _number(leak.read_noise, u.mV),
            "offset_mV": _number(leak.offset, u.mV),
            "notes": leak.notes,
        },
        "threshold": None
        if threshold is None
        else {
            "neurons": threshold.neurons,
            "V_th_mV": threshold.V_th.to(u.mV).mantissa,
            "error_mV": threshold.V_th_error.to(u.mV).mantissa,
            "mean_mV": _number(threshold.mean, u.mV),
            "mean_error_mV": _number(threshold.mean_error, u.mV),
            "spread": float(threshold.spread),
            "C_fF": _number(threshold.C, u.ffarad),
            "noise_std_mV": _number(threshold.noise_std, u.mV),
            "noise_std_error_mV": _number(threshold.noise_std_error, u.mV),
            "notes": threshold.notes,
        },
        "notes": result.notes,
        "chip": measured_data(result.measured),
    }


def _number(value: u.Quantity, unit: u.Unit) -> float:
    return float(value.to(unit).mantissa)
