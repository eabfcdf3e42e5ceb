"""Help: an example for each command that the parser takes, and the name that the program was called by."""

from __future__ import annotations

import shlex
import sys

import pytest

from brainhw.cli import main
from brainhw.cli.parser import COMMANDS, build_parser

pytestmark = pytest.mark.no_dt


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_the_help_is_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    help_text = capsys.readouterr().out
    example = help_text.split("example:\n")[1].strip()
    assert example.startswith(f"brainhw {command} ")
    words = build_parser("brainhw").parse_args(shlex.split(example.split(" > ")[0])[1:])
    assert words.command == command
    if command != "completion":
        assert "--json" in help_text


def test_the_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for line in ("  0    success", "  2    wrong use", "  130  interrupted", "  141  the program"):
        assert line in out


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("/usr/bin/brainhw", "brainhw"),
        ("C:/env/Scripts/brainhw.exe", "brainhw"),
        ("/lib/brainhw/__main__.py", "python -m brainhw"),
        ("", "python -m brainhw"),
    ],
)
def test_usage_and_errors_have_the_name_of_the_call(called: str, name: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", [called, "run", "--help"])
    assert main() == 0
    assert capsys.readouterr().out.startswith(f"usage: {name} run ")
    monkeypatch.setattr(sys, "argv", [called, "run"])
    assert main() == 2
    assert f"(see {name} run --help)" in capsys.readouterr().err
