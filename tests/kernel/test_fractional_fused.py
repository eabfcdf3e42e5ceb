"""The compiled loop of fractional neurons equals the loop of XLA, and is not used for unsupported rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_steps import by_steps_too

import brainhw as bh
from brainhw.kernel import events, fractional_fused, fractional_gradients, fractional_sequence
from brainhw.kernel.fractional_sequence import run

pytestmark = pytest.mark.skipif(not events.has_event_loops(), reason="needs the extra `fast`")

# All neurons of a batch are more than one work item of the loop, and the last work item is not full.
T, B, N = 30, 3, 120
DT = 0.25 * u.ms
SPREAD = np.linspace(0.3, 1.0, N)
LAYERS: dict[str, Callable[[], bh.nn.FractionalLayer]] = {
    "gl ahead": lambda: lif(alpha=0.6, lookahead=0.5 * u.ms),
    "l1 of every neuron, alpha trained": lambda: lif(alpha=SPREAD, method="l1", learn_alpha="raw"),
    "gl, alpha and tau trained": lambda: lif(alpha=0.7, learn_alpha="raw", learn_tau=True),
    "cn of every neuron": lambda: lif(alpha=SPREAD, method="cn", V_th=np.linspace(0.6, 1.2, N) * u.mV),
    "two terms, coefficients trained": lambda: lif(
        alpha=[SPREAD, 0.7], coefficients=[1.0, 0.4], learn_coefficients="raw"
    ),
    "without leak": lambda: bh.nn.FractionalIFLayer(N, alpha=0.8, tau=4 * u.ms, lookahead=0.5 * u.ms),
}


def lif(**options: Any) -> bh.nn.FractionalLayer:
    return bh.nn.FractionalLIFLayer(N, **{"tau": 2 * u.ms, "spk_fun": bh.surrogate.atan(2.0)} | options)


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Use the compiled loop at any size, and count the traces that use it."""
    used: list[Any] = []
    monkeypatch.setattr(fractional_fused, "_MIN_MULTIPLICATIONS", 0)
    for module in (fractional_sequence, fractional_gradients):
        monkeypatch.setattr(
            module,
            "run_scheme",
            lambda *given, **options: used.append(given) or fractional_fused.run_scheme(*given, **options),
        )
    return used


def case(name: str, batch: tuple[int, ...] = (B,)) -> tuple[Any, Any, Any]:
    layer = LAYERS[name]()
    layer.init_state(*batch)
    return layer.rules(), layer.parameters(DT), layer.state()


def drives_of(seed: int, batch: tuple[int, ...] = (B,)) -> jax.Array:
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(rng.uniform(0.3, 1.2), rng.uniform(0.5, 3.0), (T, *batch, N)), jnp.float32)


def assert_same(found: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == other.dtype
        limit = tolerance * max(float(jnp.abs(other).max()), 1e-30)
        np.testing.assert_allclose(one, other, rtol=0, atol=limit)


@pytest.mark.parametrize("name", list(LAYERS))
def test_spikes_states_and_gradients_are_those_of_the_definition(name: str, calls: list[Any]) -> None:
    rules, parameters, state = case(name)
    pattern = np.random.default_rng(0).normal(size=(3, T, B, N))

    def loss(parameters: Any, state: Any, drives: jax.Array) -> Any:
        final, trace = run(rules, parameters, state, drives, keep_V=True)
        read = sum((one * weights).sum() for one, weights in zip(trace, pattern.astype(drives.dtype), strict=True))
        return read + (final.V**2).sum() + (final.slots**2).sum(), (final, trace)

    looped, stepped = by_steps_too(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
    fired = 0.0
    for seed in range(7):
        given = parameters, state, drives_of(seed)
        (_, seen), gradients = looped(*given)
        (_, wanted), gradients_wanted = stepped(*given)
        np.testing.assert_array_equal(seen[1].spk, wanted[1].spk)
        assert_same(seen, wanted)
        assert_same(gradients[2], gradients_wanted[2])
        # The gradients of parameters are sums of thousands of terms of both signs, so compare them in double precision.
        with jax.enable_x64(True):
            wide = jax.tree.map(lambda x: x.astype(jnp.float64), given)
            assert_same(looped(*wide), stepped(*wide), 1e-10)
        fired += float(seen[1].spk.mean())
    assert len(calls) == 4  # forwards and backwards, in both precisions
    assert 0.1 < fired < 5


def test_a_run_without_gradients_computes_no_derivatives(calls: list[Any]) -> None:
    rules, parameters, state = case("gl, alpha and tau trained")
    looped, stepped = by_steps_too(lambda drives: run(rules, parameters, state, drives))
    assert_same(looped(drives_of(1)), stepped(drives_of(1)))
    ((_, schemes, *_),) = calls
    assert len(schemes) == 1


@pytest.mark.parametrize("batch", [(), (1,)])
def test_any_batch_and_double_precision(batch: tuple[int, ...], calls: list[Any]) -> None:
    rules, parameters, state = case("cn of every neuron", batch)
    looped, stepped = by_steps_too(lambda *given: run(rules, *given))
    given = parameters, state, drives_of(2, batch)
    assert_same(looped(*given), stepped(*given))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype(jnp.float64), given)
        assert_same(looped(*wide), stepped(*wide), 1e-12)
    assert len(calls) == 2


def test_two_halves_are_one_run() -> None:
    rules, parameters, state = case("cn of every neuron")
    drives = drives_of(3)
    looped = jax.jit(lambda *given: run(rules, parameters, *given))
    final, trace = looped(state, drives)
    middle, first = looped(state, drives[: T // 2])
    end, second = looped(middle, drives[T // 2 :])
    np.testing.assert_array_equal(jnp.concatenate([first.spk, second.spk]), trace.spk)
    assert_same(end, final)


def test_a_map_over_chips_and_a_second_gradient_go_through_the_definition() -> None:
    rules, parameters, state = case("gl ahead")
    drives = jnp.stack([drives_of(seed) for seed in range(2)])
    found = jax.jit(jax.vmap(lambda drives: run(rules, parameters, state, drives)))(drives)
    for k in range(2):
        assert_same(jax.tree.map(lambda x, k=k: x[k], found), run(rules, parameters, state, drives[k]))

    def second(drives: jax.Array) -> jax.Array:
        first = jax.grad(lambda drives: jnp.sum(run(rules, parameters, state, drives)[1].V_compared ** 2))
        return jax.grad(lambda drives: jnp.sum(first(drives) ** 2))(drives)

    looped, stepped = by_steps_too(second)
    assert_same(looped(drives[0]), stepped(drives[0]), 1e-4)


class Softer(bh.surrogate.FastSigmoid):
    """Fires from half of the threshold on."""

    def __call__(self, x: Any) -> jax.Array:
        return super().__call__(x + 0.5)


@pytest.mark.parametrize(
    ("options", "forwards", "backwards"),
    [
        ({}, True, True),
        ({"spk_fun": Softer()}, False, True),  # the backward pass does not depend on the spike function
        ({"method": "pred"}, False, False),
        ({"kernel": "dense", "memory": 5}, False, False),
        ({"reset": "subtract"}, False, False),
        ({"reset": "zero", "history": "clear"}, False, False),
    ],
)
def test_what_the_loop_does_not_know_runs_by_steps(
    options: dict[str, Any], forwards: bool, backwards: bool, calls: list[Any]
) -> None:
    layer = lif(alpha=0.6, **options)
    layer.init_state(B)

    def total(xs: jax.Array) -> jax.Array:
        return layer.update_sequence(xs * u.mV).sum()

    with brainstate.environ.context(dt=DT):
        brainstate.transform.jit(brainstate.transform.grad(total)).lower(drives_of(0))
    # Only the forward pass has a rule of firing.
    fires = [given[2] is not None for given in calls]
    assert (True in fires, False in fires) == (forwards, backwards)


def test_states_of_another_shape_run_by_steps(calls: list[Any]) -> None:
    rules, parameters, state = case("gl ahead", ())
    with pytest.raises(ValueError, match="Incompatible shapes"):  # of XLA's loop
        run(rules, parameters, state, drives_of(0))
    assert not fractional_fused.is_faster(rules, drives_of(0), state.slots)
    assert not calls


def test_small_runs_and_half_precision_run_by_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    rules, _, state = case("gl ahead")
    drives = drives_of(0)
    assert fractional_fused.is_faster(rules, drives, state.slots)
    assert not fractional_fused.is_faster(rules, drives.astype(jnp.bfloat16), state.slots)
    monkeypatch.setenv("BRAINHW_EVENTS", "0")
    assert not fractional_fused.is_faster(rules, drives, state.slots)
    monkeypatch.undo()
    assert not fractional_fused.is_faster(rules, drives, state.slots)
