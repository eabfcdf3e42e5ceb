"""The bill of a network as bars, and the orders that it learnt as histograms."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import brainstate
import brainunit as u
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import brainhw as bh


@pytest.fixture
def ax() -> Iterator[Axes]:
    figure, ax = plt.subplots(layout="constrained")
    yield ax
    plt.close(figure)


def report(chip: bh.chip.ChipSpec) -> bh.deploy.PowerReport:
    net = brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(3, 2, chip=chip, weight_init=jnp.ones((3, 2))), bh.nn.H1v2Layer(2, tau=10 * u.ms, chip=chip)
    )
    return bh.deploy.estimate_power(net, 100 * jnp.ones((20, 1, 3)))


@pytest.mark.filterwarnings("ignore:estimate_power. .* input values exceed")
def test_every_part_of_the_bill_is_a_bar_and_assumed_coefficients_are_called_so(ax: Axes) -> None:
    bill = report(bh.chip.H1V2)
    assert bh.visualize.plot_power(bill, ax=ax) is ax
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == pytest.approx([float(cost.energy.to(u.ujoule).mantissa) for cost in bill.costs])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [cost.part for cost in bill.costs]
    assert ax.get_xlabel() == "energy per inference (uJ), coefficients assumed"
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(named) == 3
    assert all(name.endswith("(assumed)") for name in named)
    assert f"{bill.power.mantissa:.4g} uW" in ax.get_title()
    assert "%" in ax.texts[0].get_text()


@pytest.mark.filterwarnings("ignore:estimate_power. .* input values exceed")
def test_the_axis_is_logarithmic_where_bars_differ_a_lot(ax: Axes) -> None:
    small = bh.chip.H1V2.replace(spike_energy=1e-6 * u.pjoule, event_energy=0.0 * u.pjoule, provenance="measured")
    bill = report(small)
    bh.visualize.plot_power(bill, ax=ax)
    assert ax.get_xscale() == "log"
    ax.figure.draw_without_rendering()
    frame = ax.get_window_extent()
    for text in ax.texts:
        words = text.get_window_extent()
        assert frame.x0 <= words.x0 < words.x1 <= frame.x1, text.get_text()
    ax.clear()
    alike = tuple(dataclasses.replace(cost, energy=1.0 * u.ujoule) for cost in bill.costs)
    bh.visualize.plot_power(dataclasses.replace(bill, costs=alike), ax=ax)
    assert ax.get_xscale() == "linear"


@pytest.mark.filterwarnings("ignore:estimate_power. .* input values exceed")
def test_measured_coefficients_are_not_called_assumed(ax: Axes) -> None:
    chip = bh.chip.H1V2.replace(spike_energy=1.0 * u.pjoule, provenance="measured")
    bh.visualize.plot_power(report(chip), ax=ax)
    assert "spike energy 1 pJ (measured)" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert ax.get_xlabel().endswith("coefficients assumed, measured")


def test_only_a_bill_is_drawn() -> None:
    with pytest.raises(
        TypeError, match=r"plot_power: report must be a PowerReport, from brainhw.deploy.estimate_power"
    ):
        bh.visualize.plot_power({})


@pytest.fixture(scope="module")
def fractional() -> brainstate.nn.Sequential:
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(2, 4),
        bh.nn.FractionalLIFLayer(4, alpha=[np.array([0.21, 0.22, 0.61, 0.91])], learn_alpha=True),
        bh.nn.LIFSynapse(4, 3),
        bh.nn.FractionalLIFLayer(3, alpha=0.45),
    )


def test_each_layer_is_a_histogram_of_shares_with_what_it_started_from(ax: Axes, fractional) -> None:
    start = [np.array([0.25, 0.25, 0.65, 0.95]), 0.7]
    assert bh.visualize.plot_fractional_orders(fractional, start=start, bins=10, ax=ax) is ax
    heights = [bar.get_height() for bar in ax.patches[:10]]
    np.testing.assert_allclose(heights, [0, 0, 0.5, 0, 0, 0, 0.25, 0, 0, 0.25])
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches[11:21]], np.eye(10)[4])
    assert not ax.patches[10].get_fill()
    assert ax.lines[0].get_xdata()[0] == 0.7
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert named == ["layers.1: 4 orders, mean 0.488", "layers.3: 0.450"]
    assert ax.get_xlabel() == "order α (dimensionless; dashed: before training)"


def test_one_number_is_the_start_of_all_layers_and_none_is_not_drawn(ax: Axes, fractional) -> None:
    bh.visualize.plot_fractional_orders(fractional, start=0.3, ax=ax)
    assert [line.get_xdata()[0] for line in ax.lines] == [0.3, 0.3]
    ax.clear()
    bh.visualize.plot_fractional_orders(fractional, ax=ax)
    assert not ax.lines
    assert ax.get_xlabel() == "order α (dimensionless)"
    assert ax.get_xlim() == (0, 1)


def test_what_get_per_layer_alpha_returned_is_a_start(ax: Axes, fractional) -> None:
    bh.visualize.plot_fractional_orders(fractional, start=bh.get_per_layer_alpha(fractional), ax=ax)
    assert len(ax.lines) == 1


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ({"start": [0.5]}, ValueError, "start must have one entry per layer .2 fractional layers..*got 1 entries"),
        ({"start": "half"}, TypeError, "plot_fractional_orders: start must be a number; got 'half'"),
        ({"start": [0.5, np.array([])]}, ValueError, "start is empty"),
        ({"bins": 0}, ValueError, "plot_fractional_orders: bins must be at least 1"),
        ({"net": bh.nn.LIFSynapse(2, 2)}, ValueError, "plot_fractional_orders: the network has no fractional layer"),
    ],
)
def test_orders_that_cannot_be_drawn_are_refused(fractional, bad: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        bh.visualize.plot_fractional_orders(**{"net": fractional, **bad})
