"""Spike functions: a hard threshold in the forward pass, a surrogate derivative in the backward pass."""

from brainhw.surrogate.multi_spike import MultiSpike, PeriodicExponential, StepPWL
from brainhw.surrogate.single_spike import ATan, FastSigmoid, Sigmoid, atan, fast_sigmoid, sigmoid

__all__ = [
    "ATan",
    "FastSigmoid",
    "MultiSpike",
    "PeriodicExponential",
    "Sigmoid",
    "StepPWL",
    "atan",
    "fast_sigmoid",
    "sigmoid",
]
