"""The response of a real layer to one small spike, measured with spiking switched off."""

from __future__ import annotations

import dataclasses

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw.chip import ChipSpec
from brainhw.nn.spiking import SpikingLayer

__all__ = ["Kernel", "measure_kernel"]

_MAX_STEPS = 65_536
_TAIL = 1e-4
_LINEARITY = 0.01


@dataclasses.dataclass(frozen=True)
class Kernel:
    r"""Membrane response of each neuron to one input spike, per unit of weight.

    Attributes
    ----------
    response : numpy.ndarray
        ``[L, n]`` in mV per unit weight, the first row in the step of the spike itself.
    dt : float
        Step in seconds.
    """

    response: np.ndarray
    dt: float

    @property
    def integral(self) -> np.ndarray:
        r""":math:`\bar\epsilon_i = \Delta t \sum_t k_i(t)`, ``[n]`` in mV s."""
        return self.dt * self.response.sum(axis=0)

    @property
    def square_integral(self) -> np.ndarray:
        r""":math:`\hat\epsilon_i = \Delta t \sum_t k_i(t)^2`, ``[n]`` in mV^2 s."""
        return self.dt * (self.response**2).sum(axis=0)

    @property
    def peak(self) -> np.ndarray:
        """Largest response, ``[n]`` in mV."""
        return self.response.max(axis=0)


def measure_kernel(layer: SpikingLayer, chip: ChipSpec, dt: u.Quantity) -> Kernel:
    """Measure the response of ``layer`` to one spike through a synapse of small weight.

    The charge curve may bend, so the weight is small and half of it must give the same response per unit weight within
    1 %; it is halved up to ten times until it does. The record doubles in length until the last twentieth holds less
    than 1e-4 of the whole.

    Raises
    ------
    RuntimeError
        If no probe is small enough for the response to be linear.
    """
    probe = 1e-3 * chip.weight_limit
    for _ in range(10):
        first = _charge_per_weight(chip, probe)
        half = _charge_per_weight(chip, probe / 2)
        if abs(first - half) <= _LINEARITY * abs(half):
            break
        probe /= 2
    else:
        raise RuntimeError(
            f"fluct_init: the charge curve of {chip.name} is not smooth at zero weight: per unit weight it gives "
            f"{first:g} fC at {probe:g} and {half:g} fC at half of it."
        )

    def respond(n_steps: int) -> jax.Array:
        charge = jnp.full(layer.n_neurons, half) * u.fcoulomb

        def one_step(V: u.Quantity, _: jax.Array) -> tuple[u.Quantity, jax.Array]:
            return layer.integrate(V, 0 * charge, dt), V.to(u.mV).mantissa

        first_V = layer.integrate(jnp.zeros(layer.n_neurons) * u.mV, charge, dt)
        return brainstate.transform.scan(one_step, first_V, jnp.arange(n_steps))[1]

    n_steps = 256
    while True:
        response = np.asarray(respond(n_steps), dtype=np.float64)
        tail = np.abs(response[-max(1, n_steps // 20) :]).sum(axis=0)
        if np.all(tail <= _TAIL * np.abs(response).sum(axis=0)) or n_steps >= _MAX_STEPS:
            return Kernel(response, float(dt.to(u.second).mantissa))
        n_steps *= 2


def _charge_per_weight(chip: ChipSpec, probe: float) -> float:
    charge = chip.charge(np.asarray([-probe, probe], dtype=np.float32)).to(u.fcoulomb).mantissa
    # The odd part: an offset of the curve at zero weight is no response to the weight.
    return float(charge[1] - charge[0]) / (2 * probe)
