"""Valid calls of the measured chip of ``brainhw.silicon``."""

from __future__ import annotations

import dataclasses
from typing import Any

import brainunit as u
import numpy as np
from valid_calls import add, chip_net

import brainhw as bh

CHIP = bh.silicon.MeasuredChip(
    bh.chip.H1V2,
    np.full((8, 200), 20.0) * u.ms,
    np.full(200, 95.0) * u.mV,
    np.full((8, 200), 0.1) * u.ms,
    np.full(200, 0.5) * u.mV,
    "bench 3",
)


@add("silicon.MeasuredChip")
def measured_chip() -> Any:
    kinds = {
        "spec": "chip", "tau": "positive ms", "V_th": "positive mV", "tau_error": "optional voltage unit",
        "V_th_error": "optional voltage unit", "notes": "text",
    }  # fmt: skip
    held = {item.name: getattr(CHIP, item.name) for item in dataclasses.fields(CHIP)}
    return bh.silicon.MeasuredChip, {name: (kind, held[name]) for name, kind in kinds.items()}


@add("MeasuredChip.save")
def save() -> Any:
    return CHIP.save, {"path": ("path to write", "written.chip")}


@add("MeasuredChip.load")
def load() -> Any:
    CHIP.save("read.chip")
    return bh.silicon.MeasuredChip.load, {"path": ("path to read", "read.chip")}


@add("MeasuredChip.difference")
def difference() -> Any:
    return CHIP.difference, {"other": ("record of chip", CHIP)}


@add("silicon.ChipDifference")
def chip_difference() -> Any:
    return bh.silicon.ChipDifference, {"before": ("record of chip", CHIP), "after": ("record of chip", CHIP)}


@add("silicon.put_chip")
def put_chip() -> Any:
    net = chip_net()
    return bh.silicon.put_chip, {
        "net": ("net on a chip", net), "measured": ("record of chip", CHIP),
        "placement": ("optional outcome", bh.deploy.place(net)),
    }  # fmt: skip
