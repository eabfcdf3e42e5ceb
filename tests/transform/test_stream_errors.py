"""stream: wrong use raises clear errors."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh


def test_an_input_that_is_not_like_the_first_is_refused_and_the_stream_goes_on() -> None:
    synapse, layer = bh.stream(bh.nn.LIFSynapse(3, 2)), bh.stream(bh.nn.LIFLayer(3, tau=10 * u.ms))
    x = np.ones((1, 3), np.float32)
    synapse(x)
    layer(x * u.mV)
    bad = (
        (synapse, np.ones((1, 4)), ValueError, r"must have shape \(1, 3\), as in the first step; got shape \(1, 4\)"),
        (synapse, jnp.ones(3), ValueError, r"must have shape \(1, 3\).*got shape \(3,\)"),
        (synapse, x * u.mV, TypeError, "must have no unit.*got a Quantity in mV"),
        (synapse, x * 1j, TypeError, "must have dtype float32.*got dtype complex64"),
        (synapse, jnp.asarray(x * 1j), TypeError, "must be real"),
        (synapse, [[1.0, 1.0, 1.0]], TypeError, "must be an array.*Convert lists to arrays first"),
        (synapse, None, TypeError, "must be an array, a Quantity or a pytree of them; got None"),
        (layer, x, TypeError, "must have the dimension of mV, as in the first step; got an array"),
        (layer, x * u.mA, TypeError, "must have the dimension of mV.*got a Quantity in mA"),
        (layer, {"x": x * u.mV}, TypeError, "must be an array, a Quantity|must have the structure"),
    )
    for step, x_bad, error, words in bad:
        with pytest.raises(error, match=r"^stream: the input " + words):
            step(x_bad)
    ints = bh.stream(brainstate.nn.Embedding(4, 2), None)
    ints(np.array([1, 2]))
    with pytest.raises(TypeError, match=r"^stream: the input must have dtype int32.*got dtype float64"):
        ints(np.array([0.5, 1.5]))
    assert (synapse.steps, layer.steps) == (1, 1)
    synapse(x)
    assert synapse.steps == 2


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.ones(3), ValueError, r"must have shape \[2, ...\], because the stream has batch_size=2; got shape \(3,\)"),
        (np.ones((3, 4)), ValueError, r"must have shape \[2, ...\].*got shape \(3, 4\)"),
        ({}, ValueError, r"must have shape \[2, ...\].*got nothing"),
        ([1.0], TypeError, "must be an array, a Quantity or a pytree of them; got 1.0"),
    ],
)
def test_a_first_input_of_another_shape_is_refused(x: object, error: type, words: str) -> None:
    with pytest.raises(error, match=rf"^stream: the input .*{words}"):
        bh.stream(bh.nn.LIFSynapse(3, 2), 2)(x)


def test_what_is_no_network_or_has_no_such_record_is_refused(make_net) -> None:
    net = make_net("lif")
    with pytest.raises(TypeError, match=r"^stream: net must be a brainstate.nn.Module; got 3"):
        bh.stream(3)
    with pytest.raises(ValueError, match=r"^stream: batch_size must be at least 1; got 0"):
        bh.stream(net, 0)
    with pytest.raises(ValueError, match=r"^stream: record contains 'nobody.V', but no module has the path"):
        bh.stream(net, record=("nobody.V",))
    with pytest.raises(TypeError, match=r"^stream: record must be a sequence"):
        bh.stream(net, record="hidden.V")
    with pytest.raises(ValueError, match=r"^stream: record contains 'hidden.W', but LIFLayer at 'hidden' has only"):
        bh.stream(net, record=("hidden.W",))(np.ones((1, 4)))
    with pytest.raises(ValueError, match=r"must have length 4; got shape"):
        bh.stream(net)(np.ones((1, 5)))


def test_a_weight_that_is_not_finite_is_refused_at_the_start_and_at_reset(make_net) -> None:
    net = make_net("lif")
    step = bh.stream(net)
    weight = net.syn1.weight.value
    net.syn1.weight.value = weight * jnp.nan
    for call in (step.reset, lambda: bh.stream(net)):
        with pytest.raises(ValueError, match=r"syn1\.weight"):
            call()


def test_a_layer_that_holds_no_more_steps_is_refused_and_a_reset_empties_it() -> None:
    layer = bh.nn.FractionalLIFLayer(2, alpha=0.5, kernel="dense", horizon=5)
    step, x = bh.stream(layer, None), np.ones(2) * u.mV
    for _ in range(2):
        for _ in range(5):
            step(x)
        with pytest.raises(ValueError, match=r"^stream: .*horizon=5.*reaches step 6"):
            step(x)
        assert step.steps == 5
        step.reset()


def test_a_state_that_does_not_keep_its_shape_is_named() -> None:
    class Grows(brainstate.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.past = brainstate.ShortTermState(jnp.zeros((1, 2)))

        def update(self, x: jax.Array) -> jax.Array:
            self.past.value = jnp.concatenate([self.past.value, x])
            return self.past.value

    with pytest.raises(ValueError, match=r"^stream: a step turns the state past from .*\(1, 2\).* into .*\(2, 2\)"):
        bh.stream(Grows())(np.ones((1, 2)))
