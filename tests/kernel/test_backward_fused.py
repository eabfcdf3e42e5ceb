"""The compiled backward pass of recurrent neurons gives the gradients of XLA's loop, and second gradients and maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_steps import by_steps_too

import brainhw as bh
from brainhw.kernel import backward_fused, currents, events, fused, leaky

pytestmark = pytest.mark.skipif(not events.has_event_loops(), reason="needs the extra `fast`")

# Neither the number of samples nor the number of neurons is a multiple of four, which the loop computes at once.
T, B, N = 12, 6, 23
SPIKE = bh.surrogate.fast_sigmoid()


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Use the compiled loops at any size, and count the traces that use the backward loops."""
    used: list[str] = []
    monkeypatch.setattr(fused, "_MIN_MULTIPLICATIONS", 0)
    monkeypatch.setattr(fused, "_MIN_NEURONS", 1)
    for module, name in ((leaky, "gradients_of_leaky"), (currents, "gradients_of_currents")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, f=original, n=name: used.append(n) or f(*given))
    return used


def normal(seed: int, *shape: int, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape))


def uniform(seed: int, low: float, high: float, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, shape))


def leaky_net(seed: int, batch: tuple[int, ...] = (B,)) -> tuple[Any, ...]:
    numbers = leaky.LeakyParameters(
        uniform(seed, 0.5, 0.99, N), uniform(seed + 1, 0.5, 1.5, N), normal(seed + 2, N, N, scale=0.3)
    )
    spk = jnp.asarray(np.random.default_rng(seed).random((*batch, N)) < 0.2, float)
    return numbers, leaky.LeakyState(normal(seed + 3, *batch, N, scale=0.3), spk), normal(seed, T, *batch, N, scale=0.4)


def current_net(seed: int, has_ahp: bool, n_synapses: int) -> tuple[Any, ...]:
    numbers = currents.CurrentParameters(
        alpha=uniform(seed, 0.5, 0.99, N),
        beta=uniform(seed + 1, 0.2, 0.9, N, n_synapses),
        V_th=uniform(seed + 2, 0.5, 1.5, N),
        bias=uniform(seed + 3, -0.02, 0.02, N),
        recurrent=normal(seed + 4, N, N * n_synapses, scale=0.15),
    )
    if has_ahp:
        numbers = numbers._replace(gamma=uniform(seed + 5, 0.5, 0.9, N), w_ahp=uniform(seed + 6, -0.3, 0, N))
    spk = jnp.asarray(np.random.default_rng(seed).random((B, N)) < 0.2, float)
    ahp = normal(seed + 7, B, N, scale=0.1) if has_ahp else None
    state = currents.CurrentState(
        normal(seed + 8, B, N, scale=0.3), normal(seed + 9, B, N, n_synapses, scale=0.1), spk, ahp
    )
    return numbers, state, normal(seed, T, B, N, n_synapses, scale=0.2)


def gradients(run: Any) -> Any:
    """Return a function for the gradients of all parts of a net, of a loss that reads the trace and the final state."""

    def loss(weights: jax.Array, numbers: Any, state: Any, drives: jax.Array) -> tuple[jax.Array, jax.Array]:
        end, trace = run(numbers._replace(recurrent=weights), state, drives)
        pattern = normal(7, *trace.spk.shape).astype(drives.dtype)
        of_end = sum(jnp.sum(jnp.sin(one)) for one in jax.tree.leaves(end))
        return jnp.sum(trace.spk * pattern) + jnp.sum(trace.V_pre**2 * pattern) + of_end, trace.spk

    def every(numbers: Any, state: Any, drives: jax.Array) -> Any:
        return jax.grad(loss, (0, 2, 3), has_aux=True)(numbers.recurrent, numbers, state, drives)

    return every


def assert_equal(run: Any, nets: list[Any]) -> None:
    """Compare in double precision, where the order of summation hardly matters, and in single precision."""
    rates = []
    looped, stepped = by_steps_too(gradients(run))
    with jax.enable_x64(True):
        for net in nets:
            wide = jax.tree.map(lambda x: x.astype(jnp.float64), net)
            (found, spk), (wanted, _) = looped(*wide), stepped(*wide)
            rates.append(float(spk.mean()))
            for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
                assert one.dtype == jnp.float64
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * float(jnp.abs(other).max()))
    narrow = jax.tree.map(lambda x: x.astype(jnp.float32), nets[0])
    for one, other in zip(*map(jax.tree.leaves, (looped(*narrow), stepped(*narrow))), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * max(1.0, float(jnp.abs(other).max())))
    assert np.mean(rates) > 0.02


LEAKY = [
    ("subtract", False, True),
    ("subtract", True, True),
    ("subtract", True, False),
    ("zero", False, False),
    ("zero", True, True),
    ("none", False, True),
]


@pytest.mark.parametrize(("reset", "detach", "clamped"), LEAKY)
def test_leaky_neurons(reset: Any, detach: bool, clamped: bool, calls: list[str]) -> None:
    firing = leaky.Firing(SPIKE, reset, detach, clamped)
    rules = leaky.LeakyRules(firing, lambda x: x / 3.0 * 2.7, is_step=True)
    assert_equal(lambda *given: leaky.run(rules, *given), [leaky_net(seed) for seed in range(0, 60, 10)])
    assert calls == ["gradients_of_leaky"] * 2  # one trace for each precision


@pytest.mark.parametrize("batch", [(), (1,), (2, 5)])
def test_any_batch(batch: tuple[int, ...], calls: list[str]) -> None:
    rules = leaky.LeakyRules(leaky.Firing(SPIKE, "subtract", True, False), lambda x: x, is_step=True)
    assert_equal(lambda *given: leaky.run(rules, *given), [leaky_net(5, batch)] * 2)
    assert calls


CURRENTS = [(True, 1, "step"), (True, 2, "count"), (False, 1, "count"), (False, 2, "step")]


@pytest.mark.parametrize(("has_ahp", "n_synapses", "kind"), CURRENTS)
def test_current_based_neurons(has_ahp: bool, n_synapses: int, kind: Any, calls: list[str]) -> None:
    count = bh.surrogate.StepPWL()
    spikes = (lambda V, V_th: SPIKE((V - V_th) / V_th)) if kind == "step" else (lambda V, V_th: count(V, V_th, None))
    rules = currents.CurrentRules(spikes, n_synapses == 2, kind, None)
    nets = [current_net(seed, has_ahp, n_synapses) for seed in range(0, 60, 10)]
    assert_equal(lambda *given: currents.run(rules, *given), nets)
    assert calls == ["gradients_of_currents"] * 2


def test_gradients_of_decays_use_the_compiled_loop_and_gradients_of_thresholds_do_not(calls: list[str]) -> None:
    rules = leaky.LeakyRules(leaky.Firing(SPIKE, "subtract", False, True), lambda x: x, is_step=True)
    numbers, state, drives = leaky_net(3)

    def loss(decay: jax.Array, V_th: jax.Array) -> jax.Array:
        return jnp.sum(leaky.run(rules, numbers._replace(decay=decay, V_th=V_th), state, drives)[1].spk * drives)

    for which, uses in ((0, True), (1, False)):
        calls.clear()
        looped, stepped = by_steps_too(jax.grad(loss, which))
        found, wanted = looped(numbers.decay, numbers.V_th), stepped(numbers.decay, numbers.V_th)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(jnp.abs(wanted).max()))
        assert bool(calls) == uses


@pytest.mark.parametrize("family", ["leaky", "currents"])
def test_references_have_second_gradients_and_maps(family: str) -> None:
    if family == "leaky":
        rules: Any = leaky.LeakyRules(leaky.Firing(SPIKE, "zero", False, False), lambda x: x, is_step=True)
        run, net = leaky.run, leaky_net(4)
    else:
        rules = currents.CurrentRules(lambda V, V_th: SPIKE((V - V_th) / V_th), False, "step")
        run, net = currents.run, current_net(4, True, 2)

    def first(drives: jax.Array) -> jax.Array:
        return jax.grad(lambda drives: jnp.sum(run(rules, *net[:2], drives)[1].V_pre ** 2))(drives)

    looped, stepped = by_steps_too(jax.grad(lambda drives: jnp.sum(first(drives) ** 2)))
    found, wanted = looped(net[2]), stepped(net[2])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(jnp.abs(wanted).max()))
    several = jnp.stack([net[2], -net[2]])
    for one, other in zip(jax.jit(jax.vmap(first))(several), map(first, several), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * float(jnp.abs(other).max()))


def test_a_weight_that_is_nan_spoils_the_gradients_of_its_sample_and_no_other_sample() -> None:
    weights = normal(0, 5, 5).at[1, 2].set(jnp.nan)
    rows = [uniform(seed, 0.1, 1.0, 3, 2, 5) for seed in range(3)]
    rows[0] = rows[0].at[2, 1].set(jnp.nan)
    start = jnp.zeros((2, 5), rows[0].dtype)
    finite = backward_fused.gradients_of_leaky(*rows, start, start, jnp.full(5, 0.5), normal(0, 5, 5))
    assert np.isnan(finite[:, 1]).any()
    assert np.isfinite(finite[:, 0]).all()
    spoilt = backward_fused.gradients_of_leaky(*rows, start, start, jnp.full(5, 0.5), weights)
    assert np.isnan(spoilt[:2, :, 2]).all()
