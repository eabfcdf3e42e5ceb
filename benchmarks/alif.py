"""Run times of ALIFLayer and of Rockpool's aLIFTorch on the same recurrent layer.

``python -m benchmarks.alif`` prints a Markdown table of the times of the forward pass and of forward with backward
pass. Both layers run in this process, one after the other, on the CPU. They have the same input and parameters (by
default T=100, B=32, N=256). Rockpool runs on one thread and on all threads, and the table shows the shorter time.
Rockpool (AGPL) is not a dependency of brainhw. Install it with ``pip install rockpool torch``. Otherwise only brainhw
is timed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import brainhw as bh
from benchmarks.timing import median_ms

BIAS, TAU_SECONDS = 0.02, 20e-3


def ours(x: np.ndarray, w_rec: np.ndarray, repeats: int) -> dict[str, float]:
    """Measure the layer of brainhw. Every parameter is trainable, as in Rockpool."""
    n = x.shape[-1]
    param, tau = brainstate.nn.Param, TAU_SECONDS * u.second
    layer = bh.nn.ALIFLayer(
        n,
        tau_mem=param(jnp.full(n, 1.0) * tau),
        tau_syn=param(jnp.full((n, 1), 1.0) * tau),
        tau_ahp=param(jnp.full(n, 1.0) * tau),
        w_ahp=param(jnp.full(n, -0.9) * u.mV),
        bias=param(jnp.full(n, BIAS) * u.mV),
        V_th=param(jnp.full(n, 1.0) * u.mV),
        w_rec=w_rec * u.mV,
    )
    xs = jnp.asarray(np.swapaxes(x, 0, 1)) * u.mV
    bh.prepare_net(layer, xs.shape[1])

    def run() -> jax.Array:
        return bh.rollout(layer, xs)[0]

    forward = brainstate.transform.jit(run)
    both = brainstate.transform.jit(
        brainstate.transform.grad(lambda: run().sum(), layer.states(brainstate.ParamState), return_value=True)
    )
    result = {}
    for name, call in (("forward", forward), ("forward + backward", both)):
        start = time.perf_counter()
        jax.block_until_ready(call())
        result[f"{name}, compile s"] = time.perf_counter() - start

        def finished(call: Callable[[], Any] = call) -> Any:
            return jax.block_until_ready(call())

        result[name] = median_ms(finished, repeats)
    result["spikes"] = float(forward().sum())
    return result


def rockpools(x: np.ndarray, w_rec: np.ndarray, repeats: int, threads: int) -> dict[str, float]:
    """Measure the module of Rockpool through its public interface."""
    import torch
    from rockpool.nn.modules import aLIFTorch

    torch.set_num_threads(threads)
    n = x.shape[-1]
    tau = torch.full((n,), TAU_SECONDS)
    module = aLIFTorch(
        (n, n),
        tau_mem=tau,
        tau_syn=tau.reshape(n, 1),
        tau_ahp=tau,
        w_ahp=torch.full((n,), -0.9),
        bias=torch.full((n,), BIAS),
        threshold=torch.ones(n),
        has_rec=True,
        w_rec=torch.as_tensor(w_rec),
        dt=1e-3,
    )
    data = torch.as_tensor(x)

    def forward() -> Any:
        module.reset_state()
        with torch.no_grad():
            return module(data)[0]

    def both() -> None:
        module.reset_state()
        for parameter in module.parameters().astorch():
            parameter.grad = None
        module(data)[0].sum().backward()

    result = {"forward": median_ms(forward, repeats), "forward + backward": median_ms(both, repeats)}
    result["spikes"] = float(forward().sum())
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("steps", 100), ("batch", 32), ("neurons", 256), ("repeats", 15)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    brainstate.environ.set(dt=1.0 * u.ms)
    n, rng = arguments.neurons, np.random.default_rng(0)
    x = rng.normal(0, 0.3, (arguments.batch, arguments.steps, n)).astype(np.float32)
    w_rec = rng.normal(0, 0.3 / np.sqrt(n), (n, n)).astype(np.float32)

    peer = importlib.util.find_spec("rockpool") and importlib.util.find_spec("torch")
    names = ("jax", "brainstate", *(("rockpool", "torch") if peer else ()))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(f"T={arguments.steps} B={arguments.batch} N={n}, recurrent, S=1, float32, medians of {arguments.repeats}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, {versions}\n")

    mine = ours(x, w_rec, arguments.repeats)
    runs = [rockpools(x, w_rec, arguments.repeats, threads) for threads in {1, os.cpu_count() or 1}] if peer else []
    theirs = {name: min(run[name] for run in runs) for name in runs[0]} if runs else None
    print("| | brainhw ms (compile s) | Rockpool ms | times faster |\n| --- | --- | --- | --- |")
    for name in ("forward", "forward + backward"):
        other = f"{theirs[name]:.1f} | {theirs[name] / mine[name]:.1f}" if theirs else "- | -"
        print(f"| {name} | {mine[name]:.1f} ({mine[f'{name}, compile s']:.1f}) | {other} |")
    if theirs:
        print(f"\nspikes: {mine['spikes']:.0f} and {theirs['spikes']:.0f}")
    else:
        print("\nRockpool is not installed, so only brainhw was timed. Install it with: pip install rockpool torch.")


if __name__ == "__main__":
    main()
