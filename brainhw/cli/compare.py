"""Command ``compare``: compare the network of a bundle with a measured chip, or with a real chip on a bench."""

from __future__ import annotations

import shlex
import warnings
from typing import Any

import brainunit as u
import numpy as np

from brainhw.cli.bar import wants_bar
from brainhw.cli.data import read_inputs, read_labels
from brainhw.cli.encoded import encoded_inputs
from brainhw.cli.look import open_bundle
from brainhw.cli.outputs import check_output
from brainhw.cli.picture import figure_format, write_figure
from brainhw.cli.result import Result
from brainhw.silicon import CommandDevice, Comparison, Device, LayerComparison, MeasuredChip
from brainhw.silicon import compare as compare_nets
from brainhw.silicon.measured_bench import MeasuredBench

__all__ = ["compare"]


def compare(
    bundle: str,
    data: str,
    *,
    chip: str | None = None,
    device: str | None = None,
    timeout: float = 60.0,
    trials: int = 1,
    neurons: bool = False,
    worst: int | None = None,
    causes: bool = True,
    classes: int | None = None,
    labels: str | None = None,
    encoding: str | None = None,
    figure: str | None = None,
    quiet: bool = False,
) -> Result:
    """Run the network of a bundle on data, run a bench on the same data, and return the differences.

    The bench is either the measured chip in the file ``chip``, which is simulated, or a real chip that the command
    ``device`` controls.
    """
    call = "compare"
    if (chip is None) == (device is None):
        fault = "neither" if chip is None else "both"
        raise ValueError(
            f"{call}: pass either CHIP or --device; got {fault}. Example: `brainhw compare BUNDLE lab.chip DATA`."
        )
    if figure is not None:
        # Check the file before the bench runs, which takes a while.
        check_output("--figure", figure, "picture", (bundle, data, chip, labels, encoding), call=call)
        figure_format(figure, call=call)
    bench = _bench(chip, device, timeout, call)
    n = worst or (10 if neurons else 0)
    with open_bundle(bundle, call=call) as (net, _):
        content = net.content
        n_classes = classes or content.n_classes
        if encoding is not None:
            x, y, _ = encoded_inputs(net, encoding, data, labels, call=call)
        else:
            x = read_inputs(data, content.n_in, content.dtype, call=call)
            y = read_labels(labels or data, len(x), n_classes or content.n_out, call=call, required=labels is not None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            found = compare_nets(
                net,
                bench,
                x.swapaxes(0, 1),
                y,
                n_trials=trials,
                n_classes=n_classes,
                # Only the table of neurons and the figure show what the fit finds, and it takes a minute.
                explain=causes and (n > 0 or figure is not None),
                progress=wants_bar(quiet),
            )
    # On the command line, the argument n_classes is the option --classes.
    notes = tuple(
        str(one.message).replace("n_classes=", "--classes ") for one in caught if issubclass(one.category, UserWarning)
    )
    if figure is not None:
        write_figure(figure, found, call=call)
    # If no table of neurons is shown, one line shows the number of differing neurons.
    differ = sum(int(np.sum(one.unmatched > 0)) for one in found.layers.values())
    of = sum(len(one.unmatched) for one in found.layers.values())
    lines = (
        *found.table(n).splitlines(),
        *(() if n else (f"{differ} of {of} neurons have spikes that do not match (--neurons: table of the worst)",)),
        f"bench: {chip or device}",
    )
    # Warnings come after the accuracy, which is the first line if there are labels.
    first = 0 if found.model_accuracy is None else 1
    lines = (*lines[:first], *(f"note: {note}" for note in notes), *lines[first:])
    written = [] if figure is None else [figure]
    data_out = {**_data(found, n), "bench": chip or device, "written": written}
    return Result((*lines, *(f"wrote {path}" for path in written)), data_out, notes)


def _data(found: Comparison, n: int) -> dict[str, Any]:
    return {
        "samples": found.n_samples,
        "steps": found.n_steps,
        "trials": found.n_trials,
        "model_accuracy": found.model_accuracy,
        "bench_accuracy": found.bench_accuracy,
        "agreement": found.agreement,
        "ceiling": found.ceiling,
        "layers": [
            {
                "layer": path,
                "neurons": len(one.physical),
                "differing_neurons": int(np.sum(one.unmatched > 0)),
                "model_rate_Hz": float(np.mean(one.model_rate.to(u.Hz).mantissa)),
                "bench_rate_Hz": float(np.mean(one.bench_rate.to(u.Hz).mantissa)),
                "model_spikes": float(one.model_spikes.sum()),
                "bench_spikes": float(one.bench_spikes.sum()),
                "common_spikes": float(one.common.sum()),
            }
            for path, one in found.layers.items()
        ],
        "worst_neurons": [_neuron(path, k, found.layers[path]) for path, k in found.worst(n)] if n else None,
    }


def _neuron(path: str, k: int, one: LayerComparison) -> dict[str, Any]:
    rms = one.membrane_rms
    return {
        "layer": path,
        "neuron": k,
        "physical": int(one.physical[k]),
        "model_rate_Hz": float(one.model_rate.to(u.Hz).mantissa[k]),
        "bench_rate_Hz": float(one.bench_rate.to(u.Hz).mantissa[k]),
        "found": float(one.found[k]),
        "predicted": float(one.predicted[k]),
        "itself": float(one.itself[k]),
        "membrane_rms_mV": None if rms is None else float(rms.to(u.mV).mantissa[k]),
        "reason": one.reasons[k],
    }


def _bench(chip: str | None, device: str | None, timeout: float, call: str) -> Device:
    if chip is not None:
        return MeasuredBench(MeasuredChip.load(chip))
    try:
        words = shlex.split(str(device))
    except ValueError as error:
        raise ValueError(f"{call}: --device must be a command and its arguments; got {device!r} ({error}).") from error
    if not words:
        raise ValueError(f"{call}: --device must be a command and its arguments; got {device!r}.")
    return CommandDevice(words, timeout=timeout * u.second)
