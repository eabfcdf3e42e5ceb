"""A synapse and its layer as functions of their weights: the real layer, its membrane, its noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.init.circuit import Circuit

N_IN, N, T, B = 10, 5, 60, 3
NOISE = 5 * u.mV / u.second**0.5


def software(layer: Any) -> Circuit:
    return Circuit(
        bh.nn.LIFSynapse(N_IN, layer.in_size[-1], weight_init=np.zeros((N_IN, layer.in_size[-1])) * u.mV), layer
    )


def chip(family: str, chip_pair: Callable) -> Circuit:
    return Circuit(*chip_pair(family, N_IN, N, topology="RC").layers)


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape), jnp.float32)


@pytest.fixture(scope="module")
def xs(poisson: Callable) -> Any:
    return jnp.asarray(poisson(300, (T, B, N_IN)))


KINDS: dict[str, Callable[[Callable], Circuit]] = {
    "H1v1": lambda pair: chip("H1v1", pair),
    "H1v2": lambda pair: chip("H1v2", pair),
    "LIF": lambda pair: software(bh.nn.LIFLayer(N, 20 * u.ms, topology="RC", recurrent_init=np.zeros((N, N)) * u.mV)),
    "ALIF": lambda pair: software(bh.nn.ALIFLayer(N, 2, w_rec=np.zeros((N, 2 * N)) * u.mV)),
    "Cuba": lambda pair: software(bh.nn.CubaLIFLayer(N)),
    "fractional": lambda pair: software(bh.nn.FractionalLIFLayer(N, alpha=0.6, V_th=0.3 * u.mV)),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_runs_the_real_layer_and_knows_its_sizes(kind: str, chip_pair: Callable, xs: Any) -> None:
    circuit = KINDS[kind](chip_pair)
    scale = 20.0 if kind.startswith("H1") else 0.6
    weight = numbers(N_IN, circuit.n_columns, scale=scale)
    recurrent = numbers(N, circuit.n_columns, seed=1, scale=0.2 * scale) if circuit.is_recurrent else None
    spikes = circuit.run(weight, recurrent, xs)
    np.testing.assert_array_equal(circuit.weight, weight)
    if recurrent is not None:
        np.testing.assert_array_equal(circuit.recurrent, recurrent)
    expected, _ = bh.rollout(brainstate.nn.Sequential(circuit.synapse, circuit.layer), xs)
    np.testing.assert_array_equal(spikes, expected)
    assert np.any(spikes)
    assert circuit.n_synapses == (2 if kind == "ALIF" else 1)
    assert circuit.is_recurrent == (kind in ("H1v1", "H1v2", "LIF", "ALIF"))
    assert np.isfinite(circuit.weight_limit) == kind.startswith("H1")
    assert circuit.never_forgets == (kind == "fractional")
    assert circuit.clamped == kind.startswith("H1")
    assert circuit.threshold().shape == (N,)


def test_spikes_come_back_one_step_later(xs: Any) -> None:
    """Without a reset the membrane is linear in its input, so the real layer shows the effect of recurrence."""
    layer = bh.nn.LIFLayer(N, 20 * u.ms, topology="RC", reset="none", recurrent_init=np.zeros((N, N)) * u.mV)
    circuit = software(layer)
    weight, recurrent = numbers(N_IN, N, scale=0.5), numbers(N, N, seed=1, scale=0.2)
    spikes = circuit.run(weight, recurrent, xs)
    _, seen = bh.rollout(brainstate.nn.Sequential(circuit.synapse, layer), xs, record=("layers.1.V_pre",))
    circuit.store(weight, recurrent)
    drive, alone = circuit.drive_and_membrane(weight, xs)
    both = circuit.membrane(drive, spikes)
    np.testing.assert_allclose(both, seen["layers.1.V_pre"].mantissa, rtol=1e-4, atol=1e-4)
    assert not np.allclose(both, alone, atol=0.1)


def test_noise_is_off_inside_and_on_again_after(xs: Any) -> None:
    circuit = software(bh.nn.ALIFLayer(N, noise_std=NOISE))
    weight = numbers(N_IN, N, scale=0.3)
    first, second = (np.asarray(circuit.run(weight, None, xs)) for _ in range(2))
    assert not np.array_equal(first, second)
    with circuit.smooth():
        first, second = (np.asarray(circuit.run(weight, None, xs)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert circuit.layer.noise_std is not None

    def fail() -> None:
        with circuit.smooth():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    np.testing.assert_allclose(circuit.layer.noise_std.mantissa, NOISE.mantissa)


def test_rounding_is_off_inside_and_on_again_after() -> None:
    net = brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(2, 2, weight_init=np.zeros((2, 2)), weight_bits=2),
        bh.nn.H1v1Layer(2, tau=20 * u.ms, topology="RC", recurrent_init=np.zeros((2, 2)), weight_bits=3),
    )
    circuit, xs = Circuit(*net.layers), jnp.ones((1, 1, 2))
    weight, recurrent = (jnp.asarray([[0.3, 0.6], [-0.1, 1.2]]) * scale for scale in (1.0, 0.4))
    circuit.store(weight, recurrent)
    charge, rounded = circuit.synapse.chip.charge, np.array([[0, 0.9], [0, 0.9]])
    np.testing.assert_array_equal(circuit.weight, weight)
    for applied, expected in zip(circuit.applied(), (rounded, [[0, 0.3], [0, 0.6]]), strict=True):
        np.testing.assert_allclose(np.asarray(applied), expected, rtol=1e-6)

    def drive() -> Any:
        return circuit.drive(weight, xs).mantissa[0, 0]

    np.testing.assert_allclose(drive(), charge(rounded).mantissa.sum(axis=0), rtol=1e-6)
    with circuit.smooth():
        np.testing.assert_allclose(drive(), charge(weight).mantissa.sum(axis=0), rtol=1e-6)
    with pytest.raises(ZeroDivisionError), circuit.smooth():
        raise ZeroDivisionError
    np.testing.assert_allclose(drive(), charge(rounded).mantissa.sum(axis=0), rtol=1e-6)
    assert [circuit.synapse.effective.weight_bits, circuit.layer.effective.weight_bits] == [2, 3]


def test_frozen_recurrent_weights_are_none_to_set(xs: Any) -> None:
    frozen = numbers(N, N, scale=0.3) * u.mV
    circuit = software(bh.nn.ALIFLayer(N, w_rec=brainstate.nn.Const(frozen)))
    assert not circuit.is_recurrent
    assert circuit.recurrent is None
    circuit.store(numbers(N_IN, N), numbers(N, N))
    np.testing.assert_array_equal(circuit.layer.recurrent_matrix().mantissa, frozen.mantissa)
    # Frozen weights still act on the membrane.
    weight = numbers(N_IN, N, scale=0.5)
    alone = software(bh.nn.ALIFLayer(N)).run(weight, None, xs)
    assert not np.array_equal(circuit.run(weight, None, xs), alone)
