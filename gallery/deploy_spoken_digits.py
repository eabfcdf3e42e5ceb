"""Train spoken digits for an H1 chip as it is: 5-bit weights, blocks of one sign, no two chips alike; end in a bundle.

The net of ``spoken_digits_h1.py`` is trained on the weights that the chip can store, on another sampled chip in every
batch, while sign annealing turns its blocks to one sign each. Then it is judged by every rule of the chip, placed on
cores, billed, tried on a hundred sampled chips, and written into one file that ``python -m brainhw`` runs.
"""

from __future__ import annotations

import argparse

import brainstate
import braintools
import jax
import jax.numpy as jnp
from _saving import save_arrays, save_text
from _training import Run, every_step, options, time_major
from spoken_digits_h1 import DT, N_CLASSES, DigitNet, load

import brainhw as bh

SOFT_SHARE = 0.2  # of the epochs, in which signs anneal; after them they are hard
SLOPES = 0.5, 2.0  # of the surrogate, in the first and the last epoch
# Cost of a spike of every output neuron: votes that all rise together decide nothing, but the more spikes there are the
# more a threshold that is a little off adds or takes away.
QUIET = 0.02


def deploy(run: Run, test: bh.data.Split) -> dict[str, tuple[float, str]]:
    """Judge, place, bill, try on many chips, and write the bundle; refuses a net that breaks a rule."""
    net, arguments = run.net, run.arguments
    x, y = time_major(test.x), jnp.asarray(test.y)

    def accuracy(net: DigitNet) -> jax.Array:
        return bh.train.accuracy_population(bh.rollout(net, x)[0], y, N_CLASSES)

    chips = bh.deploy.robustness(net, accuracy, arguments.chips, key=2026)
    print(chips)
    save_text("".join(f"{score:.6f}\n" for score in chips.scores), arguments.out / "chips.txt")
    found = {
        "chips_mean": chips.mean,
        "chips_q05": chips.quantile(0.05),
        "chips_worst": float(chips.scores.min()),
        "nominal": chips.nominal,
    }
    run.figure(bh.visualize.plot_robustness(chips, label=run.setting), "robustness.png")
    if not arguments.free:
        print(bh.deploy.describe(net))
        report = bh.deploy.check_deployable(net)
        print(report)
        report.raise_if_not()
        placement = bh.deploy.place(net)
        print(placement)
        run.figure(bh.visualize.plot_placement(placement), "placement.png")
        power = bh.deploy.estimate_power(net, x)
        print(power)
        path = arguments.out / "digits.bundle"
        bh.deploy.export_bundle(net, path, n_classes=N_CLASSES, notes="Free Spoken Digit Dataset, test split left out")
        save_arrays(arguments.out / "test.npz", x=test.x, y=test.y)
        reloaded = bh.deploy.load_bundle(path)
        here = brainstate.transform.jit(lambda x: bh.rollout(net, x)[0])
        again = brainstate.transform.jit(lambda x: bh.rollout(reloaded, x)[0])
        found |= {
            "violations": len(report.violations),
            "spikes_differing": int(jnp.sum(here(x) != again(x))),
            "microwatt": float(power.power.mantissa),
            "microjoule": float(power.energy.mantissa),
        }
    return {name: (value, f"{name} {value:.4g}") for name, value in found.items()}


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train, deploy, save, and print the result line; return its numbers."""
    if arguments.smoke:
        arguments.epochs, arguments.chips = min(arguments.epochs, 2), min(arguments.chips, 4)
    brainstate.environ.set(dt=DT)
    brainstate.random.seed(arguments.seed)
    train, test = load(arguments.root, arguments.smoke)

    net = DigitNet(arguments.chip, None if arguments.free else "chip")
    left_out = [name for name in ("free", "no_mismatch") if getattr(arguments, name)]
    run = Run(
        net,
        arguments,
        n_classes=N_CLASSES,
        layers=("frontend", "hidden", "output"),
        setting=" ".join([arguments.chip, *left_out]),
    )
    bh.init.fluct_init(net, [every_step(train).take(slice(256))], xi_target=1.0, in_range=True, key=arguments.seed)

    start, end = SLOPES
    schedules = [bh.train.SurrogateSchedule(net, "slope", arguments.epochs, start=start, end=end)]
    if not arguments.free:
        schedules.append(bh.train.SignAnnealing(net, max(1, round(SOFT_SHARE * arguments.epochs))))

    def loss(spikes: jax.Array, batch: bh.train.Batch) -> jax.Array:
        votes = bh.train.population_votes(spikes, N_CLASSES)
        error = braintools.metric.softmax_cross_entropy_with_integer_labels(votes, batch.y).mean()
        return error + QUIET * votes.mean() + bh.train.weight_magnitude_loss(net)

    history = bh.train.fit(
        net,
        every_step(train),
        every_step(test),
        n_classes=N_CLASSES,
        loss=loss,
        batch_size=90,
        learning_rate=3e-2,
        schedules=schedules,
        sample_chips=not left_out,  # another sampled chip in every batch
        **run.options,
    )
    # Signs of a run that was stopped may still be soft.
    found = deploy(run, test) if history.reason != "callback" else {}
    return run.finish(history, test, **found)


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=60, out="deploy_spoken_digits")
    parser.add_argument("--root", help="folder of the data set; otherwise searched where brainhw.data.fsdd looks")
    parser.add_argument("--chips", type=int, default=100, help="how many sampled chips to try")
    parser.add_argument("--free", action="store_true", help="no rounding, no sign blocks, no mismatch: what they cost")
    parser.add_argument("--no-mismatch", action="store_true", help="train on the nominal chip alone")
    main(parser.parse_args())
