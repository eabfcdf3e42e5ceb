"""Simulated runs of a program, on the current chip of a network or on a measured chip."""

from __future__ import annotations

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.silicon.device import DeviceError
from brainhw.silicon.measured import MeasuredChip
from brainhw.silicon.program import ChipProgram
from brainhw.silicon.put_chip import put_chip
from brainhw.silicon.recorded_drives import bench_input
from brainhw.silicon.recording import Recording
from brainhw.transform import rollout
from brainhw.transform.prepare import states_restored

__all__ = ["MeasuredBench", "model_run"]


def model_run(
    net: brainstate.nn.Module, program: ChipProgram, x: np.ndarray
) -> tuple[Recording, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Run a network on ``x``. Return the recording, and tau (ms) and threshold (mV) of each neuron.

    The network is not changed. The layers of the program are recorded.
    """
    names = {path: (f"{path}.spk", f"{path}.V") for path in program.layers}
    record = [name for pair in names.values() for name in pair]
    with states_restored(net, keep_weights=False), brainstate.environ.context(dt=program.dt, fit=False):
        # Use the precision of the network, which may be half precision.
        seen = rollout(net, jnp.asarray(x, brainstate.environ.dftype()), record=record)[1]
        modules = {".".join(map(str, place)): node for place, node in net.nodes().items()}
        taus = {path: np.asarray(modules[path].chip_tau.value.to(u.ms).mantissa).ravel() for path in names}
        thresholds = {path: np.asarray(modules[path].chip_V_th.value.to(u.mV).mantissa).ravel() for path in names}
    shape = {path: (*x.shape[:2], n) for path, n in program.layers.items()}
    spikes = {path: np.asarray(seen[name]).reshape(shape[path]) for path, (name, _) in names.items()}
    membranes = {
        path: np.asarray(seen[name].to(u.mV).mantissa).reshape(shape[path]) * u.mV for path, (_, name) in names.items()
    }
    return Recording(spikes, membranes), taus, thresholds


class MeasuredBench:
    """A :class:`Device` that simulates the model with the values of a measured chip, without noise."""

    def __init__(self, measured: MeasuredChip) -> None:
        self._measured = _arguments.instance(measured, MeasuredChip, call="MeasuredBench", name="measured")
        self._held: tuple[brainstate.nn.Module, ChipProgram] | None = None

    def program(self, program: ChipProgram) -> None:
        """Build the network of the program, and replace its chip by the measured chip."""
        net = program.to_net()
        with brainstate.environ.context(dt=program.dt):
            put_chip(net, self._measured, program.placement)
        self._held = net, program

    def run(self, x: np.ndarray) -> Recording:
        """Return spikes and membrane potentials of all layers for the input ``x [T, B, N_in]``."""
        if self._held is None:
            raise DeviceError("MeasuredBench.run: the chip is not programmed. Call program(...) first.")
        net, program = self._held
        return model_run(net, program, bench_input(x, program, call="MeasuredBench.run", name="x"))[0]
