"""Small networks shared by tests of whole nets."""

from __future__ import annotations

from collections.abc import Callable

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

N_IN, N, N_OUT = 4, 5, 3


class TwoLayers(brainstate.nn.Module):
    """Synapse, recurrent layer, synapse, layer."""

    def __init__(self, syn1: object, hidden: object, syn2: object, out: object) -> None:
        super().__init__()
        self.syn1, self.hidden, self.syn2, self.out = syn1, hidden, syn2, out

    def update(self, x: jax.Array) -> jax.Array:
        return self.out(self.syn2(self.hidden(self.syn1(x))))


class OneLayer(brainstate.nn.Module):
    """Synapse and recurrent layer: a small net for tests that compile often."""

    def __init__(self, syn: object, hidden: object) -> None:
        super().__init__()
        self.syn, self.hidden = syn, hidden

    def update(self, x: jax.Array) -> jax.Array:
        return self.hidden(self.syn(x))


def _lif() -> TwoLayers:
    return TwoLayers(
        bh.nn.LIFSynapse(N_IN, N),
        bh.nn.LIFLayer(N, tau=10 * u.ms, topology="RC"),
        bh.nn.LIFSynapse(N, N_OUT, weight_init=np.random.default_rng(3).normal(0.3, 0.5, (N, N_OUT)) * u.mV),
        bh.nn.LIFLayer(N_OUT, tau=20 * u.ms, reset="zero"),
    )


def _chip(synapse: type, layer: type) -> TwoLayers:
    rng = np.random.default_rng(11)
    return TwoLayers(
        synapse(N_IN, N, weight_init=rng.uniform(-0.3, 0.9, (N_IN, N))),
        layer(N, tau=10 * u.ms, topology="RC"),
        synapse(N, N_OUT, weight_init=rng.uniform(0.5, 4.0, (N, N_OUT))),
        layer(N_OUT, tau=20 * u.ms),
    )


@pytest.fixture(scope="session")
def make_net() -> Callable[[str], brainstate.nn.Module]:
    """Build a net of the given kind, the same one every time."""

    def make(kind: str) -> brainstate.nn.Module:
        brainstate.random.seed(4)
        if kind == "lif":
            return _lif()
        return {
            "H1v1": lambda: _chip(bh.nn.H1v1Synapse, bh.nn.H1v1Layer),
            "H1v2": lambda: _chip(bh.nn.H1v2Synapse, bh.nn.H1v2Layer),
            "one layer": lambda: OneLayer(bh.nn.H1v1Synapse(N_IN, N), bh.nn.H1v1Layer(N, tau=10 * u.ms, topology="RC")),
        }[kind]()

    return make


@pytest.fixture(scope="session")
def make_input() -> Callable[..., jax.Array]:
    """Analog input ``[T, B, N_IN]`` strong enough to make every kind of net spike."""

    def make(n_steps: int = 20, batch_size: int | None = 2, seed: int = 0) -> jax.Array:
        shape = (n_steps, N_IN) if batch_size is None else (n_steps, batch_size, N_IN)
        return jnp.asarray(np.random.default_rng(seed).random(shape) * 12, dtype=jnp.float32)

    return make
