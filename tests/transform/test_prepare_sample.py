"""A sampled chip stays until another one is sampled, and each kind of variation can be left out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

both = pytest.mark.parametrize("kind", ["H1v1", "H1v2"])
MODULES = ("syn1", "hidden", "syn2", "out")


def in_use(net: brainstate.nn.Module) -> dict[str, np.ndarray]:
    """Return what the prepared net runs with: charges in fC, time constants in ms, thresholds in mV."""
    found = {}
    for name in filter(lambda name: hasattr(net, name), (*MODULES, "syn")):
        module = getattr(net, name)
        if hasattr(module, "effective"):
            found[f"{name}.charge"] = np.array(module.effective.charge.value.mantissa)
        if hasattr(module, "chip_tau"):
            found[f"{name}.tau"] = np.array(module.chip_tau.value.mantissa)
            found[f"{name}.V_th"] = np.array(module.chip_V_th.value.mantissa)
    return found


def prepared(net: brainstate.nn.Module, *args: Any, **options: Any) -> dict[str, np.ndarray]:
    bh.prepare_net(net, *args, **options)
    return in_use(net)


def sampled(net: brainstate.nn.Module, key: int = 7, **options: Any) -> dict[str, np.ndarray]:
    bh.nominal_chip(net)  # a kind that is switched off keeps its current values
    bh.sample_chip(net, key, **options)
    return prepared(net)


def check_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def values_of(layer: brainstate.nn.Module) -> dict[str, np.ndarray]:
    return {name: np.array(getattr(layer, name).value.mantissa) for name in ("chip_tau", "chip_V_th")}


def differing(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> set[str]:
    return {name for name, values in one.items() if not np.array_equal(values, other[name])}


# ---------------------------------------------------------------- lifetime of a chip


@both
def test_a_chip_in_place_is_that_of_its_key_and_outlasts_batches_keys_and_training(
    make_net: Callable, kind: str
) -> None:
    net = make_net(kind)
    nominal, wanted = prepared(net), prepared(net, key=7)
    bh.sample_chip(net, jax.random.key(7))
    for batch_size in (None, 1, 5):
        check_same(prepared(net, batch_size), wanted)
    # A key passed to a preparation holds only for that preparation.
    assert differing(prepared(net, 2, key=8), wanted)
    check_same(prepared(net, 2), wanted)
    # Training changes the weights, but not the mismatch that the chip adds to them.
    added = net.syn1.effective.mismatch.value.mantissa
    net.syn1.weight.value = -0.5 * net.syn1.weight.value
    after = prepared(net)
    np.testing.assert_array_equal(after["syn1.charge"], net.syn1.chip.charge(net.syn1.weight.value).mantissa + added)
    assert differing(after, wanted) == {"syn1.charge"}
    net.syn1.weight.value = -2 * net.syn1.weight.value
    check_same(prepared(net), wanted)
    bh.nominal_chip(net)
    check_same(prepared(net), nominal)


def test_rollout_runs_the_chip_in_place_and_one_with_a_key_for_that_call_alone(
    make_net: Callable, make_input: Callable
) -> None:
    net, xs = make_net("one layer"), make_input(15)

    @brainstate.transform.jit
    def run() -> jax.Array:
        return bh.rollout(net, xs, record=("hidden.V_pre",))[1]["hidden.V_pre"].mantissa

    nominal = np.asarray(run())
    bh.sample_chip(net, 3)
    ours = np.asarray(run())
    bh.rollout(net, xs, key=4)
    check_same(in_use(net), prepared(net, key=4))
    # The compiled function reads the current chip at every call.
    np.testing.assert_array_equal(run(), ours)
    check_same(prepared(net), prepared(net, key=3))
    assert not np.array_equal(ours, nominal)
    bh.nominal_chip(net)
    np.testing.assert_array_equal(run(), nominal)


def test_the_net_counts_as_unprepared_until_it_is_prepared_on_its_new_chip(
    make_net: Callable, make_input: Callable
) -> None:
    net, xs = make_net("one layer"), make_input(3)
    for put in (lambda: bh.sample_chip(net, 7), lambda: bh.nominal_chip(net)):
        bh.prepare_net(net, 2)
        net(xs[0])
        put()
        with pytest.raises(RuntimeError, match=r"H1v1Synapse.update: the network is not prepared"):
            net(xs[0])
        with pytest.raises(RuntimeError, match=r"H1v1Layer.update: the network is not prepared"):
            net.hidden(jnp.ones((2, 5)) * u.fcoulomb)


def test_a_layer_alone_does_not_go_on_with_the_chip_before() -> None:
    """A module without weights needs no preparation: the chip takes effect at once."""
    layer = bh.nn.H1v2Layer(3, tau=10 * u.ms)
    bh.prepare_net(layer)
    bh.sample_chip(layer, 7)
    at_once = values_of(layer)
    bh.prepare_net(layer)
    assert not differing(at_once, values_of(layer))
    bh.nominal_chip(layer)
    assert differing(at_once, values_of(layer)) == {"chip_tau", "chip_V_th"}


def test_a_compiled_choice_of_chip_makes_the_net_stale_each_time(make_net: Callable, make_input: Callable) -> None:
    """The second call runs no Python, so only the values written by the call can show the chip."""
    net, x = make_net("one layer"), make_input(1, None)[0]
    put = brainstate.transform.jit(lambda key: bh.sample_chip(net, key))
    for seed in (1, 2):
        put(jax.random.key(seed))
        with pytest.raises(RuntimeError, match=r"H1v1Synapse.update"):
            net(x)
        bh.prepare_net(net)
        net(x)


@both
def test_a_traced_key_is_the_same_chip_inside_jit(make_net: Callable, kind: str) -> None:
    net = make_net(kind)

    @brainstate.transform.jit
    def put(key: jax.Array) -> None:
        bh.sample_chip(net, key)
        bh.prepare_net(net, 2)

    for seed in (7, 8):
        put(jax.random.key(seed))
        inside = in_use(net)
        # XLA may round the curve and the exponential differently inside a compiled function.
        for name, values in sampled(net, seed).items():
            np.testing.assert_allclose(inside[name], values, rtol=2e-6, atol=1e-7, err_msg=name)


def test_a_copy_keeps_its_chip_and_gets_others_on_its_own(make_net: Callable) -> None:
    net = make_net("H1v1")
    ours = sampled(net, 7)
    twin = copy.deepcopy(net)
    check_same(prepared(twin), ours)
    theirs = sampled(twin, 8)
    assert differing(theirs, ours)
    check_same(prepared(net), ours)
    check_same(prepared(twin), theirs)


# ---------------------------------------------------------------- kinds and sizes of variation

SWITCHES = {"synapse": "charge", "leak": "tau", "threshold": "V_th"}
OF_SPEC = {"H1v1": {"synapse", "leak"}, "H1v2": {"leak", "threshold"}}
OFF: dict[str, Any] = dict.fromkeys(SWITCHES, False)


@both
def test_each_variation_alone_is_the_one_that_all_together_have(make_net: Callable, kind: str) -> None:
    net = make_net(kind)
    nominal, full = prepared(net), sampled(net)
    check_same(sampled(net, **OFF), nominal)
    seen = set()
    for switch, what in SWITCHES.items():
        one = sampled(net, **{**OFF, switch: True})
        here = {name for name in nominal if name.endswith(what)}
        assert differing(one, nominal) == (here if switch in OF_SPEC[kind] else set())
        check_same({name: one[name] for name in here}, {name: full[name] for name in here})
        without = sampled(net, **{switch: False})
        check_same(without, {name: (nominal if name in here else full)[name] for name in full})
        seen |= differing(one, nominal)
    assert seen == differing(full, nominal)


@both
def test_a_given_size_scales_the_same_draw_also_where_the_spec_has_none(make_net: Callable, kind: str) -> None:
    net = make_net(kind)
    nominal = prepared(net)
    small = sampled(net, synapse=0.01, leak=0.02, threshold=0.03)
    large = sampled(net, synapse=0.04, leak=0.08, threshold=0.12)
    for name, values in nominal.items():
        change = np.log if name.endswith("tau") else np.asarray
        one, four = (change(other[name]) - change(values) for other in (small, large))
        assert np.all(one != 0)
        np.testing.assert_allclose(four, 4 * one, atol=2e-6 * np.abs(change(values)).max(), err_msg=name)
        # With sizes of one these are standard normal numbers.
        size = {"charge": 0.01 * net.syn1.chip.charge.slope_at_zero.mantissa, "tau": 0.02, "V_th": 0.03 * 100}
        assert np.abs(one).max() / size[name.rpartition(".")[2]] < 4.5
    # True means the size in the spec.
    spec: dict[str, Any] = {"synapse": 0.02, "leak": 0.1} if kind == "H1v1" else {"leak": 0.1, "threshold": 0.02}
    check_same(sampled(net, **spec), sampled(net))
    check_same(sampled(net, synapse=0, leak=0.0, threshold=0), nominal)


def test_another_key_is_another_chip_and_the_modules_of_one_differ(make_net: Callable) -> None:
    net = make_net("H1v1")
    nominal, one, other = prepared(net), sampled(net, 1), sampled(net, 2)
    assert differing(one, other) == differing(one, nominal)
    added = [one[name] - nominal[name] for name in ("syn1.charge", "syn2.charge")]
    assert not np.intersect1d(*added).size


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("key", "options", "error", "message"),
    [
        (None, {}, TypeError, r"key must be an integer or a jax.random.key; got None.* brainhw.nominal_chip"),
        (1.5, {}, TypeError, "key must be an integer .*; got 1.5"),
        (True, {}, TypeError, "key must be an integer .*; got True"),
        (-1, {}, ValueError, r"key must be an integer from 0 to 2\*\*32 - 1; got -1"),
        (7, {"synapse": -0.1}, ValueError, "synapse must be zero or greater; got -0.1"),
        (7, {"leak": float("nan")}, ValueError, "leak must be finite"),
        (7, {"threshold": "large"}, TypeError, "threshold must be a number; got 'large'"),
        (7, {"threshold": None}, TypeError, "threshold must be a number; got None"),
        (7, {"leak": [0.1]}, ValueError, r"leak must be a scalar; got shape \(1,\)"),
        (7, {"leak": 0.1 * u.ms}, TypeError, "leak must be a number without a unit"),
    ],
    ids=str,
)
def test_what_names_no_chip_is_refused_and_the_one_in_place_stays(
    make_net: Callable, key: Any, options: dict, error: type[Exception], message: str
) -> None:
    net = make_net("one layer")
    before = sampled(net)
    with pytest.raises(error, match=f"^sample_chip: {message}"):
        bh.sample_chip(net, key, **options)
    net(np.ones(4))  # still prepared
    check_same(prepared(net), before)


def test_nets_that_run_on_no_one_chip_are_refused(make_net: Callable) -> None:
    mixed = make_net("H1v1")
    before = sampled(mixed)
    mixed.out = bh.nn.H1v2Layer(3, tau=10 * u.ms)
    for call, name in ((lambda net: bh.sample_chip(net, 7), "sample_chip"), (bh.nominal_chip, "nominal_chip")):
        with pytest.raises(TypeError, match=f"^{name}: net must be a brainstate.nn.Module; got 3"):
            call(3)
        with pytest.raises(ValueError, match=f"^{name}: the network has no module on a chip. Build it with modules"):
            call(make_net("lif"))
        with pytest.raises(ValueError, match=f"^{name}: one network runs on one chip, but families are mixed"):
            call(mixed)
    del mixed.out
    after = prepared(mixed)
    check_same(after, {name: before[name] for name in after})
