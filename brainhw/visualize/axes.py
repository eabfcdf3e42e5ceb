"""Checks of the arguments that all figures take: axes and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brainhw import _arguments

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["axes_or_new", "check_report"]


def axes_or_new(ax: Axes | None, *, call: str) -> Axes:
    """Return ``ax``, or the axes of a new figure; anything else raises."""
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes

    if ax is None:
        return plt.subplots(layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(
            f"{call}: ax must be one matplotlib Axes, such as plt.subplots()[1], or None for a new figure; got "
            f"{_arguments.describe(ax)}."
        )
    return ax


def check_report(report: Any, kind: type, *, call: str, source: str, name: str = "report") -> None:
    """Raise unless ``report`` has the type that ``source`` returns."""
    if not isinstance(report, kind):
        raise TypeError(f"{call}: {name} must be a {kind.__name__}, from {source}; got {_arguments.describe(report)}.")
