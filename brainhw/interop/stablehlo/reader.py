"""Reader of StableHLO bytecode.

For some invalid bytes, jaxlib accesses invalid memory and crashes the process. A program from a file is therefore read
in a subprocess, which runs this file as a script. The script imports only jaxlib, so this takes 0.2 s. A program that
this process exported is read in this process.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Examined", "examine"]

# Dialects whose operations only compute. All other dialects are rejected, including those for devices and those of JAX.
_DIALECTS = frozenset({"builtin", "func", "stablehlo", "chlo"})
# A custom call runs native code that the process has registered under a name. A wrong call accesses invalid memory and
# crashes Python. Layers of brainhw do not need custom calls, because matrix products, exponentials and sorting are
# StableHLO operations.
_ALLOWED_CALLS: frozenset[str] = frozenset()
# Operations that wait for other devices or programs. A step that runs in one process does not need them.
_BLOCKING_OPERATIONS = frozenset(
    f"stablehlo.{name}"
    for name in (
        "after_all", "all_gather", "all_reduce", "all_to_all", "collective_broadcast", "collective_permute",
        "create_token", "infeed", "outfeed", "partition_id", "recv", "reduce_scatter", "replica_id", "send",
    )
)  # fmt: skip
# Largest size of an array in bytes. The weights of a network for a chip are far smaller. The compiler would allocate
# larger arrays immediately.
_MAX_ARRAY_BYTES = 2**31
_HEADER = re.compile(rb"ML\xefR.StableHLO_v(\d+\.\d+\.\d+)\0", re.DOTALL)


class Examined(NamedTuple):
    """Result of reading and checking a program.

    ``faults`` contains one message per fault. ``arguments`` and ``results`` are the types of the arguments and results
    of the main function. ``bytecode`` is the program, serialized again after reading; it is empty if there are faults.
    """

    faults: list[str]
    arguments: list[str]
    results: list[str]
    bytecode: bytes


def examine(bytecode: bytes) -> Examined:
    """Read and check bytecode. Invalid bytes raise an error of any class or crash the process."""
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import chlo, mhlo, sdy, stablehlo

    version = _HEADER.match(bytecode)
    if version is None:
        raise ValueError("it is not StableHLO bytecode")
    with ir.Context() as context:
        stablehlo.register_dialect(context)
        chlo.register_dialect(context)
        # Register this dialect, because JAX writes attributes of it. Its operations are rejected by their names.
        mhlo.register_mhlo_dialect(context)
        sdy.register_dialect(context)
        module = stablehlo.deserialize_portable_artifact(context, bytecode)
        faults: dict[str, None] = {}
        arguments: list[str] = []
        results: list[str] = []
        for operation in _operations(module.operation):
            faults.update(dict.fromkeys(_faults_of(operation)))
            if operation.name == "func.func" and ir.StringAttr(operation.attributes["sym_name"]).value == "main":
                main = ir.FunctionType(ir.TypeAttr(operation.attributes["function_type"]).value)
                arguments, results = (list(map(str, types)) for types in (main.inputs, main.results))
        # Serialize the module last, because this changes the module. Write the same StableHLO version as the original
        # bytecode, so that each jaxlib that can read the original can also read the result.
        rewritten = b"" if faults else stablehlo.serialize_portable_artifact(module, version[1].decode(), True)
    return Examined(list(faults), arguments, results, rewritten)


def _operations(root: Any) -> Iterator[Any]:
    """Yield an operation and all operations inside it."""
    waiting = [root]
    while waiting:
        operation = waiting.pop()
        yield operation
        for region in operation.regions:
            for block in region:
                waiting.extend(one.operation for one in block)


def _faults_of(operation: Any) -> Iterator[str]:
    name = operation.name
    if name.partition(".")[0] not in _DIALECTS:
        yield f"it has the operation {name!r:.60}, which is not StableHLO"
    elif name in _BLOCKING_OPERATIONS:
        yield f"it has the operation {name.partition('.')[2]}, which waits for another program"
    elif name == "stablehlo.custom_call":
        target = str(operation.attributes["call_target_name"]).strip('"')
        if target not in _ALLOWED_CALLS:
            yield f"it has an external call to {target!r:.60}"
    blocks = [block for region in operation.regions for block in region]
    for value in [*operation.results, *(one for block in blocks for one in block.arguments)]:
        yield from _faults_of_type(str(value.type))


def _faults_of_type(text: str) -> Iterator[str]:
    # For example "tensor<2x3xf32>", or "tensor<f32>" for a scalar.
    *lengths, element = text.removeprefix("tensor<").removesuffix(">").split("x")
    if not text.startswith("tensor<"):
        yield f"it has a value of type {text:.60}, which is not an array"
    elif not all(length.isdecimal() for length in lengths):
        yield f"it has an array of type {text:.60}, whose shape is not fixed"
    else:
        bits = int("".join(filter(str.isdecimal, element)) or 8) * (2 if element.startswith("complex") else 1)
        size = math.prod(map(int, lengths)) * max(bits, 8) // 8
        if size > _MAX_ARRAY_BYTES:
            yield f"it has an array of {size} bytes, more than the {_MAX_ARRAY_BYTES} allowed"


if __name__ == "__main__":
    found = examine(sys.stdin.buffer.read())
    # The output is one line of JSON, followed by the bytecode.
    sys.stdout.buffer.write(json.dumps(found[:3]).encode() + b"\n" + found.bytecode)
