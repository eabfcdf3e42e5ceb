"""A figure of what ``run`` kept: bars for every library, case and size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.speed.cases import CASES, sizes_of
from benchmarks.speed.measure import MODES
from benchmarks.speed.report import FLOOR, OURS, TITLES

__all__ = ["draw"]

COLORS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C8", "C9", "gold", "C7")
GAP, WIDEST = 1.5, 80.0
"""Between the sizes of a case, and of a row of panels, in bars."""


def draw(content: Mapping[str, Any], path: Path, modes: Iterable[str] = MODES) -> None:
    """Draw a block for each of the modes, a panel for each case in it; milliseconds on one logarithmic axis a block."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter

    found = {(r["mode"], r["case"], r["size"], r["adapter"]): r for r in content["results"] if r.get("mode") in modes}
    if not found:
        raise ValueError("figure: nothing was measured.")
    colors = _colors([name for name in content["adapters"] if any(key[3] == name for key in found)])
    # Sizes, and the libraries of a case in any mode: bars stay where they are from block to block.
    sizes = {
        case: [size for size in sizes_of(case) if any(key[1:3] == (case, size) for key in found)] for case in CASES
    }
    names = {case: [name for name in colors if any(key[1::2] == (case, name) for key in found)] for case in CASES}
    widths = {case: len(sizes[case]) * (len(names[case]) + GAP) + GAP for case in CASES if sizes[case]}
    rows = _rows(widths)
    broadest = max(sum(widths[case] for case in row) for row in rows)
    shown_modes = [mode for mode in MODES if any(key[0] == mode for key in found)]
    figure = plt.figure(figsize=(15, 2.6 * len(shown_modes) * len(rows) + 0.8), layout="constrained")
    handles: dict[str, Any] = {}
    for mode, block in zip(shown_modes, figure.subfigures(len(shown_modes), 1, squeeze=False)[:, 0], strict=True):
        block.suptitle(TITLES[mode], fontsize=12, fontweight="bold")
        limits = _decades([r["median_ms"] for key, r in found.items() if key[0] == mode])
        for row, part in zip(rows, block.subfigures(len(rows), 1, squeeze=False)[:, 0], strict=True):
            shares = [widths[case] for case in row]
            # A last panel that shows nothing fills the row, so that bars are as wide in every row.
            spare = broadest - sum(shares)
            filled = [*shares, *([spare] if spare > 0.01 * broadest else [])]
            axes = part.subplots(1, len(filled), squeeze=False, width_ratios=filled)[0]
            for ax in axes[len(row) :]:
                ax.set_axis_off()
            for ax, case in zip(axes, row, strict=False):
                for k, size in enumerate(sizes[case]):
                    for j, name in enumerate(names[case]):
                        record = found.get((mode, case, size, name))
                        if record is not None:
                            x = k * (len(names[case]) + GAP) + j - (len(names[case]) - 1) / 2
                            handles[name] = _bar(ax, x, record, name, colors[name])
                ax.set_yscale("log")
                ax.set_ylim(*limits)
                ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                ax.yaxis.set_minor_formatter(NullFormatter())
                step = len(names[case]) + GAP
                ax.set_xlim(-step / 2, (len(sizes[case]) - 0.5) * step)
                ax.set_xticks([k * step for k in range(len(sizes[case]))], sizes[case])
                ax.tick_params(axis="x", length=0)
                ax.set_title(case, fontsize=10)
                ax.grid(axis="y", color="0.88")
                ax.set_axisbelow(True)
            axes[0].set_ylabel("milliseconds")
    shown = [name for name in colors if name in handles]
    labels = ["products alone (floor)" if name == FLOOR else name for name in shown]
    figure.legend([handles[name] for name in shown], labels, loc="outside upper center", ncols=7, frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _bar(ax: Any, x: float, record: Mapping[str, Any], name: str, color: str) -> Any:
    median, q1, q3 = (record[key] for key in ("median_ms", "q1_ms", "q3_ms"))
    look = {"color": color, "hatch": "//" if name == FLOOR else None, "edgecolor": "white", "linewidth": 0.3}
    errors = {"yerr": [[median - q1], [q3 - median]], "error_kw": {"lw": 0.8, "ecolor": "0.45"}}
    return ax.bar(x, median, 0.92, **look, **errors)


def _colors(names: list[str]) -> dict[str, str]:
    """Return colors by name in the order of the bars: ours first, the floor last."""
    ordered = sorted(names, key=lambda name: (name != OURS, name == FLOOR))
    others = [name for name in ordered if name not in (OURS, FLOOR)]
    colors = {name: COLORS[i % len(COLORS)] for i, name in enumerate(others)} | {OURS: "black", FLOOR: "0.75"}
    return {name: colors[name] for name in ordered}


def _decades(values: list[float]) -> tuple[float, float]:
    """Return whole powers of ten around the values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _rows(widths: Mapping[str, float]) -> list[list[str]]:
    """Return the cases in rows of about the same width."""
    n_rows = math.ceil(sum(widths.values()) / WIDEST)
    target, used = sum(widths.values()) / n_rows, 0.0
    rows: list[list[str]] = [[] for _ in range(n_rows)]
    for case, width in widths.items():
        rows[min(int((used + width / 2) / target), n_rows - 1)].append(case)
        used += width
    return [row for row in rows if row]
