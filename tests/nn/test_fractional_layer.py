"""What fractional layers do: against plain sums over all of the past, and properties that hold for any numbers."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
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
from brainhw.kernel.fractional_sequence import run_steps

LIF, IF = bh.nn.FractionalLIFLayer, bh.nn.FractionalIFLayer
SILENT = 1e9 * u.mV
T, B, N = 30, 2, 4
few = settings(derandomize=True, deadline=None, max_examples=8, database=None)
seeds = st.integers(0, 2**31 - 1)


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True), brainstate.environ.context(precision=64):
        yield


def traces(layer: bh.nn.FractionalLayer, drives: Any) -> dict[str, np.ndarray]:
    """Step a layer at rest through ``drives [T, ..., N]`` in mV, as it is now."""
    drives = jnp.asarray(drives)
    layer.init_state(drives.shape[1] if drives.ndim == 3 else None)
    rules, parameters = layer.rules(), layer.parameters(brainstate.environ.get("dt"))
    _, trace = run_steps(rules, parameters, layer.state(), drives, keep_V=True)
    return {"spk": np.asarray(trace.spk), "V": np.asarray(trace.V), "V_pre": np.asarray(trace.V_compared)}


def weights(method: str, alpha: float, n: int) -> np.ndarray:
    """Return what lags 0 to ``n`` count, from the definitions."""
    m = np.arange(1, n + 1)
    if method in ("gl", "cn"):
        return np.concatenate([[1.0], np.cumprod((m - 1 - alpha) / m)])
    if method == "pred":
        return np.diff(np.arange(n + 2.0) ** alpha)
    powers = np.arange(n + 2.0) ** (1 - alpha)
    powers[0] = 0  # at order 1 too, where NumPy says 0**0 = 1
    return np.concatenate([[1.0], np.diff(powers, 2)])


def gain(method: str, alpha: float, h: float) -> float:
    factor = {"l1": math.gamma(2 - alpha), "pred": 1 / math.gamma(1 + alpha)}
    return h**alpha * factor.get(method, 1.0)


def reference(
    drive: np.ndarray,
    *,
    method: str,
    alpha: list[float],
    coefficients: list[float],
    tau: float,
    scale: float,
    V_th: float = 1.0,
    leak: float = 1.0,
    reset: str = "current",
    clear: bool = False,
    lookahead: float | None = None,
    lags: int | None = None,
) -> dict[str, np.ndarray]:
    """Step one neuron with full sums over what it remembers; times in ms, ``dt`` 1 ms.

    The equation is ``(tau/scale) sum_j w_j D^alpha_j y = J - leak V`` in units of ``scale``, with ``V = y + base``.
    """
    h, T = 1 / scale, len(drive)
    rate_of = scale / tau
    weight = [weights(method, a, T + 1) for a in alpha]
    per_term = [w / gain(method, a, h) for a, w in zip(alpha, coefficients, strict=True)]
    a, total = alpha[0], sum(per_term)
    lags = T if lags is None else lags
    V, base, start = 0.0, 0.0, 0  # the past begins at index ``start`` of the lists below
    y: list[float] = [0.0]
    rates: list[float] = []
    J_before = 0.0
    seen: dict[str, list[float]] = {"spk": [], "V": [], "V_pre": []}

    def reach(J: float) -> float:
        """Return the y that one step reaches with the drive ``J``."""
        k = len(y) - 1
        if method == "pred":
            f = [*rates[start:], (J - leak * (y[-1] + base)) * rate_of]
            kept = f[max(0, len(f) - 1 - lags) :]
            return sum(weight[0][m] * value for m, value in enumerate(reversed(kept))) / total
        past = [y[i] for i in range(max(start, k + 1 - lags), k + 1)]
        summed = sum(
            c * sum(w[m + 1] * value for m, value in enumerate(reversed(past)))
            for c, w in zip(per_term, weight, strict=True)
        )
        source, before = J - leak * base, J_before
        if method != "cn":
            return ((source - leak * y[-1]) * rate_of - summed) / total
        # (1 - a/2) f at the new time and a/2 f at the old one, and jumps of the drive count (1 - a)/2 more.
        driven = source + (1 - a) / 2 * (source - before)
        return (rate_of * (driven - leak * a / 2 * y[-1]) - summed) / (total + leak * rate_of * (1 - a / 2))

    for J in drive:
        V_pre = reach(J) + base
        decided = V_pre if lookahead is None else V + lookahead / tau * (J - leak * V)
        spk = float(decided >= V_th)
        J_used = J - V_th * spk if reset == "current" else J
        if reset == "current":
            V = reach(J_used) + base
        else:
            V = (V_pre - V_th if reset == "subtract" else 0.0) if spk else V_pre
        rates.append((J_used - leak * (y[-1] + base)) * rate_of)
        J_before = J_used - leak * base
        if method == "pred" and reset != "current":
            base += V - V_pre  # a sum of rates does not know of a jump of the voltage
        if clear and spk:
            base, y, rates, start, J_before = V, [0.0], [], 0, 0.0
        else:
            y.append(V - base)
        for key, value in (("spk", spk), ("V", V), ("V_pre", decided)):
            seen[key].append(value)
    return {key: np.array(values) for key, values in seen.items()}


CASES: list[dict[str, Any]] = [
    *[{"method": method} for method in ("gl", "l1", "pred", "cn")],
    *[{"method": method, "reset": "subtract"} for method in ("gl", "pred", "cn")],
    *[{"method": method, "reset": "zero"} for method in ("gl", "pred")],
    *[{"method": method, "reset": "subtract", "history": "clear"} for method in ("gl", "l1", "pred", "cn")],
    *[{"method": method, "reset": "zero", "history": "clear"} for method in ("gl", "pred")],
    {"method": "gl", "alpha": [0.3, 0.8], "coefficients": [0.7, 0.4]},
    {"method": "gl", "alpha": [0.3, 0.8], "coefficients": [0.7, 0.4], "reset": "subtract", "time_scale": 2.5},
    {"method": "cn", "coefficients": [1.7], "time_scale": 2.5},
    {"method": "pred", "time_scale": 2.5, "lookahead": 1.5},
    {"method": "gl", "lookahead": 0.0},
    {"method": "gl", "lookahead": 1.0, "reset": "zero"},
    {"method": "pred", "lookahead": 1.0, "reset": "subtract", "history": "clear"},
    {"method": "gl", "leak": 0.0},
    {"method": "cn", "leak": 0.0, "reset": "subtract"},
    {"method": "pred", "leak": 0.0, "reset": "subtract", "lookahead": 1.0},
    {"method": "gl", "lags": 4},
    {"method": "gl", "lags": 1, "reset": "subtract"},
    {"method": "pred", "lags": 4},
    {"method": "cn", "lags": 3, "reset": "zero", "history": "clear"},
]


def label(case: dict[str, Any]) -> str:
    return "-".join(f"{key}={value}" if key != "method" else value for key, value in case.items())


@pytest.mark.parametrize("case", CASES, ids=label)
def test_full_sums(case: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    drive = rng.normal(1.1, 1.3, (T, B, 2)) + (np.arange(T) % 10 == 4)[:, None, None]
    alpha, coefficients, tau = case.get("alpha", [0.65]), case.get("coefficients"), 3.0
    scale, lookahead, lags = case.get("time_scale"), case.get("lookahead"), case.get("lags")
    options = {key: case[key] for key in ("method", "reset", "history") if key in case}
    with double_precision():
        layer = (IF if case.get("leak") == 0 else LIF)(
            2,
            alpha=alpha,
            coefficients=coefficients,
            tau=tau * u.ms,
            time_scale=None if scale is None else scale * u.ms,
            lookahead=None if lookahead is None else lookahead * u.ms,
            kernel="dense",
            horizon=T if lags is None else None,
            memory=lags,
            **options,
        )
        seen = traces(layer, drive)
    for index in np.ndindex(B, 2):
        expected = reference(
            drive[(slice(None), *index)],
            method=case["method"],
            alpha=alpha,
            coefficients=coefficients or [1.0] * len(alpha),
            tau=tau,
            scale=scale or tau,
            leak=case.get("leak", 1.0),
            reset=case.get("reset", "current"),
            clear=case.get("history") == "clear",
            lookahead=lookahead,
            lags=lags,
        )
        assert 2 <= expected["spk"].sum() < T
        for key, values in expected.items():
            np.testing.assert_allclose(seen[key][(slice(None), *index)], values, rtol=0, atol=1e-11, err_msg=key)


@pytest.mark.parametrize(("rule", "lags"), [("past", 3), ("spikede", 2)])
def test_memory_rules(rule: str, lags: int) -> None:
    # A memory of three keeps three past voltages, of spikeDE two. A single kick shows which lags act.
    drive = np.zeros((8, 1))
    drive[0] = 1.0
    layer = IF(1, alpha=0.5, tau=1 * u.ms, V_th=SILENT, kernel="dense", memory=3, memory_rule=rule)
    assert layer.past().n_slots == lags
    V, w = traces(layer, drive)["V"][:, 0], weights("gl", 0.5, 8)
    expected = [1.0]
    for k in range(1, 8):
        expected.append(-sum(w[m] * expected[k - m] for m in range(1, min(lags, k) + 1)))
    np.testing.assert_allclose(V, expected, rtol=0, atol=1e-6)


def test_a_memory_of_one_is_one_value_or_none() -> None:
    drive, w = np.ones((5, 1)), weights("gl", 0.5, 1)[1]
    layer = IF(1, alpha=0.5, tau=1 * u.ms, V_th=SILENT, kernel="dense", memory=1)
    expected = [sum((-w) ** i for i in range(k)) for k in range(1, 6)]
    np.testing.assert_allclose(traces(layer, drive)["V"][:, 0], expected, rtol=1e-6)
    # The rates of the present and of one step before, from the second step on.
    layer = IF(1, alpha=0.5, tau=1 * u.ms, V_th=SILENT, method="pred", kernel="dense", memory=1)
    both = 1 + weights("pred", 0.5, 1)[1]
    expected = gain("pred", 0.5, 1.0) * np.array([1.0, both, both, both, both])
    np.testing.assert_allclose(traces(layer, drive)["V"][:, 0], expected, rtol=1e-6)
    # spikeDE's memory of one remembers nothing: v = h^alpha f.
    layer = LIF(1, alpha=0.5, tau=4 * u.ms, V_th=SILENT, kernel="dense", memory=1, memory_rule="spikede")
    assert layer.past().n_slots == 0
    V, expected = traces(layer, drive)["V"][:, 0], [0.0]
    for _ in range(5):
        expected.append(0.5 * (1 - expected[-1]))
    np.testing.assert_allclose(V, expected[1:], rtol=1e-6)


def lif_neuron_fde(drive: np.ndarray, alpha: float, tau: float, V_th: float) -> tuple[np.ndarray, np.ndarray]:
    """Step spikeDE's neuron with its own memory: the voltage jumps by ``V_th``, and what is remembered has jumped.

    v_post = h^a (I - v_k)/tau - sum_m c_m v_{k+1-m}, s = H(v_post - V_th), v_{k+1} = v_post - s V_th, with h = 1.
    """
    c = weights("gl", alpha, len(drive) + 1)
    v, spikes = [np.zeros_like(drive[0])], []
    for k, x in enumerate(drive):
        v_post = (x - v[k]) / tau - sum(c[m] * v[k + 1 - m] for m in range(1, k + 1))
        spikes.append((v_post >= V_th).astype(float))
        v.append(v_post - V_th * spikes[-1])
    return np.stack(v[1:]), np.stack(spikes)


def test_neuron_of_spikede_that_jumps() -> None:
    drive = np.random.default_rng(4).normal(2.5, 2.0, (T, N))
    V, spk = lif_neuron_fde(drive, 0.6, 2.0, 1.0)
    with double_precision():
        layer = LIF(N, alpha=0.6, tau=2 * u.ms, time_scale=1 * u.ms, reset="subtract", kernel="dense", horizon=T)
        seen = traces(layer, drive)
    assert 10 < spk.sum() < 0.8 * spk.size
    np.testing.assert_array_equal(seen["spk"], spk)
    np.testing.assert_allclose(seen["V"], V, rtol=0, atol=1e-12)


# Order 1 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["soe", "dense"])
@pytest.mark.parametrize("method", ["gl", "l1", "pred", "cn"])
def test_order_one_is_the_integer_order_neuron(method: str, kernel: str) -> None:
    drive = np.random.default_rng(5).normal(1.2, 2.0, (T, N))
    with double_precision():
        horizon = T if kernel == "dense" else None
        layer = LIF(N, alpha=1.0, tau=4 * u.ms, method=method, reset="subtract", kernel=kernel, horizon=horizon)
        seen = traces(layer, drive)
    V, h = np.zeros(N), 1 / 4
    for k, x in enumerate(drive):
        # Euler's rule, or the trapezoidal rule with the drive held over the step.
        V = V + h * (x - V) if method != "cn" else (V * (1 - h / 2) + h * x) / (1 + h / 2)
        spk = (V >= 1).astype(float)
        V = V - spk
        np.testing.assert_array_equal(seen["spk"][k], spk)
        # The weights of pred that do not fade at all leave a rest of 1e-10 in its leaky sums.
        atol = 1e-8 if (method, kernel) == ("pred", "soe") else 1e-12
        np.testing.assert_allclose(seen["V"][k], V, rtol=0, atol=atol)
    assert seen["spk"].sum() > 5


# Properties --------------------------------------------------------------------------------------------------------


@functools.cache
def prepared(kind: str) -> tuple[bh.nn.FractionalLayer, Callable[..., dict[str, jax.Array]]]:
    """Return a layer whose orders may be written, and its compiled run over ``[T, B, N]``."""
    options: dict[str, Any] = {
        "silent": {"V_th": SILENT},
        "spiking": {"reset": "subtract"},
        "dense": {"kernel": "dense", "horizon": T, "reset": "subtract"},
        "cn": {"method": "cn", "V_th": SILENT},
        "pred": {"method": "pred", "V_th": SILENT},
        "list": {"V_th": 1 * u.mV, "reset": "subtract"},
    }[kind]
    start = np.full(N, 0.5)
    layer = LIF(N, alpha=[start] if kind == "list" else start, tau=5 * u.ms, learn_alpha="raw", **options)

    def run(alpha: jax.Array, drives: jax.Array) -> dict[str, jax.Array]:
        layer.alpha.val.value = alpha.reshape(layer.alpha.val.value.shape)
        layer.init_state(drives.shape[1] if drives.ndim == 3 else None)
        rules, parameters = layer.rules()._replace(trainable=(False,) * 4), layer.parameters(1.0 * u.ms)
        final, trace = run_steps(rules, parameters, layer.state(), drives, keep_V=True)
        return {"spk": trace.spk, "V": trace.V, "slots": final.slots}

    return layer, brainstate.transform.jit(run)


def drawn(seed: int, shape: tuple[int, ...] = (T, B, N)) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    alpha = rng.uniform(0.05, 1.0, N)
    return jnp.asarray(alpha, dtype=jnp.float32), jnp.asarray(rng.normal(1.0, 2.0, shape), dtype=jnp.float32)


@pytest.mark.parametrize("kind", ["silent", "cn", "pred"])
@given(seed=seeds, factor=st.floats(-3, 3))
@few
def test_linear_below_threshold(kind: str, seed: int, factor: float) -> None:
    _, run = prepared(kind)
    alpha, one = drawn(seed)
    _, other = drawn(seed + 1)
    together = run(alpha, one + factor * other)["V"]
    apart = run(alpha, one)["V"] + factor * run(alpha, other)["V"]
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-4)


@given(seed=seeds)
@few
def test_a_list_of_one_term_is_that_term(seed: int) -> None:
    alpha, drives = drawn(seed)
    found, expected = (prepared(kind)[1](alpha, drives) for kind in ("list", "spiking"))
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values)


@given(seed=seeds)
@few
def test_leaky_sums_fire_as_full_sums_do(seed: int) -> None:
    alpha, drives = drawn(seed)
    found, expected = (prepared(kind)[1](alpha, drives) for kind in ("spiking", "dense"))
    assert expected["spk"].sum() > 5
    # Only a voltage within rounding of the threshold could make a difference.
    np.testing.assert_array_equal(found["spk"], expected["spk"])
    np.testing.assert_allclose(found["V"], expected["V"], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "pred"},
        {"method": "cn", "reset": "zero"},
        {"method": "pred", "reset": "subtract", "history": "clear"},
    ],
    ids=label,
)
def test_leaky_sums_fire_as_full_sums_do_with_other_methods(options: dict[str, Any]) -> None:
    alpha, drives = drawn(11)
    found, expected = (
        traces(LIF(N, alpha=alpha, tau=5 * u.ms, kernel=kernel, horizon=T, **options), drives)
        for kernel in ("soe", "dense")
    )
    assert expected["spk"].sum() > 5
    np.testing.assert_array_equal(found["spk"], expected["spk"])
    np.testing.assert_allclose(found["V"], expected["V"], rtol=0, atol=2e-5)


@given(seed=seeds)
@few
def test_one_sample_is_a_row_of_a_batch(seed: int) -> None:
    _, run = prepared("spiking")
    alpha, drives = drawn(seed)
    batch, alone = run(alpha, drives), run(alpha, drives[:, 1])
    np.testing.assert_array_equal(batch["spk"][:, 1], alone["spk"])
    np.testing.assert_allclose(batch["V"][:, 1], alone["V"], rtol=0, atol=1e-6)


def test_vmap_is_a_loop() -> None:
    layer = LIF(N, alpha=0.6, tau=5 * u.ms, reset="subtract")
    drives = drawn(6)[1]
    rules, parameters = layer.rules(), layer.parameters(1.0 * u.ms)

    def alone(drives: jax.Array) -> tuple[jax.Array, jax.Array]:
        layer.init_state()
        _, trace = run_steps(rules, parameters, layer.state(), drives, keep_V=True)
        return trace.spk, trace.V

    spk, V = jax.vmap(alone, in_axes=1, out_axes=1)(drives)
    expected_spk, expected_V = (
        jnp.stack(parts, axis=1) for parts in zip(*map(alone, drives.swapaxes(0, 1)), strict=True)
    )
    np.testing.assert_array_equal(spk, expected_spk)
    np.testing.assert_allclose(V, expected_V, rtol=0, atol=1e-6)
    assert spk.sum() > 5


@pytest.mark.parametrize(
    "options",
    [{}, {"kernel": "dense", "horizon": T}, {"method": "cn", "reset": "zero", "history": "clear"}],
    ids=["soe", "dense", "cn, clear"],
)
def test_chunks_compiled_or_not_are_one_run(options: dict[str, Any]) -> None:
    drives = drawn(7)[1] * u.mV
    layer = LIF(N, alpha=0.6, tau=5 * u.ms, **options)
    whole, seen = brainstate.transform.jit(lambda: bh.rollout(layer, drives, record=(".V",)))()
    state = {name: value.value for name, value in vars(layer).items() if isinstance(value, brainstate.HiddenState)}
    assert 5 < whole.sum() < 0.9 * whole.size
    eager, eager_seen = bh.rollout(layer, drives, record=(".V",))
    np.testing.assert_array_equal(whole, eager)
    np.testing.assert_allclose(seen[".V"].mantissa, eager_seen[".V"].mantissa, rtol=0, atol=1e-6)

    bh.prepare_net(layer, B)
    one, _ = bh.rollout(layer, drives[:11], prepare=False)
    single = layer(drives[11])
    other = layer.update_sequence(drives[12:])
    np.testing.assert_array_equal(jnp.concatenate([one, single[None], other]), whole)
    for name, value in state.items():
        found, expected = u.get_mantissa(getattr(layer, name).value), u.get_mantissa(value)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=name)


def test_units_do_not_matter() -> None:
    alpha, drives = drawn(8)
    results = []
    for ms, mV, drive in ((u.ms, u.mV, drives * u.mV), (u.second, u.volt, drives / 1000 * u.volt)):
        time, voltage = (1.0 if ms is u.ms else 1e-3), (1.0 if mV is u.mV else 1e-3)
        layer = LIF(
            N,
            alpha=alpha,
            tau=5 * time * ms,
            V_th=1.5 * voltage * mV,
            time_scale=2 * time * ms,
            lookahead=time * ms,
        )
        with brainstate.environ.context(dt=time * ms):
            results.append(bh.rollout(layer, drive, record=(".V",)))
    (spk, seen), (other_spk, other_seen) = results
    np.testing.assert_array_equal(spk, other_spk)
    np.testing.assert_allclose(seen[".V"].to(u.mV).mantissa, other_seen[".V"].to(u.mV).mantissa, rtol=0, atol=2e-6)
    assert spk.sum() > 5


def test_voltage_that_decides_is_offered_to_a_recorder() -> None:
    drives = drawn(9)[1]
    for options in ({}, {"lookahead": 2 * u.ms}, {"reset": "zero"}):
        layer = LIF(N, alpha=0.6, tau=5 * u.ms, **options)
        spk, seen = bh.rollout(layer, drives * u.mV, record=(".V_pre", ".spk"))
        np.testing.assert_array_equal(spk, seen[".V_pre"].to(u.mV).mantissa >= 1.0)
        np.testing.assert_array_equal(spk, seen[".spk"])


def test_orders_can_be_replaced() -> None:
    drives = drawn(10)[1]
    layer = LIF(N, alpha=0.6, tau=5 * u.ms)
    layer.set_orders([0.3, 0.9], [1.0, 0.5], learn_alpha=True, learn_coefficients=True)
    assert layer.learns_alpha
    assert layer.learns_coefficients
    np.testing.assert_allclose(layer.orders(), [0.3, 0.9], rtol=1e-6)
    np.testing.assert_allclose(layer.term_coefficients(), [1.0, 0.5], rtol=1e-6)
    fixed = LIF(N, alpha=[0.3, 0.9], coefficients=[1.0, 0.5], tau=5 * u.ms)
    assert not fixed.learns_alpha
    np.testing.assert_allclose(traces(layer, drives)["V"], traces(fixed, drives)["V"], rtol=0, atol=1e-5)

    layer.set_orders(np.linspace(0.2, 0.9, N))
    assert layer.orders().shape == (1, N)
    layer.method = "pred"
    assert layer.method == "pred"
    expected = LIF(N, alpha=np.linspace(0.2, 0.9, N), tau=5 * u.ms, method="pred")
    np.testing.assert_array_equal(traces(layer, drives)["V"], traces(expected, drives)["V"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "alpha", "kernel"),
    [
        *[("gl", alpha, kernel) for alpha in (0.5, [0.3, 0.8]) for kernel in ("dense", "soe")],
        *[("l1", 0.5, "soe"), ("trap", 0.5, "dense"), ("pred", 0.5, "soe"), ("cn", 0.5, "dense")],
    ],
)
def test_one_order_for_all_may_stand_beside_a_time_constant_for_each(method: str, alpha: Any, kernel: str) -> None:
    tau = jnp.array([10.0, 20.0, 30.0]) * u.ms
    x = 3.0 * jax.random.uniform(jax.random.key(0), (40, 2, 3)) * u.mV
    each = [jnp.full(3, order) for order in alpha] if isinstance(alpha, list) else jnp.full(3, alpha)
    runs = []
    for order in (alpha, each):
        options = {"horizon": 40} if kernel == "dense" else {}
        layer = LIF(3, alpha=order, tau=tau, method=method, kernel=kernel, learn_alpha=True, **options)
        weights = layer.states(brainstate.ParamState)

        def summed(layer=layer) -> tuple[Any, Any]:
            spikes, seen = bh.rollout(layer, x, record=(".V",))
            return (seen[".V"] / u.mV).sum(), (spikes, seen[".V"])

        grads, _, (spikes, V) = brainstate.transform.grad(summed, weights, has_aux=True, return_value=True)()
        total = np.array([np.sum(leaf) for leaf in jax.tree.leaves(grads)])
        runs.append((np.asarray(spikes), np.asarray(V / u.mV), total))
    (spikes, V, total), (same_spikes, same_V, same_total) = runs
    np.testing.assert_array_equal(spikes, same_spikes)
    assert spikes.any()
    np.testing.assert_allclose(V, same_V, atol=1e-6)
    np.testing.assert_allclose(total, same_total, rtol=1e-4)
