"""Input and output files of a bench: what the docs say stands in them, and what else is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from silicon_programs import program_of

from brainhw.silicon import Recording
from brainhw.silicon.bench_files import read_output, write_input

SHAPE, RUN = (4, 2), 2**53 - 1
SPIKES = "layer0,0,0,0\nlayer0,3,1,11\nlayer1,2,0,5\n"


def test_the_input_is_what_was_given(tmp_path: Path) -> None:
    x = (np.random.default_rng(0).random((5, 3, 4)) - 0.7).astype(np.float32).clip(0)
    for files in ("npz", "csv"):
        write_input(tmp_path, x, RUN, files=files, call="test")
    with np.load(tmp_path / "input.npz") as held:
        assert set(held.files) == {"x", "run"}
        assert np.array_equal(held["x"], x)
        assert (held["x"].dtype.str, held["run"].dtype.str, int(held["run"])) == ("<f4", "<i8", RUN)
    top = json.loads((tmp_path / "input.json").read_text())
    assert top == {"run": RUN, "steps": 5, "samples": 3, "channels": 4}
    header, *rows = (tmp_path / "input.csv").read_text().splitlines()
    assert header == "step,sample,channel,value"
    again = np.zeros_like(x)
    for row in rows:
        *at, value = row.split(",")
        again[tuple(map(int, at))] = value
    assert np.array_equal(again, x)
    assert len(rows) == np.count_nonzero(x)


def left(folder: Path, spikes: str = SPIKES, membranes: str | None = None, rows: int = 0, **top: Any) -> Recording:
    (folder / "spikes.csv").write_text(f"layer,step,sample,neuron\n{spikes}")
    n_rows = 0
    if membranes is not None:
        (folder / "membranes.csv").write_text(f"layer,step,sample,neuron,V_mV\n{membranes}")
        n_rows = len(membranes.splitlines())
    counts = {"run": RUN, "spikes": rows or len(spikes.splitlines()), "membranes": n_rows, **top}
    (folder / "output.json").write_text(json.dumps({key: one for key, one in counts.items() if one != "gone"}))
    return read_output(folder, program_of()[1], SHAPE, RUN, files="csv")


def test_tables_of_spikes_and_membranes_become_a_recording(tmp_path: Path) -> None:
    found = left(tmp_path)
    assert [tuple(map(int, at)) for at in np.argwhere(found.spikes["layer0"])] == [(0, 0, 0), (3, 1, 11)]
    assert [tuple(map(int, at)) for at in np.argwhere(found.spikes["layer1"])] == [(2, 0, 5)]
    assert not found.membranes
    every = [f"layer1,{t},{b},{n},{t + n / 8}\n" for t in range(4) for b in range(2) for n in range(6)]
    found = left(tmp_path, membranes="".join(reversed(every)))
    expected = np.arange(4)[:, None, None] + np.arange(6) / 8
    assert np.array_equal(found.membranes["layer1"].mantissa, np.broadcast_to(expected, (4, 2, 6)))
    assert left(tmp_path, spikes="", membranes="".join(every)).spikes["layer0"].sum() == 0


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    blank = SPIKES.replace("\n", "\n\n", 1) + "\n  \n,,,\n"
    found = left(tmp_path, spikes=blank, rows=3)
    assert found.spikes["layer0"].sum() == 2
    with pytest.raises(ValueError, match="line 4: layer 'layer7' does not exist"):
        left(tmp_path, spikes="layer0,0,0,0\n\nlayer7,0,0,0\n")


def test_other_ends_of_lines(tmp_path: Path) -> None:
    left(tmp_path)
    for end in ("\r", "\r\n"):
        text = ("layer,step,sample,neuron\n" + SPIKES).replace("\n", end)
        (tmp_path / "spikes.csv").write_bytes(text.encode())
        found = read_output(tmp_path, program_of()[1], SHAPE, RUN, files="csv")
        assert found.spikes["layer0"].sum() == 2


SLIPS: list[tuple[dict[str, Any], str]] = [
    ({"run": 3}, "output.json: run must be 9007199254740991, the run number in the input; got 3"),
    ({"run": "gone"}, "output.json must have exactly the keys run, spikes and membranes"),
    ({"rows": 4}, "spikes.csv must have 4 rows, as given in output.json; got 3"),
    ({"spikes": "layer0,0,0,0\nlayer0,3,1\n"}, "line 3: expected 4 values; got 3"),
    ({"spikes": "layer7,0,0,0\n"}, "line 2: layer 'layer7' does not exist; expected one of layer0, layer1"),
    ({"spikes": "layer0,4,0,0\n"}, r"step, sample and neuron must .* less than \(4, 2, 12\); got \(4, 0, 0\)"),
    ({"spikes": "layer0,0,0,-1\n"}, r"neuron must be at least 0 .* got \(0, 0, -1\)"),
    ({"spikes": "layer0,0,0,1.0\n"}, "line 2: neuron must be an integer; got '1.0'"),
    ({"spikes": "layer0,0,0,0\nlayer0,0,0,0\n"}, "line 3: this spike of layer 'layer0' appears twice"),
    ({"membranes": "layer1,0,0,0,nan\n"}, "line 2: V_mV must be a finite number; got 'nan'"),
    ({"membranes": "layer1,0,0,0,1\n"}, "'layer1' must be finite in float32; got nan mV at step 0, sample 0, neuron 1"),
    ({"membranes": "layer1,0,0,0,1\nlayer1,0,0,0,1\n"}, "line 3: this membrane potential of 'layer1' appears twice"),
]


@pytest.mark.parametrize(("given", "words"), SLIPS, ids=range(len(SLIPS)))
def test_a_slip_in_a_table_is_named(given: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        left(tmp_path, **given)


def without(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("output.json"), "the command wrote no output.json"),
        (without("spikes.csv"), "spikes.csv cannot be read: No such file"),
        (lambda folder: (folder / "output.json").write_text('{"run": 1'), "output.json is corrupted"),
        (lambda folder: (folder / "output.json").write_text("[]"), "output.json must have exactly the keys"),
        (lambda folder: (folder / "spikes.csv").write_text("layer,t,b,n\n"), "columns layer,step,sample,neuron"),
        (lambda folder: (folder / "spikes.csv").write_bytes(b"\xff\xfe"), "spikes.csv is not UTF-8 text"),
        (lambda folder: (folder / "spikes.csv").write_text(""), "got an empty file"),
    ],
    ids=range(7),
)
def test_a_file_that_lacks_or_is_something_else_is_named(change: Any, words: str, tmp_path: Path) -> None:
    left(tmp_path)
    change(tmp_path)
    with pytest.raises(ValueError, match=words):
        read_output(tmp_path, program_of()[1], SHAPE, RUN, files="csv")
