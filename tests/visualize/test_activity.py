"""Figures hold what they should, on the axes they are given."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt

import brainhw as bh


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_raster_has_one_dot_for_every_spike_at_its_time(ax) -> None:
    spikes = np.zeros((10, 4))
    spikes[3, 1] = spikes[7, 2] = 1
    with brainstate.environ.context(dt=0.5 * u.ms):
        assert bh.visualize.plot_raster(spikes, ax=ax, first=10) is ax
    np.testing.assert_allclose(ax.collections[0].get_offsets(), [[1.5, 11], [3.5, 12]])
    assert ax.get_xlabel() == "time (ms)"
    assert ax.get_xlim() == (0, 5)


def test_dots_are_larger_for_fewer_neurons(ax) -> None:
    areas = []
    for n in (20, 80, 2000):
        with brainstate.environ.context(dt=1.0 * u.ms):
            bh.visualize.plot_raster(np.ones((100, n)), ax=ax)
        areas.append(float(ax.collections[-1].get_sizes()[0]))
    assert areas[0] > areas[1] > areas[2] > 4


def test_a_raster_in_a_part_of_a_figure(ax) -> None:
    part = plt.figure().subfigures(1, 2)[0]
    bh.visualize.plot_raster(np.ones((5, 3)), ax=part.subplots())
    plt.close(part.figure)


def test_raster_refuses_a_batch() -> None:
    with pytest.raises(ValueError, match=r"plot_raster: spikes must be \[T, N\], one sample; got shape \(5, 2, 3\)"):
        bh.visualize.plot_raster(np.zeros((5, 2, 3)))


def test_weight_histogram_shows_the_range(ax) -> None:
    net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(4, 3), bh.nn.H1v2Layer(3, tau=20 * u.ms))
    assert bh.visualize.plot_weight_histogram(net, ax=ax) is ax
    assert sorted(line.get_xdata()[0] for line in ax.lines) == pytest.approx([-1.66, 1.66])
    assert "H1v2" in ax.get_xlabel()
    with pytest.raises(ValueError, match="no weight on a chip"):
        bh.visualize.plot_weight_histogram(bh.nn.LIFSynapse(2, 2))


def test_a_figure_of_its_own_without_axes() -> None:
    ax = bh.visualize.plot_raster(np.ones((2, 2)))
    assert ax.figure is not None
    plt.close(ax.figure)


@pytest.fixture
def report():
    net = brainstate.nn.Sequential(
        bh.nn.LIFSynapse(32, 20), bh.nn.LIFLayer(20, tau=20 * u.ms), bh.nn.LIFSynapse(20, 8), bh.nn.ALIFLayer(8)
    )
    x = (np.random.default_rng(0).random((8, 100, 32)) < 0.2).astype(np.float32)
    with brainstate.environ.context(dt=0.5 * u.ms):
        return bh.init.fluct_init(net, [x], 1.0, verbose=False, families="any", return_report=True)


def test_membrane_distribution_is_a_density_in_thresholds(ax, report) -> None:
    layer = report.layers[0]
    assert bh.visualize.plot_membrane_distribution(layer, ax=ax, bins=50) is ax
    assert sum(patch.get_height() * patch.get_width() for patch in ax.patches[:50]) == pytest.approx(1.0)
    assert ax.lines[0].get_xdata()[0] == 1
    assert f"ξ = {layer.xi_median:.2f}" in ax.get_title()


def test_response_shows_the_kernel_in_ms(ax, report) -> None:
    assert bh.visualize.plot_response(report.layers[0], ax=ax) is ax
    time, kernel = ax.lines[0].get_data()
    np.testing.assert_allclose(kernel, np.exp(-time / 20), rtol=1e-4)
    assert time[1] == 0.5
    assert "mV per weight/mV" in ax.get_ylabel()


def test_layer_rates_has_a_dot_for_every_neuron(ax, report) -> None:
    assert bh.visualize.plot_layer_rates(report, ax=ax) is ax
    assert [len(dots.get_offsets()) for dots in ax.collections[::2]] == [20, 8]
    np.testing.assert_allclose(
        np.sort(report.layers[1].rates.to(u.Hz).mantissa), ax.collections[2].get_offsets()[:, 1], rtol=1e-6
    )


def test_figure_of_a_whole_report(report) -> None:
    figure = bh.visualize.plot_fluct_report(report)
    assert len(figure.axes) == 5
    plt.close(figure)
    with pytest.raises(TypeError, match="plot_fluct_report: report must be a FluctReport"):
        bh.visualize.plot_fluct_report(report.layers[0])
    with pytest.raises(TypeError, match="plot_response: report must be a LayerReport"):
        bh.visualize.plot_response(report)


def test_robustness_is_the_share_of_chips_that_reach_a_score(ax) -> None:
    scores = np.array([0.9, 0.7, 0.8, 0.95])
    report = bh.deploy.RobustnessReport(scores, jax.random.split(jax.random.key(0), 4), 0.93)
    assert bh.visualize.plot_robustness(report, ax=ax, label="net") is ax
    x, y = ax.lines[0].get_data()
    for target in (0.65, 0.7, 0.75, 0.85, 0.9, 0.92, 0.95):
        index = np.searchsorted(x, target)
        assert y[index] == report.yield_above(target)
    assert ax.lines[2].get_xdata()[0] == 0.93
    assert "net: mean 0.838" in ax.get_legend().get_texts()[0].get_text()
    bh.visualize.plot_robustness(report, ax=ax, color="C1", linestyle="--")
    assert ax.lines[4].get_linestyle() == "--"
    with pytest.raises(TypeError, match="plot_robustness: report must be a RobustnessReport"):
        bh.visualize.plot_robustness(scores)
    with pytest.raises(ValueError, match=r"plot_robustness: linestyle must be one of '-', '--'.*got 'wavy'"):
        bh.visualize.plot_robustness(report, linestyle="wavy")
