"""Small recordings of different lengths with names of classes, for the tests of the recipe."""

from __future__ import annotations

import numpy as np


def recordings(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return waves of two channels that rise, fall or swing: three classes with names, of different lengths."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(15, 31, n)
    kinds = np.arange(n) % 3
    t = np.arange(30) / lengths[:, None]
    shapes = np.stack([t, 1 - t, np.sin(2 * np.pi * 3 * t)])[kinds, np.arange(n)]
    x = np.stack([shapes, -shapes], axis=-1) + 0.3 * rng.normal(size=(n, 30, 2))
    x[np.arange(30) >= lengths[:, None]] = 0
    return x.astype(np.float32), np.array(["rise", "fall", "swing"])[kinds], lengths
