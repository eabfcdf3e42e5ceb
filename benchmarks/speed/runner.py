"""Run the libraries in turns on each case and size, each in its own process, and collect the results."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.speed.adapters import ADAPTERS
from benchmarks.speed.cases import CASES, is_timed, sizes_of
from benchmarks.speed.measure import ROUNDS
from benchmarks.speed.process import Worker, WorkerError, ask

__all__ = ["machine", "probe", "run"]


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
    seconds: float,
    device: str,
    save: Path | None = None,
    say: Any = print,
) -> dict[str, Any]:
    """Measure all requested cases that can run here, and return the results. Save them after each size."""
    names = list(names)
    timing = {"modes": list(modes), "repeats": repeats, "seconds": seconds}
    content: dict[str, Any] = {
        "machine": machine(),
        "settings": {"repeats": repeats, "rounds": ROUNDS, "seconds": seconds, "device": device},
        "adapters": probe(names, pythons),
        "results": [],
    }
    for name, state in content["adapters"].items():
        if not state["available"]:
            say(
                f"{name}: not available ({state.get('error') or 'missing ' + ', '.join(state['missing'])}); install it "
                f"({state['install']}), or name the interpreter of its environment with --python {name}=PATH"
            )
    for case in [case for case in CASES if case in set(cases)]:
        for size in sizes_of(case):
            if size not in sizes if sizes is not None else not is_timed(size):
                continue
            able = [name for name in names if case in ADAPTERS[name].offers and content["adapters"][name]["available"]]
            content["results"] += _in_turns(able, case, size, timing, pythons, device, say)
            if save is not None:
                save.write_text(json.dumps(content, indent=1) + "\n")
    return content


def _in_turns(
    names: list[str],
    case: str,
    size: str,
    timing: Mapping[str, Any],
    pythons: Mapping[str, str],
    device: str,
    say: Any,
) -> list[dict[str, Any]]:
    """Return the records of all libraries. For a library that fails, return one record with the error.

    All processes exist at the same time, but only one of them computes at a time.
    """
    workers: dict[str, Worker] = {}
    found: dict[str, list[dict[str, Any]]] = {}

    def attempt(name: str, act: Callable[[str], Any]) -> None:
        try:
            act(name)
        except WorkerError as error:
            say(f"{case} {size} {name}: failed: {error}")
            found[name] = [{"error": str(error)}]
            if name in workers:
                workers.pop(name).stop()

    def start(name: str) -> None:
        job = {"do": "time", "adapter": name, "case": case, "size": size, "device": device, **timing}
        workers[name] = Worker(job, pythons.get(name, sys.executable), device)
        workers[name].next_answer()

    def turn(name: str) -> None:
        workers[name].request_round()

    def finish(name: str) -> None:
        found[name] = [
            {"dims": str(sizes_of(case)[size]), **record} for record in workers.pop(name).finish()["records"]
        ]
        for record in found[name]:
            say(f"{case} {size} {name} {record['mode']}: {record['median_ms']:.3f} ms {record['setting']}")

    try:
        for name in names:
            attempt(name, start)
        for _ in range(ROUNDS):
            for name in [name for name in names if name in workers]:
                attempt(name, turn)
        for name in list(workers):
            attempt(name, finish)
    finally:
        for worker in workers.values():
            worker.stop()
    return [{"adapter": name, "case": case, "size": size, **record} for name in names for record in found[name]]
