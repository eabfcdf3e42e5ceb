"""Valid calls of programs and devices of the wing ``brainhw.silicon``."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import numpy as np
from silicon_programs import program_of
from valid_calls import add

import brainhw as bh
from brainhw.silicon import CallableDevice, ChipProgram, CommandDevice, VirtualChip, scaled_chip


def program() -> Any:
    with brainstate.environ.context(dt=1.0 * u.ms):
        return program_of()


@add("silicon.ChipProgram")
def chip_program() -> Any:
    return ChipProgram, {"content": ("record", program()[1].content)}


@add("ChipProgram.of")
def of() -> Any:
    net, made = program()
    return ChipProgram.of, {"net": ("net", net), "placement": ("optional placement", made.placement)}


@add("ChipProgram.updated")
def updated() -> Any:
    net, made = program()
    return made.updated, {"net": ("net", net)}


@add("ChipProgram.save", folder="path")
def save() -> Any:
    return program()[1].save, {"folder": ("path of a folder to write", "a program"), "format": ("word", "csv")}


@add("ChipProgram.load", folder="path")
def load() -> Any:
    program()[1].save("a program")
    return ChipProgram.load, {"folder": ("path of a folder", "a program")}


@add("ChipProgram.to_net")
def to_net() -> Any:
    return program()[1].to_net, {"chip": ("optional chip", bh.chip.H1V1)}


@add("ChipProgram.leak")
def leak() -> Any:
    return program()[1].leak, {"layer": ("word", "layer0")}


@add("ChipProgram.physical")
def physical() -> Any:
    return program()[1].physical, {"layer": ("word", "layer0")}


@add("silicon.VirtualChip")
def virtual_chip() -> Any:
    given = {"chip": ("chip", bh.chip.H1V2), "key": ("key", 3), "membranes": ("flag", False)}
    return VirtualChip, {**given, "gain_std": ("nonnegative number", 0.03)}


@add("VirtualChip.program")
def virtual_program() -> Any:
    return VirtualChip(bh.chip.H1V1, 0).program, {"program": ("record", program()[1])}


@add("VirtualChip.run")
def virtual_run() -> Any:
    bench = VirtualChip(bh.chip.H1V1, 0)
    bench.program(program()[1])
    return bench.run, {"x": ("run input", np.ones((5, 2, 16), np.float32))}


@add("silicon.scaled_chip")
def scaled() -> Any:
    factors = dict.fromkeys(("gain", "threshold", "tau"), ("positive number", 0.7))
    return scaled_chip, {"chip": ("record", bh.chip.H1V1), **factors}


@add("silicon.CallableDevice")
def callable_device() -> Any:
    return CallableDevice, {"function": ("callable", silent), "program": ("optional callable", ignored)}


def silent(made: ChipProgram, x: np.ndarray) -> dict[str, np.ndarray]:
    return {path: np.zeros((*x.shape[:2], n)) for path, n in made.layers.items()}


def ignored(made: ChipProgram) -> None:
    pass


@add("CallableDevice.program")
def callable_program() -> Any:
    return CallableDevice(silent).program, {"program": ("record", program()[1])}


@add("CallableDevice.run")
def callable_run() -> Any:
    bench = CallableDevice(silent)
    bench.program(program()[1])
    return bench.run, {"x": ("run input", np.ones((5, 2, 16), np.float32))}


@add("silicon.CommandDevice")
def command_device() -> Any:
    given = {"command": ("words of a command", ["true"]), "timeout": ("s", 5.0 * u.second)}
    return CommandDevice, {**given, "format": ("word", "csv")}


@add("CommandDevice.program")
def command_program() -> Any:
    return CommandDevice(["true"]).program, {"program": ("record", program()[1])}


@add("CommandDevice.run", works=False)
def command_run() -> Any:
    bench = CommandDevice(["true"])
    bench.program(program()[1])
    return bench.run, {"x": ("run input", np.ones((5, 2, 16), np.float32))}
