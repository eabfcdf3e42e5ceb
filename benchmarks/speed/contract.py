"""Interface between the benchmark and the adapters of the libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.speed.cases import Definition, Problem

__all__ = ["Adapter", "Calls", "Offer"]


@dataclass(frozen=True)
class Offer:
    """A case that a library solves, possibly with a different definition of the neuron.

    Attributes
    ----------
    definition : Definition or None
        Definition of the neuron in the library, for the check. ``None`` if it is that of the case.
    differs : str or None
        Difference from the definition of brainhw as text. ``None`` if there is no difference.
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
        Run one step of one sample and keep the state.
    outputs : callable
        Return the outputs as a NumPy array ``[T, B, n or n_out]``. ``None`` if the outputs have no meaning.
    gradients : callable
        Return the gradients with respect to the weights of the problem, as NumPy arrays by name.
    settings : mapping
        Settings such as numbers of threads. Each of them is measured, and the fastest is reported.
    temp_bytes : mapping
        For each mode, a function that returns how many bytes XLA allocates for temporary arrays.
    device_peak : callable, optional
        Return the peak memory on an accelerator so far, in bytes.
    device : str
        The device on which the calls run.
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
        Name of the library in tables and on the command line.
    distributions : tuple of str
        Required packages. The first is the library.
    install : str
        How to install the library.
    offers : mapping
        The cases that the library solves.
    build : callable
        ``build(problem, device)`` imports the library and returns the calls.
    note : str
        Description of how the benchmark runs the library.
    """

    name: str
    distributions: tuple[str, ...]
    install: str
    offers: Mapping[str, Offer]
    build: Callable[[Problem, str], Calls]
    note: str = ""
