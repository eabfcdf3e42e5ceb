"""Parser of the command line; each command is imported only when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from brainhw._version import __version__

__all__ = ["main"]

_DATA = (
    "a .npy file, or an .npz file with `x`, of shape [samples, steps, channels] (batch first, as data sets hold them); "
    "spikes or dimensionless analog values"
)
_LABELLED = _DATA + "; an .npz file may hold `y` of shape [samples], the class of each, counted from 0"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after the name of the program. Default: ``sys.argv[1:]``.

    Returns
    -------
    int
        0 for success, 1 if a file is refused or a network is not deployable, 2 if the words are not a command.

    Examples
    --------
    >>> from brainhw.cli import main
    >>> main(["check", "nowhere.bundle"])
    1
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal may lack a character of the tables
    try:
        try:
            words = _parser().parse_args(argv)
        except SystemExit as stop:
            return int(stop.code or 0)
        code = _start(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader closed the pipe; without this, Python's own flush at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _refused("interrupted", 130)
    except Exception as error:
        known = isinstance(error, (ValueError, TypeError, RuntimeError, OSError))
        return _refused(str(error) if known else f"{type(error).__name__}: {error}", 1)


def _refused(message: str, code: int) -> int:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return code


def _start(words: argparse.Namespace) -> int:
    if words.command in ("info", "check"):
        from brainhw.cli import look

        return look.info(words.bundle, chip=words.chip) if words.command == "info" else look.check(words.bundle)
    from brainhw.cli import run

    if words.command == "power":
        return run.power(words.bundle, words.data)
    return run.run(
        words.bundle,
        words.data,
        labels=words.labels,
        out=words.out,
        chip_key=words.chip_key,
        batch_size=words.batch_size,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m brainhw", description="Look into bundles of spiking networks for chips, and run them."
    )
    parser.add_argument("--version", action="version", version=f"brainhw {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    info = _command(commands, "info", "show the content of a bundle")
    info.add_argument("--chip", action="store_true", help="show every number of the chip, with its provenance")
    _command(commands, "check", "verify a bundle, and that its network can go on its chip (exit code 0, else 1)")
    power = _command(commands, "power", "estimate power and energy on data")
    power.add_argument("data", metavar="DATA", help=_DATA)
    run = _command(commands, "run", "run a bundle on data: output spikes, predicted classes, accuracy")
    run.add_argument("data", metavar="DATA", help=_LABELLED)
    run.add_argument("--labels", metavar="FILE", help="labels from another file: a .npy file, or an .npz file with `y`")
    run.add_argument(
        "--out", metavar="FILE", help="write an .npz file: `spikes` [samples, steps, outputs], `predicted`"
    )
    run.add_argument(
        "--chip-key", metavar="K", type=_key, help="run on the sampled chip of this number (default: the nominal chip)"
    )
    run.add_argument("--batch-size", metavar="B", type=_batch_size, default=64, help="samples at once (default: 64)")
    return parser


def _command(commands: argparse._SubParsersAction, name: str, purpose: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    parser.add_argument("bundle", metavar="BUNDLE", help="a file that brainhw.deploy.export_bundle wrote")
    return parser


def _key(text: str) -> int:
    return _whole(text, 0, 2**32 - 1)


def _batch_size(text: str) -> int:
    return _whole(text, 1, 2**31)


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}; got {text[:40]!r}")
    return int(text)
