"""stream: the same results as rollout, step by step, from its own states, and clear errors."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

T, N_IN = 12, 4
RECORD = ("hidden.V", "hidden.V_pre", "out.spk")


def layers(*modules: brainstate.nn.Module) -> brainstate.nn.Sequential:
    return brainstate.nn.Sequential(*modules)


def fractional(**arguments: object) -> brainstate.nn.Sequential:
    return layers(bh.nn.LIFSynapse(N_IN, 3), bh.nn.FractionalLIFLayer(3, tau=5 * u.ms, **arguments))


FAMILIES = {
    "alif": lambda: layers(bh.nn.LIFSynapse(N_IN, 6), bh.nn.ALIFLayer(3, 2, w_rec=None)),
    "cuba": lambda: layers(bh.nn.LIFSynapse(N_IN, 3), bh.nn.CubaLIFLayer(3)),
    "frontend": lambda: layers(bh.nn.H1v1Frontend(), bh.nn.H1v1Layer(16, tau=10 * u.ms, topology="RC")),
    "fractional": lambda: fractional(alpha=[0.4, 0.9], coefficients=[1.0, 0.5]),
    "fractional, remembers 5 steps": lambda: fractional(alpha=0.6, kernel="dense", memory=5),
    "readout": lambda: layers(
        bh.nn.LIFSynapse(N_IN, 3), bh.nn.LIFLayer(3, tau=8 * u.ms), bh.nn.LeakyReadout(3, 2, tau=9 * u.ms)
    ),
    "from elsewhere": lambda: layers(
        bh.nn.LIFSynapse(N_IN, 3), bh.nn.LIFLayer(3, tau=8 * u.ms), brainstate.nn.GRUCell(3, 2)
    ),
}


@pytest.fixture
def make(make_net):
    def build(kind: str) -> brainstate.nn.Module:
        brainstate.random.seed(4)
        return FAMILIES[kind]() if kind in FAMILIES else make_net(kind)

    return build


def strong_input(kind: str, make_input, batch_size: int | None = 2) -> jax.Array:
    xs = make_input(T, batch_size)
    return jnp.tile(xs, 4) if kind == "frontend" else xs


@pytest.mark.parametrize("kind", ["lif", "H1v1", "H1v2", *FAMILIES])
def test_steps_give_what_a_rollout_gives(make, make_input, kind: str) -> None:
    xs, net = strong_input(kind, make_input), make(kind)
    whole = bh.rollout(net, xs)[0]
    step = bh.stream(make(kind), 2)
    outputs = np.stack([step(x) for x in xs])
    np.testing.assert_allclose(outputs, whole, rtol=1e-5, atol=1e-6)
    if set(np.unique(whole)) <= {0.0, 1.0}:
        np.testing.assert_array_equal(outputs, whole)
    assert np.abs(whole).max() > 0
    assert step.steps == T


@pytest.fixture(scope="module")
def chip_run(make_net, make_input):
    """A net, its input, and the results of a rollout; tests must not change the weights."""
    with brainstate.environ.context(dt=1.0 * u.ms):
        net, xs = make_net("H1v1"), make_input(T)
        return net, xs, *bh.rollout(net, xs, record=RECORD)


@pytest.fixture(scope="module")
def chip_stream(chip_run):
    with brainstate.environ.context(dt=1.0 * u.ms):
        return bh.stream(chip_run[0], 2, record=RECORD)


def feed(step: bh.transform.Stream, xs: object) -> np.ndarray:
    return np.stack([step(x) for x in xs])


def test_records_are_those_of_a_rollout_and_stand_until_the_next_step(chip_run, chip_stream) -> None:
    _, xs, whole, seen = chip_run
    chip_stream.reset()
    assert chip_stream.records == {}
    kept = []
    for t in range(T):
        chip_stream(xs[t])
        kept.append(chip_stream.records)
        assert tuple(kept[t]) == RECORD
    for name in RECORD:
        values = np.stack([u.get_mantissa(step[name]) for step in kept])
        np.testing.assert_allclose(values, u.get_mantissa(seen[name]), rtol=1e-5, atol=1e-4)
        assert u.get_unit(kept[0][name]) == u.get_unit(seen[name])
    np.testing.assert_array_equal(np.stack([step["out.spk"] for step in kept]), whole)


def test_reset_starts_again(chip_run, chip_stream) -> None:
    _, xs, whole, _ = chip_run
    chip_stream(xs[3])
    for _ in range(2):
        chip_stream.reset()
        assert chip_stream.steps == 0
        np.testing.assert_array_equal(feed(chip_stream, xs), whole)
        assert chip_stream.steps == T


def test_the_states_of_the_network_stay_readable_and_at_rest_until_they_are_written_back(chip_run, chip_stream) -> None:
    net, xs, _, seen = chip_run
    chip_stream.reset()
    feed(chip_stream, xs[:7])
    assert all(not leaf.is_deleted() for leaf in jax.tree.leaves(net.states().to_dict_values()))
    np.testing.assert_array_equal(net.hidden.V.value.mantissa, np.zeros((2, 5)))
    chip_stream.write_back()
    held = net.hidden.V.value
    np.testing.assert_allclose(held.mantissa, seen["hidden.V"][6].mantissa, rtol=1e-5, atol=1e-4)
    assert u.get_unit(held) == u.mV
    feed(chip_stream, xs[7:])
    assert not held.mantissa.is_deleted()


def test_a_rollout_goes_on_from_what_was_written_back(chip_run, chip_stream) -> None:
    net, xs, whole, _ = chip_run
    chip_stream.reset()
    first = feed(chip_stream, xs[:7])
    chip_stream.write_back()
    rest = bh.rollout(net, xs[7:], prepare=False)[0]
    np.testing.assert_array_equal(np.concatenate([first, rest]), whole)
    np.testing.assert_array_equal(feed(chip_stream, xs[7:]), rest)


def test_results_outlive_the_steps_that_follow_and_nothing_piles_up(chip_run, chip_stream) -> None:
    _, xs, whole, _ = chip_run
    chip_stream.reset()
    outputs = [chip_stream(x) for x in xs]
    for _ in range(20):
        chip_stream(xs[0])
    before = len(jax.live_arrays())
    for _ in range(1000):
        chip_stream(xs[0])
    assert len(jax.live_arrays()) == before
    np.testing.assert_array_equal(np.stack(outputs), whole)


def test_a_buffer_of_numpy_may_be_filled_anew_at_once() -> None:
    # Wide enough that the step is still in computation when the call returns.
    rng = np.random.default_rng(0)
    net = bh.nn.LIFSynapse(600, 600, weight_init=rng.normal(0, 0.1, (600, 600)) * u.mV)
    xs = rng.random((5, 64, 600), dtype=np.float32)
    step, buffer, outputs = bh.stream(net, 64), np.empty((64, 600), np.float32), []
    for x in xs:
        buffer[:] = x
        outputs.append(step(buffer))
        buffer[:] = np.nan
    wanted = [step(jnp.asarray(x)) for x in xs]
    for output, right in zip(outputs, wanted, strict=True):
        np.testing.assert_array_equal(output.mantissa, right.mantissa)


def test_streams_on_one_network_do_not_disturb_each_other(make_net, make_input) -> None:
    net, xs = make_net("H1v1"), make_input(T)
    nominal = bh.rollout(net, xs)[0]
    sampled = bh.rollout(net, xs, key=5)[0]
    alone = bh.rollout(net, xs[:, 0])[0]
    assert (np.asarray(nominal) != np.asarray(sampled)).any()
    pair, other, one = bh.stream(net, 2), bh.stream(net, 2, key=5), bh.stream(net, None)
    outputs = [(pair(x), other(x), one(x[0])) for x in xs]
    for got, wanted in zip(zip(*outputs, strict=True), (nominal, sampled, alone), strict=True):
        np.testing.assert_array_equal(np.stack(got), wanted)
    other.reset()
    np.testing.assert_array_equal(feed(other, xs), sampled)


def test_weights_and_the_chip_in_place_are_taken_up_at_reset_and_not_before(make_net, make_input) -> None:
    net, xs = make_net("H1v1"), make_input(T)
    before = bh.rollout(net, xs)[0]
    step = bh.stream(net, 2)
    step(xs[0])
    step.reset()
    net.syn2.weight.value = -net.syn2.weight.value
    np.testing.assert_array_equal(feed(step, xs), before)
    step.reset()
    np.testing.assert_array_equal(feed(step, xs), np.zeros_like(before))
    net.syn2.weight.value = -net.syn2.weight.value
    bh.sample_chip(net, 5)
    step.reset()
    sampled = feed(step, xs)
    np.testing.assert_array_equal(sampled, bh.rollout(net, xs)[0])
    assert (sampled != np.asarray(before)).any()


def test_a_reset_follows_a_network_whose_states_were_created_anew(make_net, make_input) -> None:
    net, xs = make_net("one layer"), make_input(T)
    step = bh.stream(net, 2)
    first = feed(step, xs)
    brainstate.nn.init_all_states(net, 2)
    step.reset()
    np.testing.assert_array_equal(feed(step, xs), first)
    step.write_back()
    np.testing.assert_array_equal(net.hidden.spk.value, first[-1])
    assert first[-1].any()


@pytest.mark.no_dt
def test_the_time_step_and_precision_are_those_at_the_start_whatever_holds_later() -> None:
    layer, xs = bh.nn.LIFLayer(3, tau=10 * u.ms), np.random.default_rng(0).random((T, 1, 3)) * u.mV
    with brainstate.environ.context(dt=2.0 * u.ms, precision=64):
        step = bh.stream(layer)
        whole, seen = bh.rollout(layer, xs, record=("V",))
    for _ in range(2):
        with brainstate.environ.context(dt=7.0 * u.ms):
            outputs = [step(x) for x in xs]
        assert outputs[0].dtype == "float64"
        np.testing.assert_array_equal(np.stack(outputs), whole)
        step.write_back()
        np.testing.assert_allclose(layer.V.value.mantissa, seen["V"].mantissa[-1], rtol=1e-12)
        step.reset()
    with brainstate.environ.context(dt=1.0 * u.ms):
        bh.prepare_net(layer)
    with pytest.raises(RuntimeError, match=r"^stream: no time step is set"):
        bh.stream(layer)


def test_random_numbers_advance_and_no_two_streams_share_them() -> None:
    layer = bh.nn.CubaLIFLayer(3, noise_std=0.5 * u.mV / u.second**0.5, V_th=50 * u.mV)
    x = jnp.zeros((1, 3)) * u.mV
    brainstate.random.seed(1)
    one, other = bh.stream(layer, record=("V",)), bh.stream(layer, record=("V",))

    def noise(step: bh.transform.Stream) -> np.ndarray:
        values = []
        for _ in range(4):
            step(x)
            values.append(np.asarray(step.records["V"].mantissa))
        return np.stack(values)

    first, second = noise(one), noise(other)
    one.reset()
    third = noise(one)
    increments = [np.diff(v, axis=0).ravel() for v in (first, second, third)]
    assert len(np.unique(np.concatenate(increments).round(9))) == 27
    brainstate.random.seed(1)
    np.testing.assert_array_equal(noise(bh.stream(layer, record=("V",))), first)


class Tangled(brainstate.nn.Module):
    """States of every kind: swapped, fed directly from the input, a dict, a key, never read."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = bh.nn.LIFLayer(3, tau=10 * u.ms)
        self.last = brainstate.ShortTermState(jnp.zeros((1, 3)))
        self.before = brainstate.ShortTermState(jnp.zeros((1, 3)))
        self.sums = brainstate.ShortTermState({"x": np.zeros((1, 3), np.float32), "n": jnp.asarray(0)})
        self.rng = brainstate.random.RandomState(7)

    def reset_state(self, batch_size: int | None = None, **kwargs: object) -> None:
        self.last.value = self.before.value = jnp.zeros((1, 3))
        self.sums.value = {"x": jnp.zeros((1, 3)), "n": jnp.asarray(0)}

    def init_state(self, batch_size: int | None = None, **kwargs: object) -> None:
        self.reset_state()

    def update(self, x: dict) -> dict:
        spk = self.layer(x["drive"])
        plain = x["drive"] / u.mV
        self.before.value, self.last.value = self.last.value, plain
        self.sums.value = {"x": self.sums.value["x"] + plain, "n": self.sums.value["n"] + 1}
        return {
            "spk": spk + 0 * x["more"],
            "V": self.layer.V.value,
            "before": self.before.value,
            "sums": self.sums.value,
            "dice": self.rng.uniform(size=(2,)),
        }


def test_trees_of_inputs_outputs_and_states_of_every_sort_pass_through() -> None:
    net, rng = Tangled(), np.random.default_rng(0)
    step = bh.stream(net)
    xs = [{"drive": jnp.asarray(rng.random((1, 3)), jnp.float32) * u.mV, "more": np.ones((1, 3))} for _ in range(5)]
    outs = [step(x) for x in xs]
    for t, out in enumerate(outs):
        wanted = xs[t - 1]["drive"].mantissa if t else np.zeros((1, 3))
        np.testing.assert_array_equal(out["before"], wanted)
        assert out["sums"]["n"] == t + 1
        assert u.get_unit(out["V"]) == u.mV
    np.testing.assert_allclose(out["sums"]["x"], sum(x["drive"].mantissa for x in xs), rtol=1e-6)
    assert len({float(d) for out in outs for d in out["dice"]}) == 10
    step.write_back()
    np.testing.assert_array_equal(net.last.value, xs[-1]["drive"].mantissa)


def test_inputs_are_converted_where_that_changes_no_meaning() -> None:
    layer = bh.nn.LIFLayer(3, tau=10 * u.ms)
    step = bh.stream(layer, None, record=("V",))
    x = np.array([0.5, 0.25, 2.0], np.float32)
    step(x * u.mV)
    wanted = step.records["V"].mantissa
    for same in (1e3 * x.astype(float) * u.uvolt, jnp.asarray(x) * u.mV, x.astype(np.float16) * u.mV):
        step.reset()
        step(same)
        np.testing.assert_allclose(step.records["V"].mantissa, wanted, rtol=1e-6)
    synapse = bh.stream(bh.nn.LIFSynapse(3, 2), None)
    wanted = synapse(np.array([1.0, 0.0, 1.0]))
    for same in (np.array([1, 0, 1]), np.array([True, False, True]), jnp.array([1, 0, 1])):
        np.testing.assert_array_equal(synapse(same).mantissa, wanted.mantissa)


def test_inside_a_compiled_function_a_stream_is_refused(chip_run, chip_stream) -> None:
    net, xs, whole, _ = chip_run
    chip_stream.reset()
    x = np.asarray(xs[0])
    calls = (lambda: bh.stream(net), lambda: chip_stream(x), chip_stream.reset, chip_stream.write_back)
    for call in calls:
        with pytest.raises(RuntimeError, match=r"stream.*: a stream runs in real time"):
            brainstate.transform.jit(call)()
    for transform in (brainstate.transform.jit, jax.jit):
        with pytest.raises(RuntimeError, match=r"^stream: a stream runs in real time"):
            transform(chip_stream)(xs[0])
    np.testing.assert_array_equal(feed(chip_stream, xs), whole)


def test_states_that_an_interrupted_step_lost_are_named_and_a_reset_brings_them_back(chip_run, chip_stream) -> None:
    _, xs, whole, _ = chip_run
    chip_stream.reset()
    chip_stream(xs[0])
    for leaf in chip_stream._written:  # as after Ctrl-C between the step and storing its result
        leaf.delete()
    with pytest.raises(RuntimeError, match=r"^stream: the states are lost.*Call reset"):
        chip_stream(xs[1])
    chip_stream.reset()
    np.testing.assert_array_equal(feed(chip_stream, xs), whole)
