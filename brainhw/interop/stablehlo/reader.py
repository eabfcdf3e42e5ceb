"""Reader of StableHLO bytecode, in this process for programs made here, in one of its own for those from a file.

The reader of jaxlib reads and writes foreign memory for some bytes that are not bytecode, and ends its process. This
file runs as a script there, and imports jaxlib alone, which takes 0.2 s.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Examined", "examine"]

# Operations that compute. Every other dialect is refused, those of devices and of JAX itself included.
_DIALECTS = frozenset({"builtin", "func", "stablehlo", "chlo"})
# A custom call jumps to an address that the process knows by a name: a wrong one reads memory that is not its own and
# ends Python. No step of the layers of brainhw needs one; products, exponentials and sorting are operations.
_ALLOWED_CALLS: frozenset[str] = frozenset()
# Operations that wait for other devices or programs, which a step in one process never meets.
_WAITING = frozenset(
    f"stablehlo.{name}"
    for name in (
        "after_all", "all_gather", "all_reduce", "all_to_all", "collective_broadcast", "collective_permute",
        "create_token", "infeed", "outfeed", "partition_id", "recv", "reduce_scatter", "replica_id", "send",
    )
)  # fmt: skip
# Far more than the weights of a step that a chip or a processor takes; the compiler would claim more at once.
_LARGEST = 2**31
_HEADER = re.compile(rb"ML\xefR.StableHLO_v(\d+\.\d+\.\d+)\0", re.DOTALL)


class Examined(NamedTuple):
    """The faults of a program, types of its main function, and its bytecode, written anew unless it has faults."""

    faults: list[str]
    arguments: list[str]
    results: list[str]
    bytecode: bytes


def examine(bytecode: bytes) -> Examined:
    """Read bytecode; raises an error of any class, or ends the process, for bytes that are none."""
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import chlo, mhlo, sdy, stablehlo

    version = _HEADER.match(bytecode)
    if version is None:
        raise ValueError("it is not StableHLO bytecode")
    with ir.Context() as context:
        stablehlo.register_dialect(context)
        chlo.register_dialect(context)
        # JAX writes attributes of these, and their operations are refused by name.
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
        # Last, since it changes the module. In its version of StableHLO, for the jaxlibs that could read it.
        anew = b"" if faults else stablehlo.serialize_portable_artifact(module, version[1].decode(), True)
    return Examined(list(faults), arguments, results, anew)


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
    elif name in _WAITING:
        yield f"it has the operation {name.partition('.')[2]}, which waits for another program"
    elif name == "stablehlo.custom_call":
        target = str(operation.attributes["call_target_name"]).strip('"')
        if target not in _ALLOWED_CALLS:
            yield f"it calls {target!r:.60} outside of itself"
    blocks = [block for region in operation.regions for block in region]
    for value in [*operation.results, *(one for block in blocks for one in block.arguments)]:
        yield from _faults_of_type(str(value.type))


def _faults_of_type(text: str) -> Iterator[str]:
    # "tensor<2x3xf32>"; a scalar has no "x".
    *lengths, element = text.removeprefix("tensor<").removesuffix(">").split("x")
    if not text.startswith("tensor<"):
        yield f"it has a value of type {text:.60}, which is not an array"
    elif not all(length.isdecimal() for length in lengths):
        yield f"it has an array of type {text:.60}, whose shape is not fixed"
    else:
        bits = int("".join(filter(str.isdecimal, element)) or 8) * (2 if element.startswith("complex") else 1)
        size = math.prod(map(int, lengths)) * max(bits, 8) // 8
        if size > _LARGEST:
            yield f"it has an array of {size} bytes, more than the {_LARGEST} allowed"


if __name__ == "__main__":
    found = examine(sys.stdin.buffer.read())
    # One line of JSON, then the bytecode.
    sys.stdout.buffer.write(json.dumps(found[:3]).encode() + b"\n" + found.bytecode)
