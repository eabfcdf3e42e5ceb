"""The figure of a placement: cores to scale, every piece in its place, and every name to be read somewhere."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import brainhw as bh
from brainhw.deploy.placement import Need, Piece, Placement, place_layers


@pytest.fixture
def ax() -> Iterator[Axes]:
    figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    yield ax
    plt.close(figure)


def written(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_text()]


def inside(ax: Axes) -> bool:
    """Whether every text lies within the block that it stands in."""
    ax.figure.draw_without_rendering()
    for bar, text in zip(ax.patches, ax.texts, strict=True):
        if text.get_text():
            block, words = bar.get_window_extent(), text.get_window_extent()
            if words.width > block.width + 1 or words.height > block.height + 1:
                return False
    return True


def test_pieces_and_free_neurons_are_drawn_where_they_lie(ax: Axes) -> None:
    ears, hidden = Need("ears", 16, frontend=True), Need("hidden", 180)
    placement = place_layers(bh.chip.H1V1, [ears, hidden, Need("out", 50, recurrent=True)])
    assert bh.visualize.plot_placement(placement, ax=ax) is ax
    drawn = [(round(bar.get_x() + 0.45), bar.get_y(), bar.get_height()) for bar in ax.patches]
    assert drawn == [(p.core, p.offset, p.count) for p in placement.pieces] + [(3, 54, 10)]
    assert len({bar.get_facecolor() for bar in ax.patches}) == 4
    assert written(ax) == [
        "ears\n16, frontend\n(assumed place)",
        *["hidden\n48 of 180", "hidden\n64 of 180", "hidden\n64 of 180", "hidden: 4 of 180"],
        "out\n50, RC",
        "10 free",
    ]
    assert [tick.get_text() for tick in ax.get_xticklabels()][2:] == [
        "core 2\n64 neurons\n0 free",
        "core 3\n64 neurons\n10 free",
    ]
    assert ax.get_title() == "H1v1: 246 of 256 neurons on 4 of 4 cores"
    assert ax.get_legend() is None
    assert inside(ax)


def test_cores_are_to_scale_and_free_neurons_between_pieces_are_shown(ax: Axes) -> None:
    placement = Placement(bh.chip.H1V2, (Piece("a", 0, 20, 1, 10), Piece("b", 0, 100, 2, 0, "RC")))
    bh.visualize.plot_placement(placement, ax=ax)
    drawn = [(round(bar.get_x() + 0.45), bar.get_y(), bar.get_height()) for bar in ax.patches]
    assert drawn == [(1, 10, 20), (2, 0, 100), (0, 0, 50), (1, 0, 10), (1, 30, 20)]
    assert written(ax)[2:] == ["50 free", "10 free", "20 free"]
    assert ax.get_ylim() == (0, 100)


def test_names_that_do_not_fit_their_block_stand_in_a_legend(ax: Axes) -> None:
    long = "a name that is far too long for any block of a core on this figure"
    needs = [Need(f"layer{i}", 1) for i in range(40)] + [Need(long, 64, recurrent=True), Need("short", 60)]
    bh.visualize.plot_placement(place_layers(bh.chip.H1V1, needs), ax=ax)
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert f"{long}: 64, RC" in named
    assert {f"layer{i}: 1" for i in range(40)} <= set(named)
    assert len(named) == len(set(named))
    assert "64" in written(ax)
    assert inside(ax)
    colors = {bar.get_facecolor() for bar in ax.patches}
    assert len(colors) == len(needs) + 1


def test_a_figure_of_its_own_is_wider_for_more_cores() -> None:
    widths = []
    for chip in (bh.chip.H1V2, bh.chip.H1V1):
        ax = bh.visualize.plot_placement(place_layers(chip, [Need("a", 3)]))
        widths.append(ax.figure.get_figwidth())
        plt.close(ax.figure)
    assert widths[0] < widths[1]


def test_only_a_placement_is_drawn() -> None:
    with pytest.raises(
        TypeError, match=r"plot_placement: placement must be a Placement, from brainhw.deploy.place; got list \[\]"
    ):
        bh.visualize.plot_placement([])
