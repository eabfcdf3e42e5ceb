"""Identify the forward pass of a spike function, for loops that compute spikes themselves."""

from __future__ import annotations

from typing import Any

import braintools

from brainhw.surrogate.multi_spike import MultiSpike
from brainhw.surrogate.single_spike import FastSigmoid

__all__ = ["forward_of"]


def forward_of(spk_fun: Any) -> str | None:
    """Return ``'step'`` for 1 from 0 upwards and 0 below, ``'count'`` for a multi-spike function, otherwise ``None``.

    A class that overrides ``__call__`` gives ``None``, whatever its base class.
    """
    kind = type(spk_fun)
    if isinstance(spk_fun, MultiSpike):
        return "count" if kind.__call__ is MultiSpike.__call__ else None
    # All single-spike functions of brainhw share one `__call__`.
    calls = (braintools.surrogate.Surrogate.__call__, FastSigmoid.__call__)
    return "step" if isinstance(spk_fun, braintools.surrogate.Surrogate) and kind.__call__ in calls else None
