from __future__ import annotations

import dataclasses
import itertools

import brainunit as u
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainhw.data import Dataset, Split, batches, class_indices, hold


def frames(n: int, t: int = 6, channels: int = 2) -> Split:
    x = np.arange(n * t * channels, dtype=np.float64).reshape(n, t, channels)
    return Split(x, np.arange(n), np.full(n, t), groups=np.array([f"g{i}" for i in range(n)]))


def audio(n: int) -> Split:
    return Split([np.full(i + 1, i / 10) for i in range(n)], list(range(n)), list(range(1, n + 1)))


def dataset(**changes) -> Dataset:
    parts = {
        "name": "toy",
        "train": frames(3),
        "test": frames(2),
        "n_classes": 3,
        "class_names": ("a", "b", "c"),
        "licence": "none",
        "citation": "none",
    }
    return Dataset(**(parts | changes))


def test_split_keeps_the_promised_dtypes_and_is_frozen():
    split = frames(4)
    assert (split.x.dtype, split.y.dtype, split.lengths.dtype) == (np.float32, np.int32, np.int32)
    assert len(split) == 4
    assert all(one.dtype == np.float32 for one in audio(3).x)
    with pytest.raises(dataclasses.FrozenInstanceError):
        split.y = split.y


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"x": np.zeros((2, 3, 1)), "y": [0], "lengths": [3]}, "x has 2 entries, but y has 1"),
        ({"x": np.zeros((2, 3, 1)), "y": [0, 1], "lengths": [3]}, "lengths has 1 entries, but y has 2"),
        (
            {"x": np.zeros((1, 3, 1)), "y": [0], "lengths": [3], "groups": ["a", "b"]},
            "groups has 2 entries, but y has 1",
        ),
        ({"x": np.zeros((2, 3)), "y": [0, 1], "lengths": [3, 3]}, r"x must have shape .*; got shape \(2, 3\)"),
        ({"x": np.zeros((1, 3, 1)), "y": [0], "lengths": [4]}, "between 0 and 3, the number of frames of x; got 4"),
        ({"x": np.zeros((1, 3, 1)), "y": [0.5], "lengths": [3]}, "y must be a 1-D array of integers"),
        ({"x": [np.zeros(4)], "y": [0], "lengths": [3]}, r"recording 0 of x has shape \(4,\)"),
        ({"x": [np.zeros((4, 1))], "y": [0], "lengths": [4]}, "Pass raw audio as a list of 1-D arrays"),
        ({"x": [np.zeros(4), np.zeros(4)], "y": [0], "lengths": [4]}, "x has 2 entries, but y has 1"),
    ],
)
def test_split_refuses_parts_that_disagree(parts, match):
    with pytest.raises(ValueError, match=match):
        Split(**parts)


def test_split_refuses_a_quantity():
    with pytest.raises(TypeError, match="Split: x must be plain numbers"):
        Split(np.zeros((1, 3, 1)) * u.mV, [0], [3])


def test_frames_may_be_images():
    split = Split(np.zeros((5, 3, 4, 4, 1)), np.arange(5))
    assert split.lengths.tolist() == [3] * 5
    assert [batch.x.shape for batch in batches(split, 2)] == [(2, 3, 4, 4, 1)] * 2 + [(1, 3, 4, 4, 1)]


def test_take_accepts_lists_slices_and_masks_in_order():
    split = frames(4)
    assert split.take([3, 1]).y.tolist() == [3, 1]
    assert split.take([3, 1]).groups.tolist() == ["g3", "g1"]
    assert split.take(slice(1, 3)).y.tolist() == [1, 2]
    assert split.take(split.y > 2).y.tolist() == [3]
    np.testing.assert_array_equal(split.take([2]).x[0], split.x[2])
    assert [len(one) for one in audio(4).take([3, 0]).x] == [4, 1]


def test_reprs_are_short_and_readable():
    assert repr(frames(3)) == "Split(3 recordings, x [3, 6, 2], lengths 6 to 6)"
    assert repr(audio(3)) == "Split(3 recordings, raw audio, lengths 1 to 3)"
    assert repr(frames(3).take([])) == "Split(0 recordings, x [0, 6, 2])"
    text = repr(dataset(rate=8 * u.kHz))
    assert text.startswith("Dataset(toy: 3 classes, licence none, sampled at 8")
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"class_names": ("a",)}, "n_classes is 3, but class_names contains 1"),
        ({"n_classes": 2, "class_names": ("a", "b")}, "train split must be between 0 and 1; got 0 to 2"),
        ({"test": Split(np.zeros((1, 1, 1)), [3], [1])}, "test split must be between 0 and 2; got 3 to 3"),
    ],
)
def test_dataset_refuses_labels_and_names_that_do_not_fit(changes, match):
    with pytest.raises(ValueError, match=match):
        dataset(**changes)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    n=st.integers(1, 30),
    size=st.integers(1, 35),
    seeds=st.tuples(st.integers(0, 2**40), st.integers(0, 1000)),
    shuffle=st.booleans(),
    make=st.sampled_from([audio, frames]),
)
def test_batches_cover_the_split_once_and_repeat_for_the_same_seed_and_epoch(n, size, seeds, shuffle, make):
    split = make(n)
    order = {"seed": seeds[0], "epoch": seeds[1], "shuffle": shuffle}
    first = [batch.y.tolist() for batch in batches(split, size, **order)]
    assert first == [batch.y.tolist() for batch in batches(split, size, **order)]
    seen = list(itertools.chain(*first))
    assert sorted(seen) == list(range(n))
    assert [len(one) for one in first] == [size] * (n // size) + ([n % size] if n % size else [])
    if not shuffle:
        assert seen == list(range(n))
    if n >= size:
        full = [batch.y.tolist() for batch in batches(split, size, drop_last=True, **order)]
        assert full == first[: n // size]


def test_each_epoch_and_seed_has_its_own_order():
    split = frames(50)
    orders = {
        tuple(next(batches(split, 50, seed=seed, epoch=epoch)).y.tolist()) for seed in range(3) for epoch in range(3)
    }
    assert len(orders) == 9


def test_a_batch_keeps_recordings_labels_and_lengths_together():
    for split in (audio(9), frames(9)):
        for batch in batches(split, 4, seed=1):
            for x, y, length in zip(batch.x, batch.y, batch.lengths, strict=True):
                np.testing.assert_array_equal(x, split.x[y])
                assert length == split.lengths[y]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an integer"),
        ({"batch_size": 2, "seed": -1}, ValueError, "seed must be at least 0; got -1"),
        ({"batch_size": 2, "epoch": 0.5}, TypeError, "epoch must be an integer"),
        (
            {"batch_size": 9, "drop_last": True},
            ValueError,
            "batch_size 9 with drop_last yields no batch. Use batch_size 3",
        ),
    ],
)
def test_batches_refuses_bad_arguments_at_the_call(arguments, error, match):
    with pytest.raises(error, match=match):
        batches(frames(3), **arguments)


def test_batches_refuses_an_empty_split_and_what_is_no_split():
    with pytest.raises(ValueError, match="the split is empty"):
        batches(frames(3).take([]), 2)
    with pytest.raises(TypeError, match=r"split must be a Split such as dataset\.train"):
        batches(np.zeros((3, 2, 1)), 2)


def test_a_split_of_arrays_alone_takes_all_frames_of_each() -> None:
    split = Split(np.ones((3, 5, 2)), [0, 1, 0])
    assert split.lengths.tolist() == [5, 5, 5]
    assert Split([np.ones(4), np.ones(7)], [0, 1]).lengths.tolist() == [4, 7]
    with pytest.raises(ValueError, match=r"^Split: x must have shape .*; got shape \(3,\)\.$"):
        Split(np.ones(3), [0, 1, 0])


def test_static_features_are_refused_with_the_call_that_holds_them() -> None:
    x = np.random.default_rng(0).random((4, 64))
    with pytest.raises(ValueError, match=r"^Split: x must have shape .*got shape \(4, 64\).*data\.hold"):
        Split(x, [0, 1, 0, 1])
    assert Split(hold(x), [0, 1, 0, 1]).x.shape == (4, 60, 64)


@pytest.mark.parametrize(
    "names", [["cat", "dog"], np.array(["cat", "dog"]), np.array(["cat", "dog"], object), [b"c", b"d"]]
)
def test_names_in_place_of_class_indices_are_refused(names: object) -> None:
    with pytest.raises(TypeError, match=r"^Split: y must contain class indices.*'c.*class_indices"):
        Split(np.ones((2, 5, 2)), names)


def test_the_warning_about_classes_from_one_names_the_call_that_counts_them() -> None:
    with pytest.warns(UserWarning, match=r"^Split: y contains the classes 1 to 2 .*class_indices"):
        Split(np.ones((4, 5, 2)), [1, 2, 1, 2])
    assert Split(np.ones((4, 5, 2)), class_indices([1, 2, 1, 2])[0]).y.tolist() == [0, 1, 0, 1]


def test_lengths_and_labels_of_frames_that_fit_the_last_axis_prove_channels_first() -> None:
    x = np.ones((2, 3, 9))
    with pytest.raises(ValueError, match=r"^Split: lengths must be between 0 and 3, .*7 to 9.*moveaxis\(x, 1, 2\)"):
        Split(x, [0, 1], [7, 9])
    with pytest.raises(ValueError, match=r"^Split: y has labels for 9 frames.*moveaxis\(x, 1, 2\)"):
        Split(x, np.zeros((2, 9), int))
    for parts in ({"y": [0, 1], "lengths": [7, 10]}, {"y": np.zeros((2, 8), int)}):
        with pytest.raises(ValueError, match=r"^Split: (?!.*moveaxis)"):
            Split(x, **parts)
