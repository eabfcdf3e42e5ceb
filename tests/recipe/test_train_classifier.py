"""A classifier in one call: what it reaches, its rules, its files, its refusals."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from nonsense_values import NONSENSE
from recipe_sets import recordings

import brainhw as bh
from brainhw._files import path_text
from brainhw.recipe.net import n_voters, run_constant_input

X, Y, LENGTHS = recordings(30, 2)
# The shortest recording has 15 steps, so nothing is padded here.
WHOLE = X[:, :15]


@pytest.mark.slow
def test_it_learns_and_keeps_every_rule(trained_classifier: Any) -> None:
    report = trained_classifier.report(X, Y, LENGTHS)
    assert report.accuracy >= 0.95
    assert report.silent == report.undecided == 0
    assert report.names == ("fall", "rise", "swing")
    with brainstate.environ.context(dt=trained_classifier.dt):
        assert bh.check_deployable(trained_classifier.net).ok
        assert len(bh.deploy.place(trained_classifier.net).cores_used) == 3
    assert np.mean(trained_classifier.predict(X, LENGTHS) == Y) == report.accuracy


def test_padding_says_nothing(classifier: Any) -> None:
    other = np.where(np.arange(30)[:, None] < LENGTHS[:, None, None], X, 7.0)
    np.testing.assert_array_equal(classifier.encoding(other, LENGTHS), classifier.encoding(X, LENGTHS))


def test_held_inputs_are_run_as_rollout_runs_them(classifier: Any) -> None:
    rows = jnp.asarray(classifier.encoding(X[:5], LENGTHS[:5]))
    with brainstate.environ.context(dt=classifier.dt):
        expected = bh.rollout(classifier.net, jnp.asarray(classifier.inputs(X[:5], LENGTHS[:5])).swapaxes(0, 1))[0]
        np.testing.assert_array_equal(run_constant_input(classifier.net, rows, 100), expected)
    assert expected.sum() > 0


def test_two_files_hold_it(classifier: Any, tmp_path: Path) -> None:
    bundle, encoding = classifier.save(tmp_path / "mine")
    assert (bundle.name, encoding.name) == ("mine.bundle", "mine.encoding")
    loaded = bh.recipe.load_classifier(tmp_path / "mine")
    assert loaded.classes == classifier.classes
    np.testing.assert_array_equal(loaded.encoding(X, LENGTHS), classifier.encoding(X, LENGTHS))
    np.testing.assert_array_equal(loaded.predict(X, LENGTHS), classifier.predict(X, LENGTHS))


def test_files_that_do_not_belong_together_are_refused(classifier: Any, tmp_path: Path) -> None:
    classifier.save(tmp_path / "mine")
    other = dataclasses.replace(classifier.encoding, gain=classifier.encoding.gain * 0)
    other.save(tmp_path / "mine.encoding")
    with pytest.raises(
        ValueError, match=r"^load_classifier: the encoding .*mine.encoding' computes 5 inputs, but .* has \d+ inputs"
    ):
        bh.recipe.load_classifier(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"does not exist|No such file"):
        bh.recipe.load_classifier(tmp_path / "yours")
    # The encoding of another network of the same width.
    dataclasses.replace(classifier.encoding, gain=classifier.encoding.gain * 2).save(tmp_path / "mine.encoding")
    with pytest.raises(ValueError, match=r"mine.encoding' has the fingerprint [0-9a-f]{8}, but the bundle was saved"):
        bh.recipe.load_classifier(tmp_path / "mine")


def test_a_bundle_that_is_exported_again_keeps_the_fingerprint(classifier: Any, tmp_path: Path) -> None:
    bundle, encoding = classifier.save(tmp_path / "mine")
    net = bh.deploy.load_bundle(bundle)
    assert net.encoding_fingerprint == classifier.encoding.fingerprint == bh.recipe.Encoding.load(encoding).fingerprint
    bh.deploy.export_bundle(net, tmp_path / "again.bundle")
    assert (tmp_path / "again.bundle").read_bytes() == bundle.read_bytes()


@pytest.mark.parametrize("name", ["..", ".", " ", "./"])
def test_names_without_a_file_are_refused(classifier: Any, tmp_path: Path, name: str) -> None:
    path = f"{tmp_path}/{name}"
    with pytest.raises(ValueError, match=r"^ChipClassifier.save: path must be a file name without an extension"):
        classifier.save(path)
    with pytest.raises(ValueError, match=r"^load_classifier: path must be a file name without an extension"):
        bh.recipe.load_classifier(path)


@pytest.mark.parametrize(
    ("n_classes", "n_neurons", "expected"),
    [(2, 256, 20), (10, 200, 8), (16, 200, 5), (40, 200, 2), (100, 200, 1), (101, 200, 0)],
)
def test_voters_leave_room_for_a_hidden_layer(n_classes: int, n_neurons: int, expected: int) -> None:
    assert n_voters(n_classes, n_neurons) == expected


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((WHOLE,), "y is missing"),
        ((WHOLE, Y[:5]), r"y must contain one name or integer for each of 30 recordings"),
        (
            (WHOLE, np.arange(30) / 2),
            r"^train_classifier: y must be an array \[n\] or \[n, T\] of names or integers.*np.digitize",
        ),
        (
            (WHOLE, np.where(np.arange(30) == 3, np.nan, 1.0)),
            "y must be an array.*Fill missing labels, or remove these",
        ),
        ((WHOLE, np.array(["a", 1] * 15, object)), r"They have the types int, str.*\[str\(one\) for one in y\]"),
        (
            (WHOLE, np.zeros((30, 2), int)),
            r"^train_classifier: y must contain one label for each recording, \[n\]; got .*30, 2",
        ),
        (
            (WHOLE, ["a"] * 30),
            r"y must contain 2 to 100 classes for H1v2 with 200 neurons; got 1. Add recordings of a second class",
        ),
        ((WHOLE, ["a", "b", " "] * 10), r"y contains an empty class name, first for recording 2"),
        ((np.ma.masked_less(WHOLE, 0.5), Y), r"x has \d+ masked value\(s\)\. Fill them, such as by x\.filled"),
        ((X * np.nan, Y), "NaN|finite"),
        ((X, Y, np.zeros(30, int)), r"lengths must be between 1 and 30, the number of steps"),
        ((X, Y, np.full(30, 31)), "lengths"),
        ((X[0, 0], Y), r"x"),
        ((X.astype(float) * 1e200, Y), r"^train_classifier: the largest absolute value of x must .* got "),
        ((X.astype(float) * 1e-200, Y), r"^train_classifier: the largest absolute value of x must"),
        ((bh.data.Split(X, np.arange(30) % 3), Y), "a Split already contains labels and lengths"),
    ],
)
def test_bad_recordings_are_named(arguments: Any, match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        bh.recipe.train_classifier(*arguments, progress=False)


class Begun(Exception):
    """The data were checked."""


@pytest.fixture
def checks_only(monkeypatch: Any) -> None:
    def begin(*given: Any, **options: Any) -> Any:
        raise Begun

    module = importlib.import_module("brainhw.recipe.train_classifier")
    monkeypatch.setattr(module, "choose_teacher", begin)


@pytest.mark.usefixtures("checks_only")
def test_class_names_that_differ_in_spaces_are_warned_of() -> None:
    match = r"^train_classifier: several classes in y are named 'a' and differ only in spaces"
    with pytest.warns(UserWarning, match=match), pytest.raises(Begun):
        bh.recipe.train_classifier(WHOLE, np.array(["a ", "a", "b"] * 10), progress=False)


@pytest.mark.usefixtures("checks_only")
def test_few_recordings_of_a_class_are_warned_of() -> None:
    y = np.array(["b"] * 4 + ["a"] * 26)
    match = r"^train_classifier: the class 'b' has 4 of 30 recordings, fewer than 5"
    with pytest.warns(UserWarning, match=match), pytest.raises(Begun):
        bh.recipe.train_classifier(WHOLE, y, progress=False)
    with pytest.raises(Begun):
        bh.recipe.train_classifier(WHOLE, np.array(["b"] * 5 + ["a"] * 25), progress=False)


@pytest.mark.usefixtures("checks_only")
def test_padding_without_lengths_is_warned_of() -> None:
    match = r"^train_classifier: \d+ of 30 recordings end with up to 1[0-5] equal steps"
    with pytest.warns(UserWarning, match=match), pytest.raises(Begun):
        bh.recipe.train_classifier(X, Y, progress=False)
    for x, lengths in ((X, LENGTHS), (WHOLE, None)):
        with pytest.raises(Begun):
            bh.recipe.train_classifier(x, Y, lengths, progress=False)


def test_recordings_that_are_all_alike_are_named() -> None:
    with pytest.raises(ValueError, match=r"^train_classifier: all recordings in x are equal"):
        bh.recipe.train_classifier(np.ones((12, 30, 2)), Y[:12], lengths=np.full(12, 30), progress=False)


def test_an_unknown_chip_is_named() -> None:
    with pytest.raises(ValueError, match=r"^train_classifier: .*H9"):
        bh.recipe.train_classifier(X, Y, chip="H9", progress=False)


def test_labels_that_the_training_had_not_are_named(classifier: Any) -> None:
    with pytest.raises(ValueError, match=r"^ChipClassifier.report: y must contain only the names.*'sink' is unknown"):
        classifier.report(X, np.where(Y == "rise", "sink", Y), LENGTHS)
    with pytest.raises(ValueError, match=r"^Encoding: x must contain recordings \[n, T, 2\]"):
        classifier.predict(X[..., :1], LENGTHS)


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["h1v1", "h1v2"])
def test_static_data_without_steps(chip: str) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 4 + 1  # integers from 1
    x = rng.normal(size=(200, 12)) + 3 * np.eye(4)[y - 1].repeat(3, axis=1)
    x[:, 5] = 3.0  # a feature that never changes
    found = bh.recipe.train_classifier(x[:100], y[:100], chip=chip, progress=False)
    report = found.report(x[100:], y[100:])
    assert found.classes == ("1", "2", "3", "4")
    # What never changed in the training says nothing, whatever it is later.
    other = x[100:].copy()
    other[:, 5] = 1e3
    np.testing.assert_array_equal(found.encoding(other), found.encoding(x[100:]))
    assert report.accuracy >= 0.95
    assert report.silent == 0
    assert u.get_unit(found.dt) == u.ms


@pytest.mark.parametrize(("n", "n_batches", "rate"), [(299, 60, 0.01), (300, 100, 0.018 * 1.66)])
def test_many_recordings_are_trained_for_longer(n: int, n_batches: int, rate: float, monkeypatch: Any) -> None:
    found: dict[str, Any] = {}

    def begin(_: Any, mixtures: Any, *, learning_rate: float, **__: Any) -> None:
        found.update(n_batches=len(mixtures), rate=learning_rate)
        raise Reached

    module = importlib.import_module("brainhw.recipe.train_classifier")
    monkeypatch.setattr(module, "fit", begin)
    monkeypatch.setattr(module, "fluct_init", lambda *_, **__: None)
    rng = np.random.default_rng(0)
    with pytest.raises(Reached):
        bh.recipe.train_classifier(rng.normal(size=(n, 3)), np.arange(n) % 2, progress=False)
    assert found == {"n_batches": n_batches, "rate": pytest.approx(rate)}


class Reached(Exception):
    """The training would begin."""


# What is right although it looks like nonsense.
RIGHT = {
    "x": set(),
    "y": set(),
    "lengths": {"None"},
    "seed": {"0", "0-d numpy 2"},
    "progress": {"True", "False", "np.bool_"},
    "checkpoint": {"None", "'False'", "'abc'", "'3'", "'a\\nb'", "bytes", "a path", "a folder"},
}


@pytest.mark.filterwarnings("ignore:train_classifier. .* recordings end with up to")
@pytest.mark.parametrize("argument", ["x", "y", "lengths", "chip", "seed", "progress", "checkpoint"])
def test_nonsense_is_refused_before_the_training(argument: str, monkeypatch: Any, tmp_path: Path) -> None:
    def begin(*_: Any, checkpoint: Any, **__: Any) -> None:
        if checkpoint is not None:
            path_text(checkpoint, call="train_classifier", what="checkpoint")
        raise Reached

    module = importlib.import_module("brainhw.recipe.train_classifier")
    monkeypatch.setattr(module, "fit", begin)
    monkeypatch.setattr(module, "fluct_init", lambda *_, **__: None)
    if argument not in ("x", "y", "lengths"):
        # Chosen once, because the recordings are always the same.
        choose = module.choose_teacher
        teachers: list[Any] = []

        def chosen(*given: Any) -> Any:
            if not teachers:
                teachers.append(choose(*given))
            return teachers[0]

        monkeypatch.setattr(module, "choose_teacher", chosen)
    monkeypatch.chdir(tmp_path)
    valid = {"x": X[:15], "y": Y[:15], "lengths": LENGTHS[:15], "progress": False}
    reached, refused = set(), {}
    for label, make in NONSENSE.items():
        try:
            bh.recipe.train_classifier(**{**valid, argument: make()})
        except Reached:
            reached.add(label)
        except (TypeError, ValueError, RuntimeError) as error:
            refused[label] = str(error)
    for label, text in refused.items():
        assert re.match(r"train_classifier: ", text), (label, text)
        assert "\n" not in text, label
    assert reached <= RIGHT.get(argument, set()), reached
