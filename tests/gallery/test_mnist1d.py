"""The MNIST-1D script runs for two epochs with LIF and with fractional neurons, and resumes to the bit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from gallery_scripts import smoke

pytest.importorskip("mnist1d")

SCRIPT = "mnist1d_fractional.py"
RESULT = re.compile(
    r"test accuracy (0\.\d+|1\.0+) \| (mean alpha \w+ [\d., ]+ \| ){0,2}mean rate [\w .,]+ Hz \| [\d.]+ s \| "
    r"\w+ neurons, seed 0"
)


@pytest.mark.slow
@pytest.mark.parametrize(("neuron", "figures"), [("lif", 1), ("multiterm", 2)])
def test_smoke(neuron: str, figures: int, tmp_path: Path) -> None:
    line = smoke(SCRIPT, "--neuron", neuron, "--out", tmp_path).stdout.splitlines()[-1]
    assert RESULT.fullmatch(line)
    assert f"{neuron} neurons" in line
    for name in ("training.png", "orders.png")[:figures]:
        assert (tmp_path / name).stat().st_size > 1000
    assert len(list(tmp_path.glob("*.png"))) == figures


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_bit(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    smoke(SCRIPT, "--neuron", "lif", "--out", whole, new_python=True)
    smoke(SCRIPT, "--neuron", "lif", "--out", parts, "--stop-after", "1")
    smoke(SCRIPT, "--neuron", "lif", "--out", parts, "--resume")
    assert (whole / "training.run").read_bytes() == (parts / "training.run").read_bytes()
