"""Time of ``bh.rollout`` outside of jit: the first call, a later call, and a later call without kept programs.

``python -m benchmarks.outside_jit`` prints times and saves ``docs/results/outside_jit.json``.
"""

from __future__ import annotations

import importlib
import os
import statistics
import time
from collections.abc import Callable

import brainstate
import brainunit as u
import jax
import numpy as np

import brainhw as bh
from benchmarks.machine import save

N_STEPS, N_SAMPLES, N_IN, N_OUT = 100, 64, 128, 10
REPEATS = 9
# The module, not the function of the same name.
kept = importlib.import_module("brainhw.transform.compiled")


def nets() -> dict[str, Callable[[], brainstate.nn.Module]]:
    """Return builders of the networks."""

    def of(synapse: type, layer: type, topology: str, n: int) -> Callable[[], brainstate.nn.Module]:
        return lambda: brainstate.nn.Sequential(
            synapse(N_IN, n), layer(n, tau=20 * u.ms, topology=topology),
            synapse(n, N_OUT), layer(N_OUT, tau=20 * u.ms),
        )  # fmt: skip

    return {
        "LIF, 32 neurons": of(bh.nn.LIFSynapse, bh.nn.LIFLayer, "FF", 32),
        "LIF, recurrent, 128 neurons": of(bh.nn.LIFSynapse, bh.nn.LIFLayer, "RC", 128),
        "H1v2, 32 neurons": of(bh.nn.H1v2Synapse, bh.nn.H1v2Layer, "FF", 32),
        "H1v2, recurrent, 128 neurons": of(bh.nn.H1v2Synapse, bh.nn.H1v2Layer, "RC", 128),
    }


def main() -> None:
    """Measure, print, save."""
    xs = (np.random.default_rng(0).random((N_STEPS, N_SAMPLES, N_IN)) < 0.1).astype(np.float32)
    rows = []
    with brainstate.environ.context(dt=1.0 * u.ms):
        for name, make in nets().items():
            net = make()

            def seconds(net: brainstate.nn.Module = net) -> float:
                start = time.perf_counter()
                jax.block_until_ready(bh.rollout(net, xs)[0])
                return time.perf_counter() - start

            first = seconds()
            later, anew = [], []
            for _ in range(REPEATS):
                later.append(seconds())
                kept._programs.clear()
                anew.append(seconds())
            rows.append(
                {
                    "network": name,
                    "first_ms": round(1e3 * first, 1),
                    "later_ms": round(1e3 * statistics.median(later), 1),
                    "compiled_anew_ms": round(1e3 * statistics.median(anew), 1),
                }
            )
            print(rows[-1])
    setting = {"steps": N_STEPS, "samples": N_SAMPLES, "inputs": N_IN}
    save("outside_jit", {"load": round(os.getloadavg()[0], 1), "repeats": REPEATS, **setting, "rows": rows})


if __name__ == "__main__":
    main()
