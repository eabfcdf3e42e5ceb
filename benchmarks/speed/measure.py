"""Time the calls of one adapter in rounds."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.speed import memory
from benchmarks.speed.contract import Calls

__all__ = ["MODES", "ROUNDS", "Measurement"]

MODES = ("forward", "both", "step")
ROUNDS = 5
# Calls that take longer than this are repeated less often, and are not called before each round.
LONG_CALL_S = 1.0
CALLS_PER_STEP_REPEAT = 20


@dataclass
class _Setting:
    """Times of one call with one setting, such as a number of threads."""

    name: str
    apply: Callable[[], None]
    first_s: float = 0.0
    second_s: float = 0.0
    times_ms: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        return statistics.median(self.times_ms)


class Measurement:
    """Times of the calls of one adapter.

    A computer whose speed changes within minutes would favour some libraries if each ran as a whole. So the times are
    measured in ``ROUNDS`` rounds, and the other libraries run between the rounds.

    Parameters
    ----------
    calls : Calls
        The calls.
    modes : iterable of str
        Names of the calls to time.
    repeats : int
        Least number of timed calls in all rounds together, rounded up to a multiple of ``ROUNDS``.
    seconds : float
        In each round, short calls are repeated for this time before they are timed, and then timed for at least this
        time. After a pause, the caches contain the data of another library, threads sleep and idle cores are slow. A
        training loop has no such pauses.
    """

    def __init__(self, calls: Calls, modes: Iterable[str], repeats: int, seconds: float) -> None:
        self.calls, self.repeats, self.seconds = calls, repeats, seconds
        self.runs: dict[str, list[_Setting]] = {
            mode: [_Setting(*one) for one in calls.settings.items() or [("", lambda: None)]]
            for mode in modes
            if getattr(calls, mode) is not None
        }
        self.more: dict[str, dict[str, Any]] = {mode: {} for mode in self.runs}

    def warm_up(self) -> None:
        """Compile all calls, and measure their memory."""
        for mode, settings in self.runs.items():
            memory.forget_peak()
            before = memory.present_mib()
            for one in settings:
                one.apply()
                one.first_s, one.second_s = (_seconds(getattr(self.calls, mode)) for _ in range(2))
            peak = memory.peak_mib()
            self.more[mode]["peak_mib"] = None if peak is None or before is None else peak - before
            if mode in self.calls.temp_bytes:
                self.more[mode]["temp_mib"] = self.calls.temp_bytes[mode]() / 2**20
            if self.calls.device_peak is not None:
                on_device = self.calls.device_peak()
                self.more[mode]["device_peak_mib"] = None if on_device is None else on_device / 2**20

    def run_round(self) -> None:
        """Time all calls."""
        for mode, settings in self.runs.items():
            self.more[mode].setdefault("load", os.getloadavg())
            call = getattr(self.calls, mode)
            for one in settings:
                one.apply()
                count = -(-self.repeats // ROUNDS)
                if mode == "step":
                    count *= CALLS_PER_STEP_REPEAT
                if one.second_s > LONG_CALL_S:
                    count = max(1, int(count * LONG_CALL_S / one.second_s))
                else:
                    _times_s(call, least=1, least_s=self.seconds)
                one.times_ms += [1e3 * time_s for time_s in _times_s(call, least=count, least_s=self.seconds)]

    def records(self) -> list[dict[str, Any]]:
        """Return one record for each mode, with times in ms, compile time in seconds and memory in MiB.

        Of several ``calls.settings``, the one with the shortest median time is reported.
        """
        records = []
        for mode, settings in self.runs.items():
            best = min(settings, key=lambda one: one.median_ms)
            q1, median, q3 = statistics.quantiles(best.times_ms, n=4, method="inclusive")
            # The call that compiled is the first call of the first setting, whichever setting is the fastest.
            compile_s = settings[0].first_s - settings[0].median_ms / 1e3
            records.append(
                {
                    "mode": mode,
                    "setting": best.name,
                    "first_s": best.first_s,
                    "median_ms": median,
                    "q1_ms": q1,
                    "q3_ms": q3,
                    "min_ms": min(best.times_ms),
                    "repeats": len(best.times_ms),
                    "device": self.calls.device,
                    "compile_s": compile_s,
                    "tried": {one.name: one.median_ms for one in settings if one.name},
                    **self.more[mode],
                }
            )
        return records


def _times_s(call: Callable[[], Any], *, least: int, least_s: float) -> list[float]:
    """Time at least ``least`` calls that together take at least ``least_s`` seconds. Return the time of each call."""
    times: list[float] = []
    total_s = 0.0
    while len(times) < least or total_s < least_s:
        times.append(_seconds(call))
        total_s += times[-1]
    return times


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
