"""Measured chips with holes, and nets that fire on them."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

import brainhw as bh

TAUS = np.array([1, 2, 5, 9, 14, 45, 90, 180.0])


def measured(family: str = "H1v1", *, seed: int = 0, holes: bool = True, **fields: Any) -> bh.silicon.MeasuredChip:
    """A chip whose mean values differ from the preset in all that a measurement may change."""
    rng, preset = np.random.default_rng(seed), bh.chip.get_chip(family)
    weights = np.linspace(-preset.weight_limit, preset.weight_limit, 31)
    charges = np.asarray(preset.charge(weights).mantissa, float)
    spec = preset.replace(
        name="chip 7",
        C=90 * u.ffarad,
        V_th=93 * u.mV,
        tau_profiles=bh.chip.TauProfiles(TAUS * u.ms),
        charge=bh.chip.TabulatedCharge(weights, np.where(charges < 0, 0.8, 1.1) * charges * u.fcoulomb),
        noise_std=1.5 * u.mV,
        provenance="measured",
        **fields,
    )
    tau = TAUS[:, None] * np.exp(0.3 * rng.standard_normal((8, spec.n_neurons)))
    V_th = 93 * (1 + 0.1 * rng.standard_normal(spec.n_neurons))
    if holes:
        tau[:, ::3], V_th[::4] = np.nan, np.nan
    return bh.silicon.MeasuredChip(spec, tau * u.ms, V_th * u.mV, 0.02 * tau * u.ms, 0.01 * V_th * u.mV, "bench 3")


def firing_net(family: str = "H1v1", *, seed: int = 0) -> brainstate.nn.Module:
    """A frontend, a recurrent and a split feed-forward layer, deployable, with spikes in each."""
    kinds = bh.chip.get_family(family).modules
    synapse, layer, frontend = kinds["synapse"], kinds["layer"], kinds["frontend"]
    rng, limit = np.random.default_rng(seed), bh.chip.get_chip(family).weight_limit

    def weights(*shape: int) -> jnp.ndarray:
        return jnp.asarray(rng.uniform(0.1, 0.7, shape) * limit, jnp.float32)

    bits = {"weight_bits": "chip"}
    # Two time constants in one layer.
    taus = np.where(np.arange(30) % 2, 20.0, 50.0) * u.ms
    return brainstate.nn.Sequential(
        frontend(weight_init=jnp.full(16, limit), **bits),
        layer(16, tau=10 * u.ms),
        synapse(16, 30, weight_init=weights(16, 30), **bits),
        layer(30, tau=taus, topology="RC", recurrent_init=0.1 * weights(30, 30), **bits),
        synapse(30, 110, weight_init=weights(30, 110), **bits),
        layer(110, tau=20 * u.ms),
    )


def inputs(*, n_steps: int = 40, batch: int = 3, seed: int = 1) -> jnp.ndarray:
    return jnp.asarray(np.random.default_rng(seed).uniform(0, 8, (n_steps, batch, 16)), jnp.float32)
