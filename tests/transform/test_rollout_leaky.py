"""Leaky neurons, many steps at once: the single step is the reference, and the fast path must give the same results."""

import functools
import importlib

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainhw as bh

# Import the module here; `brainhw.transform.rollout` is the function.
layerwise = importlib.import_module("brainhw.transform.rollout")

N_IN, N, N_OUT = 6, 12, 4
FAMILIES = {
    "LIF": (bh.nn.LIFSynapse, bh.nn.LIFLayer, 0.8 * u.mV, {}),
    # A low threshold, so that small nets fire often.
    "H1v1": (bh.nn.H1v1Synapse, bh.nn.H1v1Layer, 0.6, {"chip": bh.chip.H1V1.replace(V_th=15.0 * u.mV)}),
    "H1v2": (bh.nn.H1v2Synapse, bh.nn.H1v2Layer, 0.9, {"chip": bh.chip.H1V2.replace(V_th=15.0 * u.mV)}),
}


@pytest.fixture(autouse=True)
def _dt():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


class Net(brainstate.nn.Module):
    """A net as users write it; ``counts`` adds computations beside its chain, so that it runs step by step."""

    def __init__(self, family, *, topology="FF", seed=0, counts=False, **options):
        super().__init__()
        synapse, layer, scale, chip = FAMILIES[family]
        rng = np.random.default_rng(seed)

        def weights(*shape, unit=scale):
            return jnp.asarray(rng.normal(0.2, 1, shape), jnp.float32) * unit

        recurrent = {"recurrent_init": 0.2 * weights(N, N)} if topology == "RC" else {}
        self.first = synapse(N_IN, N, weight_init=weights(N_IN, N), **chip)
        self.hidden = layer(N, tau=20.0 * u.ms, topology=topology, **recurrent, **chip, **options)
        self.second = synapse(N, N, weight_init=weights(N, N), **chip)
        self.output = layer(N, tau=10.0 * u.ms, **chip)
        self.readout = bh.nn.LeakyReadout(N, N_OUT, tau=10.0 * u.ms, bias=True, weight_init=weights(N, N_OUT, unit=1.0))
        self.counts = counts
        self.n_steps = brainstate.ShortTermState(jnp.zeros((), jnp.int32))

    def update(self, x):
        if self.counts:
            self.n_steps.value = self.n_steps.value + 1
        return self.readout(self.output(self.second(self.hidden(self.first(x)))))


def spikes(seed, shape=(37, 3, N_IN), rate=0.4):
    return jnp.asarray(np.random.default_rng(seed).random(shape) < rate, jnp.float32)


RECORD = ("hidden.spk", "hidden.V", "hidden.V_pre", "output.spk", "readout.y")


def result(family, xs, *, counts, rollout=None, **options):
    """Return outputs, records, final states and gradients of a net."""
    net = Net(family, counts=counts, **options)
    weights = net.states(brainstate.ParamState)

    def loss():
        outputs, records = bh.rollout(net, xs, record=RECORD, **(rollout or {}))
        return (outputs**2).mean() + 0.1 * records["hidden.spk"].mean(), (outputs, records)

    step = brainstate.transform.jit(brainstate.transform.grad(loss, weights, has_aux=True))
    gradients, (outputs, records) = step()
    states = {path: state.value for path, state in net.states(brainstate.HiddenState).items()}
    bh.prepare_net(net, xs.shape[1])
    assert (layerwise.plan_layerwise(net, xs[0], call="test") is None) == counts
    return outputs, records, states, gradients


def both(family, xs, **options):
    """Return the results of the fast path and of the steps."""
    return [result(family, xs, counts=counts, **options) for counts in (False, True)]


@functools.cache
def by_steps(family, topology):
    """Return the results of the steps, which several tests compare."""
    return result(family, spikes(1), counts=True, topology=topology)


def assert_same(fast, steps):
    for name in ("hidden.spk", "output.spk"):
        assert float(steps[1][name].sum()) > 10
        np.testing.assert_array_equal(fast[1][name], steps[1][name])
    for ours, theirs in zip(fast, steps, strict=True):
        for path, one, other in zip(ours, jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=False):
            np.testing.assert_allclose(
                one, other, rtol=1e-5, atol=1e-5 * float(np.abs(other).max()) + 1e-12, err_msg=str(path)
            )


@pytest.mark.parametrize("topology", ["FF", "RC"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("checkpoint", [None, 8])
def test_spikes_states_and_gradients_are_those_of_the_steps(family, topology, checkpoint):
    fast = result(family, spikes(1), counts=False, topology=topology, rollout={"checkpoint": checkpoint})
    assert_same(fast, by_steps(family, topology))


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("detach_reset", [True, False])
def test_every_reset_has_the_gradient_of_its_steps(reset, detach_reset):
    assert_same(*both("LIF", spikes(2), topology="RC", reset=reset, detach_reset=detach_reset))


def test_learnt_time_constants_and_thresholds_have_the_gradient_of_their_steps():
    def learnt():
        return {
            "tau": brainstate.nn.Param(jnp.linspace(5.0, 30.0, N) * u.ms, t=brainstate.nn.SoftplusT(1.0 * u.ms)),
            "V_th": brainstate.nn.Param(1.3 * u.mV),
        }

    found = []
    for counts in (False, True):
        net = Net("LIF", counts=counts)
        net.hidden = bh.nn.LIFLayer(N, reset="zero", detach_reset=False, **learnt())
        weights = net.states(brainstate.ParamState)
        step = brainstate.transform.grad(lambda net=net: (bh.rollout(net, spikes(3))[0] ** 2).mean(), weights)
        found.append(brainstate.transform.jit(step)())
    assert {("hidden", "tau", "val"), ("hidden", "V_th", "val")} <= set(found[0])
    for path, gradient in found[0].items():
        expected = np.asarray(u.get_mantissa(jax.tree.leaves(found[1][path])[0]))
        ours = np.asarray(u.get_mantissa(jax.tree.leaves(gradient)[0]))
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(), err_msg=str(path))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    topology=st.sampled_from(["FF", "RC"]),
    n_steps=st.integers(1, 40),
    batch=st.one_of(st.none(), st.integers(1, 5)),
    numbers=st.sampled_from([1, 100, 1000, 2**17]),
    seed=st.integers(0, 99),
)
def test_any_cut_of_any_sequence_gives_the_same_spikes(family, topology, n_steps, batch, numbers, seed):
    xs = spikes(seed, (n_steps, N_IN) if batch is None else (n_steps, batch, N_IN))
    fast, steps = (Net(family, topology=topology, seed=seed, counts=counts) for counts in (False, True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layerwise, "_MAX_VALUES_UNSPLIT", 0)
        patch.setattr(layerwise, "_VALUES_PER_PIECE", numbers)
        outputs, seen = bh.rollout(fast, xs, record=("hidden.spk", "output.spk"))
    expected, wanted = bh.rollout(steps, xs, record=("hidden.spk", "output.spk"))
    for name, value in wanted.items():
        np.testing.assert_array_equal(seen[name], value)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-4)


def test_a_stream_in_chunks_is_the_whole_run_and_carries_its_gradient():
    net, xs = Net("H1v2", topology="RC"), spikes(4)
    weights = net.states(brainstate.ParamState)

    def whole():
        return (bh.rollout(net, xs)[0][15:] ** 2).sum()

    def in_chunks():
        bh.rollout(net, xs[:15])
        return (bh.rollout(net, xs[15:], prepare=False)[0] ** 2).sum()

    ours, expected = (brainstate.transform.jit(brainstate.transform.grad(f, weights))() for f in (in_chunks, whole))
    for path, gradient in expected.items():
        np.testing.assert_allclose(ours[path], gradient, rtol=1e-5, atol=1e-5 * float(np.abs(gradient).max()))


def test_what_flows_back_into_the_states_of_the_start_is_kept():
    layer = bh.nn.LIFLayer(N, tau=20.0 * u.ms, topology="RC", recurrent_init=0.1 * jnp.ones((N, N)) * u.mV)
    xs = jnp.asarray(np.random.default_rng(5).normal(0.1, 0.3, (9, N)), jnp.float32) * u.mV

    def last_membrane(V, spk, *, fast):
        bh.prepare_net(layer)
        layer.V.value, layer.spk.value = V * u.mV, spk
        run = layer.update_sequence if fast else lambda xs: brainstate.transform.for_loop(layer, xs)
        return run(xs).sum() + (layer.V.value.mantissa**2).sum() + layer.spk.value.sum()

    start = jnp.linspace(-0.5, 0.9, N), jnp.asarray(np.arange(N) % 3 == 0, jnp.float32)
    ours, expected = (
        brainstate.transform.grad(lambda V, s, fast=fast: last_membrane(V, s, fast=fast), argnums=(0, 1))(*start)
        for fast in (True, False)
    )
    for one, other in zip(ours, expected, strict=True):
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_schedule_of_the_surrogate_reaches_the_compiled_gradient():
    found = []
    for counts in (False, True):
        net = Net("LIF", counts=counts, topology="RC", spk_fun=bh.surrogate.sigmoid(3.0))
        net.output.spk_fun = bh.surrogate.sigmoid(3.0)
        schedule = bh.train.SurrogateSchedule(net, "slope", total_epochs=3, start=1.0, end=4.0)
        weights = net.states(brainstate.ParamState)
        step = brainstate.transform.jit(
            brainstate.transform.grad(lambda net=net: (bh.rollout(net, spikes(6))[0] ** 2).mean(), weights)
        )
        for epoch in (0, 2):
            schedule.step(epoch)
            found.append(np.asarray(step()[("first", "weight")].mantissa))
    assert not np.allclose(found[0], found[1])
    for ours, expected in zip(found[:2], found[2:], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


class Extra(brainstate.nn.Module):
    """A net with computations beside its chain, chosen by ``how``."""

    def __init__(self, how):
        super().__init__()
        self.synapse = bh.nn.LIFSynapse(N_IN, N)
        self.layer = bh.nn.LIFLayer(N, tau=5.0 * u.ms)
        self.how = how

    def update(self, x):
        if self.how == "scales":
            x = 2.0 * x
        drive = self.synapse(x)
        if self.how == "writes":
            self.layer.V.value = 0.5 * self.layer.V.value
        if self.how == "own dt":
            with brainstate.environ.context(dt=2.0 * u.ms):
                return self.layer(drive)
        spk = self.layer(drive)
        if self.how == "writes after":
            self.layer.V.value = 0.5 * self.layer.V.value
        if self.how == "random":
            brainstate.random.uniform()
        if self.how == "prints":
            jax.debug.callback(lambda value: None, spk[0, 0])
        return (spk, spk) if self.how == "returns twice" else spk


@pytest.mark.parametrize(
    "how", ["scales", "writes", "own dt", "writes after", "random", "prints", "returns twice", "plain"]
)
def test_a_net_with_states_or_effects_of_its_own_runs_step_by_step(how):
    net = Extra(how)
    bh.prepare_net(net, 3)
    fast = layerwise.plan_layerwise(net, spikes(0)[0], call="test") is not None
    # A pure function beside the modules is a link; states, effects and another time step require single steps.
    assert fast == (how in ("scales", "returns twice", "plain"))


def test_looking_at_the_wiring_leaves_the_states_alone():
    net, xs = Net("LIF", topology="RC"), spikes(7)
    bh.rollout(net, xs)
    before = {path: state.value for path, state in net.states().items()}
    assert layerwise.plan_layerwise(net, xs[0], call="test") is not None
    for path, state in net.states().items():
        assert state.value is before[path], path


@given(wanted=st.integers(1, 5000), n_steps=st.integers(1, 2000))
@settings(deadline=None, derandomize=True)
def test_a_length_of_pieces_fits(wanted, n_steps):
    length = layerwise.divisor_near(wanted, n_steps)
    assert 1 <= length <= n_steps
    assert n_steps % length == 0 or length == wanted


class Adaptive(bh.nn.LIFLayer):
    """A threshold that rises with each spike: a function that the step calls is changed, not the step itself."""

    def __init__(self, n, **options):
        super().__init__(n, **options)
        self.a = brainstate.HiddenState(jnp.zeros(n))

    def reset_state(self, batch_size=None, **kwargs):
        super().reset_state(batch_size)
        self.a.value = jnp.zeros((batch_size, self.n_neurons) if batch_size else self.n_neurons)

    def threshold(self):
        self.a.value = 0.9 * self.a.value + 0.3 * self.spk.value
        return super().threshold() * (1 + self.a.value)


class Named(bh.nn.LIFLayer):
    """Adds a constructor and a helper, without changing any behaviour."""

    def __init__(self, n):
        super().__init__(n, tau=7.0 * u.ms)

    def mean_rate(self):
        return self.spk.value.mean()


def test_a_subclass_that_changes_any_part_of_a_layer_runs_step_by_step():
    xs = spikes(8)
    first = bh.nn.LIFSynapse(N_IN, N, weight_init=0.4 * jnp.ones((N_IN, N)) * u.mV)
    net = brainstate.nn.Sequential(first, Adaptive(N, tau=10.0 * u.ms))
    np.testing.assert_array_equal(bh.rollout(net, xs)[0], bh.rollout(net, xs, layerwise=False)[0])
    assert layerwise.plan_layerwise(net, xs[0], call="test") is None
    unchanged = brainstate.nn.Sequential(first, Named(N))
    bh.prepare_net(unchanged, xs.shape[1])
    assert layerwise.plan_layerwise(unchanged, xs[0], call="test") is not None
    unchanged.layers[1].integrate = lambda V, drive, dt: V
    assert layerwise.plan_layerwise(unchanged, xs[0], call="test") is None


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_a_spike_function_sees_one_step_at_a_time_in_both_passes(axis):
    fires = bh.surrogate.fast_sigmoid()

    def strongest_alone(x):
        best = x >= x.max(axis=axis, keepdims=axis is not None)
        return fires(x) * jax.lax.stop_gradient(best).astype(x.dtype)

    fast, steps = both("LIF", spikes(9), topology="RC", spk_fun=strongest_alone)
    np.testing.assert_array_equal(fast[1]["hidden.spk"], steps[1]["hidden.spk"])
    for path, gradient in steps[3].items():
        atol = 1e-5 * float(np.abs(jax.tree.leaves(gradient)[0]).max())
        np.testing.assert_allclose(
            jax.tree.leaves(fast[3][path])[0], jax.tree.leaves(gradient)[0], rtol=1e-5, atol=atol
        )


class Slope(brainstate.nn.Module):
    """A smooth spike function whose slope is a state."""

    def __init__(self, kind):
        super().__init__()
        self.slope = kind(jnp.array(2.0))

    def __call__(self, x):
        return jax.nn.sigmoid(self.slope.value * x)


@pytest.mark.parametrize("kind", [brainstate.ParamState, brainstate.ShortTermState])
@pytest.mark.parametrize("cut", [{}, {"checkpoint": 5}, {"numbers": 100}])
def test_a_spike_function_may_read_states_and_learn_them(kind, cut):
    found = []
    for counts in (False, True):
        net = Net("LIF", topology="RC", counts=counts, spk_fun=Slope(kind))
        weights = net.states(brainstate.ParamState)
        with pytest.MonkeyPatch.context() as patch:
            if "numbers" in cut:
                patch.setattr(layerwise, "_MAX_VALUES_UNSPLIT", 0)
                patch.setattr(layerwise, "_VALUES_PER_PIECE", cut["numbers"])
            options = {"checkpoint": cut.get("checkpoint")}
            step = brainstate.transform.grad(
                lambda net=net, o=options: (bh.rollout(net, spikes(10), **o)[0] ** 2).mean(), weights
            )
            found.append(brainstate.transform.jit(step)())
    assert any("slope" in path for path in found[0]) == (kind is brainstate.ParamState)
    for path, gradient in found[1].items():
        expected = np.asarray(jax.tree.leaves(gradient)[0])
        ours = np.asarray(jax.tree.leaves(found[0][path])[0])
        assert np.abs(expected).max() > 0
        # The gradient of the slope sums over all steps, samples and neurons, and its terms nearly cancel. In double
        # precision both agree in all digits; in single precision neither is closer than this to that number.
        atol = (2e-4 if "slope" in path else 2e-5) * np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=atol, err_msg=str(path))


def test_a_run_that_fails_leaves_the_net_as_it_was():
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 5), bh.nn.LIFLayer(5, tau=9.0 * u.ms))
    bh.prepare_net(net, 3)
    weight = net.layers[0].weight.value
    net.layers[1].V.value = jnp.zeros((3, 5)) * u.volt
    with pytest.raises(ValueError, match="mV"):
        bh.rollout(net, jnp.ones((6, 3, 4)), prepare=False)
    assert net.layers[0].weight.value is weight
    assert bh.rollout(net, jnp.ones((6, 3, 4)))[0].shape == (6, 3, 5)


class Unused(brainstate.nn.Module):
    def __init__(self):
        super().__init__()
        self.synapse, self.layer = bh.nn.LIFSynapse(N_IN, N), bh.nn.LIFLayer(N, tau=5.0 * u.ms)
        self.idle = bh.nn.LIFLayer(N, tau=5.0 * u.ms)

    def update(self, x):
        return self.layer(self.synapse(x))


def test_a_layer_that_takes_no_part_can_be_recorded():
    _, seen = bh.rollout(Unused(), spikes(11), record=("idle.V", "layer.spk"))
    assert seen["idle.V"].shape == (37, 3, N)
    with pytest.raises(ValueError, match="LIFLayer at 'idle' has only"):
        bh.rollout(Unused(), spikes(11), record=("idle.V_pre",))


class HalfDrive(brainstate.nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.weight = brainstate.ParamState(jnp.asarray(np.random.default_rng(0).normal(size=(N_IN, N)), jnp.float32))
        self.layer, self.dtype = bh.nn.LIFLayer(N, tau=5.0 * u.ms), dtype

    def update(self, x):
        return self.layer((x @ self.weight.value).astype(self.dtype) * 2 * u.mV)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_drive_of_half_precision_has_the_gradient_of_the_steps(dtype):
    net = HalfDrive(dtype)
    layers, steps = (
        brainstate.transform.grad(
            lambda way=way: bh.rollout(net, spikes(3), layerwise=way)[0].sum(), {"w": net.weight}
        )()["w"]
        for way in (True, False)
    )
    assert np.any(steps)
    np.testing.assert_allclose(layers, steps, rtol=0.02, atol=0.02 * float(jnp.abs(steps).max()))
