"""Compute the synaptic drive of each neuron in each time step from a program, its inputs and the recorded spikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import brainstate
import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw.deploy.survey import INPUT
from brainhw.nn import chip_weights
from brainhw.silicon.membranes import fault_of_membranes
from brainhw.silicon.program import ChipProgram
from brainhw.silicon.recording import Recording, check_recording
from brainhw.silicon.run_input import in_float32, of_shape
from brainhw.transform import prepare_net

__all__ = ["LayerRuns", "bench_input", "layer_runs", "program_of"]


@dataclass(frozen=True, eq=False)
class LayerRuns:
    """All runs of one layer as arrays ``[T, B, N]``, concatenated along the batch axis and padded to the longest run.

    ``drive`` is the nominal charge of each step divided by the nominal capacitance, in mV. ``membranes`` are membrane
    potentials in mV, or None if any run lacks them. ``valid [T, B]`` is 1 for the steps of a run and 0 for padding.
    """

    drive: np.ndarray
    spikes: np.ndarray
    membranes: np.ndarray | None
    valid: np.ndarray

    def only(self, neurons: np.ndarray) -> LayerRuns:
        """Return the same runs for a subset of the neurons."""
        membranes = None if self.membranes is None else self.membranes[..., neurons]
        return LayerRuns(self.drive[..., neurons], self.spikes[..., neurons], membranes, self.valid)


def program_of(net: Any, *, call: str) -> ChipProgram:
    """Return the program of a network. If ``net`` is already a program, return it unchanged."""
    if isinstance(net, ChipProgram):
        return net
    if not isinstance(net, brainstate.nn.Module):
        raise TypeError(f"{call}: net must be a network or a ChipProgram; got {_arguments.describe(net)}.")
    own = getattr(net, "dt", None)
    if isinstance(own, u.Quantity):  # a network loaded from a bundle stores its time step
        with brainstate.environ.context(dt=own):
            return ChipProgram.of(net)
    _arguments.time_step(call=call)
    return ChipProgram.of(net)


def bench_input(x: Any, program: ChipProgram, *, call: str, name: str) -> np.ndarray:
    """Check inputs ``[T, B, N_in]`` and return them in float32."""
    return in_float32(of_shape(x, program.n_in, call=call, name=name), call=call, name=name)


def layer_runs(
    programs: Sequence[ChipProgram], xs: Sequence[Any], recordings: Sequence[Recording], *, call: str
) -> dict[str, LayerRuns]:
    """Return the recorded runs of each layer, with the drive of its neurons.

    Run ``i`` has the program ``programs[i]``, the input ``xs[i]`` and the recording ``recordings[i]``.
    """
    first = programs[0]
    parts: dict[str, list[LayerRuns]] = {path: [] for path in first.layers}
    held: tuple[ChipProgram, Mapping[str, np.ndarray]] | None = None
    for i, (program, x, recording) in enumerate(zip(programs, xs, recordings, strict=True)):
        if held is None or held[0] is not program:
            _check_same(first, program, i, call)
            held = program, _charges(program)
        numbers = bench_input(x, program, call=call, name=f"xs[{i}]")
        check_recording(recording, program.layers, *numbers.shape[:2], call=call)
        for path, part in _drives(program, held[1], numbers, recording).items():
            if part.membranes is not None:
                V_th = float(np.asarray(program.chip.V_th.to(u.mV).mantissa))
                if fault := fault_of_membranes(path, part.membranes, part.spikes, V_th)[0]:
                    raise ValueError(f"{call}: {fault}")
            parts[path].append(part)
    return {path: _joined(several) for path, several in parts.items()}


def _check_same(first: ChipProgram, other: ChipProgram, i: int, call: str) -> None:
    """Raise ``ValueError`` if two programs differ in anything except their codes."""
    same = first.wires == other.wires and first.layers == other.layers and first.chip == other.chip
    same = same and all(
        np.array_equal(getattr(first, what)(path), getattr(other, what)(path))
        for path in first.layers
        for what in ("leak", "physical")
    )
    if not (same and float(first.dt.mantissa) == float(other.dt.mantissa)):
        raise ValueError(
            f"{call}: all programs must have the same chip, dt, connections, leak settings and neuron positions; "
            f"programs 0 and {i} differ. Fit the programs separately."
        )


def _charges(program: ChipProgram) -> dict[str, np.ndarray]:
    """Return the voltage step (mV) that one spike causes through each connection, by the path of the weight module."""
    with brainstate.environ.context(dt=program.dt, fit=False):
        net = program.to_net()
        prepare_net(net)
        return {
            path: np.asarray((weight.effective.charge.value / weight.chip.C).to(u.mV).mantissa, np.float32)
            for path, weight in chip_weights(net).items()
        }


def _drives(
    program: ChipProgram, charges: Mapping[str, np.ndarray], x: np.ndarray, recording: Recording
) -> dict[str, LayerRuns]:
    runs = {}
    for wire in program.wires:
        source = x if wire.source == INPUT else recording.spikes[wire.source].astype(np.float32)
        spikes = recording.spikes[wire.layer]
        charge = charges[wire.synapse]
        drive = source * charge if wire.synapse == program.frontend else source @ charge
        if wire.layer in charges:  # recurrent: the spikes of the previous step
            drive[1:] += spikes[:-1].astype(np.float32) @ charges[wire.layer]
        membranes = recording.membranes.get(wire.layer)
        numbers = None if membranes is None else np.asarray(membranes.mantissa, np.float32)
        runs[wire.layer] = LayerRuns(drive, spikes, numbers, np.ones(spikes.shape[:2], np.float32))
    return runs


def _joined(parts: Sequence[LayerRuns]) -> LayerRuns:
    longest = max(len(part.drive) for part in parts)

    def join(name: str) -> np.ndarray:
        arrays = [getattr(part, name) for part in parts]
        padded = [np.pad(a, [(0, longest - len(a))] + [(0, 0)] * (a.ndim - 1)) for a in arrays]
        return np.concatenate(padded, axis=1)

    # Use membrane potentials only if all runs have them, because runs without them need a different likelihood.
    read = all(part.membranes is not None for part in parts)
    return LayerRuns(join("drive"), join("spikes"), join("membranes") if read else None, join("valid"))
