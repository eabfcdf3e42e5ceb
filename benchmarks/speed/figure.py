"""Draw the results of ``run``, with one dot for each library, case and size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.speed.cases import CASES, is_timed, sizes_of
from benchmarks.speed.measure import MODES
from benchmarks.speed.report import FLOOR, OURS, TITLES

__all__ = ["draw"]

CASE_WORDS = {
    "lif_ff": "LIF, feed-forward",
    "lif_rc": "LIF, recurrent",
    "h1v1": "H1v1, recurrent",
    "h1v2": "H1v2, recurrent",
    "alif": "Adaptive LIF, recurrent",
    "fractional": "Fractional LIF, full memory",
}
READOUTS = {"readout": "LIF", "readout_h1v1": "H1v1", "readout_h1v2": "H1v2"}
READOUT_WORDS = "Recurrent layer and leaky readout"
"""Title of the row of panels that all cases with a readout share."""
NAMES = {
    "brainpy": "BrainPy",
    "jax": "JAX by hand",
    "jax_ahead": "JAX, matrix products first",
    "norse": "Norse",
    "products": "matrix products only",
    "rockpool": "Rockpool",
    "snntorch": "snnTorch",
    "snntorch_immediate": "snnTorch, immediate reset",
    "spikede": "spikeDE",
    "spikingjelly": "SpikingJelly",
    "spyx": "Spyx",
    "spyx_ahead": "Spyx, matrix products first",
}
BLUE, GREY, PALE = "#0b5394", "0.35", "0.72"
WIDTH, LINE, HEAD, FOOT = 9.0, 0.185, 0.55, 0.45
"""Sizes in inches: width of the figure, and height of a library, of the titles of a row, and of the axis below it."""


class Panel(NamedTuple):
    """A panel of the figure: one case at one size."""

    case: str
    size: str
    title: str


def draw(content: Mapping[str, Any], path: Path, modes: Iterable[str] = MODES) -> None:
    """Draw a row of panels for each case, a panel for each size, and a row of dots for each library.

    Times are in milliseconds on logarithmic axes. In all panels of a mode brainhw is at the same position, so distances
    from it show ratios that can be compared between panels. The number beside a dot is the ratio to the time of
    brainhw.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = {(r["mode"], r["case"], r["size"], r["adapter"]): r for r in content["results"] if r.get("mode") in modes}
    if not found:
        raise ValueError("figure: the file contains no measurement of these modes.")
    order = sorted(content["adapters"], key=lambda name: (name != OURS, name == FLOOR))
    shown = [mode for mode in MODES if any(key[0] == mode for key in found)]
    rows = {mode: _rows({key[1:3] for key in found if key[0] == mode}) for mode in shown}
    names = {
        (mode, title): [n for n in order if any((mode, p.case, p.size, n) in found for p in panels)]
        for mode in shown
        for title, panels in rows[mode].items()
    }
    heights = [HEAD + FOOT + LINE * len(libraries) for libraries in names.values()]
    figure = plt.figure(figsize=(WIDTH, sum(heights) + 0.3), layout="constrained")
    figure.suptitle("Median time in milliseconds; ratios to brainhw", fontsize=10)
    blocks = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    reach = {mode: _reach(found, mode) for mode in shown}
    for ((mode, title), libraries), block in zip(names.items(), blocks, strict=True):
        panels = rows[mode][title]
        words = title if len(shown) == 1 else f"{title}: {TITLES[mode]}"
        block.suptitle(words, fontsize=10, fontweight="bold", x=0.01, ha="left")
        # Use three columns in every row, so that all panels have the same width. The last ones may be empty.
        axes = block.subplots(1, max(3, len(panels)), squeeze=False)[0]
        for ax, panel in zip(axes, panels, strict=False):
            _panel(ax, panel, {n: found.get((mode, panel.case, panel.size, n)) for n in libraries}, reach[mode])
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        _names(axes[0], libraries)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _rows(measured: set[tuple[str, str]]) -> dict[str, list[Panel]]:
    """Return the panels of each row, with the title of the row as key."""
    rows: dict[str, list[Panel]] = {}
    for case in CASES:
        for size in sizes_of(case):
            if (case, size) not in measured:
                continue
            alone = case in READOUTS and is_timed(size)
            title = READOUT_WORDS if alone else CASE_WORDS.get(case, case)
            dims = sizes_of(case)[size]
            layers = "-".join(f"{n}" for n in (dims.n_in, dims.n, dims.n_out) if n)
            words = READOUTS[case] if alone else size
            rows.setdefault(title, []).append(
                Panel(case, size, f"{words}: {dims.T} steps, batch {dims.B}, {layers}".removeprefix(f"T{dims.T}: "))
            )
    return rows


def _reach(found: Mapping[tuple[str, str, str, str], Mapping[str, Any]], mode: str) -> tuple[float, float]:
    """Return the limits of the axes as multiples of the reference time of each panel, with space for the numbers."""
    ratios = [1.0]
    for (one, case, size, _), record in found.items():
        if one == mode:
            reference = _reference({key[3]: r for key, r in found.items() if key[:3] == (mode, case, size)})
            ratios.append(record["median_ms"] / reference)
    return min(ratios) / 3, max(ratios) * 3


def _reference(records: Mapping[str, Mapping[str, Any] | None]) -> float:
    """Return the time of brainhw, or the shortest time if brainhw was not measured."""
    times = {name: record["median_ms"] for name, record in records.items() if record is not None}
    return times.get(OURS, min(times.values()))


def _panel(ax: Any, panel: Panel, records: Mapping[str, Mapping[str, Any] | None], reach: tuple[float, float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    reference = _reference(records)
    has_ours = records.get(OURS) is not None
    if has_ours:
        ax.axvline(reference, color=BLUE, linewidth=1, zorder=1)
    for place, (name, record) in enumerate(records.items()):
        if record is not None:
            _dot(ax, place, name, record, reference if has_ours else None)
    ax.set_xscale("log")
    ax.set_xlim(reach[0] * reference, reach[1] * reference)
    ax.xaxis.set_major_locator(LogLocator(numticks=20))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("ms", fontsize=8, labelpad=0)
    ax.set_ylim(len(records) - 0.4, -0.6)
    ax.set_yticks([])
    ax.tick_params(labelsize=8, length=2)
    ax.set_title(panel.title, fontsize=8)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def _names(ax: Any, libraries: list[str]) -> None:
    ax.set_yticks(range(len(libraries)), [NAMES.get(name, name) for name in libraries])
    ax.tick_params(axis="y", length=0)
    for label, name in zip(ax.get_yticklabels(), libraries, strict=True):
        if name == OURS:
            label.set(color=BLUE, fontweight="bold")


def _dot(ax: Any, place: int, name: str, record: Mapping[str, Any], reference: float | None) -> None:
    median, q1, q3 = (record[key] for key in ("median_ms", "q1_ms", "q3_ms"))
    color = BLUE if name == OURS else GREY
    fill = "white" if name == FLOOR else color
    if reference is not None:
        ax.plot([reference, median], [place, place], color=PALE, linewidth=1.2, zorder=1)
    ax.plot([q1, q3], [place, place], color=color, linewidth=2.4, alpha=0.4, zorder=2, solid_capstyle="butt")
    ax.plot(median, place, "o", color=color, markerfacecolor=fill, markersize=6.5 if name == OURS else 5, zorder=3)
    ratio = None if reference is None else median / reference
    words = f"{median:.3g}" if ratio is None or name == OURS else f"{ratio:.{_decimals(ratio)}f}x"
    # Write the number on the side of the dot that is away from the line of brainhw, and beyond the bar.
    left = ratio is not None and ratio < 1
    look = {"color": color, "fontsize": 8, "fontweight": "bold" if name == OURS else "normal"}
    shift = (-5, 0) if left else (5, 0)
    ax.annotate(
        words,
        (q1 if left else q3, place),
        shift,
        textcoords="offset points",
        va="center",
        ha="right" if left else "left",
        **look,
    )


def _decimals(ratio: float) -> int:
    return 2 if ratio < 1 else 1 if ratio < 10 else 0
