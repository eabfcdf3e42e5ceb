"""How much memory this process has held, on Linux."""

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
    """Return the resident memory of now; ``None`` where the system does not tell."""
    return _field("VmRSS")


def peak_mib() -> float | None:
    """Return the most resident memory since :func:`forget_peak`, or since the start."""
    return _field("VmHWM")


def forget_peak() -> None:
    """Give freed memory back and let the peak start again from the memory of now, where the system allows it."""
    gc.collect()
    # What the C library keeps of freed arrays would hide the same amount of new ones.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
    try:
        _CLEAR.write_text("5")
    except OSError:
        return
