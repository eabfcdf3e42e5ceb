"""Safety checks of a program from a file. The program may only compute, and may not call external code."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax.export

from brainhw.interop.stablehlo import reader
from brainhw.interop.stablehlo.reader import Examined, examine

__all__ = ["UnreadableError", "examine_in_subprocess", "faults"]

# Time limit in seconds. Reading a program of 100 MB takes two seconds.
_TIMEOUT_SECONDS = 60
# The NumPy names of types, and their StableHLO names.
_TYPES = {
    "bool": "i1", "bfloat16": "bf16",
    **{f"float{bits}": f"f{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"i{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"ui{bits}" for bits in (8, 16, 32, 64)},
}  # fmt: skip


class UnreadableError(ValueError):
    """Raised if jaxlib cannot read the bytes as a program."""


def faults(exported: jax.export.Exported, examined: Examined | None = None) -> Iterator[str]:
    """Yield a message for each part of a program that an exported step of a network must not contain.

    Without ``examined``, the program is read in this process. This is safe only if this process exported the program.
    """
    if exported.nr_devices != 1:
        yield f"it runs on {exported.nr_devices} devices"
    if exported.ordered_effects or exported.unordered_effects:
        yield "it has effects besides its results"
    if examined is None:
        examined = examine(exported.mlir_module_serialized)
    yield from examined.faults
    arguments = [exported.in_avals[at] for at in exported.module_kept_var_idx]
    # The first argument of a program for several platforms is the index of the platform in use.
    first = ["tensor<i32>"] if len(exported.platforms) > 1 else []
    for what, found, known in (
        ("arguments", examined.arguments, first + list(map(_text, arguments))),
        ("results", examined.results, list(map(_text, exported.out_avals))),
    ):
        if found != known:
            yield f"the {what} of its main function differ from its description"


def _text(aval: Any) -> str:
    lengths = "".join(f"{length}x" for length in aval.shape)
    return f"tensor<{lengths}{_TYPES.get(str(aval.dtype), '?')}>"


def examine_in_subprocess(exported: jax.export.Exported) -> tuple[jax.export.Exported, Examined]:
    """Read and check a program in a subprocess.

    Return a copy of ``exported`` with the bytecode that the subprocess wrote, and the result of the check. Raise
    `UnreadableError` if jaxlib cannot read the bytes, or if they crash the subprocess.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", reader.__file__]
    try:
        process = subprocess.run(
            command,
            input=exported.mlir_module_serialized,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise UnreadableError(f"reading the program takes more than {_TIMEOUT_SECONDS} s") from None
    if process.returncode < 0:
        raise UnreadableError(f"the subprocess that read the program was stopped by signal {-process.returncode}")
    line, _, bytecode = process.stdout.partition(b"\n")
    if process.returncode or not line:
        lines = process.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise UnreadableError(lines[-1][:200])
    found, arguments, results = json.loads(line)
    examined = Examined(found, arguments, results, bytecode)
    return dataclasses.replace(exported, mlir_module_serialized=bytecode), examined
