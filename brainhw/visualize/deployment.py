"""Figures of a network on its chip: placement on cores, energy, and robustness."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._drawn import draws
from brainhw.deploy import Piece, Placement, PowerReport, RobustnessReport
from brainhw.visualize.axes import axes_or_new, check_color, check_report, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle
    from matplotlib.text import Annotation, Text

__all__ = ["plot_placement", "plot_power", "plot_robustness"]


@draws(Placement)
def plot_placement(placement: Placement, *, ax: Axes | None = None) -> Axes:
    """Plot the cores of a chip, drawn to scale, with the layers on them.

    Each layer has its own colour, and free neurons are pale grey. If a block is too small for the name of its layer,
    the name is shown in a legend to the right of the cores.

    Parameters
    ----------
    placement : Placement
        From :func:`brainhw.deploy.place`.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure, which is wider for more cores. Create your own figure with
        ``layout="constrained"``, so that it has room for the legend.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: cores (horizontal), their neurons (vertical).

    Raises
    ------
    TypeError
        If ``placement`` has the wrong type.

    Examples
    --------
    >>> import brainhw as bh
    >>> from brainhw.deploy.placement import Need, place_layers
    >>> where = place_layers(bh.chip.H1V1, [Need("ears", 16, frontend=True), Need("out", 50)])
    >>> ax = bh.visualize.plot_placement(where)
    >>> ax.get_title()
    'H1v1: 66 of 256 neurons on 2 of 4 cores'
    """
    check_report(placement, Placement, call="plot_placement", source="brainhw.deploy.place", name="placement")
    from matplotlib import pyplot as plt

    cores, sizes = placement.chip.cores, placement.layers
    ax = axes_or_new(ax, call="plot_placement", figsize=(1.5 + 1.5 * len(cores), 4.8))
    # For more layers than the ten colours of the palette, hues advance by the golden ratio. Then neighbouring layers
    # differ, and no hue occurs twice.
    many = len(sizes) > 10
    shades = plt.get_cmap("hsv" if many else "tab10")
    picked = [shades(0.618034 * index % 1.0 if many else index) for index in range(len(sizes))]
    # Mix the colours with white, so that black names are readable on them.
    colors = {layer: tuple(0.5 + 0.5 * c for c in shade[:3]) for layer, shade in zip(sizes, picked, strict=True)}
    blocks: list[_Block] = []
    for piece in placement.pieces:
        (bar,) = ax.bar(piece.core, piece.count, 0.9, piece.offset, color=colors[piece.layer], edgecolor="0.2")
        blocks.append(_Block(bar, *_words(piece, sizes[piece.layer])))
    for core, first, count in _free_runs(placement):
        (bar,) = ax.bar(core, count, 0.9, first, color="0.96", edgecolor="0.7", linestyle="--")
        blocks.append(_Block(bar, (f"{count} free",)))
    # The number of free neurons is also written below each core, because a small block has no room for text.
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
    """A rectangle of the plot, the texts that may be written into it, and texts for a block that is too small."""

    bar: Rectangle
    words: tuple[str, ...]
    legend: str = ""
    short: str = ""


def _words(piece: Piece, size: int) -> tuple[tuple[str, ...], str, str]:
    """Return the texts that may be written into a block, in order of preference.

    Also return a text for the legend and a short text for the block, which are used if the block is too small.
    """
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
    """Yield the core, the first neuron and the length of each range of free neurons."""
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
    """Write a text into each block that is large enough, and put the names of the other layers into a legend."""
    texts = []
    for bar, *_ in blocks:
        x, y = bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height() / 2
        texts.append(ax.text(x, y, "", ha="center", va="center", fontsize=8))
    named: dict[str, Rectangle] = {}
    while True:
        # Text sizes are known only after drawing. A legend makes the blocks narrower, so more names may have to move to
        # the legend.
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


_COLORS = {"core": "C0", "frontend": "C2", "spike": "C1", "event": "C4"}
# If a bar is shorter than this fraction of the longest bar, the axis is logarithmic, because a linear axis would not
# show the bar.
_SHORTEST = 0.05
_MARGIN = 14.0  # margin around the text beside a bar, in pixels


@draws(PowerReport)
def plot_power(report: PowerReport, *, ax: Axes | None = None) -> Axes:
    """Plot the energy of each core, layer and frontend in one inference.

    Each bar is a row of the table that ``print(report)`` shows. The axis is logarithmic if a bar is shorter than a
    twentieth of the longest bar. For each colour, the legend shows the coefficient and its provenance: documented,
    measured or assumed.

    Parameters
    ----------
    report : PowerReport
        From :func:`brainhw.deploy.estimate_power`.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure, which is higher for more bars.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: energy per inference in uJ (horizontal), and one bar for each row of the table, in the same order.

    Raises
    ------
    TypeError
        If ``report`` has the wrong type.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(3, 2), bh.nn.H1v2Layer(2, tau=10 * u.ms))
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     ax = bh.visualize.plot_power(bh.deploy.estimate_power(net, jnp.ones((100, 1, 3))))
    >>> print(ax.get_xlabel())
    energy per inference (uJ), coefficients assumed
    """
    check_report(report, PowerReport, call="plot_power", source="brainhw.deploy.estimate_power")
    ax = axes_or_new(ax, call="plot_power", figsize=(6.4, 1.9 + 0.32 * len(report.costs)))
    energies = [float(cost.energy.to(u.ujoule).mantissa) for cost in report.costs]
    total = float(report.energy.to(u.ujoule).mantissa)
    named: set[str] = set()
    texts: list[Annotation] = []
    for place, (cost, energy) in enumerate(zip(report.costs, energies, strict=True)):
        value = getattr(report.chip, cost.coefficient)
        provenance = report.chip.provenance[cost.coefficient]
        label = f"{cost.coefficient.replace('_', ' ')} {value.mantissa:g} {u.get_unit(value)} ({provenance})"
        ax.barh(place, energy, color=_COLORS[cost.kind], label=None if label in named else label)
        named.add(label)
        share = 100 * energy / total if total else 0.0
        words = f"{energy:.3g} uJ, {share:.2g} %"
        texts.append(ax.annotate(words, (energy, place), (4, 0), textcoords="offset points", va="center"))
    ax.set_yticks(range(len(energies)), [cost.part for cost in report.costs])
    provenances = ", ".join(dict.fromkeys(report.chip.provenance[cost.coefficient] for cost in report.costs))
    ax.set_ylim(len(energies) - 0.5, -0.5)
    _energy_axis(ax, energies, texts)
    ax.set_xlabel(f"energy per inference (uJ), coefficients {provenances}")
    time = f"one inference of {report.duration.mantissa:g} {u.get_unit(report.duration)}"
    ax.set_title(f"{report.chip.name}: {total:.4g} uJ for {time}, {report.power.mantissa:.4g} uW", fontsize="medium")
    # The distance is in points, so that the legend does not cover the axis label at any height of the figure.
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=5, ncols=2)
    return ax


def _energy_axis(ax: Axes, energies: list[float], texts: list[Annotation]) -> None:
    """Set scale and limits of the energy axis, with room for the texts beside the bars."""
    positive = [energy for energy in energies if energy > 0] or [1.0]
    log = min(positive) < _SHORTEST * max(positive)
    first = min(positive) / 10**0.5 if log else 0.0
    if log:
        ax.set_xscale("log")
    # The width of a text is known only after drawing.
    ax.figure.canvas.figure.draw_without_rendering()
    width = ax.get_window_extent().width
    reach = max(positive) / first if log else max(positive)
    for text, energy in zip(texts, energies, strict=True):
        left = max(0.2, 1 - (text.get_window_extent().width + _MARGIN) / width)
        if energy > 0:
            reach = max(reach, (energy / first) ** (1 / left) if log else energy / left)
        elif log:
            # A logarithmic axis has no zero, so the text is placed at the left end of the axis.
            text.xy, text.xycoords = (0, text.xy[1]), ax.get_yaxis_transform()
    ax.set_xlim(first, first * reach if log else reach)


@draws(RobustnessReport)
def plot_robustness(
    report: RobustnessReport,
    *,
    ax: Axes | None = None,
    label: str | None = None,
    color: str = "C0",
    linestyle: str = "-",
) -> Axes:
    """Plot the yield: the fraction of sampled chips that reaches each score.

    The curve falls from 1 at the score of the worst chip to 0 above the score of the best chip. A triangle and a thin
    line mark the score of the nominal chip. A dot marks the score that 95 % of the chips reach. To compare networks,
    call the function again with the same axes.

    Parameters
    ----------
    report : RobustnessReport
        From :func:`brainhw.deploy.robustness`.
    ax : matplotlib.axes.Axes, optional
        Axes to plot on. Default: a new figure.
    label : str, optional
        Name for the legend.
    color : str, optional
        Colour of the curve.
    linestyle : str, optional
        ``'-'`` (default), ``'--'``, ``'-.'`` or ``':'``, to tell curves apart without colours.

    Returns
    -------
    matplotlib.axes.Axes
        The axes: score (horizontal), fraction of chips (vertical).

    Raises
    ------
    TypeError, ValueError
        If ``report`` has the wrong type, or ``label``, ``color``, ``linestyle`` or ``ax`` is invalid.

    Examples
    --------
    >>> import brainhw as bh, jax, numpy as np
    >>> report = bh.deploy.RobustnessReport(np.array([0.9, 0.92]), jax.random.split(jax.random.key(0), 2), 0.93)
    >>> bh.visualize.plot_robustness(report).get_ylabel()
    'fraction of chips with at least this score'
    """
    check_report(report, RobustnessReport, call="plot_robustness", source="brainhw.deploy.robustness")
    if label is not None:
        _arguments.text(label, call="plot_robustness", name="label")
    color = check_color(color, call="plot_robustness")
    linestyle = _arguments.choice(linestyle, ("-", "--", "-.", ":"), call="plot_robustness", name="linestyle")
    ax = axes_or_new(ax, call="plot_robustness")
    scores = np.sort(report.scores)
    # Add points just outside of the scores, so that the curve starts at 1 and ends at 0 even if all scores are equal.
    reach = np.concatenate([scores[:1] - 1e-9, scores, scores[-1:] + 1e-9])
    share = np.concatenate([[1.0], 1 - np.arange(len(scores) + 1) / len(scores)])
    words = f"mean {report.mean:.3f}, 5 % quantile {report.quantile(0.05):.3f}, nominal {report.nominal:.3f}"
    words = words if label is None else f"{label}: {words}"
    ax.step(reach, share, where="pre", color=color, linestyle=linestyle, linewidth=1.8, label=words)
    ax.plot(report.quantile(0.05), 0.95, "o", color=color, markersize=5)
    ax.axvline(report.nominal, color=color, linewidth=1, alpha=0.5)
    # The triangle is on the axis, where it covers no curve.
    ax.plot(report.nominal, 0, "^", color=color, markersize=7, clip_on=False, zorder=3)
    ax.set(xlabel="score (triangle: nominal chip)", ylabel="fraction of chips with at least this score", ylim=(0, 1.02))
    legend_above(ax)
    return ax
