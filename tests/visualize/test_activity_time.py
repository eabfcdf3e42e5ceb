"""Membranes and rates: lines at their times and heights, and clear words about bad input."""

from __future__ import annotations

from collections.abc import Iterator

import brainstate
import brainunit as u
import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import brainhw as bh

V = np.array([[10.0, 0.0], [0.0, 20.0], [30.0, 5.0]])
V_PRE = np.array([[10.0, 0.0], [120.0, 20.0], [30.0, 105.0]])


@pytest.fixture
def ax() -> Iterator[Axes]:
    figure, ax = plt.subplots(layout="constrained")
    yield ax
    plt.close(figure)


def labels(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def dots(ax: Axes) -> list[list[tuple[float, float]]]:
    return [list(zip(*line.get_data(), strict=True)) for line in ax.lines if line.get_marker() == "."]


def test_a_reset_is_a_vertical_line_with_a_dot_at_its_top(ax: Axes) -> None:
    with brainstate.environ.context(dt=0.5 * u.ms):
        drawn = bh.visualize.plot_membrane(V * u.mV, V_pre=V_PRE * 1e-3 * u.volt, V_th=100 * u.mV, ax=ax)
    assert drawn is ax
    time, trace = ax.lines[0].get_data()
    np.testing.assert_allclose(time, [0, 0, 0.5, 0.5, 1, 1])
    np.testing.assert_allclose(trace, [10, 10, 120, 0, 30, 30])
    assert [np.round(spikes, 6).tolist() for spikes in dots(ax)] == [[[0.5, 120.0]], [[1.0, 105.0]]]
    (threshold,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    np.testing.assert_allclose(threshold.get_ydata(), 100)
    assert labels(ax) == ["neuron 0", "neuron 1", "threshold"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xlim()) == ("time (ms)", "membrane (mV)", (0, 1.5))


def test_without_the_membrane_before_the_reset_spikes_stand_at_the_threshold(ax: Axes) -> None:
    bh.visualize.plot_membrane(V * u.mV, V_th=np.array([100.0, 90.0]) * u.mV, spikes=V_PRE > 100, ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), V[:, 0])
    assert dots(ax) == [[(1.0, 100.0)], [(2.0, 90.0)]]
    assert [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [100, 90]


def test_neurons_are_chosen_and_one_membrane_alone_is_drawn(ax: Axes) -> None:
    bh.visualize.plot_membrane(V * u.mV, neurons=[1], ax=ax)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), V[:, 1])
    assert labels(ax) == ["neuron 1"]
    bh.visualize.plot_membrane(V[:, 0] * u.mV, ax=ax)
    assert labels(ax) == ["neuron 1", "membrane"]
    many = bh.visualize.plot_membrane(np.zeros((4, 9)) * u.mV)
    assert labels(many) == ["neuron 0", "neuron 1", "neuron 2"]
    plt.close(many.figure)


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ({"V": V}, TypeError, "plot_membrane: V must be a Quantity with the dimension of mV"),
        (
            {"V": V[None] * u.mV},
            ValueError,
            r"plot_membrane: V must be \[T\] or \[T, N\], one sample; got shape \(1, 3, 2\)",
        ),
        ({"V": V * np.nan * u.mV}, ValueError, "plot_membrane: V must be finite"),
        ({"V_pre": V_PRE[:2] * u.mV}, ValueError, r"plot_membrane: V_pre must be shape \(3, 2\); got shape \(2, 2\)"),
        ({"V_th": 0.1 * u.ms}, TypeError, "plot_membrane: V_th must have the dimension of mV"),
        ({"V_th": np.ones(3) * u.mV}, ValueError, r"plot_membrane: V_th must be a scalar or shape \(2,\)"),
        ({"spikes": np.ones(3)}, ValueError, r"plot_membrane: spikes must have the shape of V, \(3, 2\)"),
        ({"neurons": 2}, ValueError, "plot_membrane: neurons must be one or more indices from 0 to 1; got 2"),
        ({"neurons": []}, ValueError, "plot_membrane: neurons must be one or more indices from 0 to 1"),
        ({"ax": "here"}, TypeError, "plot_membrane: ax must be one matplotlib Axes"),
    ],
)
def test_a_membrane_that_cannot_be_drawn_is_refused(bad: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        bh.visualize.plot_membrane(**{"V": V * u.mV, **bad})


@pytest.mark.parametrize("named", [True, False])
def test_rates_of_spikes_are_in_hertz_layer_by_layer(ax: Axes, named: bool) -> None:
    hidden, out = np.zeros((100, 2, 3)), np.ones((100, 1), np.int8)
    hidden[::10, :, 1] = 1
    hidden[0, 0, 2] = 1
    source = {"hidden.spk": hidden, "out.spk": out} if named else [hidden, out]
    with brainstate.environ.context(dt=2.0 * u.ms):
        assert bh.visualize.plot_layer_rates(source, ax=ax) is ax
    np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 1], [0, 2.5, 50])
    np.testing.assert_allclose(ax.collections[2].get_offsets(), [[2, 500]])
    assert [bar.get_segments()[0][0][1] for bar in ax.collections[1::2]] == pytest.approx([17.5, 500])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == (["hidden", "out"] if named else ["1", "2"])
    assert ax.get_ylabel() == "rate (Hz)"


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (np.ones((3, 2)), TypeError, r"plot_layer_rates: source must be a FluctReport.*For one layer, pass \[spikes\]"),
        ([], ValueError, "plot_layer_rates: source must contain the spikes of at least one layer"),
        ({"a.spk": np.ones(3)}, ValueError, r"the spikes of layer a must have shape \[T, N\] or \[T, B, N\]"),
        ([np.ones((3, 0))], ValueError, "the spikes of layer 1 must have shape"),
        ([np.ones((3, 2)) * u.mV], TypeError, "the spikes of layer 1 must be plain numbers without a unit"),
        ([np.full((3, 2), np.nan)], ValueError, "the spikes of layer 1 contains 6 NaN"),
        ([-np.ones((5, 3))], ValueError, "the spikes of layer 1 must be spike counts .integers, zero or more.; got"),
        (
            {"a.V": np.full((5, 3), -0.5)},
            ValueError,
            "the spikes of layer a.V must be spike counts.* from -0.5 to -0.5",
        ),
        ([np.full((5, 3), 0.5)], ValueError, "the spikes of layer 1 must be spike counts"),
    ],
)
def test_rates_of_what_are_no_spikes_are_refused(bad: object, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        bh.visualize.plot_layer_rates(bad)


def test_counts_are_rates_too_and_an_empty_path_is_the_network(ax: Axes) -> None:
    bh.visualize.plot_layer_rates({".spk": 2 * np.ones((5, 2), int)}, ax=ax)
    np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 1], 2000)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["network"]


@pytest.mark.parametrize("limits", [(10, -1), (-10, -1)])
def test_rates_do_not_turn_the_axis_that_was_given(ax: Axes, limits: tuple[float, float]) -> None:
    ax.set_ylim(*limits)
    bh.visualize.plot_layer_rates([np.zeros((5, 2))], ax=ax)
    bottom, top = ax.get_ylim()
    assert (bottom < top) == (limits[0] < limits[1])


def test_a_silent_raster_is_empty_and_bad_arguments_are_named(ax: Axes) -> None:
    bh.visualize.plot_raster(np.zeros((5, 2)), ax=ax)
    assert not ax.collections
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xlim()) == ("time (ms)", "neuron", (0, 5))
    with pytest.raises(TypeError, match="plot_raster: first must be an integer"):
        bh.visualize.plot_raster(np.zeros((5, 2)), first=1.5)
