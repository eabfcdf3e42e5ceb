"""Hostile files are refused at once: huge arrays, links, pipes, deep nesting, cycles."""

from __future__ import annotations

import os
import pathlib
import pickle
import time
import zipfile
from collections.abc import Callable

import brainunit as u
import h5py
import nir
import numpy as np
import pytest

from brainhw.interop.nir import NIRError, from_nir

DT = 1.0 * u.ms
TWO = np.ones(2)


def written(path: pathlib.Path) -> None:
    one = nir.LIF(tau=0.02 * TWO, r=TWO, v_leak=0 * TWO, v_threshold=TWO)
    nir.write(path, nir.NIRGraph.from_list(nir.Linear(weight=np.ones((2, 2))), one))


def spoilt(change: Callable[[h5py.File], None]) -> Callable[[pathlib.Path], None]:
    def make(path: pathlib.Path) -> None:
        written(path)
        with h5py.File(path, "a") as file:
            change(file)

    return make


def never_written(file: h5py.File) -> None:
    del file["node/nodes/linear/weight"]
    file.create_dataset("node/nodes/linear/weight", (10**7, 10**7), "f4", chunks=(1000, 1000))


def compressed(file: h5py.File) -> None:
    del file["node/nodes/linear/weight"]
    held = file.create_dataset("node/nodes/linear/weight", (2**15, 2**14), "f4", chunks=(256, 256), compression=9)
    held[:256, :256] = np.zeros((256, 256), np.float32)


def outside(file: h5py.File) -> None:
    del file["node/nodes/linear/weight"]
    file["node/nodes/linear/weight"] = h5py.ExternalLink("/etc/hostname", "/")


def raw_file(file: h5py.File) -> None:
    del file["node/nodes/linear/weight"]
    file.create_dataset("node/nodes/linear/weight", (2, 2), "u1", external=[("/etc/hostname", 0, 4)])


def soft(file: h5py.File) -> None:
    file["node/nodes/again"] = h5py.SoftLink("/node")


def inside_itself(file: h5py.File) -> None:
    file["node/nodes/again"] = file["node"]


def deep(file: h5py.File) -> None:
    group = file["node/nodes"]
    for _ in range(400):
        group = group.create_group("deep")


def zipped(path: pathlib.Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps({}))


HOSTILE = {
    "never written": (spoilt(never_written), r"declares arrays of 4e\+14 bytes, up to .*weight of shape \(10000000"),
    "compressed": (spoilt(compressed), r"declares arrays of 2\.15e\+09 bytes"),
    "external link": (spoilt(outside), r"contains a link at /node/nodes/linear/weight, which may"),
    "external numbers": (spoilt(raw_file), r"whose data are stored in another file"),
    "soft link": (spoilt(soft), r"contains a link at /node/nodes/again"),
    "cycle": (spoilt(inside_itself), r"in two places or inside itself"),
    "deep": (spoilt(deep), r"has groups nested more than \d+ levels"),
    "pipe": (os.mkfifo, r"is not a regular file"),
    "folder": (lambda path: path.mkdir(), r"is not a regular file"),
    "zip": (zipped, r"is a zip archive, such as torch\.save writes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_at_once(name: str, tmp_path) -> None:
    make, words = HOSTILE[name]
    path = tmp_path / "net.nir"
    make(path)
    start = time.monotonic()
    with pytest.raises(NIRError, match=words) as refusal:
        from_nir(path, dt=DT)
    # Not a measurement: a pipe would be waited for without end, and a huge array would fill the memory.
    assert time.monotonic() - start < 20
    assert len(refusal.value.problems) == 1


def test_a_sound_file_is_read(tmp_path) -> None:
    written(tmp_path / "net.nir")
    assert from_nir(tmp_path / "net.nir", dt=DT).in_size == (2,)


def test_small_arrays_with_huge_effects_are_refused() -> None:
    ends = [nir.Input({"input": np.array([10**9])}), nir.Output({"output": np.array([10**9])})]
    scalar = nir.Scale(scale=np.array(2.0))
    graph = nir.NIRGraph({"in": ends[0], "s": scalar, "out": ends[1]}, [("in", "s"), ("s", "out")], type_check=False)
    with pytest.raises(NIRError, match=r"s \(Scale\) has scalar parameters for 1000000000 neurons"):
        from_nir(graph, dt=DT)
    graph = nir.NIRGraph.from_list(nir.Delay(delay=np.array([1e9, 0.0])))
    with pytest.raises(NIRError, match=r"delay \(Delay\) delays 2 channels by up to 1e\+12 steps"):
        from_nir(graph, dt=DT)


def test_graphs_that_hold_themselves_or_are_nested_without_end_are_refused() -> None:
    one = nir.LIF(tau=0.02 * TWO, r=TWO, v_leak=0 * TWO, v_threshold=TWO)
    graph = nir.NIRGraph.from_list(one)
    graph.nodes["again"] = graph
    with pytest.raises(NIRError, match=r"again \(NIRGraph\) contains itself"):
        from_nir(graph, dt=DT)
    graph = nir.NIRGraph.from_list(one)
    for _ in range(80):
        ends = {"input": nir.Input({"input": np.array([2])}), "output": nir.Output({"output": np.array([2])})}
        graph = nir.NIRGraph({**ends, "g": graph}, [("input", "g"), ("g", "output")], type_check=False)
    with pytest.raises(NIRError, match=r"is nested more than 64 graphs deep"):
        from_nir(graph, dt=DT)
