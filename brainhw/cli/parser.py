"""Parser of the command line: commands, options, and an example for each."""

from __future__ import annotations

import argparse
import functools
from typing import NoReturn

from brainhw._version import __version__

__all__ = ["COMMANDS", "SHELLS", "build_parser"]

# The module of `brainhw.cli` that holds the function of each command.
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
# shtab also writes scripts for other shells, but those complete no options.
SHELLS = ("bash", "zsh", "fish")

_DATA = (
    "a .npy file, or an .npz file with `x`, of shape [samples, steps, channels]; spikes or dimensionless analog values"
)
_LABELLED = _DATA + "; an .npz file may hold `y` of shape [samples], the class of each sample, counted from 0"
_EXIT_CODES = """exit codes:
  0    success
  1    a check failed, or a file or a value is refused; the reason is one line on the standard error
  2    wrong use: unknown command or option
  130  interrupted with Ctrl-C
  141  the reader of the output closed the pipe"""


class _Parser(argparse.ArgumentParser):
    # One line, as for every other error; argparse would print the usage as well.
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


class _Format(argparse.HelpFormatter):
    # Examples and exit codes keep their lines; a description of one line is wrapped.
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def build_parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of all commands; ``program`` is the name in usage and errors."""
    parser = _Parser(
        prog=program,
        description="Train a network for a chip, look into bundles, run them, calibrate and compare chips.",
        epilog=_EXIT_CODES,
        formatter_class=_Format,
    )
    parser.add_argument("--version", action="version", version=f"brainhw {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
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
    purpose = "train a classifier of your recordings that breaks no rule of a chip"
    parser = _command(commands, "train", purpose, "train.npz --test test.npz --chip h1v2 --out digits")
    parser.add_argument(
        "data",
        metavar="DATA",
        help="an .npz file with `x` [recordings, steps, channels], or [recordings, features] without steps; `y` "
        "[recordings], names or whole numbers; and, where they differ, `lengths` [recordings], the true steps of each",
    )
    parser.add_argument("--test", metavar="FILE", help="recordings to test the classifier on, in such a file")
    parser.add_argument("--chip", metavar="NAME", default="h1v2", help="chip family, such as h1v1 (default: h1v2)")
    parser.add_argument(
        "-o", "--out", metavar="NAME", help="write NAME.bundle, the network, and NAME.encoding, the encoder before it"
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
    parser.add_argument("--chip", action="store_true", help="show every number of the chip, with its provenance")
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
    _add_output(parser, slow=True)


def _add_run(commands: argparse._SubParsersAction) -> None:
    purpose = "run a bundle on data: accuracy, predicted classes, output spikes"
    parser = _command(commands, "run", purpose, "digits.bundle test.npz --chip-key 3 --out spikes.npz")
    _add_bundle(parser)
    parser.add_argument("data", metavar="DATA", help=_LABELLED)
    parser.add_argument("--labels", metavar="FILE", help="labels from another .npy file, or an .npz file with `y`")
    parser.add_argument(
        "--out", metavar="FILE", help="write an .npz file: `spikes` [samples, steps, outputs], `predicted` [samples]"
    )
    parser.add_argument(
        "--chip-key",
        metavar="K",
        type=functools.partial(_whole, least=0, most=2**32 - 1),
        help="run on the sampled chip of this number (default: the chip in the bundle, usually the nominal one)",
    )
    parser.add_argument(
        "--batch-size",
        metavar="B",
        type=functools.partial(_whole, least=1, most=2**31),
        default=64,
        help="samples that run at once (default: 64)",
    )
    parser.add_argument(
        "--encoding",
        metavar="FILE",
        help="the encoder before the chip, NAME.encoding of the command train; DATA then holds raw recordings, and `y` "
        "the names of their classes",
    )
    parser.add_argument("--neurons", action="store_true", help="also show a table of the output neurons")
    _add_output(parser, slow=True)


def _add_calibrate(commands: argparse._SubParsersAction) -> None:
    purpose = "fit tables of a bench: charge curve, leak, thresholds, noise"
    parser = _command(commands, "calibrate", purpose, "charge.csv decay.csv fi.csv --family h1v1 -o chip7.chip")
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
    _add_output(parser, slow=True)


def _add_compare(commands: argparse._SubParsersAction) -> None:
    purpose = "compare a bundle with a measured chip, or with a bench that a command reaches"
    parser = _command(commands, "compare", purpose, "digits.bundle chip7.chip test.npz --neurons")
    _add_bundle(parser)
    parser.add_argument(
        "chip", metavar="CHIP", nargs="?", help="a measured chip (.chip), whose exact model replaces the bench"
    )
    parser.add_argument("data", metavar="DATA", help=_LABELLED)
    parser.add_argument(
        "--device",
        metavar="CMD",
        help="instead of CHIP: a command and its arguments in one word, such as 'python bench.py'; it runs without a "
        "shell",
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
    parser.add_argument("--neurons", action="store_true", help="also show a table of the neurons that differ most")
    parser.add_argument(
        "--worst",
        metavar="N",
        type=functools.partial(_whole, least=1, most=10**6),
        help="the same table with N neurons (default: 10)",
    )
    parser.add_argument(
        "--no-causes", dest="causes", action="store_false", help="do not fit tau and thresholds, which takes a minute"
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
    _add_output(parser)


def _add_firmware(commands: argparse._SubParsersAction) -> None:
    purpose = "write one step of a bundle as a C header for a microcontroller"
    parser = _command(commands, "firmware", purpose, "digits.bundle net.h")
    _add_bundle(parser)
    parser.add_argument("header", metavar="HEADER", help="the C header to write, such as net.h")
    parser.add_argument(
        "--name", metavar="NAME", default="net", help="prefix of the names in the header (default: net)"
    )
    _add_output(parser)


def _add_completion(commands: argparse._SubParsersAction) -> None:
    purpose = "print a script that completes commands, options and files in a shell (needs the package shtab)"
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


def _add_output(parser: argparse.ArgumentParser, *, slow: bool = False) -> None:
    """Add the options of the output; ``slow`` for a command that shows its progress."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document instead of text; warnings go to the standard error"
    )
    if slow:
        parser.add_argument(
            "-q", "--quiet", action="store_true", help="hide the progress bar, which only a terminal shows"
        )


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


def _whole(text: str, least: int, most: int) -> int:
    # `int` alone would also take spaces, underscores and digits of other scripts.
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}; got {text[:40]!r}")
    return int(text)
