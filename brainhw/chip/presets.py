"""The chip families H1v1 and H1v2: published numbers, completed by assumptions of brainhw."""

from __future__ import annotations

import brainunit as u
import numpy as np

from brainhw.chip.charge import LinearCharge, SaturatingCharge
from brainhw.chip.family import Family, Mismatch, register_family
from brainhw.chip.fields import sourced_fields
from brainhw.chip.spec import WIDEST_THRESHOLD, ChipSpec
from brainhw.chip.tau import TauProfiles

__all__ = ["H1V1", "H1V1_FAMILY", "H1V2", "H1V2_FAMILY"]

# Published by the vendor; everything else is an assumption of brainhw.
_DOCUMENTED = ("weight_limit", "cores", "frontend_channels", "sign_block", "reset", "weight_bits")

_ENERGY_NOTE = "Not published; a round number of the size one expects of a small analog chip."

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
        "sign_axis": "The block size is published, the direction it runs in is not.",
        "V_th": "Not published; numbers printed in the vendor's examples fit 90 to 120 mV if its membrane is in volt.",
        "C": "Not published; only the ratio of charge to capacitance moves the membrane.",
        "tau_profiles": "That a tau snaps to hardware profiles is published, the list of profiles is not.",
        "weight_bits": "5 bits is the default in the vendor's tutorial; the levels (symmetric, with zero) are assumed.",
        "leak_mismatch_std": "That leak currents spread is published; the log-normal form and its width are not.",
        "core_power": _ENERGY_NOTE,
        "spike_energy": _ENERGY_NOTE,
        "event_energy": _ENERGY_NOTE,
        "frontend_channel_power": _ENERGY_NOTE,
        "charge": "That the synapse bends is published; the slope at zero is set so that the vendor's printed "
        "frontend example (16 channels, 10 ms) comes out.",
        "synapse_mismatch_std": "The number stands in a vendor example; that it is in weight units is assumed.",
        "threshold_mismatch_std": "The vendor names a threshold spread for H1v2 only.",
    },
)
"""ChipSpec: the H1v1 family, 4 cores of 64 neurons, nonlinear synapse, reset to zero."""

# The assumed membrane constants and energies are those of H1v1: no published number distinguishes the families there.
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
        "charge": "Linear, and less charge per unit weight than H1v1, are published; the gain is not.",
        "synapse_mismatch_std": "This family is published to have no synaptic mismatch.",
        "threshold_mismatch_std": "A small spread of thresholds is published, its size is not.",
    },
)
"""ChipSpec: the H1v2 family, cores of 50, 50 and 100 neurons, linear synapse, reset by subtraction."""

_MISMATCHES = (
    Mismatch("synapse", "synapse_mismatch_std"),
    Mismatch("leak", "leak_mismatch_std"),
    Mismatch(
        "threshold",
        "threshold_mismatch_std",
        most=WIDEST_THRESHOLD,
        why="a normal spread would make some thresholds negative",
    ),
)

H1V1_FAMILY = register_family(Family("H1v1", presets=(H1V1,), mismatches=_MISMATCHES, package="brainhw"))
"""Family: H1v1 chips."""

H1V2_FAMILY = register_family(Family("H1v2", presets=(H1V2,), mismatches=_MISMATCHES, package="brainhw"))
"""Family: H1v2 chips."""
