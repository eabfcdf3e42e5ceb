"""rollout: outputs, records, and equal results for streams, batches and compiled code."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

each = pytest.mark.parametrize("kind", ["lif", "H1v1", "H1v2"])
RECORD = ("hidden.V", "hidden.V_pre", "hidden.spk", "out.V", "out.V_pre", "out.spk")


def plain(values: object) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(values)]


def assert_same(one: object, other: object, *, but_for_rounding: bool) -> None:
    """Step by step the bits are equal. Layer by layer XLA may fuse operations, which rounds membranes differently."""
    if not but_for_rounding:
        assert_same_bits(one, other)
        return
    for a, b in zip(plain(one), plain(other), strict=True):
        if np.isin(b, (0, 1)).all():
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())


def assert_same_bits(one: object, other: object) -> None:
    for a, b in zip(plain(one), plain(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["lif", "H1v1"])
def test_rollout_is_prepare_and_for_loop_whether_it_records_or_not(make_net, make_input, kind: str) -> None:
    xs, net, other = make_input(), make_net(kind), make_net(kind)
    bh.prepare_net(other, 2)
    by_hand = brainstate.transform.for_loop(other, xs)
    for layerwise in (True, False):
        recording = bh.rollout(net, xs, record=RECORD, layerwise=layerwise)[0]
        spikes, seen = bh.rollout(net, xs, layerwise=layerwise)
        np.testing.assert_array_equal(recording, spikes)
        np.testing.assert_array_equal(spikes, by_hand)
        assert_same(net.states().to_dict_values(), other.states().to_dict_values(), but_for_rounding=layerwise)
    assert spikes.shape == (20, 2, 3)
    assert spikes.sum() > 0
    assert seen == {}


@pytest.mark.parametrize("kind", ["lif", "H1v1"])
def test_outputs_equal_those_of_a_reducing_checkpointed_loop(make_net, make_input, kind: str) -> None:
    xs, net, other = make_input(13), make_net(kind), make_net(kind)
    spikes = bh.rollout(net, xs)[0]
    bh.prepare_net(other, 2)
    counts = brainstate.ShortTermState(jnp.zeros((2, 3)))

    def step(x: jax.Array) -> None:
        counts.value = counts.value + other(x)

    brainstate.transform.checkpointed_for_loop(step, xs, base=4)
    np.testing.assert_array_equal(counts.value, spikes.sum(axis=0))


@each
def test_records_are_the_states_after_each_step_and_the_membrane_before_the_reset(make_net, make_input, kind) -> None:
    xs, net, other = make_input(12), make_net(kind), make_net(kind)
    spikes, seen = bh.rollout(net, xs, record=RECORD)
    assert tuple(seen) == RECORD
    bh.prepare_net(other, 2)
    for t in range(4):
        other(xs[t])
        for name in ("hidden.V", "out.V"):
            V = getattr(other, name.split(".")[0]).V.value
            np.testing.assert_allclose(seen[name][t].mantissa, V.mantissa, rtol=1e-5, atol=1e-4)
            assert u.get_unit(seen[name]) == u.mV
    np.testing.assert_array_equal(seen["out.spk"], spikes)
    for layer in ("hidden", "out"):
        V_pre, V, spk = (u.get_mantissa(seen[f"{layer}.{name}"]) for name in ("V_pre", "V", "spk"))
        V_th = np.max(u.get_mantissa(getattr(net, layer).threshold()))
        np.testing.assert_array_equal(V_pre >= V_th, spk == 1)
        np.testing.assert_allclose(V[spk == 0], V_pre[spk == 0], rtol=1e-6)
        assert set(np.unique(spk)) == {0.0, 1.0}


def test_states_of_the_root_and_anything_else_that_is_a_state_can_be_recorded(make_net, make_input) -> None:
    layer = bh.nn.LIFLayer(4, tau=10 * u.ms)
    spikes, seen = bh.rollout(layer, make_input(6) * u.mV, record=["V", "spk"])
    np.testing.assert_array_equal(seen["spk"], spikes)
    net = make_net("H1v1")
    seen = bh.rollout(net, make_input(6), record=("hidden.chip_tau", "syn1.weight", "hidden.V"))[1]
    assert seen["hidden.chip_tau"].shape == (6, 5)
    np.testing.assert_array_equal(seen["syn1.weight"][3], net.syn1.weight.value)


@pytest.mark.parametrize(("kind", "checkpoint"), [("lif", None), ("H1v1", 3), ("H1v2", None)])
def test_a_stream_in_chunks_is_one_long_run(make_net, make_input, kind: str, checkpoint: int | None) -> None:
    xs, net = make_input(20), make_net(kind)
    for layerwise in (True, False):
        options = {"record": RECORD, "checkpoint": checkpoint, "layerwise": layerwise}
        whole, seen = bh.rollout(net, xs, **options)
        last = {path: plain(state.value) for path, state in net.states(brainstate.HiddenState).items()}
        bh.prepare_net(net, 2)
        chunks = [bh.rollout(net, xs[a:b], prepare=False, **options) for a, b in ((0, 1), (1, 20))]
        np.testing.assert_array_equal(np.concatenate([chunk for chunk, _ in chunks]), whole)
        for name in RECORD:
            joined = np.concatenate([u.get_mantissa(part[name]) for _, part in chunks])
            assert_same(joined, u.get_mantissa(seen[name]), but_for_rounding=layerwise)
        for path, state in net.states(brainstate.HiddenState).items():
            assert_same(plain(state.value), last[path], but_for_rounding=layerwise)


def test_a_stream_goes_on_inside_one_compiled_function(make_net, make_input) -> None:
    xs, net = make_input(20), make_net("H1v1")
    whole = bh.rollout(net, xs)[0]
    feed = brainstate.transform.jit(lambda chunk: bh.rollout(net, chunk, prepare=False)[0])
    bh.prepare_net(net, 2)
    np.testing.assert_array_equal(np.concatenate([feed(xs[:10]), feed(xs[10:])]), whole)


@pytest.mark.parametrize("kind", ["lif", "H1v1"])
def test_compiled_equals_eager_and_runs_again_and_on_other_batches(make_net, make_input, kind: str) -> None:
    net, other = make_net(kind), make_net(kind)
    run = brainstate.transform.jit(lambda xs: bh.rollout(net, xs, record=("hidden.V",)))
    for batch_size, seed in ((2, 0), (None, 3), (2, 1)):
        xs = make_input(15, batch_size, seed)
        spikes, seen = run(xs)
        eager, seen_eager = bh.rollout(other, xs, record=("hidden.V",))
        np.testing.assert_array_equal(spikes, eager)
        np.testing.assert_allclose(seen["hidden.V"].mantissa, seen_eager["hidden.V"].mantissa, rtol=1e-5, atol=1e-4)
        assert net.hidden.V.value.shape == (*xs.shape[1:-1], 5)


def test_one_sample_and_a_batch_of_one_equal_a_row_of_a_batch(make_net, make_input) -> None:
    xs, net = make_input(15, 3), make_net("H1v2")
    batch = bh.rollout(net, xs)[0]
    np.testing.assert_array_equal(bh.rollout(net, xs[:, 1:2])[0], batch[:, 1:2])
    np.testing.assert_array_equal(bh.rollout(net, xs[:, 1])[0], batch[:, 1])


@pytest.mark.parametrize("kind", ["lif", "H1v1"])
def test_samples_mapped_over_equal_a_loop_over_samples_and_the_batch(make_net, make_input, kind: str) -> None:
    xs, net = make_input(15, 3), make_net(kind)
    batch = bh.rollout(net, xs)[0]
    alone = np.stack([bh.rollout(net, xs[:, b])[0] for b in range(3)], axis=1)
    bh.prepare_net(net)
    states = {0: net.states(brainstate.ShortTermState)}
    one = lambda sample: bh.rollout(net, sample)[0]  # noqa: E731
    by_function = brainstate.transform.vmap(one, in_axes=1, out_axes=1, out_states=states)(xs)
    net = make_net(kind)
    bh.prepare_net(net)
    brainstate.nn.vmap_init_all_states(net, axis_size=3, state_tag="new")
    by_module = brainstate.transform.for_loop(brainstate.nn.Vmap(net, vmap_states="new"), xs)
    for mapped in (alone, by_function, by_module):
        np.testing.assert_array_equal(mapped, batch)


def test_inputs_may_be_quantities_pytrees_and_numpy(make_net, make_input) -> None:
    class TwoInputs(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = bh.nn.LIFLayer(4, tau=10 * u.ms)

        def update(self, x: dict) -> dict:
            spk = self.layer(x["drive"] + x["more"])
            return {"spk": spk, "V": self.layer.V.value}

    xs = np.asarray(make_input(10)) * 0.05
    out, _ = bh.rollout(TwoInputs(), {"drive": xs * u.mV, "more": 1e-4 * xs * u.volt}, checkpoint=3)
    wanted, seen = bh.rollout(bh.nn.LIFLayer(4, tau=10 * u.ms), (xs + 0.1 * xs) * u.mV, record=("V",))
    np.testing.assert_array_equal(out["spk"], wanted)
    np.testing.assert_allclose(out["V"].mantissa, seen["V"].mantissa, rtol=1e-4, atol=1e-5)
    assert u.get_unit(out["V"]) == u.mV


def test_modules_from_elsewhere_run_in_the_same_net(make_input) -> None:
    net = brainstate.nn.Sequential(
        bh.nn.H1v1Synapse(4, 3),
        bh.nn.H1v1Layer(3, tau=10 * u.ms),
        brainstate.nn.GRUCell(3, 2),
        brainstate.nn.Linear(2, 2),
    )
    xs = make_input(10)
    first = bh.rollout(net, xs)[0]
    np.testing.assert_array_equal(bh.rollout(net, xs)[0], first)
    run = brainstate.transform.jit(lambda xs: bh.rollout(net, xs, checkpoint=4)[0])
    np.testing.assert_allclose(run(xs), first, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run(xs[:, :1]), first[:, :1], rtol=1e-5, atol=1e-6)
    grads = brainstate.transform.grad(lambda: jnp.sum(bh.rollout(net, xs)[0] ** 2), net.states(brainstate.ParamState))()
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("checkpoint", [None, 4])
def test_a_progress_bar_changes_nothing(make_net, make_input, checkpoint: int | None, capsys) -> None:
    xs = make_input(12)
    wanted = bh.rollout(make_net("lif"), xs)[0]
    np.testing.assert_array_equal(bh.rollout(make_net("lif"), xs, pbar=3, checkpoint=checkpoint)[0], wanted)
