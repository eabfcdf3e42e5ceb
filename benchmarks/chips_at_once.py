"""Time to evaluate sampled chips together and one by one: ``python -m benchmarks.chips_at_once``.

The network is that of the spoken digits on H1v1, with 1, 10 and 300 recordings of random input. "One by one" calls the
same compiled function for each key, which is the fastest plain Python loop over chips. Its compile time is reported
separately. "Without jit" is the same loop with a function that is not compiled, so that each chip traces and compiles
its time loop again.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import brainhw as bh
from benchmarks.machine import PROJECT, save

sys.path.insert(0, str(PROJECT / "gallery"))
from spoken_digits_h1 import N_CLASSES, DigitNet

N_STEPS, REPEATS = 350, 3
# For each number of recordings, the number of chips and how often they are repeated.
CASES = {1: (100, 21), 10: (100, 11), 300: (20, 5)}


def measure(n_samples: int, n_chips: int, times: int) -> dict[str, Any]:
    """Return the times to evaluate all chips together in chunks of several sizes, and one by one."""
    brainstate.random.seed(0)
    net = DigitNet("h1v1", "chip")
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.random((N_STEPS, n_samples, 16)) * 20, jnp.float32)
    y = jnp.asarray(rng.integers(0, N_CLASSES, n_samples))
    for synapse in (net.to_hidden, net.to_output):
        synapse.weight.value = jnp.asarray(rng.uniform(-0.3, 0.9, synapse.weight.value.shape), jnp.float32)

    def score(net: DigitNet) -> jax.Array:
        return bh.train.accuracy_population(bh.rollout(net, x)[0], y, N_CLASSES)

    @brainstate.transform.jit
    def alone(key: jax.Array) -> jax.Array:
        bh.sample_chip(net, key)
        return score(net)

    keys = jax.random.split(jax.random.key(0), n_chips)
    start = time.perf_counter()
    alone(keys[0]).block_until_ready()
    compiling = time.perf_counter() - start
    scores, seconds = None, []
    for _ in range(REPEATS):
        start = time.perf_counter()
        scores = np.array([float(alone(key)) for key in keys])
        seconds.append(time.perf_counter() - start)
    result: dict[str, Any] = {"samples": n_samples, "chips": n_chips}
    result["one_by_one_ms_a_chip"] = 1e3 * statistics.median(seconds) / n_chips
    result["one_by_one_compile_s"] = compiling
    plain = []
    for key in keys[:REPEATS]:
        start = time.perf_counter()
        bh.sample_chip(net, key)
        float(score(net))
        plain.append(time.perf_counter() - start)
    result["without_jit_ms_a_chip"] = 1e3 * statistics.median(plain)
    bh.nominal_chip(net)
    for chunk in (8, 20):
        # Most of the time of a call is compilation. Therefore evaluate the chips once and many times, and get the time
        # of a chip from the difference.
        whole = []
        for n in (1, times) * REPEATS:
            start = time.perf_counter()
            report = bh.deploy.robustness(net, score, key=list(keys) * n, chunk=chunk, pbar=False)
            whole.append((n, time.perf_counter() - start))
            np.testing.assert_array_equal(report.scores[:n_chips], scores)
        once, often = (statistics.median(s for m, s in whole if m == n) for n in (1, times))
        each = (often - once) / (times - 1)
        result[f"together_{chunk}_ms_a_chip"] = 1e3 * each / n_chips
        result[f"together_{chunk}_compile_s"] = once - each
    return result


def main() -> None:
    """Measure, save the results as JSON, and print them."""
    brainstate.environ.set(dt=2.0 * u.ms)
    load = os.getloadavg()[0]
    rows = [measure(n_samples, *case) for n_samples, case in CASES.items()]
    save("chips_at_once", {"load_before": load, "steps": N_STEPS, "rows": rows})
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
