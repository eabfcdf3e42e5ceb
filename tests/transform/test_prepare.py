"""prepare_net: allowed places of the call, reset states, sampled chips, invalid arguments."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.chip import H1V1, H1V2


def gradients(net: brainstate.nn.Module, xs: jax.Array, **options: Any) -> dict:
    loss = lambda: jnp.mean(bh.rollout(net, xs, **options)[0])  # noqa: E731
    return brainstate.transform.grad(loss, net.states(brainstate.ParamState))()


@pytest.mark.parametrize("kind", ["lif", "H1v1"])
def test_inside_a_compiled_loss_the_gradient_reaches_every_master_weight(make_net, make_input, kind: str) -> None:
    xs, net = make_input(12), make_net(kind)
    eager = gradients(net, xs)
    compiled = brainstate.transform.jit(lambda xs: gradients(net, xs))(xs)
    assert len(eager) == 3
    for path in eager:
        grad, other = (np.asarray(u.get_mantissa(of[path])) for of in (eager, compiled))
        assert np.abs(grad).max() > 0, path
        np.testing.assert_allclose(other, grad, rtol=1e-4, atol=1e-5 * np.abs(grad).max())


def test_a_compiled_training_step_sees_the_weights_of_the_last_step(make_net, make_input) -> None:
    xs, net = make_input(12), make_net("H1v1")
    run = brainstate.transform.jit(lambda: bh.rollout(net, xs)[0])
    first = run()
    net.syn1.weight.value = net.syn1.weight.value * 0.0
    net.hidden.recurrent_weight.value = net.hidden.recurrent_weight.value * 0.0
    assert first.sum() > 0
    assert run().sum() == 0


@pytest.mark.parametrize("batch_size", [None, 1, 6])
def test_states_get_the_batch_and_rest(make_net, make_input, batch_size: int | None) -> None:
    net = make_net("H1v1")
    bh.rollout(net, make_input(5, 3))
    objects = {path: id(state) for path, state in net.states().items()}
    bh.prepare_net(net, batch_size)
    lead = () if batch_size is None else (batch_size,)
    for state in net.states(brainstate.HiddenState).values():
        numbers = u.get_mantissa(state.value)
        assert numbers.shape[:-1] == lead
        assert not np.any(numbers)
    assert {path: id(state) for path, state in net.states().items()} == objects
    assert net.syn1.effective.charge.value.shape == (4, 5)


def test_paths_of_states_and_modules_are_pinned(make_net) -> None:
    expected = {
        ("syn1", "weight"), ("syn1", "effective", "charge"),
        ("hidden", "V"), ("hidden", "spk"), ("hidden", "chip_tau"), ("hidden", "chip_V_th"),
        ("hidden", "recurrent_weight"), ("hidden", "effective", "charge"),
        ("syn2", "weight"), ("syn2", "effective", "charge"),
        ("out", "V"), ("out", "spk"), ("out", "chip_tau"), ("out", "chip_V_th"),
        ("syn1", "effective", "mismatch"), ("hidden", "effective", "mismatch"), ("syn2", "effective", "mismatch"),
        ("hidden", "pinned_tau"), ("hidden", "pinned_V_th"), ("out", "pinned_tau"), ("out", "pinned_V_th"),
    }  # fmt: skip
    net = make_net("H1v1")
    assert set(net.states()) == expected
    bh.prepare_net(net, 2)
    assert set(net.states()) == expected
    kind = type(net)

    class WithPairs(kind):
        graph_invisible_attrs = ("layer_pairs",)

        def __init__(self, other: brainstate.nn.Module) -> None:
            super().__init__(other.syn1, other.hidden, other.syn2, other.out)
            self.layer_pairs = [(self.syn1, self.hidden), (self.syn2, self.out)]

    assert set(WithPairs(net).states()) == expected
    assert set(make_net("lif").states(brainstate.ParamState)) == {
        ("syn1", "weight"), ("hidden", "recurrent_weight"), ("syn2", "weight"),
    }  # fmt: skip


def test_one_module_alone_can_be_prepared() -> None:
    synapse = bh.nn.H1v2Synapse(2, 3)
    bh.prepare_net(synapse)
    assert synapse(jnp.ones(2)).shape == (3,)
    layer = bh.nn.H1v2Layer(3, tau=10 * u.ms)
    bh.prepare_net(layer, 4, key=1)
    assert layer.V.value.shape == (4, 3)


def test_mixed_families_and_mixed_specs_are_refused() -> None:
    mixed = brainstate.nn.Sequential(bh.nn.H1v1Synapse(2, 3), bh.nn.H1v2Layer(3, tau=10 * u.ms))
    with pytest.raises(ValueError, match=r"prepare_net: .* families are mixed \(.*layers.0.*H1v1.*layers.1.*H1v2"):
        bh.prepare_net(mixed)
    with pytest.raises(ValueError, match="families are mixed"):
        bh.rollout(mixed, jnp.ones((3, 2)))
    mine = H1V1.replace(V_th=90 * u.mV, name="mine")
    specs = brainstate.nn.Sequential(bh.nn.H1v1Synapse(2, 3), bh.nn.H1v1Layer(3, tau=10 * u.ms, chip=mine))
    with pytest.raises(
        ValueError, match=r"prepare_net: .* the specs of one family differ in name, V_th.* \(.*mine \(H1v1\)"
    ):
        bh.prepare_net(specs)


def test_equal_specs_and_modules_without_a_chip_are_one_chip() -> None:
    same = H1V2.replace()
    net = brainstate.nn.Sequential(
        bh.nn.LIFSynapse(2, 2),
        bh.nn.LIFLayer(2, tau=10 * u.ms),
        bh.nn.H1v2Synapse(2, 3, chip=same),
        bh.nn.H1v2Layer(3, tau=10 * u.ms, chip="h1v2"),
        bh.nn.LeakyReadout(3, 2, tau=10 * u.ms),
    )
    bh.prepare_net(net, 2)
    assert bh.nn.net_chip(net, call="test") == H1V2
    assert bh.nn.net_chip(bh.nn.LIFLayer(2, tau=10 * u.ms), call="test") is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an integer; got 2.0"),
        ({"batch_size": (2,)}, TypeError, r"batch_size must be an integer; got tuple \(2,\)"),
        ({"batch_size": 2 * u.ms}, TypeError, "batch_size must be an integer"),
        ({"key": 1.5}, TypeError, "key must be an integer or a jax.random.key; got 1.5"),
        ({"key": "one"}, TypeError, "key must be an integer or a jax.random.key; got 'one'"),
        ({"key": jnp.ones(3)}, (TypeError, ValueError), r"key must be .* got an array of shape \(3,\)"),
        (
            {"key": jax.random.split(jax.random.key(0), 3)},
            ValueError,
            "key must be a single key; got an array of shape",
        ),
    ],
)
def test_a_bad_argument_is_refused_before_anything_changes(make_net, options, error, message: str) -> None:
    net = make_net("H1v1")
    bh.prepare_net(net, 2, key=3)
    before = {path: state.value for path, state in net.states().items()}
    with pytest.raises(error, match=f"^prepare_net: {message}"):
        bh.prepare_net(net, **options)
    assert all(state.value is before[path] for path, state in net.states().items())


@pytest.mark.parametrize("net", [None, "net", bh.nn.LIFLayer, jnp.ones(3)])
def test_what_is_no_module_is_refused(net: object) -> None:
    with pytest.raises(TypeError, match=r"^prepare_net: net must be a brainstate.nn.Module; got "):
        bh.prepare_net(net)


@pytest.mark.parametrize("kind", ["lif", "H1v1"])
@pytest.mark.parametrize("name", ["syn1.weight", "hidden.recurrent_weight"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_refused_before_anything_changes(make_net, make_input, kind, name, bad) -> None:
    net, xs = make_net(kind), make_input(5)
    bh.prepare_net(net, 2, key=3)
    owner, attribute = name.split(".")
    state = getattr(getattr(net, owner), attribute)
    unit = u.get_unit(state.value)
    numbers = np.array(u.get_mantissa(state.value))
    numbers[1, 2] = bad
    state.value = jnp.asarray(numbers) if unit == u.UNITLESS else jnp.asarray(numbers) * unit
    before = {path: held.value for path, held in net.states().items()}
    message = rf"prepare_net: the parameter {name} contains 1 NaN or infinite value\(s\), the first at index \(1, 2\)"
    with pytest.raises(ValueError, match=message):
        bh.prepare_net(net, 3)
    with pytest.raises(ValueError, match=message):
        bh.rollout(net, xs)
    assert all(held.value is before[path] for path, held in net.states().items())


def test_a_loss_that_forgets_a_parameter_is_still_told_so(make_net, make_input) -> None:
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), bh.nn.LIFLayer(3, tau=10 * u.ms))
    stray = brainstate.ParamState(jnp.ones(2))
    net.stray = stray
    with pytest.raises(ValueError, match="not found in the state trace"):
        gradients(net, make_input(4))


def test_foreign_states_must_exist_before_compiling(make_input) -> None:
    net = brainstate.nn.Sequential(
        bh.nn.LIFSynapse(4, 3), bh.nn.LIFLayer(3, tau=10 * u.ms), brainstate.nn.GRUCell(3, 2)
    )
    run = brainstate.transform.jit(lambda xs: bh.rollout(net, xs)[0])
    with pytest.raises(RuntimeError, match=r"prepare_net: a module has no states yet .*'GRUCell'.* once before"):
        run(make_input(4))
    bh.prepare_net(net, 2)
    assert run(make_input(4)).shape == (4, 2, 2)
    assert isinstance(net.layers[1].V.value.mantissa, jax.Array)
    assert np.isfinite(net.layers[2].h.value).all()


def test_a_module_that_cannot_be_reset_is_refused() -> None:
    class Counter(brainstate.nn.Module):
        def init_state(self, batch_size: int | None = None) -> None:
            self.n = brainstate.HiddenState(jnp.zeros(()))

        def update(self, x: jax.Array) -> jax.Array:
            self.n.value = self.n.value + 1
            return x * self.n.value

    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(2, 2), Counter())
    with pytest.raises(TypeError, match=r"prepare_net: Counter at 'layers.1' has init_state but no reset_state"):
        bh.prepare_net(net)
