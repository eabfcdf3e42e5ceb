"""Train a deep spiking network from one of three initialisations: fluctuation-driven, the vendor's rule, or Kaiming.

The network is a chain of LIF or chip layers with a leaky readout. The logit of a class is the largest value of its
readout over time. With sparse input spikes or many layers, ordinary initial weights leave the deeper layers silent.
These layers receive no spikes, so their weights get no gradient. The input of the Randman data is sparse: each of its
20 units fires once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from _training import FAMILIES, Training, every_step, frames_of, options, positive
from spoken_digits_h1 import load as load_digits

import brainhw as bh

Data = tuple[bh.data.Split, bh.data.Split]
NEURONS = ("lif", *FAMILIES)


class Look(NamedTuple):
    """Name, colour, line style and marker of an initialisation in figures. They can be told apart without colours."""

    words: str
    color: str
    line: str
    marker: str


INITS = {
    "fluct": Look("fluct_init", "#0072B2", "-", "o"),
    "nwave": Look("vendor's rule", "#D55E00", "--", "s"),
    "kaiming": Look("Kaiming", "0.35", ":", "^"),
}


class Task(NamedTuple):
    """A data set, its time step and its batch size."""

    load: Callable[[Path | None], Data]
    dt: u.Quantity
    n_classes: int
    batch_size: int


# The learning rates differ because the weights have different sizes: about 1 on a chip, and a fraction of the threshold
# (1 mV) for LIF neurons.
LEARNING_RATES = {"lif": 2e-3, "h1v1": 2e-2, "h1v2": 2e-2}


def vowels(_: Path | None) -> Data:
    """Return the Japanese Vowels as 24 analog channels, with each frame repeated for four steps."""
    data = bh.data.japanese_vowels()
    scale = bh.data.fit_channel_scale(data.train)

    def encode(split: bh.data.Split) -> bh.data.Split:
        x = bh.data.repeat_frames(bh.data.split_on_off(scale.apply(split).x), 4)
        return bh.data.Split(x=x, y=split.y, lengths=split.lengths * 4)

    return encode(data.train), encode(data.test)


def randman(_: Path | None) -> Data:
    """Return the Randman data: ten classes of spike trains, in which each of 20 units spikes once in 100 steps."""
    data = bh.data.randman()
    return data.train, data.test


def fashion(root: Path | None) -> Data:
    """Return 10,000 training and 2,000 test pictures of Fashion-MNIST.

    Each row of 28 pixels is the input of two steps.
    """
    data = bh.data.fashion_mnist(root)

    def rows(split: bh.data.Split, n: int) -> bh.data.Split:
        split = split.take(slice(None, n))
        return bh.data.Split(x=bh.data.repeat_frames(split.x, 2), y=split.y, lengths=split.lengths * 2)

    return rows(data.train, 10_000), rows(data.test, 2_000)


def digits(root: Path | None) -> Data:
    """Return the spoken digits as 16 log envelopes in steps of 2 ms, as in ``spoken_digits_h1.py``."""
    return load_digits(None if root is None else str(root), smoke=False)


TASKS = {
    "digits": Task(digits, 2.0 * u.ms, 10, 90),
    "vowels": Task(vowels, 1.0 * u.ms, 9, 54),
    "randman": Task(randman, 2.0 * u.ms, 10, 128),
    "fashion": Task(fashion, 1.0 * u.ms, 10, 128),
}


def deep_net(
    neuron: str, n_in: int, n_layers: int, width: int, n_classes: int, tau: u.Quantity = 20.0 * u.ms
) -> brainstate.nn.Sequential:
    """Return ``n_layers`` pairs of synapse and layer and a readout, from ``[B, n_in]`` to logits ``[B, n_classes]``."""
    synapse, layer = (bh.nn.LIFSynapse, bh.nn.LIFLayer) if neuron == "lif" else FAMILIES[neuron][:2]
    surrogate = bh.surrogate.fast_sigmoid(slope=10.0)
    stages = []
    for before in (n_in, *[width] * (n_layers - 1)):
        stages += [synapse(before, width), layer(width, tau=tau, spk_fun=surrogate)]
    return brainstate.nn.Sequential(*stages, bh.nn.LeakyReadout(width, n_classes, tau=20.0 * u.ms))


def initialise(net: brainstate.nn.Module, x: np.ndarray, arguments: argparse.Namespace) -> None:
    """Initialise the weights of each layer by the rule that ``--init`` names."""
    if arguments.init == "kaiming":
        bh.init.kaiming_init(net, key=arguments.seed)
        return
    rule = bh.init.nwave_preset() if arguments.init == "nwave" else {}
    bh.init.fluct_init(
        net,
        [x],
        arguments.xi,
        families="any",
        key=arguments.seed,
        lengths=np.full(len(x), x.shape[1]),  # include the padding, because the loss includes it
        **{"in_range": arguments.in_range, **rule},
    )


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Initialise, train and evaluate the network, print the result line, and save and return the results."""
    task = TASKS[arguments.data]
    train, test = task.load(arguments.root)
    if arguments.smoke:
        arguments.epochs = min(arguments.epochs, 2)
        train, test = train.take(slice(None, None, 10)), test.take(slice(None, None, 10))
    brainstate.environ.set(dt=task.dt)
    brainstate.random.seed(arguments.seed)
    net = deep_net(
        arguments.neuron,
        frames_of(train).shape[-1],
        arguments.layers,
        arguments.width,
        task.n_classes,
        arguments.tau * u.ms,
    )
    run = Training(
        net,
        arguments,
        layers=tuple(f"layers.{2 * i + 1}" for i in range(arguments.layers)),
        setting=f"{arguments.data}, {arguments.layers} x {arguments.width} {arguments.neuron}, {arguments.init} init",
    )
    # Take every n-th recording, because recordings may be sorted by class.
    sample = every_step(train).take(slice(None, None, max(1, len(train) // 256)))
    initialise(net, frames_of(sample), arguments)
    before = bh.init.fluct_report(net, [sample])
    print(before)
    run.figure(bh.visualize.plot_fluct_report(before), "initialisation.png")

    def forward(net: brainstate.nn.Module, batch: bh.train.Batch) -> jax.Array:
        return bh.rollout(net, batch.x)[0].max(axis=0)

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
        batch_size=task.batch_size,
        learning_rate=LEARNING_RATES[arguments.neuron],
        max_gradient=1.0,
        constrain=bh.train.clip_weights if arguments.in_range else None,
        **run.options,
    )
    return run.finish(history, test)


def parser() -> argparse.ArgumentParser:
    """Return the options of this script."""
    parser = options(__doc__.splitlines()[0], epochs=30, out="deep_networks", chip=False)
    parser.add_argument("--data", choices=tuple(TASKS), default="randman", help="data set")
    parser.add_argument("--root", type=Path, help="folder of a data set that is not bundled")
    parser.add_argument("--neuron", choices=NEURONS, default="lif", help="type of the hidden neurons")
    parser.add_argument("--layers", type=positive, default=3, help="number of hidden layers")
    parser.add_argument("--width", type=positive, default=64, help="number of neurons in each hidden layer")
    parser.add_argument("--tau", type=float, default=20.0, help="membrane time constant in ms")
    parser.add_argument("--init", choices=tuple(INITS), default="fluct", help="initialisation of the weights")
    parser.add_argument("--in-range", action="store_true", help="keep the weights in the range of the chip")
    parser.add_argument(
        "--xi",
        type=float,
        default=2.0,
        help="target of --init fluct and nwave: threshold distance in standard deviations",
    )
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
