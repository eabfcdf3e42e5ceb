"""Measure the time of calls, for the benchmarks of this folder."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

__all__ = ["median_ms"]


def median_ms(call: Callable[[], Any], repeats: int) -> float:
    """Return the median time of a call in milliseconds, without the first two calls.

    The call must wait for its result.
    """
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[2:])
