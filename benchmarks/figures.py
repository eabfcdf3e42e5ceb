"""Draw every figure of ``brainhw.visualize``: ``python -m benchmarks.figures [--out FOLDER]``.

Two small networks learn to classify the speakers of Japanese Vowels. One runs on an H1v1 chip model, and the other
consists of fractional neurons. They are trained for only six epochs, so the figures are examples and not results.
``docs/figures.md`` shows them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import matplotlib as mpl

mpl.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import brainhw as bh
from benchmarks.machine import PROJECT

STEPS_PER_FRAME, N_CLASSES, POPULATION = 4, 9, 5
EPOCHS, BATCH = 6, 54
N_CHIPS = 40


class ChipNet(brainstate.nn.Module):
    """Two layers on an H1v1 chip, with weights quantised to the bits of the chip."""

    def __init__(self) -> None:
        super().__init__()
        self.to_hidden = bh.nn.H1v1Synapse(24, 60, weight_bits="chip")
        self.hidden = bh.nn.H1v1Layer(60, tau=20.0 * u.ms)
        self.to_out = bh.nn.H1v1Synapse(60, N_CLASSES * POPULATION, weight_bits="chip")
        self.out = bh.nn.H1v1Layer(N_CLASSES * POPULATION, tau=20.0 * u.ms)

    def update(self, x: jax.Array) -> jax.Array:
        """Advance one step: ``[B, 24]`` to output spikes ``[B, 45]``."""
        return self.out(self.to_out(self.hidden(self.to_hidden(x))))


def fractional_net() -> brainstate.nn.Sequential:
    """Return two layers of fractional neurons with trainable orders, and a readout."""
    orders = brainstate.random.uniform(0.3, 0.8, 60)
    learnt: dict[str, Any] = {"tau": 10.0 * u.ms, "learn_alpha": True, "horizon": 200}
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(24, 60, weight_init=0.6 * jnp.abs(brainstate.random.normal(size=(24, 60))) * u.mV),
        bh.nn.FractionalLIFLayer(60, alpha=[orders], **learnt),
        bh.nn.LIFSynapse(60, 40, weight_init=0.4 * brainstate.random.normal(size=(60, 40)) * u.mV),
        bh.nn.FractionalLIFLayer(40, alpha=[jnp.full(40, 0.6)], **learnt),
        bh.nn.LeakyReadout(40, N_CLASSES, tau=20.0 * u.ms),
    )


def recordings() -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return the training and test recordings, with time on the first axis, and their speakers."""
    data = bh.data.japanese_vowels()
    scale = bh.data.fit_channel_scale(data.train)

    def encoded(split: bh.data.Split) -> jax.Array:
        x = bh.data.repeat_frames(bh.data.split_on_off(scale.apply(split).x), STEPS_PER_FRAME)
        return jnp.asarray(x.swapaxes(0, 1))

    return encoded(data.train), jnp.asarray(data.train.y), encoded(data.test), jnp.asarray(data.test.y)


def learn(
    net: brainstate.nn.Module,
    votes: Callable[[jax.Array], jax.Array],
    begin: Callable[[int], None],
    after: Callable[[], None],
    xs: jax.Array,
    y: jax.Array,
    rate: float,
) -> None:
    """Train for a few epochs with cross-entropy. Call `begin` before each epoch and `after` after each step."""
    weights = net.states(brainstate.ParamState)
    optimizer = braintools.optim.Adam(lr=rate)
    optimizer.register_trainable_weights(weights)

    def loss(x: jax.Array, labels: jax.Array) -> jax.Array:
        logits = votes(bh.rollout(net, x)[0])
        return braintools.metric.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @brainstate.transform.jit
    def step(x: jax.Array, labels: jax.Array) -> jax.Array:
        grads, value = brainstate.transform.grad(loss, weights, return_value=True)(x, labels)
        optimizer.update(grads)
        after()
        return value

    for epoch in range(EPOCHS):
        begin(epoch)
        order = jax.random.permutation(jax.random.key(epoch), len(y))
        losses = [step(xs[:, part], y[part]) for part in order[: len(y) // BATCH * BATCH].reshape(-1, BATCH)]
        print(f"epoch {epoch + 1}: loss {sum(map(float, losses)) / len(losses):.3f}")


def chip_votes(spikes: jax.Array) -> jax.Array:
    """Return the mean spike count of the output population of each speaker."""
    return spikes.sum(axis=0).reshape(spikes.shape[1], N_CLASSES, POPULATION).mean(axis=-1)


def draw_chip(
    net: ChipNet, before: bh.init.FluctReport, xs: jax.Array, y: jax.Array, save: Callable[..., None]
) -> None:
    """Draw all figures of a network on a chip."""
    names = ("hidden.V", "hidden.V_pre", "hidden.spk", "out.spk")

    @brainstate.transform.jit
    def run(x: jax.Array) -> dict[str, Any]:
        return bh.rollout(net, x, record=names)[1]

    seen = run(xs)
    spikes = {name: seen[name] for name in ("hidden.spk", "out.spk")}
    save("raster", bh.visualize.plot_raster(seen["hidden.spk"][:, 0]))
    V, V_pre = seen["hidden.V"][:, 0], seen["hidden.V_pre"][:, 0]
    busiest = jnp.argsort(-seen["hidden.spk"][:, 0].sum(axis=0))[jnp.array([8, 20])]
    neurons = [int(neuron) for neuron in busiest]
    save("membrane", bh.visualize.plot_membrane(V, V_pre=V_pre, V_th=net.hidden.threshold(), neurons=neurons))
    save("layer_rates", bh.visualize.plot_layer_rates(spikes))
    save("fluct_report", bh.visualize.plot_fluct_report(before))
    save("membrane_distribution", bh.visualize.plot_membrane_distribution(before.layers[0]))
    save("response", bh.visualize.plot_response(before.layers[0]))
    save("weight_histogram", bh.visualize.plot_weight_histogram(net))
    save("sign_blocks", bh.visualize.plot_sign_blocks(net.to_hidden))
    save("placement", bh.visualize.plot_placement(bh.deploy.place(net)))
    save("power", bh.visualize.plot_power(bh.deploy.estimate_power(net, xs)))

    some, speakers = xs[:, ::4], y[::4]

    def accuracy(net: ChipNet) -> jax.Array:
        return bh.train.accuracy_population(bh.rollout(net, some)[0], speakers, N_CLASSES)

    chips = bh.deploy.robustness(net, accuracy, n_chips=N_CHIPS, key=0)
    save("robustness", bh.visualize.plot_robustness(chips))


def main() -> None:
    """Train both networks and save their figures in a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "images" / "figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    brainstate.environ.set(dt=1.0 * u.ms)
    brainstate.random.seed(0)

    def save(name: str, drawn: Any) -> None:
        figure = drawn if isinstance(drawn, Figure) else drawn.figure
        figure.savefig(out / f"{name}.png", dpi=110)
        plt.close(figure)

    xs, y, test_xs, test_y = recordings()
    net = ChipNet()
    batches = [xs.swapaxes(0, 1)]
    # Include the padding, because the training also includes it.
    how: dict[str, Any] = {"xi_target": 1.5, "in_range": True, "key": 0, "lengths": np.full(xs.shape[1], len(xs))}
    before = bh.init.fluct_init(net, batches, **how, verbose=False, return_report=True)
    assert before is not None  # return_report=True

    # Stop the annealing before signs are fixed, so that some blocks in the figure still have mixed signs.
    annealing = bh.train.SignAnnealing(net, total_epochs=EPOCHS, alpha_end=5.0)
    learn(net, chip_votes, annealing.step, lambda: bh.train.clip_weights(net), xs, y, 1e-2)
    draw_chip(net, before, test_xs, test_y, save)

    other = fractional_net()
    start = bh.get_per_layer_alpha(other)
    learn(other, lambda out: out.mean(axis=0), lambda epoch: None, lambda: None, xs, y, 2e-2)
    save("fractional_orders", bh.visualize.plot_fractional_orders(other, start=start))


if __name__ == "__main__":
    main()
