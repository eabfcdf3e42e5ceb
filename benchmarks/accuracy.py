"""Accuracy of the two speech jobs: both chips, both initialisers, three seeds; the table of the README.

``python -m benchmarks.accuracy japanese_vowels`` and ``... spoken_digits --root FOLDER`` write
``docs/results/<job>.json`` and print a markdown table.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]
LINE = re.compile(r"test accuracy ([\d.]+) \| (\d+) weights out of range \| mean rate (.+?) \| ([\d.]+) s \|")


def run(script: str, *options: str) -> dict[str, object]:
    """Run one training in a process of its own and read its result line."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, str(PROJECT / "gallery" / script), "--out", out, *options]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    accuracy, out_of_range, rates, seconds = LINE.search(printed).groups()
    return {
        "test_accuracy": float(accuracy),
        "out_of_range": int(out_of_range),
        "rates": rates,
        "seconds": float(seconds),
    }


def main() -> None:
    """Run everything, save the JSON, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=("japanese_vowels", "spoken_digits"))
    parser.add_argument("--root", help="folder of the spoken digits")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    extra = ["--root", arguments.root] if arguments.root else []

    rows = []
    for chip in ("h1v1", "h1v2"):
        for init in ("fluct", "kaiming"):
            for seed in range(arguments.seeds):
                options = ["--chip", chip, "--init", init, "--seed", str(seed), *extra]
                rows.append({"chip": chip, "init": init, "seed": seed, **run(f"{arguments.job}_h1.py", *options)})
                print(rows[-1], file=sys.stderr, flush=True)

    machine = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("jax", "brainstate", "braintools", "brainunit")
        },
    }
    path = PROJECT / "docs" / "results" / f"{arguments.job}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "runs": rows}, indent=1) + "\n")

    print("| chip | initialiser | test accuracy, mean (each seed) | weights out of range | seconds a run |")
    print("| --- | --- | --- | --- | --- |")
    for chip in ("h1v1", "h1v2"):
        for init in ("fluct", "kaiming"):
            mine = [row for row in rows if (row["chip"], row["init"]) == (chip, init)]
            accuracies = [row["test_accuracy"] for row in mine]
            listed = ", ".join(f"{a:.3f}" for a in accuracies)
            seconds = statistics.median(row["seconds"] for row in mine)
            print(
                f"| {chip} | {init} | {statistics.mean(accuracies):.3f} ({listed}) | "
                f"{max(row['out_of_range'] for row in mine)} | {seconds:.0f} |"
            )


if __name__ == "__main__":
    main()
