"""Draw the figure at the top of the README with the code of the README: ``python -m benchmarks.front_figure``."""

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


def run_readme() -> dict[str, Any]:
    """Run the Python block of the README in a temporary folder, and return its names."""
    (code,) = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        exec(compile(code, "README.md", "exec"), names)
    return names


def main() -> None:
    """Draw spikes, placement and yield side by side, and save the figure into ``docs/images``."""
    names = run_readme()
    x, y = names["x_test"][SAMPLE], names["y_test"]
    lasts = 1 + int(x.any(axis=1).nonzero()[0].max())  # the rest is padding
    _, seen = bh.rollout(names["net"], x[:lasts, None], record=("hidden.spk", "output.spk"))
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained", width_ratios=(1.15, 0.9, 1))
    first = 0
    for layer, color in (("hidden", "C1"), ("output", "C0")):  # the colours that the placement gives them
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
    figure.savefig(PROJECT / "docs" / "images" / "front.png", dpi=90)


if __name__ == "__main__":
    main()
