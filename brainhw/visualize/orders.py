"""Figure of the orders of fractional layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import brainstate
import numpy as np

from brainhw import _arguments
from brainhw.transform.fractional_orders import fractional_layers
from brainhw.visualize.axes import MOST_BINS, axes_or_new, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_fractional_orders"]


def plot_fractional_orders(
    net: brainstate.nn.Module,
    *,
    start: float | Sequence[Any] | None = None,
    bins: int = 40,
    ax: Axes | None = None,
) -> Axes:
    r"""Plot the distribution of the orders :math:`\alpha` of each fractional layer, now and before training.

    Parameters
    ----------
    net : brainstate.nn.Module
        A network with fractional layers, or a single fractional layer.
    start : float or sequence of arrays, optional
        Orders before training: one number for all layers, or one entry per layer, such as an earlier result of
        :func:`brainhw.get_per_layer_alpha`. They are plotted as a dashed histogram, or as a dashed line for a layer in
        which all orders were equal. Default: not plotted.
    bins : int, optional
        Number of bins. The bins cover the range 0 to 1 and all orders. Orders that were trained as ``'raw'`` may be
        outside of 0 to 1. Default 40.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: order, dimensionless (horizontal); fraction of a layer's orders in each bin (vertical).

    Raises
    ------
    TypeError, ValueError
        If ``net`` is not a module or has no fractional layer, an order is not finite, or ``start`` is invalid.

    Examples
    --------
    >>> import brainhw as bh
    >>> ax = bh.visualize.plot_fractional_orders(bh.nn.FractionalLIFLayer(3, alpha=0.5), start=0.8)
    >>> ax.get_xlabel()
    'order α (dimensionless; dashed: before training)'
    """
    call = "plot_fractional_orders"
    layers = fractional_layers(net, call=call)
    bins = _arguments.positive_int(bins, call=call, name="bins", most=MOST_BINS)
    now = [np.asarray(layer.orders(), float).ravel() for _, layer in layers]
    for (path, _), orders in zip(layers, now, strict=True):
        _arguments.check_finite(orders, call=call, name=f"the orders of {path or 'the layer'}", fix="train again")
    before = _start(start, len(layers))
    ax = axes_or_new(ax, call=call)
    every = np.concatenate([*now, *before, [0.0, 1.0]])
    edges = np.linspace(every.min(), every.max(), bins + 1).tolist()
    for i, ((path, layer), orders) in enumerate(zip(layers, now, strict=True)):
        color, name = f"C{i % 10}", path or type(layer).__name__
        words = f"{orders.size} orders, mean {orders.mean():.3f}" if orders.size > 1 else f"{orders[0]:.3f}"
        ax.hist(orders, edges, weights=_shares(orders), color=color, alpha=0.5, label=f"{name}: {words}")
        # Plot equal orders as a line, because their histogram is a bar of full height, which would hide the orders
        # after training.
        if before and np.ptp(before[i]):
            ax.hist(before[i], edges, weights=_shares(before[i]), color=color, histtype="step", linestyle="--")
        elif before:
            ax.axvline(before[i][0], color=color, linestyle="--", linewidth=1)
    dashed = "; dashed: before training" if before else ""
    ax.set(
        xlabel=f"order α (dimensionless{dashed})", ylabel="fraction of the layer's orders", xlim=(edges[0], edges[-1])
    )
    legend_above(ax, ncols=2)
    return ax


def _shares(orders: np.ndarray) -> np.ndarray:
    """Return weights that make a histogram show fractions, so that layers of different sizes are comparable."""
    return np.full(orders.size, 1 / orders.size)


def _start(start: Any, n_layers: int) -> list[np.ndarray]:
    """Return the orders of each layer before training, one array per layer. Without ``start``, return an empty list."""
    if start is None:
        return []
    entries = list(start) if isinstance(start, (list, tuple)) else [start] * n_layers
    if len(entries) != n_layers:
        raise ValueError(
            f"plot_fractional_orders: start must have one entry per layer ({n_layers} fractional layers), or one "
            f"number for all; got {len(entries)} entries."
        )
    call = "plot_fractional_orders"
    found = [_arguments.number(entry, call=call, name="start", shapes=None) for entry in entries]
    if any(np.size(entry) == 0 for entry in found):
        raise ValueError("plot_fractional_orders: start is empty for one of the layers.")
    if any(np.any((entry <= 0) | (entry > 1)) for entry in map(np.asarray, found)):
        raise ValueError(
            f"{call}: start must contain orders greater than 0 and at most 1; got {_arguments.describe(start)}."
        )
    return [np.atleast_1d(entry).ravel() for entry in found]
