"""The command line as a process: closed pipes, Ctrl-C, progress, and the installed command."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from brainhw.cli import main

pytestmark = [pytest.mark.no_dt, pytest.mark.skipif(os.name != "posix", reason="pipes and signals of POSIX")]


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``brainhw`` starts this Python, and ``$D`` is the folder of the bundle."""
    line = f'brainhw() {{ "$0" -m brainhw "$@"; }}; D={shlex.quote(str(folder))}; {line}'
    # In the folder of this process, which has the package where it is not installed.
    return subprocess.run(
        ["bash", "-c", line, sys.executable], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize(
    ("line", "out"),
    [
        ("brainhw --help | head -1; echo ${PIPESTATUS[0]}", {"0", "141"}),
        # Nobody reads: `exec` closes the input of the reader before the command writes.
        ("brainhw info $D/net.bundle | { exec <&-; }; echo ${PIPESTATUS[0]}", {"141"}),
        ("brainhw info $D/net.bundle --json | { exec <&-; }; echo ${PIPESTATUS[0]}", {"141"}),
    ],
)
def test_a_closed_pipe_ends_without_a_traceback(line: str, out: set[str], trained: Path) -> None:
    done = shell(line, trained)
    assert done.stdout.splitlines()[-1] in out
    assert done.stderr == ""


def test_a_closed_output_is_refused_before_the_work(trained: Path) -> None:
    done = shell("brainhw run $D/net.bundle $D/test.npz --json >&-", trained)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: the standard output is closed")


def test_json_and_nothing_else_on_the_output(trained: Path) -> None:
    done = shell("brainhw run $D/net.bundle $D/two.npz --json", trained)
    assert done.returncode == 0
    assert json.loads(done.stdout)["samples"] == 16
    # Not a terminal: the warning and no bar.
    assert done.stderr.startswith("warning: ")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_with_130_and_one_line() -> None:
    # A shell starts its background jobs, this test may be one, with the signal ignored.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys, time, brainhw.cli.look as look\n"
        "def info(*_, **__):\n    print('ready', file=sys.stderr, flush=True); time.sleep(60)\n"
        "look.info = info\n"
        "from brainhw.cli import main\nsys.exit(main(['info', 'net.bundle']))\n"
    )
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as it:
        assert it.stderr is not None
        assert it.stdout is not None
        assert it.stderr.readline() == "ready\n"
        it.send_signal(signal.SIGINT)
        assert it.wait(timeout=60) == 130
        assert it.stderr.read() == "error: interrupted\n"
        assert it.stdout.read() == ""


@pytest.mark.parametrize(("terminal", "quiet"), [(True, False), (True, True), (False, False)])
def test_only_a_terminal_shows_progress(terminal: bool, quiet: bool, trained, monkeypatch, capsys) -> None:
    monkeypatch.chdir(trained)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    for words in (["run", "net.bundle", "test.npz"], ["power", "net.bundle", "test.npz"]):
        assert main([*words, *(["--quiet"] if quiet else [])]) == 0
        out, err = capsys.readouterr()
        assert ("24/24" in err) == (terminal and not quiet)
        assert "24/24" not in out


def test_the_installed_command_is_main() -> None:
    try:
        points = importlib.metadata.distribution("brainhw").entry_points
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("brainhw is not installed")
    assert points["brainhw"].load() is main


@pytest.mark.slow
def test_a_warning_is_one_line_before_the_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "few.npz", x=rng.normal(size=(12, 3)), y=np.array(["a"] * 8 + ["b"] * 4))
    done = shell(f"brainhw train {shlex.quote(str(tmp_path / 'few.npz'))} --quiet", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: train_classifier: the class 'b' has 4 of 12 recordings")
    assert done.stderr.count("\n") == 1
    assert done.stdout.splitlines()[-1].startswith("the network was not saved (--out NAME")
