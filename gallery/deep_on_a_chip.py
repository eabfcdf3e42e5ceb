"""Train four hidden layers and an output layer on an H1v1 chip model within all rules of the chip.

The task is to recognise the nine speakers of Japanese Vowels. The network has 4 x 50 hidden neurons and 5 output
neurons for each speaker, 245 neurons in total. With weights in the range of the chip, a neuron fires only if about 12
spikes arrive at the same time, and such synchronous volleys carry little information. The script avoids this in three
ways: a strong input, a wide distribution of the initial weights, and a loss that keeps the rate of each neuron within
bounds. ``--plain`` trains the same network without these three changes, from weights of ``fluct_init`` within the
range.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any, NamedTuple

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _training import Training, frames_of, options, stacked_raster, time_major

import brainhw as bh

N_CLASSES, POPULATION, WIDTH, DEPTH = 9, 5, 50, 4
STEPS = 4  # steps of 1 ms for each frame
GAIN = 8.0  # amplification of the scaled cepstra, outside the chip
BATCH, RATE = 54, 0.03
LOWEST, HIGHEST = 50 * u.Hz, 300 * u.Hz  # a neuron with a rate between these adds nothing to the loss
NOISE, SPEED = (
    0.2,
    0.2,
)  # augmentation: noise (standard deviation) and relative change of speed
LAYERS = tuple(f"layers.{i}" for i in range(1, 2 * DEPTH + 2, 2))
RECORDED = tuple(f"{layer}.spk" for layer in LAYERS)
NAMES = (*(f"hidden {i + 1}" for i in range(DEPTH)), "output")


class Output(NamedTuple):
    """Spikes ``[T, B, N]`` of the last layer and of all layers, and number of steps without padding ``[B]``."""

    spikes: jax.Array
    layers: dict[str, jax.Array]
    lengths: jax.Array


def load(smoke: bool) -> tuple[bh.data.Split, bh.data.Split]:
    """Return the training and test recordings as frames ``[n, F, 24]`` of nonnegative values."""
    data = bh.data.japanese_vowels()
    scale = bh.data.fit_channel_scale(data.train)

    def encode(split: bh.data.Split) -> bh.data.Split:
        split = split.take(slice(None, None, 5 if smoke else 1))
        return bh.data.Split(x=bh.data.split_on_off(scale.apply(split).x), y=split.y, lengths=split.lengths)

    return encode(data.train), encode(data.test)


def chain(surrogate: Any) -> brainstate.nn.Sequential:
    """Return a chain of chip layers with 5-bit weights, from analog values ``[B, 24]`` to spikes ``[B, 45]``."""
    stages = []
    sizes = [24, *[WIDTH] * DEPTH, N_CLASSES * POPULATION]
    for n_in, n_out in itertools.pairwise(sizes):
        stages.append(bh.nn.H1v1Synapse(n_in, n_out, weight_bits="chip"))
        stages.append(bh.nn.H1v1Layer(n_out, tau=20 * u.ms, spk_fun=surrogate))
    return brainstate.nn.Sequential(*stages)


def start_broad(net: brainstate.nn.Sequential, seed: int) -> None:
    """Draw weights from a wide distribution with the same mean for each neuron, and clip them to the range."""
    rng = np.random.default_rng(seed)
    for i, synapse in enumerate(net.layers[::2]):
        # A positive mean compensates for the low rates of the later layers.
        mean, spread = (0.0, 0.5) if i == 0 else (0.15, 0.6)
        z = rng.normal(size=synapse.weight.value.shape)
        synapse.weight.value = jnp.asarray(mean + spread * (z - z.mean(axis=0)), synapse.weight.value.dtype)
    bh.train.clip_weights(net)


def augmented(frames: jax.Array, lengths: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Add noise to the active channels of frames ``[F, B, 24]``, and change the speed of each recording at random."""
    key_noise, key_speed = jax.random.split(key)
    n = len(frames)
    speed = jax.random.uniform(key_speed, lengths.shape, minval=1 - SPEED, maxval=1 + SPEED)
    new = jnp.clip(jnp.round(lengths / speed), 1, n).astype(int)
    at = jnp.minimum((jnp.arange(n)[:, None] * speed).astype(int), lengths - 1)
    frames = jnp.take_along_axis(frames, at[..., None], axis=0)
    frames = jax.nn.relu(frames + NOISE * jax.random.normal(key_noise, frames.shape) * (frames > 0))
    return frames * (jnp.arange(n)[:, None] < new)[..., None], new


def pair_correlations(spikes: list[jax.Array], lengths: np.ndarray) -> list[float]:
    """Return the mean correlation between pairs of neurons for each layer. Pairs with a silent neuron count as 0."""
    real = np.arange(len(spikes[0]))[:, None] < lengths
    found = []
    for layer in spikes:
        z = np.asarray(layer)[real]
        z = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 1e-9)
        n = z.shape[1]
        matrix = z.T @ z / len(z)
        found.append(round(float((matrix.sum() - np.trace(matrix)) / (n * (n - 1))), 3))
    return found


def alike(when: str, activity: dict[str, list[float]]) -> str:
    """Return the pair correlations as text for the result line."""
    return f"correlations {when} " + ", ".join(f"{c:.2f}" for c in activity["pair_correlations"])


class DeepRun(Training):
    """A training that also counts violated rules and measures correlations between neurons."""

    def inputs(self, split: bh.data.Split) -> jax.Array:
        """Return the frames as inputs of the network, amplified and repeated."""
        return self.held(time_major(frames_of(split)))

    def held(self, frames: jax.Array) -> jax.Array:
        """Amplify the frames ``[F, B, 24]``, and repeat each for ``STEPS`` steps."""
        return (1.0 if self.arguments.plain else GAIN) * jnp.repeat(frames, STEPS, axis=0)

    def activity(self, split: bh.data.Split) -> dict[str, list[float]]:
        """Return spikes per step and correlations of each layer."""
        spikes = self.spikes(split)
        real = np.arange(len(spikes[0]))[:, None] < STEPS * split.lengths
        return {
            "spikes_a_step": [round(float(np.asarray(layer)[real].mean()), 4) for layer in spikes],
            "pair_correlations": pair_correlations(spikes, STEPS * split.lengths),
        }

    def examine(self, test: bh.data.Split, spikes: list[jax.Array]) -> dict[str, tuple[float, str]]:
        """Draw the spikes of one recording and the weights, and count violated rules."""
        steps, right = STEPS * int(test.lengths[0]), int(test.y[0])
        self.figure(stacked_raster(spikes, NAMES, n_steps=steps, populations=N_CLASSES, right=right), "raster.png")
        violations = len(bh.check_deployable(self.net).violations)
        return {**self.weights(), "violations": (violations, f"violations {violations}")}


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train and evaluate the network, print the result line, and save and return the results."""
    if arguments.smoke:
        arguments.epochs = min(arguments.epochs, 2)
    plain, epochs = arguments.plain, arguments.epochs
    brainstate.environ.set(dt=1.0 * u.ms)
    brainstate.random.seed(arguments.seed)
    train, test = load(arguments.smoke)
    net = chain(bh.surrogate.fast_sigmoid(10.0) if plain else bh.surrogate.atan(2.0))
    run = DeepRun(net, arguments, layers=LAYERS, setting="plain" if plain else "bounded rates")
    if plain:
        x = np.swapaxes(run.inputs(train), 0, 1)
        bh.fluct_init(net, [x], xi_target=1.0, in_range=True, lengths=STEPS * train.lengths, key=arguments.seed)
    else:
        start_broad(net, arguments.seed)
    first = run.activity(train)

    def forward(net: brainstate.nn.Module, batch: bh.train.Batch) -> Output:
        frames, lengths = batch.x, batch.lengths
        if batch.key is not None:
            frames, lengths = augmented(frames, lengths, batch.key)
        spikes, layers = bh.rollout(net, run.held(frames), record=RECORDED)
        return Output(spikes, layers, STEPS * lengths)

    def loss(output: Output, batch: bh.train.Batch) -> jax.Array:
        votes = bh.train.population_votes(output.spikes, N_CLASSES, lengths=output.lengths)
        error = braintools.metric.softmax_cross_entropy_with_integer_labels(votes, batch.y).mean()
        if plain:
            return error + 0.02 * votes.mean()
        for layer in output.layers.values():
            error += bh.train.firing_rate_bounds_loss(layer, lower=LOWEST, scale=LOWEST, lengths=output.lengths)
            error += bh.train.firing_rate_bounds_loss(layer, upper=HIGHEST, scale=HIGHEST, lengths=output.lengths)
        return error

    def accuracy(output: Output, batch: bh.train.Batch) -> jax.Array:
        return bh.train.accuracy_population(output.spikes, batch.y, N_CLASSES, lengths=output.lengths)

    # Large first updates would destroy the initial weights, so the learning rate rises during the first thirtieth of
    # the updates.
    updates = -(-len(train) // BATCH) * epochs
    rising = optax.warmup_cosine_decay_schedule(RATE / 50, RATE, updates // 30, updates, RATE / 50)
    history = bh.train.fit(
        net,
        train,
        test,
        loss=loss,
        metrics={"accuracy": accuracy},
        forward=forward,
        batch_size=BATCH,
        learning_rate=1e-2 if plain else rising,
        max_gradient=1.0,
        schedules=[bh.train.SignAnnealing(net, total_epochs=max(1, 2 * epochs // 3))],
        **run.options,
    )
    last = run.activity(train)
    return run.finish(history, test, start=(first, alike("before", first)), end=(last, alike("after", last)))


def parser() -> argparse.ArgumentParser:
    """Return the options of this script."""
    parser = options(__doc__.splitlines()[0], epochs=150, out="deep_on_a_chip", chip=False)
    parser.add_argument(
        "--plain", action="store_true", help="train from fluct_init in range, without the three changes"
    )
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
