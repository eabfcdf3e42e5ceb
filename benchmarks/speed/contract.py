"""What an adapter of a library offers to the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.speed.cases import Definition, Problem

__all__ = ["Adapter", "Calls", "Offer"]


@dataclass(frozen=True)
class Offer:
    """One case as a library solves it.

    Attributes
    ----------
    definition : Definition or None
        What its neuron does, by which it is checked; ``None``: that of the case.
    differs : str or None
        In words, how that differs from brainhw's; ``None``: not at all.
    """

    definition: Definition | None = None
    differs: str | None = None


@dataclass(frozen=True)
class Calls:
    """What is timed. Each call returns when its result is there.

    Attributes
    ----------
    forward : callable
        Run all steps and return the outputs.
    both : callable
        Return the loss and its gradients with respect to every weight matrix.
    step : callable
        One step of one sample that keeps its state.
    outputs : callable
        The outputs as a NumPy array ``[T, B, n or n_out]``; ``None`` where nothing of meaning comes out.
    gradients : callable
        The gradients with respect to the weights of the problem, as NumPy arrays by name.
    settings : mapping
        Ways to run, such as numbers of threads: each is tried and the fastest counts.
    temp_bytes : mapping
        By mode, a call that returns what XLA sets aside for temporary arrays.
    device_peak : callable, optional
        The most memory in use on an accelerator so far, in bytes.
    device : str
        What it ran on.
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
        Its name in tables and on the command line.
    distributions : tuple of str
        What must be installed, first of all the library itself.
    install : str
        How to install it.
    offers : mapping
        The cases that it solves.
    build : callable
        ``build(problem, device)`` imports the library and returns the calls.
    note : str
        In which form it is run.
    """

    name: str
    distributions: tuple[str, ...]
    install: str
    offers: Mapping[str, Offer]
    build: Callable[[Problem, str], Calls]
    note: str = ""
