"""Worker processes, each with the interpreter of the environment of one library."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Worker", "WorkerError", "ask"]

_PROJECT = Path(__file__).parents[2]
_TIMEOUT_S = 3600


class WorkerError(RuntimeError):
    """Raised if a worker fails. The message is the error line that the worker wrote."""


class Worker:
    """A process that runs one job. It answers each request with one line of JSON.

    Parameters
    ----------
    job : mapping
        The job, as :mod:`benchmarks.speed.worker` describes it.
    python : str
        The interpreter.
    device : str
        ``'auto'``, ``'cpu'`` or ``'gpu'``.
    """

    def __init__(self, job: Mapping[str, Any], python: str, device: str = "auto") -> None:
        environment = dict(os.environ)
        if device == "cpu":
            environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        elif environment.get("JAX_PLATFORMS") == "cpu" and device == "gpu":
            del environment["JAX_PLATFORMS"]
        # A file, because a pipe that nobody reads blocks a process that writes many warnings.
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the process)
        try:
            self.process = subprocess.Popen(
                [python, "-m", "benchmarks.speed.worker", json.dumps(job)],
                cwd=_PROJECT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
            )
        except OSError as error:
            self.errors.close()
            raise WorkerError(str(error)) from error

    def next_answer(self) -> dict[str, Any]:
        """Return the next answer, or raise `WorkerError` if the process ended or does not answer within an hour."""
        assert self.process.stdout is not None
        timer = threading.Timer(_TIMEOUT_S, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            text = _error_line(self.errors.read())
            raise WorkerError(text or f"the worker failed with exit code {code} and wrote no message")
        return json.loads(line)

    def request_round(self) -> None:
        """Time one round."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("round\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the process ended, and `next_answer` raises its error
        self.next_answer()

    def finish(self) -> dict[str, Any]:
        """Request no more rounds, and return the last answer."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            return self.next_answer()
        finally:
            self.stop()

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None and not stream.closed:
                stream.close()


def ask(job: Mapping[str, Any], python: str, device: str = "auto") -> dict[str, Any]:
    """Start a worker for a job that has only one answer, and return this answer."""
    return Worker(job, python, device).finish()


def _error_line(text: str) -> str | None:
    """Return the last line that names an error, or the last line of the text."""
    lines = [line for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return next(iter(reversed(named or lines)), None)
