"""Draw the test accuracy over epochs for each initialisation of the weights.

``python -m benchmarks.deep_figure`` reads the results of ``python -m benchmarks.accuracy deep_...`` and writes
``docs/images/deep_randman.png`` and ``docs/images/deep_vowels.png``. It also writes ``docs/images/fluct_report.png``,
the report of a network for Randman after ``fluct_init``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import brainstate
import brainunit as u
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from benchmarks.accuracy import JOBS
from benchmarks.machine import PROJECT

sys.path.insert(0, str(PROJECT / "gallery"))
from deep_networks import INITS

import brainhw as bh

WORDS = {"lif": "LIF", "h1v1": "H1v1", "h1v2": "H1v2", 3: "3 hidden layers", 6: "6 hidden layers"}
# For each figure, the settings in which its panels differ.
PANELS = {"deep_randman": ("layers",), "deep_vowels": ("neuron",)}


def draw(rows: list[dict[str, Any]], panels: list[dict[str, Any]]) -> plt.Figure:
    """Draw one plot for each entry of ``panels``, with a thin line for each seed and a thick line for their mean."""
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.9 * len(panels), 3.2), sharey=True, layout="constrained", squeeze=False
    )
    for ax, panel in zip(axes[0], panels, strict=True):
        for init, look in INITS.items():
            of_init = {**panel, "init": init}
            mine = [r["by_epoch"] for r in rows if all(r[name] == value for name, value in of_init.items())]
            epochs = np.arange(1, len(mine[0]) + 1)
            ax.plot(epochs, np.transpose(mine), color=look.color, alpha=0.35, linewidth=0.8)
            ax.plot(epochs, np.mean(mine, axis=0), look.line, color=look.color, linewidth=2.2, label=look.words)
        ax.set(xlabel="epoch", title=", ".join(WORDS[value] for value in panel.values()), ylim=(0, 1))
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes[0, 0].set_ylabel("test accuracy")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=len(INITS), frameon=False)
    return figure


def initialised() -> plt.Figure:
    """Draw the report of two LIF layers on Randman after ``fluct_init``."""
    stages = [bh.nn.LIFSynapse(20, 64), bh.nn.LIFLayer(64, 20 * u.ms), bh.nn.LIFSynapse(64, 64)]
    net = brainstate.nn.Sequential(*stages, bh.nn.LIFLayer(64, np.linspace(10, 40, 64) * u.ms))
    with brainstate.environ.context(dt=2 * u.ms):
        x = bh.data.randman().train.x[:256]
        report = bh.init.fluct_init(net, [x], families="any", return_report=True)
    assert report is not None  # return_report=True
    return bh.visualize.plot_fluct_report(report)


def main() -> None:
    """Draw the figures."""
    for job, names in PANELS.items():
        rows = json.loads((PROJECT / "docs" / "results" / f"{job}.json").read_text())["runs"]
        panels = list({tuple(s[n] for n in names): {n: s[n] for n in names} for s in JOBS[job].settings}.values())
        draw(rows, panels).savefig(PROJECT / "docs" / "images" / f"{job}.png", dpi=130)
    initialised().savefig(PROJECT / "docs" / "images" / "fluct_report.png", dpi=110)


if __name__ == "__main__":
    main()
