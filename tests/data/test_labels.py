from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainhw.data import Dataset, Split, class_indices


@given(st.lists(st.text(min_size=0, max_size=3, alphabet="abcé1 "), min_size=1, max_size=20))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_names_come_back_from_their_numbers(labels: list[str]) -> None:
    numbers, names = class_indices(labels)
    assert [names[one] for one in numbers] == labels
    assert list(names) == sorted(set(labels))
    assert numbers.dtype == np.int32


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=20))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_numbers_are_counted_in_their_own_order(labels: list[int]) -> None:
    numbers, names = class_indices(labels)
    assert [int(names[one]) for one in numbers] == labels
    assert [int(name) for name in names] == sorted(set(labels))
    assert class_indices(np.array(labels, float))[1] == names


def test_the_test_data_get_the_numbers_of_the_training_data() -> None:
    _, names = class_indices(["dog", "ant", "cat"])
    numbers, again = class_indices(np.array(["dog", "dog", "cat"], object), names)
    assert numbers.tolist() == [2, 2, 1]
    assert again == names
    # By their meaning and not by their order: here without class 1.
    assert class_indices([3, 2], class_indices([1, 2, 3])[1])[0].tolist() == [2, 1]


def test_names_of_text_have_the_type_that_a_data_set_takes() -> None:
    y, names = class_indices(np.array([["a", "b"], ["b", "b"]]))
    assert y.tolist() == [[0, 1], [1, 1]]
    assert all(type(name) is str for name in names)
    split = Split(np.ones((2, 2, 3)), y)
    assert Dataset("toy", split, split, len(names), names, "CC0", "me").n_classes == 2


def test_a_label_that_the_training_data_lack_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"^class_indices: labels must contain only the names 'ant', 'cat'; 'emu' and 1 more are unknown",
    ):
        class_indices(["fox", "emu", "ant", "emu"], ("ant", "cat"))
    with pytest.raises(
        ValueError, match=r"^class_indices: labels must contain only the names '8', '9',.*, \.\.\.; '0' is unknown"
    ):
        class_indices([0], [str(i) for i in range(1, 30)][7:] + list("abcdefg"))


@pytest.mark.parametrize("labels", ["cat", 3, None, [0.5, 1.0], [1.0, np.nan], ["a", None], {"a"}, [[["a"]]]])
def test_labels_that_are_none_are_refused(labels: object) -> None:
    with pytest.raises(TypeError, match=r"^class_indices: labels must be an array"):
        class_indices(labels)


def test_bytes_and_bools_have_names() -> None:
    assert class_indices([True, False])[1] == class_indices(np.array([True, False], object))[1] == ("False", "True")
    assert class_indices(np.array([3, 1], object))[1] == ("1", "3")
    with pytest.raises(TypeError, match=r"^class_indices: labels contains bytes that are not UTF-8 text"):
        class_indices([b"\xe4", b"\xf6"])
    assert class_indices([b"b", "a\u00e9".encode()])[1] == ("a\u00e9", "b")
    assert class_indices(np.array([b"b", b"a"]))[0].tolist() == [1, 0]
    numbers, names = class_indices(np.array([True, False]))
    assert (numbers.tolist(), names) == ([1, 0], ("False", "True"))


def test_no_labels_and_bad_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^class_indices: labels must contain at least one label; got shape \(0,\)"):
        class_indices(np.zeros(0, int))
    for names in (["a", "a"], [1, 2], []):
        with pytest.raises(ValueError, match=r"^class_indices: names must be distinct strings"):
            class_indices(["a"], names)
    with pytest.raises(TypeError, match=r"^class_indices: names must be a sequence of text; got 'ab'"):
        class_indices(["a"], "ab")
