"""Every gallery script runs for two epochs and does what its help says; a stopped run resumes to the bit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gallery_scripts import environment, smoke
from scipy.io import wavfile

RESULT = re.compile(
    r"test accuracy (0\.\d+|1\.0+) \| 0 weights out of range \| mean rate [\w .,]+ Hz \| [\d.]+ s \| "
    r"\S+, \w+ init, seed 0"
)


def digits(folder: Path) -> Path:
    """Tones instead of digits, 60 to train on and 30 to test: short and of one channel, which fluct_init warns of."""
    recordings = folder / "recordings"
    recordings.mkdir(parents=True)
    rng, time = np.random.default_rng(0), np.arange(1333) / 8000
    for digit in range(10):
        for index in (*range(3), *range(5, 50, 8)):
            tone = np.sin(2 * np.pi * (200 + 250 * digit) * time) + 0.05 * rng.normal(size=time.size)
            wavfile.write(recordings / f"{digit}_tone_{index}.wav", 8000, (tone * 16000).astype(np.int16))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["h1v1", "h1v2"])
def test_japanese_vowels_smoke(chip: str, tmp_path: Path) -> None:
    printed = smoke("japanese_vowels_h1.py", "--chip", chip, "--out", str(tmp_path)).stdout
    assert RESULT.fullmatch(printed.splitlines()[-1])
    for name in ("training.run", "training.png", "raster.png", "weights.png"):
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["h1v1", "h1v2"])
def test_spoken_digits_smoke(chip: str, tmp_path: Path) -> None:
    root = digits(tmp_path / "fsdd")
    printed = smoke("spoken_digits_h1.py", "--chip", chip, "--root", root, "--out", tmp_path / "run", warns=True).stdout
    assert RESULT.fullmatch(printed.splitlines()[-1])


def test_spoken_digits_says_how_to_get_the_data(tmp_path: Path) -> None:
    done = smoke(
        "spoken_digits_h1.py", "--root", str(tmp_path), "--out", str(tmp_path / "run"), fails=True, new_python=True
    )
    assert "fsdd" in done.stderr
    assert str(tmp_path) in done.stderr


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_bit(tmp_path: Path) -> None:
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    smoke("japanese_vowels_h1.py", "--out", whole, new_python=True)
    smoke("japanese_vowels_h1.py", "--out", parts, "--stop-after", "1")
    assert (tmp_path / "whole/training.run").read_bytes() != (tmp_path / "parts/training.run").read_bytes()
    smoke("japanese_vowels_h1.py", "--out", parts, "--resume")
    assert (tmp_path / "whole/training.run").read_bytes() == (tmp_path / "parts/training.run").read_bytes()
    refused = smoke("japanese_vowels_h1.py", "--out", parts, "--resume", "--chip", "h1v2", fails=True)
    assert "was started with" in refused.stderr
    nothing = smoke("japanese_vowels_h1.py", "--out", str(tmp_path / "none"), "--resume", fails=True)
    assert "there is no saved run" in nothing.stderr


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["h1v1", "h1v2"])
def test_deploy_spoken_digits_smoke_ends_in_a_bundle_that_the_command_line_runs(chip: str, tmp_path: Path) -> None:
    root, out = digits(tmp_path / "fsdd"), tmp_path / "run"
    printed = smoke("deploy_spoken_digits.py", "--chip", chip, "--root", root, "--out", out, warns=True).stdout
    last = printed.splitlines()[-1]
    assert re.search(r"\| violations 0 \| spikes_differing 0 \|", last)
    assert f"deployable on H1v{chip[-1]}: all 13 rules hold" in printed
    for name in ("digits.bundle", "test.npz", "robustness.png", "placement.png", "chips.txt"):
        assert (out / name).stat().st_size > 30
    accuracy = re.match(r"test accuracy ([\d.]+)", last)
    done = subprocess.run(
        [sys.executable, "-m", "brainhw", "run", str(out / "digits.bundle"), str(out / "test.npz")],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert f"accuracy {float(accuracy[1]):.2%} (" in done.stdout
