"""Train a tiny net on one device and on meshes of devices, and write losses, gradients and predictions of every step.

Run by ``tests/gallery/test_many_devices.py`` in processes of its own: devices are counted once, at the first use of JAX.
"""

from __future__ import annotations

import argparse
import faulthandler
from pathlib import Path
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import brainhw as bh

N_STEPS, N_IN, N_OUT = 20, 8, 6
WHOLE, ROWS, TIME_AND_ROWS = PartitionSpec(), PartitionSpec("batch"), PartitionSpec(None, "batch")


def build(kind: str) -> brainstate.nn.Module:
    """Return the same lively net in every process."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(-0.2, 0.6, (N_IN, N_OUT))
    if kind == "h1v1":
        layer = bh.nn.H1v1Layer(
            N_OUT, tau=20.0 * u.ms, topology="RC", recurrent_init=rng.uniform(-0.5, 0.5, (N_OUT, N_OUT))
        )
        return brainstate.nn.Sequential(bh.nn.H1v1Synapse(N_IN, N_OUT, weight_init=weights), layer)
    synapse = bh.nn.LIFSynapse(N_IN, N_OUT, weight_init=weights * 0.3 * u.mV)
    # A steep surrogate would turn the rounding of a membrane near its threshold into a difference of gradients.
    return brainstate.nn.Sequential(
        synapse, bh.nn.LIFLayer(N_OUT, tau=20.0 * u.ms, spk_fun=bh.surrogate.fast_sigmoid(5.0))
    )


def data(batch: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs ``[steps, T, B, N]`` and classes ``[steps, B]``."""
    rng = np.random.default_rng(1)
    x = rng.random((steps, N_STEPS, batch, N_IN)).astype(np.float32)
    return x, rng.integers(0, N_OUT, (steps, batch)).astype(np.int32)


def train(kind: str, mesh: Mesh | None, batch: int = 8, steps: int = 4) -> dict[str, np.ndarray]:
    """Take optimiser steps, on the default device or with the batch spread over a mesh."""
    net = build(kind)
    weights = net.states(brainstate.ParamState)
    if mesh is not None:
        for state in weights.values():
            state.value = jax.device_put(state.value, NamedSharding(mesh, WHOLE))
    optimizer = braintools.optim.Adam(1e-2)
    optimizer.register_trainable_weights(weights)

    def loss(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        spikes, _ = bh.rollout(net, x)
        votes = spikes.sum(axis=0)
        return braintools.metric.softmax_cross_entropy_with_integer_labels(votes, y).mean(), votes

    gradient = brainstate.transform.grad(loss, weights, has_aux=True, return_value=True)

    @brainstate.transform.jit
    def step(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
        grads, value, votes = gradient(x, y)
        optimizer.update(grads)
        return value, votes, grads

    found: dict[str, list[np.ndarray]] = {}
    for inputs, classes in zip(*data(batch, steps), strict=True):
        x, y = inputs, classes
        if mesh is not None:
            x, y = spread(inputs, mesh, TIME_AND_ROWS), spread(classes, mesh, ROWS)
        value, votes, grads = step(x, y)
        if mesh is not None:
            check_spread(votes, mesh)
        found.setdefault("loss", []).append(np.asarray(value))
        # Of the predictions this process sees only its own rows.
        found.setdefault("votes", []).append(np.concatenate([shard.data for shard in votes.addressable_shards]))
        for path, grad in grads.items():
            found.setdefault("grad/" + "/".join(map(str, path)), []).append(np.asarray(u.get_mantissa(grad)))
    if mesh is not None:
        for state in net.states(brainstate.HiddenState).values():
            check_spread(u.get_mantissa(state.value), mesh)
        program = step.compile(x, y).as_text()
        assert "all-reduce" in program, "the gradients are not summed over the devices"
    return {name: np.stack(values) for name, values in found.items()}


def score_chips(coordinated: bool) -> dict[str, np.ndarray]:
    """Score eight sampled chips on one device, and together: over all devices, or a share in each process."""
    net = build("h1v1")
    xs = jnp.asarray(data(3, 1)[0][0])

    def score(net: brainstate.nn.Module) -> jax.Array:
        spikes, _ = bh.rollout(net, xs)
        return (spikes * jnp.arange(1, N_STEPS + 1)[:, None, None] ** 2).sum()

    def scores(keys: Any, **options: Any) -> np.ndarray:
        return bh.deploy.robustness(net, score, key=keys, pbar=False, **options).scores

    keys = jax.random.split(jax.random.key(0), 8)
    if not coordinated:
        return {"chips/alone": scores(keys), "chips/spread": scores(keys, devices=jax.devices())}
    mine = keys[jax.process_index() :: jax.process_count()]
    every = multihost_utils.process_allgather(scores(mine, devices=jax.local_devices()))
    return {"chips/shared": every.T.ravel()}


def spread(array: np.ndarray, mesh: Mesh, spec: PartitionSpec) -> jax.Array:
    """Put a batch on the mesh, this process giving only its own rows."""
    axis = spec.index("batch")
    mine = np.array_split(array, jax.process_count(), axis=axis)[jax.process_index()]
    return jax.make_array_from_process_local_data(NamedSharding(mesh, spec), mine)


def check_spread(array: jax.Array, mesh: Mesh) -> None:
    """See that every device of the mesh holds rows of its own."""
    held = {str(shard.index) for shard in array.addressable_shards}
    assert array.sharding.device_set == set(mesh.devices.flat), array.sharding
    assert len(held) == len(mesh.local_devices), array.sharding


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--devices", type=int, nargs="*", default=[])
    parser.add_argument("--coordinator")
    parser.add_argument("--process", type=int)
    options = parser.parse_args()
    faulthandler.dump_traceback_later(350, exit=True)  # before the test loses patience, so that it can say where
    if options.coordinator:
        jax.distributed.initialize(options.coordinator, 2, options.process, initialization_timeout=60)
        assert jax.process_count() == 2
    brainstate.environ.set(dt=1.0 * u.ms)
    results: dict[str, Any] = {}
    for kind in ("h1v1", "lif"):
        if not options.coordinator:
            results |= {f"{kind}/0/{name}": value for name, value in train(kind, None).items()}
        for n in options.devices:
            mesh = jax.make_mesh((n,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:n])
            results |= {f"{kind}/{n}/{name}": value for name, value in train(kind, mesh).items()}
    results |= score_chips(bool(options.coordinator))
    np.savez(options.out, **results)
    if options.coordinator:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main()
