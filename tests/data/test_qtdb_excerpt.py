from __future__ import annotations

import importlib
import importlib.util
import io
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from brainhw.data import Split, qtdb_excerpt

# The function shadows its module as an attribute of the package.
MODULE = importlib.import_module("brainhw.data.qtdb")
SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "build_qtdb_excerpt.py"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_qtdb_excerpt", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_has_the_form_of_the_whole_set() -> None:
    data = qtdb_excerpt()
    assert (len(data.train), len(data.test), data.n_classes) == (124, 29, 6)
    assert "Open Data Commons" in data.licence
    assert "Laguna" in data.citation
    for split in (data.train, data.test):
        assert split.x.shape == (len(split), 1301, 4)
        assert (split.x.dtype, split.y.dtype, split.y.shape) == (np.float32, np.int32, split.x.shape[:2])
        assert (split.lengths == 1301).all()
        assert (split.x[:, -1, 0] == -1).all()
        assert np.isin(split.x[:, :-1], (0, 1)).all()
        assert np.isin(split.x[:, :, 1:], (0, 1)).all()


def test_its_counts_are_those_of_the_sequences_taken() -> None:
    data = qtdb_excerpt()
    assert (data.train.x == 1).sum(axis=(0, 1)).tolist() == [13399, 10917, 14047, 11738]
    assert (data.test.x == 1).sum(axis=(0, 1)).tolist() == [3213, 2538, 2886, 2808]
    assert np.bincount(data.train.y.ravel()).tolist() == [34334, 9577, 9289, 7078, 48279, 52767]
    assert np.bincount(data.test.y.ravel()).tolist() == [9386, 2057, 1932, 1778, 11342, 11234]


def test_each_load_is_a_copy_of_its_own() -> None:
    first = qtdb_excerpt()
    first.train.x[:] = 0
    assert qtdb_excerpt().train.x.any()


def test_the_excerpt_is_small_and_comes_with_its_attribution() -> None:
    folder = resources.files("brainhw.data")
    assert len((folder / "qtdb_excerpt.npz").read_bytes()) < 150_000
    note = (folder / "qtdb_excerpt.txt").read_text(encoding="utf-8")
    for word in ("ODC-BY", "PhysioNet", "Laguna", "Yin", "Corradi", "Bohte", "MIT"):
        assert word in note


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda _: b""], ids=["cut", "empty"])
def test_a_damaged_excerpt_is_one_clear_error(tmp_path, monkeypatch, damage) -> None:
    copy = tmp_path / "qtdb_excerpt.npz"
    copy.write_bytes(damage(MODULE._EXCERPT.read_bytes()))
    monkeypatch.setattr(MODULE, "_EXCERPT", copy)
    with pytest.raises(RuntimeError, match=r"^qtdb_excerpt: .*qtdb_excerpt.npz is corrupted .*Reinstall brainhw"):
        qtdb_excerpt()


def test_a_missing_excerpt_is_one_clear_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(MODULE, "_EXCERPT", tmp_path / "qtdb_excerpt.npz")
    with pytest.raises(RuntimeError, match=r"^qtdb_excerpt: .*cannot be read .*Reinstall brainhw"):
        qtdb_excerpt()


def test_packing_the_excerpt_is_reproducible_and_loses_nothing(builder) -> None:
    data = qtdb_excerpt()
    packed = builder.pack(data.train, data.test)
    assert packed == builder.pack(data.train, data.test)
    with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
        again = MODULE._unpack(stored["test_spikes"], stored["test_labels"])
    np.testing.assert_array_equal(again.x, data.test.x)
    np.testing.assert_array_equal(again.y, data.test.y)


@pytest.mark.parametrize("x", [np.zeros((2, 5, 4)), np.full((2, 5, 4), -1)], ids=["no mark", "too many"])
def test_values_that_no_bit_can_hold_are_refused(builder, x: np.ndarray) -> None:
    split = Split(x, np.zeros((2, 5), int), [5, 5])
    with pytest.raises(ValueError, match="train: x must contain only 0 and 1, except -1 in the first channel"):
        builder.pack(split, split)
