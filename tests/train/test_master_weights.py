from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import brainhw as bh
from brainhw.train.master_weights import with_master_weights

HALF = {"bf16": jnp.bfloat16, 16: jnp.float16}


@pytest.mark.parametrize("dtype", HALF.values())
def test_weights_are_the_rounded_weights_of_float32(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    start = {"a": jnp.asarray(rng.normal(size=(4, 3)), dtype), "b": jnp.asarray(rng.normal(size=3), jnp.float32)}
    gradients = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), start)
    adam = optax.adam(1e-4)

    def after(tx: optax.GradientTransformation, weights: Any, gradients: Any) -> Any:
        state = tx.init(weights)
        for _ in range(30):
            steps, state = tx.update(gradients, state, weights)
            weights = optax.apply_updates(weights, steps)
        return weights

    found = after(with_master_weights(adam), start, gradients)
    wide = after(adam, *(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree) for tree in (start, gradients)))
    assert found["a"].dtype == dtype
    np.testing.assert_array_equal(found["a"], wide["a"].astype(dtype))
    np.testing.assert_array_equal(found["b"], wide["b"])


def test_a_weight_that_was_clipped_goes_on_from_its_new_value() -> None:
    tx = with_master_weights(optax.sgd(1.0))
    weights = jnp.asarray([1.0, 1.0], jnp.bfloat16)
    state = tx.init(weights)
    step, state = tx.update(jnp.asarray([-1e-3, -1e-3], jnp.bfloat16), state, weights)
    weights = optax.apply_updates(weights, step)
    assert weights.tolist() == [1.0, 1.0]  # below half the spacing
    np.testing.assert_allclose(state.weights, 1.001, atol=1e-5)
    weights = weights.at[1].set(0.5)
    _, state = tx.update(jnp.zeros(2, jnp.bfloat16), state, weights)
    np.testing.assert_allclose(state.weights, [1.001, 0.5], atol=1e-5)


@pytest.fixture(params=HALF, ids=str)
def precision(request: pytest.FixtureRequest) -> Iterator[Any]:
    with brainstate.environ.context(precision=request.param):
        yield request.param


def task() -> tuple[brainstate.nn.Module, bh.data.Split]:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 32)
    x = (rng.random((32, 20, 6)) < np.where(y[:, None, None] == np.arange(6) % 2, 0.5, 0.1)).astype(np.float32)
    net = brainstate.nn.Sequential(bh.nn.LIFSynapse(6, 4), bh.nn.LIFLayer(4, tau=20 * u.ms))
    return net, bh.data.Split(x, y)


def test_fit_trains_in_half_precision_and_stays_finite(precision: Any) -> None:
    net, split = task()
    history = bh.train.fit(net, split, n_classes=2, epochs=6, batch_size=16, learning_rate=0.05, progress=False)
    weight = net.layers[0].weight.value.mantissa
    assert weight.dtype == HALF[precision]
    assert np.isfinite(np.asarray(weight, np.float32)).all()
    losses = history.column("loss")
    assert losses[-1] < losses[0]


@pytest.mark.filterwarnings("ignore:fit. .* of 32 recordings")
def test_an_optimizer_of_the_user_warns_of_lost_updates(precision: Any) -> None:
    net, split = task()
    own = braintools.optim.OptaxOptimizer(tx=optax.sgd(1e-3))
    with pytest.warns(UserWarning, match=r"fit: optimizer updates the weights in half precision.*0\.2 %.*optimizer"):
        bh.train.fit(net, split, n_classes=2, epochs=1, batch_size=16, optimizer=own, progress=False)
