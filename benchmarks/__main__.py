"""Speed benchmark: ``python -m benchmarks run|report|agree|list``. Each command has the option ``--help``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from benchmarks.speed import agreement, runner
from benchmarks.speed.adapters import ADAPTERS
from benchmarks.speed.cases import CASES, sizes_of
from benchmarks.speed.measure import MODES


def _python(text: str) -> tuple[str, str]:
    names, _, path = text.partition("=")
    unknown = set(names.split(",")) - set(ADAPTERS)
    if unknown or not path:
        raise argparse.ArgumentTypeError(
            f"expected LIBRARY[,LIBRARY...]=PATH, got {text!r}. The libraries are {', '.join(ADAPTERS)}"
        )
    # Make the path absolute, because workers start in another folder. Do not resolve links, because Python finds a
    # virtual environment by its link.
    return names, os.path.abspath(path) if os.sep in path else path


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 60, got {text!r}")
    return seconds


def _writable(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that exists, got {text!r}")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    all_sizes = list(dict.fromkeys(size for case in CASES for size in sizes_of(case)))
    for name, words in (
        ("run", "measure each library, case and size in a separate process"),
        ("agree", "check that all libraries compute the same outputs"),
        ("list", "list the available libraries, and how to install the others"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument(
            "--only", nargs="+", choices=ADAPTERS, default=list(ADAPTERS), help="use only these libraries"
        )
        command.add_argument(
            "--python",
            nargs="+",
            action="extend",
            type=_python,
            default=[],
            metavar="LIBRARY=PATH",
            help="interpreter of the environment with a library, or with several: snntorch,norse=PATH",
        )
        if name == "list":
            continue
        command.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
        command.add_argument("--out", type=_writable, help="JSON file for the results")
        if name == "agree":
            command.add_argument("--size", choices=("tiny", "agree"), default="agree")
            continue
        command.add_argument(
            "--sizes", nargs="+", choices=all_sizes, help="sizes to measure (default: all except tiny and agree)"
        )
        command.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
        command.add_argument(
            "--repeats",
            type=_count,
            default=15,
            help="least number of timed calls in five rounds together; fewer if a call takes more than a second",
        )
        command.add_argument(
            "--seconds",
            type=_seconds,
            default=0.2,
            help="in each round, repeat short calls for this time before timing them, and time them for this time",
        )
        command.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    command = commands.add_parser("report", help="make tables and a figure from the results of run")
    command.add_argument(
        "file",
        type=Path,
        nargs="+",
        help="result files of run; a later file replaces the cases and sizes of an earlier one",
    )
    command.add_argument("--agree", type=Path, help="result file of agree, for an additional table")
    command.add_argument("--markdown", type=Path, help="write the tables to this file instead of printing them")
    command.add_argument("--figure", type=Path, help="write a figure to this file")
    command.add_argument(
        "--figure-modes", nargs="+", choices=MODES, default=list(MODES), help="modes that the figure shows"
    )
    command.add_argument("--out", type=Path, help="write the combined results to this JSON file")
    return parser


def main() -> None:
    """Run a command."""
    arguments = _parser().parse_args()
    if arguments.command == "report":
        from benchmarks.speed import report

        try:
            content = report.read(arguments.file)
        except (OSError, ValueError) as error:
            sys.exit(f"report: {error}")
        agreed = json.loads(arguments.agree.read_text()) if arguments.agree else None
        text = report.markdown(content, agreed)
        if arguments.markdown:
            arguments.markdown.write_text(text + "\n")
        else:
            print(text)
        if arguments.out:
            arguments.out.write_text(json.dumps(content, indent=0) + "\n")
        if arguments.figure:
            from benchmarks.speed import figure

            figure.draw(content, arguments.figure, arguments.figure_modes)
        return
    pythons = {name: path for names, path in arguments.python for name in names.split(",")}
    if arguments.command == "list":
        for name, state in runner.probe(arguments.only, pythons).items():
            versions = ", ".join(f"{d} {v}" for d, v in state.get("versions", {}).items() if v)
            words = f"{versions}, Python {state['python']}"
            if not state["available"]:
                words = f"not installed; {state['install']}" + (f" ({state['error']})" if "error" in state else "")
            print(f"{name:20s} {words}\n{'':20s} {', '.join(ADAPTERS[name].offers)}; {ADAPTERS[name].note}")
        return
    if arguments.command == "agree":
        rows = agreement.agree(
            cases=arguments.cases, size=arguments.size, names=arguments.only, pythons=pythons, say=_to_stderr
        )
        if arguments.out:
            arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
        print(agreement.table(rows))
        sys.exit(not all(map(agreement.is_agreed, rows)))
    content = runner.run(
        cases=arguments.cases,
        sizes=arguments.sizes,
        modes=arguments.modes,
        names=arguments.only,
        pythons=pythons,
        repeats=arguments.repeats,
        seconds=arguments.seconds,
        device=arguments.device,
        save=arguments.out,
    )
    missing = [name for name, state in content["adapters"].items() if not state["available"]]
    # Without --only, libraries that are not installed are skipped.
    asked = len(arguments.only) < len(ADAPTERS)
    sys.exit(any("error" in record for record in content["results"]) or (asked and bool(missing)))


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        # Ignore a second Ctrl-C, which would end this message with a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit("interrupted; --out contains the cases and sizes that were finished")
