"""Let a recorder see values inside a step that are no states, such as the membrane before the reset.

A module calls ``tap(self, "V_pre", value)`` where the value exists. Nothing happens, and nothing is compiled,
unless somebody listens inside ``listening()``: then the value is handed over as a traced array of the same step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

__all__ = ["is_heard", "listening", "tap"]

_heard: ContextVar[dict[tuple[int, str], Any] | None] = ContextVar("brainhw_heard", default=None)


def tap(module: Any, name: str, value: Any) -> None:
    """Offer ``value`` under ``name`` to whoever listens to ``module`` in this step."""
    heard = _heard.get()
    if heard is not None:
        heard[id(module), name] = value


def is_heard() -> bool:
    """Whether anybody listens now."""
    return _heard.get() is not None


@contextlib.contextmanager
def listening(heard: dict[tuple[int, str], Any] | None = None) -> Iterator[dict[tuple[int, str], Any]]:
    """Collect what modules offer while the block runs, keyed by ``(id(module), name)``; into ``heard`` if given."""
    heard = {} if heard is None else heard
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)
