"""Fractional orders of whole nets: every notation, warnings, invalid arguments, and the resulting layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

SIZES = (5, 3)


class Net(brainstate.nn.Module):
    """Two fractional layers; alphabetical order would swap them."""

    def __init__(self, methods: tuple[str, str] = ("gl", "gl"), **options: Any) -> None:
        super().__init__()
        self.to_z = bh.nn.LIFSynapse(4, 5)
        self.z_first = bh.nn.FractionalLIFLayer(5, alpha=0.9, method=methods[0], **options)
        self.to_a = bh.nn.LIFSynapse(5, 3)
        self.a_last = bh.nn.FractionalIFLayer(3, alpha=0.9, method=methods[1], **options)

    def update(self, x: jax.Array) -> jax.Array:
        return self.a_last(self.to_a(self.z_first(self.to_z(x))))


def layers(net: Net) -> tuple[Any, Any]:
    return net.z_first, net.a_last


def alphas(net: brainstate.nn.Module) -> list[list]:
    return [np.round(np.asarray(a, dtype=float), 5).tolist() for a in bh.get_per_layer_alpha(net)]


def coefficients(net: brainstate.nn.Module) -> list[list]:
    return [np.round(np.asarray(c, dtype=float), 5).tolist() for c in bh.get_per_layer_coefficient(net)]


def quietly(net: brainstate.nn.Module, *args: Any, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bh.set_fractional_orders(net, *args, **options)


# --- every row of the table -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alpha",
    [0.5, 1, np.float32(0.5), np.array(0.5), np.array([0.5]), jnp.asarray(0.5), jnp.asarray([0.5]), np.ones((1, 1))],
)
@pytest.mark.parametrize("mode", ["auto", "per_layer", "multiterm"])
def test_one_number_goes_to_every_layer_whatever_the_mode(alpha: Any, mode: str) -> None:
    net = Net()
    bh.set_fractional_orders(net, alpha, alpha_mode=mode)
    value = float(np.squeeze(np.asarray(alpha)))
    assert alphas(net) == [[value], [value]]
    assert coefficients(net) == [[1.0], [1.0]]


AS_LISTS = pytest.mark.parametrize("as_list", [list, tuple, np.array, jnp.asarray], ids=["list", "tuple", "np", "jax"])


@AS_LISTS
def test_per_layer_gives_one_order_to_each(as_list: Callable) -> None:
    net = Net(methods=("l1", "pred"))
    bh.set_fractional_orders(net, as_list([0.3, 0.8]), alpha_mode="per_layer")
    assert alphas(net) == [[0.3], [0.8]]
    assert [layer.method for layer in layers(net)] == ["l1", "pred"]


@AS_LISTS
@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 0.2]])
def test_multiterm_gives_all_terms_to_each(as_list: Callable, weights: list | None) -> None:
    net = Net()
    given = None if weights is None else as_list(weights)
    bh.set_fractional_orders(net, as_list([0.3, 0.5, 0.7]), alpha_mode="multiterm", multi_coefficient=given)
    assert alphas(net) == [[0.3, 0.5, 0.7]] * 2
    assert coefficients(net) == [weights or [1.0, 1.0, 1.0]] * 2


def test_multiterm_wins_over_as_many_orders_as_layers() -> None:
    net = Net()
    bh.set_fractional_orders(net, [0.3, 0.8], alpha_mode="multiterm")
    assert alphas(net) == [[0.3, 0.8]] * 2


@pytest.mark.parametrize("mode", ["auto", "multiterm"])
def test_shared_terms_take_coefficients_per_layer(mode: str) -> None:
    net = Net()
    for nested, expected in {
        "lists": ([[1.0, 0.5], [0.25, 2.0]], [[1.0, 0.5], [0.25, 2.0]]),
        "none": ([None, [0.25, 2.0]], [[1.0, 1.0], [0.25, 2.0]]),
        "a number": ([[1.0, 0.5], 0.5], [[1.0, 0.5], [0.5, 0.5]]),
        "all none": ([None, None], [[1.0, 1.0], [1.0, 1.0]]),
        "arrays": ([np.array([1.0, 0.5]), (0.25, 2.0)], [[1.0, 0.5], [0.25, 2.0]]),
        "rows": (np.array([[1.0, 0.5], [0.25, 2.0]]), [[1.0, 0.5], [0.25, 2.0]]),
    }.values():
        bh.set_fractional_orders(net, [0.4, 0.6], multi_coefficient=nested, alpha_mode=mode)
        assert alphas(net) == [[0.4, 0.6]] * 2
        assert coefficients(net) == expected


def test_auto_with_flat_coefficients_means_terms() -> None:
    net = Net()
    bh.set_fractional_orders(net, [0.3, 0.8], multi_coefficient=[1.0, 0.5])
    assert alphas(net) == [[0.3, 0.8]] * 2
    assert coefficients(net) == [[1.0, 0.5]] * 2


def test_auto_with_as_many_orders_as_layers_warns_and_takes_them_per_layer() -> None:
    net = Net()
    with pytest.warns(
        UserWarning, match=r"set_fractional_orders: a list of 2 order.*two ways.*'per_layer'.*'multiterm'"
    ):
        bh.set_fractional_orders(net, [0.3, 0.8])
    assert alphas(net) == [[0.3], [0.8]]


def test_auto_with_another_number_of_orders_warns_and_takes_them_as_terms() -> None:
    net = Net()
    with pytest.warns(UserWarning, match=r"a list of 3 order.*not match 2 fractional.*alpha_mode='multiterm'.*pass 2"):
        bh.set_fractional_orders(net, [0.3, 0.5, 0.8])
    assert alphas(net) == [[0.3, 0.5, 0.8]] * 2


@pytest.mark.parametrize("mode", ["auto", "per_layer", "multiterm"])
def test_a_list_inside_the_list_is_read_layer_by_layer_whatever_the_mode(mode: str) -> None:
    net = Net()
    bh.set_fractional_orders(net, [[0.3, 0.5], (0.4, 0.6, 0.8)], alpha_mode=mode)
    assert alphas(net) == [[0.3, 0.5], [0.4, 0.6, 0.8]]
    assert coefficients(net) == [[1.0, 1.0], [1.0, 1.0, 1.0]]
    bh.set_fractional_orders(net, [0.7, [0.4, 0.6]], alpha_mode=mode)
    assert alphas(net) == [[0.7], [0.4, 0.6]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([[1.0, 0.5], [1.0, 0.3, 0.1]], [[1.0, 0.5], [1.0, 0.3, 0.1]]),
        ([None, [1.0, 0.3, 0.1]], [[1.0, 1.0], [1.0, 0.3, 0.1]]),
        ([0.5, None], [[0.5, 0.5], [1.0, 1.0, 1.0]]),
        ([0.5, 2.0], [[0.5, 0.5], [2.0, 2.0, 2.0]]),
        (np.array([0.5, 2.0]), [[0.5, 0.5], [2.0, 2.0, 2.0]]),
    ],
)
def test_coefficients_follow_the_lists_of_terms(given: Any, expected: list) -> None:
    net = Net()
    bh.set_fractional_orders(net, [[0.3, 0.5], [0.4, 0.6, 0.8]], multi_coefficient=given)
    assert coefficients(net) == expected


# --- orders per neuron, which spikeDE does not have -------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "per_layer"])
def test_an_array_inside_the_list_is_one_order_per_neuron(mode: str) -> None:
    net, per_neuron = Net(methods=("l1", "gl")), np.linspace(0.2, 0.9, 5)
    bh.set_fractional_orders(net, [per_neuron, 0.4], alpha_mode=mode)
    assert alphas(net) == [[np.round(per_neuron, 5).tolist()], [0.4]]
    assert net.z_first.method == "l1"


def test_an_array_may_be_a_term() -> None:
    net, per_neuron = Net(), jnp.linspace(0.2, 0.9, 3)
    bh.set_fractional_orders(net, [[0.3, 0.5], [per_neuron, 0.5]], multi_coefficient=[None, [1.0, 0.5]])
    first, second = bh.get_per_layer_alpha(net)
    assert first.shape == (2,)
    np.testing.assert_allclose(second, [per_neuron, [0.5] * 3], rtol=1e-6)


def test_an_array_of_one_number_inside_the_list_is_that_number() -> None:
    net = Net()
    bh.set_fractional_orders(net, [np.array([0.25]), jnp.asarray(0.75)], alpha_mode="per_layer")
    assert alphas(net) == [[0.25], [0.75]]


# --- the method -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [[[0.3, 0.5], [0.7, 0.8]], [[0.3], [0.7]]])
def test_terms_on_another_method_warn_and_switch_to_gl(alpha: list) -> None:
    net = Net(methods=("gl", "l1"))
    with pytest.warns(UserWarning, match=r"a_last gets its orders as the terms.*'l1'.*becomes 'gl'") as caught:
        bh.set_fractional_orders(net, alpha)
    assert len(caught) == 1
    assert [layer.method for layer in layers(net)] == ["gl", "gl"]
    assert alphas(net) == alpha


def test_a_number_beside_lists_keeps_the_method_of_its_layer() -> None:
    net = Net(methods=("gl", "pred"))
    bh.set_fractional_orders(net, [[0.3, 0.5], 0.7])
    assert [layer.method for layer in layers(net)] == ["gl", "pred"]


def test_warnings_point_at_the_line_of_the_caller() -> None:
    with pytest.warns(UserWarning, match="two ways") as caught:
        bh.set_fractional_orders(Net(), [0.3, 0.8])
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("alpha", "mode"), [(0.5, "auto"), ([0.3, 0.8], "per_layer")], ids=["one number", "one per layer"]
)
def test_coefficients_without_terms_are_ignored_with_a_warning(alpha: Any, mode: str) -> None:
    net = Net()
    with pytest.warns(UserWarning, match="multi_coefficient is ignored.*Omit it"):
        bh.set_fractional_orders(net, alpha, multi_coefficient=[3.0, 0.5], alpha_mode=mode)
    assert coefficients(net) == [[1.0], [1.0]]


# --- what is learnt ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [list, tuple, np.array])
@pytest.mark.parametrize("flag", ["learn_alpha", "learn_coefficient"])
def test_learn_flags_reach_the_layers(flag: str, wrap: Callable) -> None:
    net, attribute = Net(), {"learn_alpha": "learns_alpha", "learn_coefficient": "learns_coefficients"}[flag]
    for value, expected in ((True, [True, True]), (wrap([True, False]), [True, False]), (False, [False, False])):
        bh.set_fractional_orders(net, [[0.3, 0.5], [0.4, 0.6]], **{flag: value})
        assert [getattr(layer, attribute) for layer in layers(net)] == expected
        assert len(net.states(brainstate.ParamState)) == 2 + sum(expected)


def test_what_is_learnt_gets_a_gradient_and_stands_where_it_was_set() -> None:
    net = Net(kernel="dense", horizon=4)
    bh.set_fractional_orders(
        net,
        [[0.3, 0.5], 0.7],
        multi_coefficient=[[1.0, 0.5], None],
        learn_alpha=[True, "raw"],
        learn_coefficient=[True, False],
    )
    assert alphas(net) == [[0.3, 0.5], [0.7]]
    assert coefficients(net) == [[1.0, 0.5], [1.0]]

    def loss() -> jax.Array:
        for layer in layers(net):
            layer(jnp.full(layer.n_neurons, 3.0) * u.mV)
        return sum(jnp.mean(layer.V.value / u.mV) for layer in layers(net))

    own = {path: state for path, state in net.states(brainstate.ParamState).items() if path[0] in ("z_first", "a_last")}
    gradients = brainstate.transform.jit(brainstate.transform.grad(loss, own))()
    assert len(own) == 3
    for path, gradient in gradients.items():
        assert np.abs(np.asarray(u.get_mantissa(gradient))).max() > 0, path


def test_the_orders_are_those_that_the_layer_itself_would_take() -> None:
    options = {"kernel": "dense", "horizon": 12}
    xs = jnp.asarray(np.random.default_rng(1).random((12, 4)), dtype=jnp.float32) * 40
    net, other = Net(**options), Net(**options)
    bh.set_fractional_orders(net, [[0.4, 0.8], 0.6], multi_coefficient=[[1.0, 0.5], None])
    other.to_z.weight.value, other.to_a.weight.value = net.to_z.weight.value, net.to_a.weight.value
    other.z_first = bh.nn.FractionalLIFLayer(5, alpha=[0.4, 0.8], coefficients=[1.0, 0.5], **options)
    other.a_last = bh.nn.FractionalIFLayer(3, alpha=0.6, **options)
    record = ("z_first.V", "z_first.spk", "a_last.V")
    seen, expected = (bh.rollout(each, xs, record=record)[1] for each in (net, other))
    assert seen["z_first.spk"].any()
    for name in record:
        np.testing.assert_array_equal(u.get_mantissa(seen[name]), u.get_mantissa(expected[name]))


# --- which layers, in which order -------------------------------------------------------------------------------------


def test_layers_are_found_in_containers_in_registration_order_and_counted_once() -> None:
    layer = bh.nn.FractionalLIFLayer

    class Nested(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.z = layer(1)
            self.y = {"q": layer(2), "a": layer(3)}
            self.b = self.z
            self.a = [layer(4), (layer(5), brainstate.nn.Sequential(layer(6), bh.nn.LIFSynapse(6, 7), layer(7)))]
            self.itself = self

    net = Nested()
    bh.set_fractional_orders(net, np.linspace(0.1, 0.7, 7), alpha_mode="per_layer")
    sizes = [row.n_neurons for row in bh.fractional_summary(net).layers]
    assert sizes == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(np.ravel(bh.get_per_layer_alpha(net)), np.linspace(0.1, 0.7, 7), rtol=1e-5)
    assert alphas(net.y["a"]) == [[0.3]]


def test_hidden_attributes_are_not_counted() -> None:
    class Hiding(Net):
        graph_invisible_attrs = ("memo",)

        def __init__(self) -> None:
            super().__init__()
            self.memo = bh.nn.FractionalLIFLayer(9)

    assert len(bh.get_per_layer_alpha(Hiding())) == 2


def test_a_single_layer_is_a_network() -> None:
    layer = bh.nn.FractionalLIFLayer(2)
    bh.set_fractional_orders(layer, [[0.3, 0.5]], learn_alpha=[True])
    assert alphas(layer) == [[0.3, 0.5]]
    assert str(bh.fractional_summary(layer)).splitlines()[1].startswith("FractionalLIFLayer")


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "per_layer of another length": (
        {"alpha": [0.3, 0.5, 0.7], "alpha_mode": "per_layer"},
        ValueError,
        r"each of the 2 fractional.*got 3.*multiterm",
    ),
    "mode": ({"alpha": 0.5, "alpha_mode": "foo"}, ValueError, r"alpha_mode must be one of 'auto'.*got 'foo'"),
    "no mode": ({"alpha": 0.5, "alpha_mode": None}, ValueError, "alpha_mode must be one of"),
    "flat coefficients, auto": (
        {"alpha": [0.3, 0.5], "multi_coefficient": [1.0] * 3},
        ValueError,
        r"one coefficient for each of the 2 term.*got 3",
    ),
    "flat coefficients, multiterm": (
        {"alpha": [0.3, 0.5], "multi_coefficient": [1.0] * 3, "alpha_mode": "multiterm"},
        ValueError,
        "2 term.*got 3",
    ),
    "nested coefficients, layers": (
        {"alpha": [0.3, 0.5], "multi_coefficient": [[1.0, 1.0]] * 3},
        ValueError,
        "multi_coefficient must have one entry.*got 3",
    ),
    "nested coefficients, terms": (
        {"alpha": [0.3, 0.5], "multi_coefficient": [[1.0, 1.0], [1.0]]},
        ValueError,
        r"multi_coefficient\[1\].*2 term.*got 1",
    ),
    "lists, layers": ({"alpha": [[0.3], [0.5], [0.7]]}, ValueError, "alpha must have one entry.*2 fractional.*got 3"),
    "lists, coefficients for layers": (
        {"alpha": [[0.3], [0.5]], "multi_coefficient": [[1.0]] * 3},
        ValueError,
        "multi_coefficient must have one entry.*got 3",
    ),
    "lists, coefficients for terms": (
        {"alpha": [[0.3], [0.5]], "multi_coefficient": [[1.0], [1.0, 2.0]]},
        ValueError,
        r"multi_coefficient\[1\].*1 term.*got 2",
    ),
    "empty": ({"alpha": []}, ValueError, "alpha is empty"),
    "empty array": ({"alpha": np.zeros(0)}, ValueError, "alpha is empty"),
    "empty layer": ({"alpha": [[0.3], []]}, ValueError, r"alpha\[1\] is empty"),
    "empty coefficients": ({"alpha": [0.3, 0.4], "multi_coefficient": []}, ValueError, "multi_coefficient is empty"),
    "none": ({"alpha": None}, TypeError, "alpha must be one order, a list.*got None"),
    "word": ({"alpha": "0.5"}, TypeError, "alpha must be one order, a list.*got '0.5'"),
    "dict": ({"alpha": {0: 0.5}}, TypeError, "alpha must be one order, a list.*got dict"),
    "bool": ({"alpha": True}, TypeError, "alpha must be a number; got True"),
    "none inside": ({"alpha": [0.3, None]}, TypeError, r"alpha\[1\] must be a number; got None"),
    "deeper": ({"alpha": [[0.3], [[0.5]]]}, TypeError, r"alpha\[1\]\[0\] must be a number.*no further lists"),
    "unit": ({"alpha": 0.5 * u.mV}, TypeError, "alpha must be a number without a unit"),
    "zero": ({"alpha": 0.0}, ValueError, "alpha must be greater than 0 and at most 1; got 0"),
    "above one": (
        {"alpha": [[0.3], [0.5, 1.5]]},
        ValueError,
        r"alpha\[1\]\[1\] must be greater than 0 and at most 1; got 1.5",
    ),
    "below zero": ({"alpha": [0.3, -0.5], "alpha_mode": "per_layer"}, ValueError, r"alpha\[1\] must be .*; got -0.5"),
    "one neuron out of range": ({"alpha": [[0.3], np.array([0.3, 2.0, 0.4])]}, ValueError, r"alpha\[1\].*got 2"),
    "nan": ({"alpha": [0.3, float("nan")], "alpha_mode": "multiterm"}, ValueError, r"alpha\[1\] must be finite"),
    "neurons": (
        {"alpha": [np.full(4, 0.5), 0.5]},
        ValueError,
        r"alpha\[0\] must be a scalar or shape \(5,\); got shape \(4,\)",
    ),
    "two axes": (
        {"alpha": np.full((2, 2), 0.5)},
        ValueError,
        r"got 2 axes\. Pass alpha.tolist\(\).*list\(alpha\)",
    ),
    "neurons, multiterm": (
        {"alpha": [np.full(5, 0.5), 0.5], "alpha_mode": "multiterm"},
        ValueError,
        "one order per neuron.*one list of terms per layer",
    ),
    "coefficient": (
        {"alpha": [0.3, 0.5], "multi_coefficient": 2.0},
        TypeError,
        "multi_coefficient must be None or a list",
    ),
    "coefficient inside": (
        {"alpha": [0.3, 0.5], "multi_coefficient": [1.0, "2"]},
        TypeError,
        r"multi_coefficient\[1\] must be a number",
    ),
    "coefficient deeper": (
        {"alpha": [[0.3], [0.5]], "multi_coefficient": [[[1.0]], None]},
        TypeError,
        r"multi_coefficient\[0\]\[0\] must be a number",
    ),
    "coefficient nan": (
        {"alpha": [0.3, 0.5], "multi_coefficient": [1.0, np.nan]},
        ValueError,
        r"multi_coefficient\[1\] must be finite",
    ),
    "coefficient zero": (
        {"alpha": [0.3, 0.5], "multi_coefficient": [[1.0, 0.5], [1.0, 0.0]]},
        ValueError,
        r"layer a_last: multi_coefficient\[1\] must be greater than 0; got 0.*learn_coefficient='raw'",
    ),
    "learnt from 1": (
        {"alpha": [0.3, 1.0], "alpha_mode": "per_layer", "learn_alpha": True},
        ValueError,
        r"layer a_last: .*alpha\[1\] .*initial value must be below 1; got 1.*learn_alpha='raw'",
    ),
    "flags": ({"alpha": 0.5, "learn_alpha": [True] * 3}, ValueError, "learn_alpha must have one entry.*2 frac.*got 3"),
    "flag": ({"alpha": 0.5, "learn_alpha": 1}, TypeError, "learn_alpha must be True, False or 'raw'"),
    "flag inside": (
        {"alpha": 0.5, "learn_coefficient": [True, None]},
        TypeError,
        r"learn_coefficient\[1\] must be True",
    ),
    "coefficient flags": (
        {"alpha": 0.5, "learn_coefficient": [True]},
        ValueError,
        "learn_coefficient must have one entry.*got 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_names_the_call_and_leaves_the_network(case: str) -> None:
    arguments, error, words = REFUSED[case]
    net = Net(methods=("l1", "gl"))
    bh.set_fractional_orders(net, [0.2, 0.4], alpha_mode="per_layer", learn_alpha=[False, True])
    before = {path: id(state) for path, state in net.states().items()}
    with pytest.raises(error, match=words) as caught:
        quietly(net, **arguments)
    assert str(caught.value).startswith("set_fractional_orders: ")
    assert alphas(net) == [[0.2], [0.4]]
    assert [layer.method for layer in layers(net)] == ["l1", "gl"]
    assert [layer.learns_alpha for layer in layers(net)] == [False, True]
    assert {path: id(state) for path, state in net.states().items()} == before


def test_a_warning_made_an_error_leaves_the_network() -> None:
    net = Net(methods=("l1", "gl"))
    with pytest.raises(UserWarning, match="becomes 'gl'"):
        bh.set_fractional_orders(net, [[0.3, 0.5], [0.5]])
    assert net.z_first.method == "l1"
    assert alphas(net) == [[0.9], [0.9]]


CALLS = {
    "set_fractional_orders": lambda net: bh.set_fractional_orders(net, 0.5),
    "get_per_layer_alpha": bh.get_per_layer_alpha,
    "get_per_layer_coefficient": bh.get_per_layer_coefficient,
    "fractional_summary": bh.fractional_summary,
}


@pytest.mark.parametrize("call", CALLS)
def test_a_network_without_fractional_layers_is_refused(call: str) -> None:
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(2, 3), bh.nn.LIFLayer(3, tau=10 * u.ms))
    with pytest.raises(ValueError, match=rf"{call}: .*no fractional layer.*LIFSynapse, LIFLayer.*FractionalLIFLayer"):
        CALLS[call](net)
    with pytest.raises(TypeError, match=rf"{call}: net must be a brainstate.nn.Module; got 3"):
        CALLS[call](3)


# --- what is read back ------------------------------------------------------------------------------------------------


def test_the_summary_is_a_table() -> None:
    net = Net(methods=("gl", "l1"))
    bh.set_fractional_orders(
        net,
        [[0.25, 0.5], np.array([0.5, 0.25, 0.75])],
        multi_coefficient=[[1.0, 0.125], None],
        learn_coefficient=[True, False],
    )
    text = [line.split() for line in str(bh.fractional_summary(net)).splitlines()]
    assert text == [
        ["layer", "neurons", "method", "orders", "coefficients", "trainable"],
        ["z_first", "5", "gl", "0.25,", "0.5", "1,", "0.125", "coefficients"],
        ["a_last", "3", "l1", "0.25", "to", "0.75", "1", "-"],
    ]
    assert repr(bh.fractional_summary(net)) == str(bh.fractional_summary(net))


def test_the_summary_needs_numbers() -> None:
    net = Net()
    bh.set_fractional_orders(net, 0.5, learn_alpha=True)
    with pytest.raises(RuntimeError, match="fractional_summary: the orders are being traced"):
        brainstate.transform.jit(lambda: str(bh.fractional_summary(net)))()
