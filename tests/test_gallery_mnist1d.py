"""The MNIST-1D script runs for two epochs with LIF and with fractional neurons, and resumes to the bit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mnist1d")

SCRIPT = Path(__file__).parents[1] / "gallery" / "mnist1d_fractional.py"
RESULT = re.compile(
    r"test accuracy (0\.\d+|1\.0+) \| (mean alpha \w+ [\d., ]+ \| ){0,2}mean rate [\w .,]+ Hz \| [\d.]+ s \| "
    r"\w+ neurons, seed 0"
)


def run(neuron: str, out: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error:::brainhw", str(SCRIPT), "--smoke", "--neuron", neuron, "--out", out, *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "TQDM_DISABLE": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(("neuron", "figures"), [("lif", 1), ("multiterm", 2)])
def test_smoke(neuron: str, figures: int, tmp_path: Path) -> None:
    line = run(neuron, tmp_path)
    assert RESULT.fullmatch(line)
    assert f"{neuron} neurons" in line
    for name in ("training.png", "orders.png")[:figures]:
        assert (tmp_path / name).stat().st_size > 1000
    assert len(list(tmp_path.glob("*.png"))) == figures


def test_a_stopped_run_resumes_to_the_bit(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run("lif", whole)
    run("lif", parts, "--stop-after", "1")
    run("lif", parts, "--resume")
    assert (whole / "run.msgpack").read_bytes() == (parts / "run.msgpack").read_bytes()
