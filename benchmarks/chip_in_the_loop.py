"""Accuracy on virtual chips that differ strongly from the preset, and time of a training step in the loop.

``python -m benchmarks.chip_in_the_loop --digits FOLDER`` runs ``gallery/chip_in_the_loop.py`` for the vowels and the
spoken digits on both chip families, with three virtual chips each. It also measures the time of a training step in the
loop and of a plain training step in the same process. It writes ``docs/results/chip_in_the_loop.json``. Run it on an
idle machine. The load of the machine is saved with the times. Without ``--digits`` the digits are omitted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import numpy as np

import brainhw as bh
from benchmarks.machine import PROJECT, save

MODULES = {"h1v1": (bh.nn.H1v1Synapse, bh.nn.H1v1Layer), "h1v2": (bh.nn.H1v2Synapse, bh.nn.H1v2Layer)}
# Measure TURNS times, alternating between the kinds of steps. In each turn, STEPS steps of one kind run in a row, as in
# training.
TURNS, STEPS = 12, 10


def study(task: str, family: str, folder: Path, root: str | None) -> dict[str, Any]:
    """Run the script of the gallery, and return its mean accuracies as a row."""
    script = PROJECT / "gallery" / "chip_in_the_loop.py"
    options = ["--task", task, "--chip", family, "--out", str(folder)]
    subprocess.run([sys.executable, str(script), *options, *(["--root", root] if root else [])], check=True)
    content = json.loads((folder / f"{task}_{family}.json").read_text(encoding="utf-8"))
    rows = {name: round(value, 4) for name, value in content["mean"].items()}
    return {"task": task, "family": family, "on the preset": round(content["on_the_preset"], 4), **rows}


class Net(brainstate.nn.Module):
    """The network of two layers for the vowels."""

    def __init__(self, family: str) -> None:
        super().__init__()
        synapse, layer = MODULES[family]
        self.to_hidden = synapse(24, 100, weight_bits="chip")
        self.hidden = layer(100, tau=20 * u.ms)
        self.to_output = synapse(100, 45, weight_bits="chip")
        self.output = layer(45, tau=20 * u.ms)

    def update(self, x: jax.Array) -> jax.Array:
        """Advance one step."""
        return self.output(self.to_output(self.hidden(self.to_hidden(x))))


def loss(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Return the cross-entropy of the votes of the output populations."""
    votes = bh.train.population_votes(outputs, 9)
    return braintools.metric.softmax_cross_entropy_with_integer_labels(votes, y).mean()


def plain_step(net: brainstate.nn.Module, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """Return a training step that uses only the model, without a device."""
    optimizer = braintools.optim.Adam(lr=1e-3)
    weights = net.states(brainstate.ParamState)
    optimizer.register_trainable_weights(weights)
    gradient = brainstate.transform.grad(lambda x, y: loss(bh.rollout(net, x)[0], y), weights, return_value=True)

    @brainstate.transform.jit
    def step(x: jax.Array, y: jax.Array) -> jax.Array:
        gradients, value = gradient(x, y)
        optimizer.update(gradients)
        bh.train.clip_weights(net)
        return value

    return lambda: float(step(x, y))


class Replay:
    """A bench that takes no time, because it always returns the same recording."""

    def __init__(self, recording: bh.silicon.Recording) -> None:
        self._recording = recording

    def program(self, program: bh.silicon.ChipProgram) -> None:
        """Accept any program."""

    def run(self, x: np.ndarray) -> bh.silicon.Recording:
        """Return the recording."""
        return self._recording


def overhead(family: str) -> dict[str, Any]:
    """Return the median times in ms of a plain training step and of steps in the loop."""
    rng = np.random.default_rng(0)
    x = (rng.random((116, 54, 24)) < 0.2).astype(np.float32)
    y = rng.integers(0, 9, 54)
    found: dict[str, Any] = {"family": family, "load": round(os.getloadavg()[0], 1)}
    steps = {"plain, ms": plain_step(Net(family), x, y)}

    def in_the_loop(name: str, device: bh.silicon.Device) -> bh.silicon.InTheLoop:
        loop = bh.silicon.InTheLoop(Net(family), device, loss=loss, optimizer=braintools.optim.Adam(lr=1e-3))
        steps[name] = lambda: loop.step(x, y)
        return loop

    chip = bh.silicon.scaled_chip(
        bh.chip.get_chip(family), gain=0.65, leak_mismatch_std=0.4, synapse_mismatch_std=0.2, noise_std=1.5 * u.mV
    )
    in_the_loop("spikes, ms", bh.silicon.VirtualChip(chip, key=0, membranes=False))
    loop = in_the_loop("spikes and membranes, ms", bh.silicon.VirtualChip(chip, key=0))
    in_the_loop("the same, bench without time, ms", Replay(loop.run(x)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(TURNS + 1):
        for name, step in steps.items():
            for _ in range(STEPS):
                begun = time.perf_counter()
                step()
                if turn:
                    times[name].append(1e3 * (time.perf_counter() - begun))
    return found | {name: round(statistics.median(values), 2) for name, values in times.items()}


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-save", action="store_true", help="print the results without saving them")
    parser.add_argument("--times-only", action="store_true", help="keep the accuracies that were saved before")
    parser.add_argument("--digits", metavar="FOLDER", help="folder of the spoken digits (default: run only the vowels)")
    words = parser.parse_args()
    with brainstate.environ.context(dt=1.0 * u.ms):
        times = [overhead(family) for family in MODULES]
    print(json.dumps(times, indent=1))
    if words.times_only:
        if not words.no_save:
            saved = json.loads((PROJECT / "docs" / "results" / "chip_in_the_loop.json").read_text(encoding="utf-8"))
            save("chip_in_the_loop", {"accuracy": saved["accuracy"], "time of a step": times})
        return
    with tempfile.TemporaryDirectory() as folder:
        tasks = {"vowels": None, **({"digits": words.digits} if words.digits else {})}
        accuracies = [study(task, family, Path(folder), root) for task, root in tasks.items() for family in MODULES]
    if not words.no_save:
        save("chip_in_the_loop", {"accuracy": accuracies, "time of a step": times})


if __name__ == "__main__":
    main()
