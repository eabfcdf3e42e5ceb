"""Measure accuracy against depth for three weight initialisations, on Randman.

In Randman each of 20 units fires once in 200 ms, so only the spike times distinguish the ten classes. The networks and
the initialisations are those of ``deep_networks.py``. The script trains a network for each depth and each
initialisation. It writes a table of the accuracies, and a figure of the accuracies and of the firing rate of the last
hidden layer.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import deep_networks
import matplotlib.pyplot as plt
import numpy as np
from _saving import make_folder, save_figure, save_json, save_text
from _training import RUN, options, positive

XI = 1.0  # the best value for chip layers and for Randman, see docs/fluct_init.md


def train(arguments: argparse.Namespace, layers: int, init: str, seed: int) -> dict[str, Any]:
    """Train one network in its own folder."""
    out = arguments.out / f"{layers}_{init}_{seed}"
    own = vars(deep_networks.parser().parse_args(["--data", "randman"])) | {
        "layers": layers,
        "init": init,
        "seed": seed,
        "xi": XI,
        "out": out,
        "resume": arguments.resume and (out / RUN).exists(),
        **{name: getattr(arguments, name) for name in ("neuron", "width", "epochs", "stop_after", "smoke")},
    }
    result = deep_networks.main(argparse.Namespace(**own))
    rates = list(result["rates_hz"].values())
    return {
        "layers": layers,
        "init": init,
        "seed": seed,
        "test_accuracy": result["test_accuracy"],
        "rate_hz": rates[-1],
    }


def of(rows: list[dict[str, Any]], layers: int, init: str, name: str) -> np.ndarray:
    """Return the result ``name`` of all seeds of a depth and an initialisation."""
    return np.array([row[name] for row in rows if (row["layers"], row["init"]) == (layers, init)])


def table(rows: list[dict[str, Any]], depths: list[int], inits: list[str]) -> str:
    """Return the accuracies as a Markdown table with one row for each depth."""
    lines = [f"| hidden layers | {' | '.join(inits)} |", "| --- " * (len(inits) + 1) + "|"]
    for layers in depths:
        cells = []
        for init in inits:
            each = of(rows, layers, init, "test_accuracy")
            cells.append(f"{each.mean():.3f}" + (f" ({', '.join(f'{a:.3f}' for a in each)})" if len(each) > 1 else ""))
        lines.append(f"| {layers} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(rows: list[dict[str, Any]], depths: list[int], inits: list[str]) -> plt.Figure:
    """Draw accuracy and rate of the last hidden layer against depth. Markers are seeds, and lines are means."""
    drawing, axes = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
    for ax, name in zip(axes, ("test_accuracy", "rate_hz"), strict=True):
        for init in inits:
            look = deep_networks.INITS[init]
            each = [of(rows, layers, init, name) for layers in depths]
            means = [values.mean() for values in each]
            ax.plot(depths, means, look.line, color=look.color, linewidth=2, label=look.words)
            for layers, values in zip(depths, each, strict=True):
                ax.plot(np.full(len(values), layers), values, look.marker, color=look.color, markersize=6)
        ax.set(xlabel="hidden layers", xticks=depths)
    axes[0].set(ylabel="test accuracy after training", ylim=(0, 1))
    axes[0].axhline(0.1, color="0.7", linewidth=1, linestyle=":")
    axes[0].text(depths[0], 0.11, "chance", color="0.5", fontsize="small")
    axes[1].set(ylabel="mean rate of the last hidden layer (Hz)", ylim=(0, None))
    # Place the legend above the axes, because the curves may be anywhere inside them.
    axes[0].legend(
        frameon=False, ncols=len(inits), loc="lower left", bbox_to_anchor=(-0.1, 1), columnspacing=1, fontsize="medium"
    )
    return drawing


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train all networks, save the table and the figure, print the result line, and return the results."""
    started = time.perf_counter()
    if arguments.smoke:
        arguments.epochs, arguments.width = min(arguments.epochs, 2), min(arguments.width, 16)
    depths, inits = sorted(set(arguments.depths)), list(arguments.inits)
    if arguments.smoke:
        depths, inits = depths[:2], inits[:1]
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    make_folder(arguments.out)
    rows = [train(arguments, layers, init, seed) for layers in depths for init in inits for seed in seeds]
    drawing = figure(rows, depths, inits)
    save_figure(drawing, arguments.out / "depth.png")
    plt.close(drawing)
    text = table(rows, depths, inits)
    save_text(text + "\n", arguments.out / "depth.md")
    print(text)
    deepest = {init: float(of(rows, depths[-1], init, "test_accuracy").mean()) for init in inits}
    result = {"test_accuracy": deepest[inits[0]], "nets": rows, "seconds": time.perf_counter() - started}
    save_json(result, arguments.out / "result.json")
    words = ", ".join(f"{init} {accuracy:.4f}" for init, accuracy in deepest.items())
    print(
        f"test accuracy at {depths[-1]} hidden layers: {words} | {len(rows)} nets | {result['seconds']:.1f} s | "
        f"{arguments.neuron} x {arguments.width}, seeds {seeds[0]} to {seeds[-1]}"
    )
    return result


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=15, out="randman_depth", chip=False)
    parser.add_argument("--depths", type=positive, nargs="+", default=[1, 2, 3, 6], help="numbers of hidden layers")
    parser.add_argument(
        "--inits",
        choices=tuple(deep_networks.INITS),
        nargs="+",
        default=list(deep_networks.INITS),
        help="initialisations of the weights",
    )
    parser.add_argument("--seeds", type=positive, default=1, help="number of seeds; the first is --seed")
    parser.add_argument("--neuron", choices=deep_networks.NEURONS, default="lif", help="type of the hidden neurons")
    parser.add_argument("--width", type=positive, default=64, help="number of neurons in each hidden layer")
    main(parser.parse_args())
