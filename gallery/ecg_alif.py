"""Name the wave segment of a heart beat at every step, with adaptive recurrent neurons.

759 electrocardiograms of two leads (PhysioNet QT Database, as encoded into spikes by Yin, Corradi and Bohte, 2021)
come as four spike channels of 5.2 s. 36 recurrent neurons with after-hyperpolarisation hear them; six leaky integrators
outside say at every step which of six segments the heart is in. Every time constant and every strength is learnt.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from _saving import make_folder, save_figure
from _training import Training, options, time_major

import brainhw as bh

N_CHANNELS, N_CLASSES = 4, 6
DT = 4.0 * u.ms


class Size(NamedTuple):
    """Neurons, and strength of the first recurrent weights."""

    n_hidden: int
    recurrence: float


SIZES = {"small": Size(36, 0.3), "large": Size(128, 0.1)}


def spread(low: float, high: float, n: int) -> brainstate.nn.Param:
    """Return learnable time constants, evenly spread in the logarithm; learning then changes them by shares."""
    tau = jnp.exp(brainstate.random.uniform(math.log(low), math.log(high), n)) * u.ms
    return brainstate.nn.Param(tau, t=brainstate.nn.ExpT(1.0 * u.ms))


def scaled(millivolts: jax.Array, scale: jax.Array) -> brainstate.nn.Param:
    """Return learnable voltages that learning changes by shares of ``scale``."""
    return brainstate.nn.Param(millivolts * u.mV, t=brainstate.nn.AffineT(scale * u.mV, 0.0 * u.mV))


class SegmentNet(brainstate.nn.Module):
    """Recurrent adaptive neurons from milliseconds to seconds, and a readout that says a segment at every step."""

    def __init__(self, size: Size, *, ahp: bool) -> None:
        super().__init__()
        n = size.n_hidden
        tau_mem, tau_syn, tau_ahp = spread(20, 400, n), spread(4, 100, n), spread(50, 2000, n)
        # What arrives at a slow synapse of a slow neuron goes further, so its weights begin smaller. What the neurons
        # tell each other and themselves is learnt in this scale as well, or a few slow ones make the gradient explode.
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


class SegmentTraining(Training):
    """A training whose score is the share of steps that are named rightly."""

    def score(self, outputs: jax.Array, y: jax.Array) -> jax.Array:
        """Return the share of right steps of logits ``[T, B, 6]`` with labels ``[B, T]``."""
        return jnp.mean(jnp.argmax(outputs, axis=-1) == y.T)

    @property
    def setting(self) -> str:
        """Size of the net, and whether it adapts."""
        return f"{self.arguments.size} net, w_ahp {'learnt' if self.arguments.ahp else '= 0'}"


def figure(logits: jax.Array, spikes: jax.Array, x: np.ndarray, y: np.ndarray, names: tuple[str, ...]) -> plt.Figure:
    """Draw one recording: its input spikes, the hidden spikes, and the segments told and true."""
    drawing, axes = plt.subplots(
        3, 1, figsize=(9, 5.5), sharex=True, layout="constrained", gridspec_kw={"height_ratios": [1, 3, 2]}
    )
    for ax, raster, label in ((axes[0], x > 0, "channel"), (axes[1], spikes, "hidden neuron")):
        steps, neurons = np.nonzero(np.asarray(raster))
        ax.plot(steps, neurons, "|", color="C0", markersize=3)
        ax.set(ylabel=label)
    axes[2].step(range(len(y)), y, color="0.7", linewidth=3, label="annotated")
    axes[2].step(range(len(y)), np.argmax(logits, axis=-1), color="C1", linewidth=1, label="told")
    axes[2].set(yticks=range(len(names)), yticklabels=names, xlabel="step of 4 ms")
    axes[2].legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return drawing


def segment(
    arguments: argparse.Namespace, make: Callable[[], brainstate.nn.Module], training: type[Training], layer: str
) -> dict[str, float]:
    """Train the net that ``make`` gives, evaluate, save, and print the result line; return its numbers."""
    data = bh.data.qtdb(arguments.root)
    train, test = data.train, data.test
    if arguments.smoke:
        arguments.epochs = min(arguments.epochs, 2)
        train, test = train.take(slice(None, 64)), test.take(slice(None, 16))
    make_folder(arguments.out)
    brainstate.environ.set(dt=DT)
    brainstate.random.seed(arguments.seed)
    net = make()

    run = training(
        net,
        arguments,
        n_train=len(train),
        learning_rate=1e-2,
        batch_size=64,
        layers=(layer,),
        max_gradient=1.0,
    )

    def loss(x: jax.Array, y: jax.Array, _: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, _ = bh.rollout(net, x)
        return braintools.metric.softmax_cross_entropy_with_integer_labels(logits, y.T).mean(), run.score(logits, y)

    run.train(train, test, loss)
    logits, seen = bh.rollout(net, time_major(test.x[:1]), record=(f"{layer}.spk",))
    drawing = figure(logits[:, 0], seen[f"{layer}.spk"][:, 0], test.x[0], test.y[0], data.class_names)
    save_figure(drawing, arguments.out / "segments.png")
    plt.close(drawing)
    return run.finish(test)


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train the adaptive net."""
    size = SIZES[arguments.size]
    return segment(arguments, lambda: SegmentNet(size, ahp=arguments.ahp), SegmentTraining, "hidden")


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=50, out="ecg", chip=False)
    parser.add_argument("--size", choices=sorted(SIZES), default="small", help="36 hidden neurons, or 128")
    parser.add_argument("--no-ahp", dest="ahp", action="store_false", help="fix w_ahp at 0: neurons that do not adapt")
    parser.add_argument("--root", help="folder of the data set; otherwise searched where brainhw.data.qtdb looks")
    main(parser.parse_args())
