"""Figures hold what they should, on the axes they are given."""

from __future__ import annotations

import brainstate
import brainunit as u
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
        assert bh.visualize.raster(spikes, ax=ax, first=10) is ax
    np.testing.assert_allclose(ax.collections[0].get_offsets(), [[1.5, 11], [3.5, 12]])
    assert ax.get_xlabel() == "time (ms)"
    assert ax.get_xlim() == (0, 5)


def test_raster_refuses_a_batch() -> None:
    with pytest.raises(ValueError, match=r"raster: spikes must be \[T, N\], one sample; got shape \(5, 2, 3\)"):
        bh.visualize.raster(np.zeros((5, 2, 3)))


def test_weight_histogram_shows_the_range(ax) -> None:
    net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(4, 3), bh.nn.H1v2Layer(3, tau=20 * u.ms))
    assert bh.visualize.weight_histogram(net, ax=ax) is ax
    assert sorted(line.get_xdata()[0] for line in ax.lines) == pytest.approx([-1.66, 1.66])
    assert "H1v2" in ax.get_xlabel()
    with pytest.raises(ValueError, match="no weight on a chip"):
        bh.visualize.weight_histogram(bh.nn.LIFSynapse(2, 2))


def test_a_figure_of_its_own_without_axes() -> None:
    ax = bh.visualize.raster(np.ones((2, 2)))
    assert ax.figure is not None
    plt.close(ax.figure)
