"""Figures of spikes, membrane potentials and firing rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw.init import FluctReport
from brainhw.visualize.axes import axes_or_new, check_color, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_layer_rates", "plot_membrane", "plot_raster"]

_SHOWN = 3
# Smallest and largest diameter of a dot in points. The smallest dot is visible in a figure that is shrunk to half its
# size.
_DOTS = (2.6, 6.0)
_DOT_AREA = 12.0  # area of the dot for the rate of a neuron, in square points


def plot_raster(spikes: Any, *, ax: Axes | None = None, color: str = "C0", first: int = 0) -> Axes:
    """Plot one dot per spike against time (ms, horizontal) and neuron (vertical).

    Dots are larger if there are fewer neurons.

    Parameters
    ----------
    spikes : array
        Spikes of one sample, ``[T, N]``; ``dt`` is read from ``brainstate.environ``.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.
    color : str, optional
        Colour of the dots.
    first : int, optional
        Index at which the first neuron is plotted, to stack several layers in one figure. Default 0.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    TypeError, ValueError
        If ``spikes`` is not an array ``[T, N]``, or ``ax``, ``color`` or ``first`` is invalid.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> with brainstate.environ.context(dt=0.5 * u.ms):
    ...     ax = bh.visualize.plot_raster(np.eye(4))
    >>> ax.get_xlabel(), [float(edge) for edge in ax.get_xlim()]
    ('time (ms)', [0.0, 2.0])
    """
    spikes = np.asarray(_arguments.as_array(spikes, call="plot_raster", name="spikes"))
    if spikes.ndim != 2 or 0 in spikes.shape:
        raise ValueError(f"plot_raster: spikes must be [T, N], one sample; got shape {spikes.shape}.")
    _check_spikes(spikes, "plot_raster", "spikes")
    first = _arguments.whole_number(first, call="plot_raster", name="first", most=_arguments.LONGEST_AXIS)
    color = check_color(color, call="plot_raster")
    dt = _arguments.time_step(call="plot_raster").to(u.ms).mantissa
    from braintools.visualize import spike_raster

    steps, neurons = np.nonzero(spikes)
    ax = axes_or_new(ax, call="plot_raster")
    area = _dot_area(ax, first + spikes.shape[1], len(spikes))
    spike_raster(
        steps * dt, neurons + first, ax=ax, color=color, marker="o", markersize=area, linewidths=0, ylabel="neuron"
    )
    ax.set(xlabel="time (ms)", xlim=(0, len(spikes) * dt))
    return ax


def _dot_area(ax: Axes, n_neurons: int, n_steps: int) -> float:
    """Return a dot area, in square points, at which the dots of neighbouring neurons or steps do not merge."""
    box, points = ax.get_window_extent(), 72 / ax.figure.dpi
    room = points * min(0.9 * box.height / n_neurons, 2 * box.width / n_steps)
    return float(np.clip(room, *_DOTS)) ** 2


def plot_membrane(
    V: u.Quantity,
    *,
    V_pre: u.Quantity | None = None,
    V_th: u.Quantity | None = None,
    spikes: Any = None,
    neurons: int | Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot membrane potentials over time, with threshold and resets.

    With ``V_pre``, a vertical line shows each reset. The line connects the membrane potentials before and after the
    reset. A dot marks the upper end of the line. Step ``k`` is plotted at time ``k * dt``, as in :func:`plot_raster`;
    ``dt`` is read from ``brainstate.environ``.

    Parameters
    ----------
    V : Quantity
        Membrane potentials of one sample after the reset, ``[T]`` or ``[T, N]``, recorded by
        ``rollout(record=["hidden.V"])``.
    V_pre : Quantity, optional
        Membrane potentials before the reset, with the same shape as ``V``, recorded by
        ``rollout(record=["hidden.V_pre"])``.
    V_th : Quantity, optional
        Threshold, scalar or ``[N]``, for example ``net.hidden.threshold()``; drawn as a dashed line.
    spikes : array, optional
        Spikes, with the same shape as ``V``; drawn as dots. Default: the steps in which ``V_pre`` and ``V`` differ.
    neurons : int or sequence of int, optional
        Neurons to plot. Default: the first three.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: time in ms (horizontal), membrane potential in mV (vertical).

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong unit or shape, is not finite, or names a neuron that does not exist.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.LIFLayer(2, tau=10 * u.ms)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     _, seen = bh.rollout(layer, 0.3 * jnp.ones((40, 2)) * u.mV, record=("V", "V_pre"))
    ...     ax = bh.visualize.plot_membrane(seen["V"], V_pre=seen["V_pre"], V_th=layer.threshold())
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('time (ms)', 'membrane (mV)')
    """
    call = "plot_membrane"
    after = _membranes(V, "V")
    shape = after.shape
    before = after if V_pre is None else _membranes(V_pre, "V_pre", shape)
    n = shape[1] if len(shape) == 2 else 1
    theta = None
    if V_th is not None:
        theta = np.broadcast_to(_millivolts(V_th, "V_th", ((), (n,))), (n,))
    fired = before != after
    if spikes is not None:
        given = np.asarray(_arguments.as_array(spikes, call=call, name="spikes"))
        _check_spikes(given, call, "spikes")
        fired = given != 0
        if fired.shape != shape:
            raise ValueError(f"{call}: spikes must have the shape of V, {shape}; got shape {fired.shape}.")
    chosen = _neurons(neurons, n)
    dt = _arguments.time_step(call=call).to(u.ms).mantissa
    from braintools.visualize import line_plot

    ax = axes_or_new(ax, call=call)
    # The values before and after a reset are plotted at the same time, so that the vertical line between them shows the
    # reset.
    time = np.arange(len(after)) * dt
    before, after, fired = (array.reshape(len(time), n) for array in (before, after, fired))
    trace, at = (after, time) if V_pre is None else (np.stack([before, after], 1).reshape(-1, n), np.repeat(time, 2))
    colors = [f"C{i % 10}" for i in range(len(chosen))]
    # braintools returns only the axes. The new lines are those after the lines that existed before.
    had = len(ax.lines)
    line_plot(at, trace, plot_ids=chosen, ax=ax, colors=colors, xlabel="time (ms)", ylabel="membrane (mV)")
    shared = theta is not None and len({float(theta[neuron]) for neuron in chosen}) == 1
    for neuron, color, line in zip(chosen, colors, ax.lines[had:], strict=True):
        line.set_label(f"neuron {neuron}" if n > 1 else "membrane")
        # Without V_pre, the membrane potential at a spike is unknown, so the dot is drawn at the threshold.
        level = before[:, neuron]
        if V_pre is None and theta is not None:
            level = np.full(len(time), theta[neuron])
        when = fired[:, neuron]
        ax.plot(time[when], level[when], ".", color=color, markersize=5)
        if theta is not None and (not shared or neuron == chosen[0]):
            label = "threshold" if neuron == chosen[0] else None
            ax.axhline(theta[neuron], color="0.3" if shared else color, linestyle="--", linewidth=1, label=label)
    ax.set_xlim(0, len(time) * dt)
    legend_above(ax, ncols=5)
    return ax


def _millivolts(value: Any, name: str, shapes: Sequence[tuple[int, ...]] | None) -> np.ndarray:
    given = _arguments.quantity(value, u.mV, call="plot_membrane", name=name, shapes=shapes)
    return np.asarray(given.mantissa)


def _membranes(value: Any, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Check membrane potentials, and return them in mV, ``[T]`` or ``[T, N]``."""
    array = _millivolts(value, name, None if shape is None else (shape,))
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(f"plot_membrane: {name} must be [T] or [T, N], one sample; got shape {array.shape}.")
    return array


def _neurons(neurons: Any, n: int) -> list[int]:
    if neurons is None:
        return list(range(min(n, _SHOWN)))
    listed = isinstance(neurons, (list, tuple, range)) or (isinstance(neurons, np.ndarray) and neurons.ndim == 1)
    given = neurons if listed else [neurons]
    chosen = [_arguments.whole_number(neuron, call="plot_membrane", name="neurons") for neuron in given]
    if not chosen or max(chosen) >= n:
        raise ValueError(f"plot_membrane: neurons must be one or more indices from 0 to {n - 1}; got {neurons!r}.")
    return chosen


def plot_layer_rates(source: FluctReport | Mapping[str, Any] | Sequence[Any], *, ax: Axes | None = None) -> Axes:
    r"""Plot the output rate of every neuron, layer by layer.

    The rate of a neuron is :math:`\sum_{t,b} s_{tb} / (T B \Delta t)`. The average includes the padding of short
    recordings.

    Parameters
    ----------
    source : FluctReport, mapping or sequence
        The report of :func:`brainhw.init.fluct_report`, or the spikes of each layer, ``[T, N]`` or ``[T, B, N]``, as
        integers. Pass the spikes as a list, or as a mapping from names to spikes, such as the records of
        :func:`brainhw.rollout`. For spikes, ``dt`` is read from ``brainstate.environ``.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes. Each dot is a neuron. The neurons of a layer are sorted by rate, and silent neurons are at zero. A bar
        shows the mean rate of a layer.

    Raises
    ------
    TypeError, ValueError
        If ``source`` has the wrong type, is empty, or contains values that are not spikes.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> spikes = {"hidden.spk": np.ones((50, 2, 3)), "out.spk": np.zeros((50, 2, 2))}
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     ax = bh.visualize.plot_layer_rates(spikes)
    >>> ax.get_ylabel(), [tick.get_text() for tick in ax.get_xticklabels()]
    ('rate (Hz)', ['hidden', 'out'])
    """
    if isinstance(source, FluctReport):
        layers = [(f"{layer.index}", layer.rates.to(u.Hz).mantissa) for layer in source.layers]
    else:
        layers = _rates(source)
    ax = axes_or_new(ax, call="plot_layer_rates")
    for place, (_, rates) in enumerate(layers, 1):
        across = place + np.linspace(-0.3, 0.3, len(rates)) if len(rates) > 1 else np.array([place])
        ax.scatter(across, np.sort(rates), s=_DOT_AREA, color="C0", linewidths=0)
        ax.hlines(np.mean(rates), place - 0.35, place + 0.35, color="C1", linewidth=2)
    ax.set_xticks(range(1, len(layers) + 1), [name for name, _ in layers])
    ax.set(xlabel="layer (bar: mean)", ylabel="rate (Hz)", xlim=(0.5, len(layers) + 0.5))
    bottom, top = ax.get_ylim()
    # Do not change an axis that the caller inverted, or whose upper end is below zero.
    if bottom < top > 0:
        ax.set_ylim(bottom=-0.02 * top)
    return ax


def _rates(source: Any) -> list[tuple[str, np.ndarray]]:
    """Return the name and the rates in Hz of each layer of a mapping or a sequence of spikes."""
    if isinstance(source, Mapping):
        named = [(str(name).removesuffix(".spk") or "network", spikes) for name, spikes in source.items()]
    elif isinstance(source, (list, tuple)):
        named = [(f"{number}", spikes) for number, spikes in enumerate(source, 1)]
    else:
        raise TypeError(
            "plot_layer_rates: source must be a FluctReport, or the spikes of each layer in a mapping or a list; got "
            f"{_arguments.describe(source)}. For one layer, pass [spikes]."
        )
    if not named:
        raise ValueError("plot_layer_rates: source must contain the spikes of at least one layer; got none.")
    dt = _arguments.time_step(call="plot_layer_rates").to(u.second).mantissa
    return [(name, _mean_rate(spikes, f"the spikes of layer {name}") / dt) for name, spikes in named]


def _mean_rate(spikes: Any, name: str) -> np.ndarray:
    """Return the mean spike count per step of each neuron."""
    array = np.asarray(_arguments.as_array(spikes, call="plot_layer_rates", name=name))
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(
            f"plot_layer_rates: {name} must have shape [T, N] or [T, B, N], not empty; got shape {array.shape}."
        )
    _check_spikes(array, "plot_layer_rates", name)
    return array.reshape(-1, array.shape[-1]).mean(axis=0, dtype=float)


def _check_spikes(array: np.ndarray, call: str, name: str) -> None:
    _arguments.check_finite(array, call=call, name=name)
    if np.any((array < 0) | (array != np.floor(array))):
        raise ValueError(
            f"{call}: {name} must be spike counts (integers, zero or more); got values from "
            f"{float(array.min()):g} to {float(array.max()):g}. Pass the recorded spikes (spk), not V."
        )
