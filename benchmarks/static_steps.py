"""Accuracy on static data for several encoders and numbers of steps: ``python -m benchmarks.static_steps``.

The data are the 1,797 digits of scikit-learn, which have 64 pixels each. The network has 150 neurons of H1v2.
scikit-learn is not a dependency of brainhw. Install it first.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import numpy as np

import brainhw as bh
from benchmarks.machine import save

SEEDS, EPOCHS, N_TEST, N_CLASSES = 3, 20, 450, 10
STEPS = (10, 20, 40, 60, 100)
KEY = 7


def pixels() -> tuple[np.ndarray, np.ndarray]:
    """Return the pictures ``[1797, 64]`` with values from 0 to 1, and their classes, in a fixed random order."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit("benchmarks.static_steps requires scikit-learn: python -m pip install scikit-learn")
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return (x[order] / 16).astype(np.float32), y[order]


def net(n_in: int) -> brainstate.nn.Module:
    """Return a network of 100 hidden neurons and five output neurons for each class."""
    return brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(n_in, 100, weight_bits="chip"),
        bh.nn.H1v2Layer(100, tau=20 * u.ms),
        bh.nn.H1v2Synapse(100, 5 * N_CLASSES, weight_bits="chip"),
        bh.nn.H1v2Layer(5 * N_CLASSES, tau=20 * u.ms),
    )


def run(x: np.ndarray, y: np.ndarray, seed: int) -> float:
    """Train on encoded data ``[n, T, C]``, and return the test accuracy."""
    train, test = bh.data.Split(x[N_TEST:], y[N_TEST:]), bh.data.Split(x[:N_TEST], y[:N_TEST])
    brainstate.random.seed(seed)
    made = net(x.shape[-1])
    bh.fluct_init(made, [train.x[:256]], xi_target=1.0, in_range=True, verbose=False)
    bh.train.fit(
        made,
        train,
        n_classes=N_CLASSES,
        loss=bh.train.classifier_loss(N_CLASSES, floor=2.0),
        epochs=EPOCHS,
        batch_size=96,
        sample_chips=False,
        seed=seed,
        progress=False,
    )
    spikes, _ = bh.rollout(made, np.swapaxes(test.x, 0, 1))
    return float(bh.train.accuracy_population(spikes, test.y, N_CLASSES))


def cases() -> list[tuple[str, int, Callable[[np.ndarray], np.ndarray]]]:
    """Return the cases. Each has the name of an encoder, a number of steps, and a function that encodes the data."""
    d = bh.data
    held: list[Any] = [("hold", n, lambda x, n=n: d.hold(x, n)) for n in STEPS]
    spikes: list[Any] = [("rate_spikes", n, lambda x, n=n: d.rate_spikes(x, n, key=KEY)) for n in (60,)]
    return [
        *held,
        *spikes,
        ("latency_spikes", 60, lambda x: d.latency_spikes(x, 60)),
        ("population_currents, 3 a pixel, hold", 60, lambda x: d.hold(d.population_currents(x, 3), 60)),
    ]


def main() -> None:
    """Run all cases, save ``docs/results/static_steps.json``, and print a table."""
    x, y = pixels()
    rows = []
    print("| encoder | steps | test accuracy | single seeds | seconds a run |\n| --- | --- | --- | --- | --- |")
    with brainstate.environ.context(dt=1 * u.ms):
        for name, n_steps, encode in cases():
            start, reached = time.perf_counter(), []
            encoded = encode(x)
            for seed in range(SEEDS):
                reached.append(run(encoded, y, seed))
                jax.clear_caches()
            row = {
                "encoder": name, "steps": n_steps, "inputs": encoded.shape[-1],
                "test_accuracy": statistics.fmean(reached), "seeds": ", ".join(f"{one:.3f}" for one in reached),
            }  # fmt: skip
            rows.append(row)
            took = (time.perf_counter() - start) / SEEDS
            print(f"| {name} | {n_steps} | {row['test_accuracy']:.3f} | {row['seeds']} | {took:.1f} |", flush=True)
    save("static_steps", {"rows": rows})


if __name__ == "__main__":
    main()
