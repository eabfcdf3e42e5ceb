"""The command that trains a classifier of recordings for a chip."""

from __future__ import annotations

import os

from brainhw._files import check_target
from brainhw.cli.data import read_recordings
from brainhw.cli.look import say
from brainhw.recipe import train_classifier

__all__ = ["train"]


def train(data: str, *, test: str | None = None, chip: str = "h1v2", out: str | None = None, seed: int = 0) -> int:
    """Train a classifier of recordings, show what it says of others, and write its two files."""
    call = "train"
    files = [] if out is None else [f"{out}.bundle", f"{out}.encoding"]
    for file in files:
        check_target(file, call=call)
        if any(given is not None and os.path.realpath(file) == os.path.realpath(given) for given in (data, test)):
            raise ValueError(f"{call}: --out {out!r} would overwrite an input; give another name.")
    x, y, lengths = read_recordings(data, call=call)
    tested = None if test is None else read_recordings(test, call=call)
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
