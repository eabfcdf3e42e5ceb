"""What the training scripts of this folder share: options, a loop that resumes to the bit, figures, a result line."""

from __future__ import annotations

import abc
import argparse
import functools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import optax
from _checkpoint import read_checkpoint, write_checkpoint
from _saving import make_folder, save_figure, save_json
from matplotlib.ticker import MaxNLocator
from tqdm import tqdm

import brainhw as bh

FAMILIES = {
    "h1v1": (bh.nn.H1v1Synapse, bh.nn.H1v1Layer, bh.nn.H1v1Frontend),
    "h1v2": (bh.nn.H1v2Synapse, bh.nn.H1v2Layer, bh.nn.H1v2Frontend),
}


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def options(description: str, *, epochs: int, out: str, chip: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options that every training script takes, and those of a net on a chip."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    if chip:
        parser.add_argument("--chip", choices=sorted(FAMILIES), default="h1v1", help="chip family")
        parser.add_argument("--init", choices=("fluct", "kaiming"), default="fluct", help="initialiser of the weights")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batch order")
    parser.add_argument("--epochs", type=positive, default=epochs, help="length of the whole training")
    parser.add_argument("--out", type=Path, default=Path("runs") / out, help="folder for weights and figures")
    parser.add_argument("--resume", action="store_true", help="go on from the run saved in --out")
    parser.add_argument("--stop-after", type=positive, help="stop after this epoch, as if interrupted")
    parser.add_argument("--smoke", action="store_true", help="two epochs on a part of the data")
    return parser


class Training(abc.ABC):
    """A training run that is saved, and resumed to the bit.

    Everything random in an epoch depends on the seed and the number of the epoch alone, so the saved file needs no
    random state.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, with spiking layers ``layers`` (names of attributes) whose rates are reported.
    arguments : argparse.Namespace
        The options of the script.
    learning_rate, batch_size : float, int
        Adam's first rate, which falls along a cosine to a fiftieth, and the batch size.
    max_gradient : float, optional
        Norm that the gradient of all parameters together is cut down to.
    """

    constrain: Callable[[brainstate.nn.Module], None] | None = None  # brings parameters back in range after a step
    begin: Callable[[int], None] | None = None  # sets what a schedule changes, given the epoch
    draw: Callable[[bh.data.Split, list[jax.Array]], None] | None = None  # saves what there is to see in the spikes
    bar: Mapping[str, Any] = MappingProxyType({"desc": "training"})  # what the progress bar is called with

    def __init__(
        self,
        net: brainstate.nn.Module,
        arguments: argparse.Namespace,
        *,
        n_train: int,
        learning_rate: float,
        batch_size: int,
        layers: tuple[str, ...],
        max_gradient: float | None = None,
    ) -> None:
        self.net, self.arguments, self.layers = net, arguments, layers
        self.batch_size = batch_size
        self.started = time.perf_counter()
        n_steps = arguments.epochs * -(-n_train // batch_size)
        schedule = optax.cosine_decay_schedule(learning_rate, n_steps, alpha=0.02)
        self.weights = net.states(brainstate.ParamState)
        clip = optax.identity() if max_gradient is None else optax.clip_by_global_norm(max_gradient)
        self.optimizer = braintools.optim.OptaxOptimizer(tx=optax.chain(clip, optax.adam(schedule)))
        self.optimizer.register_trainable_weights(self.weights)
        self.history: list[dict[str, float]] = []
        self.epoch_seconds: list[float] = []
        self.path = arguments.out / "run.msgpack"
        # What must be equal for the resumed run to be the same run.
        changing = ("out", "resume", "stop_after", "root")
        self.identity = json.dumps({k: str(v) for k, v in vars(arguments).items() if k not in changing}, sort_keys=True)

    @abc.abstractmethod
    def score(self, outputs: jax.Array, y: jax.Array) -> jax.Array:
        """Return the accuracy of what the net gave out, ``[T, B, ...]``."""

    @property
    @abc.abstractmethod
    def setting(self) -> str:
        """What was trained, in a few words for the result line."""

    def examine(self) -> dict[str, tuple[float, str]]:
        """Return further numbers for the result, each with its words for the result line; may save figures."""
        return {}

    def place(self, batch: bh.data.Split) -> tuple[jax.Array, jax.Array]:
        """Turn recordings into what the net takes: ``x [T, B, N]`` and ``y``, on the device that computes."""
        return time_major(batch.x), jnp.asarray(batch.y)

    def ready(self) -> None:
        """See that the run can be saved, and take up the saved one where that is asked for."""
        make_folder(self.arguments.out)
        if self.arguments.resume:
            self.load()

    def train(self, train: bh.data.Split, test: bh.data.Split, loss: Callable[..., Any]) -> None:
        """Train to the last epoch with a progress bar, saving as it goes.

        ``loss(x, y, key)`` returns the loss and the accuracy of a batch ``x [T, B, N]``, ``y [B]`` or ``[B, T]``; the
        key is another for every batch of the training.
        """
        gradient = brainstate.transform.grad(loss, self.weights, has_aux=True, return_value=True)

        @brainstate.transform.jit
        def step(x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            grads, value, hits = gradient(x, y, key)
            self.optimizer.update(grads)
            if self.constrain is not None:
                self.constrain(self.net)
            return value, hits

        self.ready()
        first, last = len(self.history), self.arguments.epochs
        last = min(last, self.arguments.stop_after or last)
        tested = self.place(test)
        bar = tqdm(range(first, last), unit="epoch", initial=first, total=last, **self.bar)
        for epoch in bar:
            begun = time.perf_counter()
            if self.begin is not None:
                self.begin(epoch)
            batches = bh.data.batches(train, self.batch_size, seed=self.arguments.seed, epoch=epoch)
            key = jax.random.fold_in(jax.random.key(self.arguments.seed), epoch)
            values = np.array([step(*self.place(batch), jax.random.fold_in(key, i)) for i, batch in enumerate(batches)])
            hits, _ = self._forward(*tested)
            entry = dict(zip(("loss", "accuracy"), values.mean(axis=0).tolist(), strict=True))
            self.history.append({**entry, "test_accuracy": float(hits)})
            self.epoch_seconds.append(time.perf_counter() - begun)
            bar.set_postfix({name: f"{value:.3f}" for name, value in self.history[-1].items()})
            if (epoch + 1) % 10 == 0:
                self.save()
        self.save()

    @functools.cached_property
    def _forward(self) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, list[jax.Array]]]:
        names = tuple(f"{layer}.spk" for layer in self.layers)

        @brainstate.transform.jit
        def forward(x: jax.Array, y: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
            outputs, seen = bh.rollout(self.net, x, record=names)
            # Scored inside, where a mesh of devices adds up what each of them holds.
            return self.score(outputs, y), [seen[name] for name in names]

        return forward

    def run(self, split: bh.data.Split) -> list[jax.Array]:
        """Return the spikes ``[T, B, N]`` of every reported layer on a whole split."""
        return self._forward(*self.place(split))[1]

    def save(self) -> None:
        """Write the run; a crash while writing leaves the old file whole."""
        notes = {"history": json.dumps(self.history), "identity": self.identity}
        write_checkpoint(self.path, self._content(), notes, call="--out")

    def load(self) -> None:
        """Take up the saved run, refusing one that was started with other options."""
        if not self.path.exists():
            raise SystemExit(f"--resume: there is no saved run at {self.path}; run once without --resume.")
        try:
            saved = read_checkpoint(self.path, call="--resume")
            identity = saved.notes.get("identity")
            if identity != self.identity:
                raise SystemExit(f"--resume: {self.path} was started with {identity}, now {self.identity}.")
            # All of it is checked before any of it is taken up.
            content = saved.tree_like(self._content())
            history = json.loads(saved.notes["history"])
        except (ValueError, KeyError) as error:
            raise SystemExit(f"{error} To begin again, leave out --resume.") from None
        for path, state in self.weights.items():
            state.value = content["weights"]["/".join(map(str, path))]
        self.optimizer.load_state_dict(content["optimizer"])
        self.history = history

    def _content(self) -> dict[str, Any]:
        weights = {"/".join(map(str, path)): state.value for path, state in self.weights.items()}
        return {"weights": weights, "optimizer": self.optimizer.state_dict()}

    def finish(self, test: bh.data.Split) -> dict[str, float]:
        """Save the figures and the result, print its line, and return its numbers."""
        curves(self.history, self.arguments.out / "training.png")
        spikes = self.run(test)
        if self.draw is not None:
            self.draw(test, spikes)
        dt = float(brainstate.environ.get_dt().to(u.second).mantissa)
        # Silence after the end of a recording would lower the rates. A frame may be held for several steps.
        n_steps = len(spikes[0])
        real = np.arange(n_steps)[:, None] < np.asarray(test.lengths) * (n_steps // test.x.shape[1])
        rates = {layer: float(np.asarray(s)[real].mean()) / dt for layer, s in zip(self.layers, spikes, strict=True)}
        examined = self.examine()
        result = {
            "test_accuracy": self.history[-1]["test_accuracy"],
            "by_epoch": [round(h["test_accuracy"], 4) for h in self.history],
            **{name: number for name, (number, _) in examined.items()},
            "rates_hz": rates,
            "seconds": time.perf_counter() - self.started,
        }
        parts = [
            f"test accuracy {result['test_accuracy']:.4f}",
            *(words for _, words in examined.values()),
            "mean rate " + ", ".join(f"{layer} {rate:.1f} Hz" for layer, rate in rates.items()),
            f"{result['seconds']:.1f} s",
            f"{self.setting}, seed {self.arguments.seed}",
        ]
        save_json(result, self.arguments.out / "result.json")
        print(" | ".join(parts))
        return result


class Run(Training):
    """A classifier on a chip whose output populations vote by spike count, its weights kept in the chip's range."""

    constrain = staticmethod(bh.train.clip_weights)

    def __init__(self, net: brainstate.nn.Module, arguments: argparse.Namespace, *, n_classes: int, **kw: Any) -> None:
        super().__init__(net, arguments, **kw)
        self.n_classes = n_classes

    def score(self, outputs: jax.Array, y: jax.Array) -> jax.Array:
        """Return the share of recordings whose most active population is the right one."""
        return bh.train.accuracy_population(outputs, y, self.n_classes)

    @property
    def setting(self) -> str:
        """Chip and initialiser."""
        return f"{self.arguments.chip}, {self.arguments.init} init"

    def draw(self, test: bh.data.Split, spikes: list[jax.Array]) -> None:
        """Draw the spikes of the first recording, layer above layer."""
        ax = stacked_raster(
            spikes, self.layers, n_steps=int(test.lengths[0]), populations=self.n_classes, right=int(test.y[0])
        )
        save_figure(ax.figure, self.arguments.out / "raster.png")
        plt.close(ax.figure)

    def examine(self) -> dict[str, tuple[float, str]]:
        """Draw the weights and count those out of range."""
        figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
        bh.visualize.plot_weight_histogram(self.net, ax=ax)
        save_figure(figure, self.arguments.out / "weights.png")
        plt.close(figure)
        n = bh.train.out_of_range(self.net)
        return {"out_of_range": (n, f"{n} weights out of range")}


def time_major(x: np.ndarray) -> jax.Array:
    """Turn ``[B, T, N]`` into ``[T, B, N]``."""
    return jnp.asarray(np.swapaxes(x, 0, 1))


def curves(history: list[dict[str, float]], path: Path) -> None:
    """Draw loss and accuracy over epochs."""
    epochs = np.arange(1, len(history) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.plot(epochs, [h["loss"] for h in history])
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.plot(epochs, [h["accuracy"] for h in history], label="training")
    right.plot(epochs, [h["test_accuracy"] for h in history], label="test")
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.02))
    right.legend(frameon=False, loc="lower right")
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(figure, path)
    plt.close(figure)


def stacked_raster(
    spikes: list[jax.Array], names: tuple[str, ...], *, n_steps: int, populations: int, right: int
) -> plt.Axes:
    """Draw the spikes of the first sample, layer above layer, with the output population of the true class shaded."""
    _, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
    first = 0
    for i, (layer, name) in enumerate(zip(spikes, names, strict=True)):
        bh.visualize.plot_raster(layer[:n_steps, 0], ax=ax, color=f"C{i}", first=first)
        ax.text(1.01, first + layer.shape[-1] / 2, name, color=f"C{i}", transform=ax.get_yaxis_transform(), va="center")
        ax.axhline(first - 0.5, color="0.8", linewidth=0.6)
        first += layer.shape[-1]
    size = spikes[-1].shape[-1] // populations
    bottom = first - spikes[-1].shape[-1] + right * size - 0.5
    ax.axhspan(bottom, bottom + size, color="0.85", zorder=0)
    ax.set(ylim=(-1, first), title="one test recording (shaded: output population of the true class)")
    return ax
