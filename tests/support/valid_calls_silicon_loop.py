"""Valid calls of training with a chip in the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp
import numpy as np
from valid_calls import add

import brainhw as bh

X, Y = np.ones((5, 2, 4), np.float32), np.array([0, 2])


def chip_net() -> brainstate.nn.Module:
    weights = jnp.full((4, 3), 0.5)
    return brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(4, 3, weight_init=weights, weight_bits="chip"), bh.nn.H1v2Layer(3, tau=20 * u.ms)
    )


def loss(outputs: Any, y: Any) -> Any:
    return outputs.mean() + 0.0 * y.mean()


def loop() -> Any:
    bench = bh.silicon.VirtualChip(bh.chip.H1V2, key=1)
    return bh.silicon.InTheLoop(chip_net(), bench, loss=loss, optimizer=braintools.optim.Adam(lr=0.01))


@add("silicon.InTheLoop", calls=("ChipProgram.of",))
def in_the_loop() -> Any:
    return bh.silicon.InTheLoop, {
        "net": ("net", chip_net()), "device": ("object", bh.silicon.VirtualChip(bh.chip.H1V2, key=1)),
        "loss": ("callable", loss), "optimizer": ("object", braintools.optim.Adam(lr=0.01)),
        "n_trials": ("count", 1), "membranes": ("flag or choice", "auto"), "accuracy": ("callable", bh.train.accuracy),
        "constrain": ("optional callable", None), "placement": ("optional data", None),
    }  # fmt: skip


@add("InTheLoop.step", x="input")
def step() -> Any:
    return loop().step, {"x": ("data", X), "y": ("targets", Y)}


@add("InTheLoop.run", x="input")
def run() -> Any:
    return loop().run, {"x": ("data", X)}


@add("InTheLoop.evaluate", x="input")
def evaluate() -> Any:
    return loop().evaluate, {"x": ("data", X), "y": ("batch labels", Y)}


@add("InTheLoop.save")
def save() -> Any:
    return loop().save, {"path": ("path to write", "run.train")}


@add("InTheLoop.load")
def load() -> Any:
    one = loop()
    one.save(Path("run.train"))
    return one.load, {"path": ("path", "run.train")}
