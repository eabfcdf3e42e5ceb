"""Check of the files that a command will write, before its computation begins."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from brainhw._files import check_target, may_replace
from brainhw.silicon.measured_file import TAG

__all__ = ["check_output", "check_separate"]

# First bytes of the files that a command may replace.
_STARTS = {
    "chip": (f"{TAG} ".encode(),),
    "picture": (b"\x89PNG", b"%PDF", b"<?xml", b"<svg"),
    ".npz": (b"PK\x03\x04",),  # a zip archive
    "C header": (b"/* One step of a network for ",),
}


def check_separate(option: str, path: str, others: Iterable[str | None], *, call: str) -> Path:
    """Return the resolved path of an output file. Raise if it cannot be written or is one of ``others``."""
    target = check_target(path, call=call)
    # Compare real paths, because a link to an input would also overwrite it.
    used = {os.path.realpath(other): other for other in others if other is not None}
    if os.path.realpath(path) in used:
        raise ValueError(
            f"{call}: {option} {path!r} would overwrite {used[os.path.realpath(path)]!r}, which this command also "
            "uses. Pass a different file."
        )
    return target


def check_output(
    option: str,
    path: str,
    kind: Literal["chip", "picture", ".npz", "C header"],
    others: Iterable[str | None],
    *,
    call: str,
) -> None:
    """Raise if an output file cannot be written, or if writing it would destroy a different file.

    ``others`` are the inputs and the other outputs of the command, or ``None`` for those that are not used.
    """
    target = check_separate(option, path, others, call=call)
    if not may_replace(target, _STARTS[kind]):
        raise ValueError(
            f"{call}: {option} must be a new file or an existing {kind} file to replace; got {path!r}, a file of a "
            "different kind. Pass a different name, or remove that file."
        )
