"""The chip families H1v1 and H1v2. Each value is published by the vendor or assumed by brainhw."""

from __future__ import annotations

import brainunit as u
import numpy as np

from brainhw.chip.charge import LinearCharge, SaturatingCharge
from brainhw.chip.family import Family, Mismatch, register_family
from brainhw.chip.fields import sourced_fields
from brainhw.chip.spec import WIDEST_THRESHOLD, ChipSpec
from brainhw.chip.tau import TauProfiles

__all__ = ["H1V1", "H1V1_FAMILY", "H1V2", "H1V2_FAMILY"]

# The vendor publishes these fields. All other values are assumptions of brainhw.
_DOCUMENTED = ("weight_limit", "cores", "frontend_channels", "sign_block", "reset", "weight_bits")

_ENERGY_NOTE = "Not published. A round number of the order of magnitude that is expected for a small analog chip."

H1V1 = ChipSpec(
    name="H1v1",
    family="H1v1",
    weight_limit=0.9,
    cores=(64, 64, 64, 64),
    frontend_channels=16,
    sign_block=5,
    sign_axis="pre",
    reset="zero",
    V_th=100.0 * u.mV,
    C=100.0 * u.ffarad,
    charge=SaturatingCharge(1.034 * u.fcoulomb, saturation=1.8),
    tau_profiles=TauProfiles(np.array([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]) * u.ms),
    weight_bits=5,
    synapse_mismatch_std=0.02,
    leak_mismatch_std=0.10,
    threshold_mismatch_std=None,
    core_power=20.0 * u.uwatt,
    spike_energy=5.0 * u.pjoule,
    event_energy=0.5 * u.pjoule,
    frontend_channel_power=2.0 * u.uwatt,
    provenance={name: "documented" if name in _DOCUMENTED else "assumed" for name in sourced_fields(ChipSpec)},
    notes={
        "sign_axis": "The vendor publishes the size of a block, but not the axis along which it runs.",
        "V_th": "Not published. The vendor's examples agree with 90 to 120 mV if their potentials are in volts.",
        "C": "Not published. The membrane potential depends only on the ratio of charge to capacitance.",
        "tau_profiles": "The vendor publishes that tau is rounded to a hardware profile, but not the list of profiles.",
        "weight_bits": "The vendor's tutorial uses 5 bits by default. The symmetric levels with zero are assumed.",
        "leak_mismatch_std": "The vendor publishes that leak currents vary, but not their distribution or its width.",
        "core_power": _ENERGY_NOTE,
        "spike_energy": _ENERGY_NOTE,
        "event_energy": _ENERGY_NOTE,
        "frontend_channel_power": _ENERGY_NOTE,
        "charge": "The vendor publishes that the synapse is nonlinear. The slope at zero is chosen such that the model "
        "reproduces the vendor's frontend example (16 channels, 10 ms).",
        "synapse_mismatch_std": "The number is from an example of the vendor. Its unit (weight units) is assumed.",
        "threshold_mismatch_std": "The vendor mentions a variation of the thresholds only for H1v2.",
    },
)
"""ChipSpec: H1v1 preset, with 4 cores of 64 neurons, a nonlinear synapse and a reset to zero."""

# The assumed membrane constants and energies are the same as for H1v1, because no published number shows a difference.
H1V2 = H1V1.replace(
    name="H1v2",
    family="H1v2",
    weight_limit=1.66,
    cores=(50, 50, 100),
    reset="subtract",
    charge=LinearCharge(0.45 * u.fcoulomb),
    synapse_mismatch_std=None,
    threshold_mismatch_std=0.02,
    provenance=dict.fromkeys(("weight_limit", "cores", "reset", "synapse_mismatch_std"), "documented"),
    notes={
        "charge": "The vendor publishes that the synapse is linear and has a lower gain than H1v1, but not the gain.",
        "synapse_mismatch_std": "The vendor publishes that this family has no synaptic mismatch.",
        "threshold_mismatch_std": "The vendor publishes that the thresholds vary slightly, but not by how much.",
    },
)
"""ChipSpec: H1v2 preset, with cores of 50, 50 and 100 neurons, a linear synapse and a reset by subtraction."""

_MISMATCHES = (
    Mismatch("synapse", "synapse_mismatch_std"),
    Mismatch("leak", "leak_mismatch_std"),
    Mismatch(
        "threshold",
        "threshold_mismatch_std",
        most=WIDEST_THRESHOLD,
        why="a normal distribution would contain negative thresholds",
    ),
)

H1V1_FAMILY = register_family(Family("H1v1", presets=(H1V1,), mismatches=_MISMATCHES, package="brainhw"))
"""Family: H1v1 chips."""

H1V2_FAMILY = register_family(Family("H1v2", presets=(H1V2,), mismatches=_MISMATCHES, package="brainhw"))
"""Family: H1v2 chips."""
