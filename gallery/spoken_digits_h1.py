"""Classify ten spoken digits on an H1 chip model, using its frontend.

The data are 3000 recordings of six speakers from the Free Spoken Digit Dataset, divided by the official split. A filter
bank with 16 frequency bands returns 16 log envelopes. Each of them drives one frontend neuron. The dense layers receive
only the spikes of the frontend. The frontend neurons, hidden neurons and output neurons fit on the chip, and all
weights stay within its range.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Literal

import brainstate
import braintools
import brainunit as u
import jax
import numpy as np
from _training import FAMILIES, Run, every_step, frames_of, options

import brainhw as bh

N_CLASSES = 10
# Number of hidden neurons, and number of output neurons for each digit. Together with the frontend, the network uses
# 246 of the 256 neurons of H1v1, or 196 of the 200 neurons of H1v2.
SIZES = {"h1v1": (180, 5), "h1v2": (150, 3)}
DURATION, DT = 0.7 * u.second, 2.0 * u.ms
GAIN = 17.5  # factor on the log envelope, so that frontend neurons fire at a few hundred hertz


class DigitNet(brainstate.nn.Module):
    """The frontend, a hidden layer with different time constants, and output populations, all on the chip."""

    def __init__(self, chip: str, weight_bits: int | Literal["chip"] | None = None) -> None:
        super().__init__()
        synapse, layer, frontend = FAMILIES[chip]
        n_hidden, population = SIZES[chip]
        n_out = N_CLASSES * population
        self.ears = frontend(weight_bits=weight_bits)
        self.frontend = layer(16, tau=10.0 * u.ms)
        self.to_hidden = synapse(16, n_hidden, weight_bits=weight_bits)
        self.hidden = layer(n_hidden, tau=np.resize([20.0, 50.0, 100.0, 200.0], n_hidden) * u.ms)
        self.to_output = synapse(n_hidden, n_out, weight_bits=weight_bits)
        self.output = layer(n_out, tau=100.0 * u.ms)

    def update(self, x: jax.Array) -> jax.Array:
        """Advance one step: filter bank values ``[B, 16]`` to output spikes ``[B, n_out]``."""
        hidden = self.hidden(self.to_hidden(self.frontend(self.ears(x))))
        return self.output(self.to_output(hidden))


def load(root: str | None, smoke: bool) -> tuple[bh.data.Split, bh.data.Split]:
    """Return the training and test recordings as log envelopes ``[n, T, 16]``."""
    data = bh.data.fsdd(root)

    def envelopes(split: bh.data.Split) -> bh.data.Split:
        if smoke:
            split = split.take(slice(None, None, max(1, len(split) // 60)))
        audio = [sound / max(np.abs(sound).max(), 1e-9) for sound in split.x]
        x = bh.data.filterbank(audio, data.rate, dt=DT, duration=DURATION)
        steps = (split.lengths / float(data.rate * DT)).astype(int)
        return bh.data.Split(x=x, y=split.y, lengths=np.minimum(steps, x.shape[1]))

    train, test = envelopes(data.train), envelopes(data.test)
    # Speech has less power at high frequencies. Therefore divide each channel by its mean, as a gain stage would do.
    mean = frames_of(train).mean(axis=(0, 1))

    def scaled(split: bh.data.Split) -> bh.data.Split:
        return dataclasses.replace(split, x=(GAIN * np.log1p(split.x / mean)).astype(np.float32))

    return scaled(train), scaled(test)


def main(arguments: argparse.Namespace) -> dict[str, float]:
    """Train and evaluate the network, print the result line, and save and return the results."""
    if arguments.smoke:
        arguments.epochs = min(arguments.epochs, 2)
    brainstate.environ.set(dt=DT)
    brainstate.random.seed(arguments.seed)
    train, test = load(arguments.root, arguments.smoke)

    net = DigitNet(arguments.chip)
    run = Run(
        net,
        arguments,
        n_classes=N_CLASSES,
        layers=("frontend", "hidden", "output"),
        setting=f"{arguments.chip}, {arguments.init} init",
    )
    if arguments.init == "fluct":
        bh.init.fluct_init(net, [every_step(train).take(slice(256))], xi_target=1.0, in_range=True, key=arguments.seed)

    def loss(spikes: jax.Array, batch: bh.train.Batch) -> jax.Array:
        votes = bh.train.population_votes(spikes, N_CLASSES)
        error = braintools.metric.softmax_cross_entropy_with_integer_labels(votes, batch.y).mean()
        return error + bh.train.weight_magnitude_loss(net)

    # Loss and accuracy also count the spikes in the padding of short words.
    history = bh.train.fit(
        net,
        every_step(train),
        every_step(test),
        n_classes=N_CLASSES,
        loss=loss,
        batch_size=90,
        learning_rate=3e-2,
        sample_chips=False,
        **run.options,
    )
    return run.finish(history, test)


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=30, out="spoken_digits")
    parser.add_argument("--root", help="folder of the data set; default: the folders of brainhw.data.fsdd")
    main(parser.parse_args())
