"""Rounded weights: what the chip is given, what stays with the learner, and the order in which it all composes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.chip import H1V1, H1V2
from brainhw.kernel import WeightGrid

CHIPS = {"H1v1": H1V1, "H1v2": H1V2}
T, B, N_IN, N = 8, 2, 5, 4


def synapse(family: str, **options: Any) -> Any:
    return getattr(bh.nn, f"{family}Synapse")(N_IN, N, weight_init=_weights(family, (N_IN, N)), **options)


def frontend(family: str, **options: Any) -> Any:
    return getattr(bh.nn, f"{family}Frontend")(weight_init=_weights(family, (16,)), **options)


def layer(family: str, **options: Any) -> Any:
    kind = getattr(bh.nn, f"{family}Layer")
    return kind(N, tau=10 * u.ms, topology="RC", recurrent_init=_weights(family, (N, N)), **options)


def _weights(family: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return weights of which a few are beyond the range."""
    limit = CHIPS[family].weight_limit
    return np.random.default_rng(len(shape)).uniform(-1.2 * limit, 1.2 * limit, shape)


modules = pytest.mark.parametrize("build", [synapse, frontend, layer])
families = pytest.mark.parametrize("family", list(CHIPS))


def charges(module: Any, key: int | None = None) -> np.ndarray:
    """Prepare and return what a spike brings, in fC."""
    bh.prepare_net(module, key=key)
    return np.asarray(module.effective.charge.value.to(u.fcoulomb).mantissa)


class Net(brainstate.nn.Module):
    def __init__(self, family: str, **options: Any) -> None:
        super().__init__()
        self.syn, self.hidden = synapse(family, **options), layer(family, **options)

    def update(self, x: jax.Array) -> jax.Array:
        return self.hidden(self.syn(x))


# ---------------------------------------------------------------- which numbers the chip gets


@modules
@families
def test_the_chip_gets_the_charge_of_the_rounded_weight_and_the_learner_keeps_his(build: Callable, family: str) -> None:
    chip = CHIPS[family]
    module = build(family, weight_bits="chip")
    assert module.effective.weight_bits == chip.weight_bits == 5
    master = module.master.value
    before = np.array(master)
    rounded = WeightGrid(chip.weight_limit, 5).quantize(master)
    np.testing.assert_array_equal(charges(module), chip.charge(rounded).mantissa)
    assert not np.array_equal(rounded, before)
    assert module.master.value is master
    np.testing.assert_array_equal(master, before)
    assert set(module.states(brainstate.ParamState)) == set(build(family).states(brainstate.ParamState))


@modules
@families
def test_without_bits_the_chip_gets_the_charge_of_the_weight_itself(build: Callable, family: str) -> None:
    module = build(family)
    assert module.effective.weight_bits is None
    np.testing.assert_array_equal(charges(module), CHIPS[family].charge(module.master.value).mantissa)


def test_the_chip_says_how_many_bits_and_a_number_overrules_it() -> None:
    chip = H1V1.replace(weight_bits=3)
    for bits, wanted in (("chip", 3), (2, 2), (np.int64(16), 16)):
        module = synapse("H1v1", chip=chip, weight_bits=bits)
        assert module.effective.weight_bits == wanted
        assert len(np.unique(charges(module))) <= 2**wanted - 1


@families
def test_compiled_and_copied_nets_round_alike(family: str) -> None:
    net = Net(family, weight_bits="chip")
    copied = copy.deepcopy(net)
    brainstate.transform.jit(lambda: bh.prepare_net(net))()
    inside = [np.asarray(m.effective.charge.value.mantissa) for m in (net.syn, net.hidden)]
    for module, other, compiled in zip((net.syn, net.hidden), (copied.syn, copied.hidden), inside, strict=True):
        # XLA rounds the charge curve in its own way; another code would differ by a hundred thousand times more.
        np.testing.assert_allclose(compiled, charges(module), rtol=1e-6)
        np.testing.assert_array_equal(charges(other), charges(module))


@modules
def test_signs_and_mismatch_compose_with_rounding_in_the_documented_order(build: Callable) -> None:
    """Round, then bend, then add what belongs to the chip: that part is the same however weights are rounded."""
    plain = build("H1v1")
    added = charges(plain, key=3) - charges(plain)
    assert 0.5 < np.std(added) / (1.034 * 0.02) < 2
    for bits in (2, 5, 16):
        module = build("H1v1", weight_bits=bits)
        rounded = WeightGrid(0.9, bits).quantize(module.master.value)
        np.testing.assert_array_equal(charges(module), H1V1.charge(rounded).mantissa)
        np.testing.assert_allclose(charges(module, key=3) - charges(module), added, atol=3e-7)


# ---------------------------------------------------------------- learning


@families
def test_steps_far_below_a_level_add_up(family: str) -> None:
    module = frontend(family, weight_bits=4)
    grid = WeightGrid(CHIPS[family].weight_limit, 4)
    module.weight.value = grid.values(jnp.arange(16) % 6)
    first, seen = charges(module), []
    for _ in range(23):
        module.weight.value = module.weight.value - 0.05 * grid.step
        seen.append(charges(module))
    # Half a level is ten steps: until then nothing changes, and after 1.15 levels every weight is one level lower.
    np.testing.assert_array_equal(seen[8], first)
    lower = CHIPS[family].charge(grid.values(jnp.arange(16) % 6 - 1)).mantissa
    np.testing.assert_array_equal(seen[11], lower)
    np.testing.assert_array_equal(seen[-1], lower)


def test_gradients_are_those_of_a_net_with_the_rounded_weights_and_stop_beyond_the_range() -> None:
    xs = jnp.asarray(np.random.default_rng(0).random((T, B, N_IN)) * 20, jnp.float32)

    def gradients(net: Net) -> dict:
        weights = net.states(brainstate.ParamState)
        loss = lambda: jnp.mean(bh.rollout(net, xs)[0] * jnp.arange(1.0, N + 1))  # noqa: E731
        return brainstate.transform.jit(brainstate.transform.grad(loss, weights))()

    rounding, plain = Net("H1v1", weight_bits=3), Net("H1v1")
    inside = {}
    for path, master in plain.states(brainstate.ParamState).items():
        inside[path] = np.abs(master.value) <= np.float32(0.9)
        assert 0 < np.sum(inside[path]) < inside[path].size
        master.value = WeightGrid(0.9, 3).quantize(master.value)
    wanted = gradients(plain)
    assert np.abs(wanted["syn", "weight"][~inside["syn", "weight"]]).max() > 0
    for path, gradient in gradients(rounding).items():
        assert np.abs(gradient[inside[path]]).max() > 0
        np.testing.assert_allclose(gradient, wanted[path] * inside[path], rtol=1e-5, atol=1e-7)


# ---------------------------------------------------------------- stochastic rounding


def test_stochastic_rounding_happens_while_fitting_anew_each_time_and_reproducibly() -> None:
    module = synapse("H1v2", weight_bits=4, rounding="stochastic")
    nearest = charges(synapse("H1v2", weight_bits=4))
    with brainstate.environ.context(fit=True):
        brainstate.random.seed(1)
        one, two = charges(module), charges(module)
        brainstate.random.seed(1)
        np.testing.assert_array_equal(charges(module), one)
        np.testing.assert_array_equal(charges(module), two)
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, nearest)
    np.testing.assert_array_equal(charges(module), nearest)
    with brainstate.environ.context(fit=False):
        np.testing.assert_array_equal(charges(module), nearest)
    # Either neighbour, and no further.
    grid = WeightGrid(1.66, 4)
    steps = np.clip(np.asarray(module.weight.value, float), -1.66, 1.66) / grid.step
    for drawn in (one, two):
        assert np.all(np.abs(drawn / (0.45 * grid.step) - steps) < 1 + 1e-5)


def test_stochastic_rounding_draws_anew_in_one_compiled_function() -> None:
    net = Net("H1v1", weight_bits=3, rounding="stochastic")

    @brainstate.transform.jit
    def prepared() -> list[jax.Array]:
        bh.prepare_net(net)
        return [module.effective.charge.value.mantissa for module in (net.syn, net.hidden)]

    with brainstate.environ.context(fit=True):
        brainstate.random.seed(1)
        one, two = prepared(), prepared()
        brainstate.random.seed(1)
        again = prepared()
    for a, b, c in zip(one, two, again, strict=True):
        np.testing.assert_array_equal(a, c)
        assert not np.array_equal(a, b)


def test_nearest_rounding_draws_no_random_numbers_while_fitting() -> None:
    module = synapse("H1v1", weight_bits=3)
    with brainstate.environ.context(fit=True):
        before = np.array(jax.random.key_data(brainstate.random.DEFAULT.value))
        charges(module)
    np.testing.assert_array_equal(jax.random.key_data(brainstate.random.DEFAULT.value), before)


# ---------------------------------------------------------------- refusals


@modules
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weight_bits": 1}, ValueError, "weight_bits must be between 2 .* and 16; got 1"),
        ({"weight_bits": 17}, ValueError, "weight_bits must be between 2 .* and 16; got 17"),
        ({"weight_bits": True}, ValueError, "weight_bits must be at least 1; got True"),
        ({"weight_bits": 2.5}, TypeError, "weight_bits must be an integer; got 2.5"),
        ({"weight_bits": np.array([5, 5])}, TypeError, "weight_bits must be an integer; got an array"),
        (
            {"weight_bits": "five"},
            ValueError,
            "weight_bits must be a number of bits, 'chip' \\(5 bits on H1v1\\), .* got 'five'",
        ),
        ({"weight_bits": 5, "rounding": "up"}, ValueError, "rounding must be one of 'nearest', 'stochastic'; got 'up'"),
        ({"weight_bits": 5, "rounding": None}, ValueError, "rounding must be one of .*; got None"),
        ({"rounding": "stochastic"}, ValueError, "rounding is 'stochastic' but weight_bits is None; pass weight_bits"),
    ],
    ids=str,
)
def test_settings_that_name_no_grid_are_refused(
    build: Callable, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^H1v1{build.__name__.capitalize()}: {message}"):
        build("H1v1", **options)


@pytest.mark.parametrize("options", [{"weight_bits": "chip"}, {"rounding": "stochastic"}, {"rounding": "up"}], ids=str)
def test_a_layer_without_recurrent_weights_has_nothing_to_round(options: dict) -> None:
    with pytest.raises(ValueError, match=rf"^H1v1Layer: {next(iter(options))} "):
        bh.nn.H1v1Layer(N, tau=10 * u.ms, **options)
