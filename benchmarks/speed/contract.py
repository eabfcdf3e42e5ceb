"""Interface between the benchmark and the adapter of a library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.speed.cases import Definition, Problem

__all__ = ["Adapter", "Calls", "Offer"]


@dataclass(frozen=True)
class Offer:
    """A case in the form that a library solves.

    Attributes
    ----------
    definition : Definition or None
        Definition of its neuron, for the check; ``None``: that of the case.
    differs : str or None
        Difference from brainhw's definition as text; ``None``: equal.
    """

    definition: Definition | None = None
    differs: str | None = None


@dataclass(frozen=True)
class Calls:
    """Calls that are timed. Each returns when its result is complete.

    Attributes
    ----------
    forward : callable
        Run all steps and return the outputs.
    both : callable
        Return the loss and its gradients with respect to every weight matrix.
    step : callable
        One step of one sample that keeps its state.
    outputs : callable
        The outputs as a NumPy array ``[T, B, n or n_out]``; ``None`` without meaningful outputs.
    gradients : callable
        The gradients with respect to the weights of the problem, as NumPy arrays by name.
    settings : mapping
        Settings such as numbers of threads: each is measured and the fastest counts.
    temp_bytes : mapping
        By mode, a call that returns the bytes that XLA allocates for temporary arrays.
    device_peak : callable, optional
        The most memory in use on an accelerator so far, in bytes.
    device : str
        The device of the run.
    """

    forward: Callable[[], Any]
    both: Callable[[], Any]
    step: Callable[[], Any] | None = None
    outputs: Callable[[], np.ndarray] | None = None
    gradients: Callable[[], dict[str, np.ndarray]] | None = None
    settings: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    temp_bytes: Mapping[str, Callable[[], int]] = field(default_factory=dict)
    device_peak: Callable[[], int | None] | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Adapter:
    """A library in the benchmark.

    Attributes
    ----------
    name : str
        Name in tables and on the command line.
    distributions : tuple of str
        Required packages, the library first.
    install : str
        How to install it.
    offers : mapping
        The cases that it solves.
    build : callable
        ``build(problem, device)`` imports the library and returns the calls.
    note : str
        Description of how the library is run.
    """

    name: str
    distributions: tuple[str, ...]
    install: str
    offers: Mapping[str, Offer]
    build: Callable[[Problem, str], Calls]
    note: str = ""
