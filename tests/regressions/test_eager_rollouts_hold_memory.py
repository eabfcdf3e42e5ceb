"""Rollouts outside of jit, one after the other.

Each held 0.7 to 1.4 MiB for good, in JAX's caches of single operations and of converted functions (field case 15).
"""

import gc

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Jaxpr

import brainhw as bh

XS = jnp.asarray(np.random.default_rng(0).random((8, 4, 6)) < 0.6, jnp.float32)


def lif():
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(6, 8), bh.nn.LIFLayer(8, tau=20 * u.ms))


def h1():
    return brainstate.nn.Sequential(bh.nn.H1v2Synapse(6, 8), bh.nn.H1v2Layer(8, tau=20 * u.ms))


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


@pytest.fixture
def few_objects():
    """Hide the millions of objects that other tests of the process left: reading them takes seconds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def programs():
    """Number of traced functions, made since ``few_objects``, that something still holds."""
    gc.collect()
    return sum(isinstance(one, Jaxpr) for one in gc.get_objects())


@pytest.mark.usefixtures("few_objects")
@pytest.mark.parametrize("options", [{}, {"layerwise": False}, {"checkpoint": 3}])
def test_nothing_that_was_traced_stays(options):
    net = lif()
    for _ in range(2):
        bh.rollout(net, XS, **options)
    before = programs()
    for _ in range(4):
        bh.rollout(net, XS, **options)
    # Each call left 11 of them, so that 4 calls would leave more than 40.
    assert programs() - before < 4


@pytest.mark.slow
@pytest.mark.parametrize("make", [lif, h1])
def test_300_rollouts_and_no_memory(make):
    net = make()
    for _ in range(30):
        bh.rollout(net, XS)
    gc.collect()
    before = resident()
    for _ in range(300):
        bh.rollout(net, XS)
    gc.collect()
    assert resident() - before < 8


@pytest.mark.slow
def test_a_million_steps_of_a_stream_and_no_memory():
    step, x = bh.stream(lif(), 1), np.ones((1, 6), np.float32)
    for _ in range(20_000):
        out = step(x)
    out.block_until_ready()
    gc.collect()
    before = resident()
    for k in range(1_000_000):
        out = step(x)
        if k % 1000 == 0:
            out.block_until_ready()
    gc.collect()
    assert step.steps == 1_020_000
    assert resident() - before < 4
