"""Valid calls of programs and devices of the wing ``brainhw.silicon``."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
from silicon_programs import program_of
from valid_calls import add

import brainhw as bh
from brainhw.silicon import ChipProgram


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
