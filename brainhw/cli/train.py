"""Command ``train``: train a classifier of recordings for a chip."""

from __future__ import annotations

import warnings
from typing import Any

import brainunit as u
import numpy as np

from brainhw._closest import closest
from brainhw.cli.bar import wants_bar
from brainhw.cli.chip_spec import spec_from_name_or_file
from brainhw.cli.classes import class_data
from brainhw.cli.data import known_lengths, read_recordings
from brainhw.cli.outputs import check_separate
from brainhw.cli.result import Result
from brainhw.recipe import train_classifier
from brainhw.recipe.chip_classifier import label_indices, stem_of

__all__ = ["train"]


def train(
    data: str,
    *,
    test: str | None = None,
    chip: str = "h1v2",
    out: str | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Result:
    """Train a classifier of recordings, test it, and write the network and the encoder."""
    call = "train"
    spec = spec_from_name_or_file(chip, call=call)
    if out is not None:
        out = stem_of(out, call=call, name="--out")
    files = [] if out is None else [f"{out}.bundle", f"{out}.encoding"]
    for file in files:
        check_separate("--out", file, (data, test, chip), call=call)
    x, y, lengths = read_recordings(data, call=call)
    tested = None if test is None else read_recordings(test, call=call)
    notes = []
    if tested is not None:
        _check_test(x, y, tested[0], tested[1], test, call)
        if (lengths is None) != (tested[2] is None):
            without = data if lengths is None else test
            notes.append(f"{without!r} has no `lengths`, unlike the other file, so all of its steps are used.")
        if np.array_equal(x, tested[0]):
            notes.append(f"{test!r} and {data!r} contain the same recordings, so this is the training accuracy.")
    classifier = train_classifier(x, y, lengths, chip=spec, seed=seed, progress=wants_bar(quiet))
    encoding = classifier.encoding
    if test is None or tested is None:
        with warnings.catch_warnings():
            # train_classifier has already warned about these recordings.
            warnings.simplefilter("ignore", UserWarning)
            report = classifier.report(x, y, lengths)
    else:
        x_test, y_test, test_lengths = tested
        report = classifier.report(
            x_test, y_test, known_lengths(test, x_test, test_lengths, encoding.in_shape, call=call)
        )
    accuracy, _, details = str(report).partition("\n")
    lines = [
        f"{accuracy} on {'the training recordings' if tested is None else repr(test)}",
        *(f"note: {note}" for note in notes),
        f"{len(x)} recordings of {_size(x, lengths)}, {len(classifier.classes)} classes; {encoding.n_rows} inputs, "
        f"held for {encoding.n_steps} steps ({encoding.n_steps * classifier.dt.to(u.ms).mantissa:g} ms); deployable: "
        "no rule of the chip is violated",
        details,
    ]
    if out is not None:
        written = classifier.save(out)
        lines.append(f"wrote {str(written[0])!r} (the network) and {str(written[1])!r} (the encoder before the chip)")
    else:
        lines.append("the network was not saved (--out NAME writes it to NAME.bundle and NAME.encoding)")
    result = {
        **class_data(report),
        "tested_on": test,
        "recordings": len(x),
        "n_inputs": encoding.n_rows,
        "steps": encoding.n_steps,
        "dt_ms": float(classifier.dt.to(u.ms).mantissa),
        "chip": spec.name,
        "seed": seed,
        "written": [] if out is None else list(map(str, written)),
    }
    return Result(tuple(lines), result, tuple(notes))


def _size(x: np.ndarray, lengths: np.ndarray | None) -> str:
    """Return a text with the size of the recordings, such as "7 to 29 steps and 12 channels"."""
    channels = " x ".join(map(str, x.shape[2:]))
    if x.ndim == 2:
        return f"{x.shape[1]} features"
    least, most = (x.shape[1],) * 2 if lengths is None else (lengths.min(), lengths.max())
    return f"{least if least == most else f'{least} to {most}'} steps and {channels} channels"


def _check_test(x: np.ndarray, y: Any, x_test: np.ndarray, y_test: Any, test: str | None, call: str) -> None:
    """Raise if the test data have different channels or features than the training data, or an unknown class."""
    steps = 1 if x.ndim == 2 else 2
    if x_test.ndim != x.ndim or x_test.shape[steps:] != x.shape[steps:]:
        raise ValueError(
            f"{call}: the recordings of --test {test!r} have shape {x_test.shape}, but the recordings of DATA have "
            f"shape {x.shape}. Save both files with the same channels or features."
        )
    known = label_indices(y, call=call)[1]
    indices, names = label_indices(y_test, call=call)
    unknown = [name for name in (names[index] for index in indices) if name not in known]
    if unknown:
        raise ValueError(
            f"{call}: {len(unknown)} of {len(y_test)} recordings of --test {test!r} have a class that is not in DATA, "
            f"the first {unknown[0]!r:.40}{closest(unknown[0], known)}. Correct the names, or remove these recordings."
        )
