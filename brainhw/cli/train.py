"""The command that trains a classifier of recordings for a chip."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from brainhw._files import check_target
from brainhw.cli.data import read_recordings
from brainhw.cli.look import say
from brainhw.recipe import train_classifier

__all__ = ["train"]


def train(data: str, *, test: str | None = None, chip: str = "h1v2", out: str | None = None, seed: int = 0) -> int:
    """Train a classifier of recordings, show what it says of others, and write its two files."""
    call = "train"
    out = None if out is None else out.removesuffix(".bundle")
    files = [] if out is None else [f"{out}.bundle", f"{out}.encoding"]
    for file in files:
        check_target(file, call=call)
        if any(given is not None and os.path.realpath(file) == os.path.realpath(given) for given in (data, test)):
            raise ValueError(f"{call}: --out {out!r} would overwrite an input; give another name.")
    x, y, lengths = read_recordings(data, call=call)
    tested = None if test is None else read_recordings(test, call=call)
    if tested is not None:
        _check_test(x, y, tested[0], tested[1], call)
        if (lengths is None) != (tested[2] is None):
            without = data if lengths is None else test
            say(f"note: {without!r} has no `lengths`, and the other file has: all its steps count as true.", "")
    classifier = train_classifier(x, y, lengths, chip=chip, seed=seed)
    encoding = classifier.encoding
    say(
        f"{len(x)} recordings of {len(classifier.classes)} classes; {encoding.n_rows} inputs, held for "
        f"{encoding.n_steps} steps; every rule of the chip holds",
        "",
    )
    shown, of, shown_lengths = (x, y, lengths) if tested is None else tested
    say("on the recordings of the training" if tested is None else f"on {test!r}", "")
    say(str(classifier.report(shown, of, shown_lengths)))
    if out is not None:
        bundle, stage = classifier.save(out)
        say("", f"wrote {str(bundle)!r} (the network) and {str(stage)!r} (the stage before the chip)")
    return 0


def _check_test(x: np.ndarray, y: Any, x_test: np.ndarray, y_test: Any, call: str) -> None:
    """Raise before the training for what would stop the test after it."""
    steps = 1 if x.ndim == 2 else 2
    if x_test.ndim != x.ndim or x_test.shape[steps:] != x.shape[steps:]:
        raise ValueError(
            f"{call}: the recordings of --test have shape {x_test.shape}, those of DATA {x.shape}; the channels must "
            "be the same."
        )
    unknown = sorted({str(one) for one in y_test.tolist()} - {str(one) for one in y.tolist()})
    if unknown:
        raise ValueError(f"{call}: --test holds the class {unknown[0]!r:.40}, which DATA has not; leave it out.")
