"""The robustness study trains its nets, tries them on chips of growing mismatch, and draws what came out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from gallery_scripts import smoke


@pytest.mark.slow
def test_smoke(tmp_path: Path) -> None:
    done = smoke("robustness_study.py", "--chip", "h1v2", "--out", tmp_path)
    assert re.fullmatch(
        r"test accuracy on the nominal chip, [\d.]+ \| at 0, 8 times the mismatch \(4 chips each\): "
        r"floats, nominal chip: [\d.]+ [\d.]+; 5 bits, sampled chips: [\d.]+ [\d.]+ \| 0 weights out of range \| "
        r"[\d.]+ s \| h1v2, fluct init, seed 0",
        done.stdout.splitlines()[-1],
    )
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["test_accuracy"] == result["sweeps"]["5 bits, sampled chips"]["mean"][0]
    for found in result["sweeps"].values():
        assert found["times"] == [0, 8]
        assert found["q05"][1] <= found["mean"][1] <= found["q95"][1]
    assert (tmp_path / "robustness.png").stat().st_size > 1000
    for folder in ("floats_nominal", "bits_sampled"):
        assert (tmp_path / folder / "training.run").exists()
