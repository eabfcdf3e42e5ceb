"""Which weights are rounded is shown for every one, and a rule that matches none is an error."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from deploy_nets import Chain

import brainhw as bh


@pytest.fixture
def net() -> Chain:
    return Chain("H1v1", [16, 6, 4], topologies=["RC", "FF"], frontend=True)


def bits(net: brainstate.nn.Module) -> dict[str, int | None]:
    return {weight.path: weight.bits for weight in bh.deploy.describe(net).weights}


def test_rules_name_weights_by_pattern_and_the_last_counts(net: Chain) -> None:
    assert bits(net) == dict.fromkeys(["ears", "layer0", "syn0", "syn1"])
    bh.deploy.set_weight_bits(net, "chip")
    assert set(bits(net).values()) == {5}
    bh.deploy.set_weight_bits(net, {"syn*": 4, "syn1": 8, "ears": None})
    assert bits(net) == {"ears": None, "layer0": 5, "syn0": 4, "syn1": 8}
    bh.deploy.set_weight_bits(net, None)
    assert set(bits(net).values()) == {None}


@pytest.mark.parametrize(
    ("rule", "error", "words"),
    [
        ({"syn0": 4, "hidden*": 5}, ValueError, r"'hidden\*' matches no weight on a chip\. The weights are 'ears'"),
        ({3: 5}, ValueError, "the key 3 matches no weight"),
        ({}, ValueError, "empty mapping"),
        ({"syn0": 4, "syn1": 1}, ValueError, "weight_bits must be between 2"),
        (17, ValueError, "weight_bits must be between 2"),
        (4.5, TypeError, "weight_bits must be an integer"),
        ("many", ValueError, "weight_bits must be a number of bits, 'chip'"),
    ],
)
def test_a_rule_that_cannot_be_followed_changes_nothing(net: Chain, rule, error: type, words: str) -> None:
    bh.deploy.set_weight_bits(net, 6, rounding="stochastic")
    with pytest.raises(error, match=f"set_weight_bits: .*{words}|set_weight_bits: {words}"):
        bh.deploy.set_weight_bits(net, rule)
    assert set(bits(net).values()) == {6}
    assert {weight.rounding for weight in bh.deploy.describe(net).weights} == {"stochastic"}


def test_numbers_of_a_small_weight() -> None:
    # Steps of 0.3: 0.5 is 1.67 steps, -0.1 is a third of one, 1.2 is beyond the end.
    synapse = bh.nn.H1v1Synapse(2, 2, weight_init=np.array([[0.5, -0.1], [1.2, 0.6]]), weight_bits=3)
    (weight,) = bh.deploy.describe(synapse).weights
    assert (weight.shape, weight.bits, weight.levels, weight.levels_used) == ((2, 2), 3, 7, 3)
    assert weight.step == pytest.approx(0.3)
    assert weight.at_limit == 0.25
    changed = np.array([0.1, 0.1, -0.3, 0.0]) / 0.3
    assert weight.changed == pytest.approx(np.sqrt(np.mean(changed**2)), rel=1e-5)


def test_the_table_shows_weights_that_no_chip_has_too(net: Chain) -> None:
    bh.deploy.set_weight_bits(net, {"syn*": "chip"})
    net.readout = brainstate.nn.Linear(4, 2)
    net.soft = bh.nn.LIFSynapse(4, 2)
    text = str(bh.deploy.describe(net))
    assert "not on a chip" in text
    assert "readout.weight" in text
    assert "soft.weight" in text
    assert "not rounded" in text
    assert text.count("nearest") == 2


def test_post_training_and_constructor_rounding_are_one(net: Chain) -> None:
    rng = np.random.default_rng(0)
    w = rng.uniform(-0.9, 0.9, (4, 3))
    built, set_later = bh.nn.H1v1Synapse(4, 3, weight_init=w, weight_bits=4), bh.nn.H1v1Synapse(4, 3, weight_init=w)
    bh.deploy.set_weight_bits(set_later, 4)
    for synapse in (built, set_later):
        bh.prepare_net(synapse)
    np.testing.assert_array_equal(built.effective.charge.value.mantissa, set_later.effective.charge.value.mantissa)
    np.testing.assert_array_equal(set_later.weight.value, jnp.asarray(w, jnp.float32))


def test_a_rule_that_fails_leaves_the_net_prepared(net: Chain) -> None:
    bh.prepare_net(net)
    for rule, rounding in (({"syn0": 4, "syn1": 99}, "nearest"), (None, "stochastic"), (None, "up"), (4, "up")):
        with pytest.raises(ValueError, match="set_weight_bits"):
            bh.deploy.set_weight_bits(net, rule, rounding=rounding)
    net(jnp.ones(16))


def test_changing_the_bits_makes_the_net_stale(net: Chain) -> None:
    bh.prepare_net(net)
    bh.deploy.set_weight_bits(net, 3)
    with pytest.raises(RuntimeError, match="not prepared"):
        net(jnp.ones(16))


def test_what_has_no_weight_on_a_chip_is_refused() -> None:
    for call in (bh.deploy.describe, lambda net: bh.deploy.set_weight_bits(net, 5)):
        with pytest.raises(ValueError, match="has no weight on a chip"):
            call(bh.nn.LIFLayer(3, tau=10 * u.ms))
        with pytest.raises(TypeError, match=r"net must be a brainstate\.nn\.Module"):
            call(3)
    synapse = bh.nn.H1v1Synapse(2, 2)
    with pytest.raises(RuntimeError, match="outside of jit"):
        brainstate.transform.jit(lambda: len(bh.deploy.describe(synapse).weights))()
