"""Draw the accuracy of the deployed digit networks on sampled chips: ``python -m benchmarks.deploy_figure``.

It reads ``docs/results/deploy_digits.json``, which ``python -m benchmarks.accuracy deploy_digits`` writes.
"""

from __future__ import annotations

import json
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.machine import PROJECT

CHIPS = {"h1v1": "H1v1", "h1v2": "H1v2"}
KINDS = {
    "5 bits, one sign a block,\ntrained on sampled chips": {},
    "5 bits, one sign a block,\ntrained on the nominal chip": {"no_mismatch": True},
    "floats, any signs,\ntrained on the nominal chip": {"free": True},
}
COLORS = ("#0072B2", "#D55E00", "0.35")
OPTIONS = ("free", "no_mismatch")
APART, ABOVE = 0.24, 0.09
"""Distance between the lines of two seeds, and between the nominal chip and its line. The distance between two kinds of
training is 1."""


def draw(rows: list[dict[str, Any]]) -> plt.Figure:
    """Draw a plot for each chip family. A line for each run extends from the worst chip to the mean."""
    figure, axes = plt.subplots(1, len(CHIPS), figsize=(8.6, 3.6), sharey=True, sharex=True, layout="constrained")
    for ax, (chip, title) in zip(axes, CHIPS.items(), strict=True):
        for place, (kind, color) in enumerate(zip(KINDS.values(), COLORS, strict=True)):
            mine = [r for r in rows if r["chip"] == chip and {o: r[o] for o in OPTIONS if r.get(o)} == kind]
            for k, run in enumerate(mine):
                y = place + APART * (k - (len(mine) - 1) / 2)
                ax.plot([run["chips_worst"], run["chips_mean"]], [y, y], color=color, linewidth=1.5)
                ax.plot(run["chips_worst"], y, "|", color=color, markersize=8)
                ax.plot(run["chips_q05"], y, "s", color=color, markersize=4.5, markerfacecolor="white")
                ax.plot(run["chips_mean"], y, "o", color=color, markersize=6)
                ax.plot(run["nominal"], y - ABOVE, "v", color="black", markersize=4.5)
        ax.set(title=title, xlabel="test accuracy")
        ax.locator_params(axis="x", nbins=5)
        ax.grid(axis="x", color="0.9")
        ax.set_axisbelow(True)
    axes[0].set_yticks(range(len(KINDS)), KINDS)
    axes[0].set_ylim(len(KINDS) - 0.5, -0.5)
    looks: dict[str, dict[str, Any]] = {
        "worst of 100 chips": {"marker": "|", "markersize": 8},
        "5 % quantile": {"marker": "s", "markersize": 4.5, "markerfacecolor": "white"},
        "mean": {"marker": "o", "markersize": 6},
        "nominal chip": {"marker": "v", "markersize": 4.5},
    }
    handles = [
        axes[0].plot([], [], color="black", linestyle="none", label=words, **look)[0] for words, look in looks.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(looks), frameon=False)
    return figure


def main() -> None:
    """Save the figure into ``docs/images``."""
    rows = json.loads((PROJECT / "docs" / "results" / "deploy_digits.json").read_text())["runs"]
    draw(rows).savefig(PROJECT / "docs" / "images" / "deploy_digits.png", dpi=130)


if __name__ == "__main__":
    main()
