"""Describe the machine, and save the results of a benchmark."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["PROJECT", "machine", "save"]

PROJECT = Path(__file__).parents[1]


def machine() -> dict[str, Any]:
    """Return the Python version, the number of cores and the versions of numerical packages."""
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("jax", "brainstate", "braintools", "brainunit")
        },
    }


def save(name: str, content: dict[str, Any]) -> None:
    """Write ``docs/results/NAME.json``, which contains the description of the machine and ``content``."""
    path = PROJECT / "docs" / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), **content}, indent=1) + "\n")
