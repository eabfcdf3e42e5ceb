"""Measure accuracy against mismatch between chips, with and without training on sampled chips.

The task is that of ``japanese_vowels_h1.py``. The script trains four networks of the same size. Their weights are
floats or have 5 bits. They are trained on the nominal chip, or on a newly sampled chip in each batch with the mismatch
of the chip spec. Each network is then evaluated on sampled chips with one to eight times this mismatch. Depending on
the chip family, the mismatch affects synapses, leak currents and thresholds.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from _saving import make_folder, save_figure, save_json
from _training import RUN, Training, every_step, frames_of, options, positive, time_major
from japanese_vowels_h1 import N_CLASSES, SpeakerNet, load

import brainhw as bh


class Kind(NamedTuple):
    """A way to train a network: on sampled chips or not, with quantised weights or not."""

    sampled: bool
    rounded: bool

    def __str__(self) -> str:
        return f"{'5 bits' if self.rounded else 'floats'}, {'sampled chips' if self.sampled else 'nominal chip'}"

    @property
    def folder(self) -> str:
        """Name of the folder for the run."""
        return f"{'bits' if self.rounded else 'floats'}_{'sampled' if self.sampled else 'nominal'}"


KINDS = tuple(Kind(sampled, rounded) for rounded in (False, True) for sampled in (False, True))
TIMES: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)  # multiples of the mismatch of the spec
COLORS, MARKERS = ("#0072B2", "#D55E00"), ("o", "s")  # nominal or sampled chips


class Sweep(NamedTuple):
    """Accuracies on sampled chips for each multiple of the mismatch. The first entry is the nominal chip."""

    times: list[float]
    mean: list[float]
    q05: list[float]
    q95: list[float]


def trained(arguments: argparse.Namespace, kind: Kind, train: bh.data.Split, test: bh.data.Split) -> SpeakerNet:
    """Build and train a network in its own folder. All kinds start from the same weights."""
    brainstate.random.seed(arguments.seed)
    net = SpeakerNet(arguments.chip)
    if arguments.init == "fluct":
        bh.init.fluct_init(net, [train], xi_target=1.0, in_range=True, key=arguments.seed, verbose=False)
    bh.deploy.set_weight_bits(net, "chip" if kind.rounded else None)
    out = arguments.out / kind.folder
    # If a resumed study has not yet started a network, train it from the beginning.
    resume = arguments.resume and (out / RUN).exists()
    own = argparse.Namespace(**{**vars(arguments), "out": out, "resume": resume})
    run = Training(net, own, layers=("hidden", "output"), setting=str(kind))

    def loss(spikes: jax.Array, batch: bh.train.Batch) -> jax.Array:
        votes = bh.train.population_votes(spikes, N_CLASSES)
        error = braintools.metric.softmax_cross_entropy_with_integer_labels(votes, batch.y).mean()
        return error + bh.train.weight_magnitude_loss(net)

    print(f"training: {kind}")
    bh.train.fit(
        net,
        every_step(train),
        every_step(test),
        n_classes=N_CLASSES,
        loss=loss,
        batch_size=54,
        learning_rate=1e-2,
        sample_chips=kind.sampled,
        **run.options,
    )
    return net


def sweep(net: SpeakerNet, test: bh.data.Split, times: tuple[float, ...], n_chips: int) -> Sweep:
    """Evaluate a network on sampled chips of increasing mismatch. The random draws are the same for all networks."""
    x, y = time_major(frames_of(test)), jnp.asarray(test.y)
    spec = net.hidden.chip
    assert not isinstance(spec.leak_mismatch_std, tuple)  # presets have the same mismatch for all profiles
    sizes = {
        "synapse": spec.synapse_mismatch_std,
        "leak": spec.leak_mismatch_std,
        "threshold": spec.threshold_mismatch_std,
    }
    found = Sweep([], [], [], [])
    for factor in times:
        larger: dict[str, Any] = {name: False if size is None else factor * size for name, size in sizes.items()}
        report = bh.deploy.robustness(
            net,
            lambda net: bh.train.accuracy_population(bh.rollout(net, x)[0], y, N_CLASSES),
            n_chips,
            key=2026,
            **larger,
        )
        if not found.times:
            for column, number in zip(found, (0.0, *[report.nominal] * 3), strict=True):
                column.append(number)
        numbers = (factor, report.mean, report.quantile(0.05), report.quantile(0.95))
        for column, number in zip(found, numbers, strict=True):
            column.append(number)
    return found


def figure(sweeps: dict[Kind, Sweep], chip: str) -> plt.Figure:
    """Draw the mean accuracy against the mismatch, with bars from the 5 % to the 95 % quantile over the chips."""
    drawing, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    times = next(iter(sweeps.values())).times
    for i, (kind, found) in enumerate(sweeps.items()):
        # Draw the networks side by side, because they differ by less than the chips.
        x = np.arange(len(times)) + 0.14 * (i - (len(sweeps) - 1) / 2)
        mean = np.array(found.mean)
        spread = np.maximum([mean - found.q05, found.q95 - mean], 0)
        look = {"color": COLORS[kind.sampled], "markerfacecolor": COLORS[kind.sampled] if kind.rounded else "white"}
        line = MARKERS[kind.sampled] + ("--" if kind.rounded else "-")
        ax.errorbar(x, mean, spread, fmt=line, markersize=5, linewidth=1.5, elinewidth=1, label=str(kind), **look)
    ax.set_xticks(range(len(times)), ["nominal\nchip", *(f"{factor:g}" for factor in times[1:])])
    ax.set_xlabel("mismatch, multiples of the chip's spec")
    ax.set_ylabel("test accuracy (bars: 5 to 95 % of chips)")
    ax.set_title(f"nine speakers on {chip.upper().replace('V', 'v')}", fontsize="medium")
    ax.legend(frameon=False, title="weights, trained on", loc="lower left")
    return drawing


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate all networks, print the result line, and save and return the results."""
    started = time.perf_counter()
    kinds, times = KINDS, TIMES
    if arguments.smoke:
        arguments.epochs, arguments.chips = min(arguments.epochs, 2), min(arguments.chips, 4)
        kinds, times = (KINDS[0], KINDS[-1]), TIMES[-1:]
    make_folder(arguments.out)
    brainstate.environ.set(dt=1.0 * u.ms)
    train, test = load(arguments.smoke)
    sweeps, outside = {}, 0
    for kind in kinds:
        net = trained(arguments, kind, train, test)
        outside = max(outside, bh.train.out_of_range(net))
        sweeps[kind] = sweep(net, test, times, arguments.chips)
    drawing = figure(sweeps, arguments.chip)
    save_figure(drawing, arguments.out / "robustness.png")
    plt.close(drawing)

    last = sweeps[kinds[-1]]
    seconds = time.perf_counter() - started
    result = {
        "test_accuracy": last.mean[0],
        "chips_mean": last.mean[1],
        "chips_q05": last.q05[1],
        "out_of_range": outside,
        "sweeps": {str(kind): found._asdict() for kind, found in sweeps.items()},
        "seconds": seconds,
    }
    save_json(result, arguments.out / "result.json")
    words = [f"{kind}: " + " ".join(f"{mean:.3f}" for mean in found.mean) for kind, found in sweeps.items()]
    named = ", ".join(f"{factor:g}" for factor in last.times)
    print(
        f"test accuracy on the nominal chip, {last.mean[0]:.4f} | at {named} times the mismatch "
        f"({arguments.chips} chips each): {'; '.join(words)} | {outside} weights out of range | {seconds:.1f} s | "
        f"{arguments.chip}, {arguments.init} init, seed {arguments.seed}"
    )
    return result


if __name__ == "__main__":
    parser = options(__doc__.splitlines()[0], epochs=30, out="robustness_study")
    parser.add_argument("--chips", type=positive, default=50, help="number of sampled chips for each mismatch")
    main(parser.parse_args())
