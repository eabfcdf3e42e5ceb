"""Figures that people of the field expect; each draws on ``ax`` and returns it, and works without a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import brainstate
import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw.nn import chip_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["raster", "weight_histogram"]


def _axes(ax: Axes | None) -> Axes:
    if ax is None:
        from matplotlib import pyplot as plt

        ax = plt.subplots(layout="constrained")[1]
    return ax


def raster(spikes: Any, *, ax: Axes | None = None, color: str = "C0", first: int = 0) -> Axes:
    """Draw one dot for every spike, time in ms across, neurons upwards.

    Parameters
    ----------
    spikes : array
        Spikes of one sample, ``[T, N]``; ``dt`` is read from ``brainstate.environ``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure.
    color : str, optional
        Colour of the dots.
    first : int, optional
        Number of the first neuron, to stack layers in one picture. Default 0.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    ValueError
        If ``spikes`` is not ``[T, N]``.
    """
    spikes = np.asarray(_arguments.as_array(spikes, call="raster", name="spikes"))
    if spikes.ndim != 2:
        raise ValueError(f"raster: spikes must be [T, N], one sample; got shape {spikes.shape}.")
    dt = _arguments.time_step(call="raster").to(u.ms).mantissa
    steps, neurons = np.nonzero(spikes)
    ax = _axes(ax)
    ax.scatter(steps * dt, neurons + first, s=3, c=color, linewidths=0)
    ax.set(xlabel="time (ms)", ylabel="neuron", xlim=(0, len(spikes) * dt))
    return ax


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
    ax = _axes(ax)
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
