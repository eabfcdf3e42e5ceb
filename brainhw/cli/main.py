"""Parser of the command line; each command is imported only when it runs."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
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

_MODULES = {
    "info": "look",
    "check": "look",
    "power": "run",
    "run": "run",
    "train": "train",
    "calibrate": "calibrate",
    "compare": "compare",
    "firmware": "firmware",
}


class _Parser(argparse.ArgumentParser):
    # One line, as for every other error; argparse would print the usage as well.
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Words after the name of the program. Default ``sys.argv[1:]``.

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
            # A terminal may lack a character of a message.
            stream.reconfigure(errors="replace")
    try:
        if sys.stdout is None:
            return _refused("the standard output is closed, so that nothing can be shown; send it to a file", 1)
        try:
            code = _start(_parser().parse_args(argv), is_program=argv is None)
        except SystemExit as stop:
            code = int(stop.code or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_output()  # the reader closed the pipe
        return 1
    except KeyboardInterrupt:
        return _refused("interrupted", 130)
    except Exception as error:
        # Errors of these classes are written for the reader; others need the name of their class.
        known = isinstance(error, (ValueError, TypeError, RuntimeError, OSError))
        return _refused(str(error) if known else f"{type(error).__name__}: {error}", 1)


def _refused(message: str, code: int) -> int:
    # There may be no standard error, or one that nobody reads; the exit code tells it all the same.
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"error: {' '.join(message.split())}\n")
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        _drop_output()
    return code


def _drop_output() -> None:
    # Without this, Python's own flush at exit would fail again, and print what it thinks of it.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _start(words: argparse.Namespace, *, is_program: bool) -> int:
    # JAX is slow to import: a command imports what it needs, and `--help` nothing.
    given = vars(words)
    command = given.pop("command")
    # These switches are for the whole process, which is not ours where another program calls `main`.
    if is_program and _MODULES[command] in ("run", "train"):
        transform = importlib.import_module("brainhw.transform")
        transform.keep_memory()
        transform.keep_compiled()
    module = importlib.import_module(f"brainhw.cli.{_MODULES[command]}")
    return getattr(module, command)(**given)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m brainhw",
        description="Train a network for a chip, look into bundles, run them, calibrate and compare chips.",
    )
    parser.add_argument("--version", action="version", version=f"brainhw {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    info = _command(commands, "info", "show the content of a bundle, or of a measured chip (.chip)")
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
        "--chip-key",
        metavar="K",
        type=functools.partial(_whole, least=0, most=2**32 - 1),
        help="run on the sampled chip of this number (default: the chip in the bundle, mostly the nominal one)",
    )
    run.add_argument(
        "--batch-size",
        metavar="B",
        type=functools.partial(_whole, least=1, most=2**31),
        default=64,
        help="samples at once (default: 64)",
    )
    run.add_argument(
        "--encoding",
        metavar="FILE",
        help="the stage before the chip, NAME.encoding of the command train; DATA then holds recordings as they are, "
        "and `y` the names of their classes",
    )
    _add_train(commands)
    _add_calibrate(commands)
    _add_compare(commands)
    firmware = _command(commands, "firmware", "write one step of a bundle as a C header for a microcontroller")
    firmware.add_argument("header", metavar="HEADER", help="the C header to write, such as net.h")
    firmware.add_argument(
        "--name", metavar="NAME", default="net", help="prefix of all names in the header (default: net)"
    )
    return parser


def _add_train(commands: argparse._SubParsersAction) -> None:
    purpose = "train a classifier of your recordings that breaks no rule of a chip"
    parser = commands.add_parser("train", help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    parser.add_argument(
        "data",
        metavar="DATA",
        help="an .npz file with `x` [recordings, steps, channels], or [recordings, features] without steps; `y` "
        "[recordings], names or whole numbers; and, where they differ, `lengths` [recordings], the true steps of each",
    )
    parser.add_argument("--test", metavar="FILE", help="recordings to try the classifier on, in such a file")
    parser.add_argument("--chip", metavar="NAME", default="h1v2", help="chip family, such as h1v1 (default: h1v2)")
    parser.add_argument(
        "-o",
        "--out",
        metavar="NAME",
        help="write NAME.bundle, the network, and NAME.encoding, the stage before the chip",
    )
    parser.add_argument(
        "--seed",
        metavar="K",
        type=functools.partial(_whole, least=0, most=2**32 - 1),
        default=0,
        help="seed of the training (default: 0)",
    )


def _add_calibrate(commands: argparse._SubParsersAction) -> None:
    purpose = "fit tables of a bench: charge curve, leak, thresholds, noise"
    parser = commands.add_parser("calibrate", help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    parser.add_argument(
        "tables",
        metavar="TABLE",
        nargs="+",
        help="CSV files, one to three, in any order: `code,synapse,charge_fC`; `setting,neuron,t_ms,V_mV`; "
        "`neuron,inputs,rate_Hz`",
    )
    parser.add_argument("--family", metavar="NAME", help="chip family, such as h1v1")
    parser.add_argument("--chip", metavar="FILE", help="instead of --family: the chip so far, a file of ChipSpec.save")
    parser.add_argument(
        "-o", "--out", metavar="FILE", help="write the measured chip to this file (.chip); replaces only such a file"
    )
    parser.add_argument("--figure", metavar="FILE", help="draw the fits into this file (.png, .pdf, .svg)")
    parser.add_argument(
        "--settings",
        metavar="S=P,...",
        type=_pairs,
        help="profile of each leak setting, such as 0=3,1=4 (default: found by the time constants)",
    )
    parser.add_argument(
        "--rates-setting",
        metavar="S",
        type=functools.partial(_whole, least=0, most=10**6),
        help="leak setting of the f-I curves (default: found by the time constants)",
    )
    parser.add_argument(
        "--noise", metavar="MV", type=_positive, help="trial noise per step in mV, if known: C is then measured too"
    )
    parser.add_argument("--dt", metavar="MS", type=_positive, default=1.0, help="time step in ms (default: 1)")
    parser.add_argument("--name", metavar="TEXT", help="name of the measured chip (default: that of the output file)")


def _add_compare(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands, "compare", "compare a bundle with a measured chip, or with a bench that a command reaches"
    )
    parser.add_argument(
        "chip", metavar="CHIP", nargs="?", help="a measured chip (.chip), whose exact model plays the bench"
    )
    parser.add_argument("data", metavar="DATA", help=_LABELLED)
    parser.add_argument(
        "--device",
        metavar="CMD",
        help="instead of CHIP: a command and its arguments in one word, such as 'python bench.py'; no shell runs it",
    )
    parser.add_argument(
        "--timeout", metavar="S", type=_positive, default=60.0, help="seconds that the command may take (default: 60)"
    )
    parser.add_argument(
        "--trials",
        metavar="N",
        type=functools.partial(_whole, least=1, most=1000),
        default=1,
        help="runs of the bench; from 2 on, its agreement with itself is shown (default: 1)",
    )
    parser.add_argument(
        "--worst",
        metavar="N",
        type=functools.partial(_whole, least=1, most=10**6),
        default=10,
        help="neurons in the table (default: 10)",
    )
    parser.add_argument(
        "--no-causes", dest="causes", action="store_false", help="do not fit tau and thresholds, which takes a while"
    )
    parser.add_argument("--labels", metavar="FILE", help="labels from another file, as for run")
    parser.add_argument(
        "--classes",
        metavar="N",
        type=functools.partial(_whole, least=1, most=2**31),
        help="number of classes, each with an equal number of output neurons (default: that of the bundle, or one "
        "neuron for each class)",
    )
    parser.add_argument("--figure", metavar="FILE", help="draw the comparison into this file (.png, .pdf, .svg)")


def _pairs(text: str) -> dict[int, int]:
    pairs: dict[int, int] = {}
    for part in text.split(","):
        left, equals, right = part.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"must be pairs such as 0=3,1=4; got {text[:40]!r}")
        setting = _whole(left, 0, 10**6)
        if setting in pairs:
            raise argparse.ArgumentTypeError(f"must name each setting once; got {text[:40]!r}")
        pairs[setting] = _whole(right, 0, 10**6)
    return pairs


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # NaN fails the comparison.
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above zero; got {text[:40]!r}")
    return value


def _command(commands: argparse._SubParsersAction, name: str, purpose: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    kinds = "a file that brainhw.deploy.export_bundle wrote"
    if name == "info":
        kinds += ", or a measured chip (.chip)"
    parser.add_argument("bundle", metavar="BUNDLE", help=kinds)
    return parser


def _whole(text: str, least: int, most: int) -> int:
    # `int` alone would also take spaces, underscores and digits of other scripts.
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}; got {text[:40]!r}")
    return int(text)
