"""Classify, at each step, the segment of the heart beat in an electrocardiogram, with adaptive recurrent neurons.

The data are 759 electrocardiograms of two leads from the PhysioNet QT Database. Yin, Corradi and Bohte (2021) encoded
each of them into four spike channels of 5.2 s. The network has 36 recurrent neurons with after-hyperpolarisation. Six
leaky integrators read them out, one for each of the six segments. All time constants and weights are trainable.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import NamedTuple

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from _saving import save_figure
from _training import Training, frames_of, options, time_major
from matplotlib.ticker import MaxNLocator

import brainhw as bh

N_CHANNELS, N_CLASSES = 4, 6
DT = 4.0 * u.ms


class Size(NamedTuple):
    """Number of hidden neurons, and scale of the initial recurrent weights."""

    n_hidden: int
    recurrence: float


SIZES = {"small": Size(36, 0.3), "large": Size(128, 0.1), "largest": Size(256, 0.07)}


def spread(low: float, high: float, n: int) -> brainstate.nn.Param:
    """Return trainable time constants with log-uniform initial values. The optimizer updates their logarithms."""
    tau = jnp.exp(brainstate.random.uniform(math.log(low), math.log(high), n)) * u.ms
    return brainstate.nn.Param(tau, t=brainstate.nn.ExpT(1.0 * u.ms))


def scaled(millivolts: jax.Array, scale: jax.Array) -> brainstate.nn.Param:
    """Return trainable voltages, which the optimizer updates in units of ``scale``."""
    return brainstate.nn.Param(millivolts * u.mV, t=brainstate.nn.AffineT(scale * u.mV, 0.0 * u.mV))


class SegmentNet(brainstate.nn.Module):
    """Recurrent adaptive neurons with time constants of 4 ms to 2 s, and a readout with one logit per segment."""

    def __init__(self, size: Size, *, ahp: bool) -> None:
        super().__init__()
        n = size.n_hidden
        tau_mem, tau_syn, tau_ahp = spread(20, 400, n), spread(4, 100, n), spread(50, 2000, n)
        # With a slow synapse or a slow membrane, a spike has a larger total effect, so the initial weights are smaller.
        # The optimizer also updates recurrent weights in units of this scale. Otherwise a few slow neurons make the
        # gradient explode.
        scale = 2 / jnp.sqrt((tau_mem.value() / DT) * (tau_syn.value() / DT))
        scale_ahp = 2 / jnp.sqrt((tau_mem.value() / DT) * (tau_ahp.value() / DT))
        shared = scale / math.sqrt(n)
        normal = brainstate.random.normal
        self.to_hidden = bh.nn.LIFSynapse(N_CHANNELS, n, weight_init=0.5 * scale * normal(size=(N_CHANNELS, n)) * u.mV)
        self.hidden = bh.nn.ALIFLayer(
            n,
            tau_mem=tau_mem,
            tau_syn=tau_syn,
            tau_ahp=tau_ahp if ahp else None,
            w_ahp=scaled(-0.3 * scale_ahp, scale_ahp) if ahp else 0.0 * u.mV,
            bias=brainstate.nn.Param(jnp.zeros(n) * u.mV),
            w_rec=scaled(size.recurrence * shared * normal(size=(n, n)), shared),
            max_spikes_per_step=1,
            spk_fun=bh.surrogate.PeriodicExponential(window=0.5),
        )
        weights = 0.3 / math.sqrt(n) * normal(size=(n, N_CLASSES))
        self.readout = bh.nn.LeakyReadout(n, N_CLASSES, tau=spread(20, 200, N_CLASSES), weight_init=weights, bias=True)

    def update(self, x: jax.Array) -> jax.Array:
        """Advance one step: spikes ``[B, 4]`` to logits ``[B, 6]``."""
        return self.readout(self.hidden(self.to_hidden(x)))


def figure(logits: jax.Array, spikes: jax.Array, x: np.ndarray, y: np.ndarray, names: tuple[str, ...]) -> plt.Figure:
    """Draw one recording: input spikes, hidden spikes, and the annotated and the predicted segments."""
    drawing, axes = plt.subplots(
        3, 1, figsize=(6.4, 4.5), sharex=True, layout="constrained", gridspec_kw={"height_ratios": [1, 3, 2.2]}
    )
    dt = float(DT.to(u.second).mantissa)
    for ax, raster, label in ((axes[0], x > 0, "input"), (axes[1], spikes, "hidden neuron")):
        steps, neurons = np.nonzero(np.asarray(raster))
        # The length of a line is three quarters of the distance between neurons.
        ax.vlines(dt * steps, neurons - 0.38, neurons + 0.38, color="C0", linewidth=0.9)
        ax.set(ylabel=label)
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    time = dt * np.arange(len(y))
    axes[2].step(time, y, color="0.7", linewidth=4, label="annotated")
    axes[2].step(time, np.argmax(logits, axis=-1), color="#D55E00", linewidth=1.2, label="predicted")
    axes[2].set(yticks=range(len(names)), yticklabels=names, xlabel="time (s)", xlim=(0, dt * len(y)))
    axes[2].legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.97), ncols=2, borderpad=0)
    return drawing


def load(arguments: argparse.Namespace) -> bh.data.Dataset:
    """Return the recordings. With ``--smoke``, return only a part of them."""
    data = bh.data.qtdb(arguments.root)
    if arguments.smoke:
        arguments.epochs = min(arguments.epochs, 2)
        data = dataclasses.replace(data, train=data.train.take(slice(64)), test=data.test.take(slice(16)))
    return data


def segment(run: Training, data: bh.data.Dataset) -> bh.train.History:
    """Train a network to classify each step, and draw its predictions for one recording."""

    def loss(logits: jax.Array, batch: bh.train.Batch) -> jax.Array:
        return braintools.metric.softmax_cross_entropy_with_integer_labels(logits, batch.y.T).mean()

    def accuracy(logits: jax.Array, batch: bh.train.Batch) -> jax.Array:
        return jnp.mean(jnp.argmax(logits, axis=-1) == batch.y.T)  # mean over all steps

    history = bh.train.fit(
        run.net,
        data.train,
        data.test,
        loss=loss,
        metrics={"accuracy": accuracy},
        batch_size=64,
        learning_rate=1e-2,
        max_gradient=1.0,
        **run.options,
    )
    spikes = f"{run.layers[0]}.spk"
    logits, seen = bh.rollout(run.net, time_major(frames_of(data.test)[:1]), record=(spikes,))
    drawing = figure(logits[:, 0], seen[spikes][:, 0], data.test.x[0], data.test.y[0], data.class_names)
    save_figure(drawing, run.arguments.out / "segments.png")
    plt.close(drawing)
    return history


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train and evaluate the network, print the result line, and save and return the results."""
    data = load(arguments)
    brainstate.environ.set(dt=DT)
    brainstate.random.seed(arguments.seed)
    net = SegmentNet(SIZES[arguments.size], ahp=arguments.ahp)
    setting = f"{arguments.size} net, w_ahp {'learnt' if arguments.ahp else '= 0'}"
    run = Training(net, arguments, layers=("hidden",), setting=setting)
    return run.finish(segment(run, data), data.test)


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=50, out="ecg", chip=False)
    parser.add_argument("--size", choices=sorted(SIZES), default="small", help="36, 128 or 256 hidden neurons")
    parser.add_argument("--no-ahp", dest="ahp", action="store_false", help="fix w_ahp at 0 (no adaptation)")
    parser.add_argument("--root", help="folder of the data set; default: the folders of brainhw.data.qtdb")
    main(parser.parse_args())
