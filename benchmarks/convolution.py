"""Time of a training step of a convolutional network in brainhw and snnTorch.

The network is 12C5-MP2-64C5-MP2-10 on 28x28 images, with T=12 and B=32.
``python -m benchmarks.convolution --snntorch PATH`` runs each library in a new process, one after the other. It prints
the median time of a training step in milliseconds. A step consists of the forward pass, the backward pass and an Adam
update. ``PATH`` is the interpreter of an environment with snnTorch, which does not need brainhw. ``--out NAME`` saves
the result in ``docs/results/NAME.json``.

``python -m benchmarks.convolution --learn`` trains the network on ten classes of sparse spiking images for 20 steps. It
does so from the default weights of brainstate and from ``fluct_init``, and prints the losses of both trainings.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import median_ms

T, B, BETA, SLOPE, RATE = 12, 32, 0.9, 25.0, 1e-3


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return spiking images ``[T, B, 28, 28, 1]`` and their classes ``[B]``."""
    rng = np.random.default_rng(0)
    return (rng.random((T, B, 28, 28, 1)) < 0.2).astype(np.float32), rng.integers(0, 10, B)


def network() -> Any:
    """Return the network of brainhw with the default weights of brainstate for seed 0."""
    import brainstate
    import brainunit as u

    import brainhw as bh

    brainstate.random.seed(0)
    tau = -1.0 / np.log(BETA) * u.ms

    def lif(size: int | tuple[int, ...]) -> bh.nn.LIFLayer:
        return bh.nn.LIFLayer(size, tau=tau, spk_fun=bh.surrogate.fast_sigmoid(SLOPE))

    return brainstate.nn.Sequential(
        brainstate.nn.Conv2d((28, 28, 1), 12, 5, padding="VALID"),
        brainstate.nn.MaxPool2d(2, 2),
        lambda x: x * u.mV,
        lif((12, 12, 12)),
        brainstate.nn.Conv2d((12, 12, 12), 64, 5, padding="VALID"),
        brainstate.nn.MaxPool2d(2, 2),
        lambda x: x * u.mV,
        lif((4, 4, 64)),
        brainstate.nn.Flatten(in_size=(4, 4, 64)),
        bh.nn.LIFSynapse(1024, 10),
        lif(10),
    )


def learn(from_fluct_init: bool, *, n_steps: int = 20, rate: float = 0.03) -> list[float]:
    """Return the loss of each training step on ten classes of sparse images. Random guessing has a loss of 2.30.

    Each class is a smooth random picture. Its pixels spike at random with a probability of ``rate`` times their value
    in each step, on average with about 12 spikes per second.
    """
    import brainstate
    import braintools
    import brainunit as u
    import jax
    import jax.numpy as jnp
    from scipy.ndimage import gaussian_filter

    import brainhw as bh

    pictures = np.stack([gaussian_filter(np.random.default_rng(i).normal(size=(28, 28)), 2.5) for i in range(10)])
    pictures = np.clip(pictures / pictures.std(axis=(1, 2), keepdims=True), 0, None)
    rng = np.random.default_rng(0)

    def batch() -> tuple[np.ndarray, np.ndarray]:
        y = rng.integers(0, 10, B)
        return (rng.random((T, B, 28, 28)) < rate * pictures[y])[..., None].astype(np.float32), y

    with brainstate.environ.context(dt=1.0 * u.ms):
        net = network()
        if from_fluct_init:
            bh.fluct_init(net, [batch()[0].swapaxes(0, 1)], families="any", verbose=False)
        weights = net.states(brainstate.ParamState)
        optimizer = braintools.optim.Adam(lr=2e-3)
        optimizer.register_trainable_weights(weights)

        def loss(x: jax.Array, y: jax.Array) -> jax.Array:
            rates = bh.rollout(net, x)[0].sum(0)
            return braintools.metric.softmax_cross_entropy_with_integer_labels(rates, y).mean()

        @brainstate.transform.jit
        def step(x: jax.Array, y: jax.Array) -> jax.Array:
            gradients, value = brainstate.transform.grad(loss, weights, return_value=True)(x, y)
            optimizer.step(gradients)
            return value

        return [float(step(jnp.asarray(x), jnp.asarray(y))) for x, y in (batch() for _ in range(n_steps))]


def _brainhw() -> tuple[Callable[[], Any], tuple[str, ...]]:
    import brainstate
    import braintools
    import brainunit as u
    import jax.numpy as jnp

    import brainhw as bh

    brainstate.environ.set(dt=1.0 * u.ms)
    net = network()
    weights = net.states(brainstate.ParamState)
    optimizer = braintools.optim.Adam(lr=RATE)
    optimizer.register_trainable_weights(weights)
    x, y = images()
    xs, ys = jnp.asarray(x), jnp.asarray(y)

    def loss() -> Any:
        rates = bh.rollout(net, xs)[0].sum(0)
        return braintools.metric.softmax_cross_entropy_with_integer_labels(rates, ys).mean()

    @brainstate.transform.jit
    def step() -> Any:
        gradients, value = brainstate.transform.grad(loss, weights, return_value=True)()
        optimizer.step(gradients)
        return value

    return lambda: step().block_until_ready(), ("brainhw", "brainstate", "jax")


def _snntorch() -> tuple[Callable[[], Any], tuple[str, ...]]:
    import snntorch as snn
    import torch
    from snntorch import surrogate

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)

    def lif() -> Any:
        return snn.Leaky(beta=BETA, spike_grad=surrogate.fast_sigmoid(slope=SLOPE))

    conv1, conv2, dense = torch.nn.Conv2d(1, 12, 5), torch.nn.Conv2d(12, 64, 5), torch.nn.Linear(1024, 10, bias=False)
    lif1, lif2, lif3, pool = lif(), lif(), lif(), torch.nn.MaxPool2d(2)
    optimizer = torch.optim.Adam([p for part in (conv1, conv2, dense) for p in part.parameters()], lr=RATE)
    x, y = images()
    xs, ys = torch.from_numpy(x.transpose(0, 1, 4, 2, 3).copy()), torch.from_numpy(y)

    def step() -> float:
        m1, m2, m3 = lif1.reset_mem(), lif2.reset_mem(), lif3.reset_mem()
        total: Any = 0.0
        for x in xs:
            s1, m1 = lif1(pool(conv1(x)), m1)
            s2, m2 = lif2(pool(conv2(s1)), m2)
            s3, m3 = lif3(dense(s2.flatten(1)), m3)
            total = total + s3
        value = torch.nn.functional.cross_entropy(total, ys)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step, ("snntorch", "torch")


LIBRARIES = {"brainhw": _brainhw, "snntorch": _snntorch}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "source tree"


def _measure(library: str, repeats: int) -> dict[str, Any]:
    step, names = LIBRARIES[library]()
    median = median_ms(step, repeats)
    return {"step_ms": median, "versions": {name: _version(name) for name in names}, "load": os.getloadavg()[0]}


def main() -> None:
    """Measure both libraries, or only the library that ``--only`` names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snntorch", default=sys.executable, help="interpreter of an environment with snnTorch")
    parser.add_argument("--only", choices=LIBRARIES)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", help="name of the file in docs/results")
    parser.add_argument(
        "--learn", action="store_true", help="instead of timing, train from default weights and from fluct_init"
    )
    options = parser.parse_args()
    if options.learn:
        for start in (False, True):
            losses = ", ".join(f"{loss:.2f}" for loss in learn(start))
            print(f"{'fluct_init' if start else 'default weights'}: loss {losses}")
        return
    if options.only:
        print(json.dumps(_measure(options.only, options.repeats)))
        return
    found = {}
    for library in LIBRARIES:
        python = options.snntorch if library == "snntorch" else sys.executable
        command = [python, "-m", "benchmarks.convolution", "--only", library, "--repeats", str(options.repeats)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[library] = json.loads(done.stdout.splitlines()[-1])
        print(library, found[library])
    if options.out:
        from benchmarks.machine import save

        save(options.out, {"n_steps": T, "batch_size": B, "libraries": found})


if __name__ == "__main__":
    main()
