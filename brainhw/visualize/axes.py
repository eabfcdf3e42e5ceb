"""Where a figure is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["axes_or_new"]


def axes_or_new(ax: Axes | None) -> Axes:
    """Return ``ax``, or the axes of a new figure."""
    if ax is None:
        from matplotlib import pyplot as plt

        ax = plt.subplots(layout="constrained")[1]
    return ax
