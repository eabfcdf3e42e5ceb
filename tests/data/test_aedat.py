"""AEDAT4 files: one that dv-processing wrote (tests/golden/events), and what is none."""

from __future__ import annotations

import builtins
from pathlib import Path

import brainunit as u
import numpy as np
import pytest

from brainhw.data import events_to_frames, read_aedat

FILE = Path(__file__).parents[1] / "golden" / "events" / "small.aedat4"


def test_the_events_are_those_that_were_written() -> None:
    pytest.importorskip("aedat")
    events, sensor_size = read_aedat(FILE)
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 40_000, 200)) + 1_700_000_000_000_000
    x, y, p = rng.integers(0, 16, 200), rng.integers(0, 12, 200), rng.random(200) < 0.5
    assert sensor_size == (16, 12)
    assert u.get_unit(events.t) == u.us
    for found, written in zip((events.t.mantissa, *events[1:]), (t, x, y, p), strict=True):
        np.testing.assert_array_equal(found, written)
    assert events_to_frames(*events, sensor_size, 1 * u.ms).sum() == 200


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("aedat")
    (tmp_path / "cut.aedat4").write_bytes(FILE.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"^read_aedat: '.*cut.aedat4' (is corrupted|contains no event stream)"):
        read_aedat(tmp_path / "cut.aedat4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no", "is not an AEDAT4 file. Pass a file"),
        (b"#!AER-DAT2.0\r\n", "but an older AEDAT file, which tonic can read"),
    ],
)
def test_another_file_is_refused_without_the_package(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_aedat(tmp_path / "x")
    with pytest.raises(ValueError, match=r"^read_aedat: cannot read '.*gone': No such file"):
        read_aedat(tmp_path / "gone")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "aedat":
            raise ImportError("No module named 'aedat'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'^read_aedat: requires the package aedat.*pip install "brainhw\[aedat\]"'):
        read_aedat(FILE)
