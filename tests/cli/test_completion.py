"""Completion scripts, and bash as it completes with one."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from brainhw.cli import main
from brainhw.cli.parser import COMMANDS, SHELLS

pytestmark = pytest.mark.no_dt


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)
    assert "brainhw" in script
    assert "--chip-key" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("brainhw", "cal"), {"calibrate"}),
        (("brainhw", "run", "--chip"), {"--chip-key"}),
        (("brainhw", "completion", "z"), {"zsh"}),
        (("brainhw", "check", "dig"), {"digits.bundle"}),
    ],
)
def test_bash_completes(words: tuple[str, ...], expected: set[str], tmp_path, capsys) -> None:
    pytest.importorskip("shtab")
    (tmp_path / "digits.bundle").touch()
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    # What bash itself does at a tab, without a terminal.
    code = (
        "source ./script; COMP_WORDS=({words}); COMP_CWORD={at}; COMP_LINE='{words}'; COMP_POINT=${{#COMP_LINE}}; "
        "_shtab_brainhw brainhw '{last}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    ).format(words=" ".join(words), at=len(words) - 1, last=words[-1], before=words[-2])
    done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected


def test_without_shtab_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert (
        err == "error: completion: the package shtab is missing. Install it with: pip install 'brainhw[completion]'\n"
    )


def test_an_unknown_shell_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "cmd"]) == 2
    assert "invalid choice: 'cmd'" in capsys.readouterr().err
