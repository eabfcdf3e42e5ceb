"""Time to convert a million synthetic events to frames, compared with tonic: ``python -m benchmarks.events``.

If tonic is not installed, only the times of brainhw are printed. ``--golden FILE`` writes small frames of tonic, which
are the expected results of the tests. All computations use NumPy.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from typing import Any

import brainunit as u
import numpy as np

import brainhw as bh

N, SENSOR, LENGTH_US = 10**6, (128, 128, 2), 1_000_000
TYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)])
# The options of ToFrame of tonic for each comparison. Times are in microseconds.
SETS: dict[str, dict[str, Any]] = {
    "10 ms": {"time_window": 10_000},
    "1 ms": {"time_window": 1_000},
    "incomplete": {"time_window": 7_000, "include_incomplete": True},
    "overlap": {"time_window": 10_000, "overlap": 2_500},
    "long overlap": {"time_window": 10_000, "overlap": 7_000, "include_incomplete": True},
    "gaps": {"time_window": 4_000, "overlap": -1_000},
    "start and end": {"time_window": 10_000, "start_time": 0, "end_time": 1_200_000},
    "late start": {"time_window": 10_000, "start_time": 20_000},
    "20 bins": {"n_time_bins": 20},
}


def recording(n: int, sensor: tuple[int, int, int], length_us: int, seed: int = 0) -> np.ndarray:
    """Return events sorted by time, as a structured array in the format of tonic."""
    rng = np.random.default_rng(seed)
    array = np.empty(n, TYPE)
    array["t"] = np.sort(rng.integers(1_000, 1_000 + length_us, n))
    array["x"], array["y"] = rng.integers(0, sensor[0], n), rng.integers(0, sensor[1], n)
    array["p"] = rng.random(n) < 0.5
    return array


def same_options(array: np.ndarray, options: dict[str, Any], n_steps: int) -> dict[str, Any]:
    """Return the options of ``events_to_frames`` that produce the same frames.

    Events outside of them are dropped, as in tonic.
    """
    options = dict(options)
    if bins := options.get("n_time_bins"):
        options["time_window"] = (array["t"][-1] - array["t"][0]) // bins
    window = options["time_window"]
    taken = {"dt": (window - options.get("overlap", 0)) * u.us, "window": window * u.us, "off_time": "drop"}
    start = options.get("start_time")
    return {**taken, "n_steps": n_steps, "start": None if start is None else start * u.us}


def ours(array: np.ndarray, sensor: tuple[int, int, int], **options: Any) -> np.ndarray:
    return bh.data.events_to_frames(*bh.data.events_from_array(array), sensor, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--golden", metavar="FILE", help="write the expected frames of the tests to this file (requires tonic)"
    )
    asked = parser.parse_args()
    array = recording(N, SENSOR, LENGTH_US)
    events = bh.data.events_from_array(array)
    shuffled = bh.data.events_from_array(array[np.random.default_rng(1).permutation(N)])
    print(f"{N} events, sensor {SENSOR}, {LENGTH_US / 1e6:g} s; seconds, minimum of five runs")
    for name, given, options in (
        ("100 frames of 10 ms", events, {"dt": 10 * u.ms}),
        ("1000 frames of 1 ms", events, {"dt": 1 * u.ms}),
        ("100 frames of 10 ms, events unsorted", shuffled, {"dt": 10 * u.ms}),
        (
            "100 frames, binary, merged, pool=4",
            events,
            {"dt": 10 * u.ms, "binary": True, "polarity": "merge", "pool": 4},
        ),
    ):
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            frames = bh.data.events_to_frames(*given, SENSOR, **options)
            seconds.append(time.perf_counter() - begin)
        print(f"  {name:38} {min(seconds):.3f}   {list(frames.shape)}")
    begin = time.perf_counter()
    back = bh.data.frames_to_events(frames, 10 * u.ms)
    print(f"  {'back into events':38} {time.perf_counter() - begin:.3f}   {len(back.x)} events")
    try:
        from tonic.transforms import ToFrame
    except ImportError:
        print("tonic is not installed, so nothing is compared. Install it with: python -m pip install tonic")
        return
    print(f"tonic {importlib.metadata.version('tonic')} ToFrame: seconds, number of differing frame values")
    for name, options in SETS.items():
        begin = time.perf_counter()
        theirs = ToFrame(SENSOR, **options)(array)
        elapsed = time.perf_counter() - begin
        mine = ours(array, SENSOR, **same_options(array, options, len(theirs)))
        print(f"  {name:38} {elapsed:.3f}   {np.sum(mine != theirs)} of {mine.size}")
    if asked.golden:
        small, sensor = recording(400, (6, 4, 2), 60_000, seed=3), (6, 4, 2)
        kept = {name.replace(" ", "_"): ToFrame(sensor, **options)(small) for name, options in SETS.items()}
        # The recording for the tests is shorter than the one above, which spans a second.
        np.savez_compressed(asked.golden, events=small, **kept)
        print(f"wrote {asked.golden}: {', '.join(f'{name} {list(one.shape)}' for name, one in kept.items())}")


if __name__ == "__main__":
    main()
