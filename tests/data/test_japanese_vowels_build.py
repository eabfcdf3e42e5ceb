from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "build_japanese_vowels.py"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_japanese_vowels", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text(recordings: list[np.ndarray], labels: list[int]) -> str:
    lines = [
        ":".join([*(",".join(f"{value:.6f}" for value in channel) for channel in one.T), str(label)])
        for one, label in zip(recordings, labels, strict=True)
    ]
    return "#a comment\n@classLabel true 1 2\n@data\n" + "\n".join(lines) + "\n"


def test_packing_is_reproducible_and_gives_every_decimal_back(builder):
    rng = np.random.default_rng(0)
    recordings = [np.round(rng.normal(size=(length, 12)), 6) for length in (7, 29, 12)]
    parsed, labels = builder.parse(text(recordings, [1, 9, 2]))
    packed = builder.pack(parsed, labels)
    assert packed == builder.pack(parsed, labels)
    with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
        assert stored["lengths"].tolist() == [7, 29, 12]
        assert stored["labels"].tolist() == [0, 8, 1]
        frames = np.ascontiguousarray(stored["planes"].T).view("<i4").reshape(-1, 12).cumsum(axis=0, dtype=np.int64)
    np.testing.assert_array_equal(frames / 1e6, np.concatenate(recordings))


def test_another_number_of_channels_or_decimals_is_refused(builder):
    with pytest.raises(ValueError, match=r"expected recordings of 12 channels .*shape \(3, 2\)"):
        builder.parse(text([np.zeros((3, 2))], [1]))
    seventh = text([np.zeros((3, 12))], [1]).replace("0.000000", "0.0000001", 1)
    with pytest.raises(ValueError, match="six decimals"):
        builder.parse(seventh)
