"""What a spike function gives going forward, for loops that compute it by themselves."""

from __future__ import annotations

from typing import Any

import braintools

from brainhw.surrogate.multi_spike import MultiSpike
from brainhw.surrogate.single_spike import FastSigmoid

__all__ = ["forward_of"]


def forward_of(spk_fun: Any) -> str | None:
    """Return ``'step'`` for 1 from 0 upwards and 0 below, ``'count'`` for a multi-spike function, else ``None``.

    A class that computes its spikes in a way of its own gives ``None``, whatever it derives from.
    """
    kind = type(spk_fun)
    if isinstance(spk_fun, MultiSpike):
        return "count" if kind.__call__ is MultiSpike.__call__ else None
    # All single-spike functions of brainhw share one.
    calls = (braintools.surrogate.Surrogate.__call__, FastSigmoid.__call__)
    return "step" if isinstance(spk_fun, braintools.surrogate.Surrogate) and kind.__call__ in calls else None
