"""Figures of chip weights: range, weight levels, and blocks of one sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import brainstate
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.kernel import WeightGrid
from brainhw.kernel.quantize import lowest_code
from brainhw.kernel.signs import to_blocks
from brainhw.nn import ChipWeight
from brainhw.train.weights import on_chip
from brainhw.visualize.axes import MOST_BINS, axes_or_new, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_sign_blocks", "plot_weight_histogram"]

# Default number of bins over the weight range of the chip.
_BINS = 60
# Maximum number of weight levels that are drawn as lines. More lines would merge into one grey area.
_MOST_LEVELS = 127


def plot_weight_histogram(net: brainstate.nn.Module, *, ax: Axes | None = None, bins: int | None = None) -> Axes:
    """Plot the distribution of each synapse's weights, with the range and the weight levels of the chip.

    The plotted weights are the learned master weights, before rounding. Dashed lines mark the ends of the range, and
    the area outside of it is shaded. No bin extends across an end of the range. If weights are rounded to at most 7
    bits (``weight_bits``), thin lines show the levels.

    Parameters
    ----------
    net : brainstate.nn.Module
        A network with weights on a chip, or one synapse.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.
    bins : int, optional
        Number of bins over the range of the chip, at most 2000. Default: 60. If all weights are rounded to the same
        levels, the default is one bin per level, which contains the weights that are rounded to this level. Bins
        outside of the range have the same width. If one side would need more than 60 bins, the bins on this side are
        wider.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: dimensionless weight (horizontal), fraction of a synapse's weights in each bin (vertical).

    Raises
    ------
    TypeError, ValueError
        If ``net`` is not a module or has no chip weight, a weight is not finite, or ``bins`` is invalid.

    Examples
    --------
    >>> import brainhw as bh
    >>> ax = bh.visualize.plot_weight_histogram(bh.nn.H1v2Synapse(4, 3, weight_bits="chip"))
    >>> ax.get_xlabel()
    'weight (dimensionless; dashed: range of H1v2, thin: its 31 levels of 5 bits)'
    """
    call = "plot_weight_histogram"
    weights = on_chip(net, call)
    values = {path: np.asarray(weight.master.value, float).ravel() for path, weight in weights.items()}
    for path, numbers in values.items():
        _arguments.check_finite(numbers, call=call, name=f"the weight {path}", fix="load or initialise it again")
    if bins is not None:
        bins = _arguments.positive_int(bins, call=call, name="bins", most=MOST_BINS)
    chip = next(iter(weights.values())).chip
    low, high = chip.weight_range
    grids = {grid for weight in weights.values() if (grid := weight.effective.grid) is not None}
    shared = len(grids) == 1 and all(weight.effective.grid is not None for weight in weights.values())
    inside = _bin_edges(chip.weight_range, bins, next(iter(grids)) if shared else None)
    # The bins cover the range and all weights, so that the histogram shows how far a weight is out of range.
    every = np.concatenate(list(values.values()))
    edges = _extend_bins(inside, float(every.min()), float(every.max()))
    end = max(1.05 * max(-low, high), -edges[0], edges[-1])
    ax = axes_or_new(ax, call=call)
    for path, numbers in values.items():
        beyond = int(np.sum((numbers > high) | (numbers < low)))
        label = f"{path}: {beyond} of {numbers.size} out of range" if beyond else path
        share = np.full(numbers.size, 1 / numbers.size)
        ax.hist(numbers, edges.tolist(), weights=share, histtype="step", linewidth=1.5, label=label)
    for limit, side in ((low, -end), (high, end)):
        ax.axvline(limit, color="0.4", linestyle="--", linewidth=1)
        ax.axvspan(limit, side, color="C3", alpha=0.1, linewidth=0)
    words = [f"dashed: range of {chip.name}"]
    # Layers may be rounded to different numbers of bits. The levels of each number of bits are drawn once.
    for grid in sorted((grid for grid in grids if grid.n_levels <= _MOST_LEVELS), key=lambda grid: grid.bits):
        levels = np.asarray(grid.values(jnp.arange(lowest_code(grid), grid.largest_code + 1)))
        ax.vlines(levels, 0, 1, transform=ax.get_xaxis_transform(), color="0.85", linewidth=0.6, zorder=0)
        words.append(f"thin: its {grid.n_levels} levels of {grid.bits} bits")
    ax.set(xlabel=f"weight (dimensionless; {', '.join(words)})", ylabel="fraction of the weights", xlim=(-end, end))
    legend_above(ax, ncols=2)
    return ax


def _bin_edges(limits: tuple[float, float], bins: int | None, grid: WeightGrid | None) -> np.ndarray:
    """Return the edges of the bins inside the weight range.

    The edges are half-way between the weight levels of ``grid``, or evenly spaced.
    """
    low, high = limits
    if bins is None and grid is not None and grid.n_levels <= _MOST_LEVELS:
        levels = np.asarray(grid.values(jnp.arange(lowest_code(grid), grid.largest_code + 1)), float)
        edges = np.concatenate([[low], (levels[1:] + levels[:-1]) / 2, [high]])
    else:
        edges = np.linspace(low, high, (bins or _BINS) + 1)
    # A bin includes its left edge, but not its right edge. Move the last edge, because a weight at the upper limit is
    # in range.
    edges[-1] = np.nextafter(high, np.inf)
    return edges


def _extend_bins(inside: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    """Add edges on both sides of the bin edges ``inside``, so that the bins cover all weights. Return all edges."""
    width = (inside[-1] - inside[0]) / (len(inside) - 1)

    def beyond(distance: float) -> np.ndarray:
        n = min(int(np.ceil(max(distance, 0.0) / width)), _BINS)
        # Extend the bins slightly, so that no weight is lost by a rounding error.
        return np.arange(1, n + 1) * max(width, 1.000001 * distance / max(n, 1))

    left, right = beyond(inside[0] - lowest), beyond(highest - inside[-1])
    return np.concatenate([inside[0] - left[::-1], inside, inside[-1] + right])


# Colours of negative, zero and positive weights in a block that mixes signs. They differ from the red and blue of other
# blocks.
_MIXED_COLORS = ("#202020", "#ffdf5d", "#8a3c00")


def plot_sign_blocks(synapse: brainstate.nn.Module, *, ax: Axes | None = None) -> Axes:
    """Plot a weight matrix and highlight the blocks that mix signs.

    Positive weights are red, negative weights are blue, and larger magnitudes are darker. A block that mixes signs is
    yellow with a black frame. In this block, positive weights are brown and negative weights are black. The plotted
    weights are those programmed into the chip: sign annealing and rounding are applied. A weight of zero agrees with
    either sign. The vendor documents the size of a block. The axis along which a block extends is an assumption of
    brainhw.

    Parameters
    ----------
    synapse : brainstate.nn.Module
        A dense synapse on a chip, or a recurrent layer on a chip.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure. The colour bar takes some space from these axes.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: neurons (horizontal), inputs (vertical, downwards).

    Raises
    ------
    TypeError, ValueError
        If ``synapse`` is not a module, does not contain exactly one dense chip weight, or a weight is not finite.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> synapse = bh.nn.H1v1Synapse(6, 1, weight_init=jnp.array([[0.5], [-0.2], [0.1], [0.1], [0.1], [-0.3]]))
    >>> print(bh.visualize.plot_sign_blocks(synapse).get_title())
    1 of 2 blocks of 5 mix signs
    (yellow; brown: positive, black: negative)
    """
    call = "plot_sign_blocks"
    weight = _one_dense(synapse, call)
    master = weight.master.value
    _arguments.check_finite(master, call=call, name="the weights", fix="load or initialise them again")
    values = np.asarray(weight.effective.applied(master), float)
    chip, (n_in, n_out) = weight.chip, values.shape
    blocks = np.asarray(to_blocks(jnp.asarray(values), chip.sign_block, chip.sign_axis))
    mixed = (blocks.max(axis=1) > 0) & (blocks.min(axis=1) < 0)
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    ax = axes_or_new(ax, call=call)
    # Use symmetric limits, so that zero is white for any range.
    limit = max(map(abs, chip.weight_range))
    # Do not interpolate, because neighbouring weights of different sign would then look like zeros.
    look: dict[str, Any] = {"vmin": -limit, "vmax": limit, "aspect": "auto", "interpolation": "nearest"}
    image = ax.imshow(values, cmap="RdBu_r", **look)
    ax.figure.colorbar(image, ax=ax, label=f"weight (dimensionless; range of {chip.name})")
    rows = chip.sign_axis == "pre"
    each = np.repeat(mixed, chip.sign_block, axis=0)[: n_in if rows else n_out]
    breaking = np.ma.masked_where(~(each if rows else each.T), values)
    ax.imshow(breaking, cmap=LinearSegmentedColormap.from_list("mixed", _MIXED_COLORS), **look)
    frames = []
    for block, line in np.argwhere(mixed):
        first = int(block) * chip.sign_block
        # The last block of a layer may be shorter.
        length = min(chip.sign_block, len(each) - first)
        corner, size = (line - 0.5, first - 0.5), (1, length)
        frames.append(Rectangle(corner, *size) if rows else Rectangle(corner[::-1], *size[::-1]))
    ax.add_collection(PatchCollection(frames, facecolor="none", edgecolor="black", linewidth=0.8))
    edges = np.arange(chip.sign_block, len(each), chip.sign_block) - 0.5
    (ax.hlines if rows else ax.vlines)(edges, -0.5, mixed.shape[1] - 0.5, color="0.7", linewidth=0.5)
    ax.set(xlabel="neuron", ylabel="input", xlim=(-0.5, n_out - 0.5), ylim=(n_in - 0.5, -0.5))
    words = f"{mixed.sum()} of {mixed.size} blocks of {chip.sign_block} mix signs"
    ax.set_title(words + ("\n(yellow; brown: positive, black: negative)" if mixed.any() else ""), fontsize="medium")
    return ax


def _one_dense(module: brainstate.nn.Module, call: str) -> ChipWeight:
    _arguments.check_module(module, call=call, name="synapse")
    found = on_chip(module, call)
    dense = {path: weight for path, weight in found.items() if weight.master.value.ndim == 2}
    if not dense:
        raise ValueError(
            f"{call}: {', '.join(found)} has only one-to-one weights, without sign blocks. Pass a synapse with dense "
            "weights."
        )
    if len(dense) > 1:
        raise ValueError(
            f"{call}: the module contains {len(dense)} dense weights ({', '.join(dense)}). Pass a module with only one."
        )
    return next(iter(dense.values()))
