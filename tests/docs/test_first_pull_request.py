"""The page "Your first pull request", applied to a copy of the repository: the change works and passes the checks."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "development" / "first_pull_request.md").read_text(encoding="utf-8")
COPIED = ("brainhw", "tests", "docs", "tools", "benchmarks", "gallery", "tutorials")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "images", ".ipynb_checkpoints")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("clone")
    for name in COPIED:
        shutil.copytree(ROOT / name, copy / name, ignore=LEFT_OUT)
    for path in (*ROOT.glob("*.md"), ROOT / "pyproject.toml"):
        shutil.copy(path, copy)
    return copy


def apply(page: str, root: Path) -> list[str]:
    """Make the edits of the page; return the files it touches."""
    touched = []
    for path, text in re.findall(r"^New file `([^`]+)`:\n\n```\w*\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        assert not (root / path).exists()
        (root / path).write_text(text, encoding="utf-8")
        touched.append(path)
    edit = r"^In `([^`]+)`, below `([^`]+)`:\n\n```\w*\n(.*?)^```"
    for path, anchor, text in re.findall(edit, page, re.MULTILINE | re.DOTALL):
        before = (root / path).read_text(encoding="utf-8")
        assert before.count(f"{anchor}\n") == 1, f"{path} does not hold the line {anchor!r} once"
        (root / path).write_text(before.replace(f"{anchor}\n", f"{anchor}\n{text}"), encoding="utf-8")
        touched.append(path)
    return touched


@pytest.mark.slow
def test_the_change_of_the_page_passes_its_checks(repository: Path) -> None:
    touched = apply(PAGE, repository)
    assert len(touched) == 7

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=repository, text=True, capture_output=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    tests = ("tests/data/test_thermometer.py", "tests/docs/test_docs.py", "tests/docs/test_doctests.py")
    where = ("-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=--import-mode=importlib", "-q")
    chosen = "thermometer or reference or public"
    assert " passed" in run("pytest", *where, *tests, "-k", chosen)
    nonsense = run("pytest", *where, "tests/regressions/test_nonsense.py", "-k", "every_public_callable")
    assert " passed" in nonsense
    if importlib.util.find_spec("ruff"):
        code = [path for path in touched if path.endswith(".py")]
        run("ruff", "format", *code)  # the page runs it as well; an inserted block may lack blank lines
        assert "All checks passed" in run("ruff", "check", *code)
