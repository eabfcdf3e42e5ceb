"""Seed 003, brainpy's tutorial on training a spiking network: each promise as one test, in brainhw's names.

Names: an ``Expon`` followed by ``brainpy.state.LIF`` is ``CubaLIFLayer`` (synapse and membrane in one layer), a
``Linear`` followed by an ``Expon`` is ``LeakyReadout``; ``LIF`` alone is ``LIFLayer``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from seed_nets import BATCH, N_IN, N_OUT, N_REC, SNN, STEPS, synapse

import brainhw as bh


def recurrent(**options: Any) -> Any:
    weights = 0.2 * np.random.default_rng(5).standard_normal((N_REC, N_REC)).astype(np.float32)
    return bh.nn.LIFLayer(N_REC, tau=20.0 * u.ms, topology="RC", recurrent_init=weights * u.mV, **options)


RELU = braintools.surrogate.ReluGrad
NETS: dict[str, Callable[[], Any]] = {
    "LIF": lambda: SNN(synapse(), bh.nn.LIFLayer(N_REC, tau=20.0 * u.ms, spk_fun=RELU())),
    "recurrent LIF": lambda: SNN(synapse(), recurrent(spk_fun=RELU())),
    "aLIF": lambda: SNN(synapse(), bh.nn.ALIFLayer(N_REC, V_th=5.0 * u.mV)),
    "recurrent aLIF": lambda: SNN(synapse(), bh.nn.ALIFLayer(N_REC, V_th=5.0 * u.mV, w_rec=True)),
    "fractional": lambda: SNN(synapse(), bh.nn.FractionalLIFLayer(N_REC, tau=2.0 * u.ms, spk_fun=RELU())),
    "readout": lambda: bh.nn.LeakyReadout(N_IN, N_OUT, tau=10.0 * u.ms, bias=True),
}
each_net = pytest.mark.parametrize("kind", NETS)


@functools.cache
def data() -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(7)
    return jnp.asarray(rng.random((STEPS, BATCH, N_IN)) < 0.2, jnp.float32), jnp.asarray(rng.integers(0, 2, BATCH))


def build(kind: str) -> Any:
    brainstate.random.seed(11)
    return NETS[kind]()


def weights(net: Any) -> dict[Any, np.ndarray]:
    return {path: np.asarray(u.get_mantissa(_leaf(state))) for path, state in net.states(brainstate.ParamState).items()}


def _leaf(state: Any) -> Any:
    return jax.tree.leaves(state.value)[0]


def loss_of(outputs: Any) -> Any:
    preds = u.math.mean(outputs, axis=0)  # [B, C]
    return braintools.metric.softmax_cross_entropy_with_integer_labels(preds, data()[1]).mean()


@dataclasses.dataclass
class Trained:
    """A net after some steps of the tutorial's training step, with the losses and how often the step was traced."""

    net: Any
    before: dict[Any, np.ndarray]
    losses: list[float]
    traces: int


def train(kind: str, steps: int = 12) -> Trained:
    """Train as the tutorial does, line by line."""
    traces = 0
    x_data, _ = data()
    with brainstate.environ.context(dt=1.0 * u.ms):
        net = build(kind)
        before = weights(net)
        optimizer = braintools.optim.Adam(lr=3e-2)
        optimizer.register_trainable_weights(net.states(brainstate.ParamState))

        def loss_fn() -> Any:
            preds = brainstate.transform.for_loop(net.update, x_data)  # [T, B, C]
            return loss_of(preds)

        @brainstate.transform.jit
        def train_step() -> Any:
            nonlocal traces
            traces += 1
            brainstate.nn.init_all_states(net, batch_size=BATCH)
            grads, loss = brainstate.transform.grad(loss_fn, net.states(brainstate.ParamState), return_value=True)()
            optimizer.update(grads)
            return loss

        losses = [float(train_step()) for _ in range(steps)]
    return Trained(net, before, losses, traces)


@pytest.fixture(scope="module", params=NETS)
def trained(request: pytest.FixtureRequest) -> Trained:
    return train(request.param)


def grads_of(net: Any, run: Callable[[], Any]) -> tuple[list[np.ndarray], float]:
    states = net.states(brainstate.ParamState)
    step = brainstate.transform.jit(brainstate.transform.grad(lambda: loss_of(run()), states, return_value=True))
    grads, loss = step()
    return [np.asarray(u.get_mantissa(leaf)) for leaf in jax.tree.leaves(grads)], float(loss)


def test_the_tutorial_runs_with_its_sizes_and_gives_its_losses() -> None:
    class SNN(brainstate.nn.Module):
        def __init__(self, n_in: int, n_rec: int, n_out: int) -> None:
            super().__init__()
            self.i2r = brainstate.nn.Linear(
                n_in,
                n_rec,
                w_init=braintools.init.KaimingNormal(unit=u.mV),
                b_init=braintools.init.ZeroInit(unit=u.mV),
            )
            # There a current moves the membrane by dt / tau of it in a step, here by all of it: so the threshold is
            # 1 mV * tau / dt.
            self.r = bh.nn.CubaLIFLayer(
                n_rec,
                tau_syn=5.0 * u.ms,
                tau_mem=20.0 * u.ms,
                V_th=20.0 * u.mV,
                spk_fun=braintools.surrogate.ReluGrad(),
            )
            self.o = bh.nn.LeakyReadout(n_rec, n_out, tau=10.0 * u.ms)

        def update(self, spike: Any) -> Any:
            return self.o(self.r(self.i2r(spike)))

    brainstate.random.seed(0)
    with brainstate.environ.context(dt=1.0 * u.ms):
        n_in, n_rec, n_out = 100, 4, 2
        num_step, num_sample = 200, 256
        freq = 5.0 * u.Hz
        x_data = brainstate.random.rand(num_step, num_sample, n_in) < freq * brainstate.environ.get_dt()
        x_data = x_data.astype(float)
        y_data = u.math.asarray(brainstate.random.rand(num_sample) < 0.5, dtype=int)
    assert f"inputs: {x_data.shape}  labels: {y_data.shape}" == "inputs: (200, 256, 100)  labels: (256,)"

    with brainstate.environ.context(dt=1.0 * u.ms):
        net = SNN(n_in, n_rec, n_out)
        optimizer = braintools.optim.Adam(lr=3e-3)
        optimizer.register_trainable_weights(net.states(brainstate.ParamState))

        def loss_fn() -> Any:
            preds = brainstate.transform.for_loop(net.update, x_data)  # [T, B, C]
            preds = u.math.mean(preds, axis=0)  # [B, C]
            return braintools.metric.softmax_cross_entropy_with_integer_labels(preds, y_data).mean()

        @brainstate.transform.jit
        def train_step() -> Any:
            brainstate.nn.init_all_states(net, batch_size=num_sample)
            grads, loss = brainstate.transform.grad(loss_fn, net.states(brainstate.ParamState), return_value=True)()
            optimizer.update(grads)
            return loss

        losses = [float(train_step()) for _ in range(200)]
    assert f"first loss: {losses[0]:.4f}" == "first loss: 0.6931"
    assert losses[-1] < 0.6  # 0.5738 in the tutorial, with another draw


def test_the_training_step_as_written_lowers_the_loss(trained: Trained) -> None:
    assert np.all(np.isfinite(trained.losses))
    assert trained.losses[-1] < trained.losses[0] - 0.02


def test_the_training_step_changes_every_weight_that_was_registered(trained: Trained) -> None:
    after = weights(trained.net)
    assert after.keys() == trained.before.keys()
    for path, values in after.items():
        assert np.all(np.isfinite(values)), path
        assert not np.array_equal(values, trained.before[path]), path


def test_the_training_step_is_compiled_once(trained: Trained) -> None:
    assert trained.traces == 1


@each_net
def test_fresh_states_in_each_step_make_losses_repeat(kind: str) -> None:
    net, x = build(kind), data()[0]

    @brainstate.transform.jit
    def loss() -> Any:
        brainstate.nn.init_all_states(net, batch_size=BATCH)
        return loss_of(brainstate.transform.for_loop(net.update, x))

    first, again = float(loss()), float(loss())
    fresh = build(kind)
    bh.prepare_net(fresh, BATCH)
    assert first == again == pytest.approx(float(loss_of(brainstate.transform.for_loop(fresh.update, x))), rel=1e-5)


@pytest.mark.parametrize("kind", ["LIF", "recurrent aLIF", "fractional", "readout"])
def test_for_loop_rollout_and_checkpointed_for_loop_are_one_loss_and_one_gradient(kind: str) -> None:
    net, x = build(kind), data()[0]

    def prepared(loop: Callable[..., Any]) -> Callable[[], Any]:
        def run() -> Any:
            bh.prepare_net(net, BATCH)
            return loop(net.update, x)

        return run

    found = [
        grads_of(net, prepared(brainstate.transform.for_loop)),
        grads_of(net, prepared(functools.partial(brainstate.transform.checkpointed_for_loop, base=4))),
        grads_of(net, lambda: bh.rollout(net, x)[0]),
    ]
    (grads, loss), *others = found
    assert any(np.abs(g).max() > 0 for g in grads)
    for other, value in others:
        assert value == pytest.approx(loss, rel=1e-5)
        for g, o in zip(grads, other, strict=True):
            np.testing.assert_allclose(o, g, rtol=1e-4, atol=1e-5 * np.abs(g).max())


@each_net
def test_outputs_of_the_time_loop_are_steps_by_batch_by_classes(kind: str) -> None:
    net, x = build(kind), data()[0]
    bh.prepare_net(net, BATCH)
    assert brainstate.transform.for_loop(net.update, x).shape == (STEPS, BATCH, N_OUT)


def test_one_call_advances_every_stage_by_one_step() -> None:
    net, x = build("LIF"), data()[0]
    bh.prepare_net(net, BATCH)
    V, y = np.zeros((BATCH, N_REC)), np.zeros((BATCH, N_OUT))
    w_in, w_out = np.asarray(net.i2r.weight.value.mantissa, float), np.asarray(net.o.weight.value, float)
    for t in range(3):
        out = net(x[t])
        V = np.exp(-1 / 20) * V + np.asarray(x[t], float) @ w_in
        spikes = V >= 1.0
        V = V - spikes
        y = np.exp(-1 / 10) * y + spikes @ w_out
        np.testing.assert_allclose(net.r.V.value.mantissa, V, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out, y, rtol=1e-4, atol=1e-5)


def hard_step(x: jax.Array) -> jax.Array:
    return (x >= 0).astype(x.dtype)


def test_without_a_surrogate_no_gradient_reaches_the_input_weights() -> None:
    x = data()[0][:8]
    largest = {}
    for name, spk_fun in (("step", hard_step), ("surrogate", RELU())):
        brainstate.random.seed(11)
        net = SNN(synapse(), bh.nn.LIFLayer(N_REC, tau=20.0 * u.ms, spk_fun=spk_fun))
        grads = brainstate.transform.grad(
            lambda net=net: loss_of(bh.rollout(net, x)[0]), net.states(brainstate.ParamState)
        )()
        largest[name] = float(np.abs(u.get_mantissa(grads["i2r", "weight"])).max())
    assert largest["step"] == 0
    assert largest["surrogate"] > 1e-3


SURROGATES = ["ReluGrad", "Sigmoid", "Arctan", "GaussianGrad", "MultiGaussianGrad", "InvSquareGrad", "SlayerGrad"]


@pytest.mark.parametrize("name", SURROGATES)
def test_a_surrogate_of_braintools_goes_into_spk_fun_and_leaves_hard_spikes(name: str) -> None:
    surrogate = getattr(braintools.surrogate, name)()
    layer = bh.nn.LIFLayer(3, tau=20.0 * u.ms, spk_fun=surrogate)
    x = jnp.array([0.2, 0.9, 1.3])

    def spikes(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        bh.prepare_net(layer)
        spk = layer(x * u.mV)
        return spk.sum(), spk

    grad, spk = brainstate.transform.grad(spikes, has_aux=True)(x)
    np.testing.assert_array_equal(spk, [0, 0, 1])
    np.testing.assert_allclose(grad, surrogate.surrogate_grad(x - 1), rtol=1e-5, atol=1e-7)


def test_gradients_flow_back_through_time() -> None:
    net, x = build("LIF"), data()[0]

    def last_output(x: jax.Array) -> jax.Array:
        bh.prepare_net(net, BATCH)
        return brainstate.transform.for_loop(net.update, x)[-1].sum()

    grads = np.abs(np.asarray(brainstate.transform.grad(last_output)(x))).max(axis=(1, 2))
    assert np.all(grads > 0)


def test_the_optimizer_finds_the_weights_of_every_stage() -> None:
    assert set(build("recurrent LIF").states(brainstate.ParamState)) == {
        ("i2r", "weight"),
        ("r", "recurrent_weight"),
        ("o", "weight"),
    }


def test_a_leaky_readout_serves_in_place_of_the_average() -> None:
    readout = build("readout")
    bh.prepare_net(readout, BATCH)
    x = data()[0]
    outputs = brainstate.transform.for_loop(readout.update, x)
    lags = np.exp(-np.arange(STEPS)[::-1] / 10)
    drives = np.asarray(x, float) @ np.asarray(readout.weight.value, float)
    np.testing.assert_allclose(outputs[-1], np.einsum("t,tbc->bc", lags, drives), rtol=1e-4, atol=1e-4)


def test_checkpointed_for_loop_bounds_the_memory_of_long_runs() -> None:
    """What the gradient of a run of 512 steps needs besides its arguments and results."""
    weights = np.zeros((N_IN, 100), np.float32) * u.mV
    net = brainstate.nn.Sequential(
        bh.nn.LIFSynapse(N_IN, 100, weight_init=weights),
        bh.nn.LIFLayer(100, tau=20.0 * u.ms),
        bh.nn.LeakyReadout(100, N_OUT, tau=10.0 * u.ms, weight_init=np.zeros((100, N_OUT))),
    )
    x = jnp.zeros((512, 16, N_IN))

    def bytes_of(loop: Callable[..., Any]) -> int:
        def loss() -> Any:
            bh.prepare_net(net, 16)
            return loop(net.update, x).mean()

        step = brainstate.transform.jit(brainstate.transform.grad(loss, net.states(brainstate.ParamState)))
        return step.compile().memory_analysis().temp_size_in_bytes

    assert bytes_of(brainstate.transform.checkpointed_for_loop) < 0.5 * bytes_of(brainstate.transform.for_loop)


def test_long_runs_keep_bounded_memory_through_rollout_as_well() -> None:
    # Kept otherwise too: `rollout(checkpoint="auto")` is the loop with bounded memory that also prepares and records.
    net, x = build("recurrent LIF"), data()[0]
    (plain, loss), (bounded, value) = (
        grads_of(net, lambda c=checkpoint: bh.rollout(net, x, checkpoint=c)[0]) for checkpoint in (None, "auto")
    )
    assert value == pytest.approx(loss, rel=1e-5)
    for g, o in zip(plain, bounded, strict=True):
        np.testing.assert_allclose(o, g, rtol=1e-4, atol=1e-5 * np.abs(g).max())


@pytest.mark.no_dt
@pytest.mark.parametrize("kind", ["LIF", "aLIF", "fractional", "readout"])
def test_without_a_time_step_the_step_says_how_to_set_it(kind: str) -> None:
    net = build(kind)
    bh.prepare_net(net, BATCH)
    with pytest.raises(RuntimeError, match=r"environ\.context\(dt="):
        net.update(data()[0][0])


@pytest.mark.parametrize("kind", ["LIF", "aLIF", "fractional", "readout"])
def test_states_made_for_another_batch_are_refused_with_both_shapes(kind: str) -> None:
    net = build(kind)
    brainstate.nn.init_all_states(net, batch_size=BATCH + 1)
    with pytest.raises(ValueError, match=rf"\({BATCH}, .*\({BATCH + 1}, .*prepare_net\(net, batch_size={BATCH}\)"):
        net.update(data()[0][0])


def test_a_batch_that_lies_on_a_mesh_of_devices_gives_the_same_loss() -> None:
    net, x = build("recurrent LIF"), data()[0]
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("batch",))
    placed = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "batch")))
    run = brainstate.transform.jit(lambda x: loss_of(bh.rollout(net, x)[0]))
    assert float(run(placed)) == float(run(x))
