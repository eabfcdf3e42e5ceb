from __future__ import annotations

import importlib
from importlib import resources

import numpy as np
import pytest

from brainhw.data import japanese_vowels

# The function shadows its module as an attribute of the package.
MODULE = importlib.import_module("brainhw.data.japanese_vowels")


def test_official_split_and_class_counts():
    data = japanese_vowels()
    assert (len(data.train), len(data.test), data.n_classes) == (270, 370, 9)
    assert np.bincount(data.train.y).tolist() == [30] * 9
    assert np.bincount(data.test.y).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert data.class_names[0] == "speaker 1"
    assert "CC BY 4.0" in data.licence
    assert "Kudo" in data.citation


def test_shapes_lengths_and_zero_padding():
    data = japanese_vowels()
    for split, longest in ((data.train, 26), (data.test, 29)):
        assert split.x.shape == (len(split), 29, 12)
        assert (split.x.dtype, split.y.dtype, split.lengths.dtype) == (np.float32, np.int32, np.int32)
        assert (split.lengths.min(), split.lengths.max()) == (7, longest)
        padding = np.arange(29) >= split.lengths[:, None]
        assert not split.x[padding].any()
        assert np.all(split.x[~padding].any(axis=-1))
        assert np.isfinite(split.x).all()
    assert data.train.lengths.sum() + data.test.lengths.sum() == 9961


def test_values_are_the_published_decimals():
    data = japanese_vowels()
    first = [1.860936, -0.207383, 0.261557, -0.214562, -0.171253, -0.118167]
    np.testing.assert_array_equal(data.train.x[0, 0, :6], np.array(first, np.float32))
    last = [0.101818, 0.227841, 0.195739, 0.143707, 0.298334, 0.414377, 0.425088, 0.359986, 0.30589, 0.19286, 0.224688]
    assert data.test.lengths[-1] == len(last)
    np.testing.assert_array_equal(data.test.x[-1, : len(last), -1], np.array(last, np.float32))
    # Six decimals survive the whole way: every value is a whole number of millionths.
    millionths = data.test.x.astype(np.float64) * 1e6
    assert np.abs(millionths - np.rint(millionths)).max() < 0.15


def test_each_load_is_a_fresh_copy():
    first = japanese_vowels()
    first.train.x[:] = 0
    assert japanese_vowels().train.x.any()


def test_the_bundled_file_is_small_and_comes_with_its_attribution():
    folder = resources.files("brainhw.data")
    assert len((folder / "japanese_vowels.npz").read_bytes()) < 400_000
    note = (folder / "japanese_vowels.txt").read_text(encoding="utf-8")
    for word in ("CC BY 4.0", "UCI", "Kudo", "Toyama", "Shimbo", "1999"):
        assert word in note


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:5000] + bytes([b[5000] ^ 1]) + b[5001:], lambda _: b""]
)
def test_a_damaged_file_is_one_clear_error(tmp_path, monkeypatch, damage):
    copy = tmp_path / "japanese_vowels.npz"
    copy.write_bytes(damage(MODULE._FILE.read_bytes()))
    monkeypatch.setattr(MODULE, "_FILE", copy)
    with pytest.raises(RuntimeError, match=r"japanese_vowels.npz is corrupted .*Reinstall brainhw"):
        japanese_vowels()


def test_a_missing_file_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "_FILE", tmp_path / "japanese_vowels.npz")
    with pytest.raises(RuntimeError, match=r"cannot be read .*Reinstall brainhw"):
        japanese_vowels()
