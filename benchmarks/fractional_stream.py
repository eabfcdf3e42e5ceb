"""Memory use and numerical error of fractional neurons over a million steps in chunks.

``python -m benchmarks.fractional_stream`` drives 256 neurons in single precision with noise, chunk after chunk. For
some neurons it compares the last steps with exact Gruenwald-Letnikov sums over the whole past, in double precision. To
compute these, the impulse response of the scheme is convolved with the input and the resets. The impulse response is
the inverse of a power series and is computed by FFT.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import resource
import time

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal

import brainhw as bh

N, WATCHED, WINDOW = 256, 4, 1000
ALPHA, TAU = 0.4, 20.0


def impulse_response(n: int) -> np.ndarray:
    """Return the exact membrane potential over ``n`` steps after an input of one in a single step."""
    gain = (1 / TAU) ** ALPHA
    series = np.cumprod(np.append(1.0, 1 - (1 + ALPHA) / np.arange(1, n)))
    series[1] += gain
    # Newton's iteration for the reciprocal of a power series doubles the number of correct terms in each iteration.
    inverse = np.ones(1)
    while len(inverse) < n:
        m = min(2 * len(inverse), n)
        wrong = scipy.signal.fftconvolve(series[:m], inverse)[:m]
        wrong = -wrong
        wrong[0] += 2
        inverse = scipy.signal.fftconvolve(inverse, wrong)[:m]
    return gain * inverse


def main() -> None:
    """Run the neurons, compare them with the exact sums, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--chunk", type=int, default=10_000)
    parser.add_argument(
        "--tolerance", type=float, default=3e-7, help="tolerance of the exponential approximation over all steps"
    )
    arguments = parser.parse_args()
    n_chunks = arguments.steps // arguments.chunk
    n_steps = n_chunks * arguments.chunk
    k = bh.kernel.n_exponentials(arguments.tolerance, n_steps)
    layer = bh.nn.FractionalLIFLayer(N, alpha=ALPHA, tau=TAU * u.ms, n_exponentials=k, horizon=n_steps)
    brainstate.environ.set(dt=1.0 * u.ms)
    bh.prepare_net(layer)

    @brainstate.transform.jit
    def chunk(xs: jax.Array) -> tuple[jax.Array, u.Quantity]:
        spikes, seen = bh.rollout(layer, xs * u.mV, record=(".V",), prepare=False)
        return spikes, seen[".V"]

    rng = np.random.default_rng(0)
    source = np.full((n_steps, WATCHED), np.nan)  # filled now, so that its memory is not counted as growth later
    n_spikes, memory, started = 0.0, [], time.perf_counter()
    for i in range(n_chunks):
        xs = rng.normal(0.8, 2.0, (arguments.chunk, N)).astype(np.float32)
        spikes, V = chunk(jnp.asarray(xs))
        n_spikes += float(spikes.sum())
        source[i * arguments.chunk : (i + 1) * arguments.chunk] = (xs - np.asarray(spikes))[:, :WATCHED]
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    seconds = time.perf_counter() - started

    response = impulse_response(n_steps)
    exact = scipy.signal.fftconvolve(source, response[:, None], axes=0)[n_steps - WINDOW : n_steps]
    error = np.abs(np.asarray(V.mantissa)[-WINDOW:, :WATCHED] - exact).max()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "brainstate"))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, {versions}")
    print(f"{n_steps} steps of {N} neurons, {k} exponentials, chunks of {arguments.chunk}: {seconds:.0f} s")
    print(f"mean rate {n_spikes / n_steps / N * 1e3:.1f} Hz, voltages up to {np.abs(exact).max():.2f} mV")
    print(f"peak memory after half of the steps {memory[n_chunks // 2]:.0f} MiB, after all {memory[-1]:.0f} MiB")
    print(f"largest error of the last {WINDOW} steps against exact sums in double precision: {error:.1e} mV")


if __name__ == "__main__":
    main()
