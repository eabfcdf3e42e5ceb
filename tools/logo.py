"""Draw the logo of the site, ``docs/_static/logo_light.svg``, ``logo_dark.svg`` and ``favicon.svg``.

``python tools/logo.py`` writes all three files. The mark of the logo is a chip on which a membrane potential rises to
the threshold and the neuron fires.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import TextPath
from matplotlib.transforms import Affine2D

FOLDER = Path(__file__).parents[1] / "docs" / "_static"
CHIP, TRACE, THRESHOLD = "#1f6fb2", "#ffffff", "#ffc266"
TEXT = {"light": "#1d2733", "dark": "#eef2f6"}
PINS = (0.26, 0.5, 0.74)


def membrane() -> tuple[np.ndarray, np.ndarray]:
    """Return time and membrane potential. There are four input spikes, one output spike, and another input spike."""
    t = np.linspace(0.18, 0.82, 400)
    v = np.full_like(t, 0.24)
    for start in (0.2, 0.3, 0.4, 0.5):
        v += 0.15 * np.exp(-(t - start) / 0.3) * (t >= start)
    fires = t >= 0.54
    v[fires] = 0.24
    v += 0.15 * np.exp(-(t - 0.68) / 0.3) * (t >= 0.68)
    v[(t >= 0.515) & (t < 0.54)] = 0.82
    return t, v


def draw_mark(ax: Axes) -> None:
    """Draw the chip with its pins and the trace, in the unit square."""
    for at in PINS:
        for side in ((at, at), (0.02, 0.98)), ((0.02, 0.98), (at, at)):
            ax.plot(*side, color=CHIP, linewidth=5, solid_capstyle="round", zorder=1)
    box = FancyBboxPatch((0.12, 0.12), 0.76, 0.76, boxstyle="round,pad=0,rounding_size=0.1", color=CHIP, zorder=2)
    ax.add_patch(box)
    ax.plot((0.18, 0.82), (0.6, 0.6), color=THRESHOLD, linewidth=2, zorder=3)
    ax.plot(*membrane(), color=TRACE, linewidth=2.8, solid_joinstyle="round", solid_capstyle="round", zorder=4)


def draw_name(ax: Axes, color: str) -> float:
    """Write the name beside the mark, and return its right edge."""
    outline = TextPath((0, 0), "brainhw", size=0.62)
    placed = outline.transformed(Affine2D().translate(1.16 - outline.get_extents().x0, 0.3))
    ax.add_patch(mpl.patches.PathPatch(placed, color=color, linewidth=0))
    return float(placed.get_extents().x1)


def save(name: str, color: str | None) -> None:
    """Write one file. It shows the mark and, if a colour is given, the name in this colour."""
    figure = plt.figure()
    ax = figure.add_axes((0, 0, 1, 1))
    draw_mark(ax)
    right = 1.0 if color is None else draw_name(ax, color) + 0.04
    ax.set(xlim=(0, right), ylim=(0, 1), aspect="equal")
    ax.axis("off")
    figure.set_size_inches(1.25 * right, 1.25)
    figure.savefig(FOLDER / name, transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def main() -> None:
    """Write all files. Their bytes are always the same."""
    with mpl.rc_context({"svg.hashsalt": "brainhw"}):
        save("favicon.svg", None)
        for theme, color in TEXT.items():
            save(f"logo_{theme}.svg", color)


if __name__ == "__main__":
    main()
