"""The three tables that a lab would measure of a hidden virtual chip, with the noise of its instruments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import brainunit as u
import numpy as np

import brainhw as bh

__all__ = ["measured_tables"]

# The noises of a lab's tables: of the membrane in each step, of a synapse's gain, of one reading.
STEP_NOISE, GAIN_SPREAD, READ_NOISE, CHARGE_NOISE = 1.5, 0.03, 0.4, 0.01  # mV, share, mV, fC


def measured_tables(
    bench: bh.silicon.VirtualChip, settings: Sequence[int], neurons: np.ndarray, *, seed: int
) -> tuple[Any, Any, Any]:
    """Return charge curve, decays and f-I curves of a chip; who calibrates sees these alone.

    Charges of all codes on 20 synapses; decays of ``neurons`` at the leak ``settings``; spikes in one second of 2, 4 to
    16 synapses at the largest code. Steps of 1 ms.
    """
    rng = np.random.default_rng(seed)
    chip, truth = bench.truth.spec, bench.truth
    tau, V_th = np.asarray(truth.tau.mantissa, float), np.asarray(truth.V_th.mantissa, float)
    largest = 2 ** (chip.weight_bits - 1) - 1
    codes = np.arange(-largest, largest + 1)
    q = np.asarray(chip.charge(codes.astype(np.float32) * chip.weight_limit / largest).mantissa, float)

    gains = 1 + GAIN_SPREAD * rng.standard_normal(20)
    charges = q[:, None] * gains + CHARGE_NOISE * rng.standard_normal((codes.size, 20))
    charge = bh.silicon.ChargeTable(
        np.repeat(codes, 20), np.tile(np.arange(20), codes.size), charges.ravel() * u.fcoulomb
    )

    t = np.arange(61.0)
    V = 60.0 * np.exp(-t / tau[np.ix_(settings, neurons)][:, :, None])
    V = V + READ_NOISE * rng.standard_normal(V.shape)
    at = np.meshgrid(settings, neurons, t, indexing="ij")
    decays = bh.silicon.DecayTable(at[0].ravel(), at[1].ravel(), at[2].ravel() * u.ms, V.ravel() * u.mV)

    setting, inputs = settings[len(settings) // 2], np.arange(2, 17, 2)
    beta, top = np.exp(-1.0 / tau[setting, neurons])[:, None], V_th[neurons][:, None]
    drive = inputs * q[-1] / float(chip.C.mantissa) * 1000.0
    membrane, counts = np.zeros((neurons.size, inputs.size)), np.zeros((neurons.size, inputs.size))
    for _ in range(1000):
        membrane = np.maximum(beta * membrane + drive + STEP_NOISE * rng.standard_normal(membrane.shape), 0.0)
        fired = membrane >= top
        counts += fired
        reset = np.maximum(membrane - top, 0.0) if chip.reset == "subtract" else 0.0
        membrane = np.where(fired, reset, membrane)
    neuron = np.repeat(neurons, inputs.size)
    rates = bh.silicon.RateTable(
        neuron, np.tile(inputs, neurons.size), counts.ravel() * u.Hz, setting=np.full(neuron.size, setting)
    )
    return charge, decays, rates
