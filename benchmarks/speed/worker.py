"""One process, one job: ``python -m benchmarks.speed.worker JOB``, with the job and the answer as one line of JSON.

Started by the runner with the interpreter of one library's environment; brainhw need not be installed there.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from typing import Any

__all__ = ["do"]


def do(job: dict[str, Any]) -> dict[str, Any]:
    """Do what ``job["do"]`` says: ``probe``, ``time`` or ``solve``."""
    return {"probe": _probe, "time": _time, "solve": _solve}[job["do"]](job)


def _probe(job: dict[str, Any]) -> dict[str, Any]:
    """Return which adapters can run here and the versions of what they need."""
    from benchmarks.speed.adapters import ADAPTERS

    answer = {}
    for name in job["adapters"]:
        versions = {dist: _version(dist) for dist in ADAPTERS[name].distributions}
        missing = [dist for dist, version in versions.items() if version is None]
        answer[name] = {"available": not missing, "missing": missing, "versions": versions}
    return {"adapters": answer, "python": platform.python_version(), "numpy": _version("numpy")}


def _version(distribution: str) -> str | None:
    if distribution == "brainhw":
        from benchmarks.machine import PROJECT

        found: dict[str, str] = {}
        exec((PROJECT / "brainhw" / "_version.py").read_text(), found)
        return found["__version__"]
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _time(job: dict[str, Any]) -> dict[str, Any]:
    """Measure one adapter on one problem."""
    from benchmarks.speed.adapters import ADAPTERS
    from benchmarks.speed.cases import problem
    from benchmarks.speed.measure import measure

    calls = ADAPTERS[job["adapter"]].build(problem(job["case"], job["size"]), job["device"])
    return {"records": measure(calls, job["modes"], job["repeats"])}


def _solve(job: dict[str, Any]) -> dict[str, Any]:
    """Write outputs and gradients of one adapter into the file ``job["file"]``."""
    import numpy as np

    from benchmarks.speed.adapters import ADAPTERS
    from benchmarks.speed.cases import problem

    calls = ADAPTERS[job["adapter"]].build(problem(job["case"], job["size"], job.get("definition")), job["device"])
    if calls.outputs is None or calls.gradients is None:
        raise ValueError(f"{job['adapter']} has no outputs")
    arrays: dict[str, Any] = {"outputs": calls.outputs(), **calls.gradients()}
    np.savez(job["file"], **arrays)
    return {}


def main() -> None:
    """Do the job of the command line; what libraries print goes to the other stream."""
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answer = do(json.loads(sys.argv[1]))
    print(json.dumps(answer), file=answer_to, flush=True)


if __name__ == "__main__":
    main()
