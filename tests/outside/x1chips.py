"""X1: a chip family outside brainhw, in one file that imports public names only.

Its neurons reset to a value above zero and are refractory for some steps, its weights have levels of their own, its
capacitances vary from chip to chip, and the fan-in of its neurons is limited.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import brainhw as bh

__all__ = ["X1", "X1_CHIP", "X1Layer", "X1Spec", "X1Synapse"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class X1Spec(bh.chip.ChipSpec):
    """An X1 chip: a ChipSpec with five fields more."""

    V_reset: u.Quantity = bh.chip.spec_field("membrane after a spike", unit=u.mV, nonnegative=True)
    refractory: int = bh.chip.spec_field("steps after a spike in which a neuron cannot fire", whole=True)
    levels: tuple[float, ...] = bh.chip.spec_field("magnitudes of a weight, increasing", many=True, positive=True)
    capacitance_mismatch_std: float | None = bh.chip.spec_field(
        "relative log-normal spread of the capacitances", optional=True, nonnegative=True
    )
    fan_in: int = bh.chip.spec_field("inputs that a neuron can have", whole=True, positive=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.levels) != sorted(set(self.levels)) or self.levels[-1] != self.weight_limit:
            raise ValueError(
                f"X1Spec: levels must increase up to weight_limit {self.weight_limit:g}; got {self.levels}."
            )


_SHARED = {item.name: getattr(bh.chip.H1V1, item.name) for item in fields(bh.chip.ChipSpec)}
_OWN = {
    "name": "X1",
    "family": "X1",
    "weight_limit": 1.0,
    "cores": (32, 32),
    "frontend_channels": 0,
    "frontend_channel_power": 0.0 * u.uwatt,
    "charge": bh.chip.LinearCharge(8.0 * u.fcoulomb),
    "weight_bits": 4,
    "synapse_mismatch_std": None,
    "V_reset": 20.0 * u.mV,
    "refractory": 2,
    "levels": (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0),
    "capacitance_mismatch_std": 0.05,
    "fan_in": 24,
}
_SOURCES = dict.fromkeys([item.name for item in fields(X1Spec) if item.name not in ("name", "family")], "assumed")
del _SOURCES["provenance"], _SOURCES["notes"]
X1_CHIP = X1Spec(**{**_SHARED, **_OWN, "provenance": _SOURCES, "notes": {"fan_in": "A limit of the routing."}})


@dataclass(frozen=True)
class Levels:
    """Levels of a weight that are not evenly spaced: zero, and each magnitude with either sign."""

    magnitudes: tuple[float, ...]
    bits: int

    @property
    def limit(self) -> float:
        """Largest weight."""
        return self.magnitudes[-1]

    @property
    def largest_code(self) -> int:
        """Code of the largest weight; codes lie evenly about zero."""
        return len(self.magnitudes)

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return 2 * self.largest_code + 1

    @property
    def step(self) -> float:
        """Smallest distance between levels."""
        return float(np.diff([0.0, *self.magnitudes]).min())

    def codes(self, weights: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return the code of each weight: the nearest level, or with a key one of its two neighbours at random."""
        levels = self._all(jnp.result_type(weights))
        weights = jnp.clip(jax.lax.stop_gradient(weights), -self.limit, self.limit)
        above = jnp.clip(jnp.searchsorted(levels, weights), 1, self.n_levels - 1)
        share = (weights - levels[above - 1]) / (levels[above] - levels[above - 1])
        at = 0.5 if key is None else jax.random.uniform(key, share.shape, share.dtype)
        return (above - (share <= at) - self.largest_code).astype(jnp.int32)

    def values(self, codes: jax.Array, dtype: Any = None) -> jax.Array:
        """Return the weight of each code."""
        return self._all(jnp.result_type(float) if dtype is None else dtype)[jnp.asarray(codes) + self.largest_code]

    def quantize(self, weights: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return the level of each weight; the gradient passes straight through within the range."""
        clipped = jnp.clip(weights, -self.limit, self.limit)
        # The difference is zero to the bit, so the result is a level and not one with a rounding error.
        return self.values(self.codes(weights, key), weights.dtype) + (clipped - jax.lax.stop_gradient(clipped))

    def _all(self, dtype: Any) -> jax.Array:
        return jnp.asarray([*(-m for m in reversed(self.magnitudes)), 0.0, *self.magnitudes], dtype)


def weight_levels(chip: X1Spec, bits: int) -> Levels:
    """Return the levels of an X1 weight; the chip stores one number of bits only."""
    if bits != chip.weight_bits:
        raise ValueError(f"{chip.name}: weights have {chip.weight_bits} bits; got {bits}. Use weight_bits='chip'.")
    return Levels(chip.levels, bits)


def fan_in(net: bh.deploy.Survey) -> Iterator[bh.deploy.Violation]:
    """No synapse has more inputs than a neuron can have."""
    for path in net.synapses:
        n_in, limit = net.weights[path].master.value.shape[0], net.chip.fan_in
        if n_in > limit:
            yield bh.deploy.Violation(
                "fan-in", path, f"{n_in} inputs", f"{limit} inputs", "Make the layer before smaller."
            )


X1 = bh.chip.register_family(
    bh.chip.Family(
        "X1",
        presets=(X1_CHIP,),
        mismatches=(
            bh.chip.Mismatch("leak", "leak_mismatch_std"),
            bh.chip.Mismatch("capacitance", "capacitance_mismatch_std", most=0.5, why="no capacitor is so uneven"),
        ),
        rules={"fan-in": fan_in},
        without_rules=("one sign in a block",),
        weight_grid=weight_levels,
        package="x1chips",
    )
)


@X1.module("synapse")
class X1Synapse(bh.nn.H1Synapse):
    """Dense synapse of an X1 chip."""

    family = "X1"
    preset = X1_CHIP


@dataclass(frozen=True)
class ResetAbove(bh.kernel.Firing):
    """A spike leaves the membrane at ``V_reset`` mV."""

    V_reset: float = 0.0

    def after(self, V: jax.Array, spk: jax.Array, V_th: jax.Array) -> jax.Array:
        """Return the membrane after the reset."""
        if self.detach:
            spk = jax.lax.stop_gradient(spk)
        return V * (1 - spk) + self.V_reset * spk


@X1.module("layer")
class X1Layer(bh.nn.H1Layer):
    """Neurons of an X1 chip, with capacitances of their own on a sampled chip."""

    family = "X1"
    preset = X1_CHIP

    @property
    def refractory_steps(self) -> int:
        """Steps after a spike in which a neuron cannot fire."""
        return self.chip.refractory

    def firing(self) -> bh.kernel.Firing:
        """Return how the neurons fire."""
        return ResetAbove(
            self.spk_fun, "zero", self.detach_reset, True, self.refractory_steps, self.chip.V_reset.mantissa
        )

    def to_voltage(self, drive: u.Quantity) -> u.Quantity:
        """Return the charge over the capacitance of each neuron."""
        return (drive / self.chip_C.value).in_unit(u.mV)

    pinned_kinds: ClassVar[Mapping[str, str]] = {**bh.nn.H1Layer.pinned_kinds, "C": "capacitance"}

    def nominal(self) -> dict[str, u.Quantity]:
        """Return the values of the nominal chip that vary from chip to chip."""
        C = jnp.full(self.out_size, self.chip.C.mantissa, brainstate.environ.dftype())
        return {**super().nominal(), "C": C * u.ffarad}

    def drawn(self, key: jax.Array, sizes: Mapping[str, float | None]) -> dict[str, u.Quantity]:
        """Return these values on a sampled chip; capacitances vary log-normally."""
        C, size = self.nominal()["C"], sizes["capacitance"] or 0.0
        spread = jax.random.normal(jax.random.fold_in(key, 1), self.out_size, C.dtype)
        return {**super().drawn(key, sizes), "C": C * jnp.exp(size * spread)}
