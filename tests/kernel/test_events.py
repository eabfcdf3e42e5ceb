"""Products of spikes: the loops equal dense products bit by bit; gradients, maps and nets use them."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainhw as bh
from brainhw.kernel import events

pytestmark = pytest.mark.skipif(not events.has_event_loops(), reason="needs the extra `fast`")


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the loops for products of any size."""
    monkeypatch.setattr(events, "_MIN_MULTIPLICATIONS", 0)
    monkeypatch.setattr(events, "_MIN_OUTPUTS", 1)


def numbers(seed: int, rows: int, n_in: int, n_out: int, rate: float, dtype: Any = np.float32) -> Any:
    rng = np.random.default_rng(seed)
    x = (rng.random((rows, n_in)) < rate).astype(dtype)
    return jnp.asarray(x), jnp.asarray(rng.normal(size=(n_in, n_out)), dtype)


def compiled(text: str) -> bool:
    return "custom-call" in text and "brainevent_numba_ffi" in text


def assert_equal(found: jax.Array, dense: jax.Array) -> None:
    # Before jax 0.12 XLA multiplied some matrices in another order.
    if jax.__version_info__ >= (0, 12):
        np.testing.assert_array_equal(found, dense)
    else:
        np.testing.assert_allclose(found, dense, rtol=1e-5, atol=1e-5)


@given(
    st.integers(1, 90),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([0.0, 0.03, 0.1, 0.6]),
    st.integers(0, 99),
)
@settings(derandomize=True, deadline=None, max_examples=25)
def test_products_are_those_of_dense_matrices(rows: int, n_in: int, n_out: int, rate: float, seed: int) -> None:
    x, weights = numbers(seed, rows, n_in, n_out, rate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "_MIN_MULTIPLICATIONS", 0)
        patch.setattr(events, "_MIN_OUTPUTS", 1)
        found = jax.jit(events.event_product)(x, weights)
    # XLA adds in another order in a product with a vector.
    np.testing.assert_allclose(found, jax.jit(jnp.matmul)(x, weights), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "n_in", "n_out"), [(3200, 128, 128), (2000, 256, 200), (1000, 512, 512)])
def test_large_products_use_the_loops_where_inputs_are_sparse(rows: int, n_in: int, n_out: int) -> None:
    for rate in (0.05, 0.4):
        x, weights = numbers(1, rows, n_in, n_out, rate)
        step = jax.jit(events.event_product).lower(x, weights).compile()
        assert compiled(step.as_text())
        assert_equal(step(x, weights), jax.jit(jnp.matmul)(x, weights))


def test_small_wide_and_half_precise_products_stay_dense() -> None:
    for x, weights in (
        numbers(0, 20, 30, 40, 0.05),
        numbers(0, 1000, 700, 200, 0.05),
        tuple(one.astype(jnp.bfloat16) for one in numbers(0, 1000, 256, 256, 0.05)),
    ):
        assert not compiled(jax.jit(events.event_product).lower(x, weights).compile().as_text())
        np.testing.assert_array_equal(events.event_product(x, weights), x @ weights)


@pytest.mark.usefixtures("always")
def test_the_switch_and_a_missing_package_leave_dense_products(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weights = numbers(0, 20, 30, 40, 0.05)
    assert compiled(jax.jit(functools.partial(events.event_product)).lower(x, weights).compile().as_text())
    with monkeypatch.context() as patch:
        patch.setenv("BRAINHW_EVENTS", "0")
        assert not compiled(jax.jit(functools.partial(events.event_product)).lower(x, weights).compile().as_text())
    monkeypatch.setattr(events, "_is_usable", lambda: False)
    assert not events.has_event_loops()


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("rate", [0.05, 0.6])
def test_first_and_second_gradients_are_those_of_dense_products(rate: float) -> None:
    x, weights = numbers(2, 60, 20, 15, rate)
    pattern = jnp.asarray(np.random.default_rng(0).normal(size=(60, 15)), jnp.float32)

    def loss(product: Any, x: jax.Array, weights: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(product(x, weights)) * pattern)

    for of in (0, 1):
        found, wanted = (
            jax.grad(lambda *given, one=one: loss(one, *given), of)(x, weights)
            for one in (events.event_product, jnp.matmul)
        )
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)

    def second(product: Any) -> jax.Array:
        return jax.grad(lambda w: jnp.sum(jax.grad(lambda w: loss(product, x, w))(w) ** 2))(weights)

    np.testing.assert_allclose(second(events.event_product), second(jnp.matmul), rtol=1e-4, atol=1e-3)
    outer = jax.grad(lambda x: jnp.sum(events.event_outer(x, pattern) ** 2))(x)
    np.testing.assert_allclose(outer, jax.grad(lambda x: jnp.sum((x.T @ pattern) ** 2))(x), rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_a_map_gives_each_its_own(axes: Any) -> None:
    pairs = [numbers(seed, 40, 20, 15, 0.05) for seed in range(3)]
    x, weights = (jnp.stack(several) for several in zip(*pairs, strict=True))
    given = (x if axes[0] == 0 else x[0], weights if axes[1] == 0 else weights[0])
    found = jax.jit(jax.vmap(events.event_product, axes))(*given)
    np.testing.assert_allclose(found, jax.vmap(jnp.matmul, axes)(*given), rtol=1e-6, atol=1e-6)
    gradients = jax.vmap(jax.grad(lambda x, w: jnp.sum(events.event_product(x, w) ** 2), 1), axes)(*given)
    wanted = jax.vmap(jax.grad(lambda x, w: jnp.sum((x @ w) ** 2), 1), axes)(*given)
    np.testing.assert_allclose(gradients, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("always")
def test_double_precision_analog_values_and_nothing_at_all() -> None:
    with jax.enable_x64(True):
        x, weights = numbers(3, 50, 20, 15, 0.05, np.float64)
        np.testing.assert_allclose(events.event_product(x, weights), x @ weights, rtol=1e-14)
    x, weights = numbers(4, 50, 20, 15, 0.05)
    analog = x * jnp.asarray(np.random.default_rng(1).normal(size=x.shape), jnp.float32)
    np.testing.assert_allclose(events.event_product(analog, weights), analog @ weights, rtol=1e-6, atol=1e-6)
    assert not np.any(events.event_product(jnp.zeros_like(x), weights))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_a_gradient_that_is_not_finite_is_not_hidden_by_a_silent_sample(value: float) -> None:
    x, _ = numbers(5, 700, 20, 15, 0.05)
    x = x.at[333].set(0.0)
    g = jnp.asarray(np.random.default_rng(0).normal(size=(700, 15)), jnp.float32).at[333, 4].set(value)
    found, wanted = jax.jit(events.event_outer)(x, g), x.T @ g
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))
    assert not np.isfinite(found[:, 4]).any()
    assert np.isfinite(found[:, :4]).all()


def test_numba_without_compilation_leaves_dense_products(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    assert events._is_usable.__wrapped__()
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert not events._is_usable.__wrapped__()


@pytest.mark.usefixtures("always")
def test_a_weight_that_is_nan_is_not_hidden_by_a_silent_input() -> None:
    x, weights = numbers(4, 50, 20, 15, 0.05)
    spoilt = weights.at[3].set(jnp.nan)
    assert np.isnan(events.event_product(x.at[:, 3].set(0), spoilt)).all()


def test_a_numba_that_cannot_be_used_is_told_once(tmp_path: Any) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 2.4 or less')")
    code = "from brainhw.kernel import events; print(events.has_event_loops(), events.has_event_loops())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
    )
    assert done.stdout.split() == ["False", "False"], done.stderr
    assert done.stderr.count("Numba needs NumPy 2.4 or less") == 1


@pytest.mark.usefixtures("always")
def test_threads_do_not_disturb_each_other() -> None:
    step = jax.jit(lambda x, w: jax.grad(lambda w: jnp.sum(events.event_product(x, w) ** 2))(w))
    pairs = [numbers(seed, 400, 100, 90, 0.05) for seed in range(8)]
    wanted = [np.asarray(step(*pair)) for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, expected in zip(pool.map(lambda pair: np.asarray(step(*pair)), pairs), wanted, strict=True):
                np.testing.assert_array_equal(found, expected)


KINDS = {
    "LIF": lambda n: bh.nn.LIFLayer(n, 20 * u.ms),
    "LIF, recurrent": lambda n: bh.nn.LIFLayer(n, 20 * u.ms, topology="RC"),
    "ALIF": lambda n: bh.nn.ALIFLayer(n, w_rec=jnp.full((n, n), 0.01) * u.mV, max_spikes_per_step=1),
}


@pytest.mark.parametrize("kind", [*KINDS, "H1v2"])
@pytest.mark.parametrize("numbers_at_once", [2**19, 300])
def test_nets_fire_the_same_spikes_and_have_the_same_gradients(
    kind: str, numbers_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = importlib.import_module("brainhw.transform.rollout")
    monkeypatch.setattr(rollout, "_VALUES_PER_PIECE", numbers_at_once)
    monkeypatch.setattr(rollout, "_MAX_VALUES_UNSPLIT", 0)
    brainstate.random.seed(1)
    # Use other sizes in each case, because JAX caches traces by size.
    n = 25 + 2 * [*KINDS, "H1v2"].index(kind) + (numbers_at_once == 300)
    n_in = n + 5
    xs = jnp.asarray(np.random.default_rng(5).random((40, 6, n_in)) < 0.06, jnp.float32)
    rng = np.random.default_rng(6)
    if kind == "H1v2":
        net = brainstate.nn.Sequential(
            bh.nn.H1v2Synapse(n_in, n, weight_init=jnp.asarray(rng.uniform(0.3, 1.6, (n_in, n)))),
            bh.nn.H1v2Layer(n, tau=20 * u.ms, topology="RC"),
        )
    else:
        net = brainstate.nn.Sequential(
            bh.nn.LIFSynapse(n_in, n, weight_init=jnp.asarray(rng.normal(0.3, 0.5, (n_in, n))) * u.mV), KINDS[kind](n)
        )
    weights = net.states(brainstate.ParamState)
    pattern = jnp.asarray(rng.normal(size=(40, 6, n)), jnp.float32)

    def both() -> Any:
        def loss() -> Any:
            spikes = bh.rollout(net, xs)[0]
            return jnp.mean(spikes * pattern), spikes

        step = brainstate.transform.jit(brainstate.transform.grad(loss, weights, has_aux=True))
        gradients, spikes = step()
        return gradients, np.asarray(spikes)

    wanted, expected = both()
    monkeypatch.setattr(events, "_MIN_MULTIPLICATIONS", 0)
    monkeypatch.setattr(events, "_MIN_OUTPUTS", 1)
    used = []
    for name in ("_looped_product", "_looped_outer"):
        loops = getattr(events, name)
        monkeypatch.setattr(events, name, lambda *given, loops=loops: used.append(loops) or loops(*given))
    found, spikes = both()
    assert len(set(used)) == 2
    assert expected.sum() > 20
    np.testing.assert_array_equal(spikes, expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()) + 1e-12)


STEP = """
import sys, os, jax, jax.numpy as jnp, numpy as np
from brainhw.kernel import events
x = jnp.asarray(np.random.default_rng(0).random((3200, 128)) < 0.05, jnp.float32)
w = jnp.asarray(np.random.default_rng(1).normal(size=(128, 128)), jnp.float32)
if sys.argv[1] == "gradient first":
    events.event_outer(x, x[:, :100] + 1.0)
print(float(jax.jit(lambda x, w: jnp.abs(events.event_product(x, w) - x @ w).sum())(x, w)))
child = os.fork() if sys.argv[1] == "fork" else None
if child == 0:
    os._exit(int(np.ones(3).sum()) - 3)
if child is not None:
    assert os.waitpid(child, 0)[1] == 0
    print(float(jax.jit(lambda x, w: jnp.abs(events.event_product(x, w) - x @ w).sum())(2 * x, w)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("order", ["product first", "gradient first", "fork"])
def test_programs_that_were_kept_find_their_loops_again(order: str, tmp_path: Any) -> None:
    # Programs that JAX caches in a folder for other processes contain the names of the loops.
    for first in ("product first", order):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", STEP, first],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        assert set(done.stdout.split()) == {"0.0"}
