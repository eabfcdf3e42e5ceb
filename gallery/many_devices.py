"""Train on several devices, in one or several processes, with the same result as on one device.

Network and recordings are those of ``japanese_vowels_h1.py``. Each batch is distributed over a mesh of devices, and
every device has a copy of the weights. If the last batch cannot be divided evenly, every device processes all of it.
The order of the batches depends only on the seed and the epoch. The number of devices therefore changes only the
rounding errors of sums. A long training amplifies them, as it does with all rounding errors.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import numpy as np
from _training import Run, every_step, options, positive
from japanese_vowels_h1 import N_CLASSES, SpeakerNet, load
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh

import brainhw as bh

BATCH = 56  # can be divided evenly by 2, 4 and 8 devices


class Pace:
    """Callback of ``fit`` that measures the time of each epoch."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.begun = 0.0

    def __call__(self, epoch: int, numbers: Mapping[str, float] | None) -> None:
        """Record the start time of an epoch, or its duration."""
        if numbers is None:
            self.begun = time.perf_counter()
        else:
            self.times.append(time.perf_counter() - self.begun)

    @property
    def seconds(self) -> float:
        """Median duration of an epoch. The first epoch includes compilation, so it is excluded if there are others."""
        return float(np.median(self.times[1:] or self.times or [np.nan]))


def new_net(arguments: argparse.Namespace, train: bh.data.Split) -> SpeakerNet:
    """Create a network with the same weights in every process."""
    brainstate.random.seed(arguments.seed)
    net = SpeakerNet(arguments.chip)
    if arguments.init == "fluct":
        verbose = jax.process_index() == 0
        bh.init.fluct_init(net, [train], xi_target=1.0, in_range=True, key=arguments.seed, verbose=verbose)
    return net


def fit(net: SpeakerNet, train: bh.data.Split, test: bh.data.Split, mesh: Mesh, **options: Any) -> bh.train.History:
    """Train a network on a mesh of devices."""

    def loss(spikes: jax.Array, batch: bh.train.Batch) -> jax.Array:
        votes = bh.train.population_votes(spikes, N_CLASSES)
        error = braintools.metric.softmax_cross_entropy_with_integer_labels(votes, batch.y).mean()
        return error + bh.train.weight_magnitude_loss(net)

    return bh.train.fit(
        net,
        every_step(train),
        every_step(test),
        n_classes=N_CLASSES,
        loss=loss,
        batch_size=BATCH,
        learning_rate=1e-2,
        sample_chips=False,
        mesh=mesh,
        **options,
    )


def where(mesh: Mesh) -> str:
    """Return a description of a mesh."""
    several = len({device.process_index for device in mesh.devices.flat})
    words = f"{mesh.size} device" + "s" * (mesh.size > 1)
    return f"{words} in {several} processes" if several > 1 else words


def compared(ours: bh.train.History, theirs: bh.train.History) -> dict[str, tuple[float, str]]:
    """Return the differences between a run and the run on one device, as values and texts."""
    away = np.abs(ours.column("loss") / theirs.column("loss") - 1)
    lost = ours.column("validation_accuracy")[-1] - theirs.column("validation_accuracy")[-1]
    words = f"loss within {away[0]:.1e} (first epoch) and {away.max():.1e} (all) of one device"
    return {
        "loss_difference": (float(away.max()), words),
        "accuracy_difference": (float(lost), f"accuracy {lost:+.4f}"),
    }


def mesh_of(devices: list[jax.Device]) -> Mesh:
    """Return a mesh with one axis for the batch."""
    return jax.make_mesh((len(devices),), ("batch",), axis_types=(AxisType.Auto,), devices=devices)


def found_devices(arguments: argparse.Namespace) -> list[jax.Device]:
    """Return the devices to train on. Call it before any other use of JAX, which finds its devices only once."""
    n = arguments.devices
    if n is not None:
        jax.config.update(
            "jax_num_cpu_devices", n // arguments.processes
        )  # simulates CPU devices, and has no effect on GPUs
    if arguments.coordinator:
        jax.distributed.initialize(arguments.coordinator, arguments.processes, arguments.process)
    devices = jax.devices()
    if len(devices) < (n or 1):
        raise SystemExit(
            f"--devices: expected at most {len(devices)}, the number that JAX finds ({devices[0].platform}), got {n}."
        )
    return devices[:n]


def start_processes(arguments: argparse.Namespace) -> None:
    """Run this script in several processes on this machine. If one fails, end all of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, *sys.orig_argv[1:], "--coordinator", coordinator, "--process"]
    # Use CPU devices, because each process would reserve every GPU. On several machines with GPUs, start one process on
    # each machine yourself.
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    running = [subprocess.Popen([*command, str(i)], env=environment) for i in range(arguments.processes)]
    try:
        while None in (codes := [process.poll() for process in running]) and not any(codes):
            time.sleep(0.1)
    finally:
        for process in running:
            process.kill()
            process.wait()
    if any(process.returncode for process in running):
        raise SystemExit("--processes: one of the processes failed. Its error message is printed above.")


def main(arguments: argparse.Namespace) -> dict[str, float] | None:
    """Train and compare, save the results, and print the result line. The first process returns the results."""
    if arguments.processes > 1 and (arguments.devices or arguments.processes) % arguments.processes:
        raise SystemExit(
            f"--devices: must be a multiple of --processes ({arguments.processes}), got {arguments.devices}."
        )
    if arguments.processes > 1 and not arguments.coordinator:
        start_processes(arguments)
        return None
    if arguments.smoke:
        arguments.epochs = min(arguments.epochs, 2)
    devices = found_devices(arguments)
    brainstate.environ.set(dt=1.0 * u.ms)
    train, test = load(arguments.smoke)
    net, mesh, pace = new_net(arguments, train), mesh_of(devices), Pace()
    setting = f"{arguments.chip}, {arguments.init} init"
    run = Run(net, arguments, n_classes=N_CLASSES, layers=("hidden", "output"), setting=setting)
    # The first process removes an old run. The other processes must wait until it has done so.
    multihost_utils.sync_global_devices("run")
    options = run.options
    history = fit(net, train, test, mesh, **options | {"callbacks": [*options["callbacks"], pace]})
    found = {
        "devices": (mesh.size, where(mesh)),
        "seconds_per_epoch": (pace.seconds, f"{pace.seconds:.2f} s an epoch"),
    }
    if arguments.compare:
        alone, one = Pace(), mesh_of(jax.local_devices()[:1])
        kept = {"epochs": len(history.epochs), "seed": arguments.seed, "keep": "last", "progress": options["progress"]}
        reference = fit(new_net(arguments, train), train, test, one, callbacks=[alone], **kept)
        found |= compared(history, reference)
        found["seconds_per_epoch_one_device"] = (alone.seconds, f"{alone.seconds:.2f} s an epoch there")
    return None if jax.process_index() else run.finish(history, test, **found)


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=60, out="many_devices")
    parser.add_argument("--devices", type=positive, help="number of devices, simulated on a CPU (default: all)")
    parser.add_argument("--processes", type=positive, default=1, help="number of processes that share the CPU devices")
    parser.add_argument("--compare", action="store_true", help="also train on one device and print the difference")
    parser.add_argument("--coordinator", help=argparse.SUPPRESS)
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)
    main(parser.parse_args())
