"""Draw test accuracy over epochs by initialiser, from what ``python -m benchmarks.accuracy deep_...`` saved.

``python -m benchmarks.deep_figure`` writes ``docs/images/deep_randman.png`` and ``docs/images/deep_vowels.png``.
"""

from __future__ import annotations

import json
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.accuracy import DEEP_INITS, JOBS
from benchmarks.machine import PROJECT

# What tells the panels of a figure apart.
PANELS = {"deep_randman": ("layers",), "deep_vowels": ("neuron",)}


def draw(rows: list[dict[str, Any]], panels: list[dict[str, Any]], words: dict[str, str]) -> plt.Figure:
    """Draw one panel for each of ``panels``: a line for each seed, and their mean, in the colour of the rule."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.2), sharey=True, layout="constrained")
    for ax, panel in zip(np.atleast_1d(axes), panels, strict=True):
        for color, init in enumerate(DEEP_INITS):
            of_init = {**panel, "init": init}
            mine = [r["by_epoch"] for r in rows if all(r[name] == value for name, value in of_init.items())]
            epochs = np.arange(1, len(mine[0]) + 1)
            ax.plot(epochs, np.transpose(mine), color=f"C{color}", alpha=0.3, linewidth=1)
            ax.plot(epochs, np.mean(mine, axis=0), color=f"C{color}", label=init)
        ax.set(xlabel="epoch", title=" ".join(words.get(name, "") + str(value) for name, value in panel.items()))
        ax.set_ylim(0, 1)
    np.atleast_1d(axes)[0].set_ylabel("test accuracy")
    np.atleast_1d(axes)[-1].legend(frameon=False, loc="lower right")
    return figure


def main() -> None:
    """Draw both figures."""
    for job, names in PANELS.items():
        rows = json.loads((PROJECT / "docs" / "results" / f"{job}.json").read_text())["runs"]
        panels = list({tuple(s[n] for n in names): {n: s[n] for n in names} for s in JOBS[job].settings}.values())
        figure = draw(rows, panels, {"layers": "hidden layers: "})
        figure.savefig(PROJECT / "docs" / "images" / f"{job}.png", dpi=110)


if __name__ == "__main__":
    main()
