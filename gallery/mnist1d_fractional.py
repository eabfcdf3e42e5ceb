"""Classify ten short shapes with fractional neurons, whose membrane potential depends on the complete past.

A sample of MNIST-1D is a series of 40 steps that contains a shape of about ten steps at a random position. A
feed-forward network of two layers of 128 neurons receives one analog value in each step. Ten leaky integrators read it
out. The logit of a class is the largest value of its integrator over time. The script compares three types of neurons.
``lif`` neurons decay exponentially. In ``fractional`` neurons the order of the derivative is trainable for each neuron.
``multiterm`` neurons use a weighted sum of two such derivatives. Readout and training are the same for all types, and
all time constants are trainable. For augmentation, the series are shifted, scaled and tilted, and noise is added.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from _saving import save_figure
from _training import Training, options

import brainhw as bh

N_HIDDEN, N_CLASSES = 128, 10
N_STEPS = 40
LAYERS = ("layers.2", "layers.5")


class Term(NamedTuple):
    """Range of the initial orders of a derivative, and its coefficient."""

    low: float
    high: float
    coefficient: float


TERMS = {
    "lif": (),
    "fractional": (Term(0.1, 0.8, 1.0),),
    "multiterm": (Term(0.1, 0.8, 0.7), Term(0.8, 0.95, 0.3)),
}


class Start(NamedTuple):
    """Reset, time constants in ms and scales of the initial weights.

    Those are the best that were tried for each type.
    """

    reset: str
    detach_reset: bool
    tau: tuple[float, float]
    first: float
    second: float


LIF = Start("zero", False, (1, 5), 8.0, 4.0)
FRACTIONAL = Start("subtract", True, (1, 10), 4.0, 2.0)


def spread(low: float, high: float, n: int) -> brainstate.nn.Param:
    """Return trainable time constants with log-uniform initial values. The optimizer updates their logarithms."""
    tau = jnp.exp(brainstate.random.uniform(math.log(low), math.log(high), n)) * u.ms
    # Keep tau above half a step. Below half a step, an explicit step of order 1 diverges.
    return brainstate.nn.Param(tau, t=brainstate.nn.ExpT(0.5 * u.ms))


class HeldLIF(bh.nn.LIFLayer):
    """LIF neurons whose input is constant within a step.

    As in the other types, a steady input above ``V_th`` causes spikes.
    """

    def to_voltage(self, drive: u.Quantity) -> u.Quantity:
        """Return the change of the membrane potential in one step that starts at rest."""
        return drive * (1 - self.decay(brainstate.environ.get_dt()))


class AlwaysOn(brainstate.nn.Module):
    """Append an input that is always 1, because synapses have no bias."""

    def update(self, x: jax.Array) -> jax.Array:
        """Convert ``[B, N]`` to ``[B, N + 1]``."""
        return jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)


def neurons(kind: str, start: Start) -> bh.nn.LIFLayer | bh.nn.FractionalLIFLayer:
    """Return a layer with trainable time constants. The orders of fractional neurons are also trainable."""
    common = {
        "tau": spread(*start.tau, N_HIDDEN),
        "reset": start.reset,
        "detach_reset": start.detach_reset,
        "spk_fun": bh.surrogate.fast_sigmoid(slope=3),
    }
    terms = TERMS[kind]
    if not terms:
        return HeldLIF(N_HIDDEN, **common)
    return bh.nn.FractionalLIFLayer(
        N_HIDDEN,
        alpha=[brainstate.random.uniform(term.low, term.high, N_HIDDEN) for term in terms],
        coefficients=[term.coefficient for term in terms],
        learn_alpha=True,
        learn_coefficients=len(terms) > 1,
        n_exponentials=8,
        horizon=N_STEPS,
        **common,
    )


def synapse(n_in: int, strength: float, bias: float) -> bh.nn.LIFSynapse:
    """Return a dense synapse whose last input is the bias."""
    weights = strength / math.sqrt(n_in) * brainstate.random.normal(size=(n_in, N_HIDDEN))
    always_on = bias * brainstate.random.normal(size=(1, N_HIDDEN))
    return bh.nn.LIFSynapse(n_in + 1, N_HIDDEN, weight_init=jnp.concatenate([weights, always_on]) * u.mV)


def shape_net(kind: str) -> brainstate.nn.Sequential:
    """Return a network of two layers and a readout, from analog values ``[B, 1]`` to readout values ``[B, 10]``."""
    start = FRACTIONAL if TERMS[kind] else LIF
    weights = brainstate.random.normal(size=(N_HIDDEN, N_CLASSES)) / math.sqrt(N_HIDDEN)
    return brainstate.nn.Sequential(
        AlwaysOn(),
        synapse(1, start.first, 1.0),
        neurons(kind, start),
        AlwaysOn(),
        synapse(N_HIDDEN, start.second, 0.3),
        neurons(kind, start),
        bh.nn.LeakyReadout(N_HIDDEN, N_CLASSES, tau=spread(10, 10, N_CLASSES), weight_init=weights, bias=True),
    )


def varied(x: jax.Array, key: jax.Array) -> jax.Array:
    """Rotate series ``[T, B, 1]`` by a random number of steps, scale and tilt them, and add noise."""
    n_steps, n = x.shape[:2]
    keys = jax.random.split(key, 4)
    shifts = jax.random.randint(keys[0], (n,), 0, n_steps)
    x = jax.vmap(jnp.roll, in_axes=(1, 0, None), out_axes=1)(x, shifts, 0)
    scale = jnp.exp(jax.random.uniform(keys[1], (n, 1), minval=-0.3, maxval=0.3))
    tilt = jax.random.uniform(keys[2], (n, 1), minval=-0.5, maxval=0.5)
    ramp = jnp.linspace(-1, 1, n_steps)[:, None, None]
    return scale * x + tilt * ramp + 0.02 * jax.random.normal(keys[3], x.shape)


def orders(net: brainstate.nn.Sequential, kind: str, path: Path) -> dict[str, tuple[float, str]]:
    """Draw the learned orders, and return their mean over each layer."""
    if not TERMS[kind]:
        return {}
    orders = {name: np.asarray(net.layers[i].orders()) for name, i in (("first", 2), ("second", 5))}
    drawing = figure(orders, TERMS[kind])
    save_figure(drawing, path)
    plt.close(drawing)
    return {
        f"alpha_{name}": (float(alpha.mean()), f"mean alpha {name} " + ", ".join(f"{a:.2f}" for a in alpha.mean(1)))
        for name, alpha in orders.items()
    }


def figure(orders: dict[str, np.ndarray], terms: tuple[Term, ...]) -> plt.Figure:
    """Draw a histogram of the learned orders ``[terms, N]`` of each layer, and their initial distribution."""
    drawing, axes = plt.subplots(1, len(orders), figsize=(6.4, 3.2), sharey=True, layout="constrained")
    edges = np.linspace(0, 1, 26)
    colors = ("#0072B2", "#E69F00")
    for ax, (name, alpha) in zip(axes, orders.items(), strict=True):
        for i, (values, (low, high, _)) in enumerate(zip(alpha, terms, strict=True)):
            term = f", term {i + 1}" if len(terms) > 1 else ""
            ax.hist(values, edges, color=colors[i], alpha=0.7, label=f"after training{term}")
            level = len(values) * (edges[1] - edges[0]) / (high - low)
            ax.plot(
                [low, low, high, high], [0, level, level, 0], color=colors[i], linestyle="--", label=f"initial{term}"
            )
        ax.set(xlabel="order α", xlim=(0, 1), title=f"{name} layer")
    axes[0].set(ylabel="neurons")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return drawing


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train and evaluate the network, print the result line, and save and return the results."""
    data = bh.data.mnist1d()
    train, test = data.train, data.test
    if arguments.smoke:
        arguments.epochs = min(arguments.epochs, 2)
        train, test = train.take(slice(None, 200)), test.take(slice(None, 50))
    brainstate.environ.set(dt=1.0 * u.ms)
    brainstate.random.seed(arguments.seed)
    net = shape_net(arguments.neuron)
    run = Training(net, arguments, layers=LAYERS, setting=f"{arguments.neuron} neurons")

    def forward(net: brainstate.nn.Sequential, batch: bh.train.Batch) -> jax.Array:
        # Only training batches have a key, so test series are not varied.
        x = batch.x if batch.key is None else varied(batch.x, batch.key)
        return bh.rollout(net, x)[0].max(axis=0)

    def loss(highest: jax.Array, batch: bh.train.Batch) -> jax.Array:
        return braintools.metric.softmax_cross_entropy_with_integer_labels(highest, batch.y).mean()

    def accuracy(highest: jax.Array, batch: bh.train.Batch) -> jax.Array:
        return jnp.mean(jnp.argmax(highest, axis=-1) == batch.y)

    history = bh.train.fit(
        net,
        train,
        test,
        loss=loss,
        metrics={"accuracy": accuracy},
        forward=forward,
        batch_size=100,
        learning_rate=1e-2,
        max_gradient=1.0,
        **run.options,
    )
    return run.finish(history, test, **orders(net, arguments.neuron, arguments.out / "orders.png"))


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=150, out="mnist1d", chip=False)
    parser.add_argument("--neuron", choices=tuple(TERMS), default="fractional", help="type of the neurons")
    main(parser.parse_args())
