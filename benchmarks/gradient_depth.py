"""Gradient norm of each layer before training, for several depths and weight initialisations.

``python -m benchmarks.gradient_depth`` builds the networks of ``gallery/deep_networks.py`` with 128 neurons in each
layer. It initialises them by each of the three rules and computes the gradient of the loss on 256 recordings. It writes
``docs/results/gradient_depth.json`` and ``docs/images/gradient_depth.png``, and prints a Markdown table. With
``--draw`` it draws the figure from the saved results.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import warnings
from typing import Any

import brainstate
import braintools
import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.machine import PROJECT, save

sys.path.insert(0, str(PROJECT / "gallery"))
import deep_networks
from _training import frames_of

import brainhw as bh

WIDTH = 128
DEPTHS = (2, 4, 8)
CASES = (("randman", "lif", 2.0), ("vowels", "lif", 2.0), ("vowels", "h1v1", 1.0), ("vowels", "h1v2", 1.0))
NAMES = {"lif": "LIF", "h1v1": "H1v1", "h1v2": "H1v2", "randman": "Randman", "vowels": "vowels"}
RESULTS = "gradient_depth"


def norms(data: str, neuron: str, xi: float, depth: int, init: str, seed: int) -> tuple[list[float], list[float]]:
    """Return, for each layer, the gradient norm of its weights and its mean firing rate in Hz."""
    task = deep_networks.TASKS[data]
    train, _ = task.load(None)
    part = train.take(slice(None, None, max(1, len(train) // 256)))
    brainstate.environ.set(dt=task.dt)
    brainstate.random.seed(seed)
    net = deep_networks.deep_net(neuron, frames_of(train).shape[-1], depth, WIDTH, task.n_classes)
    options = argparse.Namespace(init=init, xi=xi, seed=seed, in_range=False)
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        deep_networks.initialise(net, frames_of(part), options)
    x, y = jnp.asarray(np.swapaxes(part.x, 0, 1)), jnp.asarray(part.y)

    def loss() -> jax.Array:
        logits, _ = bh.rollout(net, x)
        return braintools.metric.softmax_cross_entropy_with_integer_labels(logits.max(axis=0), y).mean()

    weights = [net.layers[2 * i].weight for i in range(depth)]
    gradient = brainstate.transform.jit(brainstate.transform.grad(loss, weights))()
    report = bh.init.fluct_report(net, [part.x])
    sizes = [float(jnp.linalg.norm(getattr(g, "mantissa", g))) for g in gradient]
    return sizes, [float(layer.rates.mantissa.mean()) for layer in report.layers]


def draw(rows: list[dict[str, Any]]) -> plt.Figure:
    """Draw the norms over layers, one panel for each depth and case.

    A norm of exactly zero is drawn at the dotted line.
    """
    figure, axes = plt.subplots(
        len(CASES), len(DEPTHS), figsize=(8.6, 2.1 * len(CASES) + 0.5), sharey="row", sharex="col", layout="constrained"
    )
    for i, (data, neuron, _) in enumerate(CASES):
        positive = [g for r in rows if (r["data"], r["neuron"]) == (data, neuron) for g in r["norms"] if g > 0]
        floor = min(positive) / 10
        for j, depth in enumerate(DEPTHS):
            ax = axes[i, j]
            mine = [r for r in rows if (r["data"], r["neuron"], r["depth"]) == (data, neuron, depth)]
            for init, (words, color, line, marker) in deep_networks.INITS.items():
                for row in (r for r in mine if r["init"] == init):
                    look = {"color": color, "marker": marker, "markersize": 4, "alpha": 0.8}
                    label = words if row["seed"] == 0 else None
                    ax.semilogy(range(1, depth + 1), np.maximum(row["norms"], floor), line, label=label, **look)
            ax.axhline(floor, color="0.6", linestyle=(0, (1, 3)), linewidth=1, label="exactly zero")
            ax.set(title=f"{depth} layers" if i == 0 else "", xticks=range(1, depth + 1))
        axes[i, 0].set_ylabel(f"{NAMES[neuron]} on {NAMES[data]}\ngradient norm")
    for ax in axes[-1]:
        ax.set_xlabel("layer")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table of the smallest and the largest norm over layers and seeds, for every setting."""
    lines = ["| net | depth | " + " | ".join(deep_networks.INITS) + " |", "| --- " * (2 + 3) + "|"]
    for data, neuron, _ in CASES:
        for depth in DEPTHS:
            cells = []
            for init in deep_networks.INITS:
                mine = [
                    r for r in rows if (r["data"], r["neuron"], r["depth"], r["init"]) == (data, neuron, depth, init)
                ]
                every = [g for r in mine for g in r["norms"]]
                cells.append(f"{min(every):.1e} to {max(every):.1e}")
            lines.append(f"| {neuron} on {data} | {depth} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure every setting, save the figure and the results as JSON, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draw", action="store_true", help="draw the saved results without measuring again")
    arguments = parser.parse_args()
    if arguments.draw:
        rows = json.loads((PROJECT / "docs" / "results" / f"{RESULTS}.json").read_text())["runs"]
    else:
        rows = measured(range(arguments.seeds))
        save(RESULTS, {"runs": rows})
    draw(rows).savefig(PROJECT / "docs" / "images" / "gradient_depth.png", dpi=110)
    print(table(rows))


def measured(seeds: range) -> list[dict[str, Any]]:
    """Return the norms and rates of every setting and seed."""
    rows = []
    for (data, neuron, xi), depth, init, seed in itertools.product(CASES, DEPTHS, deep_networks.INITS, seeds):
        found, rates = norms(data, neuron, xi, depth, init, seed)
        setting = {"data": data, "neuron": neuron, "depth": depth, "init": init, "seed": seed}
        rows.append({**setting, "norms": found, "rates_hz": rates})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    main()
