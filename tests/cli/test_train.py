"""The command that trains: what it shows and writes, the stage before the chip in `run`, and refusals."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import brainunit as u
import numpy as np
import pytest
from recipe_sets import recordings

import brainhw as bh
from brainhw._plain_json import parse_json
from brainhw.cli import main
from brainhw.cli.schema import SCHEMA
from brainhw.cli.train import _check_test


@pytest.fixture(scope="module")
def home(tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("train")
    for name, n, seed in (("train", 36, 1), ("test", 18, 2)):
        x, y, lengths = recordings(n, seed)
        np.savez(folder / f"{name}.npz", x=x, y=y, lengths=lengths)
    return folder


def test_labels_of_both_files_are_compared_by_name() -> None:
    x, names = np.zeros((3, 2)), np.array(["a", "b", "c"])
    for y, y_test in ((names.astype("S"), names), (names, names.astype("S"))):
        _check_test(x, y, x, y_test, "test.npz", "train")
    with pytest.raises(ValueError, match=r"^train: 1 of 3 recordings of --test 'test.npz' .* the first '7'"):
        _check_test(x, np.arange(3), x, np.array([0, 1, 7]), "test.npz", "train")


@pytest.fixture(scope="module")
def flawed(tmp_path_factory: Any) -> Path:
    """A folder with valid recordings and with files that the command refuses."""
    folder = tmp_path_factory.mktemp("flawed")
    x, y, lengths = recordings(36, 1)
    fourth = np.arange(36)[:, None, None] == 4
    for name in ("train", "test"):
        np.savez(folder / f"{name}.npz", x=x, y=y, lengths=lengths)
    np.savez(folder / "labels.npz", x=x, y=y[:5])
    np.savez(folder / "other.npz", x=x, y=np.where(y == "rise", "quake", y))
    np.savez(folder / "wide.npz", x=x[..., :1], y=y)
    np.savez(folder / "flat.npz", x=x[:, 0, 0], y=y)
    np.savez(folder / "near.npz", x=x, y=np.where(y == "rise", "Rise", y))
    np.savez(folder / "nan.npz", x=np.where(fourth, np.nan, x), y=y)
    np.savez(folder / "long.npz", x=x, y=y, lengths=lengths + 30)
    np.savez(folder / "objects.npz", x=x, y=np.array(["a", 1] * 18, object))
    np.savez(folder / "reals.npz", x=x, y=np.full(36, 0.5))
    np.savez(folder / "lost.npz", x=x, y=np.where(np.arange(36) == 3, np.nan, 1.0))
    np.savez(folder / "one.npz", x=x, y=np.ones(36), lengths=lengths)
    np.savez(folder / "table.npz", x=x[:, 0], y=y, lengths=np.full(36, 3))
    np.save(folder / "x.npy", x)
    np.savez(folder / "alone.npz", x=x)
    np.savez(folder / "one_hot.npz", x=x, y=np.eye(36))
    np.savez(folder / "column.npz", x=x, y=y[:, None])
    np.savez(folder / "empty.npz", x=x[:0], y=y[:0])
    np.savez(folder / "text.npz", x=x.astype(str), y=y)
    np.savez(folder / "huge.npz", x=np.where(fourth, 1e300, x.astype(float)), y=y)
    np.savez(folder / "tiny.npz", x=x.astype(float) * 1e-300, y=y)
    (folder / "table.csv").write_text("a,b,class\n1,2,x\n")
    return folder


@pytest.mark.slow
def test_train_then_run(home: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(home)
    assert main(["train", "train.npz", "--test", "test.npz", "--out", "mine"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"36 recordings of \d+ to 30 steps and 2 channels, 3 classes", shown)
    assert "not saved" not in shown
    assert "swing" in shown
    accuracy = shown.splitlines()[0].removesuffix(" on 'test.npz'")
    assert re.fullmatch(r"accuracy [\d.]+% \(\d+ of 18\)", accuracy)
    assert sorted(file.name for file in home.iterdir()) == ["mine.bundle", "mine.encoding", "test.npz", "train.npz"]
    assert main(["run", "mine.bundle", "test.npz", "--encoding", "mine.encoding"]) == 0
    again = capsys.readouterr().out
    assert again.splitlines()[0] == accuracy
    assert "swing" in again
    assert main(["run", "mine.bundle", "test.npz", "--encoding", "mine.bundle"]) == 1
    assert "mine.bundle" in capsys.readouterr().err
    assert main(["power", "mine.bundle", "test.npz", "--encoding", "mine.encoding"]) == 0
    energy = capsys.readouterr().out
    assert re.match(r"energy [\d.]+ uJ per inference", energy)
    chip = bh.chip.H1V2
    tau = np.full((len(chip.tau_profiles.values.mantissa), chip.n_neurons), np.nan) * u.ms
    bh.silicon.MeasuredChip(chip, tau, np.full(chip.n_neurons, np.nan) * u.mV).save("same.chip")
    words = ["compare", "mine.bundle", "same.chip", "test.npz"]
    assert main([*words, "--encoding", "mine.encoding"]) == 0
    assert capsys.readouterr().out.startswith(accuracy.split(" (")[0].replace("accuracy ", "accuracy: model "))
    assert main(words) == 1
    assert "Pass --encoding FILE" in capsys.readouterr().err
    Path("same.chip").unlink()
    with np.load("test.npz") as held:
        np.savez("strange.npz", x=held["x"], y=np.array(["quake"] * 18), lengths=held["lengths"])
    assert main(["run", "mine.bundle", "strange.npz", "--encoding", "mine.encoding"]) == 1
    assert "'quake' is unknown. Remove the recordings of other classes" in capsys.readouterr().err
    # Classes have no influence on the power.
    assert main(["power", "mine.bundle", "strange.npz", "--encoding", "mine.encoding"]) == 0
    assert capsys.readouterr().out == energy
    Path("strange.npz").unlink()
    with np.load("test.npz") as held:
        np.savez("misspelt.npz", x=held["x"], length=held["lengths"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main(["run", "mine.bundle", "misspelt.npz", "--encoding", "mine.encoding"]) == 0
    told = "\n".join(str(one.message) for one in caught)
    assert "contains the array 'length', which is not used (did you mean 'lengths'?)" in told
    assert re.search(
        r"^run: in 'misspelt.npz', \d+ of 18 recordings end with up to \d+ equal steps, which are used as data because",
        told,
        re.MULTILINE,
    )
    shown = capsys.readouterr().out
    assert all(re.search(rf"^ *{name} +\d+ *$", shown, re.MULTILINE) for name in ("fall", "rise", "swing"))
    Path("misspelt.npz").unlink()
    assert main(["info", "mine.bundle"]) == 0
    assert "classes     fall, rise, swing\n" in capsys.readouterr().out
    assert main(["info", "mine"]) == 1
    assert "(did you mean 'mine.bundle'?)" in capsys.readouterr().err
    assert main(["power", "mine.bundle", "test.npz"]) == 1
    assert "--encoding FILE" in capsys.readouterr().err
    x, y, _ = recordings(18, 2)
    np.savez("whole.npz", x=x, y=y)
    with pytest.warns(UserWarning, match="recordings end with up to"):
        assert main(["train", "train.npz", "--test", "whole.npz", "--json"]) == 0
    out, err = capsys.readouterr()
    document = parse_json(out)
    assert all(any(key.partition("[")[0] == name for key in SCHEMA["train"]) for name in document)
    assert (document["recordings"], document["samples"], document["tested_on"]) == (36, 18, "whole.npz")
    assert document["accuracy"] == document["right"] / 18
    assert document["warnings"][0].startswith("'whole.npz' has no `lengths`")
    assert "warning: 'whole.npz' has no `lengths`" in err
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main(["train", "whole.npz"]) == 0
    # The report is on the same recordings and does not warn again.
    assert sum("recordings end with up to" in str(one.message) for one in caught) == 1
    (home / "whole.npz").unlink()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["nowhere.npz"], "does not exist"),
        (["train.npz", "--chip", "h9"], "h9"),
        (["train.npz", "--test", "nowhere.npz"], "nowhere.npz"),
        (
            ["train.npz", "--test", "other.npz"],
            "12 of 36 recordings of --test 'other.npz' have a class that is not in DATA, the first 'quake'. Correct",
        ),
        (["train.npz", "--test", "near.npz"], "is not in DATA, the first 'Rise' (did you mean 'rise'?). Correct"),
        (
            ["train.npz", "--test", "wide.npz"],
            "--test 'wide.npz' have shape (36, 30, 1), but the recordings of DATA have shape (36, 30, 2)",
        ),
        (["labels.npz"], "labels of 'labels.npz' must be names or integers of shape (36,)"),
        (["flat.npz"], "must be a numeric array [recordings, steps, channels]"),
        (
            ["nan.npz"],
            "of 'nan.npz' contains 60 NaN or infinite value(s), the first in recording 4 (counted from 0). Replace",
        ),
        (["long.npz"], "steps, the size of `x`; got 52 for recording 0 (counted from 0)"),
        (["train.npz", "--out", "no/such/folder/x"], "no/such/folder"),
        (["train.npz", "--out", ""], "--out must be a file name without an extension, such as digits; got ''"),
        (["train.npz", "--out", ".."], "--out must be a file name without an extension, such as digits; got '..'"),
        (["train.npz", "--out", " "], "--out must be a file name without an extension, such as digits; got ' '"),
        (["train.npz", "--out", "./"], "--out must be a file name without an extension, such as digits; got './'"),
        (["objects.npz"], "labels of 'objects.npz' cannot be read: the array contains Python objects"),
        (["train.npz", "--chip", "h1v3"], "train: chip must be one of 'h1v1', 'h1v2'"),
        (["x.npy"], "has no array 'y'; it contains one array without a name. Save the recordings and their classes"),
        (["alone.npz"], "has no array 'y'; it contains 'x'. Save the recordings and their classes together: np.savez("),
        (["one_hot.npz"], "If the labels are one-hot, save y.argmax(axis=1)"),
        (["column.npz"], "Save y.ravel()"),
        (["empty.npz"], "The array is empty. Check the code that saved it"),
        (["text.npz"], "Convert text to numbers: x.astype(float)"),
        (
            ["huge.npz"],
            "the largest absolute value of the data of 'huge.npz' must be between 1e-100 and 1e+100, or be 0; got "
            "1e+300 in recording 4 (counted from 0). Correct",
        ),
        (["tiny.npz"], "the largest absolute value of the data of 'tiny.npz' must be between 1e-100 and 1e+100"),
        (["reals.npz"], "36 of 36 are not. The first is 0.5. A classifier requires classes"),
        (["lost.npz"], "1 of 36 are not. The first is nan. Remove the recordings without a label"),
        (["one.npz"], "y must contain 2 to 100 classes for H1v2 with 200 neurons; got 1. Add recordings of a second"),
        (
            ["table.npz"],
            "lengths of 'table.npz' are 3 to 3 steps, but `x` of shape [recordings, features] has no time steps",
        ),
        (["table.csv"], "Convert a text table first"),
    ],
)
def test_bad_words_and_files_are_one_line(
    flawed: Path, capsys: Any, monkeypatch: Any, words: list[str], match: str
) -> None:
    monkeypatch.chdir(flawed)
    assert main(["train", *words]) == 1
    error = capsys.readouterr().err
    assert match in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
