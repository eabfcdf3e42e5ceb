"""Validation accuracy after training in float32, bfloat16 and float16: ``python -m benchmarks.half_precision``.

The data are the Japanese Vowels. A quarter of the training recordings is held out for validation. Each network has 60
hidden and 45 output neurons.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u

import brainhw as bh
from benchmarks.machine import save

PRECISIONS = {"float32": 32, "bfloat16": "bf16", "float16": 16}
RATES, SEEDS, EPOCHS, N_CLASSES = (0.01, 0.001), 2, 12, 9


def lif() -> brainstate.nn.Module:
    """Return a network of LIF neurons."""
    slope = bh.surrogate.fast_sigmoid(5.0)
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(24, 60),
        bh.nn.LIFLayer(60, tau=20 * u.ms, spk_fun=slope),
        bh.nn.LIFSynapse(60, 45),
        bh.nn.LIFLayer(45, tau=20 * u.ms, spk_fun=slope),
    )


def h1v2() -> brainstate.nn.Module:
    """Return a network of H1v2 neurons with 5-bit weights."""
    return brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(24, 60, weight_bits="chip"),
        bh.nn.H1v2Layer(60, tau=20 * u.ms),
        bh.nn.H1v2Synapse(60, 45, weight_bits="chip"),
        bh.nn.H1v2Layer(45, tau=20 * u.ms),
    )


def splits() -> tuple[bh.data.Split, bh.data.Split]:
    """Return training and validation data, both from the training recordings."""
    data = bh.data.japanese_vowels()
    scaled = bh.data.fit_channel_scale(data.train).apply(data.train)
    x = bh.data.repeat_frames(bh.data.split_on_off(scaled.x), 4)
    return bh.data.hold_out(bh.data.Split(x, scaled.y, 4 * scaled.lengths), 0.25)


def run(
    train: bh.data.Split, validation: bh.data.Split, make: Callable[[], Any], precision: Any, rate: float, seed: int
) -> float:
    """Train once and return the best validation accuracy."""
    with brainstate.environ.context(precision=precision, dt=1.0 * u.ms):
        brainstate.random.seed(seed)
        net = make()
        options: dict[str, Any] = {"in_range": True} if make is h1v2 else {}
        bh.fluct_init(net, [train], families="any", xi_target=1.0, key=seed, verbose=False, **options)
        history = bh.train.fit(
            net,
            train,
            validation,
            n_classes=N_CLASSES,
            epochs=EPOCHS,
            batch_size=54,
            learning_rate=rate,
            sample_chips=False,
            seed=seed,
            progress=False,
        )
    return max(history.column("validation_accuracy"))


def main() -> None:
    """Train every network, and print and save the accuracies."""
    results = []
    train, validation = splits()
    for make, name in ((lif, "LIF"), (h1v2, "H1v2, 5-bit weights")):
        for rate in RATES:
            for label, precision in PRECISIONS.items():
                since = time.perf_counter()
                scores = [round(float(run(train, validation, make, precision, rate, seed)), 3) for seed in range(SEEDS)]
                seconds = round(time.perf_counter() - since, 1)
                row = {"network": name, "learning_rate": rate, "precision": label, "seconds": seconds}
                results.append(row | {f"seed {seed}": score for seed, score in enumerate(scores)})
                print(results[-1], flush=True)
    save("half_precision", {"rows": results})


if __name__ == "__main__":
    main()
