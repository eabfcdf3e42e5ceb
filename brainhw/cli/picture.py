"""Figure files that a command writes: check of the file name, and drawing without a display."""

from __future__ import annotations

import io
from pathlib import Path

from brainhw._drawn import Drawn
from brainhw._files import write_whole

__all__ = ["figure_format", "write_figure"]

_FORMATS = ("png", "pdf", "svg")


def figure_format(path: str, *, call: str) -> str:
    """Return the format of a figure from the suffix of its file name. Raise ``ValueError`` for other suffixes."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in _FORMATS:
        raise ValueError(f"{call}: --figure must end in .{', .'.join(_FORMATS)}; got {path!r}.")
    return suffix


def write_figure(path: str, report: Drawn, *, call: str) -> None:
    """Plot ``report``, and write the figure to the file ``path`` atomically."""
    kind = figure_format(path, call=call)
    import matplotlib as mpl

    # This backend needs no display.
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    picture, figure = io.BytesIO(), report.plot()
    try:
        figure.savefig(picture, format=kind, dpi=150)
    finally:
        plt.close(figure)  # a process may run this command many times
    write_whole(path, picture.getvalue(), call=call)
