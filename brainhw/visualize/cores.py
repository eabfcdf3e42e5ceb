"""Layers on the cores of a chip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from brainhw.deploy import Piece, Placement
from brainhw.visualize.axes import axes_or_new, check_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle
    from matplotlib.text import Text

__all__ = ["placement"]


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
    check_report(placement, Placement, call="placement", source="brainhw.deploy.place", name="placement")
    from matplotlib import pyplot as plt

    cores, sizes = placement.chip.cores, placement.layers
    if ax is None:
        ax = plt.subplots(figsize=(1.5 + 1.5 * len(cores), 4.8), layout="constrained")[1]
    ax = axes_or_new(ax, call="placement")
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
