"""Small nets on the grid of their chip, and their programs."""

from __future__ import annotations

from typing import Any

from deploy_nets import strong

import brainhw as bh
from brainhw.silicon import ChipProgram


def on_grid(net: Any) -> Any:
    bh.deploy.set_weight_bits(net, "chip")
    return net


def program_of(family: str = "H1v1", **given: Any) -> tuple[Any, ChipProgram]:
    net = on_grid(strong(family, **given))
    return net, ChipProgram.of(net)
