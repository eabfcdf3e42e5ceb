"""Recordings that take the place of what layers compute, while a network runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

from brainhw.kernel.recorded import Recorded

__all__ = ["recorded_for", "recorded_now", "replacing"]

# By id of the module: what was recorded of it. A layer asks this before it calls `recorded_for`: most runs have none.
recorded_now: ContextVar[tuple[Mapping[int, Recorded], set[int]] | None] = ContextVar("brainhw_recorded", default=None)


def recorded_for(module: object) -> Recorded:
    """Return what was recorded of a layer, and note that it took it; empty without a recording.

    ``(spikes,)`` or ``(spikes, membranes in mV)``: inside ``update`` those of the step, ``[..., *size]``, inside
    ``update_sequence`` the whole sequence, ``[T, ..., *size]``.
    """
    now = recorded_now.get()
    if now is None or id(module) not in now[0]:
        return ()
    now[1].add(id(module))
    return now[0][id(module)]


@contextlib.contextmanager
def replacing(recorded: Mapping[int, Recorded]) -> Iterator[set[int]]:
    """Give layers, by their id, what was recorded of them; yields the ids of those that took it."""
    taken: set[int] = set()
    token = recorded_now.set((recorded, taken))
    try:
        yield taken
    finally:
        recorded_now.reset(token)
