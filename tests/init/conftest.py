"""Spike trains, chip pairs and recorded runs of fluct_init, for the tests of initialisers."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh


def _poisson(rate: float, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < rate * 1e-3).astype(np.float32)


@pytest.fixture(scope="session")
def poisson() -> Callable[..., np.ndarray]:
    """Return a function that draws Bernoulli spikes ``[B, T, N]`` at a rate in Hz, for steps of 1 ms."""
    return _poisson


def _synapse(family: str, n_in: int, n: int, **options: Any) -> Any:
    # Use zeros: drawing random numbers of a new shape takes longer than everything else in many tests.
    zeros = np.zeros((n_in, n))
    return getattr(bh.nn, f"{family}Synapse")(
        n_in, n, weight_init=zeros * u.mV if family == "LIF" else zeros, **options
    )


def _chip_pair(
    family: str, n_in: int, n: int, tau: u.Quantity | None = None, topology: str = "FF", chip: Any = None
) -> brainstate.nn.Sequential:
    recurrent = np.zeros((n, n)) if topology == "RC" else None
    tau = 20 * u.ms if tau is None else tau
    layer = getattr(bh.nn, f"{family}Layer")(n, tau=tau, topology=topology, chip=chip, recurrent_init=recurrent)
    return brainstate.nn.Sequential(_synapse(family, n_in, n, chip=chip), layer)


@pytest.fixture(scope="session")
def chip_pair() -> Callable[..., brainstate.nn.Sequential]:
    """Return a function that builds a net of one chip synapse and its layer."""
    return _chip_pair


@dataclasses.dataclass(frozen=True)
class Run:
    """One call of fluct_init: the network, the report, the warnings."""

    net: brainstate.nn.Module
    report: bh.init.FluctReport
    warnings: list[str]

    @property
    def layer(self) -> bh.init.LayerReport:
        return self.report.layers[0]

    def told(self, text: str) -> list[str]:
        """Return the warnings that hold ``text``."""
        return [message for message in self.warnings if text in message]


def _run(net: brainstate.nn.Module, data: Any, **options: Any) -> Run:
    options = {"verbose": False, **options}
    # Fixtures with a wider scope are created before the time step of a test is set.
    with brainstate.environ.context(dt=1.0 * u.ms), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = bh.init.fluct_init(net, data, return_report=True, **options)
    assert all(issubclass(warning.category, UserWarning) for warning in caught), [str(w.message) for w in caught]
    return Run(net, report, [str(warning.message) for warning in caught])


@pytest.fixture(scope="session")
def fluct_run() -> Callable[..., Run]:
    """Return a function that calls fluct_init and records its report and warnings."""
    return _run
