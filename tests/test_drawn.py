"""`report.plot()` draws with the function of `brainhw.visualize` for its class."""

from __future__ import annotations

import subprocess
import sys

import jax
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

import brainhw as bh
from brainhw._drawn import _FIGURES, Drawn

pytestmark = pytest.mark.no_dt


def report() -> bh.deploy.RobustnessReport:
    return bh.deploy.RobustnessReport(np.array([0.9, 0.92]), jax.random.split(jax.random.key(0), 2), 0.93)


def test_plot_is_the_function_of_visualize() -> None:
    axes = plt.subplots()[1]
    assert report().plot(ax=axes, label="mine") is axes
    other = bh.visualize.plot_robustness(report(), label="mine")
    for one, same in zip(axes.get_lines(), other.get_lines(), strict=True):
        np.testing.assert_array_equal(one.get_xydata(), same.get_xydata())
    with pytest.raises(TypeError, match="ax must be one matplotlib Axes"):
        report().plot(ax=3)


def test_every_report_with_a_figure_is_registered() -> None:
    assert bh.visualize
    drawn = {kind.__name__: figure.__name__ for kind, figure in _FIGURES.items()}
    assert drawn == {
        "Calibration": "plot_calibration",
        "ChargeFit": "plot_charge_fit",
        "ClassReport": "plot_confusion",
        "Comparison": "plot_comparison",
        "FluctReport": "plot_fluct_report",
        "History": "plot_history",
        "LeakFit": "plot_leak_fit",
        "NoiseFit": "plot_noise_fit",
        "Placement": "plot_placement",
        "PowerReport": "plot_power",
        "RobustnessReport": "plot_robustness",
        "ThresholdFit": "plot_threshold_fit",
    }
    assert all(figure is getattr(bh.visualize, figure.__name__) for figure in _FIGURES.values())
    assert set(Drawn.__subclasses__()) == set(_FIGURES)


def test_figures_are_loaded_when_the_first_is_wanted() -> None:
    code = (
        "import sys, matplotlib; matplotlib.use('agg')\n"
        "import brainhw as bh\n"
        "history = bh.train.History([{'loss': 2.0}], best=0, watched='loss')\n"
        "assert 'brainhw.visualize' not in sys.modules\n"
        "print(history.plot().get_ylabel())"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "loss\n"
    assert mpl.get_backend().lower() == "agg"
