"""Classify, at each step, the segment of the heart beat in an electrocardiogram, with fractional neurons.

Data and training are those of ``ecg_alif.py``. The network of that script remembers the past by recurrent weights and
slow currents. This network has neither. It has two feed-forward layers of fractional neurons, and the order of each
neuron is trainable. Such a neuron remembers the past in its membrane potential, which decays as a power of time.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import brainstate
import brainunit as u
import numpy as np
from _saving import save_figure
from _training import Training, options
from ecg_alif import DT, N_CHANNELS, N_CLASSES, load, segment, spread
from matplotlib import pyplot as plt

import brainhw as bh

N_HIDDEN = 64
LOWEST, HIGHEST = 0.3, 0.95


def neurons() -> bh.nn.FractionalLIFLayer:
    """Return a layer with trainable orders and time constants."""
    return bh.nn.FractionalLIFLayer(
        N_HIDDEN,
        alpha=brainstate.random.uniform(LOWEST, HIGHEST, N_HIDDEN),
        tau=spread(8, 200, N_HIDDEN),
        learn_alpha=True,
        reset="current",
        n_exponentials=16,
        horizon=1301,
        spk_fun=bh.surrogate.fast_sigmoid(slope=5),
    )


def synapse(n_in: int, strength: float) -> bh.nn.LIFSynapse:
    """Return a dense synapse."""
    return bh.nn.LIFSynapse(
        n_in, N_HIDDEN, weight_init=strength / math.sqrt(n_in) * brainstate.random.normal(size=(n_in, N_HIDDEN)) * u.mV
    )


def net() -> brainstate.nn.Sequential:
    """Return a chain of two fractional layers and a readout, which ``rollout`` runs layer by layer."""
    weights = brainstate.random.normal(size=(N_HIDDEN, N_CLASSES)) * 0.3 / math.sqrt(N_HIDDEN)
    return brainstate.nn.Sequential(
        synapse(N_CHANNELS, 20.0),
        neurons(),
        synapse(N_HIDDEN, 8.0),
        neurons(),
        bh.nn.LeakyReadout(N_HIDDEN, N_CLASSES, tau=spread(20, 200, N_CLASSES), weight_init=weights, bias=True),
    )


def orders(net: brainstate.nn.Sequential, path: Path) -> tuple[float, str]:
    """Draw the orders of both layers. Return their mean, and the mean of each layer as text."""
    drawing, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    orders = {f"layer {i + 1}": np.ravel(net.layers[2 * i + 1].orders()) for i in range(2)}
    look = {"color": ("#0072B2", "#E69F00"), "hatch": ("", "///"), "edgecolor": "white", "linewidth": 0}
    ax.hist(list(orders.values()), bins=np.linspace(0, 1, 21), label=list(orders), **look)
    ax.axvspan(LOWEST, HIGHEST, color="0.92", zorder=0, label="initial range")
    ax.set(xlabel="order α after training", ylabel="neurons", xlim=(0, 1))
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    save_figure(drawing, path)
    plt.close(drawing)
    means = [float(alpha.mean()) for alpha in orders.values()]
    return float(np.mean(means)), "mean order " + ", ".join(f"{mean:.2f}" for mean in means)


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train and evaluate the network, print the result line, and save and return the results."""
    data = load(arguments)
    brainstate.environ.set(dt=DT)
    brainstate.random.seed(arguments.seed)
    run = Training(net(), arguments, layers=("layers.1",), setting=f"2 x {N_HIDDEN} fractional neurons")
    history = segment(run, data)
    return run.finish(history, data.test, mean_order=orders(run.net, arguments.out / "orders.png"))


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=30, out="ecg_fractional", chip=False)
    parser.add_argument("--root", help="folder of the data set; default: the folders of brainhw.data.qtdb")
    main(parser.parse_args())
