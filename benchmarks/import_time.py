"""Time of imports in a new interpreter.

``python -m benchmarks.import_time`` prints median times and saves ``docs/results/import_time.json``. The first run of
each import is not counted, because it may read files from disk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from benchmarks.machine import PROJECT, machine, save

WINGS = "chip, data, deploy, init, kernel, nn, surrogate, train, transform, visualize"
IMPORTS = {
    "nothing": "pass",
    "jax, brainstate": "import jax, brainstate",
    "jax, brainstate, braintools": "import jax, brainstate, braintools",
    "brainhw": "import brainhw",
    "jax, brainstate, brainhw": "import jax, brainstate, brainhw",
    "brainhw.chip": "import brainhw; brainhw.chip",
    "brainhw.nn": "import brainhw; brainhw.nn",
    "all of brainhw": f"from brainhw import {WINGS}",
}
COMMANDS = {name: ["-c", code] for name, code in IMPORTS.items()} | {
    "python -m brainhw --help": ["-m", "brainhw", "--help"]
}


def seconds(arguments: list[str]) -> float:
    """Return the wall-clock time to start one interpreter and run it."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(PROJECT)}
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    # Alternate between the imports, so that other load on the machine affects all of them in the same way.
    for _ in range(repeats + 1):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    medians = {name: statistics.median(each[1:]) for name, each in times.items()}
    on, load = machine(), os.getloadavg()[0]
    versions = ", ".join(f"{name} {version}" for name, version in on["versions"].items())
    print(f"Python {on['python']}, {versions}, {on['cores']} cores, load {load:.1f}, median of {repeats}\n")
    print("| import | s |\n|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} |")
    save("import_time", {"load": round(load, 1), "repeats": repeats, "seconds": medians})


if __name__ == "__main__":
    main()
