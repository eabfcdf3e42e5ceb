"""Start a new process for each library, case and size, one after the other, and collect the results."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.speed.adapters import ADAPTERS
from benchmarks.speed.cases import CASES, is_timed, sizes_of

__all__ = ["PROJECT", "ask", "machine", "probe", "run"]

PROJECT = Path(__file__).parents[2]
TIMEOUT_S = 3600


class WorkerError(RuntimeError):
    """Raised if a worker fails. The message is the error line that the worker wrote."""


def ask(job: Mapping[str, Any], python: str, device: str = "auto") -> dict[str, Any]:
    """Start a worker with the interpreter ``python``, and return its answer."""
    environment = dict(os.environ)
    if device == "cpu":
        environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    elif environment.get("JAX_PLATFORMS") == "cpu" and device == "gpu":
        del environment["JAX_PLATFORMS"]
    try:
        done = subprocess.run(
            [python, "-m", "benchmarks.speed.worker", json.dumps(job)],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkerError(str(error)) from error
    if done.returncode:
        raise WorkerError(
            _error_line(done.stderr) or f"the worker failed with exit code {done.returncode} and wrote no message"
        )
    return json.loads(done.stdout)


def _error_line(text: str) -> str | None:
    """Return the last line that names an error, or the last line of the text."""
    lines = [line for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return next(iter(reversed(named or lines)), None)


def probe(names: Iterable[str], pythons: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return, for each adapter, whether it is available, the versions of its packages, and how to install it."""
    by_python: dict[str, list[str]] = {}
    for name in names:
        by_python.setdefault(pythons.get(name, sys.executable), []).append(name)
    found = {}
    for python, group in by_python.items():
        try:
            answer = ask({"do": "probe", "adapters": group}, python)
        except WorkerError as error:
            answer = {"adapters": {}, "python": None, "error": str(error)}
        for name in group:
            adapter, state = ADAPTERS[name], answer["adapters"].get(name, {"available": False})
            found[name] = {
                **state,
                "python": answer["python"],
                "numpy": answer.get("numpy"),
                "install": adapter.install,
                "note": adapter.note,
                "differs": {case: offer.differs for case, offer in adapter.offers.items() if offer.differs},
                **({"error": answer["error"]} if "error" in answer else {}),
            }
    return found


def machine() -> dict[str, Any]:
    """Return a description of the machine."""
    model, info = platform.processor(), Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "platform": platform.platform(terse=True)}


def run(
    *,
    cases: Iterable[str],
    sizes: Iterable[str] | None,
    modes: Iterable[str],
    names: Iterable[str],
    pythons: Mapping[str, str],
    repeats: int,
    device: str,
    save: Path | None = None,
    say: Any = print,
) -> dict[str, Any]:
    """Measure all requested cases that can run here, and return the results. Save them after each process."""
    names = list(names)
    content: dict[str, Any] = {
        "machine": machine(),
        "settings": {"repeats": repeats, "device": device},
        "adapters": probe(names, pythons),
        "results": [],
    }
    for name, state in content["adapters"].items():
        if not state["available"]:
            say(
                f"{name}: not available ({state.get('error') or 'missing ' + ', '.join(state['missing'])}); "
                f"{state['install']}"
            )
    for case in [case for case in CASES if case in set(cases)]:
        for size in sizes_of(case):
            if size not in sizes if sizes is not None else not is_timed(size):
                continue
            for name in names:
                if case not in ADAPTERS[name].offers or not content["adapters"][name]["available"]:
                    continue
                content["results"] += _one(name, case, size, list(modes), pythons, repeats, device, say)
                if save is not None:
                    save.write_text(json.dumps(content, indent=1) + "\n")
    return content


def _one(
    name: str, case: str, size: str, modes: list[str], pythons: Mapping[str, str], repeats: int, device: str, say: Any
) -> list[dict[str, Any]]:
    """Return the records of one process. If it fails, return one record with the error."""
    what = {"adapter": name, "case": case, "size": size}
    job = {"do": "time", **what, "modes": modes, "repeats": repeats, "device": device}
    try:
        records = ask(job, pythons.get(name, sys.executable), device)["records"]
    except WorkerError as error:
        say(f"{case} {size} {name}: failed: {error}")
        return [{**what, "error": str(error)}]
    for record in records:
        say(f"{case} {size} {name} {record['mode']}: {record['median_ms']:.3f} ms {record['setting']}")
    return [{**what, "dims": str(sizes_of(case)[size]), **record} for record in records]
