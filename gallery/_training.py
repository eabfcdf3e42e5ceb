"""Code that the training scripts share: command-line options, the saved run, figures and the result line."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from _saving import make_folder, save_figure, save_json
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

import brainhw as bh

# Call these two functions before the first JAX computation.
bh.keep_memory()
bh.keep_compiled()

FAMILIES = {
    "h1v1": (bh.nn.H1v1Synapse, bh.nn.H1v1Layer, bh.nn.H1v1Frontend),
    "h1v2": (bh.nn.H1v2Synapse, bh.nn.H1v2Layer, bh.nn.H1v2Frontend),
}
RUN = "training.run"  # file of the saved run in the output folder
# These options do not affect the result of the training, so they may differ when a run is resumed.
MAY_CHANGE = (
    "out", "resume", "stop_after", "root", "devices", "processes", "process", "coordinator", "compare",
)  # fmt: skip


def positive(text: str) -> int:
    """Read an integer of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def options(
    description: str, *, epochs: int, out: str, chip: bool = True, init: bool = True
) -> argparse.ArgumentParser:
    """Return a parser with the options of every training script. ``chip`` adds the options of a chip network."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    if chip:
        parser.add_argument("--chip", choices=sorted(FAMILIES), default="h1v1", help="chip family")
    if chip and init:
        parser.add_argument(
            "--init", choices=("fluct", "kaiming"), default="fluct", help="initialisation of the weights"
        )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batch order")
    parser.add_argument("--epochs", type=positive, default=epochs, help="number of epochs of the whole training")
    parser.add_argument("--out", type=Path, default=Path("runs") / out, help="folder for weights and figures")
    parser.add_argument("--resume", action="store_true", help="continue the run saved in --out")
    parser.add_argument("--stop-after", type=positive, help="stop after this epoch (--resume continues)")
    parser.add_argument("--smoke", action="store_true", help="train for two epochs on a part of the data")
    return parser


class Training:
    """A training with :func:`brainhw.train.fit` that saves run, figures and ``result.json`` and prints a result line.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.
    arguments : argparse.Namespace
        The options of the script.
    layers : tuple of str
        Names of the attributes of ``net`` that are spiking layers. The result reports their firing rates.
    setting : str
        Description of the training that the result line shows.
    """

    def __init__(
        self, net: brainstate.nn.Module, arguments: argparse.Namespace, *, layers: tuple[str, ...], setting: str
    ) -> None:
        self.net, self.arguments, self.layers, self.setting = net, arguments, layers, setting
        self.started = time.perf_counter()
        self.path = arguments.out / RUN
        make_folder(arguments.out)
        if jax.process_index() == 0:
            self._begin()

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of ``fit`` that are set by the options of the script."""
        # Keep the last weights, because the test split must not select an epoch.
        return {
            "epochs": self.arguments.epochs,
            "seed": self.arguments.seed,
            "keep": "last",
            "checkpoint": self.path,
            "callbacks": [self._stop],
            # In a log file, every update of the bar would be a new line.
            "progress": jax.process_index() == 0 and sys.stderr.isatty(),
        }

    def finish(self, history: bh.train.History, test: bh.data.Split, **found: tuple[Any, str]) -> dict[str, Any]:
        """Save figures and results, print the result line, and return the results.

        ``found`` contains further results. Each is a number and the text that the result line shows for it.
        """
        curves(history, self.arguments.out / "training.png")
        spikes = self.spikes(test)
        found = {**self.examine(test, spikes), **found}
        dt = float(brainstate.environ.get_dt().to(u.second).mantissa)
        # Exclude the padding, which would lower the rates. A frame may be repeated for several steps.
        n_steps = len(spikes[0])
        real = np.arange(n_steps)[:, None] < np.asarray(test.lengths) * (n_steps // frames_of(test).shape[1])
        rates = {layer: float(np.asarray(s)[real].mean()) / dt for layer, s in zip(self.layers, spikes, strict=True)}
        by_epoch = history.column("validation_accuracy").tolist()
        result = {
            "test_accuracy": by_epoch[-1],
            "by_epoch": [round(accuracy, 4) for accuracy in by_epoch],
            **{name: number for name, (number, _) in found.items()},
            "rates_hz": rates,
            "seconds": time.perf_counter() - self.started,
        }
        parts = [
            f"test accuracy {result['test_accuracy']:.4f}",
            *(words for _, words in found.values()),
            "mean rate " + ", ".join(f"{layer} {rate:.1f} Hz" for layer, rate in rates.items()),
            f"{result['seconds']:.1f} s",
            f"{self.setting}, seed {self.arguments.seed}",
        ]
        save_json(result, self.arguments.out / "result.json")
        print(" | ".join(parts))
        return result

    def inputs(self, split: bh.data.Split) -> jax.Array:
        """Return recordings as inputs of the network, ``[T, B, N]``."""
        return time_major(frames_of(split))

    def spikes(self, split: bh.data.Split) -> list[jax.Array]:
        """Return the spikes ``[T, B, N]`` of each reported layer on a whole split."""
        names = tuple(f"{layer}.spk" for layer in self.layers)
        forward = brainstate.transform.jit(lambda x: bh.rollout(self.net, x, record=names)[1])
        seen = forward(self.inputs(split))
        return [seen[name] for name in names]

    def examine(self, test: bh.data.Split, spikes: list[jax.Array]) -> dict[str, tuple[float, str]]:
        """Save further figures, and return further results, each a value and its text for the result line."""
        return {}

    def weights(self) -> dict[str, tuple[float, str]]:
        """Draw a histogram of the weights, and count the weights that are out of range."""
        _, ax = plt.subplots(figsize=(5, 3), layout="constrained")
        self.figure(bh.visualize.plot_weight_histogram(self.net, ax=ax), "weights.png")
        n = bh.train.out_of_range(self.net)
        return {"out_of_range": (n, f"{n} weights out of range")}

    def figure(self, ax: plt.Axes, name: str) -> None:
        """Save a figure into the folder of the run."""
        save_figure(ax.figure, self.arguments.out / name)
        plt.close(ax.figure)

    def _begin(self) -> None:
        """Check that the saved run was made with the same options. For a new run, remove the saved one."""
        options = {name: str(value) for name, value in vars(self.arguments).items() if name not in MAY_CHANGE}
        path = self.arguments.out / "options.json"
        if not self.arguments.resume:
            self.path.unlink(missing_ok=True)
            save_json(options, path)
            return
        if not self.path.exists():
            raise SystemExit(f"--resume: there is no saved run at {self.path}. Start a run without --resume.")
        try:
            saved = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise SystemExit(
                f"--resume: cannot read {str(path)!r} ({error}). Start a new run without --resume."
            ) from None
        if saved != options:
            raise SystemExit(
                f"--resume: {self.path} was started with the options {saved}, but now they are {options}. "
                "Use the same options, or start a new run without --resume."
            )

    def _stop(self, epoch: int, numbers: Mapping[str, float] | None) -> bool:
        stop = self.arguments.stop_after
        return numbers is not None and stop is not None and stop <= epoch + 1 < self.arguments.epochs


class Run(Training):
    """A :class:`Training` of a classifier on a chip, whose output populations vote by spike count."""

    def __init__(self, net: brainstate.nn.Module, arguments: argparse.Namespace, *, n_classes: int, **kw: Any) -> None:
        super().__init__(net, arguments, **kw)
        self.n_classes = n_classes

    def examine(self, test: bh.data.Split, spikes: list[jax.Array]) -> dict[str, tuple[float, str]]:
        """Draw the spikes of one recording and the weights, and count the weights that are out of range."""
        ax = stacked_raster(
            spikes, self.layers, n_steps=int(test.lengths[0]), populations=self.n_classes, right=int(test.y[0])
        )
        self.figure(ax, "raster.png")
        return self.weights()


def every_step(split: bh.data.Split) -> bh.data.Split:
    """Return the split without lengths, so that loss and accuracy also use the steps of the padding."""
    return bh.data.Split(x=split.x, y=split.y)


def frames_of(split: bh.data.Split) -> np.ndarray:
    """Return the frames ``[B, T, ..., N]`` of a split. Raise an error if it contains raw audio."""
    if not isinstance(split.x, np.ndarray):
        raise TypeError(f"frames_of: the split must contain frames, not raw audio (got {split})")
    return split.x


def time_major(x: np.ndarray) -> jax.Array:
    """Convert an array ``[B, T, N]`` to ``[T, B, N]``."""
    return jnp.asarray(np.swapaxes(x, 0, 1))


def curves(history: bh.train.History, path: Path) -> None:
    """Draw the loss and the accuracy over the epochs."""
    epochs = np.arange(1, len(history.epochs) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.plot(epochs, history.column("loss"))
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_minor_formatter(NullFormatter())
    left.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    right.plot(epochs, history.column("accuracy"), "--", label="training")
    right.plot(epochs, history.column("validation_accuracy"), linewidth=2, label="test")
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
    right.legend(frameon=False, loc="lower right")
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(figure, path)
    plt.close(figure)


def stacked_raster(
    spikes: list[jax.Array], names: tuple[str, ...], *, n_steps: int, populations: int, right: int
) -> plt.Axes:
    """Draw the spikes of the first sample, one layer above the other, and shade the output population of its class."""
    _, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    first = 0
    for i, (layer, name) in enumerate(zip(spikes, names, strict=True)):
        bh.visualize.plot_raster(layer[:n_steps, 0], ax=ax, color=f"C{i}", first=first)
        ax.text(1.01, first + layer.shape[-1] / 2, name, color=f"C{i}", transform=ax.get_yaxis_transform(), va="center")
        ax.axhline(first - 0.5, color="0.8", linewidth=0.6)
        first += layer.shape[-1]
    # Draw all dots in the same size. plot_raster draws larger dots for smaller layers.
    smallest = min(dots.get_sizes().min() for dots in ax.collections)
    for dots in ax.collections:
        dots.set_sizes([smallest])
    size = spikes[-1].shape[-1] // populations
    bottom = first - spikes[-1].shape[-1] + right * size - 0.5
    ax.axhspan(bottom, bottom + size, color="0.85", zorder=0)
    ax.set(ylim=(-1, first))
    ax.set_title("one test recording (shaded: output of its class)", fontsize="medium")
    return ax
