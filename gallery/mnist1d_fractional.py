"""Tell ten short shapes apart with neurons whose membrane remembers all of its past.

MNIST-1D hides a shape of about ten steps somewhere in a series of 40. A feed-forward net of two layers of 128 neurons
hears it as one analog value a step; ten leaky integrators outside listen, and the one that rises highest at any moment
names the shape. The script compares what such a net can be made of: ``lif`` neurons forget exponentially,
``fractional`` ones by a derivative whose order each neuron learns, ``multiterm`` ones by a weighted sum of two. Readout
and training are the same, and time constants are learnt everywhere. For training, the series are shifted around,
scaled, tilted and given fresh noise.
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
    """The orders between which the neurons start, and the coefficient of the derivative."""

    low: float
    high: float
    coefficient: float


TERMS = {
    "lif": (),
    "fractional": (Term(0.1, 0.8, 1.0),),
    "multiterm": (Term(0.1, 0.8, 0.7), Term(0.8, 0.95, 0.3)),
}


class Start(NamedTuple):
    """What a spike does, time constants in ms and strengths of the weights at the start: what suited each kind best."""

    reset: str
    detach_reset: bool
    tau: tuple[float, float]
    first: float
    second: float


LIF = Start("zero", False, (1, 5), 8.0, 4.0)
FRACTIONAL = Start("subtract", True, (1, 10), 4.0, 2.0)


def spread(low: float, high: float, n: int) -> brainstate.nn.Param:
    """Return learnable time constants, evenly spread in the logarithm; learning then changes them by shares."""
    tau = jnp.exp(brainstate.random.uniform(math.log(low), math.log(high), n)) * u.ms
    # Kept above half a step, below which an explicit step of order 1 grows.
    return brainstate.nn.Param(tau, t=brainstate.nn.ExpT(0.5 * u.ms))


class HeldLIF(bh.nn.LIFLayer):
    """LIF neurons whose input lasts for the step: as in the others, ``V_th`` is the least steady input that fires."""

    def to_voltage(self, drive: u.Quantity) -> u.Quantity:
        """Return how far the input moves a resting membrane in one step."""
        return drive * (1 - self.decay(brainstate.environ.get_dt()))


class AlwaysOn(brainstate.nn.Module):
    """One input more that is always on, for synapses have no bias."""

    def update(self, x: jax.Array) -> jax.Array:
        """Turn ``[B, N]`` into ``[B, N + 1]``."""
        return jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)


def neurons(kind: str, start: Start) -> bh.nn.LIFLayer | bh.nn.FractionalLIFLayer:
    """Return a layer whose time constants are learnt, and the orders if it has any."""
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
    """Return a dense synapse whose last input is always on."""
    weights = strength / math.sqrt(n_in) * brainstate.random.normal(size=(n_in, N_HIDDEN))
    always_on = bias * brainstate.random.normal(size=(1, N_HIDDEN))
    return bh.nn.LIFSynapse(n_in + 1, N_HIDDEN, weight_init=jnp.concatenate([weights, always_on]) * u.mV)


def shape_net(kind: str) -> brainstate.nn.Sequential:
    """Return two layers of neurons and a readout: analog values ``[B, 1]`` to logits ``[B, 10]`` at every step."""
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
    """Shift series ``[T, B, 1]`` around by any number of steps, scale and tilt them, and add noise."""
    n_steps, n = x.shape[:2]
    keys = jax.random.split(key, 4)
    shifts = jax.random.randint(keys[0], (n,), 0, n_steps)
    x = jax.vmap(jnp.roll, in_axes=(1, 0, None), out_axes=1)(x, shifts, 0)
    scale = jnp.exp(jax.random.uniform(keys[1], (n, 1), minval=-0.3, maxval=0.3))
    tilt = jax.random.uniform(keys[2], (n, 1), minval=-0.5, maxval=0.5)
    ramp = jnp.linspace(-1, 1, n_steps)[:, None, None]
    return scale * x + tilt * ramp + 0.02 * jax.random.normal(keys[3], x.shape)


def orders(net: brainstate.nn.Sequential, kind: str, path: Path) -> dict[str, tuple[float, str]]:
    """Draw the orders that were learnt, and return their mean for each layer."""
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
    """Draw a histogram of the learnt orders ``[terms, N]`` of each layer, and where they started."""
    drawing, axes = plt.subplots(1, len(orders), figsize=(8, 3), sharey=True, layout="constrained")
    edges = np.linspace(0, 1, 26)
    for ax, (name, alpha) in zip(axes, orders.items(), strict=True):
        for i, (values, (low, high, _)) in enumerate(zip(alpha, terms, strict=True)):
            label = f"term {i + 1}, learnt" if len(terms) > 1 else "learnt"
            ax.hist(values, edges, color=f"C{i}", alpha=0.7, label=label)
            level = len(values) * (edges[1] - edges[0]) / (high - low)
            ax.plot([low, low, high, high], [0, level, level, 0], color=f"C{i}", linestyle="--", label="at the start")
        ax.set(xlabel="order alpha", xlim=(0, 1), title=f"{name} layer")
    axes[0].set(ylabel="neurons")
    axes[-1].legend(frameon=False)
    return drawing


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train, evaluate, save, and print the result line; return its numbers."""
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
        # Only a batch of the training has a key.
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
    parser.add_argument("--neuron", choices=tuple(TERMS), default="fractional", help="what the net is made of")
    main(parser.parse_args())
