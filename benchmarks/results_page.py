"""Page with all tables of measured results and their machines.

``python -m benchmarks.results_page`` writes ``docs/results.md`` from ``docs/results/*.json``. A file that no section
names gets a section of its own, so that the page is complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from benchmarks.accuracy import table as accuracy_table
from benchmarks.machine import PROJECT
from benchmarks.speed.report import summary

Content = dict[str, Any]
RESULTS = PROJECT / "docs" / "results"

INTRODUCTION = """\
# Measured results

Written by `python -m benchmarks.results_page` from the files in `docs/results/`, which hold every run with each of its
epochs. Accuracies are on the official test split at the last epoch. Seconds are wall-clock times on the machine named
above each table, which other work shared. A setting is what the script was called with; what it leaves out is the
default of the script (`--help`). Numbers in brackets are single seeds.

What the numbers mean, and what they are compared with, stands on the pages named below. Results on chips are those of
the model: `docs/chips.md` says what of it is assumed."""

# Information that the files do not contain.
EARLIER = "The row `--chip h1v2 --init fluct` was run on an earlier version of `fluct_init`."
COLUMNS = "Forward with backward, medians in ms."
STEPS = (
    "Mean relative error of firing rates over constant currents, by reset; largest error of a current-based membrane, "
    "as one node and as two; and what a constant drive of 0.5 settles at."
)
DIFFERING = "How many values of the output differ from those of brainhw, of all neurons and steps."
ELSEWHERE = (
    "Outputs that differ from those of `bh.rollout` on the whole test set of the Japanese vowels. `bytes` is the file, "
    "for C tables and state, for NumPy tables; `us` the median of a step of the whole batch in microseconds, for C and "
    "NumPy the mean."
)
FITS = (
    "Errors relative to full scale (charge) or to the value; coverage is the share of 95 % intervals that hold the "
    "truth, wanted between 0.9 and 0.99."
)

HIDDEN = (
    "Virtual chips: charge 0.65 and thresholds 1.15 times, time constants 0.7 times those of the preset; leak, "
    "threshold and synapses with spreads of 0.4, 0.15 and 0.2; noise of 1.5 mV a step. Means of three chips. *As "
    "trained*: the net of the preset. The others have ten epochs more: *loop*, in the loop from the preset; *means*, "
    "in the loop from the true mean values; *calibrated*, on the model that bench tables give, which show no single "
    "synapse; *calibrated loop*, in the loop from there; *perfect*, on the true values of each neuron and synapse."
)
RECORDED = (
    "The same chips, with synapses that deviate and without. Errors of thresholds (over the gain of the charge) and "
    "time constants, of the neurons whose spikes tell enough; then the share of model spikes that the chip has in the "
    "same step, for the model of the preset, one calibrated from bench tables, and the true values of the neurons."
)


class Section(NamedTuple):
    """A table: file, title, function that writes it, command that measures it, page that explains it, and notes."""

    file: str
    title: str
    table: Callable[[Content], str]
    command: str = ""
    page: str = ""
    words: str = ""


def trained(content: Content) -> str:
    """Return accuracies by setting: the fields of a run before its seed."""
    rows = content["runs"]
    settings: list[dict[str, Any]] = []
    for row in rows:
        names = list(row)
        setting = {name: row[name] for name in names[: names.index("seed")]}
        if setting not in settings:
            settings.append(setting)
    return accuracy_table(settings, rows)


def norms(content: Content) -> str:
    """Return the smallest and largest gradient norm over layers and seeds."""
    cases: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for run in content["runs"]:
        case = cases.setdefault((run["neuron"], run["data"], str(run["depth"])), {})
        case.setdefault(run["init"], []).extend(run["norms"])
    inits = list(next(iter(cases.values())))
    rows = [(*case, *(f"{min(g):.1e} to {max(g):.1e}" for g in found.values())) for case, found in cases.items()]
    return markdown(("neuron", "data", "hidden layers", *inits), rows)


def checks(content: Content) -> str:
    """Return the criteria met on each system."""
    systems = list(content["systems"])
    words = {True: "met", False: "**missed**", None: "reported"}
    rows = [
        (c["check"], c["criterion"], *(words[c[s]["met"]] if s in c else "-" for s in systems))
        for c in content["checks"]
    ]
    return markdown(("check", "criterion", *systems), rows)


def latencies(content: Content) -> str:
    """Return the times of one step of each network."""
    names = ("median_us", "quantile_1_us", "quantile_99_us", "longest_us")
    rows = [
        (name, *(f"{net[key]:.1f}" for key in names), f"{net['memory_mib'][-1]:.0f}")
        for name, net in content["nets"].items()
    ]
    return markdown(("network", "median, us", "1 %, us", "99 %, us", "longest, us", "memory at the end, MiB"), rows)


def seconds(content: Content) -> str:
    """Return the time of each import."""
    return markdown(("import", "s"), [(name, f"{value:.2f}") for name, value in content["seconds"].items()])


def predicted(content: Content) -> str:
    """Return predicted and measured times of each case; predictions for GPUs are not measurements."""
    rows = [
        (
            row["case"],
            row["size"],
            f"{row['model']:.1f}",
            f"{row['measured']:.1f}",
            f"{row['measured'] / row['model']:.2f}",
        )
        for row in content["cases"]
    ]
    return markdown(("case", "size", "model, ms", "measured, ms", "measured / model"), rows)


def training_steps(content: Content) -> str:
    """Return forward with backward of every library in every case."""
    return summary(content)


def readers(content: Content) -> str:
    """Return the number of differing output values for each reader, by network and export options."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in content["rows"]:
        words = "refused" if "error" in row else f"{row['differ']} of {row['of']}"
        cells.setdefault((row["net"], row["reader"]), {})[row["written"]] = words
    ways = list(dict.fromkeys(row["written"] for row in content["rows"]))
    rows = [(*case, *(found.get(way, "") for way in ways)) for case, found in sorted(cells.items())]
    return markdown(("net", "reader", *ways), rows)


def anything(content: Content) -> str:
    """Return a table of each list of results of any kind."""
    if "runs" in content and all("test_accuracy" in run for run in content["runs"]):
        return trained(content)
    tables: dict[str, str] = {}
    for name, part in content.items():
        rows = part if isinstance(part, list) else [part] if isinstance(part, dict) else []
        rows = [row for row in rows if isinstance(row, dict)]
        columns = list(dict.fromkeys(key for row in rows for key, value in row.items() if _is_plain(value)))
        if columns and name not in ("machine", "versions"):
            heading = (key.replace("_", " ") for key in columns)
            tables[name] = markdown(heading, [[_text(row.get(key)) for key in columns] for row in rows])
    if len(tables) == 1:
        return next(iter(tables.values()))
    return "\n\n".join(f"{name.replace('_', ' ').capitalize()}:\n\n{table}" for name, table in tables.items())


def convolutions(content: Content) -> str:
    """Return the table of ``convolution.json``: the step time of each library in the same run."""
    rows = content["libraries"].items()
    return markdown(
        ("library", "step ms", "load"), [(name, f"{row['step_ms']:.1f}", f"{row['load']:.1f}") for name, row in rows]
    )


SECTIONS = [
    Section("japanese_vowels", "Japanese Vowels on chips", trained),
    Section("spoken_digits", "Spoken digits on chips", trained, words=EARLIER),
    Section("deploy_digits", "Spoken digits, deployed", trained, page="deploy"),
    Section("order_rows", "An order of neurons for blocks of one sign", anything, ".order_rows", "deploy"),
    Section("fashion_mnist", "Fashion-MNIST on whole chips", trained),
    Section("robustness_study", "Accuracy against mismatch", trained, page="deploy"),
    Section("ecg_alif", "ECG with adaptive neurons", trained),
    Section("mnist1d_fractional", "MNIST-1D with fractional neurons", trained, page="fractional"),
    Section("deep_vowels", "Deep networks on Japanese Vowels", trained, page="fluct_init"),
    Section("deep_randman", "Deep networks on Randman", trained, page="fluct_init"),
    Section("deep_fashion", "Deep networks on Fashion-MNIST", trained, page="fluct_init"),
    Section("deep_chip", "Four hidden layers on a chip", trained, page="fluct_init"),
    Section("foreign_data", "The recipe on foreign data", anything, ".foreign_data", "recipe"),
    Section("static_steps", "Static data: steps and encoders", anything, ".static_steps", "encoders"),
    Section("delayed_copies", "Delayed copies of the inputs", anything, ".delayed_copies", "troubleshooting"),
    Section("gradient_depth", "Gradients over depth", norms, ".gradient_depth", "fluct_init"),
    Section("fluct_validation", "Checks of fluct_init", checks, ".fluct_validation", "fluct_init"),
    Section("chips_at_once", "Many chips at once", anything, ".chips_at_once", "deploy"),
    Section("speed", "Speed beside other libraries", training_steps, " run", "speed", COLUMNS),
    Section("speed_huge_pages", "Speed with huge pages", training_steps, " run", "speed", COLUMNS),
    Section("convolution", "Convolutions between layers", convolutions, ".convolution --snntorch PATH", "speed"),
    Section(
        "convolution_huge_pages",
        "Convolutions between layers with huge pages",
        convolutions,
        ".convolution --snntorch PATH",
        "speed",
    ),
    Section("cost_model", "A cost model against what was measured", predicted, ".cost_model", "speed"),
    Section("stream", "Latency of one step", latencies, ".stream", "speed"),
    Section("import_time", "Start-up", seconds, ".import_time", "speed"),
    Section("silicon_fits", "Calibration of synthetic benches", anything, ".silicon_fits", "calibrate", FITS),
    Section(
        "chip_in_the_loop",
        "Nets on chips far from the preset",
        anything,
        ".chip_in_the_loop --digits FOLDER",
        "have_a_chip",
        HIDDEN,
    ),
    Section("silicon_recordings", "Recordings of a chip", anything, ".silicon_recordings", "have_a_chip", RECORDED),
    Section("nir_steps", "NIR neurons against their equations", anything, ".nir_steps", "nir", STEPS),
    Section("nir_peers", "NIR graphs read by others", readers, ".nir_peers", "nir", DIFFERING),
    Section("edge_targets", "Nets on other runtimes", anything, ".edge_targets", "edge", ELSEWHERE),
]


def markdown(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a markdown table."""
    heading = tuple(heading)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, ("---",) * len(heading), *rows))


def measured_on(content: Content) -> str:
    """Return the machine, the versions and the load in one line."""
    machine = content.get("machine", {})
    versions = {**content.get("versions", {}), **machine.get("versions", {})}
    python = machine.get("python")
    for adapter in content.get("adapters", {}).values():
        versions = {**{name: v for name, v in adapter["versions"].items() if v}, **versions}
        python = python or adapter.get("python")
    parts = []
    if "cores" in machine:
        parts.append(f"{machine['cores']} cores" + (f" ({machine['cpu']})" if "cpu" in machine else ""))
    if python:
        parts.append(f"Python {python}")
    parts += [f"{name} {version}" for name, version in versions.items()]
    load = content.get("load", content.get("load_before"))
    return ", ".join([*parts, *([] if load is None else [f"load {load:.1f}"])])


def page() -> str:
    """Return the whole page."""
    named = {section.file for section in SECTIONS}
    others = [path.stem for path in sorted(RESULTS.glob("*.json")) if path.stem not in named]
    extra = [Section(name, name.replace("_", " ").capitalize(), anything) for name in others]
    parts = [INTRODUCTION]
    for section in (*SECTIONS, *extra):
        content = json.loads((RESULTS / f"{section.file}.json").read_text(encoding="utf-8"))
        command = section.command or (f".accuracy {section.file}" if section.table is trained else "")
        sentences = [
            f"File `docs/results/{section.file}.json`" + (f", by `python -m benchmarks{command}`." if command else "."),
            *([f"{measured_on(content)}."] if measured_on(content) else []),
            *([section.words] if section.words else []),
            *([f"Explained in `docs/{section.page}.md`."] if section.page else []),
        ]
        parts += [f"## {section.title}", " ".join(sentences), section.table(content)]
    return "\n\n".join(parts) + "\n"


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) or value is None


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def main() -> None:
    """Write the page."""
    (PROJECT / "docs" / "results.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
