"""What the membranes and the spikes of a pair really do on the data, with given weights."""

from __future__ import annotations

import dataclasses

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from brainhw.init.circuit import Circuit

__all__ = ["Measured", "Meter"]

_SAMPLES = 200_000  # membrane values kept for a histogram


@dataclasses.dataclass(frozen=True)
class Measured:
    """Statistics over time and batch, per neuron, in mV.

    Attributes
    ----------
    mean, sd : numpy.ndarray
        Of the sub-threshold membrane, recurrent input included, ``[n_neurons]``.
    sd_FF : numpy.ndarray
        Of the part that the feed-forward input makes.
    sd_RC : numpy.ndarray or None
        Of the part that the layer's own spikes bring back.
    sample : numpy.ndarray
        Some of the membrane values, ``[samples, n_neurons]``.
    """

    mean: np.ndarray
    sd: np.ndarray
    sd_FF: np.ndarray
    sd_RC: np.ndarray | None
    sample: np.ndarray

    def xi(self, theta: np.ndarray) -> np.ndarray:
        """Return the distance to thresholds ``[n_neurons]`` in standard deviations, infinite where nothing moves."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.sd > 0, (theta - self.mean) / self.sd, np.inf)


class Meter:
    """Runs and measures one pair on one input; compiled once, whatever the weights.

    Parameters
    ----------
    circuit : Circuit
        The pair.
    xs : jax.Array
        Input, ``[T, B, n_in]``.
    rise : int
        Steps that a membrane takes to rise from rest; they are left out of the statistics, up to half of the data.
    """

    def __init__(self, circuit: Circuit, xs: jax.Array, rise: int) -> None:
        self.circuit, self.xs = circuit, xs
        self.first = min(rise, len(xs) // 2)
        self.n_runs = 0
        self._run = brainstate.transform.jit(circuit.run)
        self._alone = brainstate.transform.jit(lambda *a: self._moments(circuit.subthreshold(*a)))
        self._joint = brainstate.transform.jit(self._joint_moments)

    @property
    def steps(self) -> int:
        """Steps of all samples together."""
        return self.xs.shape[0] * self.xs.shape[1]

    def run(self, weight: jax.Array, recurrent: jax.Array | None) -> jax.Array:
        """Return the spikes ``[T, B, n_neurons]``."""
        self.n_runs += 1
        return self._run(weight, recurrent, self.xs)

    def alone(self, weight: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation that the feed-forward input makes, ``[n_neurons]`` in mV."""
        mean, sd, _ = self._alone(weight, self.xs)
        return np.asarray(mean, dtype=float), np.asarray(sd, dtype=float)

    def measure(self, weight: jax.Array, recurrent: jax.Array | None, spikes: jax.Array) -> Measured:
        """Return the statistics of the membranes, given the spikes of :meth:`run`."""
        mean, sd_FF, sample = (np.asarray(a, dtype=float) for a in self._alone(weight, self.xs))
        if recurrent is None:
            return Measured(mean, sd_FF, sd_FF, None, sample)
        joint = self._joint(weight, recurrent, self.xs, spikes)
        mean, sd, sd_RC, sample = (np.asarray(a, dtype=float) for a in joint)
        return Measured(mean, sd, sd_FF, sd_RC, sample)

    def spread_RC(self, weight: jax.Array, recurrent: jax.Array, spikes: jax.Array) -> np.ndarray:
        """Return the standard deviation of what the layer's own spikes bring back, ``[n_neurons]`` in mV."""
        return np.asarray(self._joint(weight, recurrent, self.xs, spikes)[2], dtype=float)

    def _joint_moments(self, weight: jax.Array, recurrent: jax.Array, xs: jax.Array, spikes: jax.Array) -> tuple:
        both = self.circuit.with_recurrence(weight, recurrent, xs, spikes)
        returned = both - self.circuit.subthreshold(weight, xs)
        mean, sd, sample = self._moments(both)
        return mean, sd, self._moments(returned)[1], sample

    def _moments(self, trace: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        settled = trace[self.first :]
        flat = settled.reshape(-1, settled.shape[-1])
        stride = max(1, flat.size // _SAMPLES)
        # A stride with no common factor with the batch, so that every sample is met.
        while stride > 1 and np.gcd(stride, settled.shape[1]) > 1:
            stride += 1
        return jnp.mean(flat, axis=0), jnp.std(flat, axis=0), flat[::stride]
