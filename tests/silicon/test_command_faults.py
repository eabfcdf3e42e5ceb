"""Whatever a command does, its device raises one error in time, leaves nothing behind, and works again."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import brainunit as u
import numpy as np
import pytest
from faulty_bench import FAULTS, FINE, HANGING
from silicon_programs import program_of

import brainhw as bh
from brainhw.silicon import CommandDevice, DeviceError, bench_files, command

SCRIPT = Path(__file__).parents[1] / "support" / "faulty_bench.py"
X = np.ones((4, 2, 16), np.float32)
# Beyond the time-out: one second of grace, and a machine with other work to do.
SLACK = 8.0


class Bench:
    """A command whose next fault a file names, and the folder in which it must leave nothing."""

    def __init__(self, folder: Path) -> None:
        self.net, self.chip_program = program_of("H1v2")
        self.mode, self.folder = folder / "mode", folder / "temp"
        self.pids = Path(f"{self.mode}.pids")
        self.folder.mkdir()
        # Without `site`, Python starts in half the time.
        command = [sys.executable, "-S", SCRIPT, self.mode]
        self.patient = CommandDevice(command, timeout=60 * u.second)
        self.hasty = CommandDevice(command, timeout=0.3 * u.second)
        for device in (self.patient, self.hasty):
            device.program(self.chip_program)

    def run(self, mode: str, device: Any = None) -> Any:
        self.mode.write_text(mode)
        return (device or self.patient).run(X)

    def fails(self, mode: str) -> None:
        hangs = mode in HANGING
        words = {**FAULTS, **HANGING}[mode][1]
        begin = time.monotonic()
        with pytest.raises(DeviceError, match=rf"(?s)^CommandDevice\.run: the command \[.*{words}") as caught:
            self.run(mode, self.hasty if hangs else self.patient)
        assert len(str(caught.value)) < 2500
        assert time.monotonic() - begin < (0.3 if hangs else 60) + SLACK
        self.left_nothing()

    def left_nothing(self) -> None:
        assert not list(self.folder.iterdir())
        started = self.pids.read_text().split() if self.pids.exists() else []
        until = time.monotonic() + SLACK
        while alive := [pid for pid in started if is_alive(pid)]:
            assert time.monotonic() < until, alive
            time.sleep(0.01)
        self.pids.unlink(missing_ok=True)

    def works(self) -> None:
        recording = self.run("right")
        assert all(spikes[0].all() and not spikes[1:].any() for spikes in recording.spikes.values())
        assert set(recording.membranes) == {"layer0", "layer1"}
        self.left_nothing()


def is_alive(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # ended, and not yet seen by its parent


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(made.folder))
    yield made
    made.left_nothing()


FAST = (
    "crash",
    "killed",
    "no output",
    "cut in the middle",
    "a byte changed",
    "a pipe",
    "fewer neurons",
    "old output",
    "NaN membrane",
    "half a spike",
    "claims gigabytes",
    "flood and crash",
    "crash with a child",
    "hangs with a child",
)


def test_a_fault_is_one_error_and_the_device_works_again(bench: Bench) -> None:
    bench.works()
    for mode in FAST:
        bench.fails(mode)
    bench.works()


def test_what_is_unusual_but_right_is_taken(bench: Bench) -> None:
    for mode in set(FINE) - {"daemon left"}:
        recording = bench.run(mode)
        assert recording.spikes["layer0"].sum() == 2 * 12, mode
        bench.left_nothing()


def test_a_daemon_that_holds_the_streams_does_not_hold_the_run(bench: Bench) -> None:
    begin = time.monotonic()
    assert bench.run("daemon left").spikes["layer0"].sum() == 2 * 12
    assert time.monotonic() - begin < SLACK
    (daemon,) = bench.pids.read_text().split()
    # Left alone, as the docs say: a bench may have a server that stays.
    assert is_alive(daemon)
    os.kill(int(daemon), signal.SIGKILL)
    bench.left_nothing()


@pytest.mark.slow
def test_two_hundred_faults_lose_nothing(bench: Bench) -> None:
    rng = np.random.default_rng(0)
    before = bh.rollout(bench.net, X)[0]
    kinds = [*FAULTS, *HANGING]
    modes = [*kinds, *rng.choice(kinds, 200 - len(kinds))]
    for i in rng.permutation(200):
        bench.fails(modes[i])
        if i % 4 == 0:
            bench.works()
    bench.works()
    assert bench.chip_program.updated(bench.net) == bench.chip_program
    assert np.array_equal(bh.rollout(bench.net, X)[0], before)


def test_a_command_that_cannot_be_started_is_one_error(bench: Bench, tmp_path: Path) -> None:
    for missing in (tmp_path / "nothing", SCRIPT, tmp_path):
        device = CommandDevice([missing])
        device.program(bench.chip_program)
        with pytest.raises(
            DeviceError, match=r"^CommandDevice\.run: the command .* cannot be started: .*Pass the path"
        ):
            device.run(X)
        bench.left_nothing()


def test_an_interrupt_stops_the_command_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> bool:
        while not bench.pids.exists() or not bench.pids.read_text().endswith("\n"):
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.run("hangs with a child")
    bench.left_nothing()


def test_a_disk_that_takes_no_file_is_one_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes, *, call: str) -> None:
        raise ValueError(f"{call}: cannot write {path}: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(bench_files, "write_whole", full)
        with pytest.raises(DeviceError, match=r"the files for the bench cannot be written: .*No space left"):
            bench.run("right")
    bench.left_nothing()
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(bench.folder / "none"))
        with pytest.raises(DeviceError, match=r"the folder for the bench cannot be created: .*No such file"):
            bench.run("right")
    bench.works()
