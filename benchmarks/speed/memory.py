"""Measure the memory of this process on Linux."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

__all__ = ["forget_peak", "peak_mib", "present_mib"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _field(name: str) -> float | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return float(line.split()[1]) / 1024
    return None


def present_mib() -> float | None:
    """Return the resident memory, or ``None`` if the system does not report it."""
    return _field("VmRSS")


def peak_mib() -> float | None:
    """Return the peak resident memory since the last call to :func:`forget_peak`, or since the start of the process."""
    return _field("VmHWM")


def forget_peak() -> None:
    """Return freed memory to the system, and reset the peak if the system allows it."""
    gc.collect()
    # If the C library kept freed memory, new arrays would reuse it and not increase the peak.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
    try:
        _CLEAR.write_text("5")
    except OSError:
        return
