"""Spikes and membranes over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw.visualize.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["membrane", "raster"]

_SHOWN = 3


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
    TypeError, ValueError
        If ``spikes`` is no array ``[T, N]``, or another argument is bad.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> with brainstate.environ.context(dt=0.5 * u.ms):
    ...     ax = bh.visualize.raster(np.eye(4))
    >>> ax.get_xlabel(), [float(edge) for edge in ax.get_xlim()]
    ('time (ms)', [0.0, 2.0])
    """
    spikes = np.asarray(_arguments.as_array(spikes, call="raster", name="spikes"))
    if spikes.ndim != 2:
        raise ValueError(f"raster: spikes must be [T, N], one sample; got shape {spikes.shape}.")
    first = _arguments.whole_number(first, call="raster", name="first")
    dt = _arguments.time_step(call="raster").to(u.ms).mantissa
    from braintools.visualize import spike_raster

    steps, neurons = np.nonzero(spikes)
    ax = axes_or_new(ax, call="raster")
    spike_raster(
        steps * dt, neurons + first, ax=ax, color=color, marker="o", markersize=3, linewidths=0, ylabel="neuron"
    )
    ax.set(xlabel="time (ms)", xlim=(0, len(spikes) * dt))
    return ax


def membrane(
    V: u.Quantity,
    *,
    V_pre: u.Quantity | None = None,
    V_th: u.Quantity | None = None,
    spikes: Any = None,
    neurons: int | Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw membranes over time, with their threshold and what each spike does to them.

    With ``V_pre`` a reset is a vertical line from the membrane before it to the one after it, and a dot stands at its
    upper end. Step ``k`` stands at ``k`` times the ``dt`` of ``brainstate.environ``, as in :func:`raster`.

    Parameters
    ----------
    V : Quantity
        Membranes of one sample after the reset, voltage, ``[T]`` or ``[T, N]``: what ``rollout(record=["hidden.V"])``
        records.
    V_pre : Quantity, optional
        Membranes before the reset, same shape: what ``record=["hidden.V_pre"]`` records.
    V_th : Quantity, optional
        Threshold, scalar or ``[N]``, for example ``net.hidden.threshold()``; drawn as a dashed line.
    spikes : array, optional
        Spikes, same shape as ``V``; where they are not zero a dot is drawn. Default: where ``V_pre`` and ``V`` differ.
    neurons : int or sequence of int, optional
        Which to draw. Default the first three.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: time in ms across, membrane in mV upwards.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong unit or shape, is not finite, or names a neuron that there is not.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.LIFLayer(2, tau=10 * u.ms)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     _, seen = bh.rollout(layer, 0.3 * jnp.ones((40, 2)) * u.mV, record=("V", "V_pre"))
    ...     ax = bh.visualize.membrane(seen["V"], V_pre=seen["V_pre"], V_th=layer.threshold())
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('time (ms)', 'membrane (mV)')
    """
    call = "membrane"
    after = _membranes(V, "V")
    shape = after.shape
    before = after if V_pre is None else _membranes(V_pre, "V_pre", shape)
    n = shape[1] if len(shape) == 2 else 1
    theta = None
    if V_th is not None:
        theta = np.broadcast_to(_millivolts(V_th, "V_th", ((), (n,))), (n,))
    fired = before != after
    if spikes is not None:
        fired = np.asarray(_arguments.as_array(spikes, call=call, name="spikes")) != 0
        if fired.shape != shape:
            raise ValueError(f"{call}: spikes must have the shape of V, {shape}; got shape {fired.shape}.")
    chosen = _neurons(neurons, n)
    dt = _arguments.time_step(call=call).to(u.ms).mantissa
    from braintools.visualize import line_plot

    ax = axes_or_new(ax, call=call)
    time = np.arange(len(after)) * dt
    before, after, fired = (array.reshape(len(time), n) for array in (before, after, fired))
    trace, at = (after, time) if V_pre is None else (np.stack([before, after], 1).reshape(-1, n), np.repeat(time, 2))
    colors = [f"C{i % 10}" for i in range(len(chosen))]
    had = len(ax.lines)
    line_plot(at, trace, plot_ids=chosen, ax=ax, colors=colors, xlabel="time (ms)", ylabel="membrane (mV)")
    shared = theta is not None and len({float(theta[neuron]) for neuron in chosen}) == 1
    for neuron, color, line in zip(chosen, colors, ax.lines[had:], strict=True):
        line.set_label(f"neuron {neuron}" if n > 1 else "membrane")
        level = before[:, neuron]
        if V_pre is None and theta is not None:
            level = np.full(len(time), theta[neuron])
        when = fired[:, neuron]
        ax.plot(time[when], level[when], ".", color=color, markersize=5)
        if theta is not None and (not shared or neuron == chosen[0]):
            label = "threshold" if neuron == chosen[0] else None
            ax.axhline(theta[neuron], color="0.3" if shared else color, linestyle="--", linewidth=1, label=label)
    ax.set_xlim(0, len(time) * dt)
    # Above the axes, because the membranes may be anywhere inside.
    ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=5)
    return ax


def _millivolts(value: Any, name: str, shapes: Sequence[tuple[int, ...]] | None) -> np.ndarray:
    given = _arguments.quantity(value, u.mV, call="membrane", name=name, shapes=shapes)
    return np.asarray(given.mantissa)


def _membranes(value: Any, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return membranes in mV, ``[T]`` or ``[T, N]``, or raise."""
    array = _millivolts(value, name, None if shape is None else (shape,))
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(f"membrane: {name} must be [T] or [T, N], one sample; got shape {array.shape}.")
    return array


def _neurons(neurons: Any, n: int) -> list[int]:
    if neurons is None:
        return list(range(min(n, _SHOWN)))
    given = neurons if isinstance(neurons, (list, tuple, range, np.ndarray)) else [neurons]
    chosen = [_arguments.whole_number(neuron, call="membrane", name="neurons") for neuron in given]
    if not chosen or max(chosen) >= n:
        raise ValueError(f"membrane: neurons must be numbers from 0 to {n - 1}, at least one; got {neurons!r}.")
    return chosen
