"""Command that writes the step of a bundle as a C header."""

from __future__ import annotations

import os

from brainhw.cli.look import say
from brainhw.deploy.firmware import firmware as read_firmware

__all__ = ["firmware"]


def firmware(bundle: str, header: str, *, name: str = "net") -> int:
    """Write the C header of a bundle, with ``name`` before each name in it."""
    step = read_firmware(bundle)
    step.write_c(header, name)
    say(
        f"header      {os.path.basename(header)!r}, {os.path.getsize(header)} bytes of text",
        f"step        {name}_step, every {float(step.dt.mantissa):.10g} ms, {step.n_in} inputs, {step.n_out} outputs",
        f"state       {step.state_bytes} bytes of RAM",
        f"tables      {step.table_bytes} bytes of flash",
    )
    return 0
