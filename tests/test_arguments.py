"""The checks of what a caller passed: what they return, and what each message says."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainhw import _arguments

SAID = {"call": "Call", "name": "thing"}
examples = settings(derandomize=True, deadline=None, max_examples=50)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.5, "1.5"),
        (True, "True"),
        (None, "None"),
        ("word", "'word'"),
        (np.ones((2, 3), np.int32), "an array of shape (2, 3) and dtype int32"),
        (jnp.ones(4), "an array of shape (4,) and dtype float32"),
        (np.ones(2) * u.mV, "a Quantity in mV of shape (2,)"),
        ([1, 2], "list [1, 2]"),
        (list(range(100)), "list [0, 1, 2"),
    ],
)
def test_describe_says_what_came_in_a_few_words(value: Any, said: str) -> None:
    text = _arguments.describe(value)
    assert text.startswith(said)
    assert len(text) < 80


def test_describe_of_a_scalar_quantity_has_number_and_unit() -> None:
    text = _arguments.describe(3.0 * u.mV)
    assert "3" in text
    assert "mV" in text


def test_describe_of_a_traced_value_does_not_fail() -> None:
    def look(x: jax.Array) -> jax.Array:
        assert "shape (3,)" in _arguments.describe(x)
        assert "mV of shape (3,)" in _arguments.describe(x * u.mV)
        assert not _arguments.is_concrete(x)
        return x

    jax.jit(look)(jnp.ones(3))
    assert _arguments.is_concrete({"a": jnp.ones(2), "b": [1.0, np.ones(3) * u.ms]})


@examples
@given(st.floats(1e-3, 1e6), st.sampled_from([(u.ms, 1.0), (u.second, 1e-3), (u.us, 1e3)]))
def test_quantity_converts_and_keeps_python_floats_weakly_typed(value: float, unit: tuple[u.Unit, float]) -> None:
    out = _arguments.quantity(value * unit[1] * unit[0], u.ms, **SAID, shapes=[()], positive=True)
    assert u.get_unit(out) == u.ms
    assert type(out.mantissa) is float
    assert out.mantissa == pytest.approx(value, rel=1e-9)
    assert (jnp.float16(1) * out.mantissa).dtype == jnp.float16


@examples
@given(hnp.arrays(np.float64, 3, elements=st.floats(-1e6, 1e6)))
def test_quantity_keeps_arrays_and_turns_whole_numbers_into_floats(values: np.ndarray) -> None:
    out = _arguments.quantity(values * u.volt, u.mV, **SAID, shapes=[(3,)])
    np.testing.assert_allclose(out.mantissa, values * 1e3, rtol=1e-12)
    assert _arguments.quantity(np.arange(3) * u.ms, u.ms, **SAID).mantissa.dtype == np.float64
    assert isinstance(_arguments.quantity(3 * u.ms, u.ms, **SAID).mantissa, float)


@pytest.mark.parametrize(
    ("value", "options", "error", "message"),
    [
        (5.0, {}, TypeError, r"thing must be a Quantity with the dimension of ms, for example 10 \* u.ms; got 5.0\."),
        (5, {}, TypeError, r"thing must be a Quantity"),
        (u.Quantity(5.0), {}, TypeError, r"thing must be a Quantity with the dimension of ms"),
        (5.0 * u.mV, {}, TypeError, r"thing must have the dimension of ms, for example 10 \* u.ms; got .*mV"),
        ([1.0, 2.0] * u.ms, {"shapes": [()]}, ValueError, r"thing must be a scalar; got shape \(2,\)"),
        (
            1.0 * u.ms,
            {"shapes": [(2,), (2, 3)]},
            ValueError,
            r"thing must be shape \(2,\) or shape \(2, 3\); got shape \(\)",
        ),
        (0.0 * u.ms, {"positive": True}, ValueError, r"thing must be greater than zero; got 0. ms"),
        (-1.0 * u.ms, {"nonnegative": True}, ValueError, r"thing must be zero or greater; got -1. ms"),
        ([1.0, np.nan] * u.ms, {}, ValueError, r"thing must be finite; got 1 NaN or infinite value.* among 2"),
        ([1.0, -2.0] * u.ms, {"positive": True}, ValueError, r"thing must be greater than zero; got .* minimum -2"),
        (-np.inf * u.ms, {"positive": True}, ValueError, r"thing must be finite"),
    ],
)
def test_quantity_refuses(value: Any, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^Call: {message}"):
        _arguments.quantity(value, u.ms, **SAID, **options)


def test_quantity_lets_a_traced_value_through_but_checks_its_shape_and_unit() -> None:
    @jax.jit
    def run(x: jax.Array) -> jax.Array:
        return _arguments.quantity(x * u.second, u.ms, **SAID, shapes=[(2,)], positive=True).mantissa

    np.testing.assert_allclose(run(jnp.array([-1.0, 2.0])), [-1000.0, 2000.0])
    with pytest.raises(ValueError, match=r"Call: thing must be shape \(2,\); got shape \(3,\)"):
        run(jnp.ones(3))


@pytest.mark.parametrize("unit", [u.ms, u.mV, u.fcoulomb, u.ffarad, u.pjoule, u.uwatt, u.Hz])
def test_unit_name_is_the_attribute_that_a_user_types(unit: u.Unit) -> None:
    assert getattr(u, _arguments.unit_name(unit)) == unit


def test_number_returns_floats_and_refuses_units_words_and_bounds() -> None:
    assert _arguments.number(3, **SAID) == 3.0
    assert type(_arguments.number(np.int64(3), **SAID)) is float
    np.testing.assert_array_equal(_arguments.number([1, 2], **SAID, shapes=None), [1.0, 2.0])
    for value, error, message in (
        (3 * u.ms, TypeError, r"thing must be a number without a unit; got .*ms"),
        ("three", TypeError, "thing must be a number; got 'three'"),
        ([1, 2], ValueError, r"thing must be a scalar; got shape \(2,\)"),
        (np.nan, ValueError, "thing must be finite"),
    ):
        with pytest.raises(error, match=f"^Call: {message}"):
            _arguments.number(value, **SAID)
    with pytest.raises(ValueError, match="Call: thing must be greater than zero"):
        _arguments.number(0.0, **SAID, positive=True)
    with pytest.raises(ValueError, match="Call: thing must be zero or greater"):
        _arguments.number(-0.5, **SAID, nonnegative=True)


def test_a_traced_number_is_refused_unless_asked_for() -> None:
    with pytest.raises(TypeError, match=r"^Call: thing must be a number and not a traced value; got an"):
        jax.jit(lambda x: _arguments.number(x, **SAID))(3.0)
    run = jax.jit(lambda x: _arguments.number([x, 2 * x], **SAID, shapes=[(2,)], positive=True, traced=True))
    np.testing.assert_array_equal(run(-1.0), [-1.0, -2.0])
    with pytest.raises(ValueError, match=r"thing must be a scalar; got shape \(2,\)"):
        jax.jit(lambda x: _arguments.number(x, **SAID, traced=True))(jnp.ones(2))


@examples
@given(st.integers(1, 10**6))
def test_whole_numbers_of_any_kind_pass(n: int) -> None:
    for value in (n, np.int32(n), np.uint64(n)):
        out = _arguments.positive_int(value, **SAID)
        assert out == n
        assert type(out) is int
        assert (
            _arguments.size(value, **SAID) == _arguments.size((value,), **SAID) == _arguments.size([value], **SAID) == n
        )


@pytest.mark.parametrize("value", [0, -1, False, True, np.int64(0)])
def test_too_small_whole_numbers_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^Call: thing must be at least 1; got "):
        _arguments.positive_int(value, **SAID)


@pytest.mark.parametrize("value", [1.0, "1", None, [1], 1 * u.ms, np.float32(2), np.ones(2, int)])
def test_what_is_no_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^Call: thing must be an integer; got "):
        _arguments.positive_int(value, **SAID)


@pytest.mark.parametrize("value", [(), (2, 3), [1, 2, 3]])
def test_a_size_is_one_number(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^Call: thing must be a single integer, the number of neurons; got "):
        _arguments.size(value, **SAID)


def test_choice_lists_the_options() -> None:
    assert _arguments.choice("a", ("a", "b"), **SAID) == "a"
    for value in ("c", 3, None, ["a"], np.ones(2)):
        with pytest.raises(ValueError, match=r"^Call: thing must be one of 'a', 'b'; got "):
            _arguments.choice(value, ("a", "b"), **SAID)


@pytest.mark.parametrize("value", [[1, 2], (1.0,), np.ones((2, 3)), jnp.ones(2), 3, True, np.float32(1)])
def test_arrays_of_numbers_pass(value: Any) -> None:
    np.testing.assert_array_equal(_arguments.as_array(value, **SAID), np.asarray(value))


@pytest.mark.parametrize("value", ["words", ["a", "b"], [[1, 2], [3]], None, {"a": 1}, object(), [1.0, None]])
def test_what_is_no_array_of_numbers_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^Call: thing must be an array of numbers; got "):
        _arguments.as_array(value, **SAID)


def test_as_array_refuses_units_and_lists_of_traced_arrays() -> None:
    with pytest.raises(TypeError, match=r"^Call: thing must be plain numbers without a unit.* got a Quantity in mV"):
        _arguments.as_array(np.ones(3) * u.mV, **SAID)
    with pytest.raises(TypeError, match=r"^Call: thing must be an array of numbers; got list"):
        jax.jit(lambda x: _arguments.as_array([x, x], **SAID))(jnp.ones(2))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, jnp.bfloat16, np.complex64])
def test_the_first_number_that_is_not_finite_is_pointed_at(dtype: Any) -> None:
    values = np.ones((2, 3), dtype)
    if dtype is np.complex64:
        with pytest.raises(TypeError, match="Call: thing must be real; got numbers of dtype complex64"):
            _arguments.check_finite(values, **SAID)
    else:
        _arguments.check_finite(values, **SAID)
    values[1, 0] = values[1, 2] = np.inf
    with pytest.raises(
        ValueError, match=r"^Call: thing contains 2 NaN or infinite .* first at index \(1, 0\); do this\."
    ):
        _arguments.check_finite(values, **SAID, fix="do this")
    with pytest.raises(ValueError, match="clean the data before this call"):
        _arguments.check_finite_tree({"a": [np.ones(2), values * u.mV]}, **SAID)


def test_finiteness_of_what_has_none_or_is_traced_is_not_checked() -> None:
    for value in (np.ones(3, bool), np.arange(3), 3, "word"):
        _arguments.check_finite(value, **SAID)
    jax.jit(lambda x: _arguments.check_finite(x * np.nan, **SAID))(jnp.ones(2))


def test_the_last_axis_and_the_rank_are_checked() -> None:
    _arguments.check_last_axis(np.ones((2, 3)), 3, **SAID)
    _arguments.check_last_axis(np.ones((5, 2, 3)) * u.mV, 3, **SAID, ndims=(2, 3))
    with pytest.raises(ValueError, match=r"^Call: the last axis of thing must have length 4; got shape \(2, 3\)"):
        _arguments.check_last_axis(np.ones((2, 3)), 4, **SAID)
    with pytest.raises(ValueError, match=r"^Call: thing must have shape \[3\] or \[B, 3\]; got shape \(4, 2, 3\)"):
        _arguments.check_last_axis(np.ones((4, 2, 3)), 3, **SAID, ndims=(1, 2))
    with pytest.raises(ValueError, match=r"^Call: thing must have shape \[B, 3\] or \[T, B, 3\]; got shape \(3,\)"):
        _arguments.check_last_axis(np.ones(3), 3, **SAID, ndims=(2, 3))
    with pytest.raises(ValueError, match=r"length 3; got shape \(\)"):
        _arguments.check_last_axis(1.0, 3, **SAID)


def test_the_time_step_is_read_in_milliseconds() -> None:
    with brainstate.environ.context(dt=0.002 * u.second):
        assert _arguments.time_step(call="Call").mantissa == pytest.approx(2.0)


@pytest.mark.no_dt
def test_a_missing_time_step_is_explained() -> None:
    with pytest.raises(RuntimeError, match=r"^Call: no time step is set. .*context\(dt=1. \* u.ms\).*environ.set"):
        _arguments.time_step(call="Call")
