"""Find the values of the current chip in the modules of a network, and compare them with the nominal values."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import NamedTuple

import brainstate
import brainunit as u
import numpy as np

from brainhw.nn.effective import chip_weights

__all__ = ["MISMATCH", "PinnedState", "has_sampled_chip", "kinds_unchanged", "pinned_states"]

# Name of the charge that the mismatch adds to each connection. All other names come from `nominal` of a layer.
MISMATCH = "mismatch"


class PinnedState(NamedTuple):
    """One value of the current chip in a module, such as the thresholds of a layer.

    The fields are the path of the module, the name of the value, its kind of mismatch, the state that contains it, and
    its nominal value.
    """

    path: str
    name: str
    kind: str | None
    state: brainstate.State
    nominal: u.Quantity


def pinned_states(net: brainstate.nn.Module) -> Iterator[PinnedState]:
    """Yield every value in the modules of ``net`` that depends on the current chip."""
    for path, weight in chip_weights(net).items():
        effective = weight.effective
        yield PinnedState(path, MISMATCH, effective.kind, effective.mismatch, effective.nominal_mismatch())
    for place, node in net.nodes().items():
        if callable(getattr(node, "nominal", None)):
            path = ".".join(map(str, place)) or type(node).__name__
            for name, nominal in node.nominal().items():
                kind = node.pinned_kinds.get(name)
                yield PinnedState(path, name, kind, getattr(node, f"pinned_{name}"), nominal)


def has_sampled_chip(net: brainstate.nn.Module) -> bool:
    """Return whether any value of the current chip differs from its nominal value."""
    return any(
        not np.array_equal(np.asarray(pinned.state.value.to(pinned.nominal.unit).mantissa), pinned.nominal.mantissa)
        for pinned in pinned_states(net)
    )


@contextlib.contextmanager
def kinds_unchanged(net: brainstate.nn.Module, kinds: Collection[str]) -> Iterator[None]:
    """Context manager that restores, at exit, all chip values whose kind of mismatch is in ``kinds``."""
    held = [pinned.state for pinned in pinned_states(net) if pinned.kind in kinds] if kinds else []
    before = [(state, state.value) for state in held]
    yield
    for state, value in before:
        state.value = value
