"""A device whose chip is programmed and run by an external command, with files for input and output."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, final

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._printing import printable
from brainhw.silicon.bench_files import read_output, write_input
from brainhw.silicon.device import DeviceError
from brainhw.silicon.program import ChipProgram
from brainhw.silicon.program_files import FORMATS, Format
from brainhw.silicon.recording import Recording
from brainhw.silicon.virtual import checked_run_input

__all__ = ["CommandDevice"]

# After the time limit, the command has this many seconds to switch off its bench before it is killed.
_GRACE = 1.0
# Only the last ``_TAIL`` bytes of the command's messages are kept. An error message shows the last ``_SHOWN`` lines.
_TAIL, _SHOWN = 2**14, 5


@final
class CommandDevice:
    """A bench that is controlled by a command. The command runs without a shell.

    For each run, brainhw creates a folder, writes the program and the input there, and calls the command with the
    folder as its last argument. The command programs the chip, runs it, writes ``output.npz`` (or the CSV output) into
    the folder and exits with code 0. The how-to "Connect a bench" documents every file, with an example in plain NumPy.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments, such as ``["python", "bench.py", "--port", "3"]``.
    timeout : Quantity, optional
        Time limit of a run. A command that exceeds it receives SIGTERM. One second later, its process group is killed.
        Default 60 s.
    format : {'npz', 'csv'}, optional
        Format of the files: npz, or CSV and JSON for benches that cannot read npz.

    Raises
    ------
    TypeError
        If ``command`` is not a sequence of strings, or if ``timeout`` does not have the dimension of time.
    ValueError
        If ``command`` is empty, if ``timeout`` is not greater than zero, or if ``format`` is unknown.

    Notes
    -----
    When the command ends, the processes that it left running are killed, except those in another session. The folder is
    removed after each run. An output is accepted only if the command succeeded and the output is complete, has the
    number of this run and has the shapes of the program.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> bh.silicon.CommandDevice(["python", "bench.py"], timeout=10 * u.second)
    CommandDevice(['python', 'bench.py'], timeout=10 s)
    """

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        timeout: u.Quantity = 60.0 * u.second,
        format: Format = "npz",
    ) -> None:
        call = "CommandDevice"
        words = _arguments.several(command, call=call, name="command", of="a program and its arguments")
        self._command = [_word(word, f"command[{i}]", call) for i, word in enumerate(words)]
        if not self._command:
            raise ValueError(f"{call}: command must contain at least the name of a program; got none.")
        timeout = _arguments.quantity(timeout, u.second, call=call, name="timeout", shapes=[()], positive=True)
        self._timeout = float(timeout.mantissa)
        self._files = _arguments.choice(format, FORMATS, call=call, name="format")
        self._program: ChipProgram | None = None

    def program(self, program: ChipProgram) -> None:
        """Store a program. Its files are written for each run.

        Raises
        ------
        TypeError
            If ``program`` is not a :class:`ChipProgram`.
        """
        self._program = _arguments.instance(program, ChipProgram, call="CommandDevice.program", name="program")

    def run(self, x: np.ndarray) -> Recording:
        """Run the command and return its recording.

        Raises
        ------
        DeviceError
            If there is no program, or the command cannot be started, exceeds the time limit, fails, or does not write a
            complete output of this run. The device can be used again after this error.
        TypeError
            If ``x`` is not an array of real numbers.
        ValueError
            If ``x`` does not have the shape ``[T, B, N_in]`` or contains non-finite values.
        """
        call = "CommandDevice.run"
        if self._program is None:
            raise DeviceError(f"{call}: there is no program for the chip. Call program(...) first.")
        x = checked_run_input(x, self._program, call=call)
        run = secrets.randbits(53)  # 53 bits are exact in double precision
        try:
            # If the command has locked a file, the folder cannot be removed. This must not hide the error of the
            # command.
            made = tempfile.TemporaryDirectory(prefix="brainhw-bench-", ignore_cleanup_errors=True)
        except OSError as error:
            raise DeviceError(
                f"{call}: the folder for the bench cannot be created: {error}. Free disk space, or set TMPDIR to "
                "another folder."
            ) from error
        with made as name:
            folder = Path(name)
            try:
                self._program.save(folder, format=self._files)
                write_input(folder, x, run, files=self._files, call=call)
            except ValueError as error:
                raise DeviceError(f"{call}: the files for the bench cannot be written: {error}") from error
            messages = self._call(folder, call)
            try:
                return read_output(folder, self._program, (x.shape[0], x.shape[1]), run, files=self._files)
            except (TypeError, ValueError, OSError, MemoryError) as error:
                raise DeviceError(
                    f"{call}: {self._name} wrote no valid output: {str(error).rstrip('.')}.{messages} Write the files "
                    "as described in the how-to 'Connect a bench'."
                ) from error

    def _call(self, folder: Path, call: str) -> str:
        """Run the command and return the last lines that it printed. Raise ``DeviceError`` if the command fails."""
        own_group: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}
        begin = time.monotonic()
        try:
            process = subprocess.Popen(
                [*self._command, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                **own_group,
            )
        except (OSError, ValueError) as error:
            raise DeviceError(
                f"{call}: {self._name} cannot be started: {getattr(error, 'strerror', None) or error}. Pass the path "
                "of an executable program and its arguments as a list."
            ) from error
        tails = [_Tail(stream) for stream in (process.stderr, process.stdout)]
        try:
            in_time = _wait(process, begin + self._timeout)
            if not in_time:
                _signal_group(process, signal.SIGTERM)
                _wait(process, time.monotonic() + _GRACE)
        finally:
            # Kill the group also after Ctrl-C, and after a successful command that left processes running.
            _signal_group(process, getattr(signal, "SIGKILL", signal.SIGTERM))
            # Stop waiting after a while, because a driver that hangs in the system kernel cannot be killed.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
            for tail in tails:
                tail.close()
        messages = next((tail.words() for tail in tails if tail.words()), "")
        if not in_time:
            raise DeviceError(
                f"{call}: {self._name} did not end within {self._timeout:g} s and was stopped.{messages} Repair the "
                "bench, or increase timeout."
            )
        if process.returncode:
            raise DeviceError(
                f"{call}: {self._name} ended with {_ending(process.returncode)}; expected exit code 0.{messages} "
                "Repair the bench, program it again and continue."
            )
        return messages

    @property
    def _name(self) -> str:
        return f"the command {self._command}"

    def __repr__(self) -> str:
        return f"CommandDevice({self._command}, timeout={self._timeout:g} s)"


def _word(word: Any, name: str, call: str) -> str:
    # Bytes are valid paths too, but they are rejected, because text and bytes cannot be shown as one command.
    text = os.fspath(word) if isinstance(word, os.PathLike) else word
    text = _arguments.text(text, call=call, name=name, some=True)
    if "\0" in text:
        raise ValueError(f"{call}: {name} must not contain a null character; got {text!r:.80}.")
    return text


def _ending(code: int) -> str:
    if code > 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def _wait(process: subprocess.Popen[bytes], until: float) -> bool:
    """Wait until the process ends or the time ``until`` is reached, and return whether it has ended.

    On POSIX, the process is not reaped, so that its group id cannot be given to another process.
    """
    pause = 0.001
    while True:
        if os.name == "posix":
            try:
                ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            except ChildProcessError:  # if SIGCHLD is ignored, the system reaps the process
                ended = True
        else:
            ended = process.poll() is not None
        left = until - time.monotonic()
        if ended or left <= 0:
            return ended
        time.sleep(min(pause, left))
        pause = min(2 * pause, 0.02)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        if os.name == "posix":
            # Send the signal before the process is reaped. Afterwards, its group id may belong to another process.
            os.killpg(process.pid, number)
        else:
            process.terminate()


class _Tail:
    """Keep the last bytes of a stream. A thread reads the stream, so that the command never blocks on a full pipe."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        self._stream, self._held = stream, b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream, contextlib.suppress(OSError):
            while data := os.read(self._stream.fileno(), 2**16):
                self._held = (self._held + data)[-_TAIL:]

    def close(self) -> None:
        """Wait for the end of the stream, at most ``_GRACE`` seconds.

        A process in another session may keep the stream open. The thread then continues to read.
        """
        self._thread.join(timeout=_GRACE)

    def words(self) -> str:
        """Return the last lines as a sentence for an error message, or an empty string if there are none."""
        # Replace control characters, such as those of colour codes and cursor movements.
        text = "".join(c if c.isprintable() or c == "\n" else " " for c in self._held.decode(errors="replace"))
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        shown = printable(" | ".join(line[-200:] for line in lines[-_SHOWN:]))
        return f" Its last messages: {shown}" + "." * (not shown.endswith(".")) if lines else ""
