"""Time the calls of one adapter, one mode after the other."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.speed import memory
from benchmarks.speed.contract import Calls

__all__ = ["MODES", "measure"]

MODES = ("forward", "both", "step")
LEAST_REPEATS, LONG_CALL_S, CALLS_PER_STEP_REPEAT = 5, 1.0, 20


def measure(calls: Calls, modes: Iterable[str], repeats: int) -> list[dict[str, Any]]:
    """Return one record for each available mode, with times in ms, compile time in seconds and memory in MiB.

    Of several ``calls.settings``, the one with the shortest median time is reported.
    """
    records = []
    for mode in modes:
        call = getattr(calls, mode)
        if call is None:
            continue
        load = os.getloadavg()
        memory.forget_peak()
        before = memory.present_mib()
        runs = []
        for setting, apply in calls.settings.items() or [("", lambda: None)]:
            apply()
            runs.append({"setting": setting, **_times(call, repeats, many=mode == "step")})
        peak = memory.peak_mib()
        record = {"mode": mode, **min(runs, key=lambda run: run["median_ms"]), "load": load, "device": calls.device}
        # The call that compiled is the first call of the first setting, whichever setting is the fastest.
        record["compile_s"] = runs[0]["first_s"] - runs[0]["median_ms"] / 1e3
        record["tried"] = {run["setting"]: run["median_ms"] for run in runs if run["setting"]}
        record["peak_mib"] = None if peak is None or before is None else peak - before
        if mode in calls.temp_bytes:
            record["temp_mib"] = calls.temp_bytes[mode]() / 2**20
        if calls.device_peak is not None:
            on_device = calls.device_peak()
            record["device_peak_mib"] = None if on_device is None else on_device / 2**20
        records.append(record)
    return records


def _times(call: Callable[[], Any], repeats: int, *, many: bool) -> dict[str, Any]:
    first = _seconds(call)
    second = _seconds(call)
    count = repeats * CALLS_PER_STEP_REPEAT if many else repeats
    if second > LONG_CALL_S:
        count = min(count, max(LEAST_REPEATS, int(repeats * LONG_CALL_S / second)))
    times = [1e3 * _seconds(call) for _ in range(count)]
    q1, median, q3 = statistics.quantiles(times, n=4, method="inclusive") if count > 1 else times * 3
    return {"first_s": first, "median_ms": median, "q1_ms": q1, "q3_ms": q3, "min_ms": min(times), "repeats": count}


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
