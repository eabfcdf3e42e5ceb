"""Spikes of networks from state dicts equal those of the libraries, from golden files and, where installed, live."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh
from benchmarks import state_dicts as peers

GOLDEN = Path(__file__).parents[2] / "golden" / "state_dicts" / "spikes.npz"
SHAPE = (40, 4)
# What the state dict does not hold, as benchmarks/state_dicts.py told the libraries.
QUICK = {"tau_mem_inv": 300.0, "tau_syn_inv": 120.0, "v_th": 0.6}
TOLD: dict[str, dict[str, dict[str, Any]]] = {
    "snntorch": {
        **{
            f"{kind} {reset}": {}
            for kind in ("Leaky", "RLeaky", "Synaptic", "RSynaptic")
            for reset in ("subtract", "zero", "none")
        },
        **{
            f"{kind} {reset} at once": {"reset_delay": False}
            for kind in ("Leaky", "RLeaky", "Synaptic")
            for reset in ("subtract", "zero")
        },
        "Leaky leaks": {"reset_delay": False},
    },
    "norse": {
        "LIFCell": {"kind": "LIFCell"},
        "LIFCell quick": {"kind": "LIFCell", **QUICK},
        "LIFCell away from zero": {"kind": "LIFCell", "v_leak": -0.5, "v_reset": -0.5, "v_th": 0.3},
        "LIFRecurrentCell": {"kind": "LIFRecurrentCell", **QUICK},
        "LIFBoxCell": {"kind": "LIFBoxCell", "v_th": 0.3},
        "LIFBoxCell subtract": {"kind": "LIFBoxCell", "v_th": 0.3, "reset_method": "subtract"},
    },
    "spikingjelly": {
        "LIFNode": {"kind": "LIFNode"},
        "LIFNode soft": {"kind": "LIFNode", "v_reset": None, "tau": 3.0},
        "LIFNode whole input": {"kind": "LIFNode", "decay_input": False, "tau": 5.0},
        "LIFNode away from zero": {"kind": "LIFNode", "v_reset": -0.3, "v_threshold": 0.7},
        "IFNode": {"kind": "IFNode"},
        "IFNode soft": {"kind": "IFNode", "v_reset": None},
        "ParametricLIFNode": {"kind": "ParametricLIFNode", "v_threshold": 0.5},
    },
}
CASES = [(library, name) for library, sets in TOLD.items() for name in sets]


@functools.cache
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN, allow_pickle=False) as stored:
        return dict(stored)


def state_of(at: str) -> dict[str, np.ndarray]:
    prefix = f"{at}/state/"
    return {key.removeprefix(prefix): value for key, value in golden().items() if key.startswith(prefix)}


def bits(at: str, n: int) -> np.ndarray:
    return np.unpackbits(golden()[at])[: SHAPE[0] * SHAPE[1] * n].reshape(*SHAPE, n).astype(np.float32)


def test_every_golden_net_is_compared() -> None:
    assert {tuple(key.split("/")[:2]) for key in golden()} == set(CASES)


@pytest.mark.parametrize(("library", "name"), CASES)
def test_the_spikes_are_those_of_the_library(library: str, name: str) -> None:
    at = f"{library}/{name}"
    net = peers.read(library, TOLD[library][name], state_of(at))
    spikes = bits(f"{at}/spikes", peers.N_OUT)
    assert 0.004 < spikes.mean() < 0.6
    with brainstate.environ.context(dt=1 * u.ms):
        mine, _ = bh.rollout(net, bits(f"{at}/x", peers.N_IN))
    np.testing.assert_array_equal(mine, spikes)


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("snntorch", "Synaptic subtract"),
        ("snntorch", "RSynaptic zero"),
        ("norse", "LIFCell"),
        ("snntorch", "RLeaky zero"),
    ],
)
def test_layer_by_layer_is_step_by_step(library: str, name: str) -> None:
    at = f"{library}/{name}"
    net = peers.read(library, TOLD[library][name], state_of(at))
    x = bits(f"{at}/x", peers.N_IN)
    with brainstate.environ.context(dt=1 * u.ms):
        fast, seen = bh.rollout(net, x, record=("lif1.V",))
        slow, steps = bh.rollout(net, x, record=("lif1.V",), layerwise=False)
    np.testing.assert_array_equal(fast, slow)
    np.testing.assert_allclose(seen["lif1.V"].mantissa, steps["lif1.V"].mantissa, atol=1e-5)


@pytest.mark.parametrize("library", TOLD)
def test_the_spikes_are_those_of_the_installed_library(library: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip(library)
    for _, told, arrays, x, spikes in peers.cases(library, 30, 2, coarse=False):
        with brainstate.environ.context(dt=1 * u.ms):
            mine, _ = bh.rollout(peers.read(library, told, arrays), x)
        np.testing.assert_array_equal(mine, spikes)


def leaky(beta: Any, **changed: Any) -> dict[str, Any]:
    return {
        "fc.weight": np.ones((len(np.ravel(beta)), 1)), "lif.beta": beta, "lif.threshold": 1.0,
        "lif.reset_mechanism_val": 0, **changed,
    }  # fmt: skip


def test_the_decay_of_a_layer_is_beta_to_the_last_digit() -> None:
    beta = np.linspace(0.3, 0.999, 200).astype(np.float32)
    layer = bh.interop.state_dicts.from_snntorch(leaky(beta), dt=0.7 * u.ms, reset_delay=False).lif
    assert type(layer) is bh.nn.LIFLayer
    decay = np.asarray(layer.decay(0.7 * u.ms))
    assert np.max(np.abs(decay - beta) / np.spacing(beta)) <= 1
    assert np.mean(decay == beta) > 0.9
    for one in (0.9, 0.5, 0.95):
        layer = bh.interop.state_dicts.from_snntorch(leaky(one), dt=1 * u.ms, reset_delay=False).lif
        assert abs(float(layer.decay(1 * u.ms)) - np.float32(one)) <= np.spacing(np.float32(one))


def test_a_late_reset_is_kept_apart_from_weights_that_learn() -> None:
    net = bh.interop.state_dicts.from_snntorch(state_of("snntorch/RLeaky subtract"), dt=1 * u.ms)
    np.testing.assert_allclose(
        net.lif1.recurrent_slot().quantity.mantissa, state_of("snntorch/RLeaky subtract")["lif1.recurrent.weight"].T
    )
    assert np.all(np.diag((net.lif1.recurrent_matrix() - net.lif1.recurrent_weight.value).mantissa) < -0.79)
    alone = bh.interop.state_dicts.from_snntorch(state_of("snntorch/Leaky subtract"), dt=1 * u.ms)
    assert alone.lif1.recurrent_slot() is None
    assert list(alone.states(brainstate.ParamState)) == [
        ("fc1", "weight"), ("fc1", "bias"), ("fc2", "weight"), ("fc2", "bias"),
    ] or len(alone.states(brainstate.ParamState)) == 4  # fmt: skip


def test_subthreshold_of_a_current_layer_is_its_membrane_without_spikes() -> None:
    at = "norse/LIFCell"
    net = peers.read("norse", {"kind": "LIFCell", "v_th": 1e6}, state_of(at))
    x = bits(f"{at}/x", peers.N_IN)
    with brainstate.environ.context(dt=1 * u.ms):
        _, seen = bh.rollout(net, x, record=("lif1.V",))
        drives = net.fc1.update_sequence(x)
        np.testing.assert_allclose(net.lif1.subthreshold(drives).mantissa, seen["lif1.V"].mantissa, atol=1e-5)


def test_another_time_step_is_refused() -> None:
    net = bh.interop.state_dicts.from_snntorch(leaky(0.9), dt=1 * u.ms)
    with (
        brainstate.environ.context(dt=2 * u.ms),
        pytest.raises(
            RuntimeError, match=r"^StateDictNet.update: the state dict was read for dt = 1 ms, but .* has dt = 2 ms\."
        ),
    ):
        net(np.ones(1))
    # In a compiled function too, the message holds numbers.
    with brainstate.environ.context(dt=2 * u.ms), pytest.raises(RuntimeError, match=r"dt = 1 ms, but .* dt = 2 ms\."):
        bh.rollout(net, np.ones((3, 1)))


def test_names_become_attributes() -> None:
    state = {"0.weight": np.ones((3, 2)), "net.2.weight": np.ones((1, 3)), "update.weight": np.ones((2, 1))}
    kinds = {name: {"kind": "IFNode"} for name in ("1", "dt")}
    net = bh.interop.state_dicts.from_spikingjelly(
        state,
        {**kinds, "in_size": {"kind": "IFNode"}},
        dt=1 * u.ms,
        order=("0", "1", "net.2", "dt", "update", "in_size"),
    )
    assert net.names == ("part_0", "part_1", "net_2", "dt_", "update_", "in_size_")
    assert net.dt == 1 * u.ms


class Tensor:
    """What a tensor of torch offers, without torch."""

    def __init__(self, array: Any) -> None:
        self.array, self.dtype, self.shape = np.asarray(array), np.asarray(array).dtype, np.shape(array)

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return self.array


def test_tensors_are_taken() -> None:
    state = {key: Tensor(value) for key, value in leaky(np.array([0.5, 0.9])).items()}
    net = bh.interop.state_dicts.from_snntorch(state, dt=1 * u.ms)
    np.testing.assert_allclose(net.lif.beta, [0.5, 0.9])


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        (
            {"conv.weight": np.ones((2, 1, 3, 3)), "bn.running_mean": np.ones(2), "lif.graded_spikes_factor": 2.0},
            (
                "3 problems",
                r"state\['conv.weight'\] has shape \(2, 1, 3, 3\); expected a Linear",
                "bn.running_mean",
                "brainhw spikes have the value 1",
            ),
        ),
        ({"lif.threshold": -1.0}, (r"state\['lif.threshold'\] must be greater than 0; got -1",)),
        ({"lif.reset_mechanism_val": 7}, (r"state\['lif.reset_mechanism_val'\] must be 0",)),
        ({"lif.V": 0.5}, (r"state\['lif.V'\] connects each neuron only with itself",)),
        ({"lif.beta": np.ones(3)}, ("lif has 3 parameter values for 1 neurons",)),
        ({"lif.recurrent.weight": np.ones((2, 2))}, (r"the recurrent weights of lif have shape \(2, 2\)",)),
        ({"fc2.weight": np.ones((1, 4))}, (r"order: fc2 has 4 inputs, but lif before it has 1",)),
        (
            {"fc2.weight": np.ones((1, 1)), "fc3.weight": np.ones((1, 1))},
            ("order: fc3 follows fc2 in fc, lif, fc2, fc3",),
        ),
    ],
)
def test_everything_that_cannot_be_read_is_named_at_once(changed: dict, parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"^from_snntorch: ") as caught:
        bh.interop.state_dicts.from_snntorch(leaky(0.9, **changed), dt=1 * u.ms)
    for part in parts:
        assert caught.match(part)


@pytest.mark.parametrize(
    ("neurons", "message"),
    [
        ({"1": {"kind": "LSNNCell"}}, r"neurons\['1'\] has the unknown kind 'LSNNCell'; known kinds are LIFCell"),
        ({"1": {"kind": "LIFCell", "tau": 1, "beta": 2}}, r"has unknown options for LIFCell: tau, beta; known options"),
        (
            {"1": {"kind": "LIFCell", "tau_mem_inv": 2000.0}},
            r"\['tau_mem_inv'\] must be greater than 0 and at most 1000; got 2000",
        ),
        ({"1": {"kind": "LIFCell", "v_reset": 0.2}}, r"resets to v_reset = 0.2, but decays to v_leak = 0.0"),
        ({"1": {"kind": "LIFCell", "v_th": -1.0}}, r"has v_th at or below v_leak"),
        ({"1": {"kind": "LIFRecurrentCell"}}, r"state must contain 1.input_weights and 1.recurrent_weights as"),
        ({}, None),
    ],
)
def test_neurons_that_cannot_be_said_are_named(neurons: dict, message: str | None) -> None:
    def load() -> Any:
        return bh.interop.state_dicts.from_norse({"0.weight": np.ones((2, 2))}, neurons, dt=1 * u.ms)

    if message is None:
        assert load().names == ("part_0",)  # a readout alone
        return
    with pytest.raises(ValueError, match=rf"^from_norse: [\s\S]*{message}"):
        load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0.5}, r"\['tau'\] must be at least one step; got 0.5"),
        ({"v_threshold": -0.5}, r"has v_threshold = -0.5, which must be greater than v_reset = 0"),
        ({"decay_input": 1}, r"\['decay_input'\] must be a bool; got 1"),
        ({"kind": "ParametricLIFNode"}, r"state must contain 1.w, a scalar"),
    ],
)
def test_nodes_of_spikingjelly_that_cannot_be_said_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^from_spikingjelly: [\s\S]*{message}"):
        bh.interop.state_dicts.from_spikingjelly(
            {"0.weight": np.ones((2, 2))}, {"1": {"kind": "LIFNode", **options}}, dt=1 * u.ms
        )


def test_an_order_that_is_none_is_named() -> None:
    for order, message in (
        (("fc",), "order omits modules: lif"),
        (("fc", "lif", "out"), "order names modules that are neither in state nor in neurons: out"),
        (("lif", "fc"), "order: lif comes first in lif, fc; each Linear needs a neuron after it"),
    ):
        with pytest.raises(ValueError, match=f"^from_snntorch: {message}"):
            bh.interop.state_dicts.from_snntorch(leaky(0.9), dt=1 * u.ms, order=order)


@pytest.mark.parametrize("at", ["snntorch/Leaky subtract", "snntorch/RSynaptic subtract", "norse/LIFCell"])
def test_the_nets_train_alike_layer_by_layer_and_step_by_step(at: str) -> None:
    library, name = at.split("/")
    net = peers.read(library, TOLD[library][name], state_of(at))
    x = bits(f"{at}/x", peers.N_IN)[:15]
    weights = net.states(brainstate.ParamState)

    def gradients(layerwise: bool) -> Any:
        def loss() -> Any:
            return bh.rollout(net, x, layerwise=layerwise)[0].mean()

        return brainstate.transform.grad(loss, weights)()

    with brainstate.environ.context(dt=1 * u.ms):
        fast, slow = gradients(True), gradients(False)
    for key, value in fast.items():
        one, other = (np.asarray(u.get_mantissa(found)) for found in (value, slow[key]))
        assert np.any(other != 0)
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)
