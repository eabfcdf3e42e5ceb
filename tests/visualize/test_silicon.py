"""Figures of fits hold the data and the fitted values."""

from __future__ import annotations

from collections.abc import Iterator

import brainunit as u
import numpy as np
import pytest
from matplotlib import pyplot as plt

from brainhw import silicon, visualize
from brainhw.chip import H1V1

pytestmark = pytest.mark.no_dt


@pytest.fixture(autouse=True)
def no_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def done():
    bench = synthetic()
    return silicon.calibrate(bench.charge, bench.decays, bench.rates, chip="H1v1", progress=False)


def synthetic():
    return silicon.synthetic_bench(H1V1, seed=0, neurons=range(4), window=0.3 * u.second)


def lines(ax) -> list[np.ndarray]:
    return [line.get_xydata() for line in ax.get_lines()]


def test_the_charge_figure_holds_curve_readings_and_preset(done) -> None:
    ax = visualize.plot_charge_fit(done.charge, preset=H1V1.charge)
    held = lines(ax)
    assert any(len(line) == 620 for line in held)
    assert any(line.shape == (31, 2) and np.allclose(line[:, 1], done.charge.charge.mantissa) for line in held)
    assert len(ax.get_legend().get_texts()) == 4


def test_the_leak_figure_holds_every_time_constant(done) -> None:
    ax = visualize.plot_leak_fit(done.leak)
    shown = np.concatenate([line[:, 1] for line in lines(ax) if len(line) == 4])
    assert np.isin(np.asarray(done.leak.tau.mantissa).ravel(), shown).all()
    assert ax.get_yscale() == "log"


def test_the_threshold_and_rate_figures(done) -> None:
    ax = visualize.plot_threshold_fit(done.threshold)
    assert any(len(line) == 4 and np.allclose(line[:, 1], done.threshold.V_th.mantissa) for line in lines(ax))
    ax = visualize.plot_rate_fit(done.threshold)
    assert ax.get_xlabel() == "synapses that spike in every step"
    assert sum(len(line) == 16 for line in lines(ax)) == 6


def test_the_figure_of_a_calibration_has_a_panel_per_table(done) -> None:
    assert len(visualize.plot_calibration(done).axes) == 4
    assert len(visualize.plot_calibration(silicon.calibrate(synthetic().charge, chip="H1v1")).axes) == 1


def test_the_noise_figure() -> None:
    V = 50 + np.random.default_rng(0).normal(0, 1, (5, 50, 2))
    ax = visualize.plot_noise_fit(silicon.fit_noise(V * u.mV, tau=10 * u.ms))
    assert sum(patch.get_height() * patch.get_width() for patch in ax.patches) == pytest.approx(1.0)


def test_other_things_are_refused(done) -> None:
    with pytest.raises(TypeError, match=r"plot_leak_fit: fit must be a LeakFit, from brainhw.silicon.fit_leak"):
        visualize.plot_leak_fit(done.charge)
    with pytest.raises(TypeError, match=r"plot_calibration: calibration must be a Calibration"):
        visualize.plot_calibration(done.leak)
