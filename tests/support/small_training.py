"""A network of two layers of LIF neurons, two classes of spike trains, and a training that takes milliseconds."""

from __future__ import annotations

from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import numpy as np

import brainhw as bh

RNG = np.random.default_rng(0)
Y = np.arange(20) % 2
X = (RNG.random((20, 30, 4)) < (0.2 + 0.5 * (Y[:, None, None] == (np.arange(4) % 2)))).astype(np.float32)


def net(seed: int = 0) -> brainstate.nn.Module:
    brainstate.random.seed(seed)
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(4, 8, weight_init=braintools.init.Normal(0.0 * u.mV, 6.0 * u.mV)),
        bh.nn.LIFLayer(8, tau=20 * u.ms),
        bh.nn.LIFSynapse(8, 2, weight_init=braintools.init.Normal(3.0 * u.mV, 4.0 * u.mV)),
        bh.nn.LIFLayer(2, tau=20 * u.ms),
    )


def loss(outputs: jax.Array, batch: Any) -> jax.Array:
    return braintools.metric.softmax_cross_entropy_with_integer_labels(outputs.sum(axis=0), batch.y).mean()


def accuracy(outputs: jax.Array, batch: Any) -> jax.Array:
    return bh.train.accuracy(outputs, batch.y)


def train(model: Any, data: Any = (X, Y), validation: Any = None, **options: Any) -> bh.train.History:
    given = {"loss": loss, "metrics": {"accuracy": accuracy}, "epochs": 4, "batch_size": 8, "learning_rate": 0.5}
    return bh.train.fit(model, data, validation, progress=False, **{**given, **options})
