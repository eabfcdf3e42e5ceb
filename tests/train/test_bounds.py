"""Penalties outside bounds, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh


def test_rates_within_cost_nothing_and_outside_the_square() -> None:
    spikes = jnp.zeros((100, 2, 3)).at[:50, :, 1].set(1.0).at[:, :, 2].set(2.0)  # 0, 500 and 2000 Hz
    loss = bh.train.firing_rate_bounds_loss
    assert float(loss(spikes, 0 * u.Hz, 2 * u.kHz)) == 0.0
    assert float(loss(spikes, lower=100 * u.Hz)) == pytest.approx(1 / 3)
    assert float(loss(spikes, upper=1 * u.kHz)) == pytest.approx(100 / 3)
    assert float(loss(spikes, upper=1 * u.kHz, scale=500 * u.Hz)) == pytest.approx(4 / 3)
    gradient = np.asarray(jax.grad(lambda s: loss(s, 100 * u.Hz, 1 * u.kHz))(spikes)).sum((0, 1))
    assert gradient[0] < 0
    assert gradient[1] == 0
    assert gradient[2] > 0


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((), ValueError, "lower and upper are both missing"),
        ((9 * u.Hz, 3 * u.Hz), ValueError, "lower must not exceed upper"),
        ((9.0,), TypeError, "lower must be a Quantity"),
        ((None, 9 * u.ms), TypeError, "upper must have the dimension of Hz"),
        ((-1 * u.Hz,), ValueError, "lower must be zero or greater"),
    ],
)
def test_rate_bounds_that_are_none(arguments: tuple[Any, ...], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"firing_rate_bounds_loss: {match}"):
        bh.train.firing_rate_bounds_loss(jnp.ones((5, 2)), *arguments)


@pytest.mark.parametrize(
    ("spikes", "match"),
    [
        (jnp.ones((0, 3)), r"spikes must contain at least one step, sample and neuron.*got shape \(0, 3\)"),
        (jnp.ones((5, 0)), r"spikes must contain at least one step, sample and neuron.*got shape \(5, 0\)"),
        (jnp.ones((5, 2)).at[3, 1].set(jnp.nan), r"spikes contains 1 NaN .* index \(3, 1\); .*check_finite=True"),
    ],
)
def test_spikes_without_a_rate(spikes: Any, match: str) -> None:
    with pytest.raises(ValueError, match=f"firing_rate_bounds_loss: {match}"):
        bh.train.firing_rate_bounds_loss(spikes, 1 * u.Hz)


def test_a_regulariser_is_counted_by_the_net_and_pulls_back() -> None:
    reg = bh.train.BoundsReg(5 * u.ms, 0.1 * u.second, scale=2 * u.ms, weight=3.0)
    layer = bh.nn.ALIFLayer(3, tau_ahp=brainstate.nn.Param(np.array([3.0, 50.0, 104.0]) * u.ms, reg=reg))
    assert float(layer.reg_loss()) == pytest.approx(3 * (1 + 4))
    gradient = brainstate.transform.grad(layer.reg_loss, layer.states(brainstate.ParamState))()
    (values,) = (np.asarray(u.get_mantissa(g)) for g in gradient.values())
    assert values[0] < 0 == values[1] < values[2]


def test_bounds_of_a_plain_number_and_what_they_offer() -> None:
    reg = bh.train.BoundsReg(0.2, 0.9)
    assert float(reg.loss(jnp.array([0.0, 0.5, 1.0]))) == pytest.approx(0.04 + 0.01)
    drawn = bh.train.BoundsReg(5 * u.ms, 9 * u.ms).sample_init((100,)).to(u.ms).mantissa
    assert 5 <= drawn.min() < drawn.max() <= 9
    assert bh.train.BoundsReg(upper=-2 * u.mV).reset_value() == -2 * u.mV
    assert reg.reset_value() == 0.2


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (bh.train.BoundsReg, ValueError, "lower and upper are both missing"),
        (lambda: bh.train.BoundsReg(9 * u.ms, 5 * u.ms), ValueError, "lower must not exceed upper"),
        (lambda: bh.train.BoundsReg(9 * u.ms, 5 * u.mV), TypeError, "upper must have the dimension of ms"),
        (lambda: bh.train.BoundsReg(9 * u.ms, 12.0), TypeError, "upper must be a Quantity"),
        (lambda: bh.train.BoundsReg(1.0, weight=0), ValueError, "weight must be greater than zero"),
        (lambda: bh.train.BoundsReg(1 * u.ms).loss(1 * u.mV), TypeError, "the parameter must have the dimension of ms"),
        (
            lambda: bh.train.BoundsReg(0.0, 1.0).loss(jnp.ones(2) * u.ms),
            TypeError,
            r"the bounds have no unit, but the parameter is a Quantity in ms .*example BoundsReg\(upper=1. \* u.ms\)",
        ),
        (lambda: bh.train.BoundsReg(1 * u.ms).sample_init((2,)), ValueError, "lower and upper are both required"),
    ],
)
def test_wrong_bounds(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"BoundsReg: .*{match}"):
        make()
