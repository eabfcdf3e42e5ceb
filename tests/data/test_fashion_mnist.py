from __future__ import annotations

import gzip
import importlib
import struct
from pathlib import Path

import numpy as np
import pytest

from brainhw.data import fashion_mnist

# The function shadows its module as an attribute of the package.
MODULE = importlib.import_module("brainhw.data.fashion_mnist")
NAMES = [f"{half}-{kind}-ubyte.gz" for half in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write(file: Path, array: np.ndarray) -> None:
    file.write_bytes(gzip.compress(idx(array)))


def images(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 28, 28))


@pytest.fixture
def folder(tmp_path) -> Path:
    for half, n in (("train", 5), ("t10k", 3)):
        write(tmp_path / f"{half}-images-idx3-ubyte.gz", images(n))
        write(tmp_path / f"{half}-labels-idx1-ubyte.gz", np.arange(n))
    return tmp_path


def test_images_labels_and_shapes(folder):
    data = fashion_mnist(folder)
    assert (len(data.train), len(data.test), data.n_classes) == (5, 3, 10)
    assert data.train.x.shape == (5, 28, 28)
    assert data.train.x.dtype == np.float32
    np.testing.assert_array_equal(data.train.x, (images(5) / 255).astype(np.float32))
    assert data.test.y.tolist() == [0, 1, 2]
    assert data.test.lengths.tolist() == [28] * 3


def test_it_is_found_through_the_variable(folder, monkeypatch):
    monkeypatch.setenv("BRAINHW_DATA", str(folder))
    assert len(fashion_mnist().train) == 5


def test_the_folder_of_the_debian_package_is_searched(folder, monkeypatch):
    seen = {}

    def spy(name, root, **arguments):
        seen.update(arguments, name=name)
        return folder

    monkeypatch.setattr(MODULE, "locate", spy)
    monkeypatch.setattr(MODULE.sys, "prefix", str(folder / "environment"))
    fashion_mnist()
    tail = Path("share") / "datasets" / "fashion-mnist"
    assert seen["extra"] == [Path("/usr") / tail, folder / "environment" / tail]
    assert "apt-get install dataset-fashion-mnist" in seen["how_to_get"]


def test_a_missing_folder_or_file_says_how_to_get_it(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get install dataset-fashion-mnist"):
        fashion_mnist(tmp_path / "absent")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte.gz is missing, .*apt-get install"):
        fashion_mnist(folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda b: gzip.compress(b)[:-10], "cannot be unpacked"),
        (lambda b: gzip.compress(b)[:4], "cannot be unpacked"),
        (lambda b: b"", "starts with the bytes , expected"),
        (lambda b: b, "cannot be unpacked"),
        (lambda b: gzip.compress(b)[:30] + b"\xff\xff\xff" + gzip.compress(b)[33:], "cannot be unpacked"),
        (lambda b: gzip.compress(b"\0\0\x0d" + b[3:]), "starts with the bytes 00000d0"),
        (lambda b: gzip.compress(b[:6]), "has an incomplete header of 6 bytes"),
        (lambda b: gzip.compress(b[:-1]), "contains [0-9]+ bytes of data, expected"),
        (lambda b: gzip.compress(b + b"\0"), "contains [0-9]+ bytes of data, expected"),
        (lambda b: gzip.compress(b[:4] + b"\xff" * (len(b) - 4)), "contains [0-9]+ bytes of data, expected"),
    ],
)
def test_a_damaged_file_is_named(folder, name, damage, match):
    file = folder / name
    file.write_bytes(damage(gzip.decompress(file.read_bytes())))
    with pytest.raises(ValueError, match=rf"fashion_mnist: .*{name} {match}") as caught:
        fashion_mnist(folder)
    assert "Get this file again" in str(caught.value)


def test_contents_that_are_not_fashion_mnist_are_refused(folder):
    file = folder / "train-images-idx3-ubyte.gz"
    write(file, images(5)[:, :14])
    with pytest.raises(ValueError, match=r"images of shape \(14, 28\), expected \(28, 28\)"):
        fashion_mnist(folder)
    write(file, images(4))
    with pytest.raises(ValueError, match=r"contains 4 images, but .* 5 labels"):
        fashion_mnist(folder)
    write(file, images(5))
    write(folder / "train-labels-idx1-ubyte.gz", np.array([0, 1, 2, 3, 10]))
    with pytest.raises(ValueError, match="contains the label 10, but the largest is 9"):
        fashion_mnist(folder)
