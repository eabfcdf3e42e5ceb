"""Valid calls of the fit from recordings and of the comparison of ``brainhw.silicon``."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import numpy as np
from valid_calls import add

import brainhw as bh


def bench_run() -> tuple[Any, np.ndarray, Any]:
    """Return a net of one layer, an input, and what a bench would record of it."""
    net = brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(4, 2, weight_init=np.full((4, 2), 1.66, np.float32), weight_bits="chip"),
        bh.nn.H1v2Layer(2, tau=20 * u.ms),
    )
    x = np.random.default_rng(0).poisson(1.0, (60, 10, 4)).astype(np.float32)
    with brainstate.environ.context(dt=1.0 * u.ms):
        spikes, _ = bh.rollout(net, x)
        return bh.silicon.ChipProgram.of(net).to_net(), x, bh.silicon.Recording({"layers.1": np.asarray(spikes)})


@add("silicon.fit_recordings")
def fit_recordings() -> Any:
    net, x, recording = bench_run()
    return bh.silicon.fit_recordings, {
        "net": ("net", net),
        "xs": ("data", x),
        "recordings": ("record", recording),
        "min_spikes": ("count", 20),
        "largest_error": ("positive number", 0.5),
        "per_layer": ("flag", False),
        "progress": ("flag", False),
    }


def bench() -> Any:
    return bh.silicon.VirtualChip(bh.chip.H1V2, 7)


def compared() -> Any:
    net, x, _ = bench_run()
    return bh.silicon.compare(net, bench(), x, explain=False)


@add("silicon.compare")
def compare() -> Any:
    net, x, _ = bench_run()
    return bh.silicon.compare, {
        "net": ("net", net),
        "device": ("device", bench()),
        "x": ("data", x),
        "y": ("optional data", np.arange(10) % 2),
        "n_trials": ("count", 1),
        "n_classes": ("optional count", 2),
        "explain": ("flag", False),
        "progress": ("flag", False),
    }


@add("Comparison.worst")
def worst() -> Any:
    return compared().worst, {"n": ("count", 3)}


@add("Comparison.table")
def table() -> Any:
    return compared().table, {"n": ("whole", 3)}


@add("visualize.plot_comparison")
def plot_comparison() -> Any:
    return bh.visualize.plot_comparison, {"comparison": ("a comparison", compared())}
