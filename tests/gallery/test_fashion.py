"""The Fashion-MNIST script runs for two epochs on made-up pictures, on LIF and on chips, and resumes to the bit."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from gallery_scripts import smoke

SCRIPT = "fashion_mnist.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pictures of which two or three rows are bright, and which they are tells the class."""
    folder, rng = tmp_path_factory.mktemp("fashion_mnist"), np.random.default_rng(0)
    for half, n in (("train", 120), ("t10k", 40)):
        y = np.arange(n, dtype=np.uint8) % 10
        x = rng.integers(0, 60, (n, 28, 28), dtype=np.uint8)
        x[np.arange(28)[None, :] * 10 // 28 == y[:, None]] += 190
        images = struct.pack(">4i", 0x803, n, 28, 28) + x.tobytes()
        labels = struct.pack(">2i", 0x801, n) + y.tobytes()
        (folder / f"{half}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{half}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return str(folder)


@pytest.mark.slow
def test_lif_smoke(root: str, tmp_path: Path) -> None:
    line = smoke(SCRIPT, "--neuron", "lif", "--root", root, "--out", str(tmp_path)).stdout.splitlines()[-1]
    assert re.fullmatch(
        r"test accuracy [\d.]+ \| mean rate layers.1 [\d.]+ Hz \| [\d.]+ s \| 512 hidden lif, seed 0", line
    )
    for name in ("training.run", "training.png", "fields_and_confusion.png", "result.json"):
        assert (tmp_path / name).stat().st_size > 100


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--neuron", "h1v2"), ("--neuron", "h1v1", "--free")])
def test_a_net_for_a_chip_fills_it_and_is_tried_on_sampled_chips(
    root: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    # The images of this test are noise: what the hidden layer makes of them wakes the next one by its mean alone.
    done = smoke(SCRIPT, "--root", root, "--out", str(tmp_path), *options, warns=True)
    deployed = "--free" not in options
    assert all("mean-driven" in line for line in done.stderr.splitlines() if "Warning" in line)
    assert ("deployable on H1v2: all 13 rules hold" in done.stdout) == deployed
    assert ("200 of 200 neurons of H1v2" in done.stdout) == deployed
    line = done.stdout.splitlines()[-1]
    words = ("test accuracy", "0 weights out of range", "as deployed", "mean of 2 chips", "worst")
    assert [part.rstrip("0123456789. ") or part for part in line.split(" | ")[:5]] == list(words)
    assert ("| 0 rules broken |" in line) == deployed
    assert (tmp_path / "weights.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_bit(root: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    shared = ("--neuron", "h1v2", "--root", root, "--chips", "1", "--out")
    smoke(SCRIPT, *shared, str(whole), warns=True, new_python=True)
    smoke(SCRIPT, *shared, str(parts), "--stop-after", "1", warns=True)
    smoke(SCRIPT, *shared, str(parts), "--resume", warns=True)
    assert (whole / "training.run").read_bytes() == (parts / "training.run").read_bytes()


def test_it_says_how_to_get_the_data(tmp_path: Path) -> None:
    done = smoke(SCRIPT, "--root", str(tmp_path), "--out", str(tmp_path / "run"), fails=True)
    assert "train-images-idx3-ubyte.gz" in done.stderr
