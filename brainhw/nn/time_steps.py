"""Warn if the time step is too long for the time constants of a network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import brainstate
import brainunit as u
import jax
import numpy as np

from brainhw import _arguments
from brainhw.nn.ranges import held_value, ranged

__all__ = ["warn_of_long_steps"]

_LISTED = 4
# The last warning of each network. It prevents repeated warnings in a loop over batches.
_last_warnings: WeakKeyDictionary[brainstate.nn.Module, str] = WeakKeyDictionary()


def warn_of_long_steps(net: brainstate.nn.Module, nodes: Mapping[Any, Any], *, call: str) -> None:
    """Warn once if ``dt`` is so long compared with a time constant that the decay factor per step is almost zero.

    The usual reason is a wrong unit, such as seconds instead of milliseconds. Traced values of ``dt`` and of time
    constants are not checked.
    """
    dt = _milliseconds(brainstate.environ.get("dt", default=None))
    if dt is None:
        return
    found = []
    for path, held, within, _ in ranged(nodes):
        if within.per_step is None:
            continue
        tau = _milliseconds(held_value(held))
        if tau is not None and (words := within.per_step(dt / tau)) is not None:
            found.append(f"{path.replace('.pinned_', '.')} is {tau:g} ms ({words})")
    if not found:
        return
    more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    message = (
        f"{call}: dt is {dt:g} ms, but {'; '.join(found[:_LISTED])}{more}. "
        "Check the units of dt and tau, or use a shorter dt or longer time constants."
    )
    if _last_warnings.get(net) != message:
        _last_warnings[net] = message
        warnings.warn(message, UserWarning, stacklevel=3)


def _milliseconds(value: Any) -> float | None:
    """Return the smallest element of ``value`` in ms, or ``None`` if ``value`` is not a time or is traced."""
    if not isinstance(value, u.Quantity):
        return None
    mantissa = value.mantissa
    if value.unit != u.ms:
        if not u.have_same_dim(value, u.ms) or not _arguments.is_concrete(mantissa):
            return None
        with jax.ensure_compile_time_eval():
            mantissa = value.to(u.ms).mantissa
    if type(mantissa) in (int, float):
        least = float(mantissa)
    elif isinstance(mantissa, jax.core.Tracer):
        return None
    else:
        least = float(np.min(np.asarray(mantissa)))
    return least if 0 < least < math.inf else None
