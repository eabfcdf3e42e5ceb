"""States made inside `jit`, as brainstate's tutorials do it, and an evaluation outside afterwards.

The states kept the depth of that trace, so that loops outside took them for constants: a readout gave -0.0029 where
-0.6624 is right, and a recurrent net 36 spikes for 49, without a warning.
"""

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

T, B = 20, 4
XS = jnp.asarray(np.random.default_rng(0).random((T, B, 6)) < 0.6, jnp.float32)


def weights(n_in, n_out, mean=0.3):
    return np.random.default_rng(n_in).normal(mean, 0.5, (n_in, n_out)).astype(np.float32)


def lif():
    return [
        bh.nn.LIFSynapse(6, 8, weight_init=weights(6, 8) * u.mV),
        bh.nn.LIFLayer(8, tau=20 * u.ms),
        bh.nn.LeakyReadout(8, 3, tau=20 * u.ms, weight_init=weights(8, 3)),
    ]


def alif():
    rec = weights(8, 8, 0.1) * u.mV
    return [bh.nn.LIFSynapse(6, 8, weight_init=weights(6, 8) * u.mV), bh.nn.ALIFLayer(8, w_rec=rec)]


def fractional():
    return [
        bh.nn.LIFSynapse(6, 8, weight_init=weights(6, 8, 0.9) * u.mV),
        bh.nn.FractionalLIFLayer(8, alpha=0.7, tau=10 * u.ms),
    ]


def h1():
    return [bh.nn.H1v2Synapse(6, 8, weight_init=weights(6, 8, 0.9)), bh.nn.H1v2Layer(8, tau=20 * u.ms)]


KINDS = {"lif": lif, "alif": alif, "fractional": fractional, "h1": h1}


class Foreign(brainstate.nn.Module):
    """A module as other packages write them: states made in `init_state` alone."""

    def init_state(self, batch_size=None, **kwargs):
        self.y = brainstate.HiddenState(jnp.zeros((batch_size, 6)))

    def reset_state(self, batch_size=None, **kwargs):
        self.y.value = jnp.zeros((batch_size, 6))

    def update(self, x):
        self.y.value = 0.9 * self.y.value + x
        return self.y.value


def train_step(net):
    """The training step of brainstate's tutorials: all states made anew inside the compiled function."""
    parameters = net.states(brainstate.ParamState)

    def loss():
        return jnp.mean(brainstate.transform.for_loop(net.update, XS))

    @brainstate.transform.jit
    def step():
        brainstate.nn.init_all_states(net, batch_size=B)
        return brainstate.transform.grad(loss, parameters, return_value=True)()

    return step


def stream(net):
    step = bh.stream(net, B)
    return jnp.stack([step(x) for x in XS])


def steps(net):
    bh.prepare_net(net, B)
    return brainstate.transform.for_loop(net.update, XS)


def go_on(net):
    bh.prepare_net(net, B)
    return bh.rollout(net, XS, prepare=False)[0]


EVALUATIONS = {
    "rollout": lambda net: bh.rollout(net, XS)[0],
    "step by step": lambda net: bh.rollout(net, XS, layerwise=False)[0],
    "check_finite": lambda net: bh.rollout(net, XS, check_finite=True)[0],
    "jit": lambda net: brainstate.transform.jit(lambda xs: bh.rollout(net, xs)[0])(XS),
    "for_loop": steps,
    "prepare=False": go_on,
    "stream": stream,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lif", "alif", "fractional"])
def test_the_tutorials_training_step_works_and_any_evaluation_after_it_is_right(kind):
    right = np.asarray(bh.rollout(brainstate.nn.Sequential(*KINDS[kind]()), XS)[0])
    net = brainstate.nn.Sequential(*KINDS[kind]())
    step = train_step(net)
    for evaluate in EVALUATIONS.values():
        gradients, loss = step()
        assert float(loss) == pytest.approx(right.mean(), rel=1e-5)
        assert all(bool(jnp.isfinite(u.get_mantissa(g)).all()) for g in gradients.values())
        np.testing.assert_allclose(np.asarray(evaluate(net)), right, atol=1e-5)


def test_on_a_chip_the_step_says_in_one_sentence_what_to_add_and_the_net_is_whole():
    right = np.asarray(bh.rollout(brainstate.nn.Sequential(*h1()), XS)[0])
    net = brainstate.nn.Sequential(*h1())
    with pytest.raises(RuntimeError, match=r"^H1v2Synapse: the gradient cannot reach .*prepare_net\(net, batch_size\)"):
        train_step(net)()
    for evaluate in EVALUATIONS.values():
        np.testing.assert_array_equal(np.asarray(evaluate(net)), right)


def test_init_all_states_prepares_a_chip():
    net = brainstate.nn.Sequential(*h1())
    brainstate.nn.init_all_states(net, batch_size=B)
    spikes = brainstate.transform.for_loop(net.update, XS)
    np.testing.assert_array_equal(np.asarray(spikes), np.asarray(bh.rollout(net, XS)[0]))


@pytest.mark.slow
def test_modules_of_other_packages():
    net = Foreign()
    train_step(brainstate.nn.Sequential(net, brainstate.nn.Linear(6, 2)))()
    np.testing.assert_array_equal(np.asarray(bh.rollout(net, XS)[0]), np.asarray(bh.rollout(Foreign(), XS)[0]))


def test_a_run_that_goes_on_from_states_without_numbers_is_refused():
    net = brainstate.nn.Sequential(*lif())
    train_step(net)()
    with pytest.raises(RuntimeError, match=r"rollout: the HiddenState layers\.1\.V contains no values.*prepare_net"):
        bh.rollout(net, XS, prepare=False)


def test_weights_made_in_a_compiled_function_are_refused():
    kept = []

    @brainstate.transform.jit
    def build(x):
        kept.append(bh.nn.LIFSynapse(6, 2, weight_init=x * u.mV))
        return x

    build(jnp.ones((6, 2)))
    for call in (bh.rollout, lambda net, xs: bh.prepare_net(net), lambda net, xs: bh.stream(net, B)):
        with pytest.raises(RuntimeError, match=r"the ParamState weight contains no values"):
            call(kept[0], XS)


def test_a_hidden_state_that_nothing_puts_to_rest_is_refused():
    class Counter(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.n = brainstate.HiddenState(jnp.zeros(()))

        def update(self, x):
            self.n.value = self.n.value + 1
            return x * self.n.value

    with pytest.raises(
        TypeError, match=r"prepare_net: Counter at .layers\.0. has the hidden state n but no reset_state"
    ):
        bh.rollout(brainstate.nn.Sequential(Counter()), XS)
