"""Files for nir 1.0.4: only the fields that it takes, the same network."""

from __future__ import annotations

import brainstate
import brainunit as u
import h5py
import nir
import numpy as np
import pytest

import brainhw as bh
from brainhw.interop.nir import NIRError, from_nir, to_nir

DT = 1.0 * u.ms
XS = (np.random.default_rng(5).random((80, 5)) < 0.4).astype(np.float32)
# The arguments of the constructors of nir 1.0.4, which takes no others from a file; Input and Output are read by shape.
TAKEN = {
    "Affine": {"weight", "bias"},
    "LIF": {"tau", "r", "v_leak", "v_threshold"},
    "IF": {"r", "v_threshold"},
    "CubaLIF": {"tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "w_in"},
    "LI": {"tau", "r", "v_leak"},
    "Scale": {"scale"},
    "Input": {"shape"},
    "Output": {"shape"},
}


def weights(*shape: int, seed: int = 0, mean: float = 0.3) -> u.Quantity:
    return np.random.default_rng(seed).normal(mean, 0.5, shape).astype(np.float32) * u.mV


def net(cuba: bool) -> brainstate.nn.Sequential:
    recurrent = weights(4, 4, seed=3, mean=0.0)
    if cuba:
        layer = bh.nn.CubaLIFLayer(4, tau_mem=20 * u.ms, tau_syn=6 * u.ms, max_spikes_per_step=1, w_rec=0.1 * recurrent)
    else:
        layer = bh.nn.LIFLayer(4, tau=20.0 * u.ms, reset="zero", topology="RC", recurrent_init=recurrent)
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(5, 4, weight_init=weights(5, 4)),
        layer,
        bh.nn.LeakyReadout(4, 3, tau=9.0 * u.ms, weight_init=weights(4, 3, seed=1).mantissa),
    )


@pytest.mark.parametrize("cuba", [False, True])
def test_a_file_for_an_old_reader_has_the_fields_that_it_takes(cuba: bool, tmp_path) -> None:
    options = {"cuba_order": "current-first", "reset": "continuous"} if cuba else {}
    graph = to_nir(net(cuba), dt=DT, compatible="1.0.4", **options)
    nir.write(tmp_path / "old.nir", graph)
    with h5py.File(tmp_path / "old.nir") as file:
        assert set(file["node"]) == {"nodes", "edges", "type"}
        for name, node in file["node/nodes"].items():
            kind = node["type"][()].decode()
            assert set(node) - {"type"} == TAKEN[kind], name
    read = {"reset": "subtract", "cuba_order": "current-first"} if cuba else {}
    back = from_nir(tmp_path / "old.nir", dt=DT, **read)
    ys = np.asarray(bh.rollout(net(cuba), XS)[0])
    assert np.abs(ys).max() > 0.1
    np.testing.assert_allclose(bh.rollout(back, XS)[0], ys, rtol=1e-5, atol=1e-6)


def test_a_node_that_is_newer_is_named() -> None:
    one = np.ones(2)
    node = nir.CubaLI(tau_syn=5e-3 * one, tau_mem=1e-2 * one, r=one, w_in=one, v_leak=0 * one)
    imported = from_nir(nir.NIRGraph.from_list(node), dt=DT)
    with pytest.raises(NIRError, match=r"cubali \(CubaLI\) is not supported by nir 1\.0\.4"):
        to_nir(imported, dt=DT, compatible="1.0.4")
