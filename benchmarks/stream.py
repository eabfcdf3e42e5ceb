"""Latency of real-time inference with ``brainhw.stream``: one call per step, one sample, one core.

``python -m benchmarks.stream`` waits for each result before it passes the next input. It prints the median, the 1 %
quantile and the 99 % quantile of the time of a step. To show changes during the run, it also prints medians over tenths
of the steps, and the memory at the start, half-way and at the end. It saves ``docs/results/stream.json``. The process
uses one core. ``--cores`` allows more.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import numpy as np

import brainhw as bh
from benchmarks.machine import machine, save

N = 256
TAU = 10.0 * u.ms


def h1(synapse: type, layer: type, sizes: tuple[int, ...]) -> brainstate.nn.Sequential:
    """Return a network of recurrent chip layers of these sizes, each after a synapse."""
    modules: list[Any] = []
    for n_in, n in itertools.pairwise(sizes):
        modules += [synapse(n_in, n), layer(n, tau=TAU, topology="RC")]
    return brainstate.nn.Sequential(*modules)


def lif(n_in: int) -> brainstate.nn.Sequential:
    """Return a network of one synapse and one recurrent LIF layer."""
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(n_in, N), bh.nn.LIFLayer(N, tau=TAU, topology="RC"))


def fractional(n_in: int) -> brainstate.nn.Sequential:
    """Return a network of one synapse and one fractional layer with its default kernel."""
    return brainstate.nn.Sequential(bh.nn.LIFSynapse(n_in, N), bh.nn.FractionalLIFLayer(N, alpha=0.6, tau=TAU))


NETS: dict[str, tuple[int, Callable[[], brainstate.nn.Module]]] = {
    "H1v1, 16 inputs": (16, lambda: h1(bh.nn.H1v1Synapse, bh.nn.H1v1Layer, (16, N))),
    "H1v1, 256 inputs": (256, lambda: h1(bh.nn.H1v1Synapse, bh.nn.H1v1Layer, (256, N))),
    "H1v1, 3 layers of 96, 96 and 64": (16, lambda: h1(bh.nn.H1v1Synapse, bh.nn.H1v1Layer, (16, 96, 96, 64))),
    "H1v2, 16 inputs": (16, lambda: h1(bh.nn.H1v2Synapse, bh.nn.H1v2Layer, (16, N))),
    "LIF, 256 inputs": (256, lambda: lif(256)),
    "fractional, 256 inputs": (256, lambda: fractional(256)),
}


def resident_mib() -> float:
    """Return the resident memory of the process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(net: brainstate.nn.Module, n_in: int, n_steps: int) -> dict[str, Any]:
    """Stream noise through a network, and return latencies in microseconds and memory in MiB."""
    rng = np.random.default_rng(0)
    inputs = 10 * rng.random((64, 1, n_in), dtype=np.float32)
    step = bh.stream(net)
    for i in range(1000):
        jax.block_until_ready(step(inputs[i % 64]))
    step.reset()
    microseconds = np.empty(n_steps)
    microseconds.fill(0)  # filled now, so that its memory is not counted as growth later
    memory, n_spikes, now = [resident_mib()], 0.0, time.perf_counter
    for i in range(n_steps):
        x = inputs[i % 64]
        started = now()
        spikes = step(x).block_until_ready()
        microseconds[i] = now() - started
        if i % 1000 == 0:
            n_spikes += float(spikes.sum())
        if i + 1 in (n_steps // 2, n_steps):
            memory.append(resident_mib())
    microseconds *= 1e6
    low, median, high = np.quantile(microseconds, (0.01, 0.5, 0.99))
    return {
        "median_us": round(median, 1),
        "quantile_1_us": round(low, 1),
        "quantile_99_us": round(high, 1),
        "longest_us": round(microseconds.max(), 1),
        "median_of_tenths_us": [round(np.median(part), 1) for part in np.array_split(microseconds, 10)],
        "memory_mib": [round(mib, 1) for mib in memory],
        "spikes_a_step": round(n_spikes / len(range(0, n_steps, 1000)), 1),
    }


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--nets", nargs="*", default=list(NETS), choices=list(NETS))
    arguments = parser.parse_args()
    # Set the cores before the first computation, because XLA counts them when it starts its threads.
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: arguments.cores]))
    brainstate.environ.set(dt=1.0 * u.ms)
    brainstate.random.seed(0)
    results = {name: measure(NETS[name][1](), NETS[name][0], arguments.steps) for name in arguments.nets}
    on, load = machine(), os.getloadavg()[0]
    versions = ", ".join(f"{name} {version}" for name, version in on["versions"].items())
    print(f"{arguments.steps} steps, {arguments.cores} core(s), load {load:.1f}, Python {on['python']}, {versions}\n")
    print("| network | median | 1 % | 99 % | median of the first, the slowest and the last tenth | memory, MiB |")
    print("|---|---|---|---|---|---|")
    for name, seen in results.items():
        tenths = seen["median_of_tenths_us"]
        print(
            f"| {name} | {seen['median_us']} us | {seen['quantile_1_us']} us | {seen['quantile_99_us']} us "
            f"| {tenths[0]}, {max(tenths)}, {tenths[-1]} us | {', '.join(map(str, seen['memory_mib']))} |"
        )
    save("stream", {"load": round(load, 1), "steps": arguments.steps, "cores": arguments.cores, "nets": results})


if __name__ == "__main__":
    main()
