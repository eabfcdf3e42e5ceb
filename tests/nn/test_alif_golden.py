"""ALIFLayer and CubaLIFLayer against numbers produced by running Rockpool (tests/golden/rockpool)."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

FOLDER = Path(__file__).parents[1] / "golden" / "rockpool"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())["files"]
TRACES = sorted(name for name in MANIFEST if name != "surrogate_tables.npz")
OURS = {"tau_mem": u.second, "tau_syn": u.second, "tau_ahp": u.second, "bias": u.mV, "V_th": u.mV, "w_ahp": u.mV}
THEIRS = {"V": "vmem", "I_syn": "isyn", "irec": "irec", "I_ahp": "iahp"}


@functools.cache
def load(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(FOLDER / name) as arrays:
        return MANIFEST[name], dict(arrays)


def time_first(x: np.ndarray) -> np.ndarray:
    return np.swapaxes(x, 0, 1)


def build(name: str, *, stored_decays: bool) -> bh.nn.CubaLIFLayer:
    """Return the layer with every parameter learnable, or with the decays of the file."""
    about, data = load(name)
    adaptive = about["cls"] == "aLIFTorch"
    given = {ours: data.get(f"param_{'threshold' if ours == 'V_th' else ours}") for ours in OURS}
    arguments = {
        ours: brainstate.nn.Param(jnp.asarray(value) * OURS[ours])
        for ours, value in given.items()
        if value is not None and not (stored_decays and ours.startswith("tau"))
    }
    if stored_decays:
        arguments |= {"leak": "decays", "alpha": data["decay_alpha"], "beta": data["decay_beta"]}
        arguments |= {"gamma": data["decay_gamma"]} if adaptive else {}
    return (bh.nn.ALIFLayer if adaptive else bh.nn.CubaLIFLayer)(
        about["N"],
        about["S"],
        w_rec=data["param_w_rec"] * u.mV if about["has_rec"] else None,
        spk_fun=getattr(bh.surrogate, about["spike_fn"])(about["learning_window"]),
        max_spikes_per_step=int(about["max_spikes_per_dt"]),
        **arguments,
    )


def run(layer: bh.nn.CubaLIFLayer, name: str, x: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
    """Return the spikes and what was recorded, from the initial state of the file."""
    about, data = load(name)
    layer.reset_state(about["B"])
    for ours, theirs in {**THEIRS, "spk": "spikes"}.items():
        if f"init_{theirs}" in data:
            state = getattr(layer, ours)
            value = jnp.broadcast_to(data[f"init_{theirs}"], state.value.shape)
            state.value = value if ours == "spk" else value * u.mV
    names = [f".{ours}" for ours, theirs in THEIRS.items() if f"rec_{theirs}" in data]
    spikes, seen = bh.rollout(layer, x * u.mV, record=names, prepare=False)
    return spikes, {record[1:]: value.to(u.mV).mantissa for record, value in seen.items()}


@pytest.mark.parametrize("stored_decays", [True, False], ids=["stored decays", "own exp"])
@pytest.mark.parametrize("name", TRACES)
def test_every_trace(name: str, stored_decays: bool) -> None:
    about, data = load(name)
    layer = build(name, stored_decays=stored_decays)
    layer.reset_state(about["B"])
    spikes, seen = brainstate.transform.jit(lambda x: run(layer, name, x))(jnp.asarray(time_first(data["input"])))
    np.testing.assert_array_equal(spikes, time_first(data["out_spikes"]))
    atol = 1e-5 if stored_decays else (2e-4 if name == "lif_multispike.npz" else 6e-5)
    for ours, theirs in THEIRS.items():
        if f"rec_{theirs}" in data:
            np.testing.assert_allclose(seen[ours], time_first(data[f"rec_{theirs}"]), rtol=0, atol=atol, err_msg=ours)
            if theirs != "irec":  # no state; Rockpool keeps the state of the first sample of a batch only
                final = getattr(layer, ours).value[0].to(u.mV).mantissa
                np.testing.assert_allclose(final, data[f"final_{theirs}"], rtol=0, atol=atol, err_msg=ours)
    np.testing.assert_array_equal(layer.spk.value[0], data["final_spikes"])


@pytest.mark.parametrize("loss", ["V", "S", "A"])
@pytest.mark.parametrize("name", TRACES)
def test_gradients_of_every_parameter_and_the_input(name: str, loss: str) -> None:
    about, data = load(name)
    if f"loss{loss}" not in data:
        pytest.skip("this module has no after-hyperpolarisation")
    layer = build(name, stored_decays=False)
    layer.reset_state(about["B"])

    def value(x: jax.Array) -> jax.Array:
        spikes, seen = run(layer, name, x)
        if loss == "V":
            return jnp.sum(seen["V"] ** 2)
        if loss == "S":
            return jnp.sum(spikes * time_first(data["R_spikes"]))
        return jnp.sum(seen["I_ahp"] * time_first(data["R_iahp"]))

    parameters = layer.states(brainstate.ParamState)
    gradient = brainstate.transform.grad(value, parameters, argnums=0, return_value=True)
    (grads, of_input), total = brainstate.transform.jit(gradient)(jnp.asarray(time_first(data["input"])))
    assert float(total) == pytest.approx(float(data[f"loss{loss}"]), rel=1e-4, abs=1e-4)
    rockpool = {"V_th": "threshold", "recurrent_weight": "w_rec"}
    found = {rockpool.get(path[0], path[0]): u.get_mantissa(g) for path, g in grads.items()}
    found["input"] = time_first(np.asarray(of_input))
    expected = {key.removeprefix(f"grad{loss}_"): g for key, g in data.items() if key.startswith(f"grad{loss}_")}
    assert found.keys() == expected.keys()
    rtol = 5e-4 if name == "lif_multispike.npz" else 1e-4
    for key, reference in expected.items():
        worst = np.abs(np.reshape(found[key], reference.shape) - reference).max()
        assert worst <= rtol * np.abs(reference).max(), f"{key}: {worst / np.abs(reference).max():.2e}"


def test_nothing_of_the_golden_folder_is_left_out() -> None:
    on_disk = {file.name for file in FOLDER.glob("*.npz")}
    assert on_disk == set(MANIFEST)
    assert {"alif_init_state.npz", "alif_rec_2syn.npz"} < on_disk
