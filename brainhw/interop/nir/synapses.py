"""What a module that only weighs its input is in numbers: a matrix, a bias, and how it may be stored."""

from __future__ import annotations

from typing import Any, NamedTuple

import brainstate
import brainunit as u
import numpy as np

from brainhw.chip import LinearCharge
from brainhw.interop.nir.parts import BiasedSynapse, Gain
from brainhw.interop.nir.wiring import Call
from brainhw.nn import H1Layer, H1Synapse, LIFSynapse

__all__ = ["Codes", "Weights", "is_synapse", "stored_codes", "weights_of"]


class Codes(NamedTuple):
    """Weights as whole numbers ``[out, in]`` and the size of one, in the unit of the weights."""

    numbers: np.ndarray
    step: float
    bits: int


class Weights(NamedTuple):
    """A matrix ``[out, in]``, or factors ``[out]`` of a one-to-one connection, and a bias ``[out]`` or ``None``.

    Voltages are in mV; ``notes`` go into the metadata.
    """

    matrix: np.ndarray
    bias: np.ndarray | None
    notes: dict[str, Any]


def is_synapse(kind: type | None) -> bool:
    """Whether a module of this class only weighs its input."""
    return kind is not None and (issubclass(kind, (LIFSynapse, H1Synapse, Gain)) or kind is brainstate.nn.Linear)


def weights_of(call: Call, target: Any) -> Weights:
    """Return the weights of a prepared synapse as they act on ``target``, the module that it feeds."""
    module, gives, unit = call.module, call.gives, call.gives / call.takes
    if isinstance(module, H1Synapse):
        charge = module.effective.of(module.weight)
        volts = target.to_voltage(charge) if isinstance(target, H1Layer) else charge / module.chip.C
        bits = module.effective.weight_bits
        notes = {"chip": module.chip.name, "family": module.family, **({} if bits is None else {"bits": bits})}
        return Weights(_numbers(volts, u.mV).T, None, notes)
    if isinstance(module, Gain):
        return Weights(_numbers(module.factor.value, unit), _optional(module.bias, gives), {})
    if isinstance(module, LIFSynapse):
        bias = module.bias if isinstance(module, BiasedSynapse) else None
        return Weights(_numbers(module.weight.value, unit).T, _optional(bias, gives), {})
    held = module.weight.value
    matrix = _numbers(held["weight"], unit)
    if module.w_mask is not None:
        matrix = matrix * np.asarray(u.get_mantissa(module.w_mask), float)
    return Weights(matrix.T, _numbers(held["bias"], gives) if "bias" in held else None, {})


def stored_codes(module: Any, target: Any) -> Codes | str:
    """Return the whole numbers that a chip stores for a synapse, or why it has none that NIR could scale."""
    effective = module.effective
    if effective.grid is None:
        return "is not rounded to any bits"
    if not isinstance(module.chip.charge, LinearCharge):
        return "makes charge of its weights along a curve, so that no one step turns codes into voltages"
    if np.any(np.asarray(effective.mismatch.value.mantissa)):
        return "belongs to a sampled chip whose weights are off the grid"
    codes = np.asarray(effective.grid.codes(effective.signed(module.weight.value))).T
    step = _numbers(target.to_voltage(module.chip.charge(np.float32(effective.grid.step))), u.mV)
    dtype = np.int8 if effective.grid.bits <= 8 else np.int16
    return Codes(codes.astype(dtype), float(step), effective.grid.bits)


def _numbers(value: Any, unit: u.Unit) -> np.ndarray:
    """Return plain float64 numbers in a unit."""
    if isinstance(value, u.Quantity):
        value = u.get_mantissa(value.to(unit))
    return np.asarray(value).astype(float)


def _optional(state: Any, unit: u.Unit) -> np.ndarray | None:
    return None if state is None else _numbers(state.value, unit)
