"""A synapse and its layer as functions of their weights, and what their membranes and spikes do on the data."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw.chip import LinearCharge
from brainhw.nn.protocols import Preparable, Quietable, Recurrent, Slot, fulfils, runs_whole_sequence, weight_slot_of

__all__ = ["Circuit", "Measured", "Meter", "prepare_module", "settled"]

_SAMPLES = 200_000  # membrane values kept for a histogram


class Circuit:
    """One ``(synapse, layer)`` pair whose layer takes exactly what the synapse gives.

    Weights are plain numbers in the unit of the synapse's slot, as ``[n_in, n_columns]``: one row per input and one
    column per target, or per output channel of a convolution. ``weight_step`` is the distance of the levels that the
    weights are rounded to, or ``None``. A neuron with ``S`` synapses has ``S`` neighbouring columns. A *unit* is what
    gets a mean and a spread of its own: here one neuron.

    Parameters
    ----------
    synapse : module with a weight slot
        The synapse; its weights are written to by every method that takes some.
    layer : Neuron
        The layer; its states are written to by :meth:`run`.
    """

    positions = 1.0  # neurons per unit

    def __init__(self, synapse: Any, layer: Any) -> None:
        self.synapse, self.layer = synapse, layer
        found = weight_slot_of(synapse)
        assert found is not None  # discovery takes no other
        assert found.out_axis is not None
        self.slot, self._axis = found, found.out_axis
        slot = layer.recurrent_slot() if fulfils(layer, Recurrent, call="fluct_init") else None
        # A frozen weight is a choice of the user, such as a trained body under a new head: it stays.
        self._recurrent = slot if slot is not None and slot.learnt else None
        # Numpy would pull the weights off their device; only the shape is needed.
        self._shape = np.moveaxis(np.empty(np.shape(self.slot.value), bool), self._axis, -1).shape
        self.n_in, self.n_columns = math.prod(self._shape[:-1]), self._shape[-1]
        self.n_neurons = math.prod(layer.out_size)
        # Current-based neurons take one input per synapse, neuron by neuron.
        self.layer_synapses = math.prod(layer.in_size) // self.n_neurons
        self.n_units = self.n_neurons
        self.n_synapses = self.layer_synapses
        self.chip = getattr(layer, "chip", None)
        # Kept, because a search goes without the grid.
        self.weight_step: float | None = None if self.slot.grid is None else self.slot.grid.step

    @property
    def family(self) -> str:
        """Short name of the kind of neuron, as printed."""
        return self.chip.name if self.chip is not None else type(self.layer).__name__.removesuffix("Layer")

    @property
    def weight_limit(self) -> float:
        """Largest weight that the hardware takes; infinite without a chip."""
        return self.slot.limit

    @property
    def remembers_all(self) -> bool:
        """Whether the response to a spike never fades for good, as that of a fractional neuron."""
        return bool(getattr(self.layer, "never_forgets", False))

    @property
    def bends(self) -> bool:
        """Whether the drive is not proportional to the weight."""
        return self.chip is not None and not isinstance(getattr(self.chip, "charge", None), LinearCharge)

    @property
    def clamped(self) -> bool:
        """Whether the membrane is held at zero or above."""
        return bool(getattr(self.layer, "clamped", False))

    @property
    def is_rounded(self) -> bool:
        """Whether the network applies other weights than those stored: rounded, or with signs held together."""
        parts = [getattr(module, "effective", None) for module in (self.synapse, self.layer)]
        annealed = any(part is not None and part.sign_alpha is not None for part in parts)
        return annealed or any(slot is not None and slot.grid is not None for slot in (self.slot, self._recurrent))

    @property
    def is_recurrent(self) -> bool:
        """Whether there are recurrent weights to set; frozen ones are left alone."""
        return self._recurrent is not None

    @property
    def weight(self) -> jax.Array:
        """The present weights, ``[n_in, n_columns]``."""
        value = jnp.asarray(self.slot.value)
        return value if value.shape == self._shape == (self.n_in, self.n_columns) else self._as_matrix(value)

    @property
    def recurrent(self) -> jax.Array | None:
        """The present recurrent weights, ``[n_neurons, n_neurons * S]``, or ``None``."""
        return None if self._recurrent is None else self._recurrent.value

    def applied(self) -> tuple[jax.Array, jax.Array | None]:
        """Return the present weights as their grids round them, in the shapes of the parameters."""

        def rounded(slot: Slot) -> jax.Array:
            return slot.value if slot.grid is None else slot.grid.quantize(slot.value, None)

        return rounded(self.slot), None if self._recurrent is None else rounded(self._recurrent)

    def threshold(self) -> np.ndarray:
        """Return the threshold of each neuron in mV, ``[n_neurons]``."""
        V_th = np.asarray(self.layer.threshold().to(u.mV).mantissa, dtype=float)
        return np.broadcast_to(V_th, self.layer.out_size).reshape(self.n_neurons)

    def store(self, weight: jax.Array, recurrent: jax.Array | None) -> None:
        """Write weights into the network."""
        self._write(weight)
        if recurrent is not None and self._recurrent is not None:
            self._recurrent.write(recurrent)

    def check_recurrent(self, wanted: jax.Array | None, *, call: str) -> None:
        """Raise if recurrent weights were stored that the transform of their parameter cannot give."""
        transform = None if self._recurrent is None else getattr(self._recurrent.parameter, "t", None)
        if wanted is None or transform is None:
            return
        wanted, held = np.asarray(wanted), np.asarray(self.recurrent)
        if not np.allclose(held, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max()):
            raise ValueError(
                f"{call}: w_rec has the transform {type(transform).__name__}, which cannot give the weights "
                f"drawn for it, from {wanted.min():.3g} to {wanted.max():.3g} mV; use one that gives both signs and "
                "this range, or freeze the weights with brainstate.nn.Const."
            )

    def drive(self, weight: jax.Array, xs: Any) -> u.Quantity:
        """Return what inputs ``[T, B, *in]`` bring to the layer, ``[T, B, *layer.in_size]``, volts or charge."""
        self._write(weight)
        prepare_module(self.synapse)
        return self.synapse.update(xs)

    def probe(self, weight: float) -> float:
        """Return what the synapse gives for one spike at one input, all weights being equal."""
        # Built by numpy: jax would compile each of these steps anew for every size of a layer.
        one_spike = jnp.asarray(np.eye(1, self.n_in)[None])
        return float(np.asarray(u.get_mantissa(self.drive(self._full(weight), one_spike)))[0, 0, 0])

    def drive_unit(self) -> u.Unit:
        """Return the unit of the layer's input."""
        return u.get_unit(self.drive(self.weight, jnp.asarray(np.zeros((1, 1, self.n_in)))))

    def reach(self) -> Any:
        """Return what one unit of the synapse's output becomes at each input of the layer: 1 if nothing is between."""
        return 1.0

    def subthreshold(self, weight: jax.Array, xs: Any) -> jax.Array:
        """Return the membranes in mV that the inputs alone make, ``[T, B, n_neurons]``: no spike, reset or clamp."""
        return self.driven(weight, xs)[1]

    def driven(self, weight: jax.Array, xs: Any) -> tuple[u.Quantity, jax.Array]:
        """Return :meth:`drive` and the membranes that it makes, :meth:`subthreshold`."""
        drive = self.drive(weight, xs)
        prepare_module(self.layer)
        return drive, self.membrane(drive)

    def membrane(self, drive: u.Quantity, spikes: jax.Array | None = None) -> jax.Array:
        """Return the membranes in mV, ``[T, B, n_neurons]``, given the drive and spikes that come back a step later."""
        if spikes is not None:
            # A spike reaches its layer one step later: the recurrent term of the step is s_{t-1} W_rec.
            before = jnp.concatenate([jnp.zeros_like(spikes[:1]), spikes[:-1]])
            drive = drive + self.layer.recurrent_drive(before)
        return self._by_neuron(self.layer.subthreshold(drive).mantissa)

    def with_recurrence(self, weight: jax.Array, recurrent: jax.Array, xs: Any, spikes: jax.Array) -> jax.Array:
        """Return :meth:`subthreshold` with what given spikes ``[T, B, n_neurons]`` bring back one step later."""
        self.store(weight, recurrent)
        drive = self.drive(weight, xs)
        prepare_module(self.layer)
        return self.membrane(drive, spikes)

    def run(self, weight: jax.Array, recurrent: jax.Array | None, xs: Any) -> jax.Array:
        """Return the spikes ``[T, B, n_neurons]`` of the real layer, from rest."""
        self.store(weight, recurrent)
        drive = self.drive(weight, xs)
        prepare_module(self.layer)
        self.layer.reset_state(drive.shape[1])
        # The search runs the layer some twenty times: the fast path is worth a second way through it.
        if runs_whole_sequence(self.layer, call="fluct_init") and self.layer.gains_from_sequence():
            return self._by_neuron(self.layer.update_sequence(drive))
        return self._by_neuron(brainstate.transform.for_loop(self.layer.update, drive))

    def moved(self, drive: Any, sd: jax.Array) -> jax.Array:
        """Return deviations of membranes ``[n_neurons]``, zero where the drive ``[T, B, *in]`` never changes."""
        return sd

    def total(self, counts: np.ndarray) -> np.ndarray:
        """Return the sum over the neurons of each unit."""
        return counts

    def per_unit(self, of_neurons: np.ndarray) -> np.ndarray:
        """Return the median over the neurons of each unit, those that are NaN left out."""
        return of_neurons

    def per_column(self, of_units: np.ndarray) -> np.ndarray:
        """Return for each column the value of its unit."""
        return np.repeat(of_units, self.n_synapses)

    def any_of_unit(self, of_columns: np.ndarray) -> np.ndarray:
        """Return for each unit whether something holds for any of its columns."""
        return of_columns.reshape(-1, self.n_synapses).any(axis=1)

    @contextlib.contextmanager
    def smooth(self) -> Iterator[None]:
        """Switch noise, sign annealing and the rounding of weights off while the block runs.

        A search must see the same layer each time, and what a small weight does.
        """
        with contextlib.ExitStack() as stack:
            for module in (self.synapse, self.layer):
                if fulfils(module, Quietable, call="fluct_init"):
                    stack.enter_context(module.quiet())
            yield

    def _full(self, weight: float) -> jax.Array:
        return jnp.asarray(np.full((self.n_in, self.n_columns), weight), self.weight.dtype)

    def _as_matrix(self, value: jax.Array) -> jax.Array:
        return jnp.moveaxis(value, self._axis, -1).reshape(self.n_in, self.n_columns)

    def _write(self, weight: jax.Array) -> None:
        if len(self._shape) > 2 or self._axis != -1:
            weight = jnp.moveaxis(jnp.reshape(weight, self._shape), -1, self._axis)
        self.slot.write(weight)

    def _by_neuron(self, values: jax.Array) -> jax.Array:
        return values.reshape(*values.shape[: values.ndim - len(self.layer.out_size)], self.n_neurons)


def prepare_module(module: Any) -> None:
    """Compute what a module derives from its weights, such as the charges of a chip."""
    if fulfils(module, Preparable, call="fluct_init"):
        module.prepare()


@dataclasses.dataclass(frozen=True)
class Measured:
    """Statistics over time and batch in mV, per neuron.

    Attributes
    ----------
    mean, sd : numpy.ndarray
        Of the sub-threshold membrane, recurrent input included, ``[n]``.
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
        """Return the distance to thresholds ``[n]`` in standard deviations, infinite where nothing moves."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.sd > 0, (theta - self.mean) / self.sd, np.inf)


class Meter:
    """Runs and measures one pair on one input; compiled once, whatever the weights.

    Parameters
    ----------
    circuit : Circuit
        The pair.
    xs : jax.Array or pytree
        Input, ``[T, B, n_in]``, or what the circuit takes.
    rise : int
        Steps that a membrane takes to rise from rest; they are left out of the statistics, up to half of the data.
    """

    def __init__(self, circuit: Circuit, xs: Any, rise: int) -> None:
        self.circuit, self.xs = circuit, xs
        self.n_steps, self.n_samples = jax.tree.leaves(xs)[0].shape[:2]
        # A membrane that still rises from rest would count its rise as fluctuation.
        self.first = min(rise, self.n_steps // 2)
        self.n_runs = 0
        self._run = brainstate.transform.jit(circuit.run)
        self._alone = brainstate.transform.jit(self._alone_moments)
        # Compiled on first use: dense pairs predict this correlation and never ask.
        self._lag: Any = None
        self._joint = brainstate.transform.jit(self._joint_moments)

    @property
    def steps(self) -> int:
        """Steps of all samples together."""
        return self.n_steps * self.n_samples

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

    def lag_one(self, weight: jax.Array) -> tuple[np.ndarray, float]:
        """Return the deviation that the input makes, ``[n_neurons]``, and the correlation of one step with the next."""
        if self._lag is None:
            self._lag = brainstate.transform.jit(self._lagged)
        sd, later = self._lag(weight, self.xs)
        return np.asarray(sd, dtype=float), float(later)

    def _lagged(self, weight: jax.Array, xs: Any) -> tuple[jax.Array, jax.Array]:
        drive, trace = self.circuit.driven(weight, xs)
        trace = trace[self.first :]
        off = trace - trace.mean(axis=(0, 1))
        # One number for all neurons: it only sets how often a membrane crosses the threshold by chance.
        later = jnp.mean(off[1:] * off[:-1]) / jnp.maximum(jnp.mean(off**2), 1e-30)
        return self.circuit.moved(drive, off.std(axis=(0, 1))), later

    def spread_RC(self, weight: jax.Array, recurrent: jax.Array, spikes: jax.Array) -> np.ndarray:
        """Return the standard deviation of what the layer's own spikes bring back, ``[n_neurons]`` in mV."""
        return np.asarray(self._joint(weight, recurrent, self.xs, spikes)[2], dtype=float)

    def _alone_moments(self, weight: jax.Array, xs: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        drive, trace = self.circuit.driven(weight, xs)
        mean, sd, sample = self.moments(trace)
        return mean, self.circuit.moved(drive, sd), sample

    def _joint_moments(self, weight: jax.Array, recurrent: jax.Array, xs: Any, spikes: jax.Array) -> tuple:
        # Both runs get the same spikes, so their difference is exactly what the spikes bring: membranes are linear.
        both = self.circuit.with_recurrence(weight, recurrent, xs, spikes)
        returned = both - self.circuit.subthreshold(weight, xs)
        mean, sd, sample = self.moments(both)
        return mean, sd, self.moments(returned)[1], sample

    def moments(self, trace: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return mean and standard deviation of each neuron, and some of the values of membranes ``[T, B, n]``."""
        flat, sample = settled(trace, self.first)
        return jnp.mean(flat, axis=0), jnp.std(flat, axis=0), sample


def settled(trace: jax.Array, first: int) -> tuple[jax.Array, jax.Array]:
    """Return the values of membranes ``[T, B, n]`` after their rise as ``[T * B, n]``, and a sample of them."""
    risen = trace[first:]
    flat = risen.reshape(-1, risen.shape[-1])
    stride = max(1, flat.size // _SAMPLES)
    # A stride with no common factor with the batch, so that every sample is met.
    while stride > 1 and np.gcd(stride, risen.shape[1]) > 1:
        stride += 1
    return flat, flat[::stride]
