"""Accuracy of the network in ``docs/own_net.md`` with delayed inputs: ``python -m benchmarks.delayed_copies``.

There are two synthetic tasks. Each has four classes that differ only in temporal order. In the first task six channels
oscillate, each with a lag to its neighbour. The classes are the two signs of the lag and a rising or falling frequency.
In the second task a bump moves over eight channels upward, downward, outward or inward.
"""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

import jax
import numpy as np

import brainhw as bh
from benchmarks.machine import PROJECT, save

N, N_TRAIN, T, N_CLASSES = 400, 280, 100, 4
DELAYS = {"none": (0,), "0, 10, 20, 40": (0, 10, 20, 40)}


def lags(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """Return rising or falling chirps ``[N, T, 6]`` that reach the channels in ascending or descending order."""
    t = np.arange(T) / T
    f = rng.uniform(1.5, 2.5, (N, 1))
    swing = f * np.where(y % 2 == 0, 2.0, -0.5)[:, None]
    phase = 2 * np.pi * (f * t + swing * t**2 / 2) + rng.uniform(0, 2 * np.pi, (N, 1))
    lag = 0.5 * np.where(y < 2, 1, -1)[:, None, None] * np.arange(6)
    return rng.uniform(0.7, 1.3, (N, 1, 6)) * np.sin(phase[..., None] + lag) + rng.normal(0, 0.5, (N, T, 6))


def bump(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """Return a noisy tone ``[N, T, 8]`` that moves over the channels."""
    c, t = np.arange(8), np.arange(T)[:, None]
    outward = 2 * np.abs(c - 3.5) - 1
    order = np.stack([c, c[::-1], outward, 6 - outward])[y][:, None, :]
    begins, pace = rng.uniform(0, 10, (N, 1, 1)), rng.uniform(9, 12, (N, 1, 1))
    envelope = np.exp(-(((t - begins - pace * order) / 10) ** 2) / 2)
    tone = np.sin(2 * np.pi * t / rng.uniform(5, 12, (N, 1, 8)) + rng.uniform(0, 2 * np.pi, (N, 1, 8)))
    return envelope * tone + rng.normal(0, 0.2, (N, T, 8))


def run(x: np.ndarray, y: np.ndarray, delays: tuple[int, ...]) -> dict[str, float]:
    """Train the network of ``docs/own_net.md`` on these data, and return its accuracies."""
    page = (PROJECT / "docs" / "own_net.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    imports, _, rest = code.partition("\n\n")
    training = rest[rest.index("class Net") : rest.index("def score")]
    halves = {"train": bh.data.Split(x[:N_TRAIN], y[:N_TRAIN]), "test": bh.data.Split(x[N_TRAIN:], y[N_TRAIN:])}
    scale = bh.data.fit_channel_scale(halves["train"])
    names: dict[str, Any] = {"n_classes": N_CLASSES}
    for half, split in halves.items():
        copies = bh.data.delayed_copies(bh.data.split_on_off(scale.apply(split).x), delays)
        names[half] = bh.data.Split(copies, split.y)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(imports + "\n\n\n" + training, "own_net.md", "exec"), names)
    reached = {}
    for half in halves:
        spikes, _ = bh.rollout(names["net"], names[half].x.swapaxes(0, 1))
        reached[f"{half}_accuracy"] = float(bh.train.accuracy_population(spikes, names[half].y, N_CLASSES))
    jax.clear_caches()
    return reached


def main() -> None:
    """Run all trainings, save ``docs/results/delayed_copies.json``, and print a table."""
    rows = []
    print("| task | delayed copies | train | test |\n| --- | --- | --- | --- |")
    for task in (lags, bump):
        rng = np.random.default_rng(7)
        y = rng.permutation(np.arange(N) % N_CLASSES)
        x = task(rng, y).astype(np.float32)
        for words, delays in DELAYS.items():
            row = {"task": task.__name__, "delays": words, **run(x, y, delays)}
            rows.append(row)
            print(
                f"| {task.__name__} | {words} | {row['train_accuracy']:.3f} | {row['test_accuracy']:.3f} |", flush=True
            )
    save("delayed_copies", {"rows": rows})


if __name__ == "__main__":
    main()
