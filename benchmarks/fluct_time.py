"""Time of ``fluct_init`` in a new interpreter, including compilation.

``python -m benchmarks.fluct_time`` starts a process for each measurement and prints a Markdown table of medians. The
network has 16 inputs and three layers of 256 neurons. The data are 64 samples of 100 steps, and an input spikes in each
step with a probability of 30 %.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from benchmarks.machine import PROJECT, machine

N_IN, N, LAYERS = 16, 256, 3
SYSTEMS = ("H1v1", "H1v2", "LIF")


def measure(system: str) -> dict[str, float]:
    """Import brainhw, build a network and initialise it once, in this process. Return the times."""
    start = time.perf_counter()
    import warnings

    import brainstate
    import brainunit as u
    import numpy as np

    import brainhw as bh

    imported = time.perf_counter()
    x = (np.random.default_rng(0).random((64, 100, N_IN)) < 0.3).astype(np.float32)
    parts = []
    for n_in in (N_IN, *[N] * (LAYERS - 1)):
        parts.append(getattr(bh.nn, f"{system}Synapse")(n_in, N))
        parts.append(getattr(bh.nn, f"{system}Layer")(N, tau=20 * u.ms))
    net = brainstate.nn.Sequential(*parts)
    built = time.perf_counter()
    with brainstate.environ.context(dt=1 * u.ms), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # with 16 inputs, fluct_init warns about large weights
        bh.init.fluct_init(net, [x], families="any", verbose=False)
    return {"import": imported - start, "build": built - imported, "init": time.perf_counter() - built}


def in_fresh_process(system: str) -> dict[str, float]:
    """Measure in a new process without compilation cache. ``start`` is the time to start and exit Python."""
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    command = [sys.executable, "-m", "benchmarks.fluct_time", "--once", system]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    times = json.loads(done.stdout)
    return {"start": time.perf_counter() - start - sum(times.values()), **times}


def main() -> None:
    """Print the table. With ``--once``, print the times of one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", choices=SYSTEMS, help="measure in this process and print JSON")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(measure(arguments.once)))
        return
    ran_on = machine()
    versions = ", ".join(f"{name} {version}" for name, version in ran_on["versions"].items())
    print(f"{ran_on['cores']} cores, Python {ran_on['python']}, {versions}; median of {arguments.repeats}, seconds\n")
    print(
        "| neurons | fluct_init with compilation (each) | Python start and exit | imports | building the net | load |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for system in SYSTEMS:
        runs = [in_fresh_process(system) for _ in range(arguments.repeats)]
        median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        each = ", ".join(f"{run['init']:.1f}" for run in runs)
        others = " | ".join(f"{median[name]:.1f}" for name in ("start", "import", "build"))
        print(f"| {system} | {median['init']:.1f} ({each}) | {others} | {os.getloadavg()[0]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
