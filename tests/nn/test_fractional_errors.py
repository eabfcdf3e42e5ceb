"""Wrong use of fractional layers: one clear error each, naming the call, the argument, what came and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

LIF, IF = bh.nn.FractionalLIFLayer, bh.nn.FractionalIFLayer
MS, MV = 10 * u.ms, u.mV


def param(value: Any) -> brainstate.nn.Param:
    return brainstate.nn.Param(jnp.asarray(value))


ALPHA = [
    ({"alpha": 0.0}, ValueError, r"alpha must be greater than 0 and at most 1; got 0\."),
    ({"alpha": -0.5}, ValueError, r"alpha must be greater than 0 and at most 1; got -0\.5"),
    ({"alpha": 1.5}, ValueError, r"alpha must be greater than 0 and at most 1; got 1\.5"),
    ({"alpha": np.nan}, ValueError, r"alpha must be finite"),
    ({"alpha": np.inf}, ValueError, r"alpha must be finite"),
    ({"alpha": "0.5"}, TypeError, r"alpha must be a number; got '0.5'"),
    ({"alpha": None}, TypeError, r"alpha must be a number; got None"),
    ({"alpha": True}, TypeError, r"alpha must be a number; got True"),
    ({"alpha": 0.5 * u.ms}, TypeError, r"alpha must be a number without a unit; got .*ms"),
    ({"alpha": []}, ValueError, r"alpha is empty. Pass the order of at least one term"),
    ({"alpha": np.ones(0)}, ValueError, r"alpha must be a number, a list .*; got an array of shape \(0,\)"),
    ({"alpha": [[0.3], [0.7]]}, ValueError, r"alpha is a nested list.*call brainhw.set_fractional_orders"),
    ({"alpha": [0.3, 1.2]}, ValueError, r"alpha\[1\] must be greater than 0 and at most 1; got 1\.2"),
    ({"alpha": [0.3, "x"]}, TypeError, r"alpha\[1\] must be a number; got 'x'"),
    ({"alpha": [0.3, None]}, TypeError, r"alpha\[1\] must be a number; got None"),
    (
        {"alpha": [0.3, np.full(2, 0.5)]},
        ValueError,
        r"alpha\[1\] must be a scalar or shape \(3,\); got .*\(2,\)",
    ),
    (
        {"alpha": np.full(4, 0.5)},
        ValueError,
        r"an array with one order .*, of shape \(3,\) or .*; got an array of shape \(4,\)",
    ),
    ({"alpha": np.full((2, 4), 0.5)}, ValueError, r"alpha must be .* or \(terms, 3\); got an array of shape \(2, 4\)"),
    ({"alpha": np.full((1, 2, 3), 0.5)}, ValueError, r"alpha must be .*; got an array of shape \(1, 2, 3\)"),
    ({"alpha": np.array([0.5, 0.0, 0.5])}, ValueError, r"alpha must be greater than 0 and at most 1"),
    ({"alpha": param(1.5)}, ValueError, r"alpha must be greater than 0 and at most 1"),
    (
        {"alpha": [0.3, 0.7], "method": "l1"},
        ValueError,
        r"method 'l1' supports only one term, but alpha has 2 terms. Pass",
    ),
    ({"alpha": [0.3, 0.7], "method": "pred"}, ValueError, r"'pred' supports only one term, but alpha has 2 terms"),
    ({"alpha": [0.3, 0.7], "method": "cn"}, ValueError, r"method 'cn' supports only one term, .* Pass method='gl'"),
]
COEFFICIENTS = [
    (
        {"coefficients": [1.0, 2.0]},
        ValueError,
        r"one coefficient for each of the 1 term\(s\) of alpha; got 2\.",
    ),
    (
        {"alpha": [0.3, 0.7], "coefficients": [1.0]},
        ValueError,
        r"one coefficient for each of the 2 term\(s\) .*; got 1\.",
    ),
    (
        {"alpha": [0.3, 0.7], "coefficients": 1.0},
        ValueError,
        r"one coefficient for each of the 2 term\(s\) of alpha; got 1\.",
    ),
    ({"alpha": [0.3, 0.7], "coefficients": [1.0, -2.0]}, ValueError, r"must be greater than 0; got -2. .*'raw'"),
    ({"alpha": [0.3, 0.7], "coefficients": [1.0, 0.0]}, ValueError, r"coefficients must be greater than 0"),
    (
        {"alpha": [0.3, 0.7], "coefficients": [1.0, -2.0], "learn_coefficients": True},
        ValueError,
        r"coefficients must be greater than 0",
    ),
    ({"coefficients": [np.nan]}, ValueError, r"coefficients\[0\] must be finite"),
    ({"coefficients": "one"}, TypeError, r"coefficients must be a number; got 'one'"),
    ({"coefficients": 1 * u.ms}, TypeError, r"coefficients must be a number without a unit; got .*ms"),
]
LEARNING = [
    ({"learn_alpha": "yes"}, ValueError, r"learn_alpha must be False, True or 'raw'; got 'yes'"),
    ({"learn_alpha": 1}, ValueError, r"learn_alpha must be False, True or 'raw'; got 1"),
    ({"learn_alpha": None}, ValueError, r"learn_alpha must be False, True or 'raw'; got None"),
    ({"learn_coefficients": [True]}, ValueError, r"learn_coefficients must be False, True or 'raw'; got list"),
    (
        {"learn_alpha": True, "alpha": 1.0},
        ValueError,
        r"value must be below 1; got 1. Use .* 0.99, or pass .*'raw'",
    ),
    ({"learn_alpha": True, "alpha": param(0.5)}, ValueError, r"alpha is a Param, .* Omit learn_alpha"),
    (
        {"learn_coefficients": True, "coefficients": param([1.0])},
        ValueError,
        r"coefficients is a Param, .* Omit learn_coefficients",
    ),
    ({"learn_tau": "raw"}, TypeError, r"learn_tau must be True or False; got 'raw'"),
    ({"learn_tau": 1}, TypeError, r"learn_tau must be True or False; got 1"),
    (
        {"learn_tau": True, "tau": brainstate.nn.Param(10.0 * u.ms)},
        ValueError,
        r"tau is a Param, so it is already trainable. Omit learn_tau",
    ),
    ({"detach_reset": 0}, TypeError, r"detach_reset must be True or False; got 0"),
    ({"spk_fun": 0.5}, TypeError, r"spk_fun must be a spike function, .*fast_sigmoid\(\); got 0.5"),
    ({"spk_fun": "atan"}, TypeError, r"spk_fun must be a spike function, .*; got 'atan'"),
]
MEMORY = [
    (
        {"memory": 5},
        ValueError,
        r"memory=5 requires kernel='dense', .* Pass kernel='dense', or omit",
    ),
    ({"memory": 0, "kernel": "dense"}, ValueError, r"memory must be at least 1; got 0"),
    ({"memory": -1, "kernel": "dense"}, ValueError, r"memory must be at least 1; got -1"),
    ({"memory": 5.0, "kernel": "dense"}, TypeError, r"memory must be an integer; got 5.0"),
    (
        {"kernel": "dense"},
        ValueError,
        r"kernel='dense' requires exactly one of horizon and memory, .* Set horizon to",
    ),
    (
        {"kernel": "dense", "horizon": 9, "memory": 5},
        ValueError,
        r"exactly one of horizon and memory, .* Set horizon to",
    ),
    ({"horizon": 0}, ValueError, r"horizon must be at least 1; got 0"),
    ({"horizon": 10.5}, TypeError, r"horizon must be an integer; got 10.5"),
    ({"n_exponentials": 3}, ValueError, r"n_exponentials must be from 4 to 128; got 3"),
    ({"n_exponentials": 1000}, ValueError, r"n_exponentials must be from 4 to 128; got 1000"),
    ({"n_exponentials": "24"}, TypeError, r"n_exponentials must be an integer; got '24'"),
    ({"memory_rule": "all"}, ValueError, r"memory_rule must be one of 'past', 'spikede'; got 'all'"),
]
CHOICES = [
    ({"method": "euler"}, ValueError, r"method must be one of 'gl', 'l1', 'trap', 'pred', 'cn'; got 'euler'"),
    ({"method": None}, ValueError, r"method must be one of .*; got None"),
    ({"kernel": "fft"}, ValueError, r"kernel must be one of 'soe', 'dense'; got 'fft'"),
    ({"reset": "soft"}, ValueError, r"reset must be one of 'current', 'subtract', 'zero'; got 'soft'"),
    ({"reset": None}, ValueError, r"reset must be one of .*; got None"),
    ({"history": "forget"}, ValueError, r"history must be one of 'keep', 'clear'; got 'forget'"),
    ({"history": "clear"}, ValueError, r"history='clear' .* reset='current', .* Pass reset='subtract' or"),
    ({"alpha_rule": "wrong"}, ValueError, r"alpha_rule must be one of 'exact', 'spikede'; got 'wrong'"),
]
UNITS = [
    ({"tau": 10.0}, TypeError, r"tau must be a Quantity with the dimension of ms.*got 10.0"),
    ({"tau": 10 * u.mV}, TypeError, r"tau must have the dimension of ms, .*got .*mV"),
    ({"tau": 0 * u.ms}, ValueError, r"tau must be greater than zero"),
    ({"tau": np.nan * u.ms}, ValueError, r"tau must be finite"),
    ({"tau": np.ones(4) * u.ms}, ValueError, r"tau must be a scalar or shape \(3,\); got shape \(4,\)"),
    ({"V_th": 1.0}, TypeError, r"V_th must be a Quantity with the dimension of mV.*got 1.0"),
    ({"V_th": 1 * u.ms}, TypeError, r"V_th must have the dimension of mV, .*got .*ms"),
    ({"V_th": -1 * u.mV}, ValueError, r"V_th must be greater than zero"),
    ({"V_th": np.ones(2) * u.mV}, ValueError, r"V_th must be a scalar or shape \(3,\); got shape \(2,\)"),
    ({"time_scale": 1.0}, TypeError, r"time_scale must be a Quantity with the dimension of ms.*got 1.0"),
    ({"time_scale": 1 * u.mV}, TypeError, r"time_scale must have the dimension of ms"),
    ({"time_scale": 0 * u.ms}, ValueError, r"time_scale must be greater than zero"),
    ({"time_scale": np.ones(3) * u.ms}, ValueError, r"time_scale must be a scalar; got shape \(3,\)"),
    ({"lookahead": 1}, TypeError, r"lookahead must be a Quantity with the dimension of ms.*got 1"),
    ({"lookahead": 1 * u.mV}, TypeError, r"lookahead must have the dimension of ms"),
    ({"lookahead": -1 * u.ms}, ValueError, r"lookahead must be zero or greater"),
    ({"lookahead": np.inf * u.ms}, ValueError, r"lookahead must be finite"),
]


@pytest.mark.parametrize("layer", [LIF, IF])
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [*ALPHA, *COEFFICIENTS, *LEARNING, *MEMORY, *CHOICES, *UNITS],
)
def test_constructor(
    layer: type[bh.nn.FractionalLayer], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        layer(3, **options)
    assert str(caught.value).startswith(f"{layer.__name__}: ")


@pytest.mark.parametrize(
    ("size", "error", "words"),
    [
        (0, ValueError, r"size must be at least 1; got 0"),
        (3.0, TypeError, r"size must be an integer; got 3.0"),
        ((2, 0), ValueError, r"size\[1\] must be at least 1; got 0"),
        ((), ValueError, r"size must be an integer or a nonempty tuple of integers; got \(\)"),
    ],
)
def test_size(size: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=rf"FractionalLIFLayer: {words}"):
        LIF(size)


INPUTS = [
    (lambda: jnp.ones(3), TypeError, r"the input must be a Quantity with the dimension of mV.*Pass spikes through"),
    (lambda: jnp.ones(3) * u.ms, TypeError, r"the input must be a Quantity with the dimension of mV.*ms"),
    (lambda: 1.0, TypeError, r"the input must be a Quantity with the dimension of mV .*; got 1.0"),
    (lambda: jnp.ones(4) * u.mV, ValueError, r"the last axis of the input must have length 3; got shape \(4,\)"),
    (lambda: 1 * u.mV, ValueError, r"the input must have shape \[3\] or \[B, 3\]; got shape \(\)"),
    (lambda: jnp.ones((2, 3)) * u.mV, ValueError, r"has shape \(2, 3\) but the state was prepared for \(3,\); call"),
    (lambda: jnp.ones((1, 2, 3)) * u.mV, ValueError, r"the input must have shape .*; got shape \(1, 2, 3\)"),
    (lambda: jnp.array([1.0, jnp.nan, 1.0]) * u.mV, ValueError, r"the input contains 1 NaN or infinite value\(s\)"),
]


@pytest.mark.parametrize(("given", "error", "words"), INPUTS)
def test_input(given: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=rf"FractionalLIFLayer\.update: .*{words}"):
        LIF(3)(given())


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (lambda: jnp.ones((5, 3)), TypeError, r"the input must be a Quantity with the dimension of mV"),
        (lambda: jnp.ones((5, 4)) * u.mV, ValueError, r"the last axis of the input must have length 3"),
        (lambda: jnp.ones((5, 2, 3)) * u.mV, ValueError, r"the state was prepared for \(3,\)"),
        (lambda: jnp.full((5, 3), jnp.inf) * u.mV, ValueError, r"the input contains 15 NaN or infinite value\(s\)"),
    ],
)
def test_input_of_a_whole_sequence(given: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=rf"FractionalLIFLayer\.update_sequence: .*{words}"):
        LIF(3).update_sequence(given())


@pytest.mark.no_dt
def test_no_time_step() -> None:
    with pytest.raises(RuntimeError, match=r"FractionalLIFLayer\.update: no time step is set"):
        LIF(3)(jnp.ones(3) * u.mV)


def test_new_orders_are_checked_as_the_first_ones() -> None:
    layer = LIF(3, method="l1")
    with pytest.raises(
        ValueError, match=r"^FractionalLIFLayer\.set_orders: alpha must be greater than 0 and at most 1"
    ):
        layer.set_orders(1.5)
    with pytest.raises(ValueError, match=r"^FractionalLIFLayer\.set_orders: method 'l1' supports only one term"):
        layer.set_orders([0.3, 0.7])
    with pytest.raises(ValueError, match=r"^FractionalLIFLayer\.set_orders: coefficients must have one coefficient"):
        layer.set_orders(0.5, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"^FractionalLIFLayer\.set_orders: learn_alpha must be False, True or 'raw'"):
        layer.set_orders(0.5, learn_alpha="yes")
    # What was there is still there.
    np.testing.assert_allclose(layer.orders(), [0.5])


def test_a_method_that_does_not_fit_the_orders() -> None:
    layer = LIF(3, alpha=[0.3, 0.7])
    with pytest.raises(ValueError, match=r"^FractionalLIFLayer\.method: 'cn' supports only one term, but .* 2 terms"):
        layer.method = "cn"
    with pytest.raises(ValueError, match=r"^FractionalLIFLayer\.method: method must be one of 'gl'"):
        layer.method = "rk4"
    assert layer.method == "gl"


@pytest.mark.parametrize(
    ("unit", "error", "words"),
    [
        (1.0, TypeError, r"time_unit must be a Quantity with the dimension of ms"),
        (1 * u.mV, TypeError, r"time_unit must have the dimension of ms"),
        (0 * u.ms, ValueError, r"time_unit must be greater than zero"),
        (np.ones(2) * u.ms, ValueError, r"time_unit must be a scalar; got shape \(2,\)"),
    ],
)
def test_preset(unit: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=rf"^spikede_preset: {words}"):
        bh.nn.spikede_preset(unit)
