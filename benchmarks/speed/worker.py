"""Worker process that runs one job: ``python -m benchmarks.speed.worker JOB``.

The job and each answer are one line of JSON. The runner starts a worker with the interpreter of the environment of a
library. This environment does not need brainhw. The job ``time`` answers when all calls are compiled, then after each
round of timed calls, which a line on the standard input requests, and at the end of the input with the results.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["do"]


def do(job: dict[str, Any], requests: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
    """Run the job ``job["do"]``, ``probe``, ``time`` or ``solve``, and yield its answers."""
    if job["do"] == "time":
        yield from _time(job, requests)
    else:
        yield {"probe": _probe, "solve": _solve}[job["do"]](job)


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


def _time(job: dict[str, Any], requests: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Measure one adapter on one problem, one round for each request."""
    from benchmarks.speed.adapters import ADAPTERS
    from benchmarks.speed.cases import problem
    from benchmarks.speed.measure import Measurement

    calls = ADAPTERS[job["adapter"]].build(problem(job["case"], job["size"]), job["device"])
    measurement = Measurement(calls, job["modes"], job["repeats"], job["seconds"])
    measurement.warm_up()
    yield {"ready": True}
    for n_rounds, _ in enumerate(requests, 1):
        measurement.run_round()
        yield {"rounds": n_rounds}
    yield {"records": measurement.records()}


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
    for answer in do(json.loads(sys.argv[1]), sys.stdin):
        print(json.dumps(answer), file=answer_to, flush=True)


if __name__ == "__main__":
    main()
