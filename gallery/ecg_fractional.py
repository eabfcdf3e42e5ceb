"""Name the wave segment of a heart beat at every step, with neurons that remember by a power of time.

The data and the training are those of ``ecg_alif.py``. Where that net remembers through recurrent weights and slow
currents, this one has neither: two feed-forward layers of fractional neurons, each with an order of its own that it
learns, see the past through their membranes alone.
"""

from __future__ import annotations

import argparse
import math

import brainstate
import brainunit as u
import numpy as np
from _saving import save_figure
from _training import options
from ecg_alif import N_CHANNELS, N_CLASSES, SegmentTraining, segment, spread
from matplotlib import pyplot as plt

import brainhw as bh

N_HIDDEN = 64
LOWEST, HIGHEST = 0.3, 0.95


def neurons() -> bh.nn.FractionalLIFLayer:
    """Return a layer whose orders and time constants are learnt."""
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
    """Return two fractional layers and a readout, as a chain that runs layer by layer."""
    weights = brainstate.random.normal(size=(N_HIDDEN, N_CLASSES)) * 0.3 / math.sqrt(N_HIDDEN)
    return brainstate.nn.Sequential(
        synapse(N_CHANNELS, 20.0),
        neurons(),
        synapse(N_HIDDEN, 8.0),
        neurons(),
        bh.nn.LeakyReadout(N_HIDDEN, N_CLASSES, tau=spread(20, 200, N_CLASSES), weight_init=weights, bias=True),
    )


class FractionalTraining(SegmentTraining):
    """The same training, which also shows the orders that were learnt."""

    @property
    def setting(self) -> str:
        """What the net is made of."""
        return f"2 x {N_HIDDEN} fractional neurons"

    def examine(self) -> dict[str, tuple[float, str]]:
        """Draw the orders of both layers."""
        drawing, ax = plt.subplots(figsize=(5, 3), layout="constrained")
        orders = {f"layer {i + 1}": np.ravel(self.net.layers[2 * i + 1].orders()) for i in range(2)}
        ax.hist(list(orders.values()), bins=np.linspace(0, 1, 21), label=list(orders))
        ax.axvspan(LOWEST, HIGHEST, color="0.92", zorder=0, label="where learning began")
        ax.set(xlabel="learnt order alpha", ylabel="neurons", xlim=(0, 1))
        ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize="small")
        save_figure(drawing, self.arguments.out / "orders.png")
        plt.close(drawing)
        means = {name: float(alpha.mean()) for name, alpha in orders.items()}
        return {
            "mean_order": (
                float(np.mean(list(means.values()))),
                "mean order " + ", ".join(f"{m:.2f}" for m in means.values()),
            )
        }


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train the fractional net."""
    return segment(arguments, net, FractionalTraining, "layers.1")


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=30, out="ecg_fractional", chip=False)
    parser.add_argument("--root", help="folder of the data set; otherwise searched where brainhw.data.qtdb looks")
    main(parser.parse_args())
