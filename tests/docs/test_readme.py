"""The network that the README shows is one that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def python(folder: Path, *arguments: str) -> str:
    """Return what a process of its own prints; the code sets the time step for good."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_network_of_the_readme_learns_fits_its_chip_and_runs_from_its_bundle(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (claimed,) = re.findall(r"\(about (0\.\d+) of the test recordings right\)", README)
    (command,) = re.findall(r"^python (-m brainhw run .*)$", README, re.MULTILINE)

    printed = python(tmp_path, "-c", code)
    (reached,) = re.findall(r"test accuracy (\S+)", printed)
    # Another machine rounds otherwise, which some spikes feel.
    assert abs(float(reached) - float(claimed)) < 0.02
    assert "all 13 rules hold" in printed
    (found,) = re.findall(r"accuracy ([\d.]+)%", python(tmp_path, *command.split()))
    assert abs(float(found) / 100 - float(reached)) < 0.001


@pytest.mark.slow
def test_the_one_command_trains_tests_and_writes(tmp_path: Path) -> None:
    page = (ROOT / "docs/recipe.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    commands = re.findall(r"^python (-m brainhw .*)$", README + page, re.MULTILINE)
    python(tmp_path, "-c", code)
    (train,) = (one for one in commands if " train " in one)
    (run,) = (one for one in commands if "--encoding" in one)
    shown = [re.findall(r"accuracy ([\d.]+)%", python(tmp_path, *one.split())) for one in (train, run)]
    assert shown[0] == shown[1]
    assert float(shown[0][0]) > 95


def test_every_path_that_the_readme_names_exists() -> None:
    named = re.findall(r"(?:\]\(|`)((?:docs|tutorials|gallery|brainhw)/[\w./]+)", README)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
