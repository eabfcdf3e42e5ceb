"""Command ``firmware``: write the network of a bundle as a C header."""

from __future__ import annotations

import os

from brainhw.cli.outputs import check_output
from brainhw.cli.result import Result
from brainhw.deploy.firmware import firmware as read_firmware

__all__ = ["firmware"]


def firmware(bundle: str, header: str, *, name: str = "net") -> Result:
    """Write the network of a bundle as a C header. Each name in the header has the prefix ``name``."""
    check_output("HEADER", header, "C header", (bundle,), call="firmware")
    step = read_firmware(bundle)
    step.write_c(header, name)
    data = {
        "header": header,
        "size_bytes": os.path.getsize(header),
        "function": f"{name}_step",
        "dt_ms": float(step.dt.mantissa),
        "n_inputs": step.n_in,
        "n_outputs": step.n_out,
        "state_bytes": step.state_bytes,
        "table_bytes": step.table_bytes,
    }
    lines = (
        f"header      {os.path.basename(header)!r}, {data['size_bytes']} bytes of text",
        f"step        {name}_step, every {data['dt_ms']:.10g} ms, {step.n_in} inputs, {step.n_out} outputs",
        f"state       {step.state_bytes} bytes of RAM",
        f"tables      {step.table_bytes} bytes of flash",
    )
    return Result(lines, data)
