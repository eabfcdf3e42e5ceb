"""Weights against what their chip can take: its range, and the grid that they are rounded to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import brainstate
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.kernel import WeightGrid
from brainhw.train.weights import on_chip
from brainhw.visualize.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["weight_histogram"]

_BINS = 60
# More lines than these would be one grey area.
_MOST_LEVELS = 127
# More bins than these are narrower than a pixel, and take long to draw.
_MOST_BINS = 2000


def weight_histogram(net: brainstate.nn.Module, *, ax: Axes | None = None, bins: int | None = None) -> Axes:
    """Draw the distribution of each synapse's weights against the range and the grid of the chip.

    The weights are the master weights that are learnt. Dashed lines are the ends of the range; beyond them is shaded.
    Thin lines are the levels that ``weight_bits`` rounds to, where weights are rounded and the bits are 7 at most.

    Parameters
    ----------
    net : brainstate.nn.Module
        A network with weights on a chip, or one synapse.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure.
    bins : int, optional
        Number of bins, 2000 at most. Default: 60; or, where all weights are rounded to one grid, one bin around each
        of its levels, so that a bar shows what is rounded to that level, unless a weight lies so far beyond the range
        that more than 2000 bins would be needed.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: dimensionless weight across, density upwards.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is no module, has no weight on a chip, or one that is not finite; or ``bins`` is bad.

    Examples
    --------
    >>> import brainhw as bh
    >>> ax = bh.visualize.weight_histogram(bh.nn.H1v2Synapse(4, 3, weight_bits="chip"))
    >>> ax.get_xlabel()
    'weight (dimensionless; dashed: range of H1v2, thin: its 31 levels of 5 bits)'
    """
    call = "weight_histogram"
    weights = on_chip(net, call)
    values = {path: np.asarray(weight.master.value, float).ravel() for path, weight in weights.items()}
    for path, numbers in values.items():
        _arguments.check_finite(numbers, call=call, name=f"the weight {path}", fix="load or initialise it again")
    if bins is not None:
        bins = _arguments.positive_int(bins, call=call, name="bins")
        if bins > _MOST_BINS:
            raise ValueError(
                f"{call}: bins must be {_MOST_BINS} at most, which is finer than a figure shows; got {bins}."
            )
    chip = next(iter(weights.values())).chip
    limit = chip.weight_limit
    grids = {grid for weight in weights.values() if (grid := weight.effective.grid) is not None}
    reach = 1.05 * max(limit, *(float(np.abs(numbers).max()) for numbers in values.values()))
    edges = _edges(reach, bins, [weight.effective.grid for weight in weights.values()])
    ax = axes_or_new(ax, call=call)
    for path, numbers in values.items():
        beyond = int(np.sum(np.abs(numbers) > limit))
        label = f"{path}: {beyond} of {numbers.size} out of range" if beyond else path
        ax.hist(numbers, edges.tolist(), histtype="step", density=True, label=label)
    for side in (-1, 1):
        ax.axvline(side * limit, color="0.4", linestyle="--", linewidth=1)
        ax.axvspan(side * limit, side * max(edges[-1], reach), color="C3", alpha=0.1, linewidth=0)
    words = [f"dashed: range of {chip.name}"]
    for grid in sorted((grid for grid in grids if grid.n_levels <= _MOST_LEVELS), key=lambda grid: grid.bits):
        levels = np.asarray(grid.values(jnp.arange(-grid.largest_code, grid.largest_code + 1)))
        ax.vlines(levels, 0, 1, transform=ax.get_xaxis_transform(), color="0.85", linewidth=0.6, zorder=0)
        words.append(f"thin: its {grid.n_levels} levels of {grid.bits} bits")
    end = max(edges[-1], reach)
    ax.set(xlabel=f"weight (dimensionless; {', '.join(words)})", ylabel="density", xlim=(-end, end))
    # Above the axes, because the weights may be anywhere inside.
    ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax


def _edges(reach: float, bins: int | None, grids: list[WeightGrid | None]) -> np.ndarray:
    """Return the edges of the bins: around the levels of the one grid, if there is one, else evenly spread."""
    grid = grids[0]
    if bins is None and grid is not None and len(set(grids)) == 1 and grid.n_levels <= _MOST_LEVELS:
        beyond = int(np.ceil(reach / grid.step))
        if 2 * beyond + 1 <= _MOST_BINS:
            return (np.arange(-beyond, beyond + 2) - 0.5) * grid.step
    return np.linspace(-reach, reach, (bins or _BINS) + 1)
