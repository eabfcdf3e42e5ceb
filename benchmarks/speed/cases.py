"""Problems that all libraries solve: sizes, weights, inputs and the definition of the neuron.

This module imports only NumPy, because it is also read in environments without the libraries.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["BETA", "CASES", "Definition", "Problem", "Size", "is_chip", "is_timed", "problem", "sizes_of"]

TAU_MS, DT_MS = 20.0, 1.0
BETA = math.exp(-DT_MS / TAU_MS)
SLOPE = 2.0
"""Slope of the fast sigmoid. With this slope, the soft sign of SpikingJelly is the same function."""
BIAS, W_AHP = 0.02, -0.9
RATES = {"chip": 0.2, "other": 0.05}
"""Fraction of input channels that spike in one step. It is larger for chips, because their weights are limited."""
SPREAD = 0.7
"""Standard deviation of the membrane potential without spikes, in units of the threshold."""
FRACTIONAL_DT, FRACTIONAL_TAU, ALPHA = 0.125, 2.0, 0.6

CASES = {
    "lif_ff": "dense + LIF",
    "lif_rc": "dense + recurrent LIF",
    "h1v1": "H1v1 synapse + recurrent H1v1 layer",
    "h1v2": "H1v2 synapse + recurrent H1v2 layer",
    "alif": "dense + recurrent aLIF, one synapse per neuron",
    "fractional": "dense + fractional LIF (Gruenwald-Letnikov, order 0.6, full memory) + dense, 100-256-10",
    "readout": "700-256-20: dense + recurrent LIF + dense leaky readout",
    "readout_h1v1": "700-256-20: H1v1 synapse + recurrent H1v1 layer + dense leaky readout",
    "readout_h1v2": "700-256-20: H1v2 synapse + recurrent H1v2 layer + dense leaky readout",
}

# Change of the membrane potential per unit of weight, for small weights and in units of the threshold.
CHIP_GAIN = {"h1v1": 0.1034, "h1v2": 0.045}
CHIP_LIMIT = {"h1v1": 0.9, "h1v2": 1.66}


@dataclass(frozen=True)
class Size:
    """Number of steps, samples, inputs, neurons, and outputs of the readout (0 without a readout)."""

    T: int
    B: int
    n_in: int
    n: int
    n_out: int = 0

    def __str__(self) -> str:
        """Return the size as text for tables."""
        layers = "-".join(str(n) for n in (self.n_in, self.n, self.n_out) if n)
        return f"T={self.T} B={self.B} {layers}"


@dataclass(frozen=True)
class Definition:
    """Definition of a neuron of this benchmark. The defaults define the LIF neuron of brainhw.

    Attributes
    ----------
    reset : str
        ``'subtract'`` or ``'zero'``.
    late : bool
        If True, a spike lowers the membrane potential in the next step, after the leak. If False, in the same step.
    shift : int
        Delay of the spikes in steps.
    detach : bool
        If True, no gradient flows through the reset.
    surrogate : str
        ``'fast_sigmoid'`` or ``'step_pwl'``.
    slope : float
        Slope of the fast sigmoid.
    """

    reset: str = "subtract"
    late: bool = False
    shift: int = 0
    detach: bool = True
    surrogate: str = "fast_sigmoid"
    slope: float = SLOPE


ALIF = Definition(detach=False, surrogate="step_pwl")


@dataclass(frozen=True)
class Problem:
    """A case of one size with its arrays.

    Attributes
    ----------
    x : array ``[T, B, n_in]``
        Input.
    weights : dict
        ``w_in`` ``[n_in, n]``, in recurrent cases ``w_rec`` ``[n, n]``, and with a readout ``w_out`` ``[n, n_out]``.
    pattern : array ``[T, B, n or n_out]``
        The loss is the mean of the outputs times this array.
    """

    case: str
    size: Size
    x: np.ndarray
    weights: dict[str, np.ndarray]
    pattern: np.ndarray
    definition: Definition

    @property
    def is_recurrent(self) -> bool:
        """True if the neurons are recurrently connected."""
        return "w_rec" in self.weights

    @property
    def neuron(self) -> str:
        """Type of neuron: ``'lif'``, ``'h1v1'``, ``'h1v2'``, ``'alif'`` or ``'fractional'``."""
        name = self.case.removeprefix("readout_")
        return "lif" if name in ("lif_ff", "lif_rc", "readout") else name


_SQUARE = {"tiny": Size(40, 4, 24, 24), "agree": Size(100, 8, 64, 64), "small": Size(100, 32, 128, 128)}
_SQUARE |= {"medium": Size(250, 64, 256, 256), "large": Size(500, 16, 512, 512)}
_READOUT = {"tiny": Size(40, 4, 30, 24, 5), "agree": Size(100, 8, 120, 64, 20), "full": Size(250, 128, 700, 256, 20)}
_FRACTIONAL = {"tiny": Size(20, 4, 10, 12, 5), "agree": Size(64, 8, 100, 64, 10)}
_FRACTIONAL |= {"T128": Size(128, 32, 100, 256, 10), "T512": Size(512, 32, 100, 256, 10)}


def sizes_of(case: str) -> dict[str, Size]:
    """Return the sizes of a case by name. ``tiny`` and ``agree`` are used for checks only and are not timed."""
    return _READOUT if case.startswith("readout") else _FRACTIONAL if case == "fractional" else _SQUARE


def is_timed(size: str) -> bool:
    """Return True for a size that is timed, and False for one that is used for checks only."""
    return size not in ("tiny", "agree")


def is_chip(case: str) -> bool:
    """Return True for a case with chip neurons."""
    return case.endswith(("h1v1", "h1v2"))


def problem(case: str, size: str, definition: dict[str, Any] | None = None) -> Problem:
    """Return a case with its arrays. They are the same in every process."""
    dims = sizes_of(case)[size]
    rng = np.random.default_rng([list(CASES).index(case), dims.T, dims.n])
    fractional = case == "fractional"
    x: Any = rng.normal(0, 1, (dims.T, dims.B, dims.n_in)) if fractional else None
    if x is None:
        x = rng.random((dims.T, dims.B, dims.n_in)) < _rate(case)
    weights = {"w_in": rng.normal(0, _input_scale(case, dims), (dims.n_in, dims.n))}
    if not fractional and case != "lif_ff":
        weights["w_rec"] = rng.normal(0, 0.2 / math.sqrt(dims.n), (dims.n, dims.n))
    if is_chip(case):
        chip = case[-4:]
        # Use the same recurrent currents as for LIF neurons, as far as the weight range allows.
        weights["w_rec"] /= CHIP_GAIN[chip]
        weights = {name: np.clip(w, -CHIP_LIMIT[chip], CHIP_LIMIT[chip]) for name, w in weights.items()}
    if dims.n_out:
        weights["w_out"] = rng.normal(0, (2 if fractional else 1) / math.sqrt(dims.n), (dims.n, dims.n_out))
    pattern = rng.normal(0, 1, (dims.T, dims.B, dims.n_out or dims.n))
    default = ALIF if case == "alif" else Definition()
    return Problem(
        case,
        dims,
        x.astype(np.float32),
        {name: w.astype(np.float32) for name, w in weights.items()},
        pattern.astype(np.float32),
        default if definition is None else Definition(**{**asdict(default), **definition}),
    )


def _rate(case: str) -> float:
    return RATES["chip" if is_chip(case) else "other"]


def _input_scale(case: str, dims: Size) -> float:
    if case == "fractional":
        return 2 / math.sqrt(dims.n_in)
    # Variance of the membrane potential for white noise of variance 1. In aLIF neurons the noise passes the leak
    # of the synaptic current and then the leak of the membrane potential.
    b2 = BETA**2
    gathered = b2 * (1 + b2) / (1 - b2) ** 3 if case == "alif" else 1 / (1 - b2)
    scale = SPREAD / math.sqrt(dims.n_in * _rate(case) * gathered)
    return scale / CHIP_GAIN[case[-4:]] if is_chip(case) else scale
