"""Build ``brainhw/data/japanese_vowels.npz`` from the two text files of the data set.

Pass the paths of the training file and the test file in the ``.ts`` format of the time-series archives. Use the
original files, whose recordings have different lengths. With the same zlib the script always writes the same bytes. It
prints their SHA-256, with which ``brainhw/data/japanese_vowels.py`` verifies the file.

Each value has six decimals, so it is stored exactly as an integer number of millionths. The differences between
consecutive frames are small. Stored as byte planes, they compress a third better than floats.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

EXPECTED = {"train": 270, "test": 370}
CHANNELS = 12
SPEAKERS = 9
OUTPUT = Path(__file__).resolve().parents[1] / "brainhw" / "data" / "japanese_vowels.npz"


def parse(text: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the recordings ``[frames, channels]`` in units of one millionth, and their labels, which start at 0."""
    recordings, labels = [], []
    for line in text.partition("@data\n")[2].split():
        *channels, label = line.split(":")
        values = np.array([channel.split(",") for channel in channels], dtype=np.float64).T
        millionths = np.rint(values * 1e6)
        if values.shape[1] != CHANNELS or not np.array_equal(millionths / 1e6, values):
            raise ValueError(
                f"expected recordings of {CHANNELS} channels and values with six decimals, got shape {values.shape}"
            )
        recordings.append(millionths.astype("<i4"))
        labels.append(int(label) - 1)
    return recordings, np.array(labels, dtype=np.int32)


def pack(recordings: list[np.ndarray], labels: np.ndarray) -> bytes:
    """Return the bytes of the npz archive. The same data always give the same bytes."""
    frames = np.concatenate(recordings)
    differences = np.diff(frames, axis=0, prepend=np.zeros_like(frames[:1])).astype("<i4")
    arrays = {
        "planes": np.ascontiguousarray(differences.reshape(-1, 1).view(np.uint8).T),
        "lengths": np.array([len(one) for one in recordings], dtype=np.uint8),
        "labels": labels.astype(np.uint8),
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            out.writestr(entry, member.getvalue(), compresslevel=9)
    return archive.getvalue()


def main() -> None:
    """Read both files, check the numbers of recordings and speakers, write the archive and print its checksum."""
    parser = argparse.ArgumentParser(description="Build the Japanese Vowels file that is part of brainhw.")
    parser.add_argument("train", type=Path, help="JapaneseVowels_TRAIN.ts")
    parser.add_argument("test", type=Path, help="JapaneseVowels_TEST.ts")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    halves = {half: parse(getattr(options, half).read_text()) for half in EXPECTED}
    for half, (recordings, labels) in halves.items():
        if len(recordings) != EXPECTED[half] or set(labels) != set(range(SPEAKERS)):
            raise ValueError(f"{half}: {len(recordings)} recordings, expected {EXPECTED[half]} of {SPEAKERS} speakers")
    archive = pack(halves["train"][0] + halves["test"][0], np.concatenate([halves["train"][1], halves["test"][1]]))
    options.output.write_bytes(archive)
    sys.stdout.write(f"{len(archive)} bytes, SHA-256 {hashlib.sha256(archive).hexdigest()}\n")


if __name__ == "__main__":
    main()
