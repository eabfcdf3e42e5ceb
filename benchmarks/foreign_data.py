"""Accuracy of the recipe on official test recordings: ``python -m benchmarks.foreign_data [SET ...]``.

Three settings of the recipe were chosen by cross-validation on the training recordings of these data sets, see
``docs/recipe.md``.

The data sets are those that are bundled with aeon, in their official splits, and the digits of scikit-learn, of which a
quarter is held out. `bh.recipe.train_classifier` is run on each with default arguments, for two chips and three seeds.
It is compared with ROCKET of aeon and with logistic regression on flattened input. For logistic regression the better
result of raw and standardised input is used. aeon and scikit-learn are not dependencies of brainhw. Install them first.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import brainstate
import jax
import numpy as np

import brainhw as bh
from benchmarks.machine import save

SETS = (
    "BasicMotions",
    "ArrowHead",
    "ItalyPowerDemand",
    "GunPoint",
    "UnitTest",
    "digits",
    "OSULeaf",
    "ACSF1",
    "PickupGestureWiimoteZ",
    "JapaneseVowels",
)
CHIPS, SEEDS = ("h1v1", "h1v2"), 3
Half = tuple[np.ndarray, np.ndarray, np.ndarray]


def load(name: str) -> tuple[Half, Half]:
    """Return recordings ``[n, T, C]``, class names and lengths of the training and the test half of a set."""
    try:
        from aeon.datasets import load_classification
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        sys.exit("benchmarks.foreign_data requires aeon and scikit-learn: python -m pip install aeon scikit-learn")
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        halves = train_test_split(x[:, None], y, test_size=0.25, random_state=0)
        return tuple((x, y, np.ones(len(y), int)) for x, y in (halves[::2], halves[1::2]))  # type: ignore[return-value]
    loaded = [load_classification(name, split=part) for part in ("train", "test")]
    longest = max(one.shape[-1] for x, _ in loaded for one in x)
    return tuple(_padded(x, np.asarray(y), longest) for x, y in loaded)  # type: ignore[return-value]


def _padded(x: Any, y: np.ndarray, n_steps: int) -> Half:
    lengths = np.array([one.shape[-1] for one in x])
    padded = np.zeros((len(x), n_steps, x[0].shape[0]))
    for row, one in zip(padded, x, strict=True):
        row[: one.shape[-1]] = one.T  # in aeon the first axis is the channels
    return padded, y, lengths


def logistic(train: Half, test: Half) -> float:
    """Return the accuracy of logistic regression on flattened input: the better of raw and standardised input."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    flat = [half[0].reshape(len(half[0]), -1) for half in (train, test)]
    plain = LogisticRegression(max_iter=5000)
    made = (plain, make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)))
    return max(float(one.fit(flat[0], train[1]).score(flat[1], test[1])) for one in made)


def rocket(train: Half, test: Half) -> float | None:
    """Return the accuracy of ROCKET, or None for data with fewer than ten steps."""
    from aeon.classification.convolution_based import RocketClassifier

    if train[0].shape[1] < 10:
        return None
    channels_first = [np.swapaxes(half[0], 1, 2) for half in (train, test)]
    return float(RocketClassifier(random_state=0).fit(channels_first[0], train[1]).score(channels_first[1], test[1]))


def run(train: Half, test: Half, chip: str, seed: int) -> dict[str, float]:
    """Train a classifier, and return its results on the test recordings."""
    start = time.perf_counter()
    classifier = bh.recipe.train_classifier(*train, chip=chip, seed=seed, progress=False)
    seconds = time.perf_counter() - start
    report = classifier.report(test[0], test[1], test[2])
    with brainstate.environ.context(dt=classifier.dt):
        violations = len(bh.check_deployable(classifier.net).violations)
    return {
        "accuracy": report.accuracy, "silent": report.silent, "tied": report.tied / report.n_samples,
        "undecided": report.undecided / report.n_samples, "violations": violations, "seconds": seconds,
    }  # fmt: skip


def main(names: list[str]) -> None:
    """Run the settings that are not yet in the notes, save ``docs/results/foreign_data.json``, and print the rows."""
    notes = Path("runs/foreign_data.jsonl")
    notes.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    rows = []
    for name in names:
        train, test = load(name)
        found = [one for one in done if one["set"] == name]
        if not any("logistic" in one for one in found):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.append({"set": name, "logistic": logistic(train, test), "rocket": rocket(train, test)})
            _append(notes, found[-1])
        for seed in range(SEEDS):
            for chip in CHIPS:
                if not any(one.get("chip") == chip and one.get("seed") == seed for one in found):
                    found.append({"set": name, "chip": chip, "seed": seed, **run(train, test, chip, seed)})
                    _append(notes, found[-1])
                    jax.clear_caches()
        rows += _rows(name, found)
        for row in rows[-len(CHIPS) :]:
            print(row, flush=True)
    if tuple(names) == SETS:
        save("foreign_data", {"rows": rows})


def _append(notes: Path, one: dict[str, Any]) -> None:
    with notes.open("a") as stream:
        stream.write(json.dumps(one) + "\n")


def _rows(name: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    (beside,) = (one for one in found if "logistic" in one)
    rows = []
    for chip in CHIPS:
        runs = [one for one in found if one.get("chip") == chip]
        rows.append(
            {
                "set": name,
                "chip": chip,
                "test_accuracy": statistics.fmean(one["accuracy"] for one in runs),
                "seeds": ", ".join(f"{one['accuracy']:.3f}" for one in runs),
                "logistic_regression": beside["logistic"],
                "rocket": beside["rocket"],
                "silent": sum(one["silent"] for one in runs),
                "tied": statistics.fmean(one["tied"] for one in runs),
                "undecided": statistics.fmean(one["undecided"] for one in runs),
                "violations": sum(one["violations"] for one in runs),
                "seconds": statistics.fmean(one["seconds"] for one in runs),
            }
        )
    return rows


if __name__ == "__main__":
    main(sys.argv[1:] or list(SETS))
