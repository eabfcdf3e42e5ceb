"""Draw how the deployed digits spread over chips: ``python -m benchmarks.deploy_figure FOLDER``.

``FOLDER`` is what ``python -m benchmarks.accuracy deploy_digits --keep FOLDER`` kept; the chips of all seeds are drawn
together.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax
import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

import brainhw as bh
from benchmarks.machine import PROJECT

KINDS = {"": "for the chip", "_no-mismatch": "for the nominal chip", "_free": "unconstrained"}


def main() -> None:
    """Draw one panel a family and save the figure into ``docs/images``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    figure, axes = plt.subplots(1, 2, figsize=(13, 4.4), layout="constrained")
    for ax, chip in zip(axes, ("h1v1", "h1v2"), strict=True):
        for i, (kind, words) in enumerate(KINDS.items()):
            runs = sorted(folder.glob(f"chip_{chip}{kind}_seed_?"))
            scores = np.concatenate([np.loadtxt(run / "chips.txt") for run in runs])
            nominal = np.mean([json.loads((run / "result.json").read_text())["nominal"] for run in runs])
            keys = jax.random.split(jax.random.key(0), len(scores))
            report = bh.deploy.RobustnessReport(scores, keys, float(nominal))
            bh.visualize.plot_robustness(report, ax=ax, label=words, color=f"C{i}")
        ax.set_xlabel(f"test accuracy on H1v{chip[-1]} (dashed: nominal chip, mean of seeds)")
    figure.savefig(PROJECT / "docs" / "images" / "deploy_digits.png", dpi=100)


if __name__ == "__main__":
    main()
