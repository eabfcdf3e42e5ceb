"""Rates of neurons, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw.init import FluctReport
from brainhw.visualize.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["layer_rates"]


def layer_rates(source: FluctReport | Mapping[str, Any] | Sequence[Any], *, ax: Axes | None = None) -> Axes:
    r"""Draw the output rate of every neuron, layer by layer.

    The rate of a neuron is :math:`\sum_{t,b} s_{tb} / (T B \Delta t)`. Steps after the end of a recording that was
    padded count, too; cut them off first if they should not.

    Parameters
    ----------
    source : FluctReport, mapping or sequence
        The network as :func:`brainhw.init.fluct_report` measured it, or spikes ``[T, N]`` or ``[T, B, N]`` of each
        layer: by name, such as the records of :func:`brainhw.rollout`, or in a list; whole numbers, zero or more. The
        ``dt`` of spikes is read from ``brainstate.environ``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: a dot for each neuron in ascending order, a bar for the mean of its layer, silent neurons at zero.

    Raises
    ------
    TypeError, ValueError
        If ``source`` is something else, is empty, or holds what are no spikes.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> spikes = {"hidden.spk": np.ones((50, 2, 3)), "out.spk": np.zeros((50, 2, 2))}
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     ax = bh.visualize.layer_rates(spikes)
    >>> ax.get_ylabel(), [tick.get_text() for tick in ax.get_xticklabels()]
    ('rate (Hz)', ['hidden', 'out'])
    """
    if isinstance(source, FluctReport):
        layers = [(f"{layer.index}", layer.rates.to(u.Hz).mantissa) for layer in source.layers]
    else:
        layers = _rates(source)
    ax = axes_or_new(ax, call="layer_rates")
    for place, (_, rates) in enumerate(layers, 1):
        across = place + np.linspace(-0.3, 0.3, len(rates)) if len(rates) > 1 else np.array([place])
        ax.scatter(across, np.sort(rates), s=4, color="C0", linewidths=0)
        ax.hlines(np.mean(rates), place - 0.35, place + 0.35, color="C1")
    ax.set_xticks(range(1, len(layers) + 1), [name for name, _ in layers])
    ax.set(xlabel="layer (bar: mean)", ylabel="rate (Hz)", xlim=(0.5, len(layers) + 0.5))
    bottom, top = ax.get_ylim()
    if bottom < top > 0:  # else it was turned, or ends below zero, by whoever gave the axes
        ax.set_ylim(bottom=-0.02 * top)
    return ax


def _rates(source: Any) -> list[tuple[str, np.ndarray]]:
    """Return a name and the rates in Hz for every layer of a mapping or a sequence of spikes."""
    if isinstance(source, Mapping):
        named = [(str(name).removesuffix(".spk") or "network", spikes) for name, spikes in source.items()]
    elif isinstance(source, (list, tuple)):
        named = [(f"{number}", spikes) for number, spikes in enumerate(source, 1)]
    else:
        raise TypeError(
            "layer_rates: source must be a FluctReport, or the spikes of each layer in a mapping or a list; got "
            f"{_arguments.describe(source)}. For one layer, pass [spikes]."
        )
    if not named:
        raise ValueError("layer_rates: source must hold the spikes of at least one layer; got none.")
    dt = _arguments.time_step(call="layer_rates").to(u.second).mantissa
    return [(name, _mean_rate(spikes, f"the spikes of layer {name}") / dt) for name, spikes in named]


def _mean_rate(spikes: Any, name: str) -> np.ndarray:
    """Return the spikes per step of every neuron."""
    array = np.asarray(_arguments.as_array(spikes, call="layer_rates", name=name))
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(
            f"layer_rates: {name} must have shape [T, N] or [T, B, N], none of them 0; got shape {array.shape}."
        )
    _arguments.check_finite(array, call="layer_rates", name=name)
    if np.any((array < 0) | (array != np.floor(array))):
        raise ValueError(
            f"layer_rates: {name} must be whole numbers of spikes, zero or more; got numbers from "
            f"{float(array.min()):g} to {float(array.max()):g}. Pass what was recorded from spk, not a membrane."
        )
    return array.reshape(-1, array.shape[-1]).mean(axis=0, dtype=float)
