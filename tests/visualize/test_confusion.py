"""Figure of a confusion matrix."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

import brainhw as bh


def report(confusion: np.ndarray, names: tuple[str, ...] = ()) -> bh.train.ClassReport:
    return bh.train.ClassReport(confusion, tied=0, undecided=0, silent=0, names=names)


def test_squares_hold_fractions_of_the_true_class_and_numbers_of_recordings() -> None:
    ax = report(np.array([[3, 1, 0], [0, 0, 0], [1, 0, 4]]), ("a", "b", "a long name of a class")).plot()
    shown = ax.get_images()[0].get_array().filled(np.nan)
    np.testing.assert_allclose(shown, [[0.75, 0.25, 0], [np.nan] * 3, [0.2, 0, 0.8]])
    assert [(text.get_position(), text.get_text()) for text in ax.texts] == [
        ((0, 0), "3"), ((1, 0), "1"), ((0, 2), "1"), ((2, 2), "4"),
    ]  # fmt: skip
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "a long n…a class"]
    assert ax.get_title() == "accuracy 77.78 %"
    plt.close(ax.figure)


@pytest.mark.parametrize(("n", "numbers", "expected"), [(20, None, 20), (21, None, 0), (21, True, 21), (5, False, 0)])
def test_numbers_are_left_out_where_they_would_overlap(n: int, numbers: bool | None, expected: int) -> None:
    ax = plt.subplots()[1]
    assert bh.visualize.plot_confusion(report(np.eye(n, dtype=int)), numbers=numbers, ax=ax) is ax
    assert len(ax.texts) == expected
    plt.close(ax.figure)


def test_shortened_names_keep_their_ends() -> None:
    names = tuple(f"recordings of the speaker number {i}" for i in range(3))
    ax = report(np.eye(3, dtype=int), names).plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"recordin…umber {i}" for i in range(3)]
    plt.close(ax.figure)


def test_many_classes_have_at_most_forty_names() -> None:
    ax = report(np.eye(90, dtype=int)).plot()
    assert [label.get_text() for label in ax.get_xticklabels()] == [str(one) for one in range(0, 90, 3)]
    plt.close(ax.figure)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="plot_confusion: report must be a ClassReport"):
        bh.visualize.plot_confusion(np.eye(3))
    with pytest.raises(TypeError, match="plot_confusion: numbers must be True or False; got 3"):
        report(np.eye(2, dtype=int)).plot(numbers=3)
