"""Time and memory of a fractional layer in brainhw and in spikeDE, for increasing numbers of steps.

``python -m benchmarks.fractional`` prints a Markdown table of the times of the forward pass with the backward pass.
Both libraries run in this process, one after the other, on the CPU, after a call to ``bh.keep_memory()``. The network
has a dense layer of 100 inputs, 256 fractional neurons and a dense layer to 10 outputs. The neurons use the
Gruenwald-Letnikov scheme of order 0.6 with full memory and the equations of spikeDE. The batch size is 32. spikeDE runs
on one thread and on all threads, and the table shows the shorter time. The time of spikeDE grows with the square of the
number of steps. Beyond 512 steps it is extrapolated, and marked as such. spikeDE is not a dependency of brainhw. To
install it, ``pip install`` PhysAGI/spikeDE and kangqiyu/torchfde from GitHub, torch and torchdiffeq. Otherwise only the
times of brainhw are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import time
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import brainhw as bh
from benchmarks.timing import median_ms

N_IN, N, N_OUT, BATCH = 100, 256, 10, 32
H, TAU, ALPHA = 0.125, 2.0, 0.6
LONGEST_PEER = 512


def ours(x: np.ndarray, weights: tuple[np.ndarray, np.ndarray], repeats: int, **options: Any) -> dict[str, float]:
    """Measure brainhw. The option ``checkpoint`` is passed to ``rollout``, and all others are passed to the layer."""
    checkpoint = options.pop("checkpoint", None)
    net = brainstate.nn.Sequential(
        bh.nn.LIFSynapse(N_IN, N, weight_init=weights[0] * u.mV),
        bh.nn.FractionalLIFLayer(N, alpha=ALPHA, tau=TAU * u.ms, **bh.nn.spikede_preset(), **options),
        bh.nn.LIFSynapse(N, N_OUT, weight_init=weights[1] * u.mV),
    )
    xs = jnp.asarray(x)
    bh.prepare_net(net, BATCH)
    parameters = net.states(brainstate.ParamState)

    def run() -> jax.Array:
        return bh.rollout(net, xs, checkpoint=checkpoint)[0].mantissa.mean()

    both = brainstate.transform.jit(brainstate.transform.grad(run, parameters, return_value=True))
    start = time.perf_counter()
    temporary = both.compile().memory_analysis().temp_size_in_bytes / 2**20
    compiling = time.perf_counter() - start
    result = {"compile": compiling, "MiB": temporary, "ms": median_ms(lambda: jax.block_until_ready(both()), repeats)}
    result["outcome"] = float(both()[1])
    return result


def peers(x: np.ndarray, weights: tuple[np.ndarray, np.ndarray], repeats: int, threads: int) -> dict[str, float]:
    """Measure spikeDE through its public interface."""
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # spikeDE reports no gain from compilation, which takes seconds
    import torch
    from spikeDE import LIFNeuron, SNNWrapper

    torch.set_num_threads(threads)
    base = torch.nn.Sequential(
        torch.nn.Linear(N_IN, N, bias=False),
        LIFNeuron(tau=TAU, threshold=1.0),
        torch.nn.Linear(N, N_OUT, bias=False),
    )
    with contextlib.redirect_stdout(io.StringIO()):
        net = SNNWrapper(base, integrator="fdeint", alpha=ALPHA)
        net._set_neuron_shapes(input_shape=(1, N_IN))
    layers = [module for module in net.modules() if isinstance(module, torch.nn.Linear)]
    with torch.no_grad():
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.copy_(torch.as_tensor(weight.T))
    data, times = torch.as_tensor(x), torch.arange(len(x)) * H

    def both() -> float:
        net.zero_grad()
        loss = net(data, times, method="gl").mean()
        loss.backward()
        return float(loss.detach())

    return {"outcome": both(), "ms": median_ms(both, repeats)}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[128, 512, 2048])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peer-repeats", type=int, default=3)
    arguments = parser.parse_args()
    brainstate.environ.set(dt=H * u.ms)
    bh.keep_memory()
    rng = np.random.default_rng(0)
    scales = ((N_IN, N), (N, N_OUT))
    first, second = (rng.normal(0, 2 / np.sqrt(n), (n, m)).astype(np.float32) for n, m in scales)
    weights = first, second
    peer = importlib.util.find_spec("spikeDE") is not None and importlib.util.find_spec("torch") is not None
    names = ("jax", "brainstate", *(("torch", "spikeDE") if peer else ()))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, {versions}\n")

    kinds: dict[str, dict[str, Any]] = {
        "alpha fixed": {},
        "alpha trainable": {"learn_alpha": True},
        'fixed, checkpoint="auto"': {"checkpoint": "auto"},
    }
    print("| steps | " + " | ".join(f"{kind}: ms, MiB" for kind in kinds) + " | spikeDE ms | times faster |")
    print("| --- " * (len(kinds) + 3) + "|")
    known: tuple[int, float] | None = None
    for n_steps in arguments.steps:
        x = rng.normal(0, 1, (n_steps, BATCH, N_IN)).astype(np.float32)
        mine = [ours(x, weights, arguments.repeats, **dict(options)) for options in kinds.values()]
        cells = [f"{m['ms']:.0f}, {m['MiB']:.0f}" for m in mine]
        theirs = "- | -"
        if peer and n_steps <= LONGEST_PEER:
            runs = [peers(x, weights, arguments.peer_repeats, threads) for threads in {1, os.cpu_count() or 1}]
            known = n_steps, min(run["ms"] for run in runs)
            theirs = f"{known[1]:.0f} | {known[1] / mine[0]['ms']:.0f}"
            off = abs(runs[0]["outcome"] - mine[0]["outcome"])
            if off > 1e-4 * abs(runs[0]["outcome"]) + 1e-6:
                raise AssertionError(
                    f"the outputs of spikeDE and brainhw differ: {runs[0]['outcome']} and {mine[0]['outcome']}"
                )
        elif known is not None:
            guessed = known[1] * (n_steps / known[0]) ** 2
            theirs = f"({guessed:.0f}, extrapolated) | ({guessed / mine[0]['ms']:.0f})"
        print(f"| {n_steps} | " + " | ".join(cells) + f" | {theirs} |", flush=True)
    if not peer:
        print("\nspikeDE is not installed, so only brainhw was timed.")


if __name__ == "__main__":
    main()
