"""Fractional layers under ``spikede_preset`` against numbers produced by running spikeDE (tests/golden/spikede)."""

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
from brainhw.nn.protocols import collect_taps

FOLDER = Path(__file__).parents[1] / "golden" / "spikede"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())["files"]
TRACES = sorted(name for name, about in MANIFEST.items() if "wrapper_kwargs" in about)
ORDER_ONE = "g08_alpha_equals_1.npz"
RECORD = ("n0.V", "n1.V", "n0.spk", "n1.spk")
LEARNT = {"alpha": "alpha", "coefficients": "coef"}


@functools.cache
def load(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(FOLDER / name) as arrays:
        return MANIFEST[name], dict(arrays)


class Net(brainstate.nn.Module):
    """Two dense maps, a fractional layer behind each."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        about, data = load(name)
        for i, neuron in enumerate(about["neuron"]["kwargs"]):
            orders = data.get(f"alpha{i}", np.ones(1, dtype=np.float32))
            layer = bh.nn.FractionalLIFLayer(
                data[f"W{i}_bias"].size,
                alpha=[float(order) for order in orders],
                coefficients=data.get(f"coef{i}"),
                tau=neuron["tau"] * u.ms,
                V_th=neuron["threshold"] * u.mV,
                learn_alpha="raw" if f"grad_alpha{i}" in data else False,
                learn_coefficients="raw" if f"grad_coef{i}" in data else False,
                **options,
            )
            setattr(self, f"n{i}", layer)
            setattr(self, f"W{i}", brainstate.ParamState(jnp.asarray(data[f"W{i}_weight"])))
            setattr(self, f"b{i}", brainstate.ParamState(jnp.asarray(data[f"W{i}_bias"])))

    def update(self, x: jax.Array) -> jax.Array:
        x = self.n0((x @ self.W0.value.T + self.b0.value) * u.mV)
        return self.n1((x @ self.W1.value.T + self.b1.value) * u.mV)

    def step_by_step(self, xs: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        return bh.rollout(self, xs, record=RECORD)

    def layer_by_layer(self, xs: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        self.init_all_states(xs.shape[1])
        with collect_taps() as tapped:
            spk = self.n0.update_sequence((xs @ self.W0.value.T + self.b0.value) * u.mV)
            out = self.n1.update_sequence((spk @ self.W1.value.T + self.b1.value) * u.mV)
        return out, {name: tapped[id(getattr(self, name[:2])), name[3:]] for name in RECORD}


def expected_name(path: tuple[str, ...]) -> str:
    """Return the name in the file of the gradient of a parameter of :class:`Net`."""
    owner, i = path[0][0], path[0][1]
    if owner == "n":
        return f"grad_{LEARNT[path[1]]}{i}"
    return f"grad_W{i}_{'weight' if owner == 'W' else 'bias'}"


def check_layers(data: dict[str, np.ndarray], seen: dict[str, Any], prefix: str = "") -> None:
    for i in range(2):
        np.testing.assert_array_equal(seen[f"n{i}.spk"], data[f"{prefix}s{i}"], err_msg=f"layer {i}")
        # Theirs is recorded before the step and starts at rest, ours after it.
        expected = data[f"{prefix}v{i}"]
        assert not expected[0].any()
        np.testing.assert_allclose(
            seen[f"n{i}.V"].to(u.mV).mantissa[:-1], expected[1:], rtol=0, atol=2e-5, err_msg=f"layer {i}"
        )


# With every past step the nets run step by step, with leaky sums layer by layer, which has a backward pass of its own.
@pytest.mark.parametrize("kernel", ["dense", "soe"])
@pytest.mark.parametrize("name", TRACES)
def test_every_trace_and_every_gradient(name: str, kernel: str) -> None:
    about, data = load(name)
    memory = about["options"].get("memory")
    if kernel == "soe" and memory is not None:
        pytest.skip("exponentials cannot cut the past off, and the layer says so")
    n_steps = len(data["x"])
    dense = {"memory": memory, "horizon": None if memory else n_steps}
    options = {"method": about["method"], "kernel": kernel, **(dense if kernel == "dense" else {})}
    net = Net(name, **options, **bh.nn.spikede_preset())

    def loss(x: jax.Array) -> tuple[jax.Array, Any]:
        out, seen = net.step_by_step(x) if kernel == "dense" else net.layer_by_layer(x)
        return jnp.sum(out * data["R"]), (out, seen)

    gradient = brainstate.transform.grad(loss, net.states(brainstate.ParamState), argnums=0, has_aux=True)
    with brainstate.environ.context(dt=float(data["h"]) * u.ms):
        (grads, of_x), (out, seen) = brainstate.transform.jit(gradient)(jnp.asarray(data["x"]))

    np.testing.assert_array_equal(out, data["out"])
    check_layers(data, seen)
    for i, inputs in enumerate((data["x"], seen["n0.spk"])):
        neuron = about["neuron"]["kwargs"][i]
        v = np.concatenate([np.zeros_like(data[f"v{i}"][:1]), seen[f"n{i}.V"].to(u.mV).mantissa[:-1]])
        drive = inputs @ data[f"W{i}_weight"].T + data[f"W{i}_bias"]
        rate = (drive - v - neuron["threshold"] * seen[f"n{i}.spk"]) / neuron["tau"]
        np.testing.assert_allclose(rate, data[f"f{i}"], rtol=0, atol=2e-5, err_msg=f"layer {i}")

    found = {expected_name(path): u.get_mantissa(value) for path, value in grads.items()} | {"grad_x": of_x}
    expected = {key: value for key, value in data.items() if key.startswith("grad_")}
    assert found.keys() == expected.keys()
    for key, reference in expected.items():
        worst = np.abs(found[key] - reference).max()
        assert worst <= 1e-3 * np.abs(reference).max(), f"{key}: {worst / np.abs(reference).max():.2e}"


@pytest.mark.parametrize("kernel", ["dense", "soe"])
@pytest.mark.parametrize(
    ("method", "rule"),
    [("gl", "spikede"), ("pred", "spikede"), ("l1", "spikede"), ("trap", "spikede"), ("l1", "exact")],
)
def test_order_one(method: str, rule: str, kernel: str) -> None:
    # At order 1 spikeDE's l1 and trap forget everything. Without that rule they are Euler's, as the others always are.
    _, data = load(ORDER_ONE)
    horizon = len(data["x"]) if kernel == "dense" else None
    preset = bh.nn.spikede_preset() | {"alpha_rule": rule}
    net = Net(ORDER_ONE, method=method, kernel=kernel, horizon=horizon, **preset)
    with brainstate.environ.context(dt=float(data["h"]) * u.ms):
        _, seen = net.layer_by_layer(jnp.asarray(data["x"]))
    check_layers(data, seen, f"{method}_" if rule == "spikede" else "euler_")
    same = all((data[f"{method}_{array}"] == data[f"euler_{array}"]).all() for array in ("v0", "v1", "s0", "s1"))
    assert same == (method in ("gl", "pred"))


def test_step_of_the_files_is_the_spacing_of_their_times() -> None:
    for name in [*TRACES, ORDER_ONE]:
        _, data = load(name)
        times = data["x_time"]
        assert data["h"] == (times[-1] + (times[1] - times[0])) - times[-1]
        np.testing.assert_array_equal(data.get("t_eval", times), times)


def test_nothing_of_the_golden_folder_is_left_out() -> None:
    on_disk = {file.name for file in FOLDER.glob("*.npz")}
    assert on_disk == set(MANIFEST)
    # The last two belong to tests/kernel.
    assert on_disk == {*TRACES, ORDER_ONE, "g09_relaxation_float64.npz", "g10_weights_float64.npz"}
