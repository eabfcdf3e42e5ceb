"""Wrong use of the modules: one clear error each, naming the call, the argument, what came and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.chip import H1V2

MS = 10 * u.ms
LIF, V1, V2 = bh.nn.LIFLayer, bh.nn.H1v1Layer, bh.nn.H1v2Layer


def param(value: u.Quantity) -> brainstate.nn.Param:
    return brainstate.nn.Param(value, t=brainstate.nn.SoftplusT(0.0 * u.get_unit(value)))


TAU = [
    (lambda L: L(3, tau=10.0), TypeError, r"tau must be a Quantity with the dimension of ms.*got 10.0"),
    (lambda L: L(3, tau=np.ones(3)), TypeError, r"tau must be a Quantity .* got an array of shape \(3,\)"),
    (lambda L: L(3, tau=10 * u.mV), TypeError, r"tau must have the dimension of ms, .*10 \* u.ms; got .*mV"),
    (lambda L: L(3, tau="10 ms"), TypeError, r"tau must be a Quantity .* got '10 ms'"),
    (lambda L: L(3, tau=None), TypeError, r"tau must be a Quantity .* got None"),
    (lambda L: L(3, tau=0 * u.ms), ValueError, r"tau must be greater than zero; got .*0"),
    (lambda L: L(3, tau=[5.0, -1.0, 5.0] * u.ms), ValueError, r"tau must be greater than zero; .* minimum -1"),
    (lambda L: L(3, tau=np.nan * u.ms), ValueError, r"tau must be finite; got 1 NaN or infinite value"),
    (lambda L: L(3, tau=np.array([5, np.inf, 5]) * u.ms), ValueError, r"tau must be finite; got 1 .* among 3"),
    (lambda L: L(3, tau=np.ones(4) * u.ms), ValueError, r"tau must be a scalar or shape \(3,\); got shape \(4,\)"),
    (
        lambda L: L(3, tau=np.ones((1, 3)) * u.ms),
        ValueError,
        r"tau must be a scalar or shape \(3,\); got shape \(1, 3\)",
    ),
    (lambda L: L(3, tau=brainstate.ParamState(MS)), TypeError, r"tau .*(got a ParamState|cannot be a trainable)"),
    (lambda L: L(0, tau=MS), ValueError, r"size must be at least 1; got 0"),
    (lambda L: L(-2, tau=MS), ValueError, r"size must be at least 1; got -2"),
    (lambda L: L(3.0, tau=MS), TypeError, r"size must be an integer; got 3.0"),
    (lambda L: L("3", tau=MS), TypeError, r"size must be an integer; got '3'"),
    (lambda L: L(True, tau=MS), ValueError, r"size must be at least 1; got True"),
    (lambda L: L((), tau=MS), ValueError, r"size must be .*; got \(\)"),
    (lambda L: L((2, 0), tau=MS), ValueError, r"size\[1\] must be at least 1; got 0"),
    (lambda L: L((-1, 2), tau=MS), ValueError, r"size\[0\] must be at least 1; got -1"),
    (lambda L: L((2, 3.0), tau=MS), TypeError, r"size\[1\] must be an integer; got 3.0"),
    (lambda L: L((2, 3), tau=MS, topology="RC"), ValueError, r"topology='RC' requires .* one axis.* got size \(2, 3\)"),
    (
        lambda L: L((2, 3), tau=np.ones(6) * u.ms),
        ValueError,
        r"tau must be a scalar or shape \(2, 3\); got shape \(6,\)",
    ),
    (lambda L: L(3, tau=MS, topology="rc"), ValueError, r"topology must be one of 'FF', 'RC'; got 'rc'"),
    (lambda L: L(3, tau=MS, topology=None), ValueError, r"topology must be one of 'FF', 'RC'; got None"),
    (lambda L: L(3, tau=MS, spk_fun=0.5), TypeError, r"spk_fun must be a spike function, .* got 0.5"),
    (lambda L: L(3, tau=MS, spk_fun=bh.surrogate.fast_sigmoid), TypeError, r"spk_fun must be .*fast_sigmoid\(\); got"),
    (
        lambda L: L(3, tau=MS, recurrent_init=np.ones((3, 3))),
        ValueError,
        r"recurrent_init is passed but topology is 'FF'",
    ),
    (
        lambda L: L(3, tau=MS, topology="RC", recurrent_init=np.ones((3, 2)) * (u.mV if L is LIF else 1)),
        ValueError,
        r"recurrent_init must have shape \(3, 3\); got shape \(3, 2\)",
    ),
    (
        lambda L: L(3, tau=MS, topology="RC", recurrent_init=np.full((3, 3), np.nan) * (u.mV if L is LIF else 1)),
        ValueError,
        r"recurrent_init (contains 9 NaN|must be finite; got 9 NaN)",
    ),
]


@pytest.mark.parametrize("layer", [LIF, V1, V2])
@pytest.mark.parametrize(("build", "error", "message"), TAU)
def test_a_layer_refuses(layer: type, build: Callable[[type], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf"^{layer.__name__}: {message}"):
        build(layer)


BUILDS = [
    (
        lambda: LIF(3, tau=MS, V_th=1.0),
        TypeError,
        r"LIFLayer: V_th must be a Quantity with the dimension of mV.*got 1.0",
    ),
    (lambda: LIF(3, tau=MS, V_th=1 * u.ms), TypeError, r"LIFLayer: V_th must have the dimension of mV.*ms"),
    (lambda: LIF(3, tau=MS, V_th=0 * u.mV), ValueError, r"LIFLayer: V_th must be greater than zero"),
    (lambda: LIF(3, tau=MS, V_th=-1 * u.mV), ValueError, r"LIFLayer: V_th must be greater than zero"),
    (lambda: LIF(3, tau=MS, V_th=np.nan * u.mV), ValueError, r"LIFLayer: V_th must be finite"),
    (lambda: LIF(3, tau=MS, V_th=np.ones(2) * u.mV), ValueError, r"LIFLayer: V_th must be a scalar or shape \(3,\)"),
    (lambda: LIF(3, tau=MS, V_th=brainstate.ParamState(1 * u.mV)), TypeError, r"LIFLayer: V_th .* got a ParamState"),
    (
        lambda: LIF(3, tau=MS, reset="soft"),
        ValueError,
        r"LIFLayer: reset must be one of 'subtract', 'zero', 'none'; got 'soft'",
    ),
    (lambda: LIF(3, tau=param(10.0 * u.mV)), TypeError, r"LIFLayer: tau must have the dimension of ms"),
    (lambda: LIF(3, tau=brainstate.nn.Param(10.0)), TypeError, r"LIFLayer: tau must be a Quantity"),
    (lambda: LIF(3, tau=param(np.ones(2) * u.ms)), ValueError, r"LIFLayer: tau must be a scalar or shape \(3,\)"),
    (lambda: LIF(3, tau=brainstate.nn.Param(-1.0 * u.ms)), ValueError, r"LIFLayer: tau must be greater than zero"),
    (lambda: V1(3, tau=param(10.0 * u.ms)), TypeError, r"H1v1Layer: tau cannot be a trainable parameter, .*LIFLayer"),
    (lambda: V1(3, tau=MS, chip="h2"), ValueError, r"H1v1Layer: chip must be one of 'h1v1', 'h1v2'.* got 'h2'"),
    (lambda: V1(3, tau=MS, chip=4), ValueError, r"H1v1Layer: chip must be .* a ChipSpec .* got 4"),
    (lambda: V1(3, tau=MS, chip=H1V2), ValueError, r"H1v1Layer: chip must be of family 'H1v1'; got 'H1v2'"),
    (lambda: bh.nn.H1v1Synapse(2, 3, chip=H1V2), ValueError, r"H1v1Synapse: chip must be of family 'H1v1'"),
    (lambda: bh.nn.H1v1Frontend(chip=H1V2), ValueError, r"H1v1Frontend: chip must be of family 'H1v1'"),
    (lambda: bh.nn.H1v1Synapse(0, 3), ValueError, r"H1v1Synapse: in_size must be at least 1; got 0"),
    (lambda: bh.nn.H1v1Synapse(2, 3.5), TypeError, r"H1v1Synapse: out_size must be an integer; got 3.5"),
    (lambda: bh.nn.LIFSynapse((2, 2), 3), ValueError, r"LIFSynapse: in_size must be a single integer"),
    (lambda: bh.nn.LeakyReadout(2, -1, tau=MS), ValueError, r"LeakyReadout: out_size must be at least 1; got -1"),
    (lambda: bh.nn.LeakyReadout(2, 1, tau=10), TypeError, r"LeakyReadout: tau must be a Quantity .* got 10"),
    (lambda: bh.nn.LeakyReadout(2, 1, tau=0 * u.ms), ValueError, r"LeakyReadout: tau must be greater than zero"),
    (
        lambda: bh.nn.H1v1Synapse(2, 3, weight_init=np.ones((3, 2))),
        ValueError,
        r"H1v1Synapse: weight_init must have shape \(2, 3\); got shape \(3, 2\)",
    ),
    (
        lambda: bh.nn.H1v2Synapse(2, 3, weight_init=np.ones((2, 3)) * u.mV),
        TypeError,
        r"H1v2Synapse: weight_init must be plain numbers without a unit.* got a Quantity in mV",
    ),
    (
        lambda: bh.nn.H1v2Synapse(2, 3, weight_init="kaiming"),
        TypeError,
        r"H1v2Synapse: weight_init must be an array of numbers; got 'kaiming'",
    ),
    (
        lambda: bh.nn.H1v2Synapse(2, 1, weight_init=brainstate.ParamState(jnp.ones((2, 1)))),
        TypeError,
        r"H1v2Synapse: weight_init must be an initializer or an array; got a ParamState",
    ),
    (
        lambda: bh.nn.H1v1Synapse(1, 2, weight_init=np.array([[1.0, np.nan]])),
        ValueError,
        r"H1v1Synapse: weight_init contains 1 NaN or infinite value\(s\), the first at index \(0, 1\)",
    ),
    (
        lambda: bh.nn.H1v1Frontend(weight_init=np.ones(15)),
        ValueError,
        r"H1v1Frontend: weight_init must have shape \(16,\)",
    ),
    (
        lambda: bh.nn.LIFSynapse(2, 3, weight_init=np.ones((2, 3))),
        TypeError,
        r"LIFSynapse: weight_init must be a Quantity with the dimension of mV",
    ),
    (
        lambda: bh.nn.LIFSynapse(2, 3, weight_init=np.ones((2, 3)) * u.fcoulomb),
        TypeError,
        r"LIFSynapse: weight_init must have the dimension of mV",
    ),
]


@pytest.mark.parametrize(("build", "error", "message"), BUILDS)
def test_a_constructor_refuses(build: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        build()


def test_a_chip_layer_takes_neither_threshold_nor_reset() -> None:
    for argument in ({"V_th": 50 * u.mV}, {"reset": "none"}):
        with pytest.raises(TypeError, match=next(iter(argument))):
            V1(3, tau=MS, **argument)


LAYER_INPUTS = [
    (
        jnp.ones(3),
        TypeError,
        r"the input must be a Quantity with the dimension of (mV|fC) .* got an array .* Pass spikes",
    ),
    (1.0, TypeError, r"the input must be a Quantity .* got 1.0"),
    (jnp.ones(3) * u.mA, TypeError, r"the input must be a Quantity .* got a Quantity in mA"),
    (jnp.ones(4), ValueError, r"the last axis of the input must have length 3; got shape \(4,\)"),
    (jnp.float32(1.0), ValueError, r"the input must have shape \[3\] or \[B, 3\]; got shape \(\)"),
    (jnp.ones((5, 2, 3)), ValueError, r"the input must have shape \[3\] or \[B, 3\]; got shape \(5, 2, 3\)"),
    (
        jnp.ones((2, 3)),
        ValueError,
        r"the input has shape \(2, 3\) but .* \(3,\); call brainhw.prepare_net\(net, batch_size=2\)",
    ),
]


@pytest.mark.parametrize("layer_class", [LIF, V1, V2])
@pytest.mark.parametrize(("x", "error", "message"), LAYER_INPUTS)
def test_a_layer_refuses_an_input_and_stays_as_it_was(layer_class: type, x: Any, error: type, message: str) -> None:
    layer = layer_class(3, tau=MS)
    unit = layer.drive_unit
    layer(jnp.full(3, 0.4) * unit)
    before = [np.asarray(u.get_mantissa(state.value)) for state in (layer.V, layer.spk)]
    x = x * unit if error is ValueError else x
    with pytest.raises(error, match=rf"^{layer_class.__name__}.update: {message}"):
        layer(x)
    for state, value in zip((layer.V, layer.spk), before, strict=True):
        np.testing.assert_array_equal(u.get_mantissa(state.value), value)


def test_a_batched_layer_refuses_another_batch_and_one_sample() -> None:
    layer = V1(3, tau=MS)
    bh.prepare_net(layer, 4)
    with pytest.raises(ValueError, match=r"H1v1Layer.update: .* \(2, 3\) but .* \(4, 3\); call .*batch_size=2"):
        layer(jnp.ones((2, 3)) * u.fcoulomb)
    with pytest.raises(ValueError, match=r"H1v1Layer.update: .* \(3,\) but .* \(4, 3\); call .*batch_size=None"):
        layer(jnp.ones(3) * u.fcoulomb)


SYNAPSES = [
    lambda: bh.nn.LIFSynapse(4, 2),
    lambda: bh.nn.H1v1Synapse(4, 2),
    lambda: bh.nn.H1v2Frontend(chip=H1V2.replace(frontend_channels=4)),
    lambda: bh.nn.LeakyReadout(4, 2, tau=MS),
]


@pytest.mark.parametrize("build", SYNAPSES)
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (jnp.ones(4) * u.mV, TypeError, r"the input must be plain numbers without a unit.* got a Quantity in mV"),
        ("spikes", TypeError, r"the input must be an array of numbers; got 'spikes'"),
        (None, TypeError, r"the input must be an array of numbers; got None"),
        ([[1, 0, 1, 1], [1, 0]], TypeError, r"the input must be an array of numbers; got list"),
        (jnp.ones(3), ValueError, r"the last axis of the input must have length 4; got shape \(3,\)"),
        (jnp.float32(1.0), ValueError, r"(the last axis of )?the input must have .*4.*; got shape \(\)"),
    ],
)
def test_a_synapse_refuses_an_input(build: Callable[[], Any], x: Any, error: type, message: str) -> None:
    module = build()
    bh.prepare_net(module)
    with pytest.raises(error, match=rf"^{type(module).__name__}.update: {message}"):
        module(x)


def test_a_readout_refuses_another_batch_and_stays_as_it_was() -> None:
    readout = bh.nn.LeakyReadout(4, 2, tau=MS)
    readout(jnp.ones(4))
    y = np.asarray(readout.y.value)
    with pytest.raises(ValueError, match=r"LeakyReadout.update: .* \(3, 4\) but .* \(2,\); call .*batch_size=3"):
        readout(jnp.ones((3, 4)))
    np.testing.assert_array_equal(readout.y.value, y)


steppable = pytest.mark.parametrize(
    ("build", "x"),
    [
        (lambda: LIF(3, tau=MS), jnp.ones(3) * u.mV),
        (lambda: V2(3, tau=MS), jnp.ones(3) * u.fcoulomb),
        (lambda: bh.nn.LeakyReadout(3, 2, tau=MS), jnp.ones(3)),
    ],
)


@pytest.mark.no_dt
@steppable
def test_a_step_needs_a_time_step(build: Callable, x: Any) -> None:
    module = build()
    message = rf"^{type(module).__name__}.update: no time step is set. .*brainstate.environ.context\(dt=1. \* u.ms\)"
    with pytest.raises(RuntimeError, match=message):
        module(x)


@steppable
@pytest.mark.parametrize(
    ("dt", "error", "message"),
    [
        (1.0, TypeError, r"dt must be a Quantity with the dimension of ms.* got 1.0"),
        (1.0 * u.mV, TypeError, r"dt must have the dimension of ms.*mV"),
        (0.0 * u.ms, ValueError, r"dt must be greater than zero"),
        (np.ones(3) * u.ms, ValueError, r"dt must be a scalar; got shape \(3,\)"),
    ],
)
def test_a_step_refuses_a_bad_time_step(build: Callable, x: Any, dt: Any, error: type, message: str) -> None:
    module = build()
    message = rf"^{type(module).__name__}.update: {message}"
    with brainstate.environ.context(dt=dt), pytest.raises(error, match=message):
        module(x)


@pytest.mark.parametrize("layer", [V1, V2])
@pytest.mark.parametrize("name", ["V_th", "C", "reset"])
def test_what_the_chip_fixes_is_no_argument_and_the_message_says_where_it_belongs(layer: Any, name: str) -> None:
    family = layer.preset.family.upper()
    with pytest.raises(TypeError, match=rf"^{layer.__name__}: {name} is fixed by the chip .*chip\.{family}\.replace"):
        layer(3, tau=MS, **{name: 1})


def test_an_unknown_argument_of_a_chip_layer_is_named() -> None:
    with pytest.raises(TypeError, match=r"^H1v2Layer: got an unexpected keyword argument 'threshold'"):
        V2(3, tau=MS, threshold=1 * u.mV)


def test_what_weights_were_prepared_from_is_not_printed() -> None:
    synapse = bh.nn.H1v1Synapse(2, 3)
    bh.prepare_net(synapse)
    assert "weakref" not in repr(synapse)
