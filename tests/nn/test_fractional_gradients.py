"""Gradients of fractional layers: against finite differences, and of a whole sequence against those step by step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.kernel.fractional_sequence import is_linear, passes_state_gradients, run, run_steps

# "trap" is "l1" by another name.
METHODS = ["gl", "l1", "pred", "cn"]
ALPHAS = np.array([0.2, 0.5, 0.8, 0.95, 1.0])
SILENT = 1e9 * u.mV
DT = 0.25 * u.ms


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True), brainstate.environ.context(precision=64, dt=DT):
        yield


def compare_with_differences(layer: bh.nn.FractionalLayer, drives: np.ndarray, *, rtol: float = 1e-3) -> None:
    """Check the gradient of a smooth function of all voltages by every number of every parameter."""
    xs = jnp.asarray(drives)

    def loss() -> jax.Array:
        runner = run if is_linear(layer.rules()) else run_steps
        _, trace = runner(layer.rules(), layer.parameters(DT), layer.state(), xs, keep_V=True)
        return jnp.sum(jnp.sin(trace.V) + 0.5 * trace.V**2)

    states = layer.states(brainstate.ParamState)
    assert states
    gradient = brainstate.transform.jit(brainstate.transform.grad(loss, states, return_value=True))
    grads, _ = gradient()
    for path, state in states.items():
        value, unit = u.get_mantissa(state.value), u.get_unit(state.value)
        exact = np.asarray(u.get_mantissa(grads[path]))
        numbers = np.zeros(value.shape)
        for index in np.ndindex(value.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = jnp.asarray(value).at[index].add(step)
                state.value = moved if unit == u.UNITLESS else u.Quantity(moved, unit=unit)
                ends.append(float(gradient()[1]))
            numbers[index] = (ends[0] - ends[1]) / 2e-5
        state.value = value if unit == u.UNITLESS else u.Quantity(value, unit=unit)
        assert np.abs(numbers).min() > 1e-3  # else the comparison would say nothing
        np.testing.assert_allclose(exact, numbers, rtol=rtol, atol=0, err_msg=str(path))


def smooth_drives(n: int, T: int = 24) -> np.ndarray:
    t = np.arange(T)[:, None]
    return 0.8 + np.sin(0.4 * t + np.arange(n)) + (t == 5)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_gradient_by_the_order_of_each_neuron(method: str) -> None:
    with double_precision():
        layer = bh.nn.FractionalLIFLayer(
            5, alpha=ALPHAS, tau=2 * u.ms, V_th=SILENT, method=method, learn_alpha="raw", horizon=64
        )
        compare_with_differences(layer, smooth_drives(5))


@pytest.mark.parametrize("method", ["gl", "pred"])
def test_gradient_by_the_order_with_every_past_step(method: str) -> None:
    with double_precision():
        layer = bh.nn.FractionalIFLayer(
            4, alpha=ALPHAS[:4], tau=2 * u.ms, V_th=SILENT, method=method, kernel="dense", memory=20, learn_alpha=True
        )
        compare_with_differences(layer, smooth_drives(4))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raw", "time_scale"), [(False, None), (True, 3 * u.ms)], ids=["kept in range, in tau", "raw, in 3 ms"]
)
def test_gradients_by_coefficients_and_time_constant(raw: bool, time_scale: u.Quantity | None) -> None:
    learn = "raw" if raw else True
    with double_precision():
        layer = bh.nn.FractionalLIFLayer(
            2,
            alpha=[0.3, np.array([0.6, 0.9])] if raw else [0.3, 0.8],
            coefficients=[0.7, 0.4],
            tau=np.array([2.0, 5.0]) * u.ms if raw else 3 * u.ms,
            V_th=SILENT,
            time_scale=time_scale,
            learn_alpha=learn,
            learn_coefficients=learn,
            learn_tau=True,
            horizon=64,
        )
        compare_with_differences(layer, smooth_drives(2))


@pytest.mark.parametrize("method", ["pred", "cn"])
def test_gradients_by_time_constant_and_coefficient_of_one_term(method: str) -> None:
    with double_precision():
        layer = bh.nn.FractionalLIFLayer(
            2,
            alpha=0.6,
            coefficients=[0.7],
            tau=3 * u.ms,
            V_th=SILENT,
            method=method,
            learn_coefficients=True,
            learn_tau=True,
            horizon=64,
        )
        compare_with_differences(layer, smooth_drives(2))


def test_trap_is_l1() -> None:
    assert bh.kernel.METHODS["trap"] is bh.kernel.METHODS["l1"]


# d y(2) / d alpha of D^alpha y = 1 - y at step 1/32, what spikeDE's automatic differentiation says over what is true:
# with the gradient through the Gamma function left out, pred has the wrong sign for small orders.
SPIKEDE_OVER_TRUE = {
    "l1": [1.158, 1.026, 0.890, 0.750],
    "pred": [-1.653, -0.400, 0.206, 0.559],
}


@pytest.mark.parametrize("method", list(SPIKEDE_OVER_TRUE))
def test_gradient_that_leaves_gamma_out_is_spikedes(method: str) -> None:
    # Gruenwald-Letnikov has no Gamma function to leave out.
    alphas, grads, values = np.array([0.3, 0.5, 0.7, 0.9]), {}, {}
    with double_precision():
        for rule in ("exact", "spikede"):
            layer = bh.nn.FractionalLIFLayer(
                4,
                alpha=alphas,
                tau=1 * u.ms,
                V_th=SILENT,
                method=method,
                kernel="dense",
                horizon=64,
                learn_alpha="raw",
                alpha_rule=rule,
            )
            rules, state = layer.rules(), layer.state()
            parameters = layer.parameters(1 / 32 * u.ms)

            def end(alpha: jax.Array, rules: Any = rules, parameters: Any = parameters, state: Any = state) -> Any:
                moved = parameters._replace(operator=parameters.operator._replace(alpha=(alpha,)))
                final, _ = run(rules, moved, state, jnp.ones((64, 4)))
                return final.V.sum(), final.V

            grads[rule], values[rule] = jax.grad(end, has_aux=True)(jnp.asarray(alphas))
    np.testing.assert_array_equal(values["exact"], values["spikede"])
    np.testing.assert_allclose(grads["spikede"] / grads["exact"], SPIKEDE_OVER_TRUE[method], rtol=0, atol=1.1e-3)


def layer_of(n: int, **options: Any) -> bh.nn.FractionalLIFLayer:
    options = {"tau": 2 * u.ms, "learn_alpha": "raw", "spk_fun": bh.surrogate.atan(2.0)} | options
    return bh.nn.FractionalLIFLayer(n, **options)


N, T, B = 3, 24, 2
SPREAD = np.linspace(0.2, 0.9, N)
CONFIGURATIONS: dict[str, Callable[[], bh.nn.FractionalLIFLayer]] = {
    "gl of every neuron, ahead": lambda: layer_of(N, alpha=SPREAD, lookahead=0.5 * u.ms),
    "gl dense, two terms, all but alpha learnt": lambda: layer_of(
        N,
        alpha=[SPREAD, 0.7],
        coefficients=[1.0, 0.4],
        learn_alpha=False,
        learn_coefficients="raw",
        learn_tau=True,
        kernel="dense",
        horizon=T,
    ),
    "cn": lambda: layer_of(N, alpha=SPREAD, method="cn"),
    "pred, ahead": lambda: layer_of(N, alpha=0.6, method="pred", lookahead=0.5 * u.ms),
    "l1 that forgets, nothing learnt": lambda: layer_of(
        N, alpha=0.6, method="l1", learn_alpha=False, kernel="dense", memory=5
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CONFIGURATIONS))
def test_a_whole_sequence_is_the_same_as_its_steps(name: str) -> None:
    rng = np.random.default_rng(1)
    with double_precision():
        layer = CONFIGURATIONS[name]()
        layer.init_state(B)
        rules, parameters, state = layer.rules(), layer.parameters(DT), layer.state()
        assert is_linear(rules)
        drives = jnp.asarray(rng.normal(1.0, 1.5, (T, B, N)))
        readouts = [jnp.asarray(rng.normal(size=(T, B, N))) for _ in range(3)]

        def loss(runner: Any, parameters: Any, drives: jax.Array) -> Any:
            final, trace = runner(rules, parameters, state, drives, keep_V=True)
            read = sum((values * readout).sum() for values, readout in zip(trace, readouts, strict=True))
            return read + (final.V**3).sum(), (final, trace)

        results = [
            jax.jit(jax.value_and_grad(lambda p, x, runner=runner: loss(runner, p, x), (0, 1), has_aux=True))(
                parameters, drives
            )
            for runner in (run, run_steps)
        ]
        (((_, seen), grads), ((_, expected_seen), expected)) = results
        assert 0.03 < seen[1].spk.mean() < 0.9
        np.testing.assert_array_equal(seen[1].spk, expected_seen[1].spk)
        # Where the derivatives are taken along, XLA may sum in another order.
        for found, reference in zip(jax.tree.leaves(seen), jax.tree.leaves(expected_seen), strict=True):
            np.testing.assert_allclose(found, reference, rtol=1e-13, atol=1e-13)
        pairs = [
            (found, reference)
            for found, reference, learnt in zip(
                jax.tree.leaves(grads[0].operator), jax.tree.leaves(expected[0].operator), rules.trainable, strict=True
            )
            if learnt
        ]
        pairs += [(grads[0].V_th, expected[0].V_th), (grads[1], expected[1])]
        for found, reference in pairs:
            assert np.abs(reference).max() > 0
            np.testing.assert_allclose(found, reference, rtol=0, atol=1e-9 * np.abs(reference).max())


@pytest.mark.parametrize("name", ["gl of every neuron, ahead", "cn", "pred, ahead"])
def test_gradients_through_the_first_and_the_final_state_are_the_same_as_by_steps(name: str) -> None:
    rng = np.random.default_rng(2)
    with double_precision():
        layer = CONFIGURATIONS[name]()
        layer.init_state(B)
        rules, parameters, state = layer.rules(), layer.parameters(DT), layer.state()
        assert passes_state_gradients(rules) == ("pred" not in name)
        drives = jnp.asarray(rng.normal(1.0, 1.5, (T, B, N)))
        state = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape)), state)
        weights = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), state)

        def loss(runner: Any, state: Any, parameters: Any, drives: jax.Array) -> jax.Array:
            final, trace = runner(rules, parameters, state, drives)
            read = [(one * w).sum() for one, w in zip(jax.tree.leaves(final), jax.tree.leaves(weights), strict=True)]
            return sum(read) + (trace.spk * drives).sum()

        found, reference = (
            jax.jit(jax.grad(lambda *given, runner=runner: loss(runner, *given), (0, 1, 2)))(state, parameters, drives)
            for runner in (run, run_steps)
        )
        # Of the parameters, only those that are trained have a gradient; the look-ahead never has one.
        chosen = [(one[0], one[1].V_th, one[1].operator.alpha, one[2]) for one in (found, reference)]
        for one, other in zip(*map(jax.tree.leaves, chosen), strict=True):
            assert np.abs(other).max() > 0
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * np.abs(other).max())


@pytest.mark.parametrize("options", [{}, {"reset": "subtract"}], ids=["linear", "by steps"])
def test_layer_over_a_sequence_is_the_layer_step_by_step(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    layer = layer_of(N, alpha=SPREAD, **options)
    assert layer.gains_from_sequence() == (not options)
    xs = jnp.asarray(rng.normal(1.0, 1.5, (T, B, N)), dtype=jnp.float32)
    readout = jnp.asarray(rng.normal(size=(T, B, N)), dtype=jnp.float32)
    layer.init_state(B)

    def loss(xs: jax.Array, whole: bool) -> Any:
        layer.reset_state(B)
        spk = layer.update_sequence(xs * u.mV) if whole else brainstate.transform.for_loop(layer, xs * u.mV)
        return (spk * readout).sum(), (spk, layer.V.value.mantissa, layer.slots.value.mantissa, layer.spk.value)

    parameters = layer.states(brainstate.ParamState)
    results = []
    with brainstate.environ.context(dt=DT):
        for whole in (True, False):
            values = brainstate.transform.jit(lambda xs, whole=whole: loss(xs, whole)[1])(xs)
            grads = brainstate.transform.grad(lambda xs, whole=whole: loss(xs, whole)[0], parameters, argnums=0)
            results.append((values, None if options else brainstate.transform.jit(grads)(xs)))
    (values, found_grads), (expected_values, reference_grads) = results
    for found, reference in zip(values, expected_values, strict=True):
        np.testing.assert_array_equal(found, reference)
    np.testing.assert_array_equal(values[0][-1], values[3])
    assert 5 < values[0].sum() < 0.9 * values[0].size
    for found, reference in zip(jax.tree.leaves(found_grads), jax.tree.leaves(reference_grads), strict=True):
        np.testing.assert_allclose(found, reference, rtol=0, atol=1e-5 * np.abs(reference).max())
