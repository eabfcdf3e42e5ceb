"""The tests mirror the package: the tests of ``brainhw/X/y.py`` are ``tests/X/test_y*.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, TESTS = ROOT / "brainhw", ROOT / "tests"
# Folders for what is not a module of the package: scripts, documentation, packages from outside, the house itself.
OTHERS = {"benchmarks", "docs", "gallery", "golden", "house", "outside", "regressions", "seeds", "support"}
MODULES = {path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
FILES = sorted(
    path.relative_to(TESTS) for path in TESTS.rglob("test_*.py") if path.relative_to(TESTS).parts[0] not in OTHERS
)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_test_file_begins_with_the_name_of_its_module(file: Path) -> None:
    here = {module.name.removeprefix("_") for module in MODULES if module.parent == file.parent}
    subject = file.stem.removeprefix("test_")
    assert any(subject == name or subject.startswith(f"{name}_") for name in here), (
        f"{file}: there is no module of that name in brainhw/{file.parent}; there is {', '.join(sorted(here))}"
    )
