"""Commands ``run`` and ``power``: run the network of a bundle on data, and estimate its power."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw._files import write_whole
from brainhw._progress import progress_bar
from brainhw._table import plain_table
from brainhw.cli.bar import wants_bar
from brainhw.cli.classes import class_data
from brainhw.cli.data import read_inputs, read_labels, read_lengths
from brainhw.cli.encoded import encoded_inputs, encoded_recordings
from brainhw.cli.look import open_bundle
from brainhw.cli.outputs import check_output
from brainhw.cli.result import Result
from brainhw.deploy.bundled_net import BundledNet
from brainhw.deploy.inputs import input_fault
from brainhw.deploy.power import PowerReport, estimate_power
from brainhw.train.class_report import count, report_on
from brainhw.train.decision import decide
from brainhw.transform import rollout

__all__ = ["power", "run"]

_IN_PLACE = "chip in the bundle"


def power(bundle: str, data: str, *, encoding: str | None = None, quiet: bool = False) -> Result:
    """Estimate the power and energy that the network of a bundle uses on data."""
    call = "power"
    with open_bundle(bundle, call=call) as (net, _):
        if encoding is None:
            x = read_inputs(data, net.content.n_in, net.content.dtype, call=call)
        else:
            x = encoded_recordings(net, encoding, data, call=call, labels="ignored")[0]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # Encoded recordings all have the same number of steps.
            lengths = read_lengths(data, *x.shape[:2], call=call) if encoding is None else None
            report = estimate_power(net, x.swapaxes(0, 1), lengths=lengths, progress=wants_bar(quiet))
    found = tuple(str(warning.message) for warning in caught)
    sources = ", ".join(dict.fromkeys(report.chip.provenance[cost.coefficient] for cost in report.costs))
    energy, mean_power = _uJ(report.energy), float(report.power.to(u.uwatt).mantissa)
    first = f"energy {energy:.4g} uJ per inference, power {mean_power:.4g} uW (coefficients {sources})"
    return Result((first, *(f"warning: {one}" for one in found), str(report)), _power_data(report), found)


def _power_data(report: PowerReport) -> dict[str, Any]:
    energy, seconds = _uJ(report.energy), float(report.duration.to(u.second).mantissa)
    costs = []
    for cost in report.costs:
        value = getattr(report.chip, cost.coefficient)
        costs.append(
            {
                "part": cost.part,
                "kind": cost.kind,
                "count": cost.count,
                "coefficient": cost.coefficient,
                "coefficient_value": float(value.mantissa),
                "coefficient_unit": str(u.get_unit(value)),
                "provenance": report.chip.provenance[cost.coefficient],
                "energy_uJ": _uJ(cost.energy),
                "power_uW": _uJ(cost.energy) / seconds,
                "share": _uJ(cost.energy) / energy if energy else 0.0,
            }
        )
    return {
        "chip": report.chip.name,
        "samples": report.n_samples,
        "duration_ms": float(report.duration.to(u.ms).mantissa),
        "energy_uJ": energy,
        "power_uW": float(report.power.to(u.uwatt).mantissa),
        "costs": costs,
        "cores": [{"core": core, "energy_uJ": _uJ(energy)} for core, energy in report.by_core.items()],
        "layers": [
            {"layer": path, "spikes": spikes, "silent_neurons": report.silent[path]}
            for path, spikes in report.spikes.items()
        ],
        "synops": report.synops,
        "synaptic_events": report.synaptic_events,
        "weight_memory_bits": report.weight_bits,
    }


def _uJ(energy: u.Quantity) -> float:
    return float(energy.to(u.ujoule).mantissa)


def run(
    bundle: str,
    data: str,
    *,
    labels: str | None = None,
    out: str | None = None,
    chip_key: int | None = None,
    batch_size: int = 64,
    encoding: str | None = None,
    neurons: bool = False,
    quiet: bool = False,
) -> Result:
    """Run the network of a bundle on data, and return accuracy, predicted classes and statistics of output spikes."""
    call = "run"
    if out is not None:
        check_output("--out", out, ".npz", (bundle, data, labels, encoding), call=call)
    names: tuple[str, ...] = ()
    y: np.ndarray | None
    lengths: np.ndarray | None = None
    with open_bundle(bundle, call=call) as (net, _):
        content = net.content
        n_classes = content.n_classes or content.n_out
        if encoding is not None:
            x, y, names = encoded_inputs(net, encoding, data, labels, call=call)
        else:
            x = read_inputs(data, content.n_in, content.dtype, call=call)
            y = read_labels(labels or data, len(x), n_classes, call=call, required=labels is not None)
            lengths = read_lengths(data, *x.shape[:2], call=call)
        steps = np.full(len(x), x.shape[1]) if lengths is None else lengths
        with progress_bar(len(x), desc=call, unit="sample", shown=wants_bar(quiet)) as bar:
            spikes = np.concatenate(list(_outputs(net, x, steps, chip_key, batch_size, bar.update)))
        decision = decide(spikes.swapaxes(0, 1), n_classes)
    predicted = np.asarray(decision.predicted)
    if out is not None:
        held = io.BytesIO()
        np.savez_compressed(held, spikes=spikes, predicted=predicted.astype(np.int64))
        write_whole(out, held.getvalue(), call=call)
    # Without labels there is no accuracy, but silent and tied samples are still counted.
    report = report_on([count(decision, jnp.asarray(predicted if y is None else y), n_classes)])
    report = replace(report, names=names)
    fault = input_fault(x, has_frontend=any(synapse.frontend for synapse in content.synapses.values()))
    found = () if fault is None else (f"{call}: {fault.found}; a chip takes {fault.limit}. {fault.fix}",)
    chip = f"chip of key {chip_key}" if chip_key is not None else _IN_PLACE if content.in_place else "nominal chip"
    duration = float(content.dt.mantissa * steps.mean())
    long = f"{x.shape[1]} steps" if lengths is None else f"{steps.min()} to {steps.max()} steps"
    accuracy, _, details = str(report).partition("\n")
    counts = spikes.sum(axis=1, dtype=np.int64)
    lines = (
        *(() if y is None else (accuracy,)),
        f"{len(x)} samples of {long} ({duration:.6g} ms) on the {chip} of {content.chip.name}",
        *(f"warning: {one}" for one in found),
        *((*report.remarks, _predicted(predicted, names or range(n_classes))) if y is None else (details,)),
        _summary(counts, duration, "" if neurons else " (--neurons: table)"),
        *((_neurons(counts, n_classes, duration),) if neurons else ()),
        *(() if out is None else (f"wrote {out}",)),
    )
    result = {
        **class_data(report, labelled=y is not None),
        "chip": content.chip.name,
        "chip_in_place": chip,
        "steps_smallest": int(steps.min()),
        "steps_largest": int(steps.max()),
        "duration_ms": duration,
        "output": _output_data(counts, n_classes, neurons=neurons),
        "written": [] if out is None else [out],
    }
    return Result(lines, result, found)


def _outputs(
    net: BundledNet,
    x: np.ndarray,
    lengths: np.ndarray,
    key: int | None,
    batch_size: int,
    done: Callable[[int], object],
) -> Iterator[np.ndarray]:
    """Yield the output spikes ``[samples, steps, outputs]`` of each batch, then call ``done`` with the batch size."""

    # This is compiled once for full batches and once for a smaller last batch.
    @brainstate.transform.jit
    def outputs(xs: jax.Array, steps: jax.Array) -> jax.Array:
        return rollout(net, xs, key=key, lengths=steps)[0]

    for start in range(0, len(x), batch_size):
        rows = slice(start, start + batch_size)
        found = outputs(jnp.asarray(x[rows].swapaxes(0, 1)), jnp.asarray(lengths[rows]))
        yield np.asarray(found).astype(np.uint8).swapaxes(0, 1)
        done(len(x[rows]))


def _output_data(counts: np.ndarray, n_classes: int, *, neurons: bool) -> dict[str, Any]:
    size = counts.shape[1] // n_classes  # consecutive neurons vote for a class
    return {
        "neurons": counts.shape[1],
        "spikes_per_sample": float(counts.sum(axis=1).mean()),
        "silent_neurons": int((counts.sum(axis=0) == 0).sum()),
        "by_neuron": [
            {
                "neuron": i,
                "class": i // size,
                "spikes": int(of_one.sum()),
                "spikes_per_sample": float(of_one.mean()),
                "silent_share": float(np.mean(of_one == 0)),
            }
            for i, of_one in enumerate(counts.T)
        ]
        if neurons
        else None,
    }


def _summary(counts: np.ndarray, duration: float, tail: str) -> str:
    found = _output_data(counts, 1, neurons=False)
    return (
        f"{found['neurons']} output neurons: {found['spikes_per_sample']:.2f} spikes per sample in {duration:.6g} ms, "
        f"{found['silent_neurons']} neurons without a spike{tail}"
    )


def _neurons(counts: np.ndarray, n_classes: int, duration: float) -> str:
    rows = [
        (
            f"{one['neuron']}",
            f"{one['class']}",
            f"{one['spikes']}",
            f"{one['spikes_per_sample']:.2f}",
            f"{one['silent_share']:.1%}",
        )
        for one in _output_data(counts, n_classes, neurons=True)["by_neuron"]
    ]
    mean = f"mean in {duration:.6g} ms"
    return plain_table(("output neuron", "class", "spikes", mean, "silent in"), rows)


def _predicted(predicted: np.ndarray, names: Sequence[Any]) -> str:
    counts = np.bincount(predicted, minlength=len(names))
    return plain_table(("class", "predicted"), [(f"{name}", f"{n}") for name, n in zip(names, counts, strict=True)])
