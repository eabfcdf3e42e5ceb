"""Figures that people of the field expect; each draws on ``ax`` and returns it, and works without a screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import brainstate
import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw.deploy.placement import Piece, Placement
from brainhw.init import FluctReport, LayerReport
from brainhw.nn import chip_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.text import Text

__all__ = [
    "fluct_report",
    "layer_rates",
    "membrane_distribution",
    "placement",
    "raster",
    "response",
    "weight_histogram",
]


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


def _checked(report: Any, kind: type, call: str) -> None:
    if not isinstance(report, kind):
        raise TypeError(
            f"{call}: report must be a {kind.__name__}, from brainhw.init.fluct_report or "
            f"fluct_init(..., return_report=True); got {_arguments.describe(report)}."
        )


def membrane_distribution(report: LayerReport, *, ax: Axes | None = None, bins: int = 80) -> Axes:
    """Draw how the sub-threshold membranes of a layer are distributed, against threshold.

    Parameters
    ----------
    report : LayerReport
        One layer of a :class:`brainhw.init.FluctReport`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure.
    bins : int, optional
        Number of bins. Default 80.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: membranes in units of their own threshold; shaded, where a spike would be.

    Raises
    ------
    TypeError
        If ``report`` is something else.
    """
    _checked(report, LayerReport, "membrane_distribution")
    theta = report.threshold.to(u.mV).mantissa
    values = (report.membrane_sample.to(u.mV).mantissa / theta).ravel()
    ax = _axes(ax)
    reach = max(1.5, 1.1 * float(np.quantile(np.abs(values), 0.999)))
    ax.hist(values.clip(-reach, reach), np.linspace(-reach, reach, bins + 1).tolist(), density=True, color="C0")
    ax.axvspan(1, reach, color="C3", alpha=0.15, linewidth=0)
    ax.axvline(1, color="C3", linestyle="--", linewidth=1)
    low, high = report.xi_quartiles
    ax.set_title(f"ξ = {report.xi_median:.2f} ({low:.2f} to {high:.2f}), {report.dead} silent", fontsize="medium")
    ax.set(xlabel="membrane without spikes (V_th)", ylabel="density", xlim=(-reach, reach))
    return ax


def response(report: LayerReport, *, ax: Axes | None = None) -> Axes:
    """Draw the membrane after one input spike per unit of weight: the mean over neurons, and their range.

    Parameters
    ----------
    report : LayerReport
        One layer of a :class:`brainhw.init.FluctReport`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, as long as 99 % of the response.

    Raises
    ------
    TypeError
        If ``report`` is something else.
    """
    _checked(report, LayerReport, "response")
    kernel = report.response.to(u.mV).mantissa
    share = np.cumsum(np.abs(kernel).mean(axis=1))
    kernel = kernel[: 1 + int(np.searchsorted(share, 0.99 * share[-1]))]
    time = np.arange(len(kernel)) * report.dt.to(u.ms).mantissa
    ax = _axes(ax)
    ax.fill_between(time, kernel.min(axis=1), kernel.max(axis=1), color="C0", alpha=0.3, linewidth=0)
    ax.plot(time, kernel.mean(axis=1), color="C0")
    per = "" if np.isfinite(report.weight_limit) else "/mV"
    ax.set(xlabel="time (ms)", ylabel=f"response (mV per weight{per})", ylim=(min(0.0, 1.05 * kernel.min()), None))
    return ax


def layer_rates(report: FluctReport, *, ax: Axes | None = None) -> Axes:
    """Draw the output rate of every neuron, layer by layer.

    Parameters
    ----------
    report : FluctReport
        The network.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: a dot for each neuron, a bar for the mean of its layer, silent neurons at zero.

    Raises
    ------
    TypeError
        If ``report`` is something else.
    """
    _checked(report, FluctReport, "layer_rates")
    ax = _axes(ax)
    for layer in report.layers:
        rates = np.sort(layer.rates.to(u.Hz).mantissa)
        across = layer.index + np.linspace(-0.3, 0.3, len(rates))
        ax.scatter(across, rates, s=4, color="C0", linewidths=0)
        ax.hlines(rates.mean(), layer.index - 0.35, layer.index + 0.35, color="C1")
    ax.set(xlabel="layer", ylabel="rate (Hz)", xticks=[layer.index for layer in report.layers])
    ax.set_ylim(bottom=-0.02 * ax.get_ylim()[1])
    return ax


def fluct_report(report: FluctReport) -> Figure:
    """Draw a network on its data: each layer's response to a spike and membranes against threshold, and all rates.

    Parameters
    ----------
    report : FluctReport
        From :func:`brainhw.init.fluct_report`, or ``fluct_init(..., return_report=True)``.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    TypeError
        If ``report`` is something else.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> net = brainstate.nn.Sequential(bh.nn.LIFSynapse(32, 20), bh.nn.LIFLayer(20, tau=20 * u.ms))
    >>> x = (np.random.default_rng(0).random((8, 100, 32)) < 0.1).astype(np.float32)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     figure = bh.visualize.fluct_report(bh.init.fluct_report(net, [x]))
    >>> len(figure.axes)
    3
    """
    _checked(report, FluctReport, "fluct_report")
    from matplotlib import pyplot as plt

    n = len(report.layers)
    figure = plt.figure(figsize=(9, 1 + 2.2 * n), layout="constrained")
    grid = figure.add_gridspec(n, 3, width_ratios=(2, 3, 2))
    for row, layer in enumerate(report.layers):
        left = response(layer, ax=figure.add_subplot(grid[row, 0]))
        left.set_title(f"layer {layer.index}: {layer.n_neurons} {layer.family}", fontsize="medium")
        membrane_distribution(layer, ax=figure.add_subplot(grid[row, 1]))
    layer_rates(report, ax=figure.add_subplot(grid[:, 2]))
    return figure


def placement(placement: Placement, *, ax: Axes | None = None) -> Axes:
    """Draw the cores of a chip to scale, and which layers lie on them.

    One colour is one layer; what is pale grey is free. A name that is wider or higher than its block, at the size that
    the figure has now, stands in a legend right of the cores instead.

    Parameters
    ----------
    placement : Placement
        From :func:`brainhw.deploy.place`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure, wider for more cores. A figure of your own makes room for the legend if
        it has ``layout="constrained"``.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: cores across, their neurons upwards.

    Raises
    ------
    TypeError
        If ``placement`` is something else.

    Examples
    --------
    >>> import brainhw as bh
    >>> from brainhw.deploy.placement import Need, place_layers
    >>> where = place_layers(bh.chip.H1V1, [Need("ears", 16, frontend=True), Need("out", 50)])
    >>> ax = bh.visualize.placement(where)
    >>> ax.get_title()
    'H1v1: 66 of 256 neurons on 2 of 4 cores'
    """
    if not isinstance(placement, Placement):
        raise TypeError(
            f"placement: placement must be a Placement, from brainhw.deploy.place; got "
            f"{_arguments.describe(placement)}."
        )
    from matplotlib import pyplot as plt

    cores, sizes = placement.chip.cores, placement.layers
    if ax is None:
        ax = plt.subplots(figsize=(1.5 + 1.5 * len(cores), 4.8), layout="constrained")[1]
    # Past the ten of a palette hues go around by the golden ratio: neighbours differ, and none comes back.
    many = len(sizes) > 10
    shades = plt.get_cmap("hsv" if many else "tab10")
    picked = [shades(0.618034 * index % 1.0 if many else index) for index in range(len(sizes))]
    # Pale, so that a name can be read on them.
    colors = {layer: tuple(0.5 + 0.5 * c for c in shade[:3]) for layer, shade in zip(sizes, picked, strict=True)}
    blocks: list[_Block] = []
    for piece in placement.pieces:
        (bar,) = ax.bar(piece.core, piece.count, 0.9, piece.offset, color=colors[piece.layer], edgecolor="0.2")
        blocks.append(_Block(bar, *_words(piece, sizes[piece.layer])))
    for core, first, count in _free_runs(placement):
        (bar,) = ax.bar(core, count, 0.9, first, color="0.96", edgecolor="0.7", linestyle="--")
        blocks.append(_Block(bar, (f"{count} free",)))
    ticks = [f"core {core}\n{cores[core]} neurons\n{free} free" for core, free in enumerate(placement.free)]
    ax.set_xticks(range(len(cores)), ticks)
    ax.set(ylabel="neuron of the core", xlim=(-0.6, len(cores) - 0.4), ylim=(0, max(cores)))
    used = f"{sum(sizes.values())} of {placement.chip.n_neurons} neurons"
    ax.set_title(
        f"{placement.chip.name}: {used} on {len(placement.cores_used)} of {len(cores)} cores", fontsize="medium"
    )
    _label(ax, blocks)
    return ax


class _Block(NamedTuple):
    bar: Rectangle
    words: tuple[str, ...]
    legend: str = ""
    short: str = ""


def _words(piece: Piece, size: int) -> tuple[tuple[str, ...], str, str]:
    """Return what may stand in a block, best first, and what in the legend and the block if none of it fits."""
    kind = {"frontend": ", frontend", "RC": ", RC"}.get(piece.kind, "")
    count = f"{piece.count}" if piece.count == size else f"{piece.count} of {size}"
    note = "(assumed place)" if piece.kind == "frontend" else ""
    stacked = "\n".join(filter(None, (piece.layer, count + kind, note)))
    return (
        (stacked, f"{piece.layer}: {count}{kind} {note}".strip()),
        f"{piece.layer}: {size}{kind} {note}".strip(),
        count,
    )


def _free_runs(placement: Placement) -> Iterator[tuple[int, int, int]]:
    """Yield core, first neuron and number of the free neurons beside each other."""
    for core, room in enumerate(placement.chip.cores):
        first = 0
        for piece in placement.pieces:
            if piece.core == core:
                if piece.offset > first:
                    yield core, first, piece.offset - first
                first = piece.offset + piece.count
        if room > first:
            yield core, first, room - first


def _label(ax: Axes, blocks: list[_Block]) -> None:
    """Write into each block what fits, and the names that do not into a legend."""
    texts = []
    for bar, *_ in blocks:
        x, y = bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height() / 2
        texts.append(ax.text(x, y, "", ha="center", va="center", fontsize=8))
    named: dict[str, Rectangle] = {}
    while True:
        # A legend makes the blocks narrower, so that more names may have to go there.
        ax.figure.canvas.figure.draw_without_rendering()
        missing = {}
        for block, text in zip(blocks, texts, strict=True):
            if not _fits(text, block.bar, block.words):
                _fits(text, block.bar, (block.short,))
                if block.legend and block.legend not in named:
                    missing[block.legend] = block.bar
        if not missing:
            return
        named |= missing
        columns = -(-len(named) // 24)
        ax.legend(named.values(), named, loc="upper left", bbox_to_anchor=(1, 1), ncols=columns, fontsize=8)


def _fits(text: Text, bar: Rectangle, words: tuple[str, ...]) -> bool:
    room = bar.get_window_extent()
    for word in words:
        text.set_text(word)
        needed = text.get_window_extent()
        if needed.width <= room.width and needed.height <= room.height:
            return True
    text.set_text("")
    return False
