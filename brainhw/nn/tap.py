"""Values inside a step that are not states, such as the membrane before the reset, for recorders.

A module calls ``tap(self, "V_pre", value)`` where the value exists. Nothing happens, and nothing is compiled, unless
``listening()`` is active: it collects the value, a traced array of the same step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

__all__ = ["heard_now", "listening", "tap"]

# A module asks this before it calls `tap`: in eager steps a call that does nothing still costs.
heard_now: ContextVar[dict[tuple[int, str], Any] | None] = ContextVar("brainhw_heard", default=None)


def tap(module: Any, name: str, value: Any) -> None:
    """Offer ``value`` under ``name`` to the listeners of ``module`` in this step."""
    heard = heard_now.get()
    if heard is not None:
        heard[id(module), name] = value


@contextlib.contextmanager
def listening(heard: dict[tuple[int, str], Any] | None = None) -> Iterator[dict[tuple[int, str], Any]]:
    """Collect the values that modules offer in this block, by ``(id(module), name)``; into ``heard`` if given."""
    heard = {} if heard is None else heard
    token = heard_now.set(heard)
    try:
        yield heard
    finally:
        heard_now.reset(token)
