"""Numerical values that one time step of a network needs: charges of the codes, decay factors and thresholds."""

from __future__ import annotations

from typing import NamedTuple

import brainunit as u
import numpy as np

from brainhw.chip.presets import H1V1_FAMILY, H1V2_FAMILY
from brainhw.deploy.bundle_content import BundleContent, Codes
from brainhw.deploy.bundled_net import BundledNet
from brainhw.deploy.survey import INPUT
from brainhw.kernel.quantize import lowest_code, stored_grid
from brainhw.nn import chip_weights
from brainhw.transform.prepare import prepare_net

__all__ = ["Charges", "LayerNumbers", "Numbers", "numbers_of"]


class Charges(NamedTuple):
    """Charge of each connection in fC, float32; shape ``[N_in, N]``, or ``[N]`` if input k drives only neuron k.

    On the nominal chip, ``values`` is ``table[codes - lowest]``, where ``lowest`` is the lowest code. With mismatch,
    every connection has its own charge, and ``table`` is ``None``.
    """

    codes: np.ndarray
    values: np.ndarray
    table: np.ndarray | None
    lowest: int


class LayerNumbers(NamedTuple):
    """Values of a layer and its synapse.

    ``source`` is the index of the layer that feeds the synapse, or ``None`` for the input of the network. ``leak``
    contains the decay factor per step, and ``V_th`` the threshold in mV, of each neuron.
    """

    path: str
    source: int | None
    charges: Charges
    recurrent: Charges | None
    leak: np.ndarray
    V_th: np.ndarray

    @property
    def n(self) -> int:
        """Number of neurons."""
        return len(self.leak)

    @property
    def one_to_one(self) -> bool:
        """Whether input k drives only neuron k, as in the frontend."""
        return self.charges.values.ndim == 1


class Numbers(NamedTuple):
    """Values of a network, with its layers in execution order. All arrays are float32, and voltages are in mV.

    ``output`` is the index of the output layer, ``per_C`` is 1 divided by the capacitance in fF, and ``subtracts`` is
    whether a spike subtracts the threshold.
    """

    layers: tuple[LayerNumbers, ...]
    output: int
    n_in: int
    per_C: np.float32
    subtracts: bool
    chip: str
    dt_ms: float


def numbers_of(content: BundleContent, net: BundledNet, call: str) -> Numbers:
    """Return the values of the network of a bundle. Raise ``ValueError`` if the chip family is not supported."""
    chip = content.chip
    if chip.family not in (H1V1_FAMILY.name, H1V2_FAMILY.name):
        raise ValueError(
            f"{call}: firmware does not support the chip family {chip.family!r}; expected "
            f"{H1V1_FAMILY.name!r} or {H1V2_FAMILY.name!r}. For this chip family, use export_step."
        )
    prepare_net(net)
    weights = chip_weights(net)
    places = {wire.layer: at for at, wire in enumerate(content.wires)}
    layers = []
    for wire in content.wires:
        layer, module = content.layers[wire.layer], net._at(wire.layer)
        codes = {wire.synapse: content.synapses[wire.synapse].weight, wire.layer: layer.recurrent}
        charges = {
            path: None if held is None else _charges(held, weights[path].effective.charge.value, content)
            for path, held in codes.items()
        }
        incoming = charges[wire.synapse]
        assert incoming is not None
        layers.append(
            LayerNumbers(
                wire.layer,
                None if wire.source == INPUT else places[wire.source],
                incoming,
                charges[wire.layer],
                np.asarray(module.decay(content.dt), np.float32),
                np.asarray(module.threshold().to(u.mV).mantissa, np.float32),
            )
        )
    per_C = np.float32(1) / np.float32(chip.C.to(u.ffarad).mantissa)
    subtracts = chip.reset == "subtract"
    dt = float(content.dt.to(u.ms).mantissa)
    return Numbers(tuple(layers), places[content.output], content.n_in, per_C, subtracts, chip.name, dt)


def _charges(codes: Codes, charge: u.Quantity, content: BundleContent) -> Charges:
    values = np.asarray(charge.to(u.fcoulomb).mantissa, np.float32)
    grid = stored_grid(content.chip, codes.bits)
    lowest = lowest_code(grid)
    every = np.arange(lowest, grid.largest_code + 1, dtype=np.int32)
    table = np.array(content.chip.charge(grid.values(every, np.float32)).to(u.fcoulomb).mantissa, np.float32)
    # In the table, replace the charges of all codes that occur in the network by the charges that the network uses,
    # because XLA may round the charge curve differently for an array of a different length.
    table[codes.values - lowest] = values
    same = np.array_equal(table[codes.values - lowest], values)
    return Charges(codes.values, values, table if same else None, lowest)
