"""The network that the README shows is one that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_network_of_the_readme_learns_fits_its_chip_and_runs_from_its_bundle(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (claimed,) = re.findall(r"\(about (0\.\d+) of the test recordings right\)", README)
    (command,) = re.findall(r"^python (-m brainhw .*)$", README, re.MULTILINE)

    def python(*arguments: str) -> str:
        # A process of its own, because the code sets the time step for good.
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = python("-c", code)
    (reached,) = re.findall(r"test accuracy (\S+)", printed)
    # Another machine rounds otherwise, which some spikes feel.
    assert abs(float(reached) - float(claimed)) < 0.02
    assert "all 13 rules hold" in printed
    (found,) = re.findall(r"accuracy ([\d.]+)%", python(*command.split()))
    assert abs(float(found) / 100 - float(reached)) < 0.001


def test_every_path_that_the_readme_names_exists() -> None:
    named = re.findall(r"(?:\]\(|`)((?:docs|tutorials|gallery|brainhw)/[\w./]+)", README)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
