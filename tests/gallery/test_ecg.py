"""The electrocardiogram script runs for two epochs, on a few short sequences, and resumes to the bit."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from gallery_scripts import smoke

RESULT = re.compile(r"test accuracy (0\.\d+|1\.0+) \| mean rate hidden [\d.]+ Hz \| [\d.]+ s \| \w+ net, .+, seed 0")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two channels that beat with the segments."""
    folder, rng = tmp_path_factory.mktemp("qtdb"), np.random.default_rng(0)
    for name, n in (("train", 40), ("test", 8)):
        label = (np.arange(60) // 5 + rng.integers(0, 6, n)[:, None]) % 6
        x = np.stack([label == 0, label == 3, label == 1, label == 4], axis=-1) & (rng.random((n, 60, 4)) < 0.7)
        content = {"x": x.astype(np.int16), "y": np.eye(6, dtype=np.uint8)[label]}
        scipy.io.savemat(folder / f"QTDB_{name}.mat", content)
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--no-ahp",), ("--size", "large")])
def test_smoke(root: str, tmp_path: Path, options: tuple[str, ...]) -> None:
    printed = smoke("ecg_alif.py", "--root", root, "--out", str(tmp_path), *options).stdout
    assert RESULT.fullmatch(printed.splitlines()[-1])
    assert ("w_ahp = 0" in printed) == ("--no-ahp" in options)
    for name in ("training.run", "training.png", "segments.png"):
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.slow
def test_fractional_smoke(root: str, tmp_path: Path) -> None:
    printed = smoke("ecg_fractional.py", "--root", root, "--out", tmp_path).stdout
    assert re.search(r"test accuracy [\d.]+ \| mean order 0\.\d+, 0\.\d+ \| .+ fractional neurons, seed 0", printed)
    for name in ("training.run", "training.png", "segments.png", "orders.png", "result.json"):
        assert (tmp_path / name).stat().st_size > 100


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_bit(root: str, tmp_path: Path) -> None:
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    smoke("ecg_alif.py", "--root", root, "--out", whole, new_python=True)
    smoke("ecg_alif.py", "--root", root, "--out", parts, "--stop-after", "1")
    smoke("ecg_alif.py", "--root", root, "--out", parts, "--resume")
    assert (tmp_path / "whole/training.run").read_bytes() == (tmp_path / "parts/training.run").read_bytes()


def test_it_says_how_to_get_the_data(tmp_path: Path) -> None:
    done = smoke("ecg_alif.py", "--root", str(tmp_path), "--out", str(tmp_path / "run"), fails=True)
    assert "QTDB_train.mat" in done.stderr
