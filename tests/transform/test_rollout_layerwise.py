"""A chain of known modules runs layer by layer, with the same results as step by step."""

import functools
import importlib

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

# Import the module here; `brainhw.transform.rollout` is the function.
layerwise = importlib.import_module("brainhw.transform.rollout")

T, B = 30, 3


@pytest.fixture(autouse=True)
def _dt():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


def chain(**options):
    brainstate.random.seed(0)
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(4, 8),
        bh.nn.FractionalLIFLayer(8, alpha=0.6, tau=5 * u.ms, **options),
        bh.nn.LIFSynapse(8, 5),
        bh.nn.FractionalIFLayer(5, alpha=np.linspace(0.4, 1.0, 5), tau=5 * u.ms),
        bh.nn.LeakyReadout(5, 2, tau=10 * u.ms),
    )


class Wrapped(brainstate.nn.Module):
    """The same parts in a module with other computations beside them: it runs step by step."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.n_steps = brainstate.ShortTermState(jnp.zeros((), jnp.int32))

    def update(self, x):
        self.n_steps.value = self.n_steps.value + 1
        for part in self.net.layers:
            x = part(x)
        return x


@pytest.fixture
def xs():
    return jnp.asarray(np.random.default_rng(1).normal(0, 3, (T, B, 4)), jnp.float32)


def counted(monkeypatch):
    calls = []

    run = layerwise.LayerwisePlan.__call__

    def spy(self, xs):
        calls.append(len(self.modules))
        return run(self, xs)

    monkeypatch.setattr(layerwise.LayerwisePlan, "__call__", spy)
    return calls


def test_is_chosen_only_where_it_applies(monkeypatch, xs):
    calls = counted(monkeypatch)
    bh.rollout(chain(), xs)
    bh.rollout(
        brainstate.nn.Sequential(brainstate.nn.Sequential(*chain().layers)), xs, record=("layers.0.layers.1.spk",)
    )
    assert calls == [5, 5]
    bh.rollout(chain(), xs, record=("layers.4.y",))
    bh.rollout(chain(), xs, checkpoint=5)
    assert calls == [5, 5, 5, 5]
    bh.rollout(Wrapped(chain()), xs)
    # The gradients of stored rates would have to be computed through each step.
    rates = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), bh.nn.FractionalLIFLayer(3, method="pred"))
    bh.rollout(rates, xs, checkpoint=5)
    bh.rollout(chain(), xs, check_finite=True)
    bh.rollout(chain(), xs, pbar=10)
    bh.rollout(chain(), xs, record=("layers.1.slots",))
    bh.rollout(
        brainstate.nn.Sequential(
            bh.nn.LIFSynapse(4, 3), bh.nn.FractionalLIFLayer(3, reset="zero"), bh.nn.LIFSynapse(3, 2)
        ),
        xs,
    )
    assert calls == [5, 5, 5, 5]


def test_outputs_records_and_states_are_those_of_the_steps(xs):
    net = chain()
    record = ("layers.1.spk", "layers.1.V", "layers.3.V_pre")
    whole, seen = bh.rollout(net, xs, record=record)
    after = {path: np.asarray(u.get_mantissa(s.value)) for path, s in net.states(brainstate.HiddenState).items()}
    stepped, expected = bh.rollout(Wrapped(net), xs, record=tuple(f"net.{name}" for name in record))
    assert float(seen["layers.1.spk"].sum()) > 20
    np.testing.assert_array_equal(seen["layers.1.spk"], expected["net.layers.1.spk"])
    np.testing.assert_allclose(whole, stepped, atol=1e-5)
    for name in record[1:]:
        np.testing.assert_allclose(seen[name].mantissa, expected[f"net.{name}"].mantissa, atol=1e-5)
    for path, state in net.states(brainstate.HiddenState).items():
        # The sums of the past reach 70, and single precision has seven digits.
        expected = np.asarray(u.get_mantissa(state.value))
        atol = 1e-6 * max(10.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(after[path], expected, rtol=0, atol=atol, err_msg=str(path))


def gradients(net, xs, target, **options):
    weights = target.states(brainstate.ParamState)

    def loss():
        outputs, _ = bh.rollout(net, xs, **options)
        return (outputs**2).mean()

    found = brainstate.transform.jit(brainstate.transform.grad(loss, weights))()
    return {path: np.asarray(u.get_mantissa(g)) for path, g in found.items()}


def test_gradients_are_those_of_the_steps(xs):
    net = chain(learn_alpha=True)
    whole = gradients(net, xs, net)
    stepped = gradients(Wrapped(net), xs, net)
    assert set(whole) == set(stepped)
    for path, g in whole.items():
        assert np.abs(g).max() > 0
        np.testing.assert_allclose(g, stepped[path], rtol=1e-5, atol=1e-5 * np.abs(g).max(), err_msg=str(path))


def test_a_stream_in_chunks_is_the_whole_run_and_carries_its_gradient(xs):
    net = chain(learn_alpha=True)
    weights = net.states(brainstate.ParamState)
    whole, _ = bh.rollout(net, xs)
    first, _ = bh.rollout(net, xs[:11])
    second, _ = bh.rollout(net, xs[11:], prepare=False)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-5)

    def in_chunks():
        bh.rollout(net, xs[:11])
        outputs, _ = bh.rollout(net, xs[11:], prepare=False)
        return (outputs**2).sum()

    def at_once():
        outputs, _ = bh.rollout(net, xs)
        return (outputs[11:] ** 2).sum()

    # The later chunk uses the past that the earlier one left.
    a, b = (brainstate.transform.jit(brainstate.transform.grad(loss, weights))() for loss in (in_chunks, at_once))
    for path, g in a.items():
        expected = np.asarray(u.get_mantissa(b[path]))
        np.testing.assert_allclose(u.get_mantissa(g), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_wrong_sequence_is_refused_with_the_layer_and_the_shape(xs):
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(4, 3), bh.nn.FractionalLIFLayer(5))
    with pytest.raises(ValueError, match=r"FractionalLIFLayer.update: the last axis .* length 5; got shape"):
        bh.rollout(net, xs)
    assert jax.tree.leaves(net.states(brainstate.HiddenState))


class Feedback(brainstate.nn.Module):
    """Reads the spikes of a later layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def update(self, x):
        return x - 2 * self.layer.spk.value * u.mV


class Doubled(bh.nn.FractionalLIFLayer):
    """Changes only the step."""

    def update(self, x):
        return super().update(2 * x)


@pytest.mark.parametrize("case", ["feedback", "own step", "a partial as a method"])
def test_what_is_no_plain_chain_runs_step_by_step(case):
    layer = bh.nn.FractionalLIFLayer(4, alpha=0.6, tau=3 * u.ms)
    louder = bh.nn.LIFLayer(4, tau=3 * u.ms)
    louder.to_voltage = functools.partial(lambda drive: 2 * drive)
    parts = {
        "feedback": (Feedback(layer), layer),
        "own step": (Doubled(4, alpha=0.6, tau=3 * u.ms),),
        "a partial as a method": (louder, bh.nn.LIFSynapse(4, 4, weight_init=3 * jnp.eye(4) * u.mV), layer),
    }[case]
    net = brainstate.nn.Sequential(*parts)
    xs = jnp.asarray(np.random.default_rng(0).normal(1, 2, (T, 4)), jnp.float32) * u.mV
    # The sequence also calls the hook `to_voltage`, wherever it is defined.
    assert (layerwise.plan_layerwise(net, xs[0], call="test") is None) == (case != "a partial as a method")
    np.testing.assert_array_equal(bh.rollout(net, xs)[0], bh.rollout(Wrapped(net), xs)[0])


def test_a_run_longer_than_a_dense_memory_is_refused():
    net = brainstate.nn.Sequential(bh.nn.FractionalLIFLayer(4, kernel="dense", horizon=20))
    for wrapped in (net, Wrapped(net)):
        bh.rollout(wrapped, jnp.ones((20, 4)) * u.mV)
        with pytest.raises(ValueError, match=r"stores 20 past steps .* reaches step 21. Increase horizon"):
            bh.rollout(wrapped, jnp.ones((1, 4)) * u.mV, prepare=False)
        bh.rollout(wrapped, jnp.ones((20, 4)) * u.mV)
        with pytest.raises(ValueError, match="reaches step 30"):
            bh.rollout(wrapped, jnp.ones((30, 4)) * u.mV)
    bh.rollout(bh.nn.FractionalLIFLayer(4, kernel="dense", memory=5), jnp.ones((30, 4)) * u.mV)


def test_a_failed_run_does_not_count_towards_a_dense_memory():
    layer = bh.nn.FractionalLIFLayer(4, kernel="dense", horizon=10)
    bh.rollout(layer, jnp.ones((5, 4)) * u.mV)
    with pytest.raises(TypeError):
        bh.rollout(layer, jnp.ones((5, 4)), prepare=False)
    bh.rollout(layer, jnp.ones((5, 4)) * u.mV, prepare=False)


def test_a_compiled_stream_that_outgrows_a_dense_memory_says_so():
    layer = bh.nn.FractionalLIFLayer(4, kernel="dense", horizon=20)
    bh.prepare_net(layer)

    @brainstate.transform.jit
    def chunk(xs):
        return bh.rollout(layer, xs * u.mV, prepare=False, record=(".V",))[1][".V"].mantissa

    xs = jnp.ones((10, 4))
    assert np.isfinite([chunk(xs), chunk(xs)]).all()
    assert np.isnan(chunk(xs)[1:]).all()


@pytest.mark.parametrize("V", [jnp.zeros(4), jnp.zeros(3) * u.mV, jnp.zeros(4) * u.ms])
def test_a_voltage_written_wrongly_is_refused(V):
    layer = bh.nn.FractionalLIFLayer(4)
    bh.prepare_net(layer)
    layer.V.value = V
    with pytest.raises((ValueError, TypeError), match=r"V|state"):
        layer(jnp.ones(4) * u.mV)


def test_a_time_step_that_changes_is_refused():
    net = brainstate.nn.Sequential(bh.nn.FractionalLIFLayer(4))
    bh.rollout(net, jnp.ones((3, 4)) * u.mV)
    with brainstate.environ.context(dt=2.0 * u.ms):
        with pytest.raises(ValueError, match=r"dt is 2 ms, but the past steps were stored with dt = 1 ms"):
            bh.rollout(net, jnp.ones((3, 4)) * u.mV, prepare=False)
        bh.rollout(net, jnp.ones((3, 4)) * u.mV)
