"""Memory and time of a training step over a long sequence, with and without checkpointing.

Run ``python -m benchmarks.rollout_memory`` on an idle machine. It prints the machine and a Markdown table.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import time

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import brainhw as bh

N_OUT = 10


class Net(brainstate.nn.Module):
    """A dense synapse, a LIF layer of the same size, and a leaky readout.

    The readout is small, because every time loop keeps the outputs of all steps. The outputs of a wide readout would
    need more memory than the rest of the loop.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.synapse = bh.nn.LIFSynapse(n, n)
        self.layer = bh.nn.LIFLayer(n, tau=20 * u.ms)
        self.readout = bh.nn.LeakyReadout(n, N_OUT, tau=20 * u.ms)

    def update(self, x: jax.Array) -> jax.Array:
        """Advance one step."""
        return self.readout(self.layer(self.synapse(x)))


def measure(run: str, x: jax.Array, repeats: int) -> dict[str, float]:
    """Return the memory for temporary arrays in MiB, and the times to compile and to run a training step in seconds."""
    brainstate.random.seed(0)
    net = Net(x.shape[-1])
    weights = net.states(brainstate.ParamState)

    def outputs(x: jax.Array) -> jax.Array:
        if run == "for_loop":
            bh.prepare_net(net, x.shape[1])
            return brainstate.transform.for_loop(net.update, x)
        if run == "checkpointed_for_loop":
            bh.prepare_net(net, x.shape[1])
            return brainstate.transform.checkpointed_for_loop(net.update, x)
        return bh.rollout(net, x, checkpoint="auto" if run == 'rollout(checkpoint="auto")' else None)[0]

    labels = jnp.arange(x.shape[1]) % N_OUT

    def loss(x: jax.Array) -> jax.Array:
        return braintools.metric.softmax_cross_entropy_with_integer_labels(outputs(x).mean(axis=0), labels).mean()

    gradient = brainstate.transform.grad(loss, weights, return_value=True)
    step = brainstate.transform.jit(gradient)
    start = time.perf_counter()
    compiled = step.compile(x)
    seconds = time.perf_counter() - start
    result = {"temp MiB": compiled.memory_analysis().temp_size_in_bytes / 2**20, "compile s": seconds}
    times = []
    for i in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(step(x))
        if i:
            times.append(time.perf_counter() - start)
    result["run s"] = statistics.median(times) if times else float("nan")
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--neurons", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--checkpointed",
        action="store_true",
        help="also measure checkpointed_for_loop (takes minutes, because its gradient is quadratic in T)",
    )
    arguments = parser.parse_args()
    brainstate.environ.set(dt=1.0 * u.ms)
    shape = (arguments.steps, arguments.batch, arguments.neurons)
    x = jnp.asarray(np.random.default_rng(0).random(shape) < 0.05, jnp.float32)

    versions = {name: importlib.metadata.version(name) for name in ("jax", "brainstate", "braintools")}
    print(f"T={shape[0]} B={shape[1]} N={shape[2]}, float32, synapse + LIF + leaky readout, forward and backward")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, {versions}\n")
    print("| loop | temp MiB | compile s | run s (median) |\n| --- | --- | --- | --- |")
    runs = ["for_loop", "rollout()", 'rollout(checkpoint="auto")']
    for run in runs + ["checkpointed_for_loop"] * arguments.checkpointed:
        repeats = 1 if run == "checkpointed_for_loop" else arguments.repeats
        r = measure(run, x, repeats)
        print(f"| `{run}` | {r['temp MiB']:.1f} | {r['compile s']:.2f} | {r['run s']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
