"""Current-based layers whose neurons lie on several axes: the same neurons as those of a flat layer."""

from __future__ import annotations

from typing import Any

import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

SIZE, B, T = (2, 3, 2), 3, 20
N = 12
KINDS = [bh.nn.CubaLIFLayer, bh.nn.ALIFLayer]


def one_each(low: float, high: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, SIZE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [None, B])
def test_the_axes_change_nothing(kind: Any, batch: int | None) -> None:
    given = {
        "tau_mem": one_each(5, 30, 0) * u.ms,
        "tau_syn": one_each(3, 20, 1) * u.ms,
        "bias": one_each(0, 0.1, 2) * u.mV,
        "V_th": one_each(0.8, 1.2, 3) * u.mV,
    }
    if kind is bh.nn.ALIFLayer:
        given |= {"tau_ahp": one_each(20, 60, 4) * u.ms, "w_ahp": one_each(-0.9, -0.1, 5) * u.mV}
    layer, flat = kind(SIZE, **given), kind(N, **{name: value.reshape(N) for name, value in given.items()})
    assert layer.in_size == layer.out_size == SIZE
    assert layer.n_neurons == N
    leading = (T,) if batch is None else (T, batch)
    xs = jnp.asarray(np.random.default_rng(6).normal(0.2, 0.4, (*leading, *SIZE)), jnp.float32) * u.mV
    record = (".V", ".I_syn", ".V_pre", ".irec", ".spk")
    for net in (layer, flat):
        bh.prepare_net(net, batch)
    spikes, seen = bh.rollout(layer, xs, record=record)
    flat_spikes, flat_seen = bh.rollout(flat, xs.reshape((*leading, N)), record=record)
    assert spikes.shape == (*leading, *SIZE)
    assert spikes.sum() > 20
    np.testing.assert_array_equal(spikes.reshape((*leading, N)), flat_spikes)
    for name in record:
        value, reference = u.get_mantissa(seen[name]), u.get_mantissa(flat_seen[name])
        np.testing.assert_array_equal(value.reshape(reference.shape), reference, err_msg=name)
    membrane = layer.subthreshold(xs)
    assert membrane.shape == xs.shape
    reference = flat.subthreshold(xs.reshape((*leading, N)))
    np.testing.assert_array_equal(membrane.reshape(reference.shape).mantissa, reference.mantissa)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"n_synapses": 2}, r"size must have one axis if n_synapses is 2; got size \(2, 3\).*size=6"),
        ({"w_rec": True}, r"size must have one axis if w_rec is passed; got size \(2, 3\).*size=6"),
        ({"V_th": np.ones(3) * u.mV}, r"V_th must be a scalar or shape \(2, 3\); got shape \(3,\)"),
        ({"tau_syn": np.ones((3, 2)) * u.ms}, r"tau_syn must be .* or shape \(2, 3, 1\); got shape \(3, 2\)"),
    ],
)
def test_what_needs_one_axis_is_refused(kind: Any, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__}: {match}"):
        kind((2, 3), **arguments)


def test_a_size_with_a_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"CubaLIFLayer: size\[1\] must be at least 1; got 0"):
        bh.nn.CubaLIFLayer((2, 0))


def test_inputs_of_another_shape_are_refused() -> None:
    layer = bh.nn.CubaLIFLayer((2, 3))
    for shape in [(6,), (3,), (3, 2), (4, 5, 2, 3)]:
        with pytest.raises(ValueError, match=r"CubaLIFLayer.update: .*shape \[2, 3\] or \[B, 2, 3\]; got shape \("):
            layer(jnp.ones(shape) * u.mV)
    with pytest.raises(ValueError, match=r"shape \(5, 2, 3\) but the state was prepared for \(2, 3\); .*batch_size=5"):
        layer(jnp.ones((5, 2, 3)) * u.mV)


@pytest.mark.parametrize("method", ["as_lif_with_ahp_synapses", "widen_input"])
def test_the_form_with_one_synapse_more_needs_one_axis(method: str) -> None:
    layer = bh.nn.ALIFLayer((2, 3))
    arguments = (jnp.ones((2, 3)) * u.mV,) if method == "widen_input" else ()
    with pytest.raises(ValueError, match=rf"ALIFLayer.{method}: the layer must have one axis.*\(2, 3\).*size=6"):
        getattr(layer, method)(*arguments)
