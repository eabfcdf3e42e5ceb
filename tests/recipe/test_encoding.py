"""The stage before the chip: rows, signs, and its file."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from recipe_sets import recordings

from brainhw.recipe import Encoding
from brainhw.recipe.encoding import fit_encoding

X, _, LENGTHS = recordings(12, 3)


@pytest.fixture(scope="module")
def encoding() -> Encoding:
    x, _, lengths = recordings(45, 1)
    return fit_encoding(x, lengths, x.shape[2:], block=5, n_steps=100)[0]


def test_rows_are_positive_parts_in_blocks(encoding: Encoding) -> None:
    rows = encoding(X, LENGTHS)
    assert rows.shape == (12, encoding.n_rows)
    assert rows.dtype == np.float32
    assert rows.min() >= 0
    blocks = rows.reshape(12, -1, 5)
    np.testing.assert_array_equal(blocks, blocks[..., :1].repeat(5, axis=2))
    np.testing.assert_array_equal(blocks[:, -1], 1)
    n = (blocks.shape[1] - 1) // 2
    np.testing.assert_array_equal(np.minimum(blocks[:, :n], blocks[:, n : 2 * n]), 0)  # on or off, never both


def test_recordings_on_a_different_scale_are_reported(encoding: Encoding) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoding(X, LENGTHS)
    shifted = np.where(np.arange(len(X))[:, None, None] == 4, 100 * X + 100, X)
    with pytest.warns(
        UserWarning, match=r"^Encoding: 1 of 12 recordings, the first at index 4, differ strongly .* scale"
    ):
        encoding(shifted, LENGTHS)


def test_a_file_gives_the_same_rows(encoding: Encoding, tmp_path: Path) -> None:
    encoding.save(tmp_path / "a.encoding")
    loaded = Encoding.load(tmp_path / "a.encoding")
    np.testing.assert_array_equal(loaded(X, LENGTHS), encoding(X, LENGTHS))


def test_damaged_files_are_refused(encoding: Encoding, tmp_path: Path) -> None:
    path = tmp_path / "a.encoding"
    encoding.save(path)
    good, rng = path.read_bytes(), np.random.default_rng(0)
    for i in range(60):
        data = bytearray(good)
        at = int(rng.integers(len(data)))
        if i % 2:
            data[at] ^= 1 << int(rng.integers(8))
        else:
            del data[at:]
        path.write_bytes(bytes(data))
        with pytest.raises(ValueError, match=r"^Encoding.load: ") as caught:
            Encoding.load(path)
        assert "\n" not in str(caught.value)
