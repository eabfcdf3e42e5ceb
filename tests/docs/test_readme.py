"""The code and the commands of the README, and of the page about a network of your own, run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN_NET = (ROOT / "docs/own_net.md").read_text(encoding="utf-8")


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


def blocks(text: str) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Return the arguments of each ``python -m brainhw`` of a page."""
    return [line.split() for line in re.findall(r"^python (-m brainhw .*)$", text, re.MULTILINE)]


def accuracy(printed: str) -> float:
    """Return the accuracy that a command prints."""
    (percent,) = re.findall(r"accuracy ([\d.]+)%", printed)
    return float(percent) / 100


def test_the_ten_lines_of_the_readme_train_a_network_that_fits_its_chip(tmp_path: Path) -> None:
    code = blocks(README)[0]
    assert len([line for line in code.splitlines() if line]) <= 10
    (claimed,) = re.findall(r"# about (0\.\d+)", code)

    printed = python(tmp_path, "-c", code)
    (reached,) = re.findall(r"test accuracy (\S+)", printed)
    # Another machine rounds differently, which some spikes feel.
    assert abs(float(reached) - float(claimed)) < 0.02
    assert "all 13 rules hold" in printed
    assert (tmp_path / "vowels.bundle").exists()
    assert (tmp_path / "vowels.encoding").exists()


@pytest.mark.slow
def test_a_table_becomes_a_network_that_runs_from_its_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 150)
    x = rng.normal(size=(3, 4))[y] + 0.3 * rng.normal(size=(150, 4))
    names = np.array(["red", "green", "blue"])[y]
    lines = [",".join([*map(str, row), name]) for row, name in zip(x, names, strict=True)]
    (tmp_path / "table.csv").write_text("\n".join(["a,b,c,d,colour", *lines]), encoding="utf-8")

    python(tmp_path, "-c", blocks(README)[1])
    train, check, run = commands(README)
    trained = accuracy(python(tmp_path, *train))
    assert trained > 0.9
    assert "all 13 rules hold" in python(tmp_path, *check)
    assert accuracy(python(tmp_path, *run)) == trained


def test_the_padding_of_the_readme_keeps_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recordings = [np.full((n, 2), n) for n in (3, 5, 1)]
    exec(blocks(README)[2], {"recordings": recordings, "y": np.array(["a", "b", "a"])})
    with np.load("train.npz") as held:
        assert held["lengths"].tolist() == [3, 5, 1]
        np.testing.assert_array_equal(held["x"][:, :, 0], [[3, 3, 3, 0, 0], [5] * 5, [1, 0, 0, 0, 0]])


@pytest.mark.slow
def test_the_network_of_your_own_learns_fits_its_chip_and_runs_from_its_bundle(tmp_path: Path) -> None:
    (code,) = blocks(OWN_NET)
    (claimed,) = re.findall(r"test accuracy of about (0\.\d+)", OWN_NET)
    (command,) = commands(OWN_NET)

    printed = python(tmp_path, "-c", code)
    (reached,) = re.findall(r"test accuracy (\S+)", printed)
    assert abs(float(reached) - float(claimed)) < 0.02
    assert "all 13 rules hold" in printed
    assert abs(accuracy(python(tmp_path, *command)) - float(reached)) < 0.001


@pytest.mark.slow
def test_the_recipe_trains_tests_and_writes(tmp_path: Path) -> None:
    page = (ROOT / "docs/recipe.md").read_text(encoding="utf-8")
    python(tmp_path, "-c", blocks(page)[0])
    (train,) = (one for one in commands(README) if "train" in one)
    (run,) = (one for one in commands(page) if "--encoding" in one)
    shown = [accuracy(python(tmp_path, *one)) for one in (train, run)]
    assert shown[0] == shown[1]
    assert shown[0] > 0.95


def test_every_path_that_the_readme_names_exists() -> None:
    named = re.findall(r"(?:\]\(|`)((?:docs|tutorials|gallery|brainhw)/[\w./]+)", README)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
