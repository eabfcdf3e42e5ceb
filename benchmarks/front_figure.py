"""Draw the figure of the README and of the home page from ``docs/own_net.md``: ``python -m benchmarks.front_figure``.

``docs/images/front.png`` has three panels side by side. ``front_spikes.png``, ``front_cores.png`` and
``front_chips.png`` show one panel each, for small screens.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

import brainhw as bh
from benchmarks.machine import PROJECT

SAMPLE = 0
IMAGES = PROJECT / "docs" / "images"
PANELS = ("spikes", "cores", "chips")


def run_page() -> dict[str, Any]:
    """Run the Python block of the page in a temporary folder, and return the variables that it defines."""
    page = (PROJECT / "docs" / "own_net.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        exec(compile(code, "own_net.md", "exec"), names)
    return names


def main() -> None:
    """Draw spikes, placement and accuracies of sampled chips side by side, and save the figures in ``docs/images``."""
    names = run_page()
    test = names["test"]
    y = test.y
    x = test.x[SAMPLE, : test.lengths[SAMPLE]]  # without the padding
    _, seen = bh.rollout(names["net"], x[:, None], record=("hidden.spk", "output.spk"))
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained", width_ratios=(1.15, 0.9, 1))
    first = 0
    for layer, color in (("hidden", "C1"), ("output", "C0")):  # the same colours as in the placement figure
        spikes = seen[f"{layer}.spk"][:, 0]
        bh.visualize.plot_raster(spikes, ax=axes[0], color=color, first=first)
        middle = first + spikes.shape[-1] / 2
        axes[0].text(1.01, middle, layer, color=color, transform=axes[0].get_yaxis_transform(), va="center")
        first += spikes.shape[-1]
    size = spikes.shape[-1] // names["n_classes"]
    bottom = first - spikes.shape[-1] + int(y[SAMPLE]) * size - 0.5
    axes[0].axhspan(bottom, bottom + size, color="0.85", zorder=0)
    axes[0].set(ylim=(-1, first), title="one recording (shaded: neurons of the right class)")
    bh.visualize.plot_placement(names["placement"], ax=axes[1])
    bh.visualize.plot_robustness(names["chips"], ax=axes[2])
    axes[2].locator_params(axis="x", nbins=5)
    axes[2].set_xlabel("test accuracy (triangle: nominal chip)")
    figure.savefig(IMAGES / "front.png", dpi=90)
    figure.set_layout_engine("none")
    figure.set_size_inches(4.6, 3.9)
    for name, panel in zip(PANELS, axes, strict=True):
        for other in axes:
            other.set_visible(other is panel)
        panel.set_position((0.15, 0.17, 0.7, 0.74))
        figure.savefig(IMAGES / f"front_{name}.png", dpi=150)


if __name__ == "__main__":
    main()
