"""Find out what a chip of 200 or 256 neurons makes of 60,000 pictures of clothing, beside a net of LIF neurons.

Every pixel of a Fashion-MNIST picture drives its own input with a steady current for ten steps, and one hidden layer
sees them all. ``--neuron lif``: 512 LIF neurons and ten leaky integrators outside, whose mean over time decides.
``--neuron h1v1`` and ``h1v2``: all 256 or 200 neurons of the chip, fifty of which are outputs, five for each class,
that vote by spike count; 5-bit weights, blocks of one sign, every rule of the chip checked, and then tried on sampled
chips.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from _saving import make_folder, save_figure
from _training import FAMILIES, Run, Training, options, positive

import brainhw as bh

N_CLASSES, POPULATION = 10, 5
SIDE, N_STEPS = 28, 10
TILES = 5  # hidden neurons in a row and in a column of the figure
TAU = 20.0 * u.ms
N_HIDDEN = {"lif": 512, "h1v1": 206, "h1v2": 150}  # with the outputs 256 and 200 neurons on the chips
LEARNING_RATES = {"lif": 2e-3, "h1v1": 2e-2, "h1v2": 2e-2}
DROPPED = {"lif": 0.2, "h1v1": 0.1, "h1v2": 0.1}  # share of the pixels of a picture that training leaves out
HELD_OUT = 5_000  # the last training pictures, on which the settings here were chosen, all but the epochs
SOFT_SHARE = 0.2  # of the epochs, in which signs anneal; after them they are hard
SHARPNESS = 2.0  # of the votes in the loss


def build(neuron: str, *, free: bool) -> brainstate.nn.Sequential:
    """Return one hidden layer and what decides: ``[B, 784]`` to logits ``[B, 10]`` or output spikes ``[B, 50]``."""
    n_hidden, surrogate = N_HIDDEN[neuron], bh.surrogate.fast_sigmoid(slope=2.0)
    if neuron == "lif":
        return brainstate.nn.Sequential(
            bh.nn.LIFSynapse(SIDE**2, n_hidden),
            bh.nn.LIFLayer(n_hidden, tau=TAU, spk_fun=surrogate),
            bh.nn.LeakyReadout(n_hidden, N_CLASSES, tau=TAU),
        )
    synapse, layer, _ = FAMILIES[neuron]
    n_out, bits = N_CLASSES * POPULATION, None if free else "chip"
    return brainstate.nn.Sequential(
        synapse(SIDE**2, n_hidden, weight_bits=bits),
        layer(n_hidden, tau=TAU, spk_fun=surrogate),
        synapse(n_hidden, n_out, weight_bits=bits),
        layer(n_out, tau=TAU, spk_fun=surrogate),
    )


def varied(x: jax.Array, key: jax.Array, dropped: float) -> jax.Array:
    """Mirror about half of the pictures ``[T, B, 784]``, for a shoe may point either way, and leave pixels out."""
    mirror, drop = jax.random.split(key)
    first = x[0]  # a picture is the same in every step
    around = first.reshape(-1, SIDE, SIDE)[..., ::-1].reshape(first.shape)
    first = jnp.where(jax.random.bernoulli(mirror, 0.5, (len(first), 1)), around, first)
    kept = jax.random.bernoulli(drop, 1 - dropped, first.shape)
    return jnp.broadcast_to(first * kept / (1 - dropped), x.shape)


class Pictures(Training):
    """A training on pictures that stay for ten steps."""

    data: bh.data.Dataset

    def place(self, batch: bh.data.Split) -> tuple[jax.Array, jax.Array]:
        """Hold pictures ``[B, 1, 784]`` for all steps."""
        x = jnp.asarray(np.asarray(batch.x)[:, 0])
        return jnp.broadcast_to(x, (N_STEPS, *x.shape)), jnp.asarray(batch.y)

    def logits(self, outputs: jax.Array) -> jax.Array:
        """Return the mean ``[B, 10]`` of the readout over time."""
        return outputs.mean(axis=0)

    def score(self, outputs: jax.Array, y: jax.Array) -> jax.Array:
        """Return the share of pictures whose highest logit is that of the right class."""
        return jnp.mean(jnp.argmax(self.logits(outputs), axis=-1) == y)

    @property
    def setting(self) -> str:
        """Neurons, and where the accuracy comes from."""
        a = self.arguments
        words = [f"{N_HIDDEN[a.neuron]} hidden {a.neuron}", *(["free"] if a.free else [])]
        return " ".join([*words, *(["on pictures held out of the training split"] if a.validate else [])])

    def draw(self, test: bh.data.Split, spikes: list[jax.Array]) -> None:
        """Draw what the hidden neurons look for, and which classes are taken for which."""
        x, _ = self.place(test)
        told = brainstate.transform.jit(lambda x: self.logits(bh.rollout(self.net, x)[0]).argmax(axis=-1))(x)
        weights = self.net.layers[0].weight.value
        busy = np.argsort(-np.asarray(spikes[0]).mean(axis=(0, 1)))[: TILES**2]
        drawing = figure(weights[:, busy], np.asarray(told), test.y, self.data.class_names)
        save_figure(drawing, self.arguments.out / "fields_and_confusion.png", bbox_inches="tight")
        plt.close(drawing)


class OnChip(Pictures, Run):
    """The same on a chip, in range after every step, with signs that harden where the net is to be deployed."""

    def __init__(self, net: brainstate.nn.Module, arguments: argparse.Namespace, **kw: Any) -> None:
        super().__init__(net, arguments, n_classes=N_CLASSES, **kw)
        soft = max(1, round(SOFT_SHARE * arguments.epochs))
        self.annealing = None if arguments.free else bh.train.SignAnnealing(net, soft)
        self.chips: bh.deploy.RobustnessReport | None = None
        self.violations: int | None = None  # of a net that is to be deployed

    def begin(self, epoch: int) -> None:
        """Harden the signs."""
        if self.annealing is not None:
            self.annealing.step(epoch)

    def constrain(self, net: brainstate.nn.Module) -> None:
        """Keep weights in range and, once they are hard, signs in their blocks."""
        bh.train.clip_weights(net)
        if self.annealing is not None:
            self.annealing.constrain()

    def logits(self, outputs: jax.Array) -> jax.Array:
        """Return the votes ``[B, 10]``: the mean spike count of each class's population, sharpened."""
        return SHARPNESS * outputs.sum(axis=0).reshape(-1, N_CLASSES, POPULATION).mean(axis=-1)

    def deploy(self, test: bh.data.Split) -> None:
        """Judge the net by every rule of the chip, place it, and try it on sampled chips."""
        if self.annealing is not None:
            self.annealing.finish()
        x, y = self.place(test)
        self.chips = bh.deploy.robustness(
            self.net, lambda net: self.score(bh.rollout(net, x)[0], y), self.arguments.chips, key=2026, chunk=2
        )
        print(self.chips)
        if self.annealing is None:
            return
        report = bh.deploy.check_deployable(self.net)
        print(report)
        report.raise_if_not()
        self.violations = len(report.violations)
        print(bh.deploy.place(self.net))

    def examine(self) -> dict[str, tuple[float, str]]:
        """Add what sampled chips reach, and that no rule is broken."""
        found = super().examine()
        if self.chips is not None:
            mean, worst = self.chips.mean, float(self.chips.scores.min())
            found["nominal"] = (self.chips.nominal, f"as deployed {self.chips.nominal:.4f}")
            found["chips_mean"] = (mean, f"mean of {self.chips.n_chips} chips {mean:.4f}")
            found["chips_worst"] = (worst, f"worst {worst:.4f}")
        if self.violations is not None:
            found["violations"] = (self.violations, f"{self.violations} rules broken")
        return found


def figure(weights: jax.Array | u.Quantity, told: np.ndarray, y: np.ndarray, names: tuple[str, ...]) -> plt.Figure:
    """Draw weights ``[784, n]`` as pictures, and how many pictures of a class (rows) are taken for which (columns)."""
    drawing, (left, right) = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
    values = np.asarray(u.get_mantissa(weights))
    limit = np.quantile(np.abs(values), 0.99)
    tiles = np.pad(values.T.reshape(TILES, TILES, SIDE, SIDE), ((0, 0), (0, 0), (0, 2), (0, 2)))
    mosaic = tiles.swapaxes(1, 2).reshape(TILES * (SIDE + 2), -1)[:-2, :-2]
    shown = left.imshow(mosaic, cmap="RdBu_r", vmin=-limit, vmax=limit)
    left.set(xticks=[], yticks=[], title="weights into the busiest hidden neurons")
    unit = f" ({u.get_unit(weights)})" if isinstance(weights, u.Quantity) else ""
    drawing.colorbar(shown, ax=left, shrink=0.8, label=f"weight{unit}", extend="both")
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (y, told), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(share >= 0.05):
        color = "white" if share[row, column] > 0.5 else "black"
        words = f"{100 * share[row, column]:.0f}"
        right.text(column, row, words, color=color, ha="center", va="center", fontsize="x-small")
    right.set(xticks=range(len(names)), yticks=range(len(names)), yticklabels=names, ylabel="class")
    right.set_xticklabels(names, rotation=90)
    right.set(xlabel="told", title="% of the class (5 and more)")
    return drawing


def load(arguments: argparse.Namespace) -> tuple[bh.data.Dataset, bh.data.Split, bh.data.Split]:
    """Return the data set, and the pictures to train and to test with as ``[n, 1, 784]``."""
    data = bh.data.fashion_mnist(arguments.root)

    def vectors(split: bh.data.Split, which: slice) -> bh.data.Split:
        part = split.take(which)
        return bh.data.Split(x=np.asarray(part.x).reshape(-1, 1, SIDE**2), y=part.y, lengths=np.ones(len(part), int))

    if arguments.validate:
        halves = (data.train, slice(None, -HELD_OUT)), (data.train, slice(-HELD_OUT, None))
    else:
        halves = (data.train, slice(None)), (data.test, slice(None))
    train, test = (vectors(*half) for half in halves)
    return (
        (data, train.take(slice(None, 1000)), test.take(slice(None, 200))) if arguments.smoke else (data, train, test)
    )


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train, evaluate, save, and print the result line; return its numbers."""
    if arguments.smoke:
        arguments.epochs, arguments.chips = min(arguments.epochs, 2), min(arguments.chips, 2)
    make_folder(arguments.out)
    data, train, test = load(arguments)
    brainstate.environ.set(dt=1.0 * u.ms)
    brainstate.random.seed(arguments.seed)
    net = build(arguments.neuron, free=arguments.free)
    on_chip = arguments.neuron != "lif"
    sample = np.repeat(train.x[:256], N_STEPS, axis=1)
    with warnings.catch_warnings():
        # The outputs of H1v2 begin quieter than this target, its weights being at their limit; they learn all the same.
        warnings.filterwarnings("ignore", "fluct_init: layer 2: membranes fluctuate")
        bh.init.fluct_init(net, [sample], 1.0, families="any", in_range=on_chip, key=arguments.seed)

    run = (OnChip if on_chip else Pictures)(
        net,
        arguments,
        n_train=len(train),
        learning_rate=LEARNING_RATES[arguments.neuron],
        batch_size=100,
        layers=("layers.1", "layers.3") if on_chip else ("layers.1",),
    )
    run.data = data

    def loss(x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs, _ = bh.rollout(net, varied(x, key, DROPPED[arguments.neuron]))
        errors = braintools.metric.softmax_cross_entropy_with_integer_labels(run.logits(outputs), y)
        return errors.mean(), run.score(outputs, y)

    run.train(train, test, loss)
    if isinstance(run, OnChip):
        run.deploy(test)
    return run.finish(test)


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=20, out="fashion_mnist", chip=False)
    parser.add_argument("--neuron", choices=tuple(N_HIDDEN), default="h1v2", help="what the layers are made of")
    parser.add_argument("--free", action="store_true", help="on a chip, no rounding and no sign blocks: what they cost")
    parser.add_argument("--chips", type=positive, default=10, help="how many sampled chips to try")
    parser.add_argument("--validate", action="store_true", help="test on the last 5,000 training pictures instead")
    parser.add_argument("--root", help="folder of the data; otherwise searched where brainhw.data.fashion_mnist looks")
    main(parser.parse_args())
