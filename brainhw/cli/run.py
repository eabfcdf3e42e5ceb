"""Commands that run a bundle on data: power, and predictions."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import replace

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from brainhw._files import check_target, write_whole
from brainhw._table import plain_table
from brainhw.cli.data import read_inputs, read_labels, read_lengths, read_recordings
from brainhw.cli.look import opened, say
from brainhw.deploy.bundled_net import BundledNet
from brainhw.deploy.inputs import input_fault
from brainhw.deploy.power import estimate_power
from brainhw.recipe.chip_classifier import label_numbers, with_encoding
from brainhw.train.class_report import count, report_on
from brainhw.train.decision import decide
from brainhw.transform import rollout

__all__ = ["power", "run"]

_IN_PLACE = "chip in the bundle"


def power(bundle: str, data: str) -> int:
    """Estimate power and energy of a bundle on data."""
    with opened(bundle, call="power") as (net, _):
        x = read_inputs(data, net.content.n_in, net.content.dtype, call="power")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            lengths = read_lengths(data, *x.shape[:2], call="power")
            report = estimate_power(net, x.swapaxes(0, 1), lengths=lengths)
        say(str(report), *(f"warning: {warning.message}" for warning in said))
    return 0


def run(
    bundle: str,
    data: str,
    *,
    labels: str | None = None,
    out: str | None = None,
    chip_key: int | None = None,
    batch_size: int = 64,
    encoding: str | None = None,
) -> int:
    """Run a bundle on data and show output spikes, predicted classes, and accuracy."""
    call = "run"
    if out is not None:
        check_target(out, call=call)
    # By real paths: a link to an input would be overwritten, too.
    for given in (bundle, data, labels, encoding):
        if out is not None and given is not None and os.path.realpath(out) == os.path.realpath(given):
            raise ValueError(f"{call}: --out {out!r} would overwrite an input; give another file.")
    names: tuple[str, ...] = ()
    y: np.ndarray | None
    lengths: np.ndarray | None = None
    with opened(bundle, call=call) as (net, _):
        content = net.content
        n_classes = content.n_classes or content.n_out
        if encoding is not None:
            x, y, names = _encoded(net, encoding, data, labels, call)
        else:
            x = read_inputs(data, content.n_in, content.dtype, call=call)
            y = read_labels(labels or data, len(x), n_classes, call=call, required=labels is not None)
            lengths = read_lengths(data, *x.shape[:2], call=call)
        steps = np.full(len(x), x.shape[1]) if lengths is None else lengths
        spikes = np.concatenate(list(_outputs(net, x, steps, chip_key, batch_size)))
        decision = decide(spikes.swapaxes(0, 1), n_classes)
        if out is not None:
            held = io.BytesIO()
            np.savez_compressed(held, spikes=spikes, predicted=np.asarray(decision.predicted, np.int64))
            write_whole(out, held.getvalue(), call=call)
        chip = f"chip of key {chip_key}" if chip_key is not None else _IN_PLACE if content.in_place else "nominal chip"
        duration = f"{content.dt.mantissa * steps.mean():.6g} ms"
        long = f"{x.shape[1]} steps" if lengths is None else f"{steps.min()} to {steps.max()} steps"
        say(f"{len(x)} samples of {long} ({duration}) on the {chip} of {content.chip.name}", "")
        predicted = np.asarray(decision.predicted)
        report = report_on([count(decision, jnp.asarray(predicted if y is None else y), n_classes)])
        report = replace(report, names=names)
        # Without labels nothing is right or wrong, but silent and tied samples are told all the same.
        classes = [_predicted(predicted, n_classes), *report.remarks] if y is None else [str(report)]
        say(_neurons(spikes.sum(axis=1, dtype=np.int64), n_classes, duration), "")
        fault = input_fault(x, has_frontend=any(synapse.frontend for synapse in content.synapses.values()))
        if fault is not None:
            say(f"warning: {call}: {fault.found}; a chip takes {fault.limit}. {fault.fix}")
        say(*classes)
    return 0


def _encoded(
    net: BundledNet, encoding: str, data: str, labels: str | None, call: str
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Return what the chip gets of recordings, the numbers of their classes, and the names of all classes."""
    if labels is not None:
        raise ValueError(f"{call}: --labels is for inputs of a chip; with --encoding `y` of the data has the classes.")
    classifier = with_encoding(net, encoding, call=call)
    x, y, lengths = read_recordings(data, call=call, labelled=False)
    numbers = None if y is None else label_numbers(y, classifier.classes, call=call)[0]
    return classifier.inputs(x, lengths), numbers, classifier.classes


def _outputs(
    net: BundledNet, x: np.ndarray, lengths: np.ndarray, key: int | None, batch_size: int
) -> Iterator[np.ndarray]:
    """Yield output spikes ``[samples, steps, outputs]``, some samples at once."""

    # Compiled once for full batches and once for the last, smaller one.
    @brainstate.transform.jit
    def outputs(xs: jax.Array, steps: jax.Array) -> jax.Array:
        return rollout(net, xs, key=key, lengths=steps)[0]

    for start in range(0, len(x), batch_size):
        rows = slice(start, start + batch_size)
        found = outputs(jnp.asarray(x[rows].swapaxes(0, 1)), jnp.asarray(lengths[rows]))
        yield np.asarray(found).astype(np.uint8).swapaxes(0, 1)


def _neurons(counts: np.ndarray, n_classes: int, duration: str) -> str:
    size = counts.shape[1] // n_classes  # consecutive neurons vote for a class
    rows = [
        (f"{i}", f"{i // size}", f"{total}", f"{total / len(counts):.2f}", f"{np.mean(of_one == 0):.1%}")
        for i, (total, of_one) in enumerate(zip(counts.sum(axis=0), counts.T, strict=True))
    ]
    return plain_table(("output neuron", "class", "spikes", f"in {duration}", "silent in"), rows)


def _predicted(predicted: np.ndarray, n_classes: int) -> str:
    counts = np.bincount(predicted, minlength=n_classes)
    return plain_table(("class", "predicted"), [(f"{i}", f"{n}") for i, n in enumerate(counts)])
