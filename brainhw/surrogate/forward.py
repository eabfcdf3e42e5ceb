"""Identify the forward pass of a spike function, so that time loops can compute spikes without calling the function."""

from __future__ import annotations

from typing import Any

import braintools

from brainhw.surrogate.multi_spike import MultiSpike
from brainhw.surrogate.single_spike import FastSigmoid

__all__ = ["forward_of"]


def forward_of(spk_fun: Any) -> str | None:
    """Return the kind of forward pass of a spike function: ``'step'``, ``'count'`` or ``None``.

    ``'step'`` is a function that returns 1 for ``x >= 0`` and 0 otherwise. ``'count'`` is a multi-spike function. The
    result is ``None`` for any other function, and for every class that overrides ``__call__``.
    """
    kind = type(spk_fun)
    if isinstance(spk_fun, MultiSpike):
        return "count" if kind.__call__ is MultiSpike.__call__ else None
    # All single-spike functions of brainhw share one `__call__`.
    calls = (braintools.surrogate.Surrogate.__call__, FastSigmoid.__call__)
    return "step" if isinstance(spk_fun, braintools.surrogate.Surrogate) and kind.__call__ in calls else None
