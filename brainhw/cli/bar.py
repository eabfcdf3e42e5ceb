"""Condition under which a command shows a progress bar."""

from __future__ import annotations

import sys

__all__ = ["wants_bar"]


def wants_bar(quiet: bool) -> bool:
    """Return whether the standard error is a terminal and ``--quiet`` was not given."""
    # In a file or a log, every update of the bar would be a new line.
    return not quiet and sys.stderr is not None and sys.stderr.isatty()
