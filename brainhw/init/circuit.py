"""Run a (synapse, layer) pair with trial weights, and measure its membrane potentials and spikes on data."""

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
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from brainhw.chip import LinearCharge, TabulatedCharge
from brainhw.init.stages import Wiring
from brainhw.nn.protocols import Preparable, Quietable, Recurrent, Slot, fulfils, runs_whole_sequence, weight_slot_of
from brainhw.transform.trace import StepTrace

__all__ = ["Circuit", "Measured", "Meter", "WiredCircuit", "flatten_steady"]

_SAMPLES = 200_000  # number of membrane potentials that are kept for a histogram


class Circuit:
    """A ``(synapse, layer)`` pair that can be run with trial weights.

    In this class the layer's input is the synapse's output. :class:`WiredCircuit` covers all other pairs.

    Weights are plain arrays in the unit of the synapse's weight slot. Their shape is ``[n_in, n_columns]``, with one
    row per input and one column per target neuron, or per output channel of a convolution. A neuron with ``S`` synapses
    has ``S`` adjacent columns. ``weight_step`` is the spacing of the grid to which the weights are rounded; ``None``
    without rounding.

    A *unit*, as in ``n_units``, is a group of neurons whose weights have a common mean and standard deviation. In this
    class, each neuron is a unit by itself. Methods that take weights as an argument write them to the network and leave
    them there.
    """

    positions = 1.0  # neurons per unit
    without_input = 0  # units without any input on the data
    valid: np.ndarray | None = None  # False for padded steps of the data, ``[T, B]``; ``None`` if all steps count

    def __init__(self, synapse: Any, layer: Any) -> None:
        self.synapse, self.layer = synapse, layer
        found = weight_slot_of(synapse)
        assert found is not None  # discovery returns only synapses with a weight slot
        assert found.out_axis is not None
        self.slot, self._axis = found, found.out_axis
        slot = layer.recurrent_slot() if fulfils(layer, Recurrent, call="fluct_init") else None
        # Frozen weights must not change: the user froze them on purpose, for example to train only a new last layer.
        self._recurrent = slot if slot is not None and slot.trainable else None
        # Only the shape is needed. Converting the weights to numpy would copy them from their device to the host.
        self._shape = np.moveaxis(np.empty(np.shape(self.slot.value), bool), self._axis, -1).shape
        self.n_in, self.n_columns = math.prod(self._shape[:-1]), self._shape[-1]
        self.n_neurons = math.prod(layer.out_size)
        # Current-based neurons have one input per synapse, grouped by neuron.
        self.layer_synapses = math.prod(layer.in_size) // self.n_neurons
        self.n_units = self.n_neurons
        self.n_synapses = self.layer_synapses
        self.chip = getattr(layer, "chip", None)
        # Store the step of the weight grid now, because `smooth` hides the grid during a search.
        self.weight_step: float | None = None if self.slot.grid is None else self.slot.grid.step

    @property
    def family(self) -> str:
        """Name of the neuron type in printed text."""
        return self.chip.name if self.chip is not None else type(self.layer).__name__.removesuffix("Layer")

    @property
    def weight_limit(self) -> float:
        """Largest absolute weight that the hardware allows; infinite if there is no limit."""
        return self.slot.limit

    @property
    def neutral_weight(self) -> float:
        """Weight at which the charge curve, linearised at weight zero, is zero.

        This weight is zero unless a measured charge curve is nonzero at weight zero.
        """
        charge = getattr(self.chip, "charge", None)
        if not isinstance(charge, TabulatedCharge):
            return 0.0
        slope = float(charge.slope_at_zero.mantissa)
        return -float(charge(0.0).mantissa) / slope if slope > 0 else 0.0

    @property
    def has_weight_limit(self) -> bool:
        """Whether the weights have a limit, set by a chip or by the weight range of another package's synapse."""
        return bool(np.isfinite(self.weight_limit))

    @property
    def never_forgets(self) -> bool:
        """Whether the response to a spike never fades completely, as for a fractional neuron."""
        return bool(getattr(self.layer, "never_forgets", False))

    @property
    def has_nonlinear_charge(self) -> bool:
        """Whether the layer's input is a nonlinear function of the weight."""
        return self.chip is not None and not isinstance(getattr(self.chip, "charge", None), LinearCharge)

    @property
    def clamped(self) -> bool:
        """Whether the layer clamps the membrane potential so that it cannot fall below zero."""
        return bool(getattr(self.layer, "clamped", False))

    @property
    def is_rounded(self) -> bool:
        """Whether the applied weights differ from the stored weights because of rounding or sign annealing."""
        parts = [getattr(module, "effective", None) for module in (self.synapse, self.layer)]
        annealed = any(part is not None and part.sign_alpha is not None for part in parts)
        return annealed or any(slot is not None and slot.grid is not None for slot in (self.slot, self._recurrent))

    @property
    def is_recurrent(self) -> bool:
        """Whether the layer has recurrent weights that are not frozen."""
        return self._recurrent is not None

    @property
    def weight(self) -> jax.Array:
        """Current weights, ``[n_in, n_columns]``."""
        value = jnp.asarray(self.slot.value)
        return value if value.shape == self._shape == (self.n_in, self.n_columns) else self._as_matrix(value)

    @property
    def recurrent(self) -> jax.Array | None:
        """Current recurrent weights, ``[n_neurons, n_neurons * S]``, or ``None``."""
        return None if self._recurrent is None else self._recurrent.value

    def applied(self) -> tuple[jax.Array, jax.Array | None]:
        """Return the current weights and recurrent weights, rounded to their grids, in the shapes of the parameters."""

        def rounded(slot: Slot) -> jax.Array:
            return slot.value if slot.grid is None else slot.grid.quantize(slot.value, None)

        return rounded(self.slot), None if self._recurrent is None else rounded(self._recurrent)

    def threshold(self) -> np.ndarray:
        """Return the threshold of each neuron in mV, ``[n_neurons]``."""
        V_th = np.asarray(self.layer.threshold().to(u.mV).mantissa, dtype=float)
        return np.broadcast_to(V_th, self.layer.out_size).reshape(self.n_neurons)

    def store(self, weight: jax.Array, recurrent: jax.Array | None) -> None:
        """Write weights and, unless ``None``, recurrent weights into the network."""
        self._write(weight)
        if recurrent is not None and self._recurrent is not None:
            self._recurrent.write(recurrent)

    def check_recurrent(self, wanted: jax.Array | None, *, call: str) -> None:
        """Raise if the transform of the recurrent parameter cannot represent the weights that were stored."""
        transform = None if self._recurrent is None else getattr(self._recurrent.parameter, "t", None)
        if wanted is None or transform is None:
            return
        wanted, held = np.asarray(wanted), np.asarray(self.recurrent)
        if not np.allclose(held, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max()):
            raise ValueError(
                f"{call}: w_rec has the transform {type(transform).__name__}, which cannot represent the initial "
                f"weights (from {wanted.min():.3g} to {wanted.max():.3g} mV). Use a transform that covers both "
                "signs and this range, or freeze the weights with brainstate.nn.Const."
            )

    def drive(self, weight: jax.Array, xs: Any) -> u.Quantity:
        """Return the layer's input, ``[T, B, *layer.in_size]`` in volt or charge, for synapse inputs ``[T, B, *in]``.

        The layer's input is also called its drive.
        """
        self._write(weight)
        _prepare(self.synapse)
        return self.synapse.update(xs)

    def probe(self, weight: float) -> float:
        """Return the layer's input for one spike at one synapse input, if all weights equal ``weight``."""
        # Create the spike with numpy, because JAX would compile these operations again for every layer size.
        one_spike = jnp.asarray(np.eye(1, self.n_in)[None])
        return float(np.asarray(u.get_mantissa(self.drive(self._full(weight), one_spike)))[0, 0, 0])

    def drive_unit(self) -> u.Unit:
        """Return the unit of the layer's input."""
        return u.get_unit(self.drive(self.weight, jnp.asarray(np.zeros((1, 1, self.n_in)))))

    def reach(self) -> Any:
        """Return the gain from the synapse's output to each input of the layer: 1 if no operation is between them."""
        return 1.0

    def drive_and_membrane(self, weight: jax.Array, xs: Any) -> tuple[u.Quantity, jax.Array]:
        """Return the drive and the sub-threshold membrane potentials, ``[T, B, n_neurons]`` in mV.

        The potentials are computed without spikes, reset and clamp.
        """
        drive = self.drive(weight, xs)
        _prepare(self.layer)
        return drive, self.membrane(drive)

    def membrane(self, drive: u.Quantity, spikes: jax.Array | None = None) -> jax.Array:
        """Return the membrane potentials, ``[T, B, n_neurons]`` in mV, for a drive and optional recurrent spikes."""
        if spikes is not None:
            # A recurrent spike reaches the layer one step later: the recurrent input at step t is s_{t-1} W_rec.
            before = jnp.concatenate([jnp.zeros_like(spikes[:1]), spikes[:-1]])
            drive = drive + self.layer.recurrent_drive(before)
        return self._by_neuron(self.layer.subthreshold(drive).mantissa)

    def run(self, weight: jax.Array, recurrent: jax.Array | None, xs: Any) -> jax.Array:
        """Run the layer from rest, with spikes and reset, and return the spikes ``[T, B, n_neurons]``."""
        self.store(weight, recurrent)
        drive = self.drive(weight, xs)
        _prepare(self.layer)
        self.layer.reset_state(drive.shape[1])
        # Use the faster function for whole sequences. A search runs the layer about twenty times, so this saves more
        # time than its compilation takes.
        if runs_whole_sequence(self.layer, call="fluct_init") and self.layer.gains_from_sequence():
            return self._by_neuron(self.layer.update_sequence(drive))
        return self._by_neuron(brainstate.transform.for_loop(self.layer.update, drive))

    def zero_where_constant(self, drive: Any, sd: jax.Array) -> jax.Array:
        """Return ``sd`` ``[n_neurons]`` unchanged. A subclass sets ``sd`` to zero where ``drive`` is constant."""
        return sd

    def total(self, counts: np.ndarray) -> np.ndarray:
        """Return the sum of ``counts`` over the neurons of each unit (see the class)."""
        return counts

    def median_per_unit(self, of_neurons: np.ndarray) -> np.ndarray:
        """Return the median of ``of_neurons`` over the neurons of each unit. NaN values are ignored."""
        return of_neurons

    def per_column(self, of_units: np.ndarray) -> np.ndarray:
        """Expand values per unit to values per weight column."""
        return np.repeat(of_units, self.n_synapses)

    def any_of_unit(self, of_columns: np.ndarray) -> np.ndarray:
        """Return, for each unit, whether ``of_columns`` is True for any of its weight columns."""
        return of_columns.reshape(-1, self.n_synapses).any(axis=1)

    @contextlib.contextmanager
    def smooth(self) -> Iterator[None]:
        """Context manager that disables noise, sign annealing and weight rounding.

        A search must get the same result from equal weights, and rounding would hide the effect of small weights.
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


class WiredCircuit(Circuit):
    """A pair with other operations between synapse and layer, or with weights shared by several neurons.

    Its input is ``(given, sources)``. ``given`` is the input of the synapse. ``sources`` are all other values that the
    drive depends on. Each value has shape ``[T, B, ...]``. A unit is the set of neurons driven by the same weight
    columns. In a convolution, a unit contains all positions of an output channel. In most other cases, a unit is a
    single neuron.
    """

    def __init__(
        self, synapse: Any, layer: Any, wiring: Wiring, trace: StepTrace, valid: np.ndarray | None = None, *, call: str
    ) -> None:
        super().__init__(synapse, layer)
        self.valid = valid
        self.link, self.given = wiring.link, trace.calls[wiring.synapse].given
        self.gave, self.target = trace.calls[wiring.synapse].gave, trace.calls[wiring.layer].given
        self._slots = [source.same(self.gave) for source in self.link.sources]
        if len(self.gave.likes) != 1:
            raise ValueError(f"{call}: the synapse of a pair returns {len(self.gave.likes)} arrays (expected one).")
        self._gain = np.ones(self.n_neurons)
        self._group_into_units(call)

    def drive(self, weight: jax.Array, xs: Any) -> u.Quantity:
        """Return the layer's input, ``[T, B, *layer.in_size]``."""
        given, sources = xs
        self._write(weight)
        _prepare(self.synapse)
        # Synapses have no state, so process all steps at once: one large matrix product instead of T small ones.
        n_steps, n_samples = jax.tree.leaves(given)[0].shape[:2]
        # Fold time into the batch, because modules of other packages may accept only one batch axis.
        folded = jax.tree.map(lambda a: a.reshape(n_steps * n_samples, *a.shape[2:]), given)
        gave = self.synapse.update(folded)
        gave = jax.tree.map(lambda a: a.reshape(n_steps, n_samples, *a.shape[1:]), gave)
        return jax.vmap(self._apply_link)(gave, sources)

    def probe(self, weight: float) -> float:
        """Return the synapse's output for one spike at one input, if all weights equal ``weight``."""
        like = self.given.likes[0]
        spike = np.zeros((1, *like.shape[1:]))
        # Place the spike in the middle of the input, where no convolution kernel is cut off by the border.
        spike[(0, *(size // 2 for size in like.shape[1:]))] = 1
        given = self.given.holding([jnp.asarray(spike, like.dtype)])
        self._write(self._full(weight))
        _prepare(self.synapse)
        found = np.asarray(u.get_mantissa(self.synapse.update(given)) - u.get_mantissa(self.synapse.update(0 * given)))
        return float(found.ravel()[np.argmax(np.abs(found))])

    def drive_unit(self) -> u.Unit:
        """Return the unit of the layer's input."""
        return self.target.unit

    def reach(self) -> Any:
        """Return the gain from the synapse's output to each input of the layer."""
        return np.repeat(self._gain, self.layer_synapses)

    def rates(self, given: jax.Array) -> np.ndarray:
        """Return the mean output of the synapse per unit weight for each row of the weights, ``[n_in]``.

        ``given`` is the input of the synapse, ``[T, B, ...]``. The result is computed as the gradient of the mean
        output with respect to the weights. This is exact for every synapse that is linear in its weights, including
        convolutions with padding. To get the mean input of each row, divide the result by the output that one spike
        causes per unit weight.
        """
        held = self.slot.value

        def mean_output(weight: jax.Array, folded: Any) -> jax.Array:
            self._write(weight)
            _prepare(self.synapse)
            gave = u.get_mantissa(self.synapse.update(folded))
            return gave.mean(axis=tuple(range(gave.ndim - 1))).sum() if gave.ndim > 1 else gave.sum()

        folded = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), given)
        try:
            slope = brainstate.transform.jit(brainstate.transform.grad(mean_output, argnums=0))
            gradient = slope(jnp.zeros((self.n_in, self.n_columns), self.weight.dtype), folded)
        finally:
            self.slot.write(held)
            _prepare(self.synapse)
        return np.asarray(gradient, dtype=float).mean(axis=1)

    def _apply_link(self, gave: Any, sources: Any) -> Any:
        rest = iter(sources)
        return self.link(*(gave if ours else next(rest) for ours in self._slots))

    def _group_into_units(self, call: str) -> None:
        """Group the neurons and columns that depend on each other into units."""
        like = self.gave.likes[0]
        n = self.n_neurons
        others = [
            source.holding(jnp.ones(one.shape, one.dtype) for one in source.likes)
            for source, ours in zip(self.link.sources, self._slots, strict=True)
            if not ours
        ]

        def drive_per_neuron(column: jax.Array, size: float) -> jax.Array:
            # Each weight column yields one channel on the last axis, because brainstate and brainhw put channels last.
            hot = jnp.zeros(like.shape, like.dtype).reshape(*like.shape[:-1], -1)
            hot = hot + size * (jnp.arange(like.shape[-1]) == column)
            drive = u.get_mantissa(self._apply_link(self.gave.holding([hot]), others))[0]
            return drive.reshape(n, self.layer_synapses).sum(axis=1)

        def all_columns(_: Any) -> jax.Array:
            rest = drive_per_neuron(jnp.asarray(0), 0.0)
            return jax.lax.map(lambda column: drive_per_neuron(column, 1.0) - rest, jnp.arange(like.shape[-1]))

        if like.shape[-1] != self.n_columns:
            raise ValueError(
                f"{call}: the {type(self.synapse).__name__} has {self.n_columns} weight columns, but the last axis of "
                f"its output has length {like.shape[-1]} (expected the same number). Move the channels to the last "
                "axis."
            )
        reached = np.asarray(brainstate.transform.jit(all_columns)(0))
        touches = np.abs(reached) > 0
        self._gain = np.where(touches.any(axis=0), np.abs(reached).max(axis=0), 0.0)
        # With max pooling or grouped channels, array shapes do not show which columns drive which neurons. So build the
        # bipartite graph of columns and neurons. Each of its connected components is a unit, whose weights can be
        # scaled by one common factor.
        column, neuron = np.nonzero(touches)
        nodes = self.n_columns + n
        graph = csr_array((np.ones(len(column)), (column, self.n_columns + neuron)), shape=(nodes, nodes))
        _, label = connected_components(graph, directed=False)
        units = np.unique(label[: self.n_columns])
        number = {name: i for i, name in enumerate(units)}
        self.of_column = np.array([number[name] for name in label[: self.n_columns]])
        self.of_neuron = np.array([number.get(name, -1) for name in label[self.n_columns :]])
        sizes = np.bincount(self.of_column)
        if np.any(sizes != sizes[0]) or np.any(np.diff(self.of_column) < 0):
            raise ValueError(
                f"{call}: an operation between the {type(self.synapse).__name__} and its layer mixes some weight "
                "columns but not others, so the standard deviation of each column's weights cannot be computed "
                "separately. Omit the pair from net.layer_pairs."
            )
        self.n_units, self.n_synapses = len(units), int(sizes[0])
        counted = np.bincount(self.of_neuron[self.of_neuron >= 0], minlength=self.n_units)
        self._has_neurons = counted > 0
        self._has_input = self._has_neurons
        if not self._has_neurons.any():
            raise ValueError(
                f"{call}: if all recordings are equal, the weights of the {type(self.synapse).__name__} have no effect "
                "on its layer. The cause is a normalisation over the batch axis between synapse and layer, for example "
                "BatchNorm with fit=True. Run this call inside brainstate.environ.context(fit=False)."
            )
        self.positions = float(counted[self._has_neurons].mean())
        self._size = np.maximum(counted, 1)
        if self.is_recurrent and (self.n_units != n or not self._has_neurons.all()):
            raise ValueError(
                f"{call}: {type(self.layer).__name__} is recurrent and shares incoming weights between its neurons, "
                "which is unsupported. Freeze the recurrent weights or use a layer without recurrence."
            )

    def zero_where_constant(self, drive: Any, sd: jax.Array) -> jax.Array:
        """Return ``sd`` ``[n_neurons]``, with zeros where the drive ``[T, B, *in]`` is constant."""
        # If the drive is constant, such as a bias at the empty border of an image, the membrane potential only rises to
        # its steady state. The standard deviation would then measure the end of this rise, not a fluctuation.
        numbers = u.get_mantissa(drive)
        if self.valid is not None:
            shown = self.valid.reshape(*self.valid.shape, *(1,) * (numbers.ndim - 2))
            numbers = jnp.where(shown, numbers, numbers[:1])
        changes = numbers.max(axis=(0, 1)) > numbers.min(axis=(0, 1))
        return jnp.where(changes.reshape(self.n_neurons, -1).any(axis=1), sd, 0.0)

    def _filled(self, of_units: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Replace the values of units for which ``known`` is False by the mean of the other units.

        The weights of these units have no effect but must be finite.
        """
        return np.where(known, of_units, of_units[known].mean() if known.any() else 0.0)

    def exclude_without_input(self, responds: np.ndarray) -> None:
        """Exclude units without any input from the count of silent units, because no weights can make these units fire.

        ``responds`` ``[n_neurons]`` is True for neurons whose membrane potential changes with the input.
        """
        ours = self.of_neuron >= 0
        self._has_input = np.bincount(self.of_neuron[ours], responds[ours], self.n_units) > 0
        self.without_input = int(np.sum(self._has_neurons & ~self._has_input))

    def total(self, counts: np.ndarray) -> np.ndarray:
        """Return each unit's spike count. Units without neurons or without input get the mean count of the others."""
        ours = self.of_neuron >= 0
        return self._filled(
            np.bincount(self.of_neuron[ours], counts[ours], self.n_units), self._has_neurons & self._has_input
        )

    def median_per_unit(self, of_neurons: np.ndarray) -> np.ndarray:
        """Return the median of ``of_neurons`` over the neurons of each unit. NaN values are ignored."""
        ours = (self.of_neuron >= 0) & ~np.isnan(of_neurons)
        values, units = of_neurons[ours], self.of_neuron[ours]
        # Sort by unit and value. The medians can then be read by indexing, without a loop over units.
        ordered = values[np.lexsort((values, units))]
        size = np.bincount(units, minlength=self.n_units)
        if not len(ordered):
            return np.zeros(self.n_units)
        first, last = np.cumsum(size) - size, len(ordered) - 1
        low, high = (ordered[np.minimum(first + n // 2, last)] for n in (np.maximum(size - 1, 0), size))
        return self._filled(0.5 * (low + high), size > 0)

    def mean_per_column(self, of_inputs: np.ndarray) -> np.ndarray:
        """Return the mean of ``of_inputs [L, inputs]`` over the neurons of each weight column, ``[L, n_columns]``."""
        per_neuron = of_inputs.reshape(len(of_inputs), self.n_neurons, -1).mean(axis=2)
        ours = np.zeros((self.n_neurons, self.n_units))
        reached = np.flatnonzero(self.of_neuron >= 0)
        ours[reached, self.of_neuron[reached]] = 1 / self._size[self.of_neuron[reached]]
        ours[:, ~self._has_neurons] = 1 / self.n_neurons
        return (per_neuron @ ours)[:, self.of_column]

    def per_column(self, of_units: np.ndarray) -> np.ndarray:
        """Expand values per unit to values per weight column."""
        return of_units[self.of_column]


def _prepare(module: Any) -> None:
    """Recompute the values that a module derives from its weights, such as the charges of a chip."""
    if fulfils(module, Preparable, call="fluct_init"):
        module.prepare()


@dataclasses.dataclass(frozen=True)
class Measured:
    """Statistics of sub-threshold membrane potentials over time and batch, ``[n_neurons]`` in mV."""

    mean: np.ndarray
    sd: np.ndarray
    sd_FF: np.ndarray  # standard deviation of the response to the feed-forward input
    sd_RC: np.ndarray | None  # standard deviation of the response to recurrent spikes; ``None`` without recurrence
    sample: np.ndarray  # a sample of the membrane potentials, ``[samples, n_neurons]``

    def xi(self, theta: np.ndarray) -> np.ndarray:
        """Return the distance from the mean to the threshold ``theta [n]``, in standard deviations.

        It is infinite for neurons with a constant membrane potential.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.sd > 0, (theta - self.mean) / self.sd, np.inf)


class Meter:
    """Run one (synapse, layer) pair on one input ``[T, B, n_in]``, and measure its membrane potentials and spikes.

    The weights are arguments of the compiled functions, so these functions are compiled only once.

    The statistics exclude the first ``rise`` steps, in which the membrane potentials rise from rest. If ``rise`` is
    more than half of the steps of a recording, the statistics exclude only the first half.
    """

    def __init__(self, circuit: Circuit, xs: Any, rise: int) -> None:
        self.circuit, self.xs = circuit, xs
        self.n_steps, self.n_samples = jax.tree.leaves(xs)[0].shape[:2]
        self.first = skipped_steps(rise, self.n_steps, circuit.valid)
        self.valid = circuit.valid
        self.n_runs = 0
        self._run = brainstate.transform.jit(circuit.run)
        self._run_feedforward = brainstate.transform.jit(self._measure_feedforward)
        # Compile this function on first use, because for dense pairs the lag-1 autocorrelation is predicted and not
        # measured.
        self._lag: Any = None
        self._joint = brainstate.transform.jit(self._measure_joint)

    @property
    def steps(self) -> int:
        """Total number of steps of all samples."""
        return self.n_steps * self.n_samples if self.valid is None else int(self.valid.sum())

    def run(self, weight: jax.Array, recurrent: jax.Array | None) -> jax.Array:
        """Run the pair with these weights. Return the spikes ``[T, B, n_neurons]``, with zeros in padded steps."""
        self.n_runs += 1
        spikes = self._run(weight, recurrent, self.xs)
        return spikes if self.valid is None else spikes * self.valid[..., None]

    def feedforward_moments(self, weight: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the membrane potentials, ``[n_neurons]`` in mV.

        The potentials are the response to the feed-forward input alone.
        """
        mean, sd, _ = self._run_feedforward(weight, self.xs)
        return np.asarray(mean, dtype=float), np.asarray(sd, dtype=float)

    def measure(self, weight: jax.Array, recurrent: jax.Array | None, spikes: jax.Array) -> Measured:
        """Return the statistics of the membrane potentials for the spikes that :meth:`run` returned."""
        mean, sd_FF, sample = (np.asarray(a, dtype=float) for a in self._run_feedforward(weight, self.xs))
        if recurrent is None:
            return Measured(mean, sd_FF, sd_FF, None, sample)
        joint = self._joint(weight, recurrent, self.xs, spikes)
        mean, sd, sd_RC, sample = (np.asarray(a, dtype=float) for a in joint)
        return Measured(mean, sd, sd_FF, sd_RC, sample)

    def lag_one(self, weight: jax.Array) -> tuple[np.ndarray, float]:
        """Return the standard deviation of each membrane potential, ``[n_neurons]`` in mV, and a lag-1 autocorrelation.

        The autocorrelation is one number, computed over the membrane potentials of all neurons.
        """
        if self._lag is None:
            self._lag = brainstate.transform.jit(self._lagged)
        sd, later = self._lag(weight, self.xs)
        return np.asarray(sd, dtype=float), float(later)

    def peak(self, weight: jax.Array) -> float:
        """Return the highest membrane potential of any neuron in mV, for the feed-forward input."""
        held = self.circuit.weight
        highest = brainstate.transform.jit(lambda weight, xs: self.circuit.drive_and_membrane(weight, xs)[1].max())
        peak = float(highest(weight, self.xs))
        self.circuit.store(held, None)  # the run above left its trial weights in the network
        return peak

    def _lagged(self, weight: jax.Array, xs: Any) -> tuple[jax.Array, jax.Array]:
        drive, trace = self.circuit.drive_and_membrane(weight, xs)
        flat, _ = flatten_steady(trace, self.first, self.valid)
        off = trace[self.first :] - flat.mean(axis=0)
        if self.valid is not None:
            off = off * self.valid[self.first :, :, None]
        # One correlation for all neurons suffices, because it only determines how often a membrane potential crosses
        # the threshold by chance.
        later = jnp.mean(off[1:] * off[:-1]) / jnp.maximum(jnp.mean(off**2), 1e-30)
        return self.circuit.zero_where_constant(drive, flat.std(axis=0)), later

    def sd_of_recurrent(self, weight: jax.Array, recurrent: jax.Array, spikes: jax.Array) -> np.ndarray:
        """Return the standard deviation of the membrane's response to recurrent spikes, ``[n_neurons]`` in mV."""
        return np.asarray(self._joint(weight, recurrent, self.xs, spikes)[2], dtype=float)

    def _measure_feedforward(self, weight: jax.Array, xs: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        drive, trace = self.circuit.drive_and_membrane(weight, xs)
        mean, sd, sample = self._moments(trace)
        return mean, self.circuit.zero_where_constant(drive, sd), sample

    def _measure_joint(self, weight: jax.Array, recurrent: jax.Array, xs: Any, spikes: jax.Array) -> tuple:
        # Sub-threshold membrane potentials are linear in the input. So the difference between the potentials with and
        # without recurrent spikes is the response to these spikes.
        self.circuit.store(weight, recurrent)
        drive, alone = self.circuit.drive_and_membrane(weight, xs)
        both = self.circuit.membrane(drive, spikes)
        mean, sd, sample = self._moments(both)
        return mean, sd, self._moments(both - alone)[1], sample

    def _moments(self, trace: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return each neuron's mean and standard deviation, and a sample, for the potentials ``trace [T, B, n]``."""
        flat, sample = flatten_steady(trace, self.first, self.valid)
        return jnp.mean(flat, axis=0), jnp.std(flat, axis=0), sample


def skipped_steps(rise: int, n_steps: int, valid: np.ndarray | None) -> int:
    """Return how many steps the statistics skip: ``rise``, but at most half the length of a typical recording.

    Otherwise the rise of the membrane potential from rest would count as fluctuation. Padded steps, which are False in
    ``valid`` ``[T, B]``, do not count towards the length of a recording, because they are not measured.
    """
    typical = n_steps if valid is None else int(np.median(valid.sum(axis=0)))
    return min(rise, typical // 2)


def flatten_steady(trace: jax.Array, first: int, valid: np.ndarray | None = None) -> tuple[jax.Array, jax.Array]:
    """Flatten the time and batch axes of ``trace [T, B, n]``, without the steps before ``first``.

    Return the flattened values and a sample of them. If ``valid`` ``[T, B]`` is not ``None``, padded steps are
    excluded.
    """
    risen = trace[first:]
    flat = risen.reshape(-1, risen.shape[-1])
    if valid is not None:
        flat = flat[np.flatnonzero(valid[first:])]
    stride = max(1, flat.size // _SAMPLES)
    # The stride must not share a factor with the batch size; otherwise some recordings would never be sampled.
    while stride > 1 and np.gcd(stride, risen.shape[1]) > 1:
        stride += 1
    return flat, flat[::stride]
