"""The list of slow tests names tests that exist, and the tool that writes it keeps a case of each test fast."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "tests" / "slow.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("slow_tests", ROOT / "tools" / "slow_tests.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_that_start_first_exist() -> None:
    conftest = (ROOT / "tests" / "conftest.py").read_text()
    named = re.findall(r'"(tests/[\w/]+\.py)"', conftest)
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_each_line_is_a_test() -> None:
    assert sorted(set(LINES)) == LINES
    functions: dict[str, set[str]] = {}
    for line in LINES:
        file, *_, name = line.partition("[")[0].split("::")
        if file not in functions:
            tree = ast.parse((ROOT / file).read_text())
            functions[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in functions[file], f"{line} is gone; write the list again with tools/slow_tests.py"


def test_the_quickest_cases_with_every_value_stay_fast(tool: Any) -> None:
    seconds = {"a::short": 0.9, "a::long": 1.6, "a::cases[x]": 1.1, "a::cases[y]": 1.0, "a::cases[z]": 0.1}
    assert tool.slow_tests(seconds) == ["a::cases[x]", "a::cases[y]", "a::long"]
    crossed = {
        f"a::test[{option}-{other}]": 0.5 + 0.1 * i for i, (option, other) in enumerate(["ac", "ad", "bc", "bd"])
    }
    assert tool.slow_tests(crossed) == ["a::test[b-d]"]
    assert tool.slow_tests({name: 4 * s for name, s in crossed.items()}) == sorted(crossed)


def test_names_of_a_report_are_those_of_pytest(tool: Any, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    case = '<testcase classname="tests.silicon.test_loop.TestFailures" name="test_it[a]" time="1.5"/>'
    report.write_text(f"<testsuites><testsuite>{case}</testsuite></testsuites>")
    assert tool.durations(report) == {"tests/silicon/test_loop.py::TestFailures::test_it[a]": 1.5}


def test_tests_that_did_not_run_stay_in_the_list(tool: Any) -> None:
    here = "tests/house/test_slow_list.py"
    old = [f"{here}::left", f"{here}::quick", "tests/house/test_gone.py::gone"]
    assert tool.updated(old, {f"{here}::quick": 0.1, f"{here}::new": 9.0}) == [f"{here}::left", f"{here}::new"]
