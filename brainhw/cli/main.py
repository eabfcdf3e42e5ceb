"""Entry point of the command line; a command is imported only when it runs."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence

from brainhw.cli.parser import COMMANDS, build_parser

__all__ = ["main"]

# Exit codes that a shell reports for a program that was ended by the signals SIGINT and SIGPIPE.
_INTERRUPTED, _CLOSED_PIPE = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Command-line arguments after the name of the program. Default ``sys.argv[1:]``.

    Returns
    -------
    int
        0 for success, 1 if a check failed or a file or value is invalid, 2 for an invalid command line, 130 after
        Ctrl-C, 141 if the program that reads the output closed the pipe.

    Examples
    --------
    >>> from brainhw.cli import main
    >>> main(["check", "nowhere.bundle"])
    1
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # The encoding of a terminal may lack a character of a message.
            stream.reconfigure(errors="replace")
    try:
        if sys.stdout is None:
            return _report_error("the standard output is closed, so nothing can be shown. Send it to a file.", 1)
        try:
            parser = build_parser(_program() if argv is None else "brainhw")
            code = _start(parser.parse_args(argv), parser, is_program=argv is None)
        except SystemExit as stop:
            code = int(stop.code or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_output()
        return _CLOSED_PIPE
    except KeyboardInterrupt:
        return _report_error("interrupted", _INTERRUPTED)
    except Exception as error:
        # Errors of these classes have messages for users. For other errors, also show the name of the class.
        known = isinstance(error, (ValueError, TypeError, RuntimeError, OSError, ImportError))
        return _report_error(str(error) if known else f"{type(error).__name__}: {error}", 1)


def _program() -> str:
    """Return the command that started this program: the name of the installed command, or ``python -m brainhw``."""
    name = os.path.basename(sys.argv[0]).removesuffix(".exe")
    return "python -m brainhw" if name in ("__main__.py", "") else name


def _report_error(message: str, code: int) -> int:
    # The standard error may be missing or closed, but the exit code is always returned.
    _warn("error", message)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        _drop_output()
    return code


def _warn(kind: str, message: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{kind}: {' '.join(message.split())}\n")


@contextlib.contextmanager
def _default_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process at once, without an exception.

    If an exception is raised while a compiled module is imported, the module may print a traceback or ignore the
    exception.
    """
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:  # only the main thread may do this
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _drop_output() -> None:
    # Without this, Python's own flush at exit would fail again and print a traceback.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _start(words: argparse.Namespace, parser: argparse.ArgumentParser, *, is_program: bool) -> int:
    # Importing JAX is slow. Therefore each command imports only what it needs, and `--help` imports nothing.
    given = vars(words)
    command, as_json = given.pop("command"), given.pop("json", False)
    with _default_interrupt() if is_program else contextlib.nullcontext():
        module = importlib.import_module(f"brainhw.cli.{COMMANDS[command]}")
    if command == "completion":
        sys.stdout.write(module.completion(parser, **given))
        return 0
    # These settings change the whole process. Do not set them if another program calls `main`.
    if is_program and COMMANDS[command] in ("run", "train"):
        from brainhw.transform import keep_compiled, keep_memory

        keep_memory()
        keep_compiled()
    if is_program:
        # Python would also print the file and the line that warns.
        warnings.showwarning = lambda message, *_, **__: _warn("warning", str(message))
    result = getattr(module, command)(**given)
    if as_json:
        from brainhw.cli.result import json_text

        for warning in result.warnings:
            _warn("warning", warning)
        sys.stdout.write(json_text(command, result))
    else:
        from brainhw._printing import printable

        sys.stdout.write(printable("\n".join(result.lines)) + "\n")
    return result.code
