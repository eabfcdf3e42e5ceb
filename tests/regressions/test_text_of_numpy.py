"""Text taken out of a numpy array is a kind of str that pathlib of Python 3.11 refused: "can't intern numpy.str_"."""

from __future__ import annotations

from pathlib import Path

import brainstate
import brainunit as u
import numpy as np

import brainhw as bh


def test_names_and_patterns_of_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "beeps.csv").write_text("0,1")
    name, pattern = np.array(["beeps", "*.csv"])
    found = bh.data.locate(name, np.str_(tmp_path), marker=[pattern], how_to_get=np.str_("Record some beeps."))
    assert found == tmp_path
    assert bh.data.locate(name, extra=[np.str_(tmp_path)], marker=pattern, how_to_get="Record some.") == tmp_path


def test_paths_of_a_bundle(tmp_path: Path) -> None:
    weight = np.full((4, 4), 0.5, np.float32)
    synapse = bh.nn.H1v2Synapse(4, 4, weight_init=weight, weight_bits="chip")
    net = brainstate.nn.Sequential(synapse, bh.nn.H1v2Layer(4, tau=20.0 * u.ms))
    path = np.array([str(tmp_path / "net.bundle")])[0]
    with brainstate.environ.context(dt=1.0 * u.ms):
        bh.deploy.export_bundle(net, path)
        loaded = bh.deploy.load_bundle(path)
    assert [file.name for file in tmp_path.iterdir()] == ["net.bundle"]
    assert loaded.notes == ""
    assert loaded.placement.free == (46, 50, 100)
