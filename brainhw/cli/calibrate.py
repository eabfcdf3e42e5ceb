"""Command that fits the tables of a bench and writes a measured chip."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import brainunit as u

from brainhw._files import check_target, write_whole
from brainhw.chip import ChipSpec, load_chip
from brainhw.cli.look import say
from brainhw.silicon import calibrate as fit_tables

__all__ = ["calibrate"]

_FORMATS = ("png", "pdf", "svg")


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
) -> int:
    """Fit the tables, show the report, and write the chip and the figure."""
    call = "calibrate"
    if (family is None) == (chip is None):
        fault = "neither" if family is None else "both"
        raise ValueError(f"{call}: give one of --family and --chip; got {fault}. Use --family h1v1, for example.")
    start: ChipSpec | str = load_chip(chip) if chip is not None else str(family)
    # Before the fit, which takes a while.
    for target in (out, figure):
        if target is not None:
            check_target(target, call=call)
    suffix = "" if figure is None else Path(figure).suffix.lower().removeprefix(".")
    if figure is not None and suffix not in _FORMATS:
        raise ValueError(f"{call}: --figure must end in .{', .'.join(_FORMATS)}; got {figure!r}.")
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
        )
    say(str(result), "", str(result.measured))
    # Columns that were not used, for instance: part of the report, and no text between its lines.
    say(*(f"note: {warning.message}" for warning in caught if issubclass(warning.category, UserWarning)))
    if out is not None:
        result.measured.save(out)
        say(f"wrote {out}")
    if figure is not None:
        import matplotlib as mpl

        # No screen is needed, and none may be there.
        mpl.use("Agg")
        from brainhw.visualize import plot_calibration

        picture = io.BytesIO()
        plot_calibration(result).savefig(picture, format=suffix, dpi=150)
        write_whole(figure, picture.getvalue(), call=call)
        say(f"wrote {figure}")
    return 0
