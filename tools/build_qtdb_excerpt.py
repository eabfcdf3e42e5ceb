"""Build ``brainhw/data/qtdb_excerpt.npz`` from the two files of the QT Database that was encoded as spikes.

Pass the folder that contains ``QTDB_train.mat`` and ``QTDB_test.mat``. ``brainhw/data/qtdb.py`` names their source. The
script takes every fifth sequence of both files. With the same numpy and zlib it always writes the same bytes. It prints
their SHA-256, with which ``brainhw/data/qtdb.py`` verifies the file.

Spikes are stored as bits, eight steps in a byte, and labels are stored as bytes. Each sequence contains one value other
than 0 and 1, namely -1 in the first channel of the last step. This script checks it, and loading the file restores it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np

from brainhw.data import Split, qtdb

EVERY = 5
OUTPUT = Path(__file__).resolve().parents[1] / "brainhw" / "data" / "qtdb_excerpt.npz"


def pack(train: Split, test: Split) -> bytes:
    """Return the bytes of the npz archive. The same data always give the same bytes."""
    arrays: dict[str, Any] = {}
    for half, split in (("train", train), ("test", test)):
        x = np.asarray(split.x)
        spikes = x == 1
        rest = x - spikes
        if not (rest[:, -1, 0] == -1).all() or np.count_nonzero(rest) != len(rest):
            raise ValueError(f"{half}: x must contain only 0 and 1, except -1 in the first channel of the last step")
        arrays[f"{half}_spikes"] = np.packbits(spikes, axis=1)
        arrays[f"{half}_labels"] = split.y.astype(np.uint8)
    archive = io.BytesIO()
    np.savez_compressed(archive, **arrays)
    return archive.getvalue()


def main() -> None:
    """Read the data, write the archive and print its checksum."""
    parser = argparse.ArgumentParser(description="Build the excerpt of the QT Database that is part of brainhw.")
    parser.add_argument("root", type=Path, help="folder that contains QTDB_train.mat and QTDB_test.mat")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    data = qtdb(options.root)
    archive = pack(*(getattr(data, half).take(slice(None, None, EVERY)) for half in ("train", "test")))
    options.output.write_bytes(archive)
    sys.stdout.write(f"{len(archive)} bytes, SHA-256 {hashlib.sha256(archive).hexdigest()}\n")


if __name__ == "__main__":
    main()
