"""Cost model of a training step, compared with the measurements of ``python -m benchmarks run``.

``python -m benchmarks.cost_model docs/results/speed.json`` measures five rates of this machine. From these it predicts
the time of the forward pass with the backward pass for every recurrent and feed-forward case. It prints predicted and
measured times, and predictions for GPUs. It saves ``docs/results/cost_model.json``. Run it on an idle machine. The
rates of the GPUs are taken from a data sheet or assumed.
"""

from __future__ import annotations

import argparse
import json
import math
import mmap
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import brainhw as bh
from benchmarks.machine import save
from benchmarks.speed.cases import Size, is_timed, sizes_of
from benchmarks.timing import median_ms
from brainhw.kernel.leaky import Firing, LeakyParameters, LeakyRules, LeakyState, run

LEAKY = ("lif_ff", "lif_rc", "h1v1", "h1v2", "readout", "readout_h1v1", "readout_h1v2")
FLOAT = 4  # bytes
FRESH_FROM = 32 * 2**20  # glibc keeps less memory than this, in bytes, for the next call


@dataclass(frozen=True)
class Device:
    """Five rates of a device, from which the time of a training step is predicted.

    Attributes
    ----------
    name, source : str
        Name of the device, and source of its rates.
    tall, step : float
        Floating-point operations per second in matrix products over many steps, and in matrix products of one step.
    neuron : float
        Seconds for one neuron in one step, for the forward and the backward pass together.
    launch : float
        Overhead in seconds of one step of a time loop, for the forward and the backward pass together.
    fresh : float
        Seconds per byte of memory that the operating system must allocate again in each call.
    """

    name: str
    source: str
    tall: float
    step: float
    neuron: float
    launch: float
    fresh: float


@dataclass(frozen=True)
class Work:
    """Number of operations of a training step."""

    tall: float
    step: float
    neurons: float
    loop_steps: float
    fresh: float

    def seconds(self, device: Device) -> dict[str, float]:
        """Return the time in seconds of each part of a training step on a device."""
        return {
            "products": self.tall / device.tall + self.step / device.step,
            "neurons": self.neurons * device.neuron,
            "loop": self.loop_steps * device.launch,
            "memory": self.fresh * device.fresh if self.fresh > FRESH_FROM else 0.0,
        }


def work(case: str, size: Size) -> Work:
    """Return the number of operations of the forward and the backward pass, without the gradient of the input."""
    rows = size.T * size.B
    recurrent = case != "lif_ff"
    # Matrix products of the forward pass and of the gradient of the weights, and, after the hidden layer, of the
    # gradient of its output.
    tall = 2 * 2 * rows * size.n_in * size.n + 3 * 2 * rows * size.n * size.n_out
    tall += 2 * rows * size.n**2 if recurrent else 0
    step = 2 * 2 * rows * size.n**2 if recurrent else 0
    outputs = size.n_out or size.n
    # Memory that is kept for the backward pass: the membrane potentials, the outputs, and the gradients of the outputs,
    # which the loss writes.
    fresh = FLOAT * rows * (size.n + 2 * outputs)
    layers = 2 if size.n_out else 1
    return Work(tall, step, rows * size.n, layers * size.T, fresh)


def this_machine() -> Device:
    """Measure the rates of this machine."""
    rng = np.random.default_rng(0)

    def array(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(0, 0.05, shape), jnp.float32)

    def milliseconds(function: Any, *arguments: Any) -> float:
        compiled = jax.jit(function)
        return median_ms(lambda: jax.block_until_ready(compiled(*arguments)), 15)

    m, n = 8192, 256
    tall = statistics.fmean(
        2 * m * n * n / (1e-3 * ms)
        for ms in (
            milliseconds(lambda x, w: x @ w, array(m, n), array(n, n)),
            milliseconds(lambda x, g: x.T @ g, array(m, n), array(m, n)),
        )
    )
    batch, steps = 64, 200

    def rounds(w: jax.Array, h: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda h, _: (h @ w, None), h, None, length=steps)[0]

    step = 2 * steps * batch * n * n / (1e-3 * milliseconds(rounds, array(n, n), array(batch, n)))
    rules = LeakyRules(Firing(bh.surrogate.fast_sigmoid(2.0), "subtract", True, False), lambda drive: drive)
    parameters = LeakyParameters(jnp.float32(0.95), jnp.float32(1.0), None)

    def loop(batch: int, n: int, steps: int = 32) -> float:
        def both(drives: jax.Array, gradient: jax.Array) -> jax.Array:
            state = LeakyState(jnp.zeros((batch, n)), jnp.zeros((batch, n)))
            return jax.vjp(lambda drives: run(rules, parameters, state, drives)[1].spk, drives)[1](gradient)[0]

        return 1e-3 * milliseconds(both, array(steps, batch, n), array(steps, batch, n)) / steps

    small, large = loop(1, 64), loop(64, 256)
    neuron = (large - small) / (64 * 256 - 64)
    n_numbers = 12 * 2**20
    held = np.zeros(n_numbers, np.float32)

    def fill_anew() -> None:
        # Do not use np.full, which requests huge pages.
        np.frombuffer(mmap.mmap(-1, held.nbytes), np.float32).fill(1.0)

    anew = median_ms(fill_anew, 15) - median_ms(lambda: held.fill(1.0), 15)
    return Device("this machine", "measured", tall, step, neuron, small - 64 * neuron, 1e-3 * anew / held.nbytes)


# The data sheet of the H100 SXM states 67 TFLOP/s in float32 and 3.35 TB/s. We assume half of the peak rate in matrix
# products over many steps, and a twentieth in matrix products of one step. We assume five GPU kernels of 4 us in each
# step, and 40 bytes of memory traffic for each neuron in each step.
H100 = Device("H100, assumed", "data sheet and assumptions", 33e12, 3.3e12, 40 / 3.35e12, 5 * 4e-6, 2 / 3.35e12)
FUSED = Device(
    "H100, fused loop",
    "the same with one kernel per piece of the loop",
    33e12,
    10e12,
    12 / 3.35e12,
    0.5e-6,
    2 / 3.35e12,
)
# Bandwidth and latency of a sum over GPUs. We assume 200 GB/s and 20 us in one machine, and 25 GB/s and 200 us between
# machines.
LINKS = {1: (math.inf, 0.0), 8: (200e9, 20e-6), 1000: (25e9, 200e-6)}


def _table(measured: dict[str, Any], device: Device) -> list[dict[str, Any]]:
    rows = []
    for case in LEAKY:
        for size, dims in sizes_of(case).items():
            found = [
                r
                for r in measured["results"]
                if (r["case"], r["size"], r["adapter"], r.get("mode")) == (case, size, "brainhw", "both")
            ]
            if found and is_timed(size):
                parts = {name: 1e3 * s for name, s in work(case, dims).seconds(device).items()}
                rows.append({"case": case, "size": size, **parts, "model": sum(parts.values()), "measured": found[0]})
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measured", type=Path)
    arguments = parser.parse_args()
    measured = json.loads(arguments.measured.read_text())
    device = this_machine()
    print(
        f"matrix products of many steps {device.tall / 1e9:.0f} GFLOP/s, of one step {device.step / 1e9:.0f} GFLOP/s; "
        f"one neuron in one step {1e9 * device.neuron:.2f} ns; overhead of a step of the time loop "
        f"{1e6 * device.launch:.1f} us; newly allocated memory {device.fresh * 2**20 * 1e3:.2f} ms/MiB\n"
    )
    rows = _table(measured, device)
    print("| case | size | matrix products | neurons | loop | memory | model, ms | measured, ms | measured / model |")
    print("| --- " * 9 + "|")
    for row in rows:
        shares = " | ".join(f"{row[name]:.1f}" for name in ("products", "neurons", "loop", "memory"))
        ms = row["measured"]["median_ms"]
        print(f"| {row['case']} | {row['size']} | {shares} | {row['model']:.1f} | {ms:.1f} | {ms / row['model']:.2f} |")

    dims = sizes_of("readout")["full"]
    n_bytes = FLOAT * (dims.n_in * dims.n + dims.n**2 + dims.n * dims.n_out)
    print(
        "\n| devices | batch each | device | matrix products | neurons | loop | gradients | ms per step | samples/s |"
    )
    print("| --- " * 9 + "|")
    plans = []
    for n_devices, (bandwidth, latency) in LINKS.items():
        for gpu in (H100, FUSED):
            for batch in dict.fromkeys((max(1, dims.B // n_devices), dims.B)):
                parts = work("readout", Size(dims.T, batch, dims.n_in, dims.n, dims.n_out)).seconds(gpu)
                exchanged = latency + 2 * (n_devices - 1) / n_devices * n_bytes / bandwidth
                total = sum(parts.values()) + exchanged
                plans.append({"devices": n_devices, "batch": batch, "device": gpu.name, "seconds": total, **parts})
                cells = " | ".join(f"{1e3 * parts[name]:.2f}" for name in ("products", "neurons", "loop"))
                print(
                    f"| {n_devices} | {batch} | {gpu.name} | {cells} | {1e3 * exchanged:.2f} | {1e3 * total:.2f} | "
                    f"{n_devices * batch / total:.3g} |"
                )
    kept = [{**row, "measured": row["measured"]["median_ms"]} for row in rows]
    save("cost_model", {"device": vars(device), "cases": kept, "plans": plans})


if __name__ == "__main__":
    main()
