"""The compiled loop of recurrent neurons equals the loop of XLA, and is not used for unsupported rules."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_steps import by_steps_too

import brainhw as bh
from brainhw.kernel import currents, events, fused, leaky
from brainhw.surrogate.forward import forward_of

pytestmark = pytest.mark.skipif(not events.has_event_loops(), reason="needs the extra `fast`")

T, B, N, S = 30, 3, 24, 2
SPIKE = bh.surrogate.fast_sigmoid()


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Use the compiled loop at any size, and count the traces that use it."""
    used: list[Any] = []
    original = fused.loop_or_steps
    monkeypatch.setattr(fused, "_MIN_MULTIPLICATIONS", 0)
    monkeypatch.setattr(fused, "_MIN_NEURONS", 1)
    monkeypatch.setattr(fused, "loop_or_steps", lambda *given: used.append(given[0]) or original(*given))
    return used


def assert_same(found: Any, wanted: Any) -> None:
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        # XLA may sum a small product in another order.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def leaky_net(seed: int, n: int = N, batch: tuple[int, ...] = (B,)) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    V_th = rng.uniform(0.5, 1.5, n)
    parameters = leaky.LeakyParameters(
        jnp.asarray(rng.uniform(0.5, 0.99, n), jnp.float32),
        jnp.asarray(V_th, jnp.float32),
        jnp.asarray(rng.normal(0, 0.5, (n, n)), jnp.float32),
    )
    state = leaky.LeakyState(
        jnp.asarray(rng.uniform(-0.5, 0.5, (*batch, n)), jnp.float32),
        jnp.asarray(rng.random((*batch, n)) < 0.2, jnp.float32),
    )
    drives = jnp.asarray(rng.normal(0.02, rng.uniform(0.05, 0.25), (T, *batch, n)), jnp.float32)
    return parameters, state, drives


def current_net(seed: int, has_ahp: bool, n_synapses: int = S) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)

    def numbers(low: float, high: float, *shape: int) -> jax.Array:
        return jnp.asarray(rng.uniform(low, high, shape), jnp.float32)

    parameters = currents.CurrentParameters(
        alpha=numbers(0.5, 0.99, N),
        beta=numbers(0.2, 0.9, N, n_synapses),
        V_th=numbers(0.5, 1.5, N),
        bias=numbers(-0.02, 0.02, N),
        recurrent=jnp.asarray(rng.normal(0, 0.15, (N, N * n_synapses)), jnp.float32),
    )
    if has_ahp:
        parameters = parameters._replace(gamma=numbers(0.5, 0.9, N), w_ahp=numbers(-0.3, 0.0, N))
    state = currents.CurrentState(
        V=numbers(-0.5, 0.5, B, N),
        current=numbers(-0.1, 0.1, B, N, n_synapses),
        spk=jnp.asarray(rng.random((B, N)) < 0.2, jnp.float32),
        ahp=numbers(-0.1, 0.0, B, N) if has_ahp else None,
    )
    drives = jnp.asarray(rng.normal(0.01, rng.uniform(0.02, 0.1), (T, B, N, n_synapses)), jnp.float32)
    return parameters, state, drives


LEAKY = [*itertools.product(leaky.RESETS, (False, True), (0, 2))]


@pytest.mark.parametrize(("reset", "clamped", "factors"), LEAKY)
def test_leaky_neurons_fire_the_spikes_of_the_definition(
    reset: str, clamped: bool, factors: int, calls: list[Any]
) -> None:
    firing = leaky.Firing(SPIKE, reset, False, clamped)
    rules = leaky.LeakyRules(firing, (lambda x: x / 3.0 * 2.7) if factors else (lambda x: x), is_step=True)
    looped, stepped = by_steps_too(lambda *given: leaky.run(rules, *given))
    fired = 0
    for seed in range(9):
        net = leaky_net(seed)
        (found, trace), (wanted, by_steps) = looped(*net), stepped(*net)
        np.testing.assert_array_equal(trace.spk, by_steps.spk)
        assert_same((found, trace), (wanted, by_steps))
        fired += float(trace.spk.sum())
    assert calls
    assert fired > 100


CURRENTS = [*itertools.product((False, True), (1, S), (("step", None), ("count", None), ("count", 2)))]


@pytest.mark.parametrize(("has_ahp", "n_synapses", "forward"), CURRENTS)
def test_current_based_neurons_fire_the_spikes_of_the_definition(
    has_ahp: bool, n_synapses: int, forward: tuple[str, int | None], calls: list[Any]
) -> None:
    kind, most = forward
    count = bh.surrogate.StepPWL()
    spikes = (lambda V, V_th: SPIKE((V - V_th) / V_th)) if kind == "step" else (lambda V, V_th: count(V, V_th, most))
    rules = currents.CurrentRules(spikes, False, kind, most)
    looped, stepped = by_steps_too(lambda *given: currents.run(rules, *given))
    fired = 0
    for seed in range(9):
        net = current_net(seed, has_ahp, n_synapses)
        (found, trace), (wanted, by_steps) = looped(*net), stepped(*net)
        np.testing.assert_array_equal(trace.spk, by_steps.spk)
        assert_same((found, trace), (wanted, by_steps))
        fired += float(trace.spk.sum())
    assert calls
    assert fired > 100


@pytest.mark.parametrize("family", ["leaky", "currents"])
def test_gradients_are_those_of_the_definition(family: str, calls: list[Any]) -> None:
    if family == "leaky":
        rules: Any = leaky.LeakyRules(leaky.Firing(SPIKE, "subtract", False, True), lambda x: x, is_step=True)
        run, net = leaky.run, leaky_net(3)
    else:
        rules = currents.CurrentRules(lambda V, V_th: SPIKE((V - V_th) / V_th), False, "step")
        run, net = currents.run, current_net(3, True)
    pattern = jnp.asarray(np.random.default_rng(0).normal(size=(T, B, N)), jnp.float32)

    def loss(*given: Any) -> jax.Array:
        end, trace = run(rules, *given)
        return jnp.sum(trace.spk * pattern) + jnp.sum(end.V**2)

    looped, stepped = by_steps_too(jax.grad(loss, (0, 1, 2)))
    found, wanted = looped(*net), stepped(*net)
    # The gradients of current decays need values that the loop does not store, so it is not used.
    assert bool(calls) == (family == "leaky")
    assert_same(found, wanted)
    weights = [jax.grad(lambda w: loss(net[0]._replace(recurrent=w), *net[1:])) for _ in range(2)]
    looped, stepped = by_steps_too(weights[0])
    assert_same(looped(net[0].recurrent), stepped(net[0].recurrent))
    assert calls


def test_a_second_gradient_goes_through_the_definition() -> None:
    rules = leaky.LeakyRules(leaky.Firing(SPIKE, "zero", False, False), lambda x: x, is_step=True)
    parameters, state, drives = leaky_net(4)

    def second(drives: jax.Array) -> jax.Array:
        def first(drives: jax.Array) -> jax.Array:
            of = jax.grad(lambda drives: jnp.sum(leaky.run(rules, parameters, state, drives)[1].V_pre ** 2))(drives)
            return jnp.sum(of**2)

        return jax.grad(first)(drives)

    looped, stepped = by_steps_too(second)
    found, wanted = looped(drives), stepped(drives)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(jnp.abs(wanted).max()))


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_any_batch_and_double_precision(batch: tuple[int, ...], calls: list[Any]) -> None:
    rules = leaky.LeakyRules(leaky.Firing(SPIKE, "subtract", False, False), lambda x: x, is_step=True)
    looped, stepped = by_steps_too(lambda *given: leaky.run(rules, *given))
    net = leaky_net(5, N, batch)
    assert_same(looped(*net), stepped(*net))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype(jnp.float64), net)
        found, wanted = looped(*wide), stepped(*wide)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            assert one.dtype == jnp.float64
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    assert len(calls) == 2


def test_a_map_over_chips_gives_each_its_own() -> None:
    rules = leaky.LeakyRules(leaky.Firing(SPIKE, "subtract", False, False), lambda x: x, is_step=True)
    nets = [leaky_net(seed) for seed in range(3)]
    many = jax.tree.map(lambda *each: jnp.stack(each), *nets)
    found = jax.jit(jax.vmap(lambda *given: leaky.run(rules, *given)))(*many)
    for k, net in enumerate(nets):
        assert_same(jax.tree.map(lambda x, k=k: x[k], found), leaky.run(rules, *net))


def test_a_net_that_fires_densely_and_weights_that_are_not_finite_take_the_definition() -> None:
    rules = leaky.LeakyRules(leaky.Firing(SPIKE, "none", False, False), lambda x: x, is_step=True)
    looped, stepped = by_steps_too(lambda *given: leaky.run(rules, *given))
    parameters, state, drives = leaky_net(6)
    loud = parameters._replace(V_th=0.05 * parameters.V_th)
    found = looped(loud, state, drives)
    assert float(found[1].spk.mean()) > 0.3
    assert_same(found, stepped(loud, state, drives))
    spoilt = parameters._replace(recurrent=parameters.recurrent.at[2, 3].set(jnp.nan))
    assert np.isnan(looped(spoilt, state, drives)[1].V_pre).sum() >= T * B - B
    assert_same(looped(spoilt, state, drives), stepped(spoilt, state, drives))
    # A NaN drive stays NaN and affects only its own neuron.
    lost = drives.at[4, 0, 1].set(jnp.nan)
    assert_same(looped(parameters, state, lost), stepped(parameters, state, lost))


class Softer(bh.surrogate.FastSigmoid):
    """Fires from half of the threshold on."""

    def __call__(self, x: Any) -> jax.Array:
        return super().__call__(x + 0.5)


def test_what_the_loop_does_not_know_runs_by_steps(calls: list[Any]) -> None:
    import braintools

    assert forward_of(SPIKE) == forward_of(braintools.surrogate.Arctan()) == "step"
    assert forward_of(bh.surrogate.PeriodicExponential()) == "count"
    assert forward_of(Softer()) is forward_of(jax.nn.relu) is None
    xs = jnp.asarray(np.random.default_rng(0).random((T, B, N)) < 0.3, jnp.float32)
    for spk_fun, uses in ((Softer(), False), (SPIKE, True)):
        calls.clear()
        net = brainstate.nn.Sequential(
            bh.nn.LIFSynapse(N, N), bh.nn.LIFLayer(N, tau=20 * u.ms, topology="RC", spk_fun=spk_fun)
        )
        bh.rollout(net, xs)
        assert bool(calls) == uses
    square = leaky.LeakyRules(leaky.Firing(SPIKE, "zero", False, False), lambda x: x * jnp.arange(1.0, N + 1), True)
    calls.clear()
    leaky.run(square, *leaky_net(1))
    assert not calls


def test_states_of_another_shape_run_by_steps() -> None:
    parameters, state, drives = leaky_net(1)
    assert fused.is_faster(drives, state.V, parameters.recurrent)
    assert not fused.is_faster(drives, state.V[0], parameters.recurrent)
    assert not fused.is_faster(drives[:, :1], state.V, parameters.recurrent)


@pytest.mark.parametrize(
    ("function", "factors"),
    [
        (lambda x: x, ()),
        (lambda x: 2.5 * x, (2.5,)),
        (lambda x: x / 4 * 3, (0.25, 3.0)),
        (lambda x: x + 1, None),
        (lambda x: 1 / x, None),
        (lambda x: x * x, None),
        (lambda x: x * jnp.arange(3.0), None),
    ],
)
def test_constant_factors(function: Any, factors: Any) -> None:
    assert fused.constant_factors(function, jnp.ones(3)) == factors


def test_chip_layers_of_both_families_fire_the_same_spikes(calls: list[Any]) -> None:
    xs = jnp.asarray(np.random.default_rng(0).random((T, B, N)) < 0.2, jnp.float32)
    rng = np.random.default_rng(1)
    for synapse, layer in ((bh.nn.H1v1Synapse, bh.nn.H1v1Layer), (bh.nn.H1v2Synapse, bh.nn.H1v2Layer)):
        net = brainstate.nn.Sequential(
            synapse(N, N, weight_init=jnp.asarray(rng.uniform(0.3, 1.6, (N, N)))),
            layer(N, tau=20 * u.ms, topology="RC"),
        )
        calls.clear()
        spikes = bh.rollout(net, xs)[0]
        assert calls
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BRAINHW_EVENTS", "0")
            expected = bh.rollout(net, xs)[0]
        assert float(spikes.sum()) > 20
        np.testing.assert_array_equal(spikes, expected)
