"""Wrong use of rollout: one clear error each, and an unchanged net."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

GOOD = np.ones((4, 2, 4), np.float32)
BAD = [
    ((np.ones((0, 2, 4)),), {}, ValueError, r"xs must contain at least one step and one sample; got shape \(0, 2, 4\)"),
    ((np.ones((4, 0, 4)),), {}, ValueError, r"xs must contain at least one step and one sample; got shape \(4, 0, 4\)"),
    ((np.ones(4),), {}, ValueError, r"xs must have shape .*; got shape \(4,\)"),
    ((None,), {}, ValueError, r"xs must have shape .*; got nothing"),
    (([[1.0, 0.0], [1.0]],), {}, TypeError, r"xs must be an array .* got a list that contains 1.0"),
    (([[1.0, 0.0, 1.0, 0.0]] * 3,), {}, TypeError, r"xs must be an array .* Convert lists to arrays first"),
    (("spikes",), {}, TypeError, r"xs must be an array .* got a str that contains 'spikes'"),
    (
        ([np.ones((3, 4)), np.ones((2, 4))],),
        {},
        ValueError,
        r"all inputs must have the same number of steps and the same number of samples; got .*2, 4\) and .*3, 4\)",
    ),
    (
        (np.where(GOOD > 2, 1, np.nan),),
        {},
        ValueError,
        r"xs contains 32 NaN or infinite value\(s\), the first at index \(0, 0, 0\)",
    ),
    ((GOOD * np.inf * u.mV,), {}, ValueError, r"xs contains 32 NaN or infinite"),
    (
        (GOOD,),
        {"record": "hidden.V"},
        TypeError,
        r"record must be a sequence of names such as \('hidden.V',\); got 'hidden.V'",
    ),
    ((GOOD,), {"record": None}, TypeError, r"record must be a sequence of names .* got None"),
    ((GOOD,), {"record": (3,)}, TypeError, r"each name in record must be a string; got 3"),
    (
        (GOOD,),
        {"record": ("hiden.V",)},
        ValueError,
        r"record contains 'hiden.V', but no module has the path 'hiden'.*'hidden'",
    ),
    (
        (GOOD,),
        {"record": ("V",)},
        ValueError,
        r"record contains 'V', but the network itself, a \w+, has nothing to record. Name a module .*'hidden'",
    ),
    (
        (GOOD,),
        {"record": ("hidden.U",)},
        ValueError,
        r"record contains 'hidden.U', but H1v1Layer at 'hidden' has only V, V_pre, .*spk\.",
    ),
    (
        (GOOD,),
        {"record": ("hidden.tau",)},
        ValueError,
        r"record contains 'hidden.tau', but H1v1Layer at 'hidden' has only",
    ),
    ((GOOD,), {"checkpoint": 0}, ValueError, r"checkpoint must be at least 1; got 0"),
    ((GOOD,), {"checkpoint": -3}, ValueError, r"checkpoint must be at least 1; got -3"),
    ((GOOD,), {"checkpoint": "foo"}, ValueError, r"checkpoint must be None, 'auto' or a number of steps; got 'foo'"),
    ((GOOD,), {"checkpoint": 2.0}, TypeError, r"checkpoint must be an integer; got 2.0"),
    ((GOOD,), {"checkpoint": True}, ValueError, r"checkpoint must be at least 1; got True"),
    (
        (GOOD,),
        {"key": 1, "prepare": False},
        ValueError,
        r"key samples a chip when the network is prepared, but prepare is False",
    ),
]


@pytest.fixture(scope="module")
def used_net(make_net, make_input) -> brainstate.nn.Module:
    """A net that has run; tests must not change it."""
    net = make_net("H1v1")
    with brainstate.environ.context(dt=1.0 * u.ms):
        bh.rollout(net, make_input(6, 2), key=1)
    return net


@pytest.mark.parametrize(("args", "options", "error", "message"), BAD)
def test_rollout_refuses_and_leaves_the_states(used_net, args, options, error, message: str) -> None:
    net = used_net
    before = {path: state.value for path, state in net.states().items()}
    with pytest.raises(error, match=f"^rollout: ({message})"):
        bh.rollout(net, *args, **{"prepare": False, **options})
    for path, state in net.states().items():
        np.testing.assert_array_equal(u.get_mantissa(state.value), u.get_mantissa(before[path]))


@pytest.mark.parametrize("record", [("hiden.V",), None, "hidden.V", (1,)])
def test_a_bad_record_is_seen_before_the_net_is_reset(used_net, make_input, record: Any) -> None:
    net = used_net
    before = {path: state.value for path, state in net.states().items()}
    with pytest.raises((TypeError, ValueError), match="rollout: "):
        bh.rollout(net, make_input(6, 3), record=record)
    assert all(state.value is before[path] for path, state in net.states().items())


def test_a_net_that_is_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^rollout: net must be a brainstate.nn.Module; got"):
        bh.rollout(lambda x: x, GOOD)


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize(
    ("xs", "error", "message"),
    [
        (
            np.ones((4, 2, 3)),
            ValueError,
            r"H1v1Synapse.update: the last axis of the input must have length 4; got shape \(2, 3\)",
        ),
        (GOOD * u.mV, TypeError, r"H1v1Synapse.update: the input must be plain numbers without a unit"),
        ([GOOD, GOOD], TypeError, r"H1v1Synapse.update: the input must be an array of numbers; got list"),
    ],
)
def test_an_input_that_fits_no_module_is_reported_by_the_module(
    make_net, make_input, xs, error, message, prepare
) -> None:
    net = make_net("H1v1")
    bh.rollout(net, make_input(6, 2))
    before = np.asarray(net.hidden.V.value.mantissa)
    container = brainstate.nn.Sequential(net.syn1, net.hidden) if prepare else net
    with pytest.raises(error, match=f"^{message}"):
        bh.rollout(container, xs, prepare=prepare)
    # With prepare=True the net ends prepared and at rest; otherwise unchanged. In both cases it can run again.
    np.testing.assert_array_equal(net.hidden.V.value.mantissa, 0 * before if prepare else before)
    bh.rollout(net, make_input(3, 2), prepare=False)


def test_another_batch_needs_preparation(make_net, make_input) -> None:
    net = make_net("H1v1")
    bh.rollout(net, make_input(6, 2))
    with pytest.raises(
        ValueError, match=r"H1v1Layer.update: .* \(3, 5\) but .* \(2, 5\); call .*prepare_net\(net, batch_size=3\)"
    ):
        bh.rollout(net, make_input(6, 3), prepare=False)
    with pytest.raises(ValueError, match=r"H1v1Layer.update: .* \(5,\) but .* \(2, 5\); call .*batch_size=None"):
        bh.rollout(net, make_input(6, None), prepare=False)


def test_an_unprepared_net_is_refused_without_preparation(make_net) -> None:
    with pytest.raises(RuntimeError, match=r"H1v1Synapse.update: the network is not prepared"):
        bh.rollout(make_net("H1v1"), GOOD[:, 0], prepare=False)


@pytest.mark.no_dt
def test_a_missing_time_step_is_reported(make_net) -> None:
    with pytest.raises(RuntimeError, match=r"LIFLayer.update: no time step is set. .*brainstate.environ"):
        bh.rollout(make_net("lif"), GOOD)


def test_nan_input_is_refused_where_it_can_be_seen_and_not_where_it_is_traced(make_net) -> None:
    xs = jnp.asarray(GOOD).at[1, 1, 2].set(np.nan)
    with pytest.raises(
        ValueError, match=r"rollout: xs contains 1 NaN or infinite value\(s\), the first at index \(1, 1, 2\)"
    ):
        bh.rollout(make_net("lif"), xs)
    net = make_net("lif")
    brainstate.transform.jit(lambda xs: bh.rollout(net, xs)[0])(xs)
