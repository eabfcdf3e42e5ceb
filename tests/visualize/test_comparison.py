"""The figure of a comparison shows each neuron, and refuses other things."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot as plt
from numpy_bench import NumpyBench, inputs, program_of

import brainhw as bh


def test_the_figure_shows_rates_shares_and_says_what_is_not_known() -> None:
    program, x = program_of("H1v2"), inputs(steps=60, runs=5)
    found = bh.silicon.compare(program, NumpyBench(3), x, n_trials=2, explain=False)
    figure = bh.visualize.plot_comparison(found)
    rates, shares, causes = figure.axes
    one = found.layers["layers.1"]
    points = next(line for line in rates.lines if len(line.get_xdata()) == 24)
    assert np.array_equal(points.get_xdata(), one.model_rate.mantissa)
    assert np.array_equal(points.get_ydata(), one.bench_rate.mantissa)
    assert np.array_equal(shares.lines[0].get_ydata(), 100 * np.sort(one.found[np.isfinite(one.found)]))
    assert "no neuron was fitted" in causes.texts[0].get_text()
    assert f"{found.agreement:.1%}" in figure.get_suptitle()
    plt.close(figure)


def test_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match=r"plot_comparison: comparison must be a Comparison, from .*; got 3"):
        bh.visualize.plot_comparison(3)  # type: ignore[arg-type]
