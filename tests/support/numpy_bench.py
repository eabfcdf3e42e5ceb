"""A bench in plain NumPy: the equations of the chip family, with numbers of its own for every neuron and noise."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import numpy as np

import brainhw as bh
from brainhw.silicon import ChipProgram, Recording


class NumpyBench:
    """A chip with a gain of the charge, spreads of leak and threshold, gain spread of the synapses, noise in mV."""

    def __init__(
        self,
        seed: int,
        *,
        gain: float = 0.65,
        tau: float = 0.7,
        V_th: float = 1.15,
        leak_std: float = 0.3,
        threshold_std: float = 0.1,
        synapse_std: float = 0.0,
        noise: float = 1.5,
        read_noise: float = 0.0,
        membranes: bool = False,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.gain, self.factor_tau, self.factor_V_th = gain, tau, V_th
        self.leak_std, self.threshold_std, self.synapse_std = leak_std, threshold_std, synapse_std
        self.noise, self.read_noise, self.membranes = noise, read_noise, membranes

    def program(self, program: ChipProgram) -> None:
        chip = program.chip
        dt, nominal = float(program.dt / u.ms), np.asarray(chip.tau_profiles.values / u.ms)
        self.held = program
        if not hasattr(self, "tau"):
            # One chip: another program meets the same neurons.
            self.tau, self.V_th, self.weights = {}, {}, {}
            for path, n in program.layers.items():
                leak, spread = nominal[program.leak(path)] * self.factor_tau, self.rng.standard_normal((2, n))
                self.tau[path] = leak * np.exp(-self.leak_std * spread[0])
                self.V_th[path] = float(chip.V_th / u.mV) * self.factor_V_th * (1 + self.threshold_std * spread[1])
            for path, codes in program.codes.items():
                self.weights[path] = 1 + self.synapse_std * self.rng.standard_normal(codes.shape)
        self.decay = {path: np.exp(-dt / tau) for path, tau in self.tau.items()}
        self.step = {}
        for path, codes in program.codes.items():
            largest = 2 ** (program.bits[path] - 1) - 1
            charge = chip.charge(codes * chip.weight_limit / largest)
            self.step[path] = self.gain * np.asarray((charge / chip.C).to(u.mV).mantissa) * self.weights[path]

    def run(self, x: np.ndarray) -> Recording:
        spikes: dict[str, np.ndarray] = {}
        membranes: dict[str, Any] = {}
        for wire in self.held.wires:
            source = x if wire.source == "input" else spikes[wire.source]
            weight = self.step[wire.synapse]
            drive = source * weight if wire.synapse == self.held.frontend else source @ weight
            seen, V = self._layer(wire.layer, drive)
            spikes[wire.layer] = seen
            if self.membranes:
                membranes[wire.layer] = V * u.mV
        return Recording(spikes, membranes)

    def _layer(self, path: str, drive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        V, spike = np.zeros(drive.shape[1:]), np.zeros(drive.shape[1:])
        spikes, membranes = np.zeros(drive.shape, np.uint8), np.zeros(drive.shape)
        for t, now in enumerate(drive):
            charge = now + (spike @ self.step[path] if path in self.step else 0.0)
            V = np.maximum(self.decay[path] * V + charge + self.noise * self.rng.standard_normal(V.shape), 0)
            spike = (self.V_th[path] <= V).astype(float)
            V = V * (1 - spike) if self.held.chip.reset == "zero" else np.maximum(V - spike * self.V_th[path], 0)
            spikes[t], membranes[t] = spike, V + self.read_noise * self.rng.standard_normal(V.shape)
        return spikes, membranes


STEPS, RUNS, N_IN = 116, 50, 16


def program_of(
    family: str, sizes: tuple[int, ...] = (24,), *, topology: str = "FF", strength: float = 0.5
) -> ChipProgram:
    synapse, layer = getattr(bh.nn, f"{family}Synapse"), getattr(bh.nn, f"{family}Layer")
    rng, modules, n_in = np.random.default_rng(1), [], N_IN
    limit = bh.chip.get_chip(family).weight_limit
    for n in sizes:
        weights = np.clip(strength * limit * (0.7 + rng.standard_normal((n_in, n))), -limit, limit)
        more = {"topology": "RC", "weight_bits": "chip"} if topology == "RC" else {}
        modules += [
            synapse(n_in, n, weight_init=weights.astype(np.float32), weight_bits="chip"),
            layer(n, tau=20 * u.ms, **more),
        ]
        n_in = n
    with brainstate.environ.context(dt=1.0 * u.ms):
        return ChipProgram.of(brainstate.nn.Sequential(*modules))


def inputs(rate: float = 0.5, steps: int = STEPS, runs: int = RUNS, seed: int = 2) -> np.ndarray:
    return (np.random.default_rng(seed).random((steps, runs, N_IN)) < rate).astype(np.float32)


def off(found: u.Quantity, truth: np.ndarray) -> np.ndarray:
    return np.asarray(found.mantissa) / truth - 1


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(values**2)))
