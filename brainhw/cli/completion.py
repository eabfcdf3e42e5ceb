"""Shell script that completes the command line, made by the package shtab."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

__all__ = ["completion"]

# Positional arguments and options with these names are completed with file names.
_FILES = {"BUNDLE", "DATA", "FILE", "TABLE", "CHIP", "HEADER"}


def completion(parser: argparse.ArgumentParser, *, shell: str) -> str:
    """Return the completion script of a shell for the command ``brainhw``."""
    try:
        import shtab
    except ImportError as error:
        raise ImportError(
            "completion: the package shtab is missing. Install it with: pip install 'brainhw[completion]'"
        ) from error
    _mark_files(parser, shtab.FILE)
    # A shell can complete only the installed command; for `python -m brainhw` it completes the command python.
    parser.prog = "brainhw"
    return shtab.complete(parser, shell=shell) + "\n"


def _mark_files(parser: argparse.ArgumentParser, complete: Mapping[str, str | dict[str, str]]) -> None:
    for action in parser._actions:  # argparse has no public list of its actions
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _mark_files(command, complete)
        elif action.metavar in _FILES:
            action.complete = complete  # type: ignore[attr-defined]
