"""Classify nine speakers by one vowel on an H1 chip model.

The data are the 640 recordings of Japanese Vowels, which are part of brainhw. They have 12 cepstral channels and 7 to
29 frames, and are divided by the official split. Each channel is split into two, for its positive and its negative
part. The 24 analog values of a frame drive 100 hidden neurons for four steps. Five output neurons for each speaker vote
by spike count. All weights stay within the range of the chip.
"""

from __future__ import annotations

import argparse

import brainstate
import braintools
import brainunit as u
import jax
from _training import FAMILIES, Run, every_step, options

import brainhw as bh

N_CLASSES, POPULATION, N_HIDDEN = 9, 5, 100
STEPS_PER_FRAME = 4


class SpeakerNet(brainstate.nn.Module):
    """A hidden layer and output populations, both on the chip."""

    def __init__(self, chip: str) -> None:
        super().__init__()
        synapse, layer, _ = FAMILIES[chip]
        n_out = N_CLASSES * POPULATION
        self.to_hidden = synapse(24, N_HIDDEN)
        self.hidden = layer(N_HIDDEN, tau=20.0 * u.ms)
        self.to_output = synapse(N_HIDDEN, n_out)
        self.output = layer(n_out, tau=20.0 * u.ms)

    def update(self, x: jax.Array) -> jax.Array:
        """Advance one step: analog values ``[B, 24]`` to output spikes ``[B, 45]``."""
        return self.output(self.to_output(self.hidden(self.to_hidden(x))))


def load(smoke: bool) -> tuple[bh.data.Split, bh.data.Split]:
    """Return the training and test recordings as nonnegative values ``[n, T, 24]``."""
    data = bh.data.japanese_vowels()
    scale = bh.data.fit_channel_scale(data.train)

    def encode(split: bh.data.Split) -> bh.data.Split:
        x = bh.data.repeat_frames(bh.data.split_on_off(scale.apply(split).x), STEPS_PER_FRAME)
        return bh.data.Split(x=x, y=split.y, lengths=split.lengths * STEPS_PER_FRAME)

    train, test = encode(data.train), encode(data.test)
    return (train.take(slice(None, None, 5)), test.take(slice(None, None, 5))) if smoke else (train, test)


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train and evaluate the network, print the result line, and save and return the results."""
    if arguments.smoke:
        arguments.epochs = min(arguments.epochs, 2)
    brainstate.environ.set(dt=1.0 * u.ms)
    brainstate.random.seed(arguments.seed)
    train, test = load(arguments.smoke)

    net = SpeakerNet(arguments.chip)
    run = Run(
        net,
        arguments,
        n_classes=N_CLASSES,
        layers=("hidden", "output"),
        setting=f"{arguments.chip}, {arguments.init} init",
    )
    if arguments.init == "fluct":
        bh.init.fluct_init(net, [train], xi_target=1.0, in_range=True, key=arguments.seed)

    def loss(spikes: jax.Array, batch: bh.train.Batch) -> jax.Array:
        votes = bh.train.population_votes(spikes, N_CLASSES)
        error = braintools.metric.softmax_cross_entropy_with_integer_labels(votes, batch.y).mean()
        return error + bh.train.weight_magnitude_loss(net)

    # Loss and accuracy also count the spikes in the padding of short recordings.
    history = bh.train.fit(
        net,
        every_step(train),
        every_step(test),
        n_classes=N_CLASSES,
        loss=loss,
        batch_size=54,
        learning_rate=1e-2,
        sample_chips=False,
        **run.options,
    )
    return run.finish(history, test)


if __name__ == "__main__":
    main(options(__doc__.splitlines()[0], epochs=60, out="japanese_vowels").parse_args())
