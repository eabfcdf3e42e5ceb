"""Generate the page with all measured results, including machine and versions.

``python -m benchmarks.results_page`` writes ``docs/results.md`` from ``docs/results/*.json``. A file without a section
in this module gets a section with its name as title, so that no result is missing.
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

This page lists all measured results of brainhw, one section per experiment. `python -m benchmarks.results_page`
generates it from the files in `docs/results/`, which contain every run with all its epochs.

- **Accuracy** is measured on the official test split after the last epoch.
- **Values in brackets** are single seeds.
- **Seconds** are wall-clock times on the machine of the section, which also ran other programs.
- **A setting** is the command line of the script. Omitted options have the default of the script (`--help`).
- **Results on chips** are results of the model. `docs/chips.md` lists its assumptions.

Each section names the page that explains its results."""

# Descriptions of the columns and conditions that the files do not contain.
EARLIER = (
    "The four settings are both chips, each with two initialisers. The row `--chip h1v2 --init fluct` was measured "
    "with an earlier version of `fluct_init`."
)
VOWELS = "The four settings are both chips, each with two initialisers."
DEPLOYED = (
    "Networks that keep all rules of the chip, networks without these limits (`--free`), and networks that keep the "
    "rules but were trained on the nominal chip (`--no-mismatch`)."
)
ORDERED = (
    "Accuracy after training with free signs (`free`), after the projection of the signs (`projected`), and after "
    "five more epochs (`trained on`). `kept` is the share of squares that agree in sign."
)
WHOLE_CHIPS = "Networks that use all neurons of a chip, and a network of 512 LIF neurons."
MISMATCH = "Accuracy on the nominal chip and on sampled chips with mismatch."
ECG = "Three network sizes, and the small one without adaptation (`--no-ahp`)."
MNIST1D = "LIF neurons, fractional neurons with one order, and with several terms (`multiterm`)."
DEEP = "Three initialisers: `fluct_init`, `nwave_preset` and `kaiming_init`."
DEEP_CHIP = (
    "All weights are in range. The first row uses the remedy for deep networks, the second (`--plain`) does not."
)
FOREIGN = (
    "`bh.recipe.train_classifier` with unchanged options, three seeds. For comparison: logistic regression and "
    "ROCKET. `silent` is the number of test recordings without an output spike, over all seeds. `tied` and "
    "`undecided` are shares of the test recordings."
)
STATIC = "The digits of scikit-learn on H1v2, with different encoders and numbers of steps."
HALF = "Best validation accuracy on Japanese Vowels by precision, two seeds; the weights have this precision."
COPIES = "Two synthetic tasks in which the classes differ in temporal order, with and without delayed copies."
GRADIENTS = "Smallest and largest gradient norm over layers and seeds, before the first step."
VALIDATION = "Comparison of `fluct_init` with its theory. A row marked `reported` has no criterion."
CHIPS_AT_ONCE = (
    "Milliseconds per chip: one by one with one compiled function, one by one without `jit`, and 8 or 20 chips in "
    "parallel. `compile s` is the time of the compilation."
)
WITHOUT_FAST = "Median time of forward and backward pass in ms, with `BRAINHW_EVENTS=0`."
EARLIER_SPEED = (
    "Median time of forward and backward pass in ms, on another machine, before the compiled loops. These results "
    "include fractional layers, a network with readout, and more libraries."
)
COLUMNS = "Median time of forward and backward pass in ms."
CONVOLUTION = "Median time of a training step of a convolutional network: forward pass, backward pass and Adam."
COSTS = "Time of forward and backward pass, predicted by a cost model and measured."
LATENCY = "Time of one step of `bh.stream`."
IMPORTS = "Median time of an import in new processes."
STEPS = (
    "`Rates`: mean relative error of firing rates over constant currents, for both resets. `Current based`: largest "
    "error of the membrane potential of a current-based neuron, as one node and as two. `Settled`: steady state for a "
    "constant input of 0.5."
)
DIFFERING = "Number of output values that differ from brainhw, over all neurons and steps."
FILES = (
    "Number of outputs (`differ` of `of`) that differ between brainhw and a plain NumPy simulation. `sum` is the sum "
    "of all outputs. The row of `scnn_mnist` was measured with an earlier version that had no convolutions."
)
ELSEWHERE = (
    "Number of outputs that differ from `bh.rollout` on the whole test set of Japanese Vowels. `bytes` is the size of "
    "the file, for C of tables and state, for NumPy of tables. `us` is the median time of one step of the whole batch "
    "in microseconds, for C and NumPy the mean."
)
FITS = (
    "Errors are relative to full scale (charge) or to the value. `coverage` is the share of 95 % intervals that "
    "contain the true value; the criterion is 0.9 to 0.99."
)
HIDDEN = (
    "Virtual chips with 0.65 times the charge, 1.15 times the thresholds and 0.7 times the time constants of the "
    "preset. Leak, threshold and synapses have spreads of 0.4, 0.15 and 0.2, and the noise is 1.5 mV per step. Values "
    "are means of three chips. *As trained* is the network trained on the preset. All others have ten more epochs: "
    "*loop*, in the loop from the preset; *means*, in the loop from the true mean values; *calibrated*, on the model "
    "from bench tables, which do not show single synapses; *calibrated loop*, in the loop from there; *perfect*, on "
    "the true values of each neuron and synapse."
)
RECORDED = (
    "The chips of the previous section, with and without mismatch of synapses. `From recordings`: errors of "
    "thresholds (divided by the gain of the charge) and time constants, for the neurons that fire enough. `Spikes in "
    "the same step`: share of the spikes of the model that the chip has in the same step, for the model of the "
    "preset, a model calibrated from bench tables, and the true values of the neurons."
)


class Section(NamedTuple):
    """One section: file, title, table function, command, explaining page, and a description."""

    file: str
    title: str
    table: Callable[[Content], str]
    command: str = ""
    page: str = ""
    words: str = ""


def trained(content: Content) -> str:
    """Return accuracies by setting; the setting of a run is all keys before its seed."""
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
    """Return the criteria that each system meets."""
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
    """Return predicted and measured times of each case; predictions for GPUs are omitted."""
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
    """Return the time of forward and backward pass for each library and case."""
    return summary(content)


def readers(content: Content) -> str:
    """Return the number of differing outputs for each reader, network and export option."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in content["rows"]:
        words = "refused" if "error" in row else f"{row['differ']} of {row['of']}"
        cells.setdefault((row["net"], row["reader"]), {})[row["written"]] = words
    ways = list(dict.fromkeys(row["written"] for row in content["rows"]))
    rows = [(*case, *(found.get(way, "") for way in ways)) for case, found in sorted(cells.items())]
    return markdown(("net", "reader", *ways), rows)


def anything(content: Content) -> str:
    """Return one table per list of results, for any content."""
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
    """Return the step time of each library in the same run."""
    rows = content["libraries"].items()
    return markdown(
        ("library", "step ms", "load"), [(name, f"{row['step_ms']:.1f}", f"{row['load']:.1f}") for name, row in rows]
    )


SECTIONS = [
    Section("japanese_vowels", "Japanese Vowels on chips", trained, words=VOWELS),
    Section("spoken_digits", "Spoken digits on chips", trained, words=EARLIER),
    Section("deploy_digits", "Spoken digits, deployed", trained, page="deploy", words=DEPLOYED),
    Section("order_rows", "Order of neurons for sign blocks", anything, ".order_rows", "deploy", ORDERED),
    Section("fashion_mnist", "Fashion-MNIST on whole chips", trained, words=WHOLE_CHIPS),
    Section("robustness_study", "Accuracy with mismatch", trained, page="deploy", words=MISMATCH),
    Section("ecg_alif", "Electrocardiograms with adaptive neurons", trained, words=ECG),
    Section("mnist1d_fractional", "MNIST-1D with fractional neurons", trained, page="fractional", words=MNIST1D),
    Section("deep_vowels", "Deep networks on Japanese Vowels", trained, page="fluct_init", words=DEEP),
    Section("deep_randman", "Deep networks on Randman", trained, page="fluct_init", words=DEEP),
    Section("deep_fashion", "Deep networks on Fashion-MNIST", trained, page="fluct_init", words=DEEP),
    Section("deep_chip", "Four hidden layers on a chip", trained, page="fluct_init", words=DEEP_CHIP),
    Section("foreign_data", "The recipe on other data sets", anything, ".foreign_data", "recipe", FOREIGN),
    Section("static_steps", "Static data: steps and encoders", anything, ".static_steps", "encoders", STATIC),
    Section("half_precision", "Training in half precision", anything, ".half_precision", "how_to/half_precision", HALF),
    Section("delayed_copies", "Delayed copies of the inputs", anything, ".delayed_copies", "troubleshooting", COPIES),
    Section("gradient_depth", "Gradients over depth", norms, ".gradient_depth", "fluct_init", GRADIENTS),
    Section("fluct_validation", "Validation of fluct_init", checks, ".fluct_validation", "fluct_init", VALIDATION),
    Section("chips_at_once", "Evaluation of many chips", anything, ".chips_at_once", "deploy", CHIPS_AT_ONCE),
    Section("speed", "Speed compared with other libraries", training_steps, " run", "speed", COLUMNS),
    Section("speed_without_fast", "Speed without compiled loops", training_steps, " run", "speed", WITHOUT_FAST),
    Section("speed_earlier", "Speed, earlier version and machine", training_steps, " run", "speed", EARLIER_SPEED),
    Section("speed_huge_pages", "Speed with huge pages", training_steps, " run", "speed", COLUMNS),
    Section(
        "convolution",
        "Speed of convolutions between layers",
        convolutions,
        ".convolution --snntorch PATH",
        "speed",
        CONVOLUTION,
    ),
    Section(
        "convolution_huge_pages",
        "Speed of convolutions between layers with huge pages",
        convolutions,
        ".convolution --snntorch PATH",
        "speed",
        CONVOLUTION,
    ),
    Section("cost_model", "Cost model compared with measurements", predicted, ".cost_model", "speed", COSTS),
    Section("stream", "Latency of one step", latencies, ".stream", "speed", LATENCY),
    Section("import_time", "Import time", seconds, ".import_time", "speed", IMPORTS),
    Section("silicon_fits", "Calibration of synthetic benches", anything, ".silicon_fits", "calibrate", FITS),
    Section(
        "chip_in_the_loop",
        "Networks on chips that differ from the preset",
        anything,
        ".chip_in_the_loop --digits FOLDER",
        "have_a_chip",
        HIDDEN,
    ),
    Section(
        "silicon_recordings", "Estimates from recordings", anything, ".silicon_recordings", "have_a_chip", RECORDED
    ),
    Section("nir_steps", "NIR neurons compared with their equations", anything, ".nir_steps", "nir", STEPS),
    Section("nir_peers", "NIR graphs in other libraries", readers, ".nir_peers", "nir", DIFFERING),
    Section("nir_files", "NIR files of other libraries", anything, ".nir_plain FOLDER", "nir", FILES),
    Section("edge_targets", "Networks on other runtimes", anything, ".edge_targets", "edge", ELSEWHERE),
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
    """Return the page."""
    named = {section.file for section in SECTIONS}
    others = [path.stem for path in sorted(RESULTS.glob("*.json")) if path.stem not in named]
    extra = [Section(name, name.replace("_", " ").capitalize(), anything) for name in others]
    parts = [INTRODUCTION]
    for section in (*SECTIONS, *extra):
        content = json.loads((RESULTS / f"{section.file}.json").read_text(encoding="utf-8"))
        command = section.command or (f".accuracy {section.file}" if section.table is trained else "")
        facts = [
            f"- File: `docs/results/{section.file}.json`",
            *([f"- Command: `python -m benchmarks{command}`"] if command else []),
            *([f"- Measured on: {measured_on(content)}"] if measured_on(content) else []),
            *([f"- Explained in `docs/{section.page}.md`"] if section.page else []),
        ]
        parts += [f"## {section.title}", *([section.words] if section.words else []), "\n".join(facts)]
        parts += [section.table(content)]
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
