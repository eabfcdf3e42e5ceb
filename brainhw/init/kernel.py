"""The response of a real layer to one small spike, measured with spiking switched off."""

from __future__ import annotations

import dataclasses
import warnings

import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainhw.init.circuit import Circuit

__all__ = ["Kernel", "measure_kernel"]

_FIRST_STEPS = 256
_MAX_STEPS = 65_536
_TAIL = 1e-6  # of the whole, in the last twentieth: what is cut off is then a few parts in a million
_LINEARITY = 0.01
_HALVINGS = 10


@dataclasses.dataclass(frozen=True)
class Kernel:
    r"""Membrane response to one input spike, per unit of weight, for each column of the synapse.

    Attributes
    ----------
    response : numpy.ndarray
        ``[L, n_columns]`` in mV per unit weight, the first row in the step of the spike itself.
    asymmetry : float
        Root mean square of the slopes of the charge curve on both sides of zero, over their mean; 1 for a smooth curve.
    offset : numpy.ndarray
        Membrane without any input in the end, ``[n_neurons]`` in mV: what a bias makes.
    dt : float
        Step in seconds.
    """

    response: np.ndarray
    asymmetry: float
    offset: np.ndarray
    dt: float

    @property
    def integral(self) -> np.ndarray:
        r""":math:`\bar\epsilon = \Delta t \sum_t k(t)`, ``[n_columns]`` in mV s."""
        return self.dt * self.response.sum(axis=0)

    @property
    def square_integral(self) -> np.ndarray:
        r""":math:`\hat\epsilon = \Delta t \sum_t k(t)^2`, ``[n_columns]`` in mV^2 s."""
        return self.dt * self.asymmetry**2 * (self.response**2).sum(axis=0)

    @property
    def peak(self) -> np.ndarray:
        """Largest response, ``[n_columns]`` in mV."""
        return self.response.max(axis=0)


def measure_kernel(circuit: Circuit, dt: u.Quantity, n_steps: int, *, call: str = "fluct_init") -> Kernel:
    """Measure the response of a layer to one spike through a synapse of small weight.

    A charge curve may bend, so the weight is small and half of it must give the same drive per unit weight within 1 %;
    it is halved up to ten times until it does. Both signs are probed, and what the membrane does without a spike is
    taken off. The record doubles in length until its last twentieth holds less than a millionth of the whole.

    Parameters
    ----------
    circuit : Circuit
        The pair.
    dt : Quantity
        Time step.
    n_steps : int
        Length of the data. The response of a neuron that never forgets is cut off there: what comes later than the
        data cannot matter.
    call : str, optional
        The call to name in messages.

    Raises
    ------
    RuntimeError
        If no probe is small enough for the drive to be linear, or small weights give none.

    Warns
    -----
    UserWarning
        If the response has not faded after 65,536 steps.
    """
    # The limit sets the scale of a chip's weights; a voltage is small beside the threshold.
    scale = circuit.weight_limit if np.isfinite(circuit.weight_limit) else float(circuit.threshold().min())
    present = circuit.weight
    try:
        up, down = _slopes(circuit, 1e-3 * scale, call)
    finally:
        circuit.store(present, None)
    n_synapses = circuit.n_synapses
    # One row for each synapse of a neuron, and one that stays silent.
    mask = np.tile(np.concatenate([np.eye(n_synapses), np.zeros((1, n_synapses))]), circuit.n_neurons)
    mean_slope = 0.5 * (up + down)
    unit = u.get_unit(circuit.drive(present, jnp.asarray(np.zeros((1, 1, circuit.n_in)))))
    # Without spikes a layer is linear, so a large impulse stands clear of the rounding of what a bias makes.
    size = 1000 * float(circuit.threshold().min()) * _per_millivolt(circuit, unit)

    def respond(length: int) -> tuple[np.ndarray, np.ndarray]:
        impulse = np.zeros((length, *mask.shape))
        impulse[0] = mask * size
        traces = np.asarray(circuit.layer.subthreshold(jnp.asarray(impulse) * unit).mantissa, dtype=np.float64)
        moved = (traces[:, :-1] - traces[:, -1:]) / size * mean_slope
        return np.moveaxis(moved, 1, 2).reshape(length, circuit.n_columns), traces[-1, -1]

    length = n_steps if circuit.remembers_all else _FIRST_STEPS
    while True:
        response, offset = respond(length)
        tail = np.abs(response[-max(1, length // 20) :]).sum(axis=0)
        if circuit.remembers_all or np.all(tail <= _TAIL * np.abs(response).sum(axis=0)):
            break
        if length >= _MAX_STEPS:
            warnings.warn(
                f"{call}: the membrane of {circuit.family} neurons has not come back from one spike after {length} "
                "steps, so it hardly leaks and the mean membrane has no fixed value; use a shorter tau or a longer dt.",
                UserWarning,
                stacklevel=4,
            )
            break
        length *= 2
    asymmetry = float(np.sqrt(0.5 * (up**2 + down**2)) / abs(mean_slope))
    return Kernel(response, asymmetry, offset, float(dt.to(u.second).mantissa))


def _per_millivolt(circuit: Circuit, unit: u.Unit) -> float:
    """Return the drive that moves a membrane by about a millivolt."""
    return 1.0 if circuit.chip is None else float((circuit.chip.C * u.mV).to(unit).mantissa)


def _slopes(circuit: Circuit, probe: float, call: str) -> tuple[float, float]:
    """Return drive per unit weight just above and just below zero, measured on the synapse itself."""
    # Built by numpy: jax would compile each of these steps anew for every size of a layer.
    one_spike = jnp.asarray(np.eye(1, circuit.n_in)[None])

    def drive(weight: float) -> float:
        full = jnp.asarray(np.full((circuit.n_in, circuit.n_columns), weight), circuit.weight.dtype)
        return float(np.asarray(circuit.drive(full, one_spike).mantissa)[0, 0, 0])

    at_zero = drive(0.0)

    def slopes(size: float) -> np.ndarray:
        return np.array([(drive(side * size) - at_zero) / (side * size) for side in (1, -1)])

    for _ in range(_HALVINGS + 1):
        first, half = slopes(probe), slopes(probe / 2)
        if np.all(np.abs(first - half) <= _LINEARITY * np.abs(half)):
            if not half.any():
                raise RuntimeError(
                    f"{call}: the synapse of {circuit.family} gives no charge at weights up to {probe:g}, so there is "
                    "no response to scale; check the charge curve of the chip."
                )
            return float(half[0]), float(half[1])
        probe /= 2
    raise RuntimeError(
        f"{call}: the synapse of {circuit.family} is not smooth at zero weight: per unit weight it gives {first} at "
        f"{2 * probe:g} and {half} at half of it; check the charge curve of the chip."
    )
