"""The page about other runtimes: each example runs, on IREE and TensorFlow Lite where they are installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "edge.md").read_text(encoding="utf-8")
FIRST, *REST = re.split(r"^## ", PAGE, flags=re.MULTILINE)


def blocks(text: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def section(name: str) -> str:
    (found,) = [text for text in REST if text.startswith(name)]
    return found


@pytest.fixture(scope="module")
def start() -> dict[str, Any]:
    """The names after the first example; the time step of the tests is that of the page."""
    import brainstate
    import brainunit as u

    names: dict[str, Any] = {}
    (code,) = blocks(FIRST)
    setting = "brainstate.environ.set(dt=1.0 * u.ms)\n"
    assert setting in code
    with brainstate.environ.context(dt=1.0 * u.ms):
        exec(code.replace(setting, ""), names)
    assert names["spikes"].sum() > 0
    return names


def run(name: str, start: dict[str, Any]) -> dict[str, Any]:
    names = dict(start)
    for code in blocks(section(name)):
        exec(code, names)
    return names


def test_the_arguments_are_printed_as_the_page_says(start: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    run("Which argument", start)
    assert blocks(section("Which argument"), "")[-1].strip() in capsys.readouterr().out


def test_c_and_numpy(start: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("C, for a microcontroller", start)
    (code,) = blocks(section("C, for a microcontroller"), "c")
    Path("main.c").write_text(f"{code}\nint main(void) {{ return 0; }}\n")
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    (command,) = re.findall(r"^    (cc .*)$", PAGE, re.MULTILINE)
    subprocess.run([*command.split(), "-Wall", "-Wextra", "-Werror"], check=True)


def test_iree(start: dict[str, Any]) -> None:
    pytest.importorskip("iree.compiler")
    pytest.importorskip("iree.runtime")
    run("IREE", start)


def test_tensorflow_lite(start: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of TensorFlow itself
        pytest.importorskip("tensorflow")
        pytest.importorskip("ai_edge_litert")
        monkeypatch.chdir(tmp_path)
        run("TensorFlow Lite", start)
