"""Compare outputs and gradients of every library with those of plain JAX."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.adapters import ADAPTERS
from benchmarks.speed.cases import CASES
from benchmarks.speed.process import WorkerError, ask
from benchmarks.speed.runner import probe

__all__ = ["MOST_DIFFERING", "agree", "compare", "is_agreed", "table"]

MOST_DIFFERING = 1e-4
"""Limit for agreement: fraction of differing spikes, or relative difference of readouts and gradients."""
ABSENT = "not installed"
REFERENCE, NO_NET = "jax", ("jax", "products")


def compare(found: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the differences of outputs and gradients from the reference.

    For spikes, the difference is the fraction of spikes that differ. For readouts, it is the largest difference divided
    by the largest value. For gradients, it is the norm of the difference divided by the norm of the reference, for the
    weights for which this is largest.
    """
    ours, theirs = np.asarray(found["outputs"]), np.asarray(reference["outputs"])
    if ours.shape != theirs.shape:
        raise ValueError(
            f"compare: outputs have shape {ours.shape}, but those of the reference have shape {theirs.shape}"
        )
    if np.all(theirs == np.round(theirs)):
        outputs = float(np.mean(np.abs(ours - theirs) > 0.5))
    else:
        outputs = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    gradients = {
        name: float(np.linalg.norm(found[name] - g) / max(np.linalg.norm(g), np.finfo(np.float32).tiny))
        for name, g in reference.items()
        if name != "outputs"
    }
    return {
        "outputs": outputs,
        "gradients": max(gradients.values(), default=0.0),
        "mean_output": float(np.abs(theirs).mean()),
    }


def agree(
    *, cases: Iterable[str], size: str, names: Iterable[str], pythons: Mapping[str, str], say: Any = print
) -> list[dict[str, Any]]:
    """Return a comparison for each available adapter and case, on the CPU."""
    names = [name for name in names if name not in NO_NET]
    states = probe([REFERENCE, *names], pythons)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in [case for case in CASES if case in set(cases)]:
            for name in names:
                if case not in ADAPTERS[name].offers:
                    continue
                offer = ADAPTERS[name].offers[case]
                row: dict[str, Any] = {"case": case, "adapter": name}
                definition = None if offer.definition is None else asdict(offer.definition)
                if not states[name]["available"]:
                    row["error"] = f"{ABSENT}: {states[name]['install']}"
                else:
                    jobs: tuple[tuple[str, Any], ...] = ((name, None), (REFERENCE, definition), (REFERENCE, None))
                    try:
                        solved, same, ours = (
                            _solve(who, case, size, what, pythons, Path(folder)) for who, what in jobs
                        )
                        row |= {**compare(solved, same), "differs": offer.differs}
                        row["outputs_from_ours"] = compare(solved, ours)["outputs"]
                    except (WorkerError, ValueError) as error:
                        row["error"] = str(error)
                rows.append(row)
                say(" ".join(f"{key}={value}" for key, value in row.items()))
    return rows


def _solve(
    name: str, case: str, size: str, definition: Any, pythons: Mapping[str, str], folder: Path
) -> dict[str, np.ndarray]:
    job = {"do": "solve", "adapter": name, "case": case, "size": size, "definition": definition, "device": "cpu"}
    file = folder / "solved.npz"
    ask({**job, "file": str(file)}, pythons.get(name, sys.executable), "cpu")
    with np.load(file) as content:
        return dict(content)


def is_agreed(row: Mapping[str, Any]) -> bool:
    """Return True if the results agree, or if the library is not installed."""
    if "error" in row:
        return row["error"].startswith(ABSENT)
    return max(row["outputs"], row["gradients"]) <= MOST_DIFFERING


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the comparisons as a Markdown table."""
    lines = [
        "| case | library | spikes that differ, same definition of the neuron | gradients, relative difference | "
        "spikes that differ from brainhw | difference from the definition of brainhw |",
        "| --- " * 6 + "|",
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['case']} | {row['adapter']} | {row['error']} | - | - | - |")
            continue
        mark = "" if is_agreed(row) else " (!)"
        numbers = f"{row['outputs']:.1e}{mark} | {row['gradients']:.1e} | {row['outputs_from_ours']:.1e}"
        lines.append(f"| {row['case']} | {row['adapter']} | {numbers} | {row['differs'] or 'none'} |")
    return "\n".join(lines)
