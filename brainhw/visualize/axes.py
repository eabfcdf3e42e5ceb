"""Functions that several figures use: they create axes and legends, and check arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from brainhw import _arguments

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOST_BINS", "axes_or_new", "check_color", "check_report", "legend_above"]


# Maximum number of bins. More bins would be narrower than a pixel and slow to draw.
MOST_BINS = 2000


def axes_or_new(ax: Axes | None, *, call: str, figsize: tuple[float, float] | None = None) -> Axes:
    """Return ``ax``, or the axes of a new figure of ``figsize`` inches if ``ax`` is None.

    Raise if ``ax`` is anything else than matplotlib axes or None.
    """
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes

    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")[1]
    if not isinstance(ax, Axes):
        raise TypeError(
            f"{call}: ax must be one matplotlib Axes, such as plt.subplots()[1], or None for a new figure; got "
            f"{_arguments.describe(ax)}."
        )
    return ax


def check_report(report: Any, kind: type, *, call: str, source: str, name: str = "report") -> None:
    """Raise unless ``report`` is an instance of ``kind``. ``source`` names the function that returns such reports."""
    if not isinstance(report, kind):
        raise TypeError(f"{call}: {name} must be a {kind.__name__}, from {source}; got {_arguments.describe(report)}.")


def check_color(color: Any, *, call: str) -> Any:
    """Return ``color``. Raise if matplotlib does not accept it."""
    from matplotlib.colors import is_color_like

    try:
        parts = np.shape(color)
        known = is_color_like(color) and parts in ((), (3,), (4,))
        known = known and (not parts or bool(np.all(np.isfinite(np.asarray(color, float)))))
    except (TypeError, ValueError):
        known = False
    # A number is not accepted as a colour, although matplotlib reads the text "0.5" as a grey.
    if not known or color is None:
        raise ValueError(
            f"{call}: color must be one colour of matplotlib, such as 'C0' or '#336699'; "
            f"got {_arguments.describe(color)}."
        )
    return color


def legend_above(ax: Axes, *, ncols: int = 1) -> None:
    """Add a legend above the axes, because the data may be anywhere inside them."""
    ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=ncols)
