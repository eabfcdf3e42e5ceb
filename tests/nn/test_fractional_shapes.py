"""Fractional layers whose neurons lie on several axes: the same neurons as those of a flat layer."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

SIZE, N, T = (2, 3), 6, 25
RNG = np.random.default_rng
ORDERS = RNG(0).uniform(0.3, 0.95, (2, *SIZE))
OPTIONS: dict[str, dict[str, Any]] = {
    "one order": {"alpha": 0.6},
    "terms": {"alpha": [0.3, 0.8], "coefficients": [1.0, 0.5]},
    "one order per neuron": {"alpha": ORDERS[0]},
    "both": {"alpha": ORDERS},
    "mixed": {"alpha": [0.4, ORDERS[0]], "learn_alpha": True, "learn_tau": True},
    "dense": {"alpha": ORDERS[0], "kernel": "dense", "horizon": T},
    "implicit": {"alpha": ORDERS[0], "method": "cn", "reset": "subtract"},
    "rates": {"alpha": 0.7, "method": "pred", "reset": "zero", "history": "clear"},
}


def flat(value: Any) -> Any:
    if isinstance(value, list):
        return [flat(entry) for entry in value]
    shape = np.shape(value)
    return value.reshape((*shape[:-2], N)) if len(shape) > 1 else value


@pytest.mark.slow
@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("case", OPTIONS)
def test_the_axes_change_nothing(case: str, batch: int | None) -> None:
    tau, V_th = RNG(1).uniform(5, 20, SIZE), RNG(2).uniform(0.5, 1.0, SIZE)
    options = OPTIONS[case]
    layer = bh.nn.FractionalLIFLayer(SIZE, tau=tau * u.ms, V_th=V_th * u.mV, **options)
    other = bh.nn.FractionalLIFLayer(
        N, tau=flat(tau) * u.ms, V_th=flat(V_th) * u.mV, **{name: flat(value) for name, value in options.items()}
    )
    assert layer.n_neurons == N
    assert layer.orders().shape == other.orders().shape[:1] + (SIZE if other.orders().ndim > 1 else ())
    leading = (T,) if batch is None else (T, batch)
    xs = jnp.asarray(RNG(3).normal(1.5, 1.5, (*leading, *SIZE)), jnp.float32) * u.mV
    for net in (layer, other):
        bh.prepare_net(net, batch)
    spikes, seen = bh.rollout(layer, xs, record=(".V", ".V_pre"))
    wanted, reference = bh.rollout(other, xs.reshape((*leading, N)), record=(".V", ".V_pre"))
    assert spikes.sum() > 20
    np.testing.assert_array_equal(spikes.reshape(wanted.shape), wanted)
    for name in reference:
        value = seen[name].mantissa.reshape(reference[name].shape)
        np.testing.assert_allclose(value, reference[name].mantissa, rtol=1e-5, atol=1e-6, err_msg=name)
    membrane = layer.subthreshold(xs)
    assert membrane.shape == xs.shape
    of_flat = other.subthreshold(xs.reshape((*leading, N))).mantissa
    np.testing.assert_allclose(membrane.mantissa.reshape(of_flat.shape), of_flat, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_gradients_of_orders_on_several_axes() -> None:
    xs = RNG(3).normal(1.0, 1.5, (T, 2, *SIZE))

    def gradient(size: Any) -> np.ndarray:
        shape = (size,) if isinstance(size, int) else size
        layer = bh.nn.FractionalLIFLayer(size, alpha=ORDERS[0].reshape(shape), learn_alpha=True, tau=10 * u.ms)
        bh.prepare_net(layer, 2)

        def loss() -> jax.Array:
            spikes, _ = bh.rollout(layer, jnp.asarray(xs.reshape((T, 2, *shape)), jnp.float32) * u.mV)
            return jnp.sum(spikes * jnp.arange(N).reshape(shape))

        grads = brainstate.transform.jit(brainstate.transform.grad(loss, layer.states(brainstate.ParamState)))()
        (found,) = grads.values()
        return np.asarray(found)

    found, wanted = gradient(SIZE), gradient(N)
    assert found.shape == (1, *SIZE)
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-4)


def test_orders_of_a_whole_net_take_the_shape_of_each_layer() -> None:
    net = brainstate.nn.Sequential(bh.nn.FractionalLIFLayer(SIZE), bh.nn.FractionalIFLayer(SIZE))
    bh.set_fractional_orders(net, [ORDERS[0], [0.5, ORDERS[1]]])
    assert [alpha.shape for alpha in bh.get_per_layer_alpha(net)] == [(1, *SIZE), (2, *SIZE)]
    assert [row.n_neurons for row in bh.fractional_summary(net).layers] == [N, N]
    with pytest.raises(ValueError, match=r"alpha\[0\] must be a scalar or shape \(2, 3\); got shape \(6,\)"):
        bh.set_fractional_orders(net, [np.full(6, 0.5), 0.5])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"alpha": np.full((3, 2), 0.5)}, r"alpha must be .* shape \(2, 3\) or \(terms, 2, 3\); got .*\(3, 2\)"),
        ({"alpha": np.full(3, 0.5)}, r"alpha must be .* shape \(2, 3\) .*; got an array of shape \(3,\)"),
        ({"alpha": [0.5, np.full(3, 0.5)]}, r"alpha\[1\] must be a scalar or shape \(2, 3\); got shape \(3,\)"),
        ({"tau": np.ones(3) * u.ms}, r"tau must be a scalar or shape \(2, 3\); got shape \(3,\)"),
    ],
)
def test_parameters_of_another_shape_are_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=f"FractionalLIFLayer: {match}"):
        bh.nn.FractionalLIFLayer(SIZE, **arguments)
