"""Weights against range and grid, and blocks of one sign: what is drawn, and where."""

from __future__ import annotations

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
from brainhw.kernel import WeightGrid


@pytest.fixture
def ax() -> Iterator[Axes]:
    figure, ax = plt.subplots(layout="constrained")
    yield ax
    plt.close(figure)


def frames(ax: Axes) -> set[tuple[float, float, float, float]]:
    """Left, top, width and height of the frames around blocks that mix signs."""
    boxes = [path.get_extents() for path in ax.collections[0].get_paths()]
    return {(box.x0, box.y0, box.width, box.height) for box in boxes}


def heights(ax: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Edges and heights of the bins of the first synapse."""
    outline = ax.patches[0].get_xy()
    return outline[::2, 0], outline[1:-1:2, 1]


def test_levels_of_the_grid_are_drawn_and_every_bin_is_around_one(ax: Axes) -> None:
    weights = np.linspace(-0.9, 0.9, 31).reshape(31, 1)
    synapse = bh.nn.H1v1Synapse(31, 1, weight_init=weights, weight_bits="chip")
    assert bh.visualize.plot_weight_histogram(synapse, ax=ax) is ax
    (levels,) = [lines for lines in ax.collections if hasattr(lines, "get_segments")]
    drawn = sorted(segment[0][0] for segment in levels.get_segments())
    np.testing.assert_allclose(drawn, np.arange(-15, 16) * WeightGrid(0.9, 5).step, rtol=1e-6)
    edges, shares = heights(ax)
    np.testing.assert_allclose(edges, [-0.9, *(np.arange(-14.5, 15) * 0.06), 0.9], atol=1e-7)
    np.testing.assert_allclose(shares, 1 / 31)
    assert ax.get_xlabel() == "weight (dimensionless; dashed: range of H1v1, thin: its 31 levels of 5 bits)"


def test_weights_on_several_grids_or_on_none_share_even_bins(ax: Axes) -> None:
    net = brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(4, 3, weight_bits=3), bh.nn.H1v2Layer(3, tau=20 * u.ms), bh.nn.H1v2Synapse(3, 2)
    )
    bh.visualize.plot_weight_histogram(net, ax=ax, bins=10)
    assert "thin: its 7 levels of 3 bits" in ax.get_xlabel()
    edges = np.unique(np.round(ax.patches[0].get_xy()[:, 0], 9))
    np.testing.assert_allclose(np.diff(edges), np.diff(edges)[0])
    assert np.sum(np.abs(edges) < 1.661) == 11


@pytest.mark.parametrize("bits", [None, "chip"])
def test_no_bin_crosses_an_end_of_the_range(ax: Axes, bits: str | None) -> None:
    weights = np.array([[0.9], [0.91], [1.2], [-0.9], [-0.95], [0.0]])
    bh.visualize.plot_weight_histogram(bh.nn.H1v1Synapse(6, 1, weight_init=weights, weight_bits=bits), ax=ax)
    edges, shares = heights(ax)
    low, high = (int(np.argmin(np.abs(edges - limit))) for limit in (-0.9, 0.9))
    np.testing.assert_allclose(edges[[low, high]], [-0.9, 0.9], atol=1e-7)
    # The weight at each limit is in range, and each weight is in one bin.
    np.testing.assert_allclose([shares[:low].sum(), shares[low:high].sum(), shares[high:].sum()], [1 / 6, 3 / 6, 2 / 6])
    np.testing.assert_allclose(shares[[low, high - 1]], 1 / 6)


def test_weights_beyond_the_range_are_counted(ax: Axes) -> None:
    synapse = bh.nn.H1v1Synapse(3, 1, weight_init=np.array([[0.5], [1.2], [-0.95]]))
    bh.visualize.plot_weight_histogram(synapse, ax=ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["H1v1Synapse: 2 of 3 out of range"]
    assert ax.get_xlim()[1] > 1.2


def test_a_histogram_refuses_what_has_no_weights_to_show() -> None:
    with pytest.raises(TypeError, match=r"plot_weight_histogram: net must be a brainstate.nn.Module; got 3"):
        bh.visualize.plot_weight_histogram(3)
    synapse = bh.nn.H1v1Synapse(2, 1)
    with pytest.raises(ValueError, match="plot_weight_histogram: bins must be at least 1; got 0"):
        bh.visualize.plot_weight_histogram(synapse, bins=0)
    synapse.weight.value = synapse.weight.value.at[0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match="plot_weight_histogram: the weight H1v1Synapse contains 1 NaN"):
        bh.visualize.plot_weight_histogram(synapse)


def test_blocks_that_mix_signs_have_a_frame_and_colours_of_their_own(ax: Axes) -> None:
    weights = np.full((7, 3), 0.5)
    weights[1, 0] = weights[6, 2] = -0.2
    weights[:5, 1] = -0.3
    weights[3, 1] = 0.0
    assert bh.visualize.plot_sign_blocks(bh.nn.H1v1Synapse(7, 3, weight_init=weights), ax=ax) is ax
    np.testing.assert_allclose(ax.images[0].get_array(), weights, rtol=1e-6)
    assert frames(ax) == {(-0.5, -0.5, 1, 5), (1.5, 4.5, 1, 2)}
    hidden = np.ma.getmaskarray(ax.images[1].get_array())
    breaking = np.zeros((7, 3), bool)
    breaking[:5, 0] = breaking[5:, 2] = True
    np.testing.assert_array_equal(~hidden, breaking)
    assert ax.get_title().startswith("2 of 6 blocks of 5 mix signs")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("neuron", "input")
    assert "dimensionless" in ax.figure.axes[1].get_ylabel()


def test_a_weight_far_out_of_range_takes_wider_bins(ax: Axes) -> None:
    synapse = bh.nn.H1v2Synapse(3, 1, weight_init=np.array([[0.1], [-0.1], [1e6]]), weight_bits="chip")
    bh.visualize.plot_weight_histogram(synapse, ax=ax)
    assert len(ax.patches[0].get_xy()) < 4 * 60 + 10
    assert ax.get_xlim()[1] > 1e6
    with pytest.raises(ValueError, match=r"plot_weight_histogram: bins must be at most 2000; got 1000000000"):
        bh.visualize.plot_weight_histogram(synapse, bins=10**9)


def test_blocks_along_the_other_axis_are_drawn_along_it(ax: Axes) -> None:
    chip = bh.chip.H1V2.replace(sign_axis="post", sign_block=2, provenance="measured")
    weights = np.array([[1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])
    bh.visualize.plot_sign_blocks(bh.nn.H1v2Synapse(2, 3, chip=chip, weight_init=weights), ax=ax)
    assert frames(ax) == {(-0.5, -0.5, 2, 1)}


def test_signs_are_those_after_annealing_and_rounding(ax: Axes) -> None:
    synapse = bh.nn.H1v1Synapse(3, 1, weight_init=np.array([[0.5], [-0.01], [0.5]]), weight_bits=3)
    bh.visualize.plot_sign_blocks(synapse, ax=ax)
    assert ax.get_title() == "0 of 1 blocks of 5 mix signs"
    assert len(frames(ax)) == 0


def test_sign_blocks_takes_one_dense_weight(ax: Axes) -> None:
    bh.visualize.plot_sign_blocks(bh.nn.H1v1Layer(5, tau=20 * u.ms, topology="RC"), ax=ax)
    assert ax.images[0].get_array().shape == (5, 5)
    with pytest.raises(ValueError, match="plot_sign_blocks: H1v1Frontend has only one-to-one weights"):
        bh.visualize.plot_sign_blocks(bh.nn.H1v1Frontend())
    two = brainstate.nn.Sequential(bh.nn.H1v1Synapse(2, 2), bh.nn.H1v1Layer(2, tau=20 * u.ms, topology="RC"))
    with pytest.raises(
        ValueError, match=r"plot_sign_blocks: the module contains 2 dense weights \(layers.0, layers.1\)"
    ):
        bh.visualize.plot_sign_blocks(two)
    with pytest.raises(ValueError, match="plot_sign_blocks: the network has no weight on a chip"):
        bh.visualize.plot_sign_blocks(bh.nn.LIFSynapse(2, 2))
    with pytest.raises(TypeError, match=r"plot_sign_blocks: ax must be one matplotlib Axes.*got Figure"):
        bh.visualize.plot_sign_blocks(bh.nn.H1v1Synapse(2, 2), ax=ax.figure)
