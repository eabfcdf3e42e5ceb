"""Weights against the range of their chip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import brainstate
import numpy as np

from brainhw.nn import chip_weights
from brainhw.visualize.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["weight_histogram"]


def weight_histogram(net: brainstate.nn.Module, *, ax: Axes | None = None, bins: int = 60) -> Axes:
    """Draw the distribution of each synapse's weights against the range that the chip can take.

    Parameters
    ----------
    net : brainstate.nn.Module
        A network with weights on a chip.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure.
    bins : int, optional
        Number of bins. Default 60.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    ValueError
        If the network has no weight on a chip.
    """
    weights = chip_weights(net)
    if not weights:
        raise ValueError("weight_histogram: the network has no weight on a chip; build it with H1v1 or H1v2 modules.")
    ax = axes_or_new(ax)
    chip = next(iter(weights.values())).chip
    reach = max(chip.weight_limit, *(float(np.abs(w.master.value).max()) for w in weights.values())) * 1.05
    edges = np.linspace(-reach, reach, bins + 1).tolist()
    for path, weight in weights.items():
        values = np.asarray(weight.master.value).ravel()
        ax.hist(values, edges, histtype="step", density=True, label=path)
    for side in (-1, 1):
        ax.axvline(side * chip.weight_limit, color="0.4", linestyle="--", linewidth=1)
    ax.set(xlabel=f"weight (dashed: range of {chip.name})", ylabel="density")
    ax.legend(frameon=False, fontsize="small")
    return ax
