"""A synapse and its layer as functions of their weights: what a search may call again and again."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw.chip import LinearCharge
from brainhw.nn import FractionalLayer, H1Layer, LIFLayer, LIFSynapse, MultiSynapseLayer

__all__ = ["Circuit"]


class Circuit:
    """One ``(synapse, layer)`` pair of any family.

    Weights are plain numbers, in millivolt where the family's are voltages; ``weight_step`` is the distance of the
    levels that those of the synapse are rounded to, or ``None``. A synapse has ``n_columns`` targets: one a
    neuron, or ``S`` a neuron where a neuron has several synapses, neuron by neuron.

    Parameters
    ----------
    synapse : H1Synapse or LIFSynapse
        The synapse; its weights are written to by every method that is given some.
    layer : H1Layer, LIFLayer, MultiSynapseLayer or FractionalLayer
        The layer; its states are written to by :meth:`run`.
    """

    def __init__(self, synapse: Any, layer: Any) -> None:
        self.synapse, self.layer = synapse, layer
        self.n_in, self.n_columns = synapse.in_size[-1], synapse.out_size[-1]
        self.n_neurons = layer.n_neurons
        self.weight_unit = u.mV if isinstance(synapse, LIFSynapse) else u.UNITLESS
        self.chip = layer.chip if isinstance(layer, H1Layer) else None
        self._recurrent = _recurrent_parameter(layer)
        self._effective = getattr(synapse, "effective", None), getattr(layer, "effective", None)
        # Kept, because a search goes without the grid.
        grid = None if self._effective[0] is None else self._effective[0].grid
        self.weight_step: float | None = None if grid is None else grid.step

    @property
    def family(self) -> str:
        """Short name of the kind of neuron, as printed."""
        return self.chip.name if self.chip is not None else type(self.layer).__name__.removesuffix("Layer")

    @property
    def n_synapses(self) -> int:
        """Synapses of each neuron."""
        return self.n_columns // self.n_neurons

    @property
    def weight_limit(self) -> float:
        """Largest weight that the hardware takes; infinite without a chip."""
        return math.inf if self.chip is None else self.chip.weight_limit

    @property
    def remembers_all(self) -> bool:
        """Whether the response to a spike never fades for good, as that of a fractional neuron."""
        return isinstance(self.layer, FractionalLayer)

    @property
    def bends(self) -> bool:
        """Whether the drive is no straight line in the weight."""
        return self.chip is not None and not isinstance(self.chip.charge, LinearCharge)

    @property
    def clamped(self) -> bool:
        """Whether the membrane is held at zero or above."""
        return bool(getattr(self.layer, "clamped", False))

    @property
    def is_recurrent(self) -> bool:
        """Whether there are recurrent weights to set; frozen ones are left alone."""
        return self._recurrent is not None

    @property
    def weight(self) -> jax.Array:
        """The present weights, ``[n_in, n_columns]``."""
        return _plain(self.synapse.weight.value)

    @property
    def recurrent(self) -> jax.Array | None:
        """The present recurrent weights, ``[n_neurons, n_columns]``, or ``None``."""
        if self._recurrent is None:
            return None
        parameter = self._recurrent
        return _plain(parameter.value() if isinstance(parameter, brainstate.nn.Param) else parameter.value)

    def applied(self) -> tuple[jax.Array, jax.Array | None]:
        """Return the present weights as the chip applies them: signs annealed and rounded, where they are."""
        return tuple(
            weight if effective is None or weight is None else effective.applied(weight)
            for effective, weight in zip(self._effective, (self.weight, self.recurrent), strict=True)
        )

    def threshold(self) -> np.ndarray:
        """Return the thresholds in mV, ``[n_neurons]``."""
        V_th = np.asarray(self.layer.threshold().to(u.mV).mantissa, dtype=float)
        return np.broadcast_to(V_th, (self.n_neurons,))

    def store(self, weight: jax.Array, recurrent: jax.Array | None) -> None:
        """Write weights into the network."""
        self.synapse.weight.value = self._with_unit(weight)
        if recurrent is None or self._recurrent is None:
            return
        if isinstance(self._recurrent, brainstate.nn.Param):
            self._recurrent.set_value(self._with_unit(recurrent))
        else:
            self._recurrent.value = self._with_unit(recurrent)

    def check_recurrent(self, wanted: jax.Array | None, *, call: str) -> None:
        """Raise if recurrent weights were stored that the transform of their parameter cannot give."""
        if wanted is None or not isinstance(self._recurrent, brainstate.nn.Param):
            return
        wanted, held = np.asarray(wanted), np.asarray(self.recurrent)
        if not np.allclose(held, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max()):
            raise ValueError(
                f"{call}: w_rec has the transform {type(self._recurrent.t).__name__}, which cannot give the weights "
                f"drawn for it, from {wanted.min():.3g} to {wanted.max():.3g} mV; use one that gives both signs and "
                "this range, or freeze the weights with brainstate.nn.Const."
            )

    def drive(self, weight: jax.Array, xs: jax.Array) -> u.Quantity:
        """Return what the synapse makes of inputs ``[T, B, n_in]``: ``[T, B, n_columns]``, volts or charge."""
        self.synapse.weight.value = self._with_unit(weight)
        _prepare(self.synapse)
        return self.synapse.update(xs)

    def subthreshold(self, weight: jax.Array, xs: jax.Array) -> jax.Array:
        """Return the membranes in mV that the inputs alone make, ``[T, B, n_neurons]``: no spike, reset or clamp."""
        drive = self.drive(weight, xs)
        _prepare(self.layer)
        return self.layer.subthreshold(drive).mantissa

    def with_recurrence(self, weight: jax.Array, recurrent: jax.Array, xs: jax.Array, spikes: jax.Array) -> jax.Array:
        """Return :meth:`subthreshold` with what given spikes ``[T, B, n_neurons]`` bring back one step later."""
        self.store(weight, recurrent)
        drive = self.drive(weight, xs)
        _prepare(self.layer)
        before = jnp.concatenate([jnp.zeros_like(spikes[:1]), spikes[:-1]])
        return self.layer.subthreshold(drive + self.layer.recurrent_drive(before)).mantissa

    def run(self, weight: jax.Array, recurrent: jax.Array | None, xs: jax.Array) -> jax.Array:
        """Return the spikes ``[T, B, n_neurons]`` of the real layer, from rest."""
        self.store(weight, recurrent)
        drive = self.drive(weight, xs)
        _prepare(self.layer)
        self.layer.reset_state(xs.shape[1])
        if hasattr(self.layer, "update_sequence") and self.layer.gains_from_sequence():
            return self.layer.update_sequence(drive)
        return brainstate.transform.for_loop(self.layer.update, drive)

    @contextlib.contextmanager
    def smooth(self) -> Iterator[None]:
        """Switch noise, sign annealing and the rounding of weights off while the block runs.

        A search must see the same layer each time, and what a small weight does.
        """
        settings = [(self.layer, "noise_std")] if isinstance(self.layer, MultiSynapseLayer) else []
        settings += [(part, name) for part in self._effective if part is not None for name in ("grid", "sign_alpha")]
        before = [getattr(part, name) for part, name in settings]
        for part, name in settings:
            setattr(part, name, None)
        try:
            yield
        finally:
            for (part, name), value in zip(settings, before, strict=True):
                setattr(part, name, value)

    def _with_unit(self, weight: jax.Array) -> Any:
        return weight if self.weight_unit == u.UNITLESS else weight * self.weight_unit


def _plain(weight: Any) -> jax.Array:
    return weight.to(u.mV).mantissa if isinstance(weight, u.Quantity) else weight


def _prepare(module: Any) -> None:
    if hasattr(module, "prepare"):
        module.prepare()


def _recurrent_parameter(layer: Any) -> Any:
    if isinstance(layer, (H1Layer, LIFLayer)):
        return layer.recurrent_weight if layer.topology == "RC" else None
    parameter = getattr(layer, "w_rec", None)
    frozen = isinstance(parameter, brainstate.nn.Param) and not parameter.fit
    return None if frozen else parameter
