"""Blocks of weights that must share a sign, and those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import brainstate
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.kernel.signs import to_blocks
from brainhw.nn import ChipWeight
from brainhw.train.weights import on_chip
from brainhw.visualize.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["sign_blocks"]

# Negative, zero and positive weights of a block that mixes signs: far from the red and blue of the others.
_MIXED = ("#202020", "#ffdf5d", "#8a3c00")


def sign_blocks(synapse: brainstate.nn.Module, *, ax: Axes | None = None) -> Axes:
    """Draw a weight matrix so that its blocks of one sign are seen, and those that mix signs stand out.

    Red is positive, blue negative, the stronger the darker, up to the chip's range. A block that mixes signs is yellow
    with a black frame; in it brown is positive and black negative. The weights are those that the chip is programmed
    with, after sign annealing and rounding; zero agrees with either sign. The size of a block is documented for the
    chips, the axis along which it runs assumed.

    Parameters
    ----------
    synapse : brainstate.nn.Module
        A dense synapse on a chip, or a recurrent layer on one.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure. A bar of colours takes some room from it.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: neurons across, inputs downwards.

    Raises
    ------
    TypeError, ValueError
        If ``synapse`` is no module, holds no dense weight on a chip or several, or one that is not finite.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> synapse = bh.nn.H1v1Synapse(6, 1, weight_init=jnp.array([[0.5], [-0.2], [0.1], [0.1], [0.1], [-0.3]]))
    >>> print(bh.visualize.sign_blocks(synapse).get_title())
    1 of 2 blocks of 5 mix signs
    (yellow; brown: positive, black: negative)
    """
    call = "sign_blocks"
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
    look: dict[str, Any] = {
        "vmin": -chip.weight_limit,
        "vmax": chip.weight_limit,
        "aspect": "auto",
        "interpolation": "nearest",
    }
    image = ax.imshow(values, cmap="RdBu_r", **look)
    ax.figure.colorbar(image, ax=ax, label=f"weight (dimensionless; range of {chip.name})")
    rows = chip.sign_axis == "pre"
    each = np.repeat(mixed, chip.sign_block, axis=0)[: n_in if rows else n_out]
    breaking = np.ma.masked_where(~(each if rows else each.T), values)
    ax.imshow(breaking, cmap=LinearSegmentedColormap.from_list("mixed", _MIXED), **look)
    frames = []
    for block, line in np.argwhere(mixed):
        first = int(block) * chip.sign_block
        length = min(chip.sign_block, len(each) - first)
        frames.append(
            Rectangle((line - 0.5, first - 0.5), 1, length) if rows else Rectangle((first - 0.5, line - 0.5), length, 1)
        )
    ax.add_collection(PatchCollection(frames, facecolor="none", edgecolor="black", linewidth=0.8))
    edges = np.arange(chip.sign_block, len(each), chip.sign_block) - 0.5
    (ax.hlines if rows else ax.vlines)(edges, -0.5, mixed.shape[1] - 0.5, color="0.7", linewidth=0.5)
    ax.set(xlabel="neuron", ylabel="input", xlim=(-0.5, n_out - 0.5), ylim=(n_in - 0.5, -0.5))
    words = f"{mixed.sum()} of {mixed.size} blocks of {chip.sign_block} mix signs"
    ax.set_title(words + ("\n(yellow; brown: positive, black: negative)" if mixed.any() else ""), fontsize="medium")
    return ax


def _one_dense(module: brainstate.nn.Module, call: str) -> ChipWeight:
    found = on_chip(module, call)
    dense = {path: weight for path, weight in found.items() if weight.master.value.ndim == 2}
    if not dense:
        raise ValueError(f"{call}: {', '.join(found)} has one-to-one weights alone, which stand in no block.")
    if len(dense) > 1:
        raise ValueError(
            f"{call}: the module holds {len(dense)} dense weights ({', '.join(dense)}); pass one of these modules."
        )
    return next(iter(dense.values()))
