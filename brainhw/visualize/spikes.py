"""Spikes over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw.visualize.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["raster"]


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
    ax = axes_or_new(ax)
    ax.scatter(steps * dt, neurons + first, s=3, c=color, linewidths=0)
    ax.set(xlabel="time (ms)", ylabel="neuron", xlim=(0, len(spikes) * dt))
    return ax
