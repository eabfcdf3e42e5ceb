"""Command that fits the tables of a bench and writes a measured chip."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import brainunit as u

from brainhw._files import check_target, open_regular
from brainhw.chip import ChipSpec, load_chip
from brainhw.cli.look import say
from brainhw.cli.picture import figure_format, write_figure
from brainhw.silicon import calibrate as fit_tables
from brainhw.silicon.measured_file import TAG, is_measured

__all__ = ["calibrate"]

# How files of the formats of a figure begin.
_PICTURES = (b"\x89PNG", b"%PDF", b"<?xml", b"<svg")


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
    start: ChipSpec | str = str(family) if chip is None else _spec(chip, call)
    # Before the fit, which takes a while.
    _check_targets(out, figure, [*tables, *([] if chip is None else [chip])], call)
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
        )
    say(str(result), "", str(result.measured))
    # Columns that were not used, for instance: part of the report, and no text between its lines.
    say(*(f"note: {warning.message}" for warning in caught if issubclass(warning.category, UserWarning)))
    if out is not None:
        result.measured.save(out)
        say(f"wrote {out}")
    if figure is not None:
        write_figure(figure, result, "plot_calibration", call=call)
    return 0


def _spec(path: str, call: str) -> ChipSpec:
    if is_measured(path):
        raise ValueError(
            f"{call}: --chip must be a file of ChipSpec.save; got {path!r}, a measured chip. Write its spec with "
            "MeasuredChip.load(path).spec.save('spec.toml') and give that file."
        )
    return load_chip(path)


def _check_targets(out: str | None, figure: str | None, inputs: list[str], call: str) -> None:
    """Refuse to write over an input, over the other output, or over a file of another kind: the lab's data."""
    held = {os.path.realpath(path): path for path in inputs}
    for option, target in (("--out", out), ("--figure", figure)):
        if target is None:
            continue
        path = check_target(target, call=call)
        if os.path.realpath(target) in held:
            raise ValueError(
                f"{call}: {option} must be a file of its own; got {target!r}, which is also "
                f"{held[os.path.realpath(target)]!r} of this command. Give another name."
            )
        held[os.path.realpath(target)] = target
        # A suffix alone does not make a file a measured chip: what it begins with counts.
        if path.exists() and not _may_replace(path, option):
            raise ValueError(
                f"{call}: {option} must be a new file or an old {'chip' if option == '--out' else 'picture'} to "
                f"replace; got {target!r}, a file of another kind. Give another name, or remove that file."
            )


def _may_replace(path: Path, option: str) -> bool:
    try:
        with open_regular(path) as stream:
            start = stream.read(32)
    except OSError:  # writing tells what is wrong
        return True
    return not start or start.startswith((f"{TAG} ".encode(),) if option == "--out" else _PICTURES)
