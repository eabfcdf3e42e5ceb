"""Errors and confidence intervals of the calibration on synthetic benches with known parameters.

``python -m benchmarks.silicon_fits`` calibrates 200 benches of each chip family. A bench has 16 neurons, 3 leak
settings and the noise of a laboratory. This noise is 1.5 mV per step, a relative standard deviation of the gain of 3 %
over 20 synapses, and read noise of 0.01 fC and 0.4 mV. Each rate is measured for 1 s. The script prints root mean
square errors and the fraction of 95 % confidence intervals that contain the true value, and saves
``docs/results/silicon_fits.json``. The results do not depend on the machine.
"""

from __future__ import annotations

import argparse
from typing import Any

import brainunit as u
import numpy as np
from tqdm import tqdm

from benchmarks.machine import save
from brainhw.chip import H1V1, H1V2, ChipSpec, LinearCharge, SaturatingCharge
from brainhw.silicon import SyntheticBench, calibrate, synthetic_bench

# Chips that differ from their presets. Their parameters vary between neurons as much as in measured tables.
CHIPS = {
    "H1v1": H1V1.replace(
        charge=SaturatingCharge(1.15 * u.fcoulomb, saturation=1.1),
        V_th=95.0 * u.mV,
        threshold_mismatch_std=0.035,
        leak_mismatch_std=0.13,
    ),
    "H1v2": H1V2.replace(
        charge=LinearCharge(0.53 * u.fcoulomb), V_th=95.0 * u.mV, threshold_mismatch_std=0.035, leak_mismatch_std=0.13
    ),
}
LIMITS = {"charge": 0.01, "tau": 0.03, "V_th": 0.02}
NEURONS = range(16)


def deviations(bench: SyntheticBench, chip: ChipSpec) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, for each quantity, the relative errors, and the errors divided by their standard errors.

    Errors of the charge are relative to full scale.
    """
    done = calibrate(bench.charge, bench.decays, bench.rates, chip=chip.family, progress=False)
    # Both exist, because the tables of charges and rates were passed.
    assert done.charge is not None
    assert done.threshold is not None
    truth, measured = bench.truth, done.measured
    charge, error = np.asarray(done.charge.charge.mantissa), np.asarray(done.charge.error.mantissa)
    true_charge = np.asarray(chip.charge(np.asarray(done.charge.curve.weights, np.float32)).mantissa, float)
    held = {"charge": ((charge - true_charge) / np.abs(true_charge).max(), (charge - true_charge) / error)}
    for name in ("tau", "V_th"):
        value, sd = (np.asarray(getattr(measured, part).mantissa) for part in (name, f"{name}_error"))
        true = np.asarray(getattr(truth, name).mantissa)
        known = np.isfinite(value)
        held[name] = (value / true - 1)[known], ((value - true) / sd)[known]
    noise, noise_sd = float(done.threshold.noise_std.mantissa), float(done.threshold.noise_std_error.mantissa)
    held["noise"] = np.array([noise / 1.5 - 1]), np.array([(noise - 1.5) / noise_sd])
    return held


def study(family: str, n: int) -> list[dict[str, Any]]:
    """Return the errors and coverages over ``n`` benches of a family, one row for each quantity."""
    found = [
        deviations(synthetic_bench(CHIPS[family], seed=seed, neurons=NEURONS), CHIPS[family])
        for seed in tqdm(range(n), desc=family)
    ]
    rows = []
    for name in found[0]:
        errors = np.concatenate([one[name][0].ravel() for one in found])
        inside = np.concatenate([np.abs(one[name][1]).ravel() < 1.96 for one in found])
        rms, limit = float(np.sqrt(np.mean(errors**2))), LIMITS.get(name)
        row = {
            "family": family,
            "quantity": name,
            "rms": round(rms, 5),
            "limit": limit,
            "mean": round(float(np.mean(errors)), 5),
            "coverage": round(float(np.mean(inside)), 4),
            "values": int(errors.size),
            "met": "" if limit is None else "yes" if rms <= limit and 0.9 <= np.mean(inside) <= 0.99 else "no",
        }
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benches", type=int, default=200, help="number of benches of each family (default: 200)")
    parser.add_argument("--no-save", action="store_true", help="print the results without saving them")
    words = parser.parse_args()
    rows = [row for family in CHIPS for row in study(family, words.benches)]
    for row in rows:
        print(
            f"{row['family']} {row['quantity']:7} rms {100 * row['rms']:.2f} %, mean {100 * row['mean']:+.3f} %, "
            f"coverage {100 * row['coverage']:.1f} % of {row['values']}  {row['met']}"
        )
    if not words.no_save:
        save("silicon_fits", {"benches": words.benches, "neurons": len(NEURONS), "rows": rows})


if __name__ == "__main__":
    main()
