"""Fashion-MNIST data set, read from its four idx files."""

from __future__ import annotations

import gzip
import math
import os
import sys
import zlib
from pathlib import Path

import numpy as np

from brainhw._files import open_regular
from brainhw.data.dataset import Dataset, Split
from brainhw.data.locate import locate

__all__ = ["fashion_mnist"]

_SIDE = 28
# Size in bytes of the file of the 60,000 training images, with its header.
_LARGEST = 16 + 60_000 * _SIDE**2
_CLASSES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_HOW_TO_GET = "On Debian and Ubuntu `apt-get install dataset-fashion-mnist` installs it; it is four files *-ubyte.gz."


def _read_idx(file: Path, ndim: int) -> np.ndarray:
    """Read one gzip-compressed idx file of unsigned bytes with ``ndim`` axes."""

    def broken(what: str) -> ValueError:
        return ValueError(f"fashion_mnist: {file} {what}. Get this file again.")

    try:
        with open_regular(file) as packed, gzip.GzipFile(fileobj=packed) as stream:
            content = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"fashion_mnist: {file} is missing, but other files of the data set exist. {_HOW_TO_GET}"
        ) from None
    except (EOFError, OSError, zlib.error) as error:
        raise broken(f"cannot be unpacked ({error})") from None
    if len(content) > _LARGEST:  # a small file may unpack to gigabytes
        raise broken(f"unpacks to more than {_LARGEST} bytes, the size of the largest file of the data set")
    # An idx file starts with two zero bytes, the type (8 is unsigned byte), the number of axes, and their lengths.
    magic, start = bytes((0, 0, 8, ndim)), 4 + 4 * ndim
    if content[:4] != magic:
        raise broken(f"starts with the bytes {content[:4].hex()}, expected {magic.hex()}")
    if len(content) < start:
        raise broken(f"has an incomplete header of {len(content)} bytes")
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", ndim, 4))
    # Python ints, because the lengths in a corrupted header may overflow 64 bits.
    size = math.prod(shape)
    if len(content) - start != size:
        raise broken(f"contains {len(content) - start} bytes of data, expected {size} for shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _load(folder: Path, prefix: str) -> Split:
    image_file, label_file = folder / f"{prefix}-images-idx3-ubyte.gz", folder / f"{prefix}-labels-idx1-ubyte.gz"
    images, labels = _read_idx(image_file, 3), _read_idx(label_file, 1)
    if images.shape[1:] != (_SIDE, _SIDE):
        raise ValueError(
            f"fashion_mnist: {image_file} contains images of shape {images.shape[1:]}, expected {(_SIDE, _SIDE)}. "
            "It is not Fashion-MNIST."
        )
    if len(images) != len(labels) or not len(labels):
        raise ValueError(
            f"fashion_mnist: {image_file} contains {len(images)} images, but {label_file} contains {len(labels)} "
            "labels. Get both files again."
        )
    if labels.max() >= len(_CLASSES):
        raise ValueError(
            f"fashion_mnist: {label_file} contains the label {labels.max()}, but the largest is {len(_CLASSES) - 1}. "
            "It is not Fashion-MNIST."
        )
    return Split(images.astype(np.float32) / np.float32(255), labels)


def fashion_mnist(root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load Fashion-MNIST: grey images of ten kinds of clothing, 60,000 for training and 10,000 for testing.

    Each row of an image is a frame, so a recording has 28 frames of 28 channels. ``x.reshape(n, 784)`` returns one
    vector per image.

    Parameters
    ----------
    root
        The folder with the four files ``train-images-idx3-ubyte.gz``, ``train-labels-idx1-ubyte.gz``,
        ``t10k-images-idx3-ubyte.gz`` and ``t10k-labels-idx1-ubyte.gz``. ``None`` (default) searches the folders of
        :func:`brainhw.data.locate` for ``fashion_mnist``, and the folder of Debian's package ``dataset-fashion-mnist``.

    Returns
    -------
    Dataset
        ``x`` is float32 ``[n, 28, 28]`` from 0 to 1. ``y`` is the class, 0 to 9.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is corrupted or is not a file of this data set. The message names the file.

    References
    ----------
    H. Xiao, K. Rasul, R. Vollgraf (2017). Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms. arXiv:1708.07747. Licence MIT.

    Examples
    --------
    >>> import gzip
    >>> import tempfile
    >>> from pathlib import Path
    >>> from brainhw.data import fashion_mnist
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for half in ("train", "t10k"):
    ...         images = bytes.fromhex("00000803 00000001 0000001c 0000001c") + bytes([255] * 784)
    ...         labels = bytes.fromhex("00000801 00000001 09")
    ...         _ = (Path(folder) / f"{half}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    ...         _ = (Path(folder) / f"{half}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    ...     data = fashion_mnist(folder)
    >>> data.train.x.shape, float(data.train.x.max()), data.class_names[data.train.y[0]]
    ((1, 28, 28), 1.0, 'ankle boot')
    """
    # Debian's package installs below /usr, even if Python runs in a virtual environment. Both prefixes may be equal.
    prefixes = dict.fromkeys(("/usr", sys.prefix))
    folder = locate(
        "fashion_mnist",
        root,
        marker="train-images-idx3-ubyte.gz",
        how_to_get=_HOW_TO_GET,
        extra=[Path(prefix) / "share" / "datasets" / "fashion-mnist" for prefix in prefixes],
    )
    return Dataset(
        name="fashion_mnist",
        train=_load(folder, "train"),
        test=_load(folder, "t10k"),
        n_classes=len(_CLASSES),
        class_names=_CLASSES,
        licence="MIT",
        citation=(
            "H. Xiao, K. Rasul, R. Vollgraf (2017). Fashion-MNIST: a novel image dataset for benchmarking machine "
            "learning algorithms. arXiv:1708.07747."
        ),
    )
