"""Adapt a network to a chip that differs from its data sheet, by calibration and by training with the chip in the loop.

A network is trained on the preset and then runs on virtual chips whose parameters the network does not know. On these
chips a spike adds 35 % less charge, thresholds are 15 % higher, and time constants are 30 % shorter. Parameters vary
widely between neurons, and there is noise in each step. The table compares the unchanged network with five ways to
train it for ten more epochs. In three of them the chip is in the loop, and training starts from the wrong preset, from
the true means of the parameters, or from a model that was calibrated with bench tables. In the other two, training uses
only a model: the calibrated model, or a model with the true values.
"""

from __future__ import annotations

import argparse
import copy
import functools
import shlex
import time
from pathlib import Path
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import japanese_vowels_h1 as vowels
import matplotlib.pyplot as plt
import numpy as np
import optax
import spoken_digits_h1 as digits
from _saving import make_folder, save_figure, save_json
from _training import FAMILIES, every_step, positive
from tqdm import tqdm

import brainhw as bh
from brainhw._table import plain_table

# Parameters of the virtual chips. HIDDEN contains factors by which the charge, the threshold and the time constants of
# the preset are multiplied. SPREADS contains the relative standard deviations of the mismatch.
HIDDEN = {"gain": 0.65, "threshold": 1.15, "tau": 0.7}
SPREADS = {"leak_mismatch_std": 0.4, "threshold_mismatch_std": 0.15, "synapse_mismatch_std": 0.2}
# Standard deviation of the noise that is added to the membrane potential in each step. Measured tables of a laboratory
# show noise of this size.
NOISE = 1.5 * u.mV
# Learning rate at the start of the further epochs, in the loop or on a model. It has a cosine decay. It was chosen on a
# fifth of the training recordings of Japanese Vowels (H1v2). The network was first trained on the preset, and then for
# 10 epochs with the chip in the loop. Learning rates of 0.01, 0.02 and 0.03 gave accuracies of 0.92, 0.95 and 0.98 with
# recorded membrane potentials, and 0.89, 0.94 and 0.96 without them. Without recorded membrane potentials, and without
# limiting those of the model to the threshold, a learning rate of 0.01 gave 0.68.
FURTHER_RATE = 3e-2
ROWS = {
    "as trained": "as trained",
    "loop": "in the loop, from the preset",
    "means": "in the loop, true means",
    "calibrated": "calibrated from bench tables",
    "calibrated loop": "calibrated, in the loop",
    "perfect": "on the true values",
}


class Vowels:
    """The task of Japanese Vowels: nine speakers, 24 analog inputs in each step, and a network of two layers."""

    n_classes, batch_size, rate, epochs, dt = vowels.N_CLASSES, 54, 1e-2, 40, 1.0 * u.ms
    settings = (3, 4, 5)

    @staticmethod
    def net(family: str) -> brainstate.nn.Module:
        """Return the network of `japanese_vowels_h1` with weights quantised to the levels of the chip."""
        net = vowels.SpeakerNet(family)
        synapse, _, _ = FAMILIES[family]
        net.to_hidden = synapse(24, vowels.N_HIDDEN, weight_bits="chip")
        net.to_output = synapse(vowels.N_HIDDEN, vowels.N_CLASSES * vowels.POPULATION, weight_bits="chip")
        return net

    @staticmethod
    def load(_: str | None, smoke: bool) -> tuple[bh.data.Split, bh.data.Split]:
        """Return training and test recordings."""
        return vowels.load(smoke)


class Digits:
    """The task of spoken digits: audio through the frontend of the chip, and a network of three layers."""

    n_classes, batch_size, rate, epochs, dt = digits.N_CLASSES, 90, 3e-2, 20, digits.DT
    settings = (3, 4, 5, 6, 7)

    @staticmethod
    def net(family: str) -> brainstate.nn.Module:
        """Return the network of `spoken_digits_h1` with weights quantised to the levels of the chip."""
        return digits.DigitNet(family, weight_bits="chip")

    @staticmethod
    def load(root: str | None, smoke: bool) -> tuple[bh.data.Split, bh.data.Split]:
        """Return training and test recordings."""
        return digits.load(root, smoke)


TASKS: dict[str, Any] = {"vowels": Vowels, "digits": Digits}


class Study:
    """A network, its data, and the ways to adapt it to a chip."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.task = arguments, TASKS[arguments.task]
        self.train_split, self.test_split = self.task.load(arguments.root, arguments.smoke)
        self.epochs = min(arguments.epochs, 2) if arguments.smoke else arguments.epochs
        self.test = _time_major(self.test_split)

    def loss(self, outputs: jax.Array, y: jax.Array) -> jax.Array:
        """Return the cross-entropy of the votes of the output populations."""
        votes = bh.train.population_votes(outputs, self.task.n_classes)
        return braintools.metric.softmax_cross_entropy_with_integer_labels(votes, y).mean()

    def accuracy(self, outputs: jax.Array, y: jax.Array) -> jax.Array:
        """Return the fraction of recordings whose most active population has the right class."""
        return bh.train.accuracy_population(outputs, y, self.task.n_classes)

    def start(self) -> brainstate.nn.Module:
        """Return the network trained on the preset. Its weights are saved in the folder of the run."""
        arguments = self.arguments
        brainstate.random.seed(arguments.seed)
        net = self.task.net(arguments.chip)
        epochs = 2 if arguments.smoke else self.task.epochs
        kind = f"{arguments.task}_{arguments.chip}_seed{arguments.seed}_{epochs}epochs{'_smoke' * arguments.smoke}"
        sample = self.train_split if arguments.task == "vowels" else every_step(self.train_split).take(slice(256))
        bh.init.fluct_init(net, [sample], xi_target=1.0, in_range=True, key=arguments.seed)
        self.on_model(net, self.task.rate, epochs, arguments.out / f"start_{kind}.run")
        return net

    def on_model(self, net: brainstate.nn.Module, rate: float, epochs: int, checkpoint: Path | None = None) -> None:
        """Train on the chip model, without a device."""
        bh.train.fit(
            net,
            every_step(self.train_split),
            loss=lambda outputs, batch: self.loss(outputs, batch.y),
            epochs=epochs,
            batch_size=self.task.batch_size,
            learning_rate=rate,
            sample_chips=False,
            seed=self.arguments.seed,
            checkpoint=checkpoint,
        )

    def loop_on(self, net: brainstate.nn.Module, device: bh.silicon.Device) -> bh.silicon.InTheLoop:
        """Return an object that trains the network with the device in the loop."""
        steps = self.epochs * -(-len(self.train_split) // self.task.batch_size)
        rate = optax.cosine_decay_schedule(FURTHER_RATE, steps, alpha=0.02)
        optimizer = braintools.optim.OptaxOptimizer(tx=optax.adam(rate))
        return bh.silicon.InTheLoop(net, device, loss=self.loss, optimizer=optimizer, accuracy=self.accuracy)

    def on_device(self, net: brainstate.nn.Module, device: bh.silicon.Device) -> float:
        """Return the accuracy of the network on the device for the test recordings."""
        return self.loop_on(net, device).evaluate(*self.test)

    def rows(self, net: brainstate.nn.Module, device: bh.silicon.Device, seed: int) -> dict[str, float]:
        """Adapt the network in each way, and return the accuracies on the device."""
        found = {"as trained": self.on_device(net, device)}

        def looped(start: brainstate.nn.Module, what: str) -> float:
            loop, size, key = self.loop_on(start, device), self.task.batch_size, self.arguments.seed
            for epoch in tqdm(range(self.epochs), desc=ROWS[what], unit="epoch", leave=False):
                for batch in bh.data.batches(self.train_split, size, seed=key, epoch=epoch):
                    loop.step(*_time_major(batch))
            return loop.evaluate(*self.test)

        def modelled(start: brainstate.nn.Module) -> float:
            self.on_model(start, FURTHER_RATE, self.epochs)
            return self.on_device(start, device)

        found["loop"] = looped(copy.deepcopy(net), "loop")
        if isinstance(device, bh.silicon.VirtualChip):
            truth, perfect = device.truth, copy.deepcopy(net)
            nothing = np.full(truth.tau.shape, np.nan) * u.ms, np.full(truth.V_th.shape, np.nan) * u.mV
            means = copy.deepcopy(net)
            bh.silicon.put_chip(means, bh.silicon.MeasuredChip(truth.spec, *nothing))
            found["means"] = looped(means, "means")
            bh.silicon.put_chip(perfect, truth)
            _put_synapses(perfect, device)
            found["perfect"] = modelled(perfect)
        tqdm.write(f"chip {seed}: " + ", ".join(f"{ROWS[name]} {value:.3f}" for name, value in found.items()))
        calibrated = self.calibrated(net, device, seed)
        if calibrated is not None:
            found["calibrated"] = modelled(copy.deepcopy(calibrated))
            found["calibrated loop"] = looped(calibrated, "calibrated loop")
        return {name: found[name] for name in ROWS if name in found}

    def calibrated(
        self, net: brainstate.nn.Module, device: bh.silicon.Device, seed: int
    ) -> brainstate.nn.Module | None:
        """Return a copy of the network on the calibrated chip model, or ``None`` if there are no bench tables."""
        net = copy.deepcopy(net)
        known: dict[str, Any] = {}
        if isinstance(device, bh.silicon.VirtualChip):
            bench = self.tables(net, device, seed)
            tables = bench.charge, bench.decays, bench.rates
            known = {"settings": dict(enumerate(bench.profiles)), "rates_setting": bench.rates_setting}
        elif self.arguments.tables:
            tables = tuple(self.arguments.tables)
        else:
            return None
        # Fitting all thresholds takes minutes, so save the result in the folder of the run.
        path = self.arguments.out / f"{self.arguments.task}_{self.arguments.chip}_{seed}.chip"
        if path.exists():
            measured = bh.silicon.MeasuredChip.load(path)
        else:
            preset = bh.chip.get_chip(self.arguments.chip)
            measured = bh.silicon.calibrate(*tables, chip=preset, dt=self.task.dt, **known).measured
            measured.save(path)
        bh.silicon.put_chip(net, measured)
        return net

    def tables(self, net: brainstate.nn.Module, device: bh.silicon.VirtualChip, seed: int) -> bh.silicon.SyntheticBench:
        """Return bench tables of the neurons that the network uses.

        The tables do not contain the mismatch of synapses.
        """
        program = bh.silicon.ChipProgram.of(net)
        neurons = np.sort(np.concatenate([program.physical(layer) for layer in program.layers]))
        return bh.silicon.synthetic_bench(
            device.truth,
            seed=seed,
            neurons=neurons[:: 20 if self.arguments.smoke else 1],
            profiles=self.task.settings,
            rates_setting=len(self.task.settings) // 2,
            inputs=range(2, 17, 2),
            dt=self.task.dt,
        )


def _put_synapses(net: brainstate.nn.Module, bench: bh.silicon.VirtualChip) -> None:
    """Set the deviation of each synapse to that of the virtual chip.

    A real bench cannot measure it, so the resulting accuracy is only a reference.
    """
    bench.program(bh.silicon.ChipProgram.of(net))
    slope = bench.truth.spec.charge.slope_at_zero
    for path, weight in bh.nn.chip_weights(net).items():
        added, _ = bench._values["deviations"][path]
        weight.effective.mismatch.value = (jnp.asarray(added, jnp.float32) * slope).in_unit(u.fcoulomb)
        weight.effective.forget()


def _time_major(split: bh.data.Split) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(np.swapaxes(split.x, 0, 1), np.float32), np.asarray(split.y)


def hidden_chip(family: str, seed: int) -> bh.silicon.VirtualChip:
    """Return a virtual chip that differs strongly from its data sheet. The network does not know its parameters."""
    chip = bh.silicon.scaled_chip(bh.chip.get_chip(family), **HIDDEN, **SPREADS, noise_std=NOISE)
    return bh.silicon.VirtualChip(chip, key=seed)


def draw(results: list[dict[str, float]], path: Path, title: str) -> None:
    """Draw the accuracy of each way to adapt the network. Dots are chips, and lines are means."""
    names = list(results[0])
    figure, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    for i, name in enumerate(names):
        values = [100 * result[name] for result in results]
        (mean,) = ax.plot([np.mean(values)] * 2, [i - 0.3, i + 0.3], color="#D55E00", linewidth=2)
        (dots,) = ax.plot(values, [i] * len(values), "o", color="#0072B2", alpha=0.6)
    ax.set(yticks=range(len(names)), yticklabels=[ROWS[name] for name in names], xlabel="test accuracy (%)")
    ax.set_title(title, fontsize="medium")
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    ax.legend([dots, mean], ["one chip", "mean"], frameon=False, loc="upper right")
    ax.invert_yaxis()
    save_figure(figure, path)
    plt.close(figure)


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the study, save the table and the figure, and print and return the results."""
    begun = time.perf_counter()
    make_folder(arguments.out)
    study = Study(arguments)
    n_chips = 1 if arguments.smoke or arguments.device else arguments.seeds
    with brainstate.environ.context(dt=study.task.dt):
        net = study.start()
        on_preset = float(study.accuracy(bh.rollout(net, study.test[0])[0], study.test[1]))
        results = []
        for seed in range(n_chips):
            device: Any = hidden_chip(arguments.chip, seed)
            if arguments.device:
                device = bh.silicon.CommandDevice(shlex.split(arguments.device))
            results.append(study.rows(net, device, seed))
    means = {name: float(np.mean([result[name] for result in results])) for name in results[0]}
    rows = [
        (ROWS[name], f"{100 * means[name]:.1f}", *(f"{100 * result[name]:.1f}" for result in results)) for name in means
    ]
    heads = ("test accuracy, %", "mean", *(f"chip {seed}" for seed in range(n_chips)))
    print(plain_table(heads, rows, left=heads[:1]))
    content = {
        "task": arguments.task,
        "chip": arguments.chip,
        "epochs": study.epochs,
        "on_the_preset": on_preset,
        "mean": means,
        "by_chip": results,
        "seconds": time.perf_counter() - begun,
    }
    name = f"{arguments.task}_{arguments.chip}"
    save_json(content, arguments.out / f"{name}.json")
    title = f"{arguments.task} on H1{arguments.chip[2:]}, {study.epochs} more epochs"
    draw(results, arguments.out / f"{name}.png", title)
    print(f"on the preset itself {100 * on_preset:.1f} % | {content['seconds']:.0f} s | {arguments.out}")
    return content


def options() -> argparse.ArgumentParser:
    """Return the options of this script."""
    show = functools.partial(argparse.ArgumentDefaultsHelpFormatter, width=100)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=show)
    parser.add_argument("--chip", choices=sorted(FAMILIES), default="h1v2", help="chip family")
    parser.add_argument("--task", choices=sorted(TASKS), default="vowels", help="data set and network")
    parser.add_argument("--seeds", type=positive, default=3, help="number of virtual chips")
    parser.add_argument("--epochs", type=positive, default=10, help="number of further epochs")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batch order")
    parser.add_argument("--device", help="command that runs a real bench (default: virtual chips)")
    parser.add_argument("--tables", nargs="+", type=Path, help="measured tables of the real bench, for the calibration")
    parser.add_argument("--root", help="folder of the digits")
    parser.add_argument("--out", type=Path, default=Path("runs") / "chip_in_the_loop", help="folder for results")
    parser.add_argument("--smoke", action="store_true", help="train for two epochs on a part of the data, for one chip")
    return parser


if __name__ == "__main__":
    try:
        main(options().parse_args())
    except bh.silicon.DeviceError as error:
        raise SystemExit(str(error)) from None
