"""Accuracy of the gallery's training scripts over several seeds.

``python -m benchmarks.accuracy JOB`` runs the script of this job for every setting and seed, one process after the
other. It writes ``docs/results/JOB.json`` and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import PROJECT, save


class Job(NamedTuple):
    """A gallery script, and the options for each row of its result table."""

    script: str
    settings: list[dict[str, Any]]


CHIPS = [{"chip": chip, "init": init} for chip, init in itertools.product(("h1v1", "h1v2"), ("fluct", "kaiming"))]
DEEP_INITS = ("fluct", "nwave", "kaiming")
JOBS = {
    "japanese_vowels": Job("japanese_vowels_h1.py", CHIPS),
    "spoken_digits": Job("spoken_digits_h1.py", CHIPS),
    "mnist1d_fractional": Job(
        "mnist1d_fractional.py",
        [
            {"neuron": "lif", "epochs": 150},
            {"neuron": "fractional", "epochs": 150},
            {"neuron": "lif", "epochs": 60},
            {"neuron": "fractional", "epochs": 60},
            {"neuron": "multiterm", "epochs": 60},
        ],
    ),
    "deep_vowels": Job(
        "deep_networks.py",
        [
            {"data": "vowels", "layers": 4, "width": 128, "neuron": neuron, "xi": xi, "init": init}
            for neuron, xi in (("lif", 2.0), ("h1v1", 1.0), ("h1v2", 1.0))
            for init in DEEP_INITS
        ],
    ),
    "deep_randman": Job(
        "deep_networks.py",
        [
            {"data": "randman", "epochs": 15, "layers": layers, "width": 64, "xi": 1.0, "init": init}
            for layers in (3, 6)
            for init in DEEP_INITS
        ],
    ),
    "deep_fashion": Job(
        "deep_networks.py",
        [{"data": "fashion", "epochs": 8, "layers": 5, "width": 128, "init": init} for init in DEEP_INITS],
    ),
    "deep_digits": Job(
        "deep_networks.py",
        [{"data": "digits", "epochs": 3, "layers": 5, "width": 128, "xi": 1.0, "init": init} for init in DEEP_INITS],
    ),
    "deep_chip": Job("deep_on_a_chip.py", [{"epochs": 150}, {"epochs": 150, "plain": True}]),
    "deploy_digits": Job(
        "deploy_spoken_digits.py",
        [{"chip": chip, **kind} for kind in ({}, {"free": True}, {"no_mismatch": True}) for chip in ("h1v1", "h1v2")],
    ),
    "fashion_mnist": Job(
        "fashion_mnist.py",
        [{"neuron": "lif"}, {"neuron": "h1v2"}, {"neuron": "h1v1"}],
    ),
    "robustness_study": Job("robustness_study.py", [{"chip": "h1v1"}, {"chip": "h1v2"}]),
    "ecg_alif": Job(
        "ecg_alif.py", [{"size": "small"}, {"size": "small", "no_ahp": True}, {"size": "large"}, {"size": "largest"}]
    ),
}


# Additional results of scripts that deploy a network, and the headings of their columns.
ON_CHIPS = {
    "chips_mean": "mean over sampled chips",
    "chips_q05": "5 % quantile",
    "violations": "violations",
    "spikes_differing": "spikes that differ in the bundle",
    "microwatt": "uW",
}


def command_line(setting: dict[str, Any]) -> list[str]:
    """Return a setting as command-line options of the script."""
    words = []
    for name, value in setting.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def run(script: str, options: list[str], root: list[str], keep: Path | None) -> dict[str, Any]:
    """Run one training in a new process, and return its result. Its files are kept in the folder ``keep``."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) if keep is None else keep / "_".join(option.strip("-") for option in options)
        command = [sys.executable, str(PROJECT / "gallery" / script), "--out", str(out), *options, *root]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
        if keep is not None:
            (out / "printed.txt").write_text(done.stdout)
        return json.loads((out / "result.json").read_text())


def table(settings: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table with one row for each setting."""
    extra = [name for name in ON_CHIPS if any(name in row for row in rows)]
    headings = [
        "setting",
        "test accuracy, mean (each seed)",
        "weights out of range",
        *(ON_CHIPS[name] for name in extra),
    ]
    lines = ["| " + " | ".join([*headings, "seconds per run"]) + " |", "| --- " * (len(headings) + 1) + "|"]
    for setting in settings:
        names = {name for other in settings for name in other}
        mine = [row for row in rows if all(row.get(name) == setting.get(name) for name in names)]
        accuracies = [row["test_accuracy"] for row in mine]
        listed = ", ".join(f"{a:.3f}" for a in accuracies)
        outside = max((row["out_of_range"] for row in mine if "out_of_range" in row), default="-")
        seconds = statistics.median(row["seconds"] for row in mine)
        cells = [f"`{' '.join(command_line(setting))}`", f"{statistics.mean(accuracies):.3f} ({listed})", f"{outside}"]
        for name in extra:
            numbers = [row[name] for row in mine if name in row]
            each = ", ".join(f"{number:.3f}" for number in numbers)
            cells.append(f"{statistics.mean(numbers):.3f} ({each})" if numbers else "-")
        lines.append("| " + " | ".join([*cells, f"{seconds:.0f}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all settings and seeds, save the results as JSON, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=sorted(JOBS))
    parser.add_argument("--root", help="folder of the data set, if the script has the option --root")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="number of simultaneous runs, which slow each other down")
    parser.add_argument(
        "--keep", type=Path, help="folder in which to keep weights, figures and printed lines of every run"
    )
    arguments = parser.parse_args()
    script, settings = JOBS[arguments.job]
    root = ["--root", arguments.root] if arguments.root else []

    def row(case: tuple[dict[str, Any], int]) -> dict[str, Any]:
        setting, seed = case
        found = run(script, [*command_line(setting), "--seed", str(seed)], root, arguments.keep)
        print({**setting, "seed": seed, **found}, file=sys.stderr, flush=True)
        return {**setting, "seed": seed, **found}

    with ThreadPoolExecutor(arguments.jobs) as pool:
        rows = list(pool.map(row, itertools.product(settings, range(arguments.seeds))))

    save(arguments.job, {"runs": rows})
    print(table(settings, rows))


if __name__ == "__main__":
    main()
