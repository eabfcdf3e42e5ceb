"""Recordings that replace the computed spikes and membrane potentials of layers while a network runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

from brainhw.kernel.recorded import Recorded

__all__ = ["recorded_for", "recorded_now", "replace_outputs"]

# A mapping from the id of a module to its recording, and the set of ids of the modules that used their recording. Most
# runs have no recordings, so layers test this variable before they call `recorded_for`.
recorded_now: ContextVar[tuple[Mapping[int, Recorded], set[int]] | None] = ContextVar("brainhw_recorded", default=None)


def recorded_for(module: object) -> Recorded:
    """Return the recording of a layer and mark it as used; return an empty tuple if the layer has no recording.

    A recording is ``(spikes,)`` or ``(spikes, membrane potentials in mV)``. Inside ``update``, it contains the values
    of one step, ``[..., *size]``. Inside ``update_sequence``, it contains the whole sequence, ``[T, ..., *size]``.
    """
    now = recorded_now.get()
    if now is None or id(module) not in now[0]:
        return ()
    now[1].add(id(module))
    return now[0][id(module)]


@contextlib.contextmanager
def replace_outputs(recorded: Mapping[int, Recorded]) -> Iterator[set[int]]:
    """Context manager that replaces the outputs of layers by recordings.

    ``recorded`` maps the id of a module to its recording. The context manager yields the set of ids of the layers that
    used a recording.
    """
    used: set[int] = set()
    token = recorded_now.set((recorded, used))
    try:
        yield used
    finally:
        recorded_now.reset(token)
