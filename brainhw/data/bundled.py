"""Data files that ship inside the package, each with a checksum that is verified when it is read."""

from __future__ import annotations

import hashlib
from importlib.resources.abc import Traversable

__all__ = ["bundled_bytes"]


def bundled_bytes(file: Traversable, sha256: str, *, call: str) -> bytes:
    """Return the content of a bundled file, or raise in the name of ``call`` where it is missing or damaged."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RuntimeError(f"{call}: the bundled file {file} cannot be read ({error}); reinstall brainhw.") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise RuntimeError(
            f"{call}: the bundled file {file} is damaged (SHA-256 {found[:12]}..., expected {sha256[:12]}...); "
            "reinstall brainhw."
        )
    return content
