"""Figure of a confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brainhw import _arguments
from brainhw._drawn import draws
from brainhw.train import ClassReport
from brainhw.visualize.axes import axes_or_new, check_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_confusion"]

# With more classes, the numbers of a square would overlap.
_MOST_NUMBERS = 20


def _shorten(name: str) -> str:
    """Return at most 16 characters of a name: its beginning and its end, because names often begin alike."""
    return name if len(name) <= 16 else f"{name[:8]}\u2026{name[-7:]}"


@draws(ClassReport)
def plot_confusion(report: ClassReport, *, numbers: bool | None = None, ax: Axes | None = None) -> Axes:
    """Plot a confusion matrix: for each class, the fraction of its recordings that was predicted as each class.

    Parameters
    ----------
    report : ClassReport
        From :func:`brainhw.train.class_report` or :meth:`brainhw.recipe.ChipClassifier.report`.
    numbers : bool, optional
        Write the number of recordings into each square. Default: True for up to 20 classes, otherwise False.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes. Rows are the true classes, columns the predicted ones. The row of a class without recordings is empty.

    Raises
    ------
    TypeError
        If an argument has the wrong type.

    Examples
    --------
    >>> import brainhw as bh, numpy as np
    >>> report = bh.train.ClassReport(np.array([[3, 1], [0, 2]]), tied=0, undecided=0, silent=0, names=("a", "b"))
    >>> ax = bh.visualize.plot_confusion(report)
    >>> [text.get_text() for text in ax.texts]
    ['3', '1', '2']
    """
    call = "plot_confusion"
    check_report(report, ClassReport, call=call, source="brainhw.train.class_report")
    confusion = np.asarray(report.confusion)
    n = len(confusion)
    shows = n <= _MOST_NUMBERS if numbers is None else _arguments.flag(numbers, call=call, name="numbers")
    size = min(2.4 + 0.42 * n, 9.0)
    ax = axes_or_new(ax, call=call, figsize=(size, size))
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, confusion / np.maximum(totals, 1), np.nan)
    image = ax.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    if shows:
        for i, j in np.argwhere(confusion > 0):
            # White on dark squares.
            color = "white" if shares[i, j] > 0.5 else "black"
            ax.text(j, i, str(confusion[i, j]), ha="center", va="center", color=color, fontsize=8)
    names = report.names or tuple(map(str, range(n)))
    # Up to forty names fit on an axis.
    ticks = np.arange(0, n, -(-n // 40))
    labels = [_shorten(names[one]) for one in ticks]
    is_short = max(map(len, labels)) <= 2
    ax.set_xticks(ticks, labels, rotation=0 if is_short else 45, ha="center" if is_short else "right")
    ax.set_yticks(ticks, labels)
    ax.set(xlabel="predicted class", ylabel="true class", title=f"accuracy {100 * report.accuracy:.2f} %")
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.04)
    bar.set_label("fraction of the true class")
    return ax
