"""Create tables of the results of ``run``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import agreement
from benchmarks.speed.cases import CASES, sizes_of
from benchmarks.speed.measure import MODES

__all__ = ["OURS", "markdown", "read", "summary"]

OURS, FLOOR = "brainhw", "products"
# Order of the measurements, without and with rounds.
_ORDER = (
    "The processes ran one after the other.",
    "The processes of a case and size took turns, in {rounds} rounds, so a change of the speed of the machine affects "
    "all libraries. In each round, short calls were repeated for {seconds:g} s before they were timed.",
)
TITLES = {"forward": "forward", "both": "forward + backward", "step": "one step, B=1"}


def read(files: Sequence[Path]) -> dict[str, Any]:
    """Return the content of one file of ``run``, or of several files from one machine.

    If a case and size occurs in several files, its results for all libraries are taken from the last of these files.
    """
    contents = [json.loads(Path(file).read_text()) for file in files]
    for file, content in zip(files, contents, strict=True):
        if not isinstance(content, dict) or not {"machine", "settings", "adapters", "results"} <= set(content):
            raise ValueError(f"report: {file} is not a result file of run.")
    joined = contents[0]
    for other in contents[1:]:
        if other["machine"] != joined["machine"]:
            raise ValueError(
                f"report: expected files from one machine, got {joined['machine']} and {other['machine']}."
            )
        joined["adapters"] |= other["adapters"]
        anew = {(r["case"], r["size"]) for r in other["results"]}
        joined["results"] = [r for r in joined["results"] if (r["case"], r["size"]) not in anew] + other["results"]
    return joined


def markdown(content: Mapping[str, Any], agreed: Iterable[Mapping[str, Any]] | None = None) -> str:
    """Return all results as Markdown: the machine, a table for each case and size, and notes on the libraries."""
    parts = ["# Speed compared with other libraries", _machine(content)]
    if any(record.get("mode") == "both" for record in content["results"]):
        parts.append(f"## Forward and backward pass in all cases, ms\n\n{summary(content)}")
    for case, words in CASES.items():
        tables = []
        for size in sizes_of(case):
            records = [r for r in content["results"] if (r["case"], r["size"]) == (case, size)]
            if records:
                dims = next((r["dims"] for r in records if "dims" in r), str(sizes_of(case)[size]))
                tables.append(f"### {size}: {dims}\n\n{_table(records, content['adapters'])}")
        if tables:
            parts += [f"## {case}", f"{words[0].upper()}{words[1:]}.", *tables]
    parts.append(_notes(content))
    if agreed is not None:
        parts.append("## Comparison of the results\n\n" + agreement.table(agreed))
    return "\n\n".join(part for part in parts if part)


def summary(content: Mapping[str, Any]) -> str:
    """Return one table of all cases with the median times of the forward and backward pass, in milliseconds."""
    found = {
        (r["case"], r["size"], r["adapter"]): r["median_ms"] for r in content["results"] if r.get("mode") == "both"
    }
    rows = [(case, size) for case in CASES for size in sizes_of(case) if (case, size, OURS) in found]
    names = sorted({name for *_, name in found}, key=lambda name: (name != OURS, name != FLOOR, name))
    titles = {FLOOR: "*floor*", OURS: "**brainhw**"}
    lines = ["| | " + " | ".join(titles.get(name, name) for name in names) + " |"]
    lines.append("| --- " * (len(names) + 1) + "|")
    for row in rows:
        cells = [_digits(found[*row, name]) if (*row, name) in found else "" for name in names]
        lines.append(f"| {row[0]} {row[1]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _machine(content: Mapping[str, Any]) -> str:
    machine, settings = content["machine"], content["settings"]
    devices = sorted({r["device"] for r in content["results"] if "device" in r})
    loads = [r["load"][0] for r in content["results"] if "load" in r]
    load = f", load before a measurement {min(loads):.1f} to {max(loads):.1f}" if loads else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['platform']}; device {', '.join(devices) or 'none'}"
        f"{load}.\n\nTimes are medians of at least {settings['repeats']} runs, with quartiles in brackets. If a "
        "run takes more than a second, there are fewer runs, but at least 5. All values are float32. Each "
        f"library, case and size ran in a new process. {_ORDER['rounds' in settings].format(**settings)} `x` is the "
        f"ratio to the time of {OURS}. The compile time is the time of the first call minus the median of the later "
        "calls. Memory is the increase of the peak resident memory of "
        "the process during the calls, including compilation. `temp` is the memory of XLA for temporary arrays. "
        "*floor* computes only the matrix products."
    )


def _table(records: Sequence[Mapping[str, Any]], adapters: Mapping[str, Any]) -> str:
    by_name: dict[str, dict[str, Mapping[str, Any]]] = {}
    errors = {}
    for record in records:
        if "error" in record:
            errors[record["adapter"]] = record["error"]
        else:
            by_name.setdefault(record["adapter"], {})[record["mode"]] = record
            errors.pop(record["adapter"], None)
    modes = [mode for mode in MODES if any(mode in found for found in by_name.values())]
    ours = by_name.get(OURS, {})
    unit = {"forward": "ms", "both": "ms", "step": "us"}
    header = ["library", *(column for mode in modes for column in (f"{TITLES[mode]}, {unit[mode]}", "x"))]
    header += ["compile s", "memory MiB (temp)"]
    lines = ["| " + " | ".join(header) + " |", "| --- " * len(header) + "|"]
    order = sorted(by_name, key=lambda name: (name == FLOOR, name != OURS))
    case = records[0]["case"]
    for name in order:
        found = by_name[name]
        differs = adapters.get(name, {}).get("differs", {}).get(case)
        cells = [_label(name) + (" \\*" if differs else "")]
        for mode in modes:
            cells += _time(found.get(mode), ours.get(mode), 1e3 if unit[mode] == "us" else 1.0)
        compiled = [found[mode]["compile_s"] for mode in ("forward", "both") if mode in found]
        cells.append(" / ".join(f"{max(s, 0.0):.2f}" for s in compiled) or "-")
        cells.append(" / ".join(_memory(found[mode]) for mode in ("forward", "both") if mode in found) or "-")
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        f"| {_label(name)} | failed: {error.replace('|', '/')}" + " |" * (len(header) - 1)
        for name, error in errors.items()
    ]
    return "\n".join(lines)


def _label(name: str) -> str:
    return "**brainhw**" if name == OURS else "*floor: matrix products only*" if name == FLOOR else name


def _time(record: Mapping[str, Any] | None, ours: Mapping[str, Any] | None, factor: float) -> tuple[str, str]:
    if record is None:
        return "-", "-"
    median, q1, q3 = (factor * record[name] for name in ("median_ms", "q1_ms", "q3_ms"))
    threads = f", {record['setting']}" if record.get("setting") else ""
    ratio = f"{record['median_ms'] / ours['median_ms']:.2f}" if ours else "-"
    return f"{_digits(median)} [{_digits(q1)}-{_digits(q3)}]{threads}", ratio


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _memory(record: Mapping[str, Any]) -> str:
    peak, temp, device = record.get("peak_mib"), record.get("temp_mib"), record.get("device_peak_mib")
    text = "-" if peak is None else f"{peak:.0f}"
    if temp is not None:
        text += f" ({_digits(temp)})"
    return text if device is None else f"{text}, device {device:.0f}"


def _notes(content: Mapping[str, Any]) -> str:
    lines = []
    for name, state in content["adapters"].items():
        if not state["available"]:
            reason = state.get("error") or "missing " + ", ".join(state.get("missing", []))
            lines.append(f"- {name}: not measured, {reason}; to install: {state['install']}")
            continue
        versions = ", ".join(f"{dist} {version}" for dist, version in state["versions"].items())
        lines.append(f"- {name} ({versions}; Python {state['python']}): {state['note']}.")
        by_words: dict[str, list[str]] = {}
        for case, words in state["differs"].items():
            by_words.setdefault(words, []).append(case)
        lines += [f"  \\* in {', '.join(cases)}: {words}." for words, cases in by_words.items()]
    return "\n".join(lines)
