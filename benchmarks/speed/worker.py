"""Worker process that runs one job: ``python -m benchmarks.speed.worker JOB``.

The job and the answer are one line of JSON each. The runner starts a worker with the interpreter of the environment of
a library. This environment does not need brainhw.
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
    """Run the job ``job["do"]``: ``probe``, ``time`` or ``solve``."""
    return {"probe": _probe, "time": _time, "solve": _solve}[job["do"]](job)


def _probe(job: dict[str, Any]) -> dict[str, Any]:
    """Return the available adapters and the versions of their packages."""
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
    """Compute the outputs and gradients of one adapter, and save them in the file ``job["file"]``."""
    import numpy as np

    from benchmarks.speed.adapters import ADAPTERS
    from benchmarks.speed.cases import problem

    calls = ADAPTERS[job["adapter"]].build(problem(job["case"], job["size"], job.get("definition")), job["device"])
    if calls.outputs is None or calls.gradients is None:
        raise ValueError(f"adapter {job['adapter']} has no outputs to compare")
    arrays: dict[str, Any] = {"outputs": calls.outputs(), **calls.gradients()}
    np.savez(job["file"], **arrays)
    return {}


def main() -> None:
    """Run the job of the command line. Redirect the output of libraries to stderr."""
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answer = do(json.loads(sys.argv[1]))
    print(json.dumps(answer), file=answer_to, flush=True)


if __name__ == "__main__":
    main()
