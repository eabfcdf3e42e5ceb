"""Recordings that replace the computed spikes and membranes of layers while a network runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

from brainhw.kernel.recorded import Recorded

__all__ = ["recorded_for", "recorded_now", "replacing"]

# Recordings by id of the module. Layers test this before they call `recorded_for`, because most runs have none.
recorded_now: ContextVar[tuple[Mapping[int, Recorded], set[int]] | None] = ContextVar("brainhw_recorded", default=None)


def recorded_for(module: object) -> Recorded:
    """Return the recording of a layer and mark it as used; empty without a recording.

    A recording is ``(spikes,)`` or ``(spikes, membranes in mV)``: inside ``update`` the values of the step,
    ``[..., *size]``, inside ``update_sequence`` the whole sequence, ``[T, ..., *size]``.
    """
    now = recorded_now.get()
    if now is None or id(module) not in now[0]:
        return ()
    now[1].add(id(module))
    return now[0][id(module)]


@contextlib.contextmanager
def replacing(recorded: Mapping[int, Recorded]) -> Iterator[set[int]]:
    """Replace the outputs of layers by recordings, given by module id; yield the ids of the layers that used one."""
    taken: set[int] = set()
    token = recorded_now.set((recorded, taken))
    try:
        yield taken
    finally:
        recorded_now.reset(token)
