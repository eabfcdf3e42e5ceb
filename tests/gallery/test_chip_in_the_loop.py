"""The study of a chip in the loop runs on hidden chips, and on a command that stands for a bench."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from gallery_scripts import smoke

ROWS = ("as trained", "loop", "means", "calibrated", "calibrated loop", "perfect")


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["h1v1", "h1v2"])
def test_hidden_chips(chip: str, tmp_path: Path) -> None:
    printed = smoke("chip_in_the_loop.py", "--chip", chip, "--out", str(tmp_path)).stdout
    assert "calibrated, in the loop" in printed
    result = json.loads((tmp_path / f"vowels_{chip}.json").read_text())
    assert set(result["mean"]) == set(ROWS)
    assert all(0 <= value <= 1 for value in result["mean"].values())
    assert (tmp_path / f"vowels_{chip}.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_command_that_is_not_a_bench_is_one_sentence(tmp_path: Path) -> None:
    command = f"{sys.executable} -c 'raise SystemExit(3)'"
    done = smoke("chip_in_the_loop.py", "--device", command, "--out", str(tmp_path), fails=True)
    assert "InTheLoop.evaluate: the bench failed after 0 updates" in done.stderr
