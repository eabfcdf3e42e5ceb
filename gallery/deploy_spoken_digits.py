"""Train spoken digits for an H1 chip as it is: 5-bit weights, blocks of one sign, no two chips alike; end in a bundle.

The net of ``spoken_digits_h1.py`` is trained on the weights that the chip can store, on another sampled chip in every
batch, while sign annealing turns its blocks to one sign each. Then it is judged by every rule of the chip, placed on
cores, billed, tried on a hundred sampled chips, and written into one file that ``python -m brainhw`` runs.
"""

from __future__ import annotations

import argparse
from typing import Any

import brainstate
import braintools
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from _saving import make_folder, save_arrays, save_figure, save_text
from _training import Run, options, time_major
from spoken_digits_h1 import DT, N_CLASSES, DigitNet, load

import brainhw as bh

BATCH, LEARNING_RATE = 90, 3e-2
SOFT_SHARE = 0.2  # of the epochs, in which signs anneal; after them they are hard
SLOPES = 0.5, 2.0  # of the surrogate, in the first and the last epoch
# Cost of a spike of every output neuron: votes that all rise together decide nothing, but the more spikes there are the
# more a threshold that is a little off adds or takes away.
QUIET = 0.02


class Deployment(Run):
    """A training run for a chip; ``--free`` and ``--no-mismatch`` are what it is compared with."""

    def __init__(self, net: DigitNet, arguments: argparse.Namespace, **kw: Any) -> None:
        super().__init__(net, arguments, n_classes=N_CLASSES, learning_rate=LEARNING_RATE, batch_size=BATCH, **kw)
        soft = max(1, round(SOFT_SHARE * arguments.epochs))
        self.annealing = None if arguments.free else bh.train.SignAnnealing(net, soft)
        start, end = SLOPES
        self.surrogate = bh.train.SurrogateSchedule(net, "slope", arguments.epochs, start=start, end=end)
        self.deployed: dict[str, Any] = {}

    def begin(self, epoch: int) -> None:
        """Harden the signs, and let surrogate gradients grow narrower."""
        self.surrogate.step(epoch)
        if self.annealing is not None:
            self.annealing.step(epoch)

    def constrain(self, net: DigitNet) -> None:
        """Keep weights in range and, once they are hard, signs in their blocks."""
        bh.train.clip_weights(net)
        if self.annealing is not None:
            self.annealing.constrain()

    def deploy(self, test: bh.data.Split) -> None:
        """Judge, place, bill, try on many chips, and write the bundle; refuses a net that breaks a rule."""
        self.surrogate.finish()
        if self.annealing is not None:
            self.annealing.finish()
        x, y = time_major(test.x), jnp.asarray(test.y)

        def accuracy(net: DigitNet) -> jax.Array:
            return bh.train.accuracy_population(bh.rollout(net, x)[0], y, N_CLASSES)

        chips = bh.deploy.robustness(self.net, accuracy, self.arguments.chips, key=2026)
        print(chips)
        save_text("".join(f"{score:.6f}\n" for score in chips.scores), self.arguments.out / "chips.txt")
        self.deployed = {
            "chips_mean": chips.mean,
            "chips_q05": chips.quantile(0.05),
            "chips_worst": float(chips.scores.min()),
            "nominal": chips.nominal,
        }
        self.figure(bh.visualize.plot_robustness(chips, label=self.setting), "robustness.png")
        if self.arguments.free:
            return
        print(bh.deploy.describe(self.net))
        report = bh.deploy.check_deployable(self.net)
        print(report)
        report.raise_if_not()
        placement = bh.deploy.place(self.net)
        print(placement)
        self.figure(bh.visualize.plot_placement(placement), "placement.png")
        power = bh.deploy.estimate_power(self.net, x)
        print(power)
        path = self.arguments.out / "digits.bundle"
        bh.deploy.export_bundle(
            self.net, path, n_classes=N_CLASSES, notes="Free Spoken Digit Dataset, test split left out"
        )
        save_arrays(self.arguments.out / "test.npz", x=test.x, y=test.y)
        reloaded = bh.deploy.load_bundle(path)
        run = brainstate.transform.jit(lambda x: bh.rollout(self.net, x)[0])
        again = brainstate.transform.jit(lambda x: bh.rollout(reloaded, x)[0])
        self.deployed |= {
            "violations": len(report.violations),
            "spikes_differing": int(jnp.sum(run(x) != again(x))),
            "microwatt": float(power.power.mantissa),
            "microjoule": float(power.energy.mantissa),
        }

    def figure(self, ax: plt.Axes, name: str) -> None:
        """Save a figure into the folder of the run."""
        save_figure(ax.figure, self.arguments.out / name)
        plt.close(ax.figure)

    def examine(self) -> dict[str, tuple[float, str]]:
        """Add what was found when deploying to the result."""
        words = {name: f"{name} {value:.4g}" for name, value in self.deployed.items()}
        return {**super().examine(), **{name: (value, words[name]) for name, value in self.deployed.items()}}

    @property
    def setting(self) -> str:
        """Chip, and what was left out."""
        left_out = [name for name in ("free", "no_mismatch") if getattr(self.arguments, name)]
        return " ".join([self.arguments.chip, *left_out])


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train, deploy, save, and print the result line; return its numbers."""
    if arguments.smoke:
        arguments.epochs, arguments.chips = min(arguments.epochs, 2), min(arguments.chips, 4)
    train, test = load(arguments.root, arguments.smoke)
    make_folder(arguments.out)
    brainstate.environ.set(dt=DT)
    brainstate.random.seed(arguments.seed)

    net = DigitNet(arguments.chip, None if arguments.free else "chip")
    # The score is taken over all steps, so the padding behind short words counts.
    every = np.full(len(train.x[:256]), train.x.shape[1])
    bh.init.fluct_init(net, [train.x[:256]], xi_target=1.0, in_range=True, key=arguments.seed, lengths=every)
    varied = not (arguments.free or arguments.no_mismatch)

    def loss(x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        spikes, _ = bh.rollout(net, x, key=key if varied else None)  # one key is one chip
        votes = bh.train.population_votes(spikes, N_CLASSES)
        error = braintools.metric.softmax_cross_entropy_with_integer_labels(votes, y).mean()
        error += QUIET * votes.mean()
        return error + bh.train.weight_magnitude_loss(net), bh.train.accuracy_population(spikes, y, N_CLASSES)

    run = Deployment(net, arguments, n_train=len(train), layers=("frontend", "hidden", "output"))
    run.train(train, test, loss)
    run.deploy(test)
    return run.finish(test)


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=60, out="deploy_spoken_digits")
    parser.add_argument("--root", help="folder of the data set; otherwise searched where brainhw.data.fsdd looks")
    parser.add_argument("--chips", type=int, default=100, help="how many sampled chips to try")
    parser.add_argument("--free", action="store_true", help="no rounding, no sign blocks, no mismatch: what they cost")
    parser.add_argument("--no-mismatch", action="store_true", help="train on the nominal chip alone")
    main(parser.parse_args())
