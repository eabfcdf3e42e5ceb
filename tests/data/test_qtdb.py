from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from brainhw.data import Split, batches, qtdb


def write(file: Path, n: int = 3, n_steps: int = 20, **changes: Any) -> None:
    rng = np.random.default_rng(n)
    content = {
        "x": rng.integers(0, 2, (n, n_steps, 4)).astype(np.int16),
        "y": np.eye(6, dtype=np.uint8)[rng.integers(0, 6, (n, n_steps))],
    }
    scipy.io.savemat(file, {name: value for name, value in {**content, **changes}.items() if value is not None})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "qtdb"
    folder.mkdir()
    write(folder / "QTDB_train.mat", 5)
    write(folder / "QTDB_test.mat", 3)
    return folder


def test_sequences_and_a_label_for_every_step(folder: Path) -> None:
    data = qtdb(folder)
    assert (data.n_classes, len(data.class_names)) == (6, 6)
    for split, n in ((data.train, 5), (data.test, 3)):
        content = scipy.io.loadmat(folder / f"QTDB_{'train' if n == 5 else 'test'}.mat")
        np.testing.assert_array_equal(split.x, content["x"])
        np.testing.assert_array_equal(split.y, content["y"].argmax(-1))
        assert (split.x.dtype, split.y.dtype) == (np.float32, np.int32)
        assert split.lengths.tolist() == [20] * n


def test_steps_without_a_label_count_as_the_first_segment(folder: Path) -> None:
    write(folder / "QTDB_test.mat", 2, y=np.zeros((2, 20, 6), np.uint8))
    assert (qtdb(folder).test.y == 0).all()


def test_batches_keep_labels_and_steps_together(folder: Path) -> None:
    train = qtdb(folder).train
    seen = list(batches(train, 2, seed=3))
    assert [batch.y.shape for batch in seen] == [(2, 20), (2, 20), (1, 20)]
    for batch in seen:
        for x, y in zip(batch.x, batch.y, strict=True):
            (row,) = (i for i in range(5) if np.array_equal(train.x[i], x))
            np.testing.assert_array_equal(train.y[row], y)


def test_the_variable_is_searched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (folder, folder.parent):
        monkeypatch.setenv("BRAINHW_DATA", str(place))
        assert len(qtdb().train) == 5


def test_nothing_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"qtdb: root .*QTDB_train.mat.*Yin, Corradi and Bohte"):
        qtdb(tmp_path)


@pytest.mark.parametrize("root", [3, b"folder", ["folder"]], ids=str)
def test_a_root_that_is_no_path(root: Any) -> None:
    with pytest.raises(TypeError, match=r"qtdb: root must be the path of a folder, or None to search; got "):
        qtdb(root)


def test_one_file_alone_names_the_other(folder: Path) -> None:
    (folder / "QTDB_test.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"QTDB_test.mat is missing; both"):
        qtdb(folder)


@pytest.mark.parametrize("content", [b"", b"not a MATLAB file at all", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_a_damaged_file_is_named(folder: Path, content: bytes) -> None:
    (folder / "QTDB_train.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"qtdb: .*QTDB_train.mat (is not a readable MATLAB|has no variable)"):
        qtdb(folder)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"y": None}, "has no variable y"),
        ({"x": np.zeros((3, 20, 3))}, r"x of shape \(3, 20, 3\) .*expected x \[n, T, 4\]"),
        ({"x": np.zeros((3, 21, 4))}, r"x of shape \(3, 21, 4\) and y of shape \(3, 20, 6\)"),
        ({"y": np.zeros((3, 20, 5))}, r"y of shape \(3, 20, 5\)"),
        ({"x": np.full((3, 20, 4), 2)}, "values of x other than -1, 0 and 1"),
        ({"x": np.full((3, 20, 4), np.nan)}, "values of x other than"),
        ({"y": np.ones((3, 20, 6))}, "more than one segment label per step in y"),
    ],
)
def test_other_content_is_refused(folder: Path, changes: dict[str, Any], match: str) -> None:
    write(folder / "QTDB_train.mat", **changes)
    with pytest.raises(ValueError, match=rf"qtdb: .*QTDB_train.mat .*{match}"):
        qtdb(folder)


def test_labels_of_every_frame_belong_to_frames() -> None:
    split = Split(np.zeros((2, 3, 1)), [[0, 1, 2], [2, 1, 0]], [3, 3])
    assert split.take([1]).y.tolist() == [[2, 1, 0]]
    with pytest.raises(ValueError, match="y has labels for 2 frames, but x has 3"):
        Split(np.zeros((1, 3, 1)), [[0, 1]], [3])
    with pytest.raises(ValueError, match="x is raw audio"):
        Split([np.zeros(3)], [[0, 1, 2]], [3])
    with pytest.raises(
        ValueError, match=r"y must be a 1-D array of integers, or a 2-D array with one number per frame"
    ):
        Split(np.zeros((1, 3, 1)), [[[0]]], [3])
