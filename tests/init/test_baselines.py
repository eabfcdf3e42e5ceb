"""kaiming_init: variances of ordinary rules in the units of each family, and invalid arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import numpy as np
import pytest

import brainhw as bh

Sequential = brainstate.nn.Sequential
TAU = 20 * u.ms
N_IN, N = 300, 200


def plain(weights: Any) -> np.ndarray:
    return np.asarray(weights.to(u.mV).mantissa if isinstance(weights, u.Quantity) else weights)


def recurrent_of(layer: Any) -> Any:
    if hasattr(layer, "recurrent_weight") and not callable(layer.recurrent_weight):
        return layer.recurrent_weight.value
    return layer.recurrent_matrix()


# The network, and the unit of its weights: 1 on a chip, the mean threshold in software.
NETS: dict[str, tuple[Callable[[], Any], float]] = {
    "H1v1": (lambda: Sequential(bh.nn.H1v1Synapse(N_IN, N), bh.nn.H1v1Layer(N, TAU, topology="RC")), 1.0),
    "H1v2": (lambda: Sequential(bh.nn.H1v2Synapse(N_IN, N), bh.nn.H1v2Layer(N, TAU, topology="RC")), 1.0),
    "LIF": (lambda: Sequential(bh.nn.LIFSynapse(N_IN, N), bh.nn.LIFLayer(N, TAU, 3 * u.mV, topology="RC")), 3.0),
    "LIF, thresholds": (
        lambda: Sequential(
            bh.nn.LIFSynapse(N_IN, N), bh.nn.LIFLayer(N, TAU, np.linspace(1, 4, N) * u.mV, topology="RC")
        ),
        2.5,
    ),
    "ALIF": (lambda: Sequential(bh.nn.LIFSynapse(N_IN, N), bh.nn.ALIFLayer(N, V_th=0.5 * u.mV, w_rec=True)), 0.5),
    "Cuba": (lambda: Sequential(bh.nn.LIFSynapse(N_IN, 2 * N), bh.nn.CubaLIFLayer(N, 2, w_rec=True)), 1.0),
}
nets = pytest.mark.parametrize("kind", list(NETS))


@nets
def test_default_is_kaiming_in_units_of_the_threshold(kind: str) -> None:
    make, unit = NETS[kind]
    net = make()
    assert bh.init.kaiming_init(net) is None
    weights, recurrent = plain(net.layers[0].weight.value), plain(recurrent_of(net.layers[1]))
    columns = net.layers[0].out_size[-1]
    assert weights.shape == (N_IN, columns)
    assert recurrent.shape == (N, columns)
    assert weights.var() == pytest.approx(2 / N_IN * unit**2, rel=0.03)
    assert recurrent.var() == pytest.approx(2 / N * unit**2, rel=0.03)
    for drawn in (weights, recurrent):
        assert abs(drawn.mean()) < 5 * drawn.std() / np.sqrt(drawn.size)


@pytest.mark.parametrize(
    ("rule", "variance"),
    [
        (braintools.init.KaimingUniform(), 2 / N_IN),
        (braintools.init.XavierNormal(), 2 / (N_IN + N)),
        (braintools.init.XavierUniform(), 2 / (N_IN + N)),
        (braintools.init.LecunNormal(), 1 / N_IN),
        (braintools.init.Normal(0.0, 0.3), 0.09),
        (braintools.init.Uniform(-0.3, 0.3), 0.03),
        (braintools.init.Constant(0.2), 0.0),
    ],
)
def test_other_rules_give_their_own_variance(rule: Any, variance: float) -> None:
    net = Sequential(bh.nn.LIFSynapse(N_IN, N), bh.nn.LIFLayer(N, TAU, 2 * u.mV))
    bh.init.kaiming_init(net, rule)
    assert plain(net.layers[0].weight.value).var() == pytest.approx(4 * variance, rel=0.05, abs=1e-9)


def test_every_pair_is_drawn_anew() -> None:
    parts = [part for _ in range(2) for part in (bh.nn.H1v1Synapse(50, 50), bh.nn.H1v1Layer(50, TAU, topology="RC"))]
    net = Sequential(*parts)
    bh.init.kaiming_init(net)
    first, rec_1, second, rec_2 = (
        plain(part.weight.value if i % 2 == 0 else part.recurrent_weight.value) for i, part in enumerate(parts)
    )
    drawn = [first, rec_1, second, rec_2]
    assert all(abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.1 for i, a in enumerate(drawn) for b in drawn[:i])


def test_same_key_same_weights() -> None:
    drawn = []
    for key in (0, 0, 1, jax.random.key(1)):
        net = Sequential(bh.nn.H1v2Synapse(20, 10), bh.nn.H1v2Layer(10, TAU))
        brainstate.random.seed(len(drawn))  # the result must not depend on the global random source
        bh.init.kaiming_init(net, key=key)
        drawn.append(plain(net.layers[0].weight.value))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[2], drawn[3])
    assert not np.array_equal(drawn[0], drawn[2])


def test_the_global_source_of_random_numbers_is_left_alone() -> None:
    net = Sequential(bh.nn.H1v2Synapse(20, 10), bh.nn.H1v2Layer(10, TAU))
    brainstate.random.seed(7)
    expected = brainstate.random.rand(3)
    brainstate.random.seed(7)
    bh.init.kaiming_init(net)
    np.testing.assert_array_equal(brainstate.random.rand(3), expected)


def test_frozen_recurrent_weights_and_all_other_states_stay() -> None:
    frozen = np.full((4, 4), 0.1) * u.mV
    net = Sequential(bh.nn.LIFSynapse(6, 4), bh.nn.ALIFLayer(4, w_rec=brainstate.nn.Const(frozen)))
    bh.prepare_net(net, 3)
    before = {path: state.value for path, state in net.states().items()}
    bh.init.kaiming_init(net)
    changed = [path for path, state in net.states().items() if state.value is not before[path]]
    assert changed == [("layers", 0, "weight")]
    np.testing.assert_allclose(plain(net.layers[1].recurrent_matrix()), 0.1)


def test_learnt_recurrent_weights_with_a_transform_are_set_through_it() -> None:
    weights = brainstate.nn.Param(np.zeros((200, 200)) * u.mV, t=brainstate.nn.SigmoidT(-2 * u.mV, 2 * u.mV))
    net = Sequential(bh.nn.LIFSynapse(6, 200), bh.nn.ALIFLayer(200, w_rec=weights))
    bh.init.kaiming_init(net)
    assert plain(weights.value()).var() == pytest.approx(2 / 200, rel=0.05)


def test_recurrent_weights_that_a_transform_cannot_give_are_refused() -> None:
    positive = brainstate.nn.Param(np.ones((8, 8)) * u.mV, t=brainstate.nn.SoftplusT(0.0 * u.mV))
    net = Sequential(bh.nn.LIFSynapse(16, 8), bh.nn.ALIFLayer(8, w_rec=positive))
    before = {path: state.value for path, state in net.states().items()}
    with pytest.raises(ValueError, match="kaiming_init: w_rec has the transform SoftplusT, which cannot rep"):
        bh.init.kaiming_init(net)
    assert all(state.value is before[path] for path, state in net.states().items())


def test_frontend_is_left_alone() -> None:
    net = Sequential(bh.nn.H1v1Frontend(), bh.nn.H1v1Layer(16, TAU), bh.nn.H1v1Synapse(16, 4), bh.nn.H1v1Layer(4, TAU))
    before = net.layers[0].weight.value
    bh.init.kaiming_init(net)
    assert net.layers[0].weight.value is before


@pytest.mark.no_dt
def test_no_time_step_is_needed() -> None:
    bh.init.kaiming_init(Sequential(bh.nn.H1v1Synapse(4, 4), bh.nn.H1v1Layer(4, TAU)))


@pytest.mark.parametrize(
    ("rule", "options", "error", "message"),
    [
        (5, {}, TypeError, "initializer must be callable, .*; got 5"),
        (lambda size, rng: np.ones(3), {}, ValueError, r"initializer returned shape \(3,\) \(expected \(6, 4\)\)"),
        (lambda size, rng: np.full(size, np.nan), {}, ValueError, "the result of initializer contains 24 NaN"),
        (lambda size, rng: np.ones(size) * u.mV, {}, TypeError, "the result of initializer must be plain numbers"),
        (lambda size, rng: "ones", {}, TypeError, "the result of initializer must be an array of numbers"),
        (None, {"key": None}, TypeError, "key must be an integer or a jax.random.key; got None"),
        (None, {"key": 1.5}, TypeError, "key must be an integer or a jax.random.key; got 1.5"),
        (None, {"key": -1}, ValueError, "key must be an integer from 0"),
    ],
)
def test_what_is_no_rule_is_named_and_weights_stay(rule: Any, options: dict, error: type, message: str) -> None:
    net = Sequential(bh.nn.H1v1Synapse(6, 4), bh.nn.H1v1Layer(4, TAU, topology="RC"))
    before = {path: state.value for path, state in net.states().items()}
    with pytest.raises(error, match=f"kaiming_init: {message}"):
        bh.init.kaiming_init(net, rule, **options)
    assert all(state.value is before[path] for path, state in net.states().items())


def test_weights_stay_where_a_later_pair_fails() -> None:
    def fails_at_the_second(size: tuple[int, int], rng: Any) -> np.ndarray:
        return np.full(size, np.nan if size == (4, 3) else 0.1)

    net = Sequential(bh.nn.H1v1Synapse(6, 4), bh.nn.H1v1Layer(4, TAU), bh.nn.H1v1Synapse(4, 3), bh.nn.H1v1Layer(3, TAU))
    before = [net.layers[i].weight.value for i in (0, 2)]
    with pytest.raises(ValueError, match="NaN"):
        bh.init.kaiming_init(net, fails_at_the_second)
    assert [net.layers[i].weight.value is before[i // 2] for i in (0, 2)] == [True, True]


def test_unsuitable_networks_are_refused() -> None:
    with pytest.raises(TypeError, match=r"kaiming_init: net must be a brainstate.nn.Module; got 5"):
        bh.init.kaiming_init(5)
    with pytest.raises(ValueError, match="kaiming_init: the network has no dense"):
        bh.init.kaiming_init(Sequential(bh.nn.H1v1Layer(4, TAU)))
