"""Train spoken digits within all rules of an H1 chip, check the network on sampled chips, and export a bundle.

The inputs are the log envelopes of 20 frequency bands and copies of them that are delayed by 60, 120 and 180 ms. They
drive the dense synapse directly, without the frontend of the chip. An encoder outside the chip has to compute the
delayed copies. Training uses 5-bit weights and a newly sampled chip in each batch. Sign annealing makes all weights in
a block have the same sign. For augmentation, the recordings are shifted, stretched, amplified and filtered at random.
After training the script checks every rule of the chip, places the network on cores, estimates its power, evaluates it
on 100 sampled chips, and writes a bundle for ``python -m brainhw``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, Literal

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _saving import save_arrays, save_text
from _training import FAMILIES, Run, frames_of, options, time_major

import brainhw as bh

N_CLASSES, VOTERS = 10, 5
HIDDEN = {"h1v1": 206, "h1v2": 150}  # together with 50 output neurons, these are all 256 or 200 neurons of the chip
CHANNELS, DT, DURATION = 20, 5.0 * u.ms, 0.7 * u.second
DELAYS = (0, 12, 24, 36)  # steps: 0, 60, 120 and 180 ms
TAUS, TAU_OUT = np.array([20.0, 50.0, 100.0, 200.0]) * u.ms, 100.0 * u.ms
BATCH, RATE = 100, 3e-2
SOFT_SHARE = 0.2  # fraction of the epochs in which signs anneal; afterwards signs are fixed
SLOPES = 0.5, 2.0  # slopes of the surrogate gradient in the first and the last epoch
# Weight of the mean number of votes in the loss. Spikes that all classes have in common do not change the decision. But
# if there are more spikes, a deviation of a threshold adds or removes more of them. Therefore the loss penalises the
# mean number of votes.
QUIET = 0.02
SHIFT, STRETCH = 10, 0.15  # augmentation: largest shift in steps, and largest relative change of length
GAIN, COLOUR = (
    0.3,
    0.3,
)  # augmentation: standard deviations of the log gain and of a smooth log filter


class DigitNet(brainstate.nn.Module):
    """A hidden layer with different time constants, and output populations.

    Together they use all neurons of the chip.
    """

    def __init__(self, chip: str, weight_bits: int | Literal["chip"] | None) -> None:
        super().__init__()
        synapse, layer, _ = FAMILIES[chip]
        n_hidden, n_out = HIDDEN[chip], N_CLASSES * VOTERS
        self.to_hidden = synapse(CHANNELS * len(DELAYS), n_hidden, weight_bits=weight_bits)
        self.hidden = layer(n_hidden, tau=np.resize(TAUS.mantissa, n_hidden) * TAUS.unit)
        self.to_output = synapse(n_hidden, n_out, weight_bits=weight_bits)
        self.output = layer(n_out, tau=TAU_OUT)

    def update(self, x: jax.Array) -> jax.Array:
        """Advance one step: inputs ``[B, 80]`` to output spikes ``[B, 50]``."""
        return self.output(self.to_output(self.hidden(self.to_hidden(x))))


def load(root: str | None, smoke: bool) -> tuple[bh.data.Split, bh.data.Split]:
    """Return the training and test recordings as envelopes ``[n, T, 20]``. Each channel is divided by its mean."""
    data = bh.data.fsdd(root)

    def envelopes(split: bh.data.Split) -> bh.data.Split:
        if smoke:
            split = split.take(slice(None, None, max(1, len(split) // 60)))
        audio = [sound / max(np.abs(sound).max(), 1e-9) for sound in split.x]
        x = bh.data.filterbank(audio, data.rate, n_channels=CHANNELS, dt=DT, duration=DURATION)
        return bh.data.Split(x=x, y=split.y)

    train, test = envelopes(data.train), envelopes(data.test)
    # Speech has less power at high frequencies. Therefore divide each channel by its mean, as a gain stage would do.
    mean = frames_of(train).mean(axis=(0, 1))
    return bh.data.Split(x=train.x / mean, y=train.y), bh.data.Split(x=test.x / mean, y=test.y)


def wired(x: jax.Array) -> jax.Array:
    """Return the logarithms of envelopes ``[T, B, 20]`` and their delayed copies, ``[T, B, 80]``."""
    x = jnp.log1p(x)
    return jnp.concatenate([jnp.pad(x, ((late, 0), (0, 0), (0, 0)))[: len(x)] for late in DELAYS], axis=-1)


def varied(x: jax.Array, key: jax.Array) -> jax.Array:
    """Shift, stretch, amplify and filter each recording of ``[T, B, C]`` at random."""
    n_steps, n, n_channels = x.shape
    of_pace, of_shift, of_gain, of_colour = jax.random.split(key, 4)
    pace = 1 + STRETCH * jax.random.uniform(of_pace, (n,), minval=-1)
    shift = SHIFT * jax.random.uniform(of_shift, (n,), minval=-1)
    at = jnp.arange(n_steps)[:, None] * pace - shift
    before = jnp.floor(at).astype(int)

    def frames(i: jax.Array) -> jax.Array:
        found = jnp.take_along_axis(x, jnp.clip(i, 0, n_steps - 1)[..., None], axis=0)
        return jnp.where(((i >= 0) & (i < n_steps))[..., None], found, 0)

    part = (at - before)[..., None]
    x = frames(before) * (1 - part) + frames(before + 1) * part
    gain = GAIN * jax.random.normal(of_gain, (n, 1))
    knots, place = jax.random.normal(of_colour, (n, 4)), jnp.linspace(0, 3, n_channels)
    colour = COLOUR * jax.vmap(lambda values: jnp.interp(place, jnp.arange(4.0), values))(knots)
    return x * jnp.exp(gain + colour)


def start(net: DigitNet, train: bh.data.Split, seed: int) -> None:
    """Initialise the weights within the range of the chip, using some of the training recordings."""
    some = train.take(slice(None, None, max(1, len(train) // 300)))
    x = np.swapaxes(wired(time_major(frames_of(some))), 0, 1)
    # Include the silence after a short word, because the training includes it.
    every = np.full(len(x), x.shape[1])
    bh.init.fluct_init(net, [x], xi_target=1.0, in_range=True, lengths=every, key=seed)


def learn(
    net: DigitNet,
    train: bh.data.Split,
    test: bh.data.Split,
    *,
    epochs: int,
    signs: bool,
    sampled: bool,
    inputs: Callable[[jax.Array], jax.Array] = wired,
    **options: Any,
) -> bh.train.History:
    """Train a network. ``signs`` turns on sign annealing, and ``sampled`` samples a new chip in each batch."""
    schedules: list[Any] = [bh.train.SurrogateSchedule(net, "slope", epochs, start=SLOPES[0], end=SLOPES[1])]
    if signs:
        schedules.append(bh.train.SignAnnealing(net, max(1, round(SOFT_SHARE * epochs))))

    def forward(net: DigitNet, batch: bh.train.Batch) -> jax.Array:
        if batch.key is None:
            return bh.rollout(net, inputs(batch.x))[0]
        key, of_chip = jax.random.split(batch.key)
        return bh.rollout(net, inputs(varied(batch.x, key)), key=of_chip if sampled else None)[0]

    def loss(spikes: jax.Array, batch: bh.train.Batch) -> jax.Array:
        votes = bh.train.population_votes(spikes, N_CLASSES)
        error = braintools.metric.softmax_cross_entropy_with_integer_labels(votes, batch.y).mean()
        return error + QUIET * votes.mean()

    updates = math.ceil(len(train) / BATCH)
    rate = optax.warmup_cosine_decay_schedule(RATE / 10, RATE, updates, epochs * updates, RATE / 50)
    return bh.train.fit(
        net,
        train,
        test,
        n_classes=N_CLASSES,
        loss=loss,
        forward=forward,
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=rate,
        schedules=schedules,
        **options,
    )


class DigitRun(Run):
    """A training of a classifier that also deploys the trained network."""

    def inputs(self, split: bh.data.Split) -> jax.Array:
        """Return recordings as inputs of the network."""
        return wired(time_major(frames_of(split)))

    def deploy(self, test: bh.data.Split) -> dict[str, tuple[float, str]]:
        """Evaluate on sampled chips, check, place, estimate power, and write the bundle.

        Raise an error if a rule is violated.
        """
        net, arguments = self.net, self.arguments
        x, y = self.inputs(test), jnp.asarray(test.y)

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
        self.figure(bh.visualize.plot_robustness(chips, label=self.setting), "robustness.png")
        if not arguments.free:
            found |= self._bundle(x, test.y)
        return {name: (value, f"{name} {value:.4g}") for name, value in found.items()}

    def _bundle(self, x: jax.Array, y: np.ndarray) -> dict[str, float]:
        net, out = self.net, self.arguments.out
        print(bh.deploy.describe(net))
        report = bh.deploy.check_deployable(net)
        print(report)
        report.raise_if_not()
        placement = bh.deploy.place(net)
        print(placement)
        self.figure(bh.visualize.plot_placement(placement), "placement.png")
        power = bh.deploy.estimate_power(net, x)
        print(power)
        path = out / "digits.bundle"
        bh.deploy.export_bundle(net, path, n_classes=N_CLASSES, notes="Free Spoken Digit Dataset, test split left out")
        save_arrays(out / "test.npz", x=np.swapaxes(x, 0, 1), y=y)
        reloaded = bh.deploy.load_bundle(path)
        here = brainstate.transform.jit(lambda x: bh.rollout(net, x)[0])
        again = brainstate.transform.jit(lambda x: bh.rollout(reloaded, x)[0])
        return {
            "violations": len(report.violations),
            "spikes_differing": int(jnp.sum(here(x) != again(x))),
            "microwatt": float(power.power.mantissa),
            "microjoule": float(power.energy.mantissa),
        }


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train and deploy the network, print the result line, and save and return the results."""
    if arguments.smoke:
        arguments.epochs, arguments.chips = min(arguments.epochs, 2), min(arguments.chips, 4)
    brainstate.environ.set(dt=DT)
    brainstate.random.seed(arguments.seed)
    train, test = load(arguments.root, arguments.smoke)

    net = DigitNet(arguments.chip, None if arguments.free else "chip")
    left_out = [name for name in ("free", "no_mismatch") if getattr(arguments, name)]
    run = DigitRun(
        net,
        arguments,
        n_classes=N_CLASSES,
        layers=("hidden", "output"),
        setting=" ".join([arguments.chip, *left_out]),
    )
    start(net, train, arguments.seed)
    history = learn(net, train, test, signs=not arguments.free, sampled=not left_out, **run.options)
    # In a run that was stopped early, blocks may still have mixed signs, so do not deploy it.
    found = run.deploy(test) if history.reason != "callback" else {}
    return run.finish(history, test, **found)


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=40, out="deploy_spoken_digits", init=False)
    parser.add_argument("--root", help="folder of the data set; default: the folders of brainhw.data.fsdd")
    parser.add_argument("--chips", type=int, default=100, help="number of sampled chips")
    parser.add_argument("--free", action="store_true", help="train without quantisation, sign blocks and mismatch")
    parser.add_argument("--no-mismatch", action="store_true", help="train on the nominal chip")
    main(parser.parse_args())
