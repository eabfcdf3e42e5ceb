"""States that a loop over time cannot carry, or that nobody puts back to rest.

A layer in a plain object gave other spikes at each call for the same recording; a layer used twice in a step gave 713
spikes where 504 are right; an array in a plain attribute gave 17,752 where 23,695 are right. None said a word.
"""

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

XS = jnp.asarray(np.random.default_rng(0).random((20, 6)) < 0.6, jnp.float32)
W_IN = np.random.default_rng(1).normal(0.3, 0.5, (6, 8)).astype(np.float32)
W = np.random.default_rng(2).normal(0.3, 0.5, (8, 8)).astype(np.float32)


def synapse(weights=W_IN):
    return bh.nn.LIFSynapse(*weights.shape, weight_init=weights * u.mV)


def layer(**options):
    return bh.nn.LIFLayer(8, tau=20 * u.ms, **options)


class Box:
    def __init__(self, held):
        self.held = held


class Boxed(brainstate.nn.Module):
    def __init__(self, held, first=None):
        super().__init__()
        self.first, self.box = first or synapse(), Box(held)

    def update(self, x):
        return self.box.held(self.first(x))


class Calling(brainstate.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.synapse, self.function = synapse(), function

    def update(self, x):
        return self.function(self.synapse(x))


def in_a_lambda():
    held = layer()
    return Calling(lambda x: held(x))  # noqa: PLW0108


def in_a_sequential():
    held = layer()
    return brainstate.nn.Sequential(synapse(), lambda x: held(x))  # noqa: PLW0108


def in_a_closure_around_a_chip():
    held = brainstate.nn.Sequential(bh.nn.H1v2Synapse(8, 3), bh.nn.H1v2Layer(3, tau=20 * u.ms))
    bh.prepare_net(held)
    return brainstate.nn.Sequential(synapse(), layer(), lambda spikes: held(spikes))  # noqa: PLW0108


def bound_method():
    return Calling(layer().update)


NOT_OWNED = {
    "object": lambda: Boxed(layer()),
    "recurrent layer in an object": lambda: Boxed(layer(topology="RC", recurrent_init=W * u.mV)),
    "readout in an object": lambda: Boxed(
        bh.nn.LeakyReadout(8, 2, tau=20 * u.ms), brainstate.nn.Sequential(synapse(), layer())
    ),
    "lambda": in_a_lambda,
    "Sequential": in_a_sequential,
    "chip": in_a_closure_around_a_chip,
    "bound method": bound_method,
}


def in_jit(net, **options):
    return brainstate.transform.jit(lambda xs: bh.rollout(net, xs, **options)[0])(XS)


RUNS = {
    "rollout": lambda net: bh.rollout(net, XS),
    "step by step": lambda net: bh.rollout(net, XS, layerwise=False),
    "check_finite": lambda net: bh.rollout(net, XS, check_finite=True),
    "prepare=False": lambda net: (bh.prepare_net(net), bh.rollout(net, XS, prepare=False)),
    "jit": in_jit,
    "stream": lambda net: bh.stream(net, None)(XS[0]),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("make", NOT_OWNED.values(), ids=NOT_OWNED)
def test_a_layer_that_the_network_does_not_own_is_refused(make, run):
    with pytest.raises(ValueError, match=r"the step uses a HiddenState of shape \(\d,\) that the network does not own"):
        run(make())


@pytest.mark.parametrize("make", NOT_OWNED.values(), ids=NOT_OWNED)
def test_it_is_said_for_a_batch_too_where_the_shape_of_the_state_fits_no_more(make):
    with pytest.raises(ValueError, match=r"rollout: the step uses a HiddenState of shape .* does not own"):
        bh.rollout(make(), jnp.stack([XS, XS], axis=1))


def test_fluct_init_says_it_too():
    net = brainstate.nn.Sequential(synapse(), layer(), in_a_lambda().function)
    with pytest.raises(ValueError, match=r"fluct_init: the step uses a HiddenState of shape .* does not own"):
        bh.init.fluct_init(net, [np.asarray(XS)[None]], families="any", verbose=False)


def test_a_parameter_that_the_network_does_not_own_is_said():
    readout = brainstate.nn.Linear(8, 2)
    net = brainstate.nn.Sequential(synapse(), layer(), lambda spikes: readout(spikes))  # noqa: PLW0108
    with pytest.warns(UserWarning, match=r"rollout: the step uses 1 state\(s\) that the network does not own"):
        bh.rollout(net, XS)


@pytest.mark.parametrize("wrap", [lambda m: (m,), lambda m: [m], lambda m: {"k": m}, lambda m: [[m]]])
def test_a_layer_in_a_container_is_owned(wrap):
    class Holding(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.synapse, self.held = synapse(), wrap(layer())

        def update(self, x):
            held = self.held["k"] if isinstance(self.held, dict) else self.held[0]
            return (held[0] if isinstance(held, list) else held)(self.synapse(x))

    net = Holding()
    first, second = bh.rollout(net, XS)[0], bh.rollout(net, XS)[0]
    right = bh.rollout(brainstate.nn.Sequential(synapse(), layer()), XS)[0]
    np.testing.assert_array_equal(first, right)
    np.testing.assert_array_equal(second, right)


class Twice(brainstate.nn.Module):
    """Two hidden layers with the same recurrent weights."""

    def __init__(self, second=None):
        super().__init__()
        self.first, self.between = synapse(), synapse(W)
        self.layer = layer(topology="RC", recurrent_init=0.3 * W * u.mV)
        self.other = self.layer if second is None else second(self.layer)

    def update(self, x):
        return self.other(self.between(self.layer(self.first(x))))


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_layer_used_twice_in_a_step_is_refused(run):
    with pytest.raises(ValueError, match=r"the LIFLayer at '(layer|other)' is called 2 times in one step.*nn\.twin"):
        run(Twice())


def test_a_block_used_twice_is_refused():
    block = brainstate.nn.Sequential(synapse(W), layer())
    with pytest.raises(ValueError, match=r"rollout: the Sequential at .layers.2. is called 3 times"):
        bh.rollout(brainstate.nn.Sequential(synapse(), layer(), block, block, block), XS)


def test_a_module_without_states_may_be_used_twice():
    shared = synapse(W)
    net = brainstate.nn.Sequential(synapse(), layer(), shared, layer(), shared, layer())
    apart = brainstate.nn.Sequential(synapse(), layer(), synapse(W), layer(), synapse(W), layer())
    np.testing.assert_array_equal(bh.rollout(net, XS)[0], bh.rollout(apart, XS)[0])


def test_a_twin_shares_the_weights_and_has_states_of_its_own():
    net, apart = Twice(bh.nn.twin), Twice(lambda first: layer(topology="RC", recurrent_init=0.3 * W * u.mV))
    np.testing.assert_array_equal(bh.rollout(net, XS)[0], bh.rollout(apart, XS)[0])
    assert len(net.states(brainstate.ParamState)) == 3
    assert len(apart.states(brainstate.ParamState)) == 4

    def gradients(net):
        weights = net.states(brainstate.ParamState)
        loss = lambda: jnp.mean(bh.rollout(net, XS)[0])  # noqa: E731
        return brainstate.transform.jit(brainstate.transform.grad(loss, weights))()

    of_net, of_apart = gradients(net), gradients(apart)
    (shared,) = [g for path, g in of_net.items() if path[-1] == "recurrent_weight"]
    both = [g for path, g in of_apart.items() if path[-1] == "recurrent_weight"]
    np.testing.assert_allclose(shared.mantissa, sum(both).mantissa, rtol=1e-4, atol=1e-6)


def test_a_twin_on_a_chip_is_prepared_and_trained_with_its_origin():
    first = bh.nn.H1v2Layer(8, tau=20 * u.ms, topology="RC")
    other = bh.nn.twin(first)
    net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(6, 8), first, bh.nn.H1v2Synapse(8, 8), other)
    bh.rollout(net, XS)
    first.recurrent_weight.value = 0.5 * first.recurrent_weight.value
    bh.prepare_net(net)
    np.testing.assert_array_equal(other.effective.charge.value.mantissa, first.effective.charge.value.mantissa)
    assert other.effective.charge is not first.effective.charge


class Remembering(brainstate.nn.Module):
    """A memory in a plain attribute, in one of the ways that people write it."""

    def __init__(self, how):
        super().__init__()
        self.synapse, self.layer, self.how = synapse(), layer(), how
        self.memory = {"array": jnp.zeros(8), "number": 0, "list": [], "dict": {}, "quantity": jnp.zeros(8) * u.mV}.get(
            how
        )

    def update(self, x):
        drive = self.synapse(x)
        if self.how in ("array", "quantity"):
            self.memory = 0.9 * self.memory + (drive if self.how == "quantity" else drive.mantissa)
        elif self.how == "number":
            self.memory += 1
        elif self.how == "list":
            self.memory.append(drive)
        elif self.how == "dict":
            self.memory["last"] = drive
        else:
            self.memory = drive if self.memory is None else 0.9 * self.memory + drive
        return self.layer(drive)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("how", ["array", "number", "list", "dict", "quantity", "none"])
def test_a_plain_attribute_that_a_step_writes_is_refused_and_stays_as_it_was(how, run):
    net = Remembering(how)
    before = net.memory
    with pytest.raises(ValueError, match=r"the step writes the plain attribute memory of Remembering.*HiddenState"):
        run(net)
    assert net.memory is before
    assert not before if isinstance(before, (list, dict)) else True


def test_what_a_first_step_sets_up_for_good_is_no_memory():
    class Lazy(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.synapse, self.layer, self.n = synapse(), layer(), None

        def update(self, x):
            self.n = x.shape[-1]
            return self.layer(self.synapse(x))

    np.testing.assert_array_equal(
        bh.rollout(Lazy(), XS)[0], bh.rollout(brainstate.nn.Sequential(synapse(), layer()), XS)[0]
    )


def test_the_refusals_leave_the_network_whole():
    net = Twice()
    before = [np.asarray(w.value.mantissa) for w in net.states(brainstate.ParamState).values()]
    with pytest.raises(ValueError, match="2 times"):
        in_jit(net)
    for state in net.states().values():
        assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(state.value))
    after = [np.asarray(w.value.mantissa) for w in net.states(brainstate.ParamState).values()]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert not any("update" in vars(node) for node in net.nodes().values())
