"""Parser of the command line: commands, options, and an example for each."""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from brainhw._closest import closest_option
from brainhw._version import __version__

__all__ = ["COMMANDS", "SHELLS", "build_parser"]

# The module of `brainhw.cli` that contains the function of each command.
COMMANDS = {
    "info": "look",
    "check": "look",
    "power": "run",
    "run": "run",
    "train": "train",
    "calibrate": "calibrate",
    "compare": "compare",
    "firmware": "firmware",
    "completion": "completion",
}
# shtab also writes scripts for other shells, but they do not complete options.
SHELLS = ("bash", "zsh", "fish")

_WORDS = (*COMMANDS, *SHELLS)

_DATA = (
    "a .npy file, or an .npz file with `x`: spikes or dimensionless analog values of shape [samples, steps, channels]"
)
_LABELLED = _DATA + "; an .npz file may also contain `y`, the class of each sample counted from 0, of shape [samples]"
_EXIT_CODES = """exit codes:
  0    success
  1    a check failed, or a file or a value is invalid; one line on the standard error states the reason
  2    wrong use, such as an unknown command or option
  130  interrupted with Ctrl-C
  141  the program that reads the output closed the pipe"""


class _Parser(argparse.ArgumentParser):
    commands: Mapping[str, argparse.ArgumentParser]

    # argparse would report an unknown option with the main parser, which does not know the options of the commands and
    # could not suggest a similar one.
    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        words, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.commands[words.command].error(f"unknown argument {unknown[0]!r}")
        return words

    # Print one line, as for every other error. argparse would also print the usage.
    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"(?:invalid choice:|unknown argument) '([^'=]*)", message)
        near = closest_option(wrong[1], (*_WORDS, *self._option_string_actions)) if wrong else None
        hint = f"; did you mean {near!r}?" if near else ""
        self.exit(2, f"error: {message}{hint} (see {self.prog} --help)\n")


class _Format(argparse.HelpFormatter):
    # Keep the lines of examples and exit codes, but wrap descriptions of one line.
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def build_parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of all commands; ``program`` is the program name in usage and error messages."""
    parser = _Parser(
        prog=program,
        description="Train networks for a chip, inspect and run bundles, calibrate and compare chips.",
        epilog=_EXIT_CODES,
        formatter_class=_Format,
    )
    parser.add_argument("--version", action="version", version=f"brainhw {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parser.commands = commands.choices
    _add_train(commands)
    _add_info(commands)
    _add_check(commands)
    _add_power(commands)
    _add_run(commands)
    _add_calibrate(commands)
    _add_compare(commands)
    _add_firmware(commands)
    _add_completion(commands)
    return parser


def _add_train(commands: argparse._SubParsersAction) -> None:
    purpose = "train a classifier on your recordings that meets all rules of a chip"
    parser = _command(commands, "train", purpose, "train.npz --test test.npz --chip h1v2 --out digits")
    parser.add_argument(
        "data",
        metavar="DATA",
        help="an .npz file with `x`, the recordings, of shape [recordings, steps, channels] or [recordings, features]; "
        "`y`, the class of each recording, a name or an integer, of shape [recordings]; and, if recordings are padded, "
        "`lengths`, the number of steps of each recording, of shape [recordings]",
    )
    parser.add_argument("--test", metavar="FILE", help="test recordings, in a file like DATA")
    parser.add_argument(
        "--chip",
        metavar="CHIP",
        default="h1v2",
        help="chip family, such as h1v1, or a file that ChipSpec.save wrote, such as lab.toml (default: h1v2)",
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="NAME",
        help="write the network, NAME.bundle, and the encoder of its inputs, NAME.encoding",
    )
    parser.add_argument(
        "--seed",
        metavar="K",
        type=functools.partial(_whole, least=0, most=2**32 - 1),
        default=0,
        help="seed of the training (default: 0)",
    )
    _add_output(parser, slow=True)


def _add_info(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "info", "show the content of a bundle, or of a measured chip (.chip)", "digits.bundle")
    _add_bundle(parser, or_chip=True)
    parser.add_argument("--chip", action="store_true", help="show every parameter of the chip, with its provenance")
    _add_output(parser)


def _add_check(commands: argparse._SubParsersAction) -> None:
    purpose = "verify a bundle, and check its network against the rules of its chip (exit code 1 if a rule is broken)"
    parser = _command(commands, "check", purpose, "digits.bundle")
    _add_bundle(parser)
    _add_output(parser)


def _add_power(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "power", "estimate power and energy on data", "digits.bundle test.npz")
    _add_bundle(parser)
    parser.add_argument("data", metavar="DATA", help=_DATA)
    _add_encoding(parser)
    _add_output(parser, slow=True)


def _add_run(commands: argparse._SubParsersAction) -> None:
    purpose = "run a bundle on data: accuracy, predicted classes, output spikes"
    parser = _command(commands, "run", purpose, "digits.bundle test.npz --chip-key 3 --out spikes.npz")
    _add_bundle(parser)
    parser.add_argument("data", metavar="DATA", help=_LABELLED)
    parser.add_argument("--labels", metavar="FILE", help="labels from a separate .npy file, or an .npz file with `y`")
    parser.add_argument(
        "--out", metavar="FILE", help="write an .npz file with `spikes` [samples, steps, outputs] and `predicted`"
    )
    parser.add_argument(
        "--chip-key",
        metavar="K",
        type=functools.partial(_whole, least=0, most=2**32 - 1),
        help="run on the chip sampled with this seed (default: the chip in the bundle, usually the nominal chip)",
    )
    parser.add_argument(
        "--batch-size",
        metavar="B",
        type=functools.partial(_whole, least=1, most=2**31),
        default=64,
        help="samples that run at once (default: 64)",
    )
    _add_encoding(parser)
    parser.add_argument("--neurons", action="store_true", help="also show a table of the output neurons")
    _add_output(parser, slow=True)


def _add_calibrate(commands: argparse._SubParsersAction) -> None:
    purpose = "calibrate a chip from tables of measurements: charge curve, leak, thresholds, noise"
    parser = _command(commands, "calibrate", purpose, "charge.csv decay.csv fi.csv --family h1v1 -o chip7.chip")
    parser.add_argument(
        "tables",
        metavar="TABLE",
        nargs="+",
        help="one to three CSV files in any order, with the columns `code,synapse,charge_fC`, "
        "`setting,neuron,t_ms,V_mV` or `neuron,inputs,rate_Hz`",
    )
    parser.add_argument("--family", metavar="NAME", help="chip family, such as h1v1")
    parser.add_argument("--chip", metavar="FILE", help="instead of --family: a chip saved by ChipSpec.save")
    parser.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        help="write the measured chip to this file (.chip); an old .chip file is replaced",
    )
    parser.add_argument("--figure", metavar="FILE", help="draw the fits into this file (.png, .pdf, .svg)")
    parser.add_argument(
        "--settings",
        metavar="S=P,...",
        type=_pairs,
        help="time-constant profile of each leak setting, such as 0=3,1=4 (default: found from the time constants)",
    )
    parser.add_argument(
        "--rates-setting",
        metavar="S",
        type=functools.partial(_whole, least=0, most=10**6),
        help="leak setting of the f-I curves (default: found from the time constants)",
    )
    parser.add_argument(
        "--noise",
        metavar="MV",
        type=_positive,
        help="trial noise per step in mV, if known; the capacitance C is then fitted too",
    )
    parser.add_argument("--dt", metavar="MS", type=_positive, default=1.0, help="time step in ms (default: 1)")
    parser.add_argument("--name", metavar="TEXT", help="name of the measured chip (default: that of the output file)")
    _add_output(parser, slow=True)


def _add_compare(commands: argparse._SubParsersAction) -> None:
    purpose = "compare a bundle with a measured chip, or with a bench that is run by a command"
    parser = _command(commands, "compare", purpose, "digits.bundle chip7.chip test.npz --neurons")
    _add_bundle(parser)
    parser.add_argument(
        "chip", metavar="CHIP", nargs="?", help="a measured chip (.chip), which is simulated instead of a bench"
    )
    parser.add_argument("data", metavar="DATA", help=_LABELLED)
    parser.add_argument(
        "--device",
        metavar="CMD",
        help="instead of CHIP: a command with its arguments, quoted as one word, such as 'python bench.py'; it runs "
        "without a shell",
    )
    parser.add_argument(
        "--timeout", metavar="S", type=_positive, default=60.0, help="seconds that the command may take (default: 60)"
    )
    parser.add_argument(
        "--trials",
        metavar="N",
        type=functools.partial(_whole, least=1, most=1000),
        default=1,
        help="runs of the bench; from 2 on, the agreement between runs is shown (default: 1)",
    )
    parser.add_argument("--neurons", action="store_true", help="also show a table of the neurons that differ most")
    parser.add_argument(
        "--worst",
        metavar="N",
        type=functools.partial(_whole, least=1, most=10**6),
        help="the same table with N neurons (default: 10)",
    )
    parser.add_argument(
        "--no-causes",
        dest="causes",
        action="store_false",
        help="for --neurons, --worst and --figure: skip the fit of tau and thresholds, which takes a minute",
    )
    parser.add_argument("--labels", metavar="FILE", help="labels from a separate file, as for run")
    parser.add_argument(
        "--classes",
        metavar="N",
        type=functools.partial(_whole, least=1, most=2**31),
        help="number of classes, each with an equal number of output neurons (default: the number in the bundle, "
        "otherwise one class per output neuron)",
    )
    parser.add_argument("--figure", metavar="FILE", help="draw the comparison into this file (.png, .pdf, .svg)")
    _add_encoding(parser)
    _add_output(parser, slow=True)


def _add_firmware(commands: argparse._SubParsersAction) -> None:
    purpose = "write the network of a bundle as a C header for a microcontroller"
    parser = _command(commands, "firmware", purpose, "digits.bundle net.h")
    _add_bundle(parser)
    parser.add_argument("header", metavar="HEADER", help="the C header to write, such as net.h")
    parser.add_argument(
        "--name", metavar="NAME", default="net", help="prefix of the names in the header (default: net)"
    )
    _add_output(parser)


def _add_completion(commands: argparse._SubParsersAction) -> None:
    purpose = "print a script that completes commands, options and files in a shell (requires the package shtab)"
    parser = _command(commands, "completion", purpose, "bash > ~/.local/share/bash-completion/completions/brainhw")
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")


def _command(commands: argparse._SubParsersAction, name: str, purpose: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=purpose,
        description=purpose[0].upper() + purpose[1:] + ".",
        epilog=f"example:\n  %(prog)s {example}",
        formatter_class=_Format,
    )


def _add_bundle(parser: argparse.ArgumentParser, *, or_chip: bool = False) -> None:
    kinds = "a file that brainhw.deploy.export_bundle wrote" + ", or a measured chip (.chip)" * or_chip
    parser.add_argument("bundle", metavar="BUNDLE", help=kinds)


def _add_encoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoding",
        metavar="FILE",
        help="the encoder that the command train wrote, NAME.encoding; DATA then contains raw recordings in `x` and "
        "the names of their classes in `y`",
    )


def _add_output(parser: argparse.ArgumentParser, *, slow: bool = False) -> None:
    """Add the option ``--json`` and, with ``slow=True``, the option ``--quiet``, which hides the progress bar."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document instead of text, and warnings on the standard error",
    )
    if slow:
        parser.add_argument(
            "-q", "--quiet", action="store_true", help="hide the progress bar, which is shown only in a terminal"
        )


def _pairs(text: str) -> dict[int, int]:
    pairs: dict[int, int] = {}
    for part in text.split(","):
        left, equals, right = part.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"must be pairs such as 0=3,1=4; got {text[:40]!r}")
        setting = _whole(left, 0, 10**6)
        if setting in pairs:
            raise argparse.ArgumentTypeError(f"must contain each setting once; got {text[:40]!r}")
        pairs[setting] = _whole(right, 0, 10**6)
    return pairs


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # NaN fails the comparison.
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number; got {text[:40]!r}")
    return value


def _whole(text: str, least: int, most: int) -> int:
    # `int` alone would also accept spaces, underscores and digits of other scripts.
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"must be an integer from {least} to {most}; got {text[:40]!r}")
    return int(text)
