"""Rules for a program from a file: it computes, and calls nothing outside of itself."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import jax.export

__all__ = ["faults"]

# A custom call jumps to an address that the process knows by a name: a wrong one reads memory that is not its own and
# ends Python. No step of the layers of brainhw needs one; products, exponentials and sorting are operations.
_ALLOWED_CALLS: frozenset[str] = frozenset()
_CALL = re.compile(r'custom_call\s*@(?:"([^"]*)"|([\w.$-]+))|call_target_name\s*=\s*"([^"]*)"')
# Operations that wait for other devices or programs, which a step in one process never meets.
_WAITING = re.compile(
    r"(?:stablehlo|vhlo|mhlo)\.(infeed|outfeed|send|recv|all_gather|all_reduce|all_to_all|collective_\w+|reduce_scatter"
    r"|partition_id|replica_id)\b"
)
_TENSOR = re.compile(r"tensor<((?:\d+x)+)(?:complex<)?[a-z]+(\d+)")
# Far more than the weights of a step that a chip or a processor takes; the compiler would claim more at once.
_LARGEST = 2**31


def faults(exported: jax.export.Exported) -> Iterator[str]:
    """Yield everything in a program that a step of a network does not have, in a few words each."""
    if exported.nr_devices != 1:
        yield f"it runs on {exported.nr_devices} devices"
    text = exported.mlir_module()
    targets = ["".join(found) for found in _CALL.findall(text)]
    for target in sorted(set(targets) - _ALLOWED_CALLS):
        yield f"it calls {target!r:.60} outside of itself"
    # One that is written in another way must not pass unseen.
    if text.count("custom_call") > len(targets):
        yield "it calls something outside of itself"
    for name in sorted(set(_WAITING.findall(text))):
        yield f"it has the operation {name}, which waits for another program"
    for lengths, bits in set(_TENSOR.findall(text)):
        size = math.prod(map(int, lengths.strip("x").split("x"))) * int(bits) // 8
        if size > _LARGEST:
            yield f"it has an array of {size} bytes, more than the {_LARGEST} allowed"
