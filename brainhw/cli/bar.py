"""Condition under which a command shows its progress."""

from __future__ import annotations

import sys

__all__ = ["wants_bar"]


def wants_bar(quiet: bool) -> bool:
    """Return whether the standard error is a terminal and ``--quiet`` was not given."""
    # A file or a log would fill with copies of the bar.
    return not quiet and sys.stderr is not None and sys.stderr.isatty()
