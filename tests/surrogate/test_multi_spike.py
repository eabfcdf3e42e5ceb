"""Multi-spike functions: tables of Rockpool, the written derivatives, no limit on the spikes, wrong use."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainhw as bh
from brainhw.surrogate import PeriodicExponential, StepPWL

FOLDER = Path(__file__).parents[1] / "golden" / "rockpool"
TABLE = json.loads((FOLDER / "manifest.json").read_text())["files"]["surrogate_tables.npz"]["table"]
BOTH = pytest.mark.parametrize("kind", [StepPWL, PeriodicExponential])
modest = settings(max_examples=60, deadline=None, derandomize=True)


def with_derivatives(spike: Any, V: Any, V_th: Any, limit: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, back = jax.vjp(lambda V, V_th: spike(V, V_th, limit), V, V_th)
    return tuple(np.asarray(a) for a in (n, *back(jnp.ones_like(n))))


@pytest.mark.parametrize("entry", TABLE, ids=lambda e: f"{e['kind']}-{e['index']}")
def test_tables(entry: dict[str, Any]) -> None:
    with np.load(FOLDER / "surrogate_tables.npz") as arrays:
        table, i = dict(arrays), entry["index"]
    V = jnp.asarray(table["x"])
    spike = getattr(bh.surrogate, entry["kind"])(entry["window"])
    limit = int(entry["max_spikes_per_dt"])
    n, by_V, by_V_th = with_derivatives(spike, V, jnp.full_like(V, entry["threshold"]), limit)
    np.testing.assert_array_equal(n, table[f"y_{i}"])
    np.testing.assert_allclose(by_V, table[f"dydx_{i}"], rtol=2e-6, atol=2e-7)
    np.testing.assert_allclose(by_V_th, table[f"dydthr_{i}"], rtol=2e-6, atol=2e-6)


@BOTH
@modest
@given(V=st.floats(-1e4, 1e4, width=32), V_th=st.floats(0.125, 8, width=32), limit=st.sampled_from([None, 1, 3]))
def test_the_written_formulas(kind: type, V: float, V_th: float, limit: int | None) -> None:
    n, by_V, by_V_th = with_derivatives(kind(0.3), jnp.float32(V), jnp.float32(V_th), limit)
    ratio = np.float32(V) / np.float32(V_th)
    most = np.inf if limit is None else limit
    assert n == min(np.floor(ratio) if V_th <= V else 0, most)
    if kind is StepPWL:
        slope = (np.float32(V) >= np.float32(V_th) - np.float32(0.3)) / np.float32(V_th)
    else:
        nearest = np.clip(np.round(ratio), 1, most)
        slope = np.exp(-abs(np.float32(V) - nearest * np.float32(V_th)) / 0.3) / np.float32(V_th)
    np.testing.assert_allclose(by_V, slope, rtol=1e-4, atol=1e-30)
    np.testing.assert_allclose(by_V_th, -slope * ratio, rtol=1e-4, atol=1e-30)


@BOTH
def test_no_limit_is_finite_and_equals_a_limit_beyond_reach(kind: type) -> None:
    V = jnp.asarray([-1e6, 0.0, 0.7, 1.0, 3.2, 1e4])
    free = with_derivatives(kind(), V, jnp.ones_like(V), None)
    for one, other in zip(free, with_derivatives(kind(), V, jnp.ones_like(V), 2**16), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)


def test_the_limit_stops_one_derivative_and_not_the_other() -> None:
    V, V_th = jnp.float32(9.0), jnp.float32(1.0)
    assert with_derivatives(StepPWL(), V, V_th, 2)[:2] == (2.0, 1.0)
    n, by_V, _ = with_derivatives(PeriodicExponential(), V, V_th, 2)
    assert n == 2
    assert by_V == pytest.approx(np.exp(-7 / 0.5), rel=1e-5)


@BOTH
@pytest.mark.parametrize("limit", [None, 3, 2**24])
def test_a_traced_threshold_at_or_below_zero_gives_nan(kind: type, limit: int | None) -> None:
    V, V_th = jnp.array([-1.0, 0.0, 2.0, 2.0, 2.0]), jnp.array([-0.5, 0.0, -1.0, jnp.nan, 1.0])
    for one in with_derivatives(kind(), V, V_th, limit):
        np.testing.assert_array_equal(np.isnan(one), [True, True, True, True, False])
    np.testing.assert_array_equal(jax.jit(lambda *at: kind()(*at, limit))(V, V_th), [np.nan] * 4 + [2])


@BOTH
def test_units_cancel(kind: type) -> None:
    V, V_th = jnp.linspace(-1, 4, 21), 1.3
    plain = with_derivatives(kind(0.4), V, jnp.full_like(V, V_th), 2)[0]
    np.testing.assert_array_equal(kind(0.4 * u.mV)(V * u.mV, V_th * u.mV, 2), plain)
    np.testing.assert_array_equal(kind(4e-4 * u.volt)((V * 1e-3) * u.volt, (V_th * 1e-3) * u.volt, 2), plain)


@BOTH
def test_types_and_equality(kind: type) -> None:
    assert kind() == kind(0.5) == kind(0.5 * u.mV)
    assert kind() != kind(0.4)
    assert hash(kind()) == hash(kind(0.5))
    assert StepPWL() != PeriodicExponential()
    assert repr(kind(0.25)) == f"{kind.__name__}(window=0.25)"
    assert pickle.loads(pickle.dumps(kind(0.25))) == kind(0.25)
    assert kind()(3, 1).dtype == jnp.float32
    assert kind()(jnp.ones(2, jnp.float16), 1.0).dtype == jnp.float16
    half = jax.grad(lambda V: kind()(V, jnp.float16(1)))(jnp.float16(6e4))
    assert np.isfinite(half)


@BOTH
@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (lambda k: k(0), ValueError, "window must be greater than zero"),
        (lambda k: k(-1 * u.mV), ValueError, "window must be greater than zero"),
        (lambda k: k(np.inf), ValueError, "window must be finite"),
        (lambda k: k(1 * u.ms), TypeError, "window must have the dimension of mV"),
        (lambda k: k("wide"), TypeError, "window must be a number"),
        (lambda k: k()(1.0), TypeError, r"V_th is missing.*other layers take a single-spike"),
        (lambda k: k()(1.0 * u.mV, 1.0), TypeError, "must both be Quantities or both plain numbers"),
        (lambda k: k()(1.0 * u.mV, 1.0 * u.ms), TypeError, "V_th must have the dimension of mV"),
        (lambda k: k()(1.0, 1.0, 0), ValueError, "max_spikes must be at least 1"),
        (lambda k: k()(1.0, 1.0, 1.5), TypeError, "max_spikes must be an integer"),
        (lambda k: k()(1.0, 1.0, 2**24 + 1), ValueError, r"max_spikes must be at most 2\*\*24 .*got 16777217"),
        (lambda k: k()(1.0, 0.0), ValueError, r"V_th must be greater than zero; got 0 mV"),
        (lambda k: k()(jnp.ones(2), jnp.array([1.0, -0.5])), ValueError, r"V_th must be greater than zero; got -0.5"),
        (lambda k: k()(1.0, np.nan), ValueError, r"V_th must be greater than zero; got nan"),
        (lambda k: k()(1 * u.mV, -2e-3 * u.volt), ValueError, r"V_th must be greater than zero; got -2 mV"),
        (lambda k: jax.jit(k)(0.5), TypeError, r"window must be a number and not a traced value"),
    ],
)
def test_wrong_use(kind: type, wrong: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        wrong(kind)


def test_a_layer_for_single_spikes_says_what_it_wants() -> None:
    layer = bh.nn.LIFLayer(2, tau=10 * u.ms, spk_fun=StepPWL())
    with pytest.raises(TypeError, match="Use it with ALIFLayer or CubaLIFLayer"):
        layer(jnp.ones(2) * u.mV)
