"""Train on several devices at once, in one process or in several, and get what one device gives.

The network and the recordings of japanese_vowels_h1.py, with every batch spread over a mesh of devices and the weights
on all of them. The order of the batches depends on seed and epoch alone, and a batch that the devices cannot share
evenly is filled up with silent recordings that count for nothing. So the number of devices changes nothing but the
rounding of sums, which a long training amplifies like any other rounding.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from _saving import make_folder
from _training import Run, options, positive
from japanese_vowels_h1 import N_CLASSES, SpeakerNet, load
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import brainhw as bh


class SharedRun(Run):
    """A training run whose batches are spread over a mesh of devices."""

    def __init__(
        self, net: brainstate.nn.Module, arguments: argparse.Namespace, mesh: Mesh, *, saves: bool, **kw: Any
    ) -> None:
        # A run may be resumed on another number of devices, so that number is no part of what it is.
        own = ("devices", "processes", "process", "coordinator", "compare")
        super().__init__(net, argparse.Namespace(**{k: v for k, v in vars(arguments).items() if k not in own}), **kw)
        self.mesh, self.saves, self.at_home = mesh, saves, False
        # A bar that is switched on overrules who switched all of them off.
        self.bar = {"desc": self.where, **({"disable": True} if jax.process_index() else {})}
        self.reference: SharedRun | None = None

    def place(self, batch: bh.data.Split) -> tuple[jax.Array, jax.Array]:
        """Put recordings ``[T, B, N]`` and classes ``[B]`` on the mesh, each device holding its own rows."""
        if self.at_home:
            return super().place(batch)
        missing = -len(batch) % self.mesh.size
        x = np.swapaxes(np.pad(batch.x, ((0, missing), (0, 0), (0, 0))), 0, 1)
        y = np.pad(batch.y, (0, missing), constant_values=-1)
        whole = ((x, PartitionSpec(None, "batch")), (y, PartitionSpec("batch")))
        x, y = (
            jax.make_array_from_callback(array.shape, NamedSharding(self.mesh, spec), array.__getitem__)
            for array, spec in whole
        )
        return x, y

    def score(self, outputs: jax.Array, y: jax.Array) -> jax.Array:
        """Return the share of right recordings among those that are there."""
        return super().score(outputs, y) * len(y) / jnp.sum(y >= 0)

    def ready(self) -> None:
        """Put the weights on all devices; with several processes, so that all start from the same."""
        super().ready()
        for state in self.weights.values():
            state.value = jax.device_put(state.value, NamedSharding(self.mesh, PartitionSpec()))

    def bring_home(self) -> None:
        """Make the net an ordinary one again, with everything on the first device of this process."""
        for state in self.weights.values():
            state.value = jax.tree.map(lambda array: jnp.asarray(np.asarray(array)), state.value)
        bh.prepare_net(self.net)
        self.at_home = True

    def save(self) -> None:
        """Write the run, from one of the processes."""
        if self.saves:
            super().save()

    @property
    def where(self) -> str:
        """What the run runs on."""
        several = len({device.process_index for device in self.mesh.devices.flat})
        words = f"{self.mesh.size} device" + "s" * (self.mesh.size > 1)
        return f"{words} in {several} processes" if several > 1 else words

    @property
    def pace(self) -> float:
        """Seconds of a typical epoch; the first, which compiles, only if there is no other."""
        return float(np.median(self.epoch_seconds[1:] or self.epoch_seconds or [np.nan]))

    def examine(self) -> dict[str, tuple[float, str]]:
        """Add devices and pace, and how far the run is from that on one device."""
        found = {
            **super().examine(),
            "devices": (self.mesh.size, self.where),
            "seconds_per_epoch": (self.pace, f"{self.pace:.2f} s an epoch"),
        }
        if self.reference is not None:
            ours, theirs = (np.array([h["loss"] for h in run.history]) for run in (self, self.reference))
            away = np.abs(ours - theirs) / theirs
            lost = self.history[-1]["test_accuracy"] - self.reference.history[-1]["test_accuracy"]
            words = f"loss within {away[0]:.1e} (first epoch) and {away.max():.1e} (all) of one device"
            found["loss_difference"] = (float(away.max()), words)
            found["accuracy_difference"] = (lost, f"accuracy {lost:+.4f}")
            pace = self.reference.pace
            found["seconds_per_epoch_one_device"] = (pace, f"{pace:.2f} s an epoch there")
        return found


def trained(
    arguments: argparse.Namespace, train: bh.data.Split, test: bh.data.Split, mesh: Mesh, *, saves: bool
) -> SharedRun:
    """Build the net and train it on a mesh."""
    brainstate.random.seed(arguments.seed)
    net = SpeakerNet(arguments.chip)
    if arguments.init == "fluct":
        bh.init.fluct_init(net, [train], xi_target=1.0, in_range=True, key=arguments.seed, verbose=saves)

    def loss(x: jax.Array, y: jax.Array, _: jax.Array) -> tuple[jax.Array, jax.Array]:
        spikes, _ = bh.rollout(net, x)
        real = y >= 0
        votes = bh.train.population_votes(spikes, N_CLASSES)
        errors = braintools.metric.softmax_cross_entropy_with_integer_labels(votes, jnp.maximum(y, 0))
        error = jnp.sum(errors * real) / real.sum() + bh.train.weight_magnitude_loss(net)
        return error, run.score(spikes, y)

    run = SharedRun(
        net,
        arguments,
        mesh,
        n_train=len(train),
        n_classes=N_CLASSES,
        learning_rate=1e-2,
        batch_size=54,
        layers=("hidden", "output"),
        saves=saves,
    )
    run.train(train, test, loss)
    run.bring_home()
    return run


def mesh_of(devices: list[jax.Device]) -> Mesh:
    """Return a mesh with one axis, along which batches are spread."""
    return jax.make_mesh((len(devices),), ("batch",), axis_types=(AxisType.Auto,), devices=devices)


def found_devices(arguments: argparse.Namespace) -> list[jax.Device]:
    """Return the devices to train on; JAX counts them once, so nothing may have touched one before."""
    n = arguments.devices
    if n is not None:
        jax.config.update("jax_num_cpu_devices", n // arguments.processes)  # simulated ones; GPUs are as they are
    if arguments.coordinator:
        jax.distributed.initialize(arguments.coordinator, arguments.processes, arguments.process)
    devices = jax.devices()
    if len(devices) < (n or 1):
        raise SystemExit(f"--devices: {n} were asked for, JAX finds {len(devices)} ({devices[0].platform}).")
    return devices[:n]


def start_processes(arguments: argparse.Namespace) -> None:
    """Run this script in several processes on this machine, and end all as soon as one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, *sys.orig_argv[1:], "--coordinator", coordinator, "--process"]
    # Each would reserve every GPU for itself; on several machines, with their own GPUs, none of this is needed.
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
        raise SystemExit("--processes: one of them failed; its message stands above.")


def main(arguments: argparse.Namespace) -> dict[str, float] | None:
    """Train, compare, save, and print the result line; return its numbers, in the first process."""
    if arguments.processes > 1 and (arguments.devices or arguments.processes) % arguments.processes:
        raise SystemExit(f"--devices: {arguments.devices} cannot be shared by {arguments.processes} processes evenly.")
    if arguments.processes > 1 and not arguments.coordinator:
        start_processes(arguments)
        return None
    if arguments.smoke:
        arguments.epochs = min(arguments.epochs, 2)
    make_folder(arguments.out)
    devices = found_devices(arguments)
    brainstate.environ.set(dt=1.0 * u.ms)
    train, test = load(arguments.smoke)
    run = trained(arguments, train, test, mesh_of(devices), saves=jax.process_index() == 0)
    if arguments.compare:
        alone = argparse.Namespace(**{**vars(arguments), "resume": False})
        run.reference = trained(alone, train, test, mesh_of(jax.local_devices()[:1]), saves=False)
    if jax.process_index():
        return None
    return run.finish(test)


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=60, out="many_devices")
    parser.add_argument("--devices", type=positive, help="how many in all; on a CPU they are simulated (default: all)")
    parser.add_argument("--processes", type=positive, default=1, help="how many share the devices, on this CPU")
    parser.add_argument("--compare", action="store_true", help="train on one device as well and give the difference")
    parser.add_argument("--coordinator", help=argparse.SUPPRESS)
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)
    main(parser.parse_args())
