"""Draw test accuracy over epochs by initialiser, from what ``python -m benchmarks.accuracy deep_...`` saved.

``python -m benchmarks.deep_figure`` writes ``docs/images/deep_randman.png`` and ``docs/images/deep_vowels.png``, and
``docs/images/fluct_report.png``: a net for Randman as ``fluct_init`` leaves it.
"""

from __future__ import annotations

import json
from typing import Any

import brainstate
import brainunit as u
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

import brainhw as bh
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
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    np.atleast_1d(axes)[0].set_ylabel("test accuracy")
    np.atleast_1d(axes)[-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def initialised() -> plt.Figure:
    """Draw two layers of LIF neurons on Randman as ``fluct_init`` leaves them."""
    stages = [bh.nn.LIFSynapse(20, 64), bh.nn.LIFLayer(64, 20 * u.ms), bh.nn.LIFSynapse(64, 64)]
    net = brainstate.nn.Sequential(*stages, bh.nn.LIFLayer(64, np.linspace(10, 40, 64) * u.ms))
    with brainstate.environ.context(dt=2 * u.ms):
        x = bh.data.randman().train.x[:256]
        report = bh.init.fluct_init(net, [x], families="any", return_report=True)
    return bh.visualize.plot_fluct_report(report)


def main() -> None:
    """Draw the figures."""
    for job, names in PANELS.items():
        rows = json.loads((PROJECT / "docs" / "results" / f"{job}.json").read_text())["runs"]
        panels = list({tuple(s[n] for n in names): {n: s[n] for n in names} for s in JOBS[job].settings}.values())
        figure = draw(rows, panels, {"layers": "hidden layers: "})
        figure.savefig(PROJECT / "docs" / "images" / f"{job}.png", dpi=110)
    initialised().savefig(PROJECT / "docs" / "images" / "fluct_report.png", dpi=90)


if __name__ == "__main__":
    main()
