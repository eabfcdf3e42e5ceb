"""Training with a chip in the loop: what reaches the bench, what the gradient is, what a failure leaves behind."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any, ClassVar

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

N_IN, N, N_OUT, T, B = 6, 10, 4, 20, 5


@pytest.fixture(autouse=True)
def _dt():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


class ChipNet(brainstate.nn.Module):
    """Two layers on a chip of a low threshold, so that a small net fires much."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        chip = bh.chip.H1V2.replace(V_th=15.0 * u.mV)
        rng = np.random.default_rng(seed)

        def weights(*shape: int) -> jax.Array:
            return jnp.asarray(rng.normal(0.3, 0.6, shape), jnp.float32)

        options = {"chip": chip, "weight_bits": "chip"}
        self.first = bh.nn.H1v2Synapse(N_IN, N, weight_init=weights(N_IN, N), **options)
        self.hidden = bh.nn.H1v2Layer(N, tau=20.0 * u.ms, chip=chip)
        self.second = bh.nn.H1v2Synapse(N, N_OUT, weight_init=weights(N, N_OUT), **options)
        self.output = bh.nn.H1v2Layer(N_OUT, tau=10.0 * u.ms, chip=chip)

    def update(self, x: jax.Array) -> jax.Array:
        return self.output(self.second(self.hidden(self.first(x))))


class Bench:
    """The model itself, or with other neurons, as a bench; ``fault`` is called with each recording."""

    def __init__(self, *, gain: float = 1.0, membranes: bool = True, fault: Any = None) -> None:
        self.gain, self.membranes, self.fault = gain, membranes, fault
        self.programs: list[bh.silicon.ChipProgram] = []
        self.inputs: list[np.ndarray] = []

    def program(self, program: bh.silicon.ChipProgram) -> None:
        self.programs.append(program)
        self.net = program.to_net()
        for module in self.net.nodes().values():
            if isinstance(module, bh.nn.H1Layer):
                # A threshold divided by the gain acts as charges times the gain, up to the scale of the membrane.
                module.pinned_V_th.value = module.pinned_V_th.value / self.gain

    def run(self, x: np.ndarray) -> bh.silicon.Recording:
        self.inputs.append(x)
        layers = self.programs[-1].layers
        names = tuple(f"{path}.{kind}" for path in layers for kind in ("spk", "V"))
        _, seen = bh.rollout(self.net, x, record=names)
        spikes = {path: np.asarray(seen[f"{path}.spk"]) for path in layers}
        membranes = {path: seen[f"{path}.V"] * self.gain for path in layers} if self.membranes else {}
        recording = bh.silicon.Recording(spikes, membranes)
        return recording if self.fault is None else self.fault(recording)


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (rng.random((T, B, N_IN)) < 0.4).astype(np.float32), rng.integers(0, N_OUT, B)


def loss(outputs: jax.Array, y: jax.Array) -> jax.Array:
    return braintools.metric.softmax_cross_entropy_with_integer_labels(outputs.mean(axis=0) * 10, y).mean()


def make(device: Any, *, optimizer: Any = None, seed: int = 0, **options: Any) -> tuple[ChipNet, bh.silicon.InTheLoop]:
    net = ChipNet(seed)
    optimizer = braintools.optim.Adam(lr=0.03) if optimizer is None else optimizer
    return net, bh.silicon.InTheLoop(net, device, loss=loss, optimizer=optimizer, **options)


def weights_of(net: brainstate.nn.Module) -> list[np.ndarray]:
    return [np.asarray(state.value) for state in net.states(brainstate.ParamState).values()]


def state_of(net: ChipNet, loop: bh.silicon.InTheLoop) -> list[np.ndarray]:
    return [*weights_of(net), *map(np.asarray, jax.tree.leaves(loop._optimizer.state_dict())), np.array(loop.n_steps)]


def assert_equal(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def plain_training(net: ChipNet, n: int, optimizer: Any) -> list[float]:
    weights = net.states(brainstate.ParamState)
    optimizer.register_trainable_weights(weights)
    gradient = brainstate.transform.grad(lambda x, y: loss(bh.rollout(net, x)[0], y), weights, return_value=True)

    @brainstate.transform.jit
    def step(x: jax.Array, y: jax.Array) -> jax.Array:
        gradients, value = gradient(x, y)
        optimizer.update(gradients)
        bh.train.clip_weights(net)
        return value

    return [float(step(*data(i))) for i in range(n)]


@pytest.mark.parametrize("membranes", [True, False])
def test_on_a_perfect_bench_the_loop_is_plain_training(membranes: bool) -> None:
    net, loop = make(Bench(membranes=membranes))
    values = [loop.step(*data(i)) for i in range(4)]
    plain = ChipNet()
    np.testing.assert_allclose(values, plain_training(plain, 4, braintools.optim.Adam(lr=0.03)), rtol=1e-5)
    for found, wanted in zip(weights_of(net), weights_of(plain), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert loop.n_steps == 4


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda: braintools.optim.SGD(lr=0.5),
        lambda: braintools.optim.AdamW(lr=braintools.optim.ExponentialLR(base_lr=0.03, gamma=0.9)),
        lambda: braintools.optim.RMSprop(lr=0.01),
    ],
    ids=["SGD", "AdamW with a schedule", "RMSprop"],
)
def test_any_optimizer_of_braintools(make_optimizer: Any) -> None:
    net, loop = make(Bench(), optimizer=make_optimizer())
    before = weights_of(net)
    assert np.isfinite(loop.step(*data()))
    assert all((one != other).any() for one, other in zip(weights_of(net), before, strict=True))


def test_the_bench_gets_the_codes_of_the_present_weights() -> None:
    bench = Bench()
    net, loop = make(bench)
    for i in range(3):
        before = copy.deepcopy(net)
        loop.step(*data(i))
        wanted = bh.silicon.ChipProgram.of(before).codes
        for path, codes in bench.programs[-1].codes.items():
            np.testing.assert_array_equal(codes, wanted[path])
    assert len(bench.programs) == 3


def test_the_loss_is_that_of_the_chip() -> None:
    bench = Bench(gain=0.6)
    net, loop = make(bench)
    x, y = data()
    spikes = loop.run(x).spikes["output"]
    assert (spikes != np.asarray(bh.rollout(net, x)[0])).any()
    np.testing.assert_allclose(loop.step(x, y), float(loss(jnp.asarray(spikes, jnp.float32), y)), rtol=1e-6)


def test_trials_stand_side_by_side_in_the_batch() -> None:
    bench = Bench()
    net, loop = make(bench, n_trials=3)
    x, y = data()
    value = loop.step(x, y)
    np.testing.assert_array_equal(bench.inputs[-1], np.concatenate([x, x, x], axis=1))
    # A bench without noise: three times the same, so the mean is that of one trial.
    once_net, once = make(Bench())
    np.testing.assert_allclose(value, once.step(x, y), rtol=1e-6)
    for found, wanted in zip(weights_of(net), weights_of(once_net), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    loop.evaluate(x, y)
    assert bench.inputs[-1].shape == x.shape


def test_membranes_are_used_left_out_or_demanded() -> None:
    x, y = data()
    updated = {}
    for membranes in ("auto", True, False):
        net, loop = make(Bench(gain=0.6), membranes=membranes)
        loop.step(x, y)
        updated[membranes] = weights_of(net)
    assert_equal(updated["auto"], updated[True])
    assert any((one != other).any() for one, other in zip(updated[True], updated[False], strict=True))
    net, loop = make(Bench(membranes=False), membranes=True)
    before = state_of(net, loop)
    with pytest.raises(bh.silicon.DeviceError, match=r"^InTheLoop\.step: .*\['hidden', 'output'\] have none"):
        loop.step(x, y)
    assert_equal(state_of(net, loop), before)


def test_accuracy_is_that_of_the_chip() -> None:
    _, loop = make(Bench(gain=0.6), accuracy=lambda outputs, y: (outputs.sum(axis=0).argmax(axis=-1) == y).mean())
    x, y = data()
    spikes = loop.run(x).spikes["output"]
    assert loop.evaluate(x, y) == pytest.approx((spikes.sum(axis=0).argmax(axis=-1) == y).mean())
    _, by_default = make(Bench(gain=0.6))
    assert by_default.evaluate(x, y) == pytest.approx(loop.evaluate(x, y))


def test_the_step_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = []

    def counted(outputs: jax.Array, y: jax.Array) -> jax.Array:
        traces.append(outputs.shape)
        return loss(outputs, y)

    net = ChipNet()
    loop = bh.silicon.InTheLoop(net, Bench(), loss=counted, optimizer=braintools.optim.Adam(lr=0.03))
    loop.step(*data(0))
    n = len(traces)
    for i in range(1, 4):
        loop.step(*data(i))
        loop.evaluate(*data(i))
    assert len(traces) == n


class TestFailures:
    @pytest.mark.parametrize("when", ["program", "run"])
    def test_a_failing_bench_stops_the_loop_and_changes_nothing(self, when: str) -> None:
        bench = Bench()
        net, loop = make(bench)
        loop.step(*data(0))
        before = state_of(net, loop)

        def fail(_: Any) -> None:
            raise bh.silicon.DeviceError("bench: no answer within 60 s. Check the cable.")

        setattr(bench, when, fail)
        with pytest.raises(
            bh.silicon.DeviceError, match=r"^InTheLoop\.step: .*after 1 updates: bench: no answer within 60 s"
        ):
            loop.step(*data(1))
        assert_equal(state_of(net, loop), before)
        delattr(bench, when)
        loop.step(*data(1))
        # The same as if nothing had happened.
        other_net, other = make(Bench())
        other.step(*data(0))
        other.step(*data(1))
        assert_equal(state_of(net, loop), state_of(other_net, other))

    FAULTS: ClassVar[dict[str, Any]] = {
        "other steps": lambda r: bh.silicon.Recording({p: s[:-1] for p, s in r.spikes.items()}),
        "fewer neurons": lambda r: bh.silicon.Recording({**r.spikes, "hidden": r.spikes["hidden"][..., 1:]}),
        "a layer is missing": lambda r: bh.silicon.Recording({"hidden": r.spikes["hidden"]}),
        "an unknown layer": lambda r: bh.silicon.Recording({**r.spikes, "third": r.spikes["hidden"]}),
        "arrays": lambda r: r.spikes,
        "nothing": lambda r: None,
    }

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_recording_that_does_not_fit(self, fault: str) -> None:
        bench = Bench()
        net, loop = make(bench)
        loop.step(*data(0))
        before = state_of(net, loop)
        bench.fault = self.FAULTS[fault]
        for call, act in {"step": loop.step, "evaluate": loop.evaluate}.items():
            with pytest.raises(bh.silicon.DeviceError, match=rf"^InTheLoop\.{call}: the bench failed after 1 updates"):
                act(*data(1))
            assert_equal(state_of(net, loop), before)

    @pytest.mark.parametrize("when", ["program", "run"])
    def test_any_error_of_a_bench_of_ones_own_is_a_device_error(self, when: str) -> None:
        bench = Bench()
        net, loop = make(bench)
        before = state_of(net, loop)

        def fail(_: Any) -> None:
            raise OSError("the cable is loose")

        setattr(bench, when, fail)
        with pytest.raises(
            bh.silicon.DeviceError,
            match=r"^InTheLoop\.step: .*after 0 updates: OSError: the cable is loose\. The training",
        ):
            loop.step(*data())
        assert_equal(state_of(net, loop), before)

    @pytest.mark.parametrize("rate", [np.nan, np.inf, 1e39])
    def test_weights_that_an_update_makes_not_finite(self, rate: float) -> None:
        net, loop = make(Bench(), optimizer=braintools.optim.SGD(lr=rate))
        before = state_of(net, loop)
        with pytest.raises(
            FloatingPointError, match=r"^InTheLoop\.step: .*updated weights are not finite after 0 updates"
        ):
            loop.step(*data())
        assert_equal(state_of(net, loop), before)

    def test_nothing_of_an_adam_step_that_failed_stays(self) -> None:
        net, loop = make(Bench(), optimizer=braintools.optim.Adam(lr=np.nan))
        before = state_of(net, loop)
        with pytest.raises(FloatingPointError, match=r"^InTheLoop\.step: "):
            loop.step(*data())
        assert_equal(state_of(net, loop), before)

    @pytest.mark.parametrize("size", [1e30, 101 * 15.0])
    def test_membranes_that_no_chip_has(self, size: float) -> None:
        def huge(recording: Any) -> Any:
            V = {path: np.full(spikes.shape, -size) * u.mV for path, spikes in recording.spikes.items()}
            return bh.silicon.Recording(recording.spikes, V)

        net, loop = make(Bench(fault=huge))
        before = state_of(net, loop)
        with pytest.raises(
            bh.silicon.DeviceError, match=r"membranes of 'hidden' must lie within 100 times the threshold of 15 mV"
        ):
            loop.step(*data())
        assert_equal(state_of(net, loop), before)

    @pytest.mark.parametrize("scale", [0.0, 1e-3])
    def test_membranes_far_below_the_threshold_are_noted_once(self, scale: float) -> None:
        def tiny(recording: Any) -> Any:
            V = {path: V * scale for path, V in recording.membranes.items()}
            return bh.silicon.Recording(recording.spikes, V)

        _, loop = make(Bench(fault=tiny))
        with pytest.warns(UserWarning, match=r"^InTheLoop\.step: the membranes of '.*threshold of 15 mV") as said:
            loop.step(*data())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loop.step(*data(1))
        assert len(said) in (1, 2)

    def test_what_the_loss_refuses_costs_no_run(self) -> None:
        bench = Bench()
        _, loop = make(bench)
        x, y = data()
        with pytest.raises(
            TypeError, match=r"^InTheLoop\.step: loss\(outputs, y\) raised TypeError .*float32 .* \(5,\)"
        ):
            loop.step(x, y.astype(np.float32))
        vector = bh.silicon.InTheLoop(
            ChipNet(), bench, loss=lambda outputs, y: outputs.sum(axis=(0, 2)), optimizer=braintools.optim.Adam(lr=0.03)
        )
        with pytest.raises(ValueError, match=r"^InTheLoop\.step: loss must return a real scalar.*\(5,\)"):
            vector.step(x, y)
        with pytest.raises((TypeError, ValueError), match="labels"):
            loop.evaluate(x, y + 0.5)
        assert not bench.inputs

    def test_labels_beyond_the_outputs_are_named(self) -> None:
        _, loop = make(Bench())
        x, _ = data()
        with pytest.raises(
            FloatingPointError, match=r"y \(its labels range from 1 to 4, but the class indices from 0 to 3\)"
        ):
            loop.step(x, np.array([1, 2, 3, 4, 4]))

    def test_targets_that_are_not_finite_are_named(self) -> None:
        loop = bh.silicon.InTheLoop(
            ChipNet(),
            Bench(),
            loss=lambda outputs, y: (outputs.sum() - y).mean(),
            optimizer=braintools.optim.Adam(lr=0.03),
        )
        with pytest.raises(FloatingPointError, match=r"y \(it contains non-finite values\)"):
            loop.step(data()[0], np.full(5, np.nan, np.float32))

    def test_labels_of_another_shape_are_named_before_the_chip_runs(self) -> None:
        bench = Bench()
        _, loop = make(bench)
        with pytest.raises(
            ValueError, match=r"^InTheLoop\.evaluate: accuracy\(outputs, y\) raised .*dtype int.* \(5, 2\)"
        ):
            loop.evaluate(data()[0], np.zeros((5, 2), int))
        assert not bench.inputs

    def test_a_chip_put_in_place_later(self, tmp_path: Path) -> None:
        net, loop = make(Bench())
        n = net.hidden.chip.n_neurons
        spec = net.hidden.chip.replace(V_th=16.0 * u.mV, name="lab7")
        tau = np.full((len(spec.tau_profiles.values.mantissa), n), np.nan) * u.ms
        bh.silicon.put_chip(net, bh.silicon.MeasuredChip(spec, tau, np.full(n, 16.0) * u.mV))
        for act in (lambda: loop.step(*data()), lambda: loop.save(tmp_path / "x"), lambda: loop.load(tmp_path / "x")):
            with pytest.raises(
                ValueError,
                match=r"^InTheLoop\..*got 'lab7', which was put .* later and differs in V_th\. Build a new InTheLoop",
            ):
                act()
        assert not (tmp_path / "x").exists()

    def test_fewer_classes_than_outputs_are_noted(self) -> None:
        _, loop = make(Bench())
        x = np.concatenate([data()[0]] * 2, axis=1)
        with pytest.warns(
            UserWarning, match=r"^InTheLoop\.evaluate: y contains the class indices 0 to 1, but the 4 output neurons"
        ):
            loop.evaluate(x, np.arange(10) % 2)

    def test_a_loss_that_is_not_finite(self) -> None:
        net = ChipNet()
        loop = bh.silicon.InTheLoop(
            net, Bench(), loss=lambda outputs, y: outputs.sum() * jnp.nan, optimizer=braintools.optim.Adam(lr=0.03)
        )
        before = state_of(net, loop)
        with pytest.raises(
            FloatingPointError, match=r"^InTheLoop\.step: loss, gradient or updated weights are not finite after 0"
        ):
            loop.step(*data())
        assert_equal(state_of(net, loop), before)

    def test_data_that_does_not_fit(self) -> None:
        _, loop = make(Bench())
        x, y = data()
        for bad in (x[0], x[..., :-1], x[:0]):
            with pytest.raises(ValueError, match=r"^InTheLoop\.step: x must have shape \[T, B, 6\]; got"):
                loop.step(bad, y)
        nan = x.copy()
        nan[3, 2, 1] = np.nan
        with pytest.raises(ValueError, match=r"^InTheLoop\.step: x .*NaN"):
            loop.step(nan, y)
        big = x.astype(np.float64)
        big[3, 2, 1] = 1e300
        with pytest.raises(
            ValueError, match=r"^InTheLoop\.step: x must be finite in float32.*got 1e\+300 at index \(3, 2, 1\)"
        ):
            loop.step(big, y)
        with pytest.raises(ValueError, match=r"^InTheLoop\.evaluate: y must contain one target per sample of x, 5"):
            loop.evaluate(x, y[:-1])


class Faulty:
    """A virtual chip whose cable is loose: one fault in front of each good answer."""

    def __init__(self, seed: int) -> None:
        chip = bh.silicon.scaled_chip(bh.chip.H1V2.replace(V_th=15.0 * u.mV), gain=0.7, leak_mismatch_std=0.3)
        self.chip, self.rng = bh.silicon.VirtualChip(chip, key=1), np.random.default_rng(seed)
        self.faults, self.failing = 0, False

    def fault(self, kinds: tuple[str, ...]) -> str:
        self.faults += 1
        return str(self.rng.choice(kinds))

    def program(self, program: bh.silicon.ChipProgram) -> None:
        if self.failing and self.rng.random() < 0.3:
            self.fault(("crash",))
            raise bh.silicon.DeviceError("bench: the port is closed")
        self.chip.program(program)

    def run(self, x: np.ndarray) -> bh.silicon.Recording:
        recording = self.chip.run(x)
        if not self.failing:
            return recording
        kind = self.fault(("crash", "short", "narrow", "lost layer", "not a recording"))
        spikes = dict(recording.spikes)
        if kind == "short":
            cut = int(self.rng.integers(1, T))
            return bh.silicon.Recording({path: value[:cut] for path, value in spikes.items()})
        if kind == "narrow":
            return bh.silicon.Recording({**spikes, "hidden": spikes["hidden"][..., : int(self.rng.integers(1, N))]})
        if kind == "lost layer":
            return bh.silicon.Recording({"hidden": spikes["hidden"]})
        if kind == "not a recording":
            return spikes
        raise bh.silicon.DeviceError("bench: no answer within 60 s")


@pytest.mark.slow
def test_two_hundred_faults_lose_nothing(tmp_path: Path) -> None:
    bench = Faulty(seed=3)
    net, loop = make(bench)
    for i in range(200):
        before = state_of(net, loop)
        bench.failing = True
        with pytest.raises(bh.silicon.DeviceError, match=rf"^InTheLoop\.step: the bench failed after {i} updates"):
            loop.step(*data(i))
        assert_equal(state_of(net, loop), before)
        bench.failing = False
        if i % 50 == 20:
            # The process dies as well: a new one goes on from the file.
            loop.save(tmp_path / "run.train")
            net, loop = make(bench, seed=i)
            loop.load(tmp_path / "run.train")
        loop.step(*data(i))
    assert bench.faults == 200
    clean = Faulty(seed=0)
    clean_net, undisturbed = make(clean)
    for i in range(200):
        undisturbed.step(*data(i))
    assert_equal(state_of(net, loop), state_of(clean_net, undisturbed))


class TestArguments:
    def test_wrong_kinds(self) -> None:
        net, adam = ChipNet(), braintools.optim.Adam(lr=0.03)
        good = {"loss": loss, "optimizer": adam}
        with pytest.raises(TypeError, match=r"^InTheLoop: net must be"):
            bh.silicon.InTheLoop(3, Bench(), **good)
        with pytest.raises(TypeError, match=r"^InTheLoop: device must have the methods program and run"):
            bh.silicon.InTheLoop(net, loss, **good)
        with pytest.raises(TypeError, match=r"^InTheLoop: loss must be a function"):
            bh.silicon.InTheLoop(net, Bench(), **(good | {"loss": 3}))
        with pytest.raises(TypeError, match=r"^InTheLoop: optimizer must be an optimizer of braintools"):
            bh.silicon.InTheLoop(net, Bench(), **(good | {"optimizer": "adam"}))
        with pytest.raises(ValueError, match=r"^InTheLoop: membranes must be 'auto', True or False; got 'all'"):
            bh.silicon.InTheLoop(net, Bench(), **good, membranes="all")
        with pytest.raises(ValueError, match=r"^InTheLoop: n_trials must be at least 1; got 0"):
            bh.silicon.InTheLoop(net, Bench(), **good, n_trials=0)

    def test_an_optimizer_of_another_network(self) -> None:
        optimizer = braintools.optim.Adam(lr=0.03)
        optimizer.register_trainable_weights(ChipNet().states(brainstate.ParamState))
        with pytest.raises(ValueError, match=r"^InTheLoop: optimizer contains weights of another network"):
            bh.silicon.InTheLoop(ChipNet(), Bench(), loss=loss, optimizer=optimizer)

    def test_an_optimizer_of_some_weights_leaves_the_others(self) -> None:
        net, optimizer = ChipNet(), braintools.optim.Adam(lr=0.03)
        optimizer.register_trainable_weights({"second": net.second.weight})
        loop = bh.silicon.InTheLoop(net, Bench(), loss=loss, optimizer=optimizer)
        first, second = np.asarray(net.first.weight.value), np.asarray(net.second.weight.value)
        loop.step(*data())
        np.testing.assert_array_equal(net.first.weight.value, first)
        assert (np.asarray(net.second.weight.value) != second).any()

    def test_a_network_of_no_chip(self) -> None:
        net = brainstate.nn.Sequential(bh.nn.LIFSynapse(N_IN, N), bh.nn.LIFLayer(N, tau=20 * u.ms))
        with pytest.raises((TypeError, ValueError), match=r"ChipProgram\.of"):
            bh.silicon.InTheLoop(net, Bench(), loss=loss, optimizer=braintools.optim.Adam(lr=0.03))


class TestFile:
    def make(self, seed: int = 0) -> tuple[ChipNet, bh.silicon.InTheLoop]:
        schedule = braintools.optim.CosineAnnealingLR(base_lr=0.05, T_max=20)
        return make(Bench(gain=0.7), optimizer=braintools.optim.Adam(lr=schedule), seed=seed)

    def test_a_resumed_run_is_the_run(self, tmp_path: Path) -> None:
        net, loop = self.make()
        for i in range(3):
            loop.step(*data(i))
        loop._optimizer.lr_scheduler.step()
        loop.save(tmp_path / "run.train")
        other_net, other = self.make(seed=4)
        other.load(tmp_path / "run.train")
        assert_equal(state_of(other_net, other), state_of(net, loop))
        for i in range(3, 6):
            assert loop.step(*data(i)) == other.step(*data(i))
        assert_equal(state_of(other_net, other), state_of(net, loop))

    def test_a_damaged_file_changes_nothing(self, tmp_path: Path) -> None:
        net, loop = self.make()
        loop.step(*data())
        path = tmp_path / "run.train"
        loop.save(path)
        whole = path.read_bytes()
        loop.step(*data(1))
        before = state_of(net, loop)
        rng = np.random.default_rng(0)
        for place in rng.integers(0, len(whole), 30):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(ValueError, match=r"^InTheLoop\.load: "):
                loop.load(path)
            path.write_bytes(whole[:place])
            with pytest.raises(ValueError, match=r"^InTheLoop\.load: "):
                loop.load(path)
        assert_equal(state_of(net, loop), before)

    def test_a_file_of_another_run(self, tmp_path: Path) -> None:
        _, loop = self.make()
        path = tmp_path / "run.train"
        loop.save(path)
        net, other = make(Bench(), optimizer=braintools.optim.SGD(lr=0.1))
        before = state_of(net, other)
        with pytest.raises(ValueError, match=r"^InTheLoop\.load: .*run\.train' (does not contain|contains)"):
            other.load(path)
        assert_equal(state_of(net, other), before)
        net, other = self.make()
        bh.sample_chip(net, jax.random.key(3))
        with pytest.raises(ValueError, match=r"^InTheLoop\.load: .*was made with chip"):
            other.load(path)
        trials = make(Bench(), optimizer=braintools.optim.Adam(lr=0.03), n_trials=2)[1]
        with pytest.raises(ValueError, match=r"^InTheLoop\.load: .*was made with n_trials '1'"):
            trials.load(path)

    def test_places_that_cannot_be_written_or_read(self, tmp_path: Path) -> None:
        _, loop = self.make()
        with pytest.raises(ValueError, match=r"^InTheLoop\.save: cannot write"):
            loop.save(tmp_path / "no" / "run.train")
        with pytest.raises(ValueError, match=r"^InTheLoop\.load: .*cannot be read"):
            loop.load(tmp_path / "none.train")
        with pytest.raises(TypeError, match=r"^InTheLoop\.load: path must be"):
            loop.load(3)
