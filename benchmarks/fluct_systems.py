"""Three types of neurons for ``fluct_validation``, and measurements that use only their modules."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import brainhw as bh

__all__ = [
    "BATCH",
    "DT",
    "RATES",
    "STEPS",
    "SYSTEMS",
    "System",
    "initialised",
    "membrane",
    "millivolts",
    "silent",
    "spikes",
]

DT = 1e-3  # s
BATCH, STEPS = 16, 2000
RATES = (10.0, 16.0, 100.0, 392.0)  # Hz


@dataclasses.dataclass(frozen=True)
class System:
    """A type of neuron, with enough inputs for the weight range of its chip.

    The weights of a chip are limited, and the charge curve of H1v1 is not linear. Therefore chip neurons are tested
    with more inputs and a longer time constant. The last rows of the table show results for fewer inputs.
    """

    name: str
    synapse: type
    layer: type
    n_in: int
    tau: float  # ms
    single_tau: float  # ms, for the check with a single input
    # For each of RATES, a target that leads to small weights, for which the charge curve is almost linear.
    weak_xi: tuple[float, ...]

    def net(self, n_in: int, n: int, tau: float, topology: str = "FF") -> brainstate.nn.Sequential:
        """Return a network of one synapse and one layer."""
        layer = self.layer(n, tau=tau * u.ms, topology=topology)
        return brainstate.nn.Sequential(self.synapse(n_in, n), layer)

    @property
    def on_chip(self) -> bool:
        """True if the weights are limited and the membrane potential is clamped at zero."""
        return self.layer is not bh.nn.LIFLayer


SYSTEMS = (
    System("H1v1", bh.nn.H1v1Synapse, bh.nn.H1v1Layer, 1024, 50.0, 200.0, (3.0, 3.0, 2.0, 2.0)),
    System("H1v2", bh.nn.H1v2Synapse, bh.nn.H1v2Layer, 1024, 50.0, 200.0, (2.0, 2.0, 2.0, 2.0)),
    System("LIF", bh.nn.LIFSynapse, bh.nn.LIFLayer, 128, 20.0, 20.0, (2.0, 2.0, 2.0, 2.0)),
)


def spikes(rate: float, n_in: int, *, seed: int, steps: int = STEPS) -> np.ndarray:
    """Return independent spikes ``[B, T, n_in]``, with at most one spike per input and step."""
    return (np.random.default_rng(seed).random((BATCH, steps, n_in), np.float32) < rate * DT).astype(np.float32)


def initialised(net: brainstate.nn.Module, x: np.ndarray, **options: Any) -> bh.init.LayerReport:
    """Initialise the network without warnings, and return the report of its layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        report = bh.init.fluct_init(
            net, [x], verbose=False, families="any", in_range=False, return_report=True, **options
        )
    assert report is not None
    return report.layers[0]


def millivolts(x: u.Quantity) -> np.ndarray:
    return np.asarray(x.to(u.mV).mantissa, dtype=float)


def membrane(net: brainstate.nn.Sequential, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of the membrane potential of each neuron without spikes, in units of the threshold.

    They are taken over the batch and over time, without the first five time constants.
    """
    synapse, layer = net.layers
    bh.prepare_net(net, BATCH)
    risen = int(5 * float(np.max(layer.tau.to(u.ms).mantissa)) / (1e3 * DT))

    @brainstate.transform.jit
    def moments(xs: jax.Array) -> tuple[jax.Array, jax.Array]:
        trace = layer.subthreshold(synapse.update(xs)).to(u.mV).mantissa[risen:]
        return trace.mean(axis=(0, 1)), trace.var(axis=(0, 1))

    theta = millivolts(layer.threshold())
    mean, variance = moments(jnp.swapaxes(x, 0, 1))
    return np.asarray(mean, float) / theta, np.asarray(variance, float) / theta**2


def silent(net: brainstate.nn.Sequential, x: np.ndarray) -> np.ndarray:
    """Return a mask ``[n]`` of the neurons that never spike."""
    return np.asarray(bh.rollout(net, np.swapaxes(x, 0, 1))[0].sum(axis=(0, 1))) == 0
