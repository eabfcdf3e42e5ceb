"""Synapses, frontends and the readout: what comes out for what goes in."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.chip import H1V1, LinearCharge, TabulatedCharge

SYNAPSES = {"H1v1": bh.nn.H1v1Synapse, "H1v2": bh.nn.H1v2Synapse}
FRONTENDS = {"H1v1": bh.nn.H1v1Frontend, "H1v2": bh.nn.H1v2Frontend}
CURVES = {"H1v1": lambda w: 1.034 * 1.8 * np.tanh(w / 1.8), "H1v2": lambda w: 0.45 * w}
both = pytest.mark.parametrize("family", ["H1v1", "H1v2"])
leading = pytest.mark.parametrize("shape", [(), (2,), (5, 2)], ids=["[N]", "[B,N]", "[T,B,N]"])


def charge(module: brainstate.nn.Module, x: object) -> np.ndarray:
    bh.prepare_net(module)
    out = module(x)
    assert u.get_unit(out) == u.fcoulomb
    assert out.mantissa.dtype == jnp.float32
    return np.asarray(out.mantissa)


@both
@leading
def test_charge_is_the_input_times_the_charge_of_each_weight(family: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    w, x = rng.uniform(-0.9, 0.9, (4, 3)), rng.normal(size=(*shape, 4))
    out = charge(SYNAPSES[family](4, 3, weight_init=w), jnp.asarray(x))
    np.testing.assert_allclose(out, x @ CURVES[family](w), rtol=2e-5, atol=2e-6)
    assert out.shape == (*shape, 3)


@both
@leading
def test_frontend_wires_each_channel_to_its_own_neuron(family: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    w, x = rng.uniform(-0.9, 0.9, 16), rng.normal(size=(*shape, 16))
    out = charge(FRONTENDS[family](weight_init=w), jnp.asarray(x))
    np.testing.assert_allclose(out, x * CURVES[family](w), rtol=2e-5, atol=2e-6)


@both
def test_frontend_starts_at_half_the_weight_limit_and_is_as_wide_as_the_chip(family: str) -> None:
    frontend = FRONTENDS[family]()
    assert frontend.in_size == frontend.out_size == (16,)
    np.testing.assert_allclose(frontend.weight.value, 0.5 * frontend.chip.weight_limit, rtol=1e-6)
    assert charge(frontend, np.ones(16)).shape == (16,)
    if family == "H1v1":
        assert bh.nn.H1v1Frontend(chip=H1V1.replace(frontend_channels=8)).weight.value.shape == (8,)


@pytest.mark.parametrize(
    "x",
    [[1, 0, 1, 1], (1.0, 0.0, 1.0, 1.0), np.array([1, 0, 1, 1]), np.array([True, False, True, True]), [1.0, 0, 1.0, 1]],
    ids=["ints", "floats", "numpy ints", "booleans", "mixed"],
)
@both
def test_spikes_may_come_as_any_array_of_numbers(family: str, x: object) -> None:
    synapse = SYNAPSES[family](4, 2, weight_init=jnp.full((4, 2), 0.5))
    np.testing.assert_allclose(charge(synapse, x), 3 * CURVES[family](0.5), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, bool])
def test_numpy_input_reaches_the_layers_of_a_network_step_by_step(dtype: type) -> None:
    lif = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), bh.nn.LIFLayer(3, tau=10 * u.ms))
    chip = brainstate.nn.Sequential(bh.nn.H1v1Synapse(4, 3), bh.nn.H1v1Layer(3, tau=10 * u.ms, topology="RC"))
    for net in (lif, chip):
        bh.prepare_net(net)
        for _ in range(2):
            assert net(np.ones(4, dtype)).dtype == jnp.float32
        assert isinstance(net.layers[1].V.value.mantissa, jax.Array)
    readout = bh.nn.LeakyReadout(4, 2, tau=10 * u.ms)
    assert readout(np.ones(4, dtype)).dtype == jnp.float32


def test_h1v2_is_linear_in_the_weight_and_h1v1_saturates_and_is_odd() -> None:
    w = np.linspace(0.05, 0.45, 9).reshape(1, 9)
    one = {family: charge(cls(1, 9, weight_init=w), [1.0]) for family, cls in SYNAPSES.items()}
    two = {family: charge(cls(1, 9, weight_init=2 * w), [1.0]) for family, cls in SYNAPSES.items()}
    np.testing.assert_allclose(two["H1v2"], 2 * one["H1v2"], rtol=1e-6)
    assert (two["H1v1"] < 2 * one["H1v1"]).all()
    assert (np.diff(2 - two["H1v1"] / one["H1v1"]) > 0).all()
    np.testing.assert_allclose(charge(bh.nn.H1v1Synapse(1, 9, weight_init=-w), [1.0]), -one["H1v1"], rtol=1e-6)
    assert (one["H1v2"] < one["H1v1"]).all()


def test_the_charge_curve_of_the_given_chip_is_used() -> None:
    straight = H1V1.replace(charge=LinearCharge(2.0 * u.fcoulomb))
    w = np.linspace(-0.9, 0.9, 5).reshape(1, 5)
    np.testing.assert_allclose(
        charge(bh.nn.H1v1Synapse(1, 5, chip=straight, weight_init=w), [1.0]), 2 * w[0], rtol=1e-6
    )
    table = TabulatedCharge([-0.9, -0.3, 0.0, 0.4, 0.9], [-0.7, -0.3, 0.0, 0.5, 0.8] * u.fcoulomb)
    measured = H1V1.replace(charge=table, provenance="measured")
    at_points = bh.nn.H1v1Synapse(1, 3, chip=measured, weight_init=jnp.array([[-0.9, 0.4, 0.9]]))
    np.testing.assert_allclose(charge(at_points, [1.0]), [-0.7, 0.5, 0.8], rtol=1e-5)


def test_weights_beyond_the_limit_are_the_users_to_mend_and_are_not_clipped() -> None:
    synapse = bh.nn.H1v2Synapse(1, 1, weight_init=jnp.array([[5.0]]))
    np.testing.assert_allclose(charge(synapse, [1.0]), [2.25], rtol=1e-6)
    assert float(synapse.weight.value[0, 0]) == 5.0


@leading
def test_lif_synapse_adds_voltages(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    w, x = rng.normal(size=(4, 3)), rng.normal(size=(*shape, 4))
    synapse = bh.nn.LIFSynapse(4, 3, weight_init=w * 1e-3 * u.volt)
    out = synapse(jnp.asarray(x))
    assert u.get_unit(out) == u.get_unit(synapse.weight.value) == u.mV
    np.testing.assert_allclose(out.mantissa, x @ w, rtol=2e-5, atol=2e-6)


def test_default_weights_differ_from_one_another_and_follow_the_seed() -> None:
    for build in (
        lambda: bh.nn.H1v1Synapse(6, 5).weight,
        lambda: bh.nn.LIFSynapse(6, 5).weight,
        lambda: bh.nn.LeakyReadout(6, 5, tau=10 * u.ms).weight,
        lambda: bh.nn.LIFLayer(5, tau=10 * u.ms, topology="RC").recurrent_weight,
        lambda: bh.nn.H1v2Layer(5, tau=10 * u.ms, topology="RC").recurrent_weight,
    ):
        brainstate.random.seed(1)
        first, other = (np.asarray(u.get_mantissa(build().value)) for _ in range(2))
        brainstate.random.seed(1)
        again = np.asarray(u.get_mantissa(build().value))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        assert np.unique(first).size == first.size


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_readout_is_the_filtered_input(bias: bool, batched: bool) -> None:
    rng = np.random.default_rng(3)
    xs, w = rng.normal(size=(20, 2, 4)), rng.normal(size=(4, 3))
    xs = xs if batched else xs[:, 0]
    taus = np.array([5.0, 10.0, 40.0])
    readout = bh.nn.LeakyReadout(4, 3, tau=taus * 1e-3 * u.second, weight_init=w, bias=bias)
    if bias:
        readout.bias.value = jnp.array([0.1, -0.2, 0.3])
    ys, seen = bh.rollout(readout, xs, record=("y",))
    expected, y = [], np.zeros((*xs.shape[1:-1], 3))
    for x in xs:
        y = y * np.exp(-1 / taus) + x @ w + (np.array([0.1, -0.2, 0.3]) if bias else 0.0)
        expected.append(y)
    np.testing.assert_allclose(ys, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ys, seen["y"])
    assert len(readout.states(brainstate.ParamState)) == 1 + bias


@pytest.mark.parametrize("kind", [brainstate.nn.Const, brainstate.nn.Param, brainstate.ParamState])
def test_parameter_as_the_weights_is_refused_with_the_way_to_freeze(kind: type) -> None:
    with pytest.raises(TypeError, match=f"LIFSynapse: weight_init must be .* got a {kind.__name__}. To keep"):
        bh.nn.LIFSynapse(3, 2, weight_init=kind(np.ones((3, 2)) * u.mV))
