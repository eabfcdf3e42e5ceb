"""Valid calls of tables, fits and calibration of the wing ``brainhw.silicon``, and of their figures."""

from __future__ import annotations

import functools
from typing import Any

import brainunit as u
import numpy as np
from matplotlib import pyplot as plt
from valid_calls import add

import brainhw as bh
from brainhw import silicon

CODES = np.arange(-15, 16)
ZEROS = np.zeros(4, int)


@functools.cache
def bench() -> Any:
    return silicon.synthetic_bench("H1v1", seed=0, neurons=[0, 1], inputs=[1, 2, 3, 6, 11], window=0.2 * u.second)


@functools.cache
def calibration() -> Any:
    held = bench()
    return silicon.calibrate(held.charge, held.decays, held.rates, chip="H1v1", progress=False)


def noise_fit() -> Any:
    V = 50 + np.random.default_rng(0).normal(0, 1, (5, 50, 2))
    return silicon.fit_noise(V * u.mV, tau=10 * u.ms)


@add("silicon.ChargeTable")
def charge_table() -> Any:
    return silicon.ChargeTable, {
        "code": ("rows", CODES),
        "synapse": ("rows", 0 * CODES),
        "charge": ("fC", 0.06 * CODES * u.fcoulomb),
        "trial": ("optional rows", 0 * CODES),
    }


@add("silicon.DecayTable")
def decay_table() -> Any:
    return silicon.DecayTable, {
        "setting": ("rows", ZEROS),
        "neuron": ("rows", ZEROS),
        "t": ("ms", np.arange(4.0) * u.ms),
        "V": ("mV", [4.0, 3.0, 2.0, 1.0] * u.mV),
        "trial": ("optional rows", ZEROS),
    }


@add("silicon.RateTable")
def rate_table() -> Any:
    return silicon.RateTable, {
        "neuron": ("rows", ZEROS),
        "inputs": ("rows", np.arange(4)),
        "rate": ("ms", [0.0, 10.0, 20.0, 30.0] * u.Hz),
        "code": ("optional rows", ZEROS + 15),
        "setting": ("optional rows", ZEROS),
        "window": ("optional window", 1.0 * u.second),
        "trial": ("optional rows", ZEROS),
    }


@add("silicon.read_table", path="table")
def read_table() -> Any:
    bench().save(".")
    return silicon.read_table, {"path": ("path", "charge.csv"), "call": ("call", "read_table")}


@add("silicon.fit_charge")
def fit_charge() -> Any:
    return silicon.fit_charge, {"table": ("table", bench().charge), "chip": ("chip", "H1v1")}


@add("silicon.fit_leak")
def fit_leak() -> Any:
    return silicon.fit_leak, {"table": ("table", bench().decays)}


@add("silicon.fit_threshold")
def fit_threshold() -> Any:
    return silicon.fit_threshold, {
        "table": ("table", bench().rates),
        "chip": ("chip", "H1v1"),
        "charge": ("optional fit", calibration().charge),
        "leak": ("optional fit", calibration().leak),
        "setting": ("optional place", 1),
        "noise_std": ("optional positive mV", 1.5 * u.mV),
        "dt": ("ms", 1.0 * u.ms),
        "progress": ("flag", False),
    }


@add("silicon.fit_noise")
def fit_noise() -> Any:
    return silicon.fit_noise, {
        "V": ("mV", (50 + np.random.default_rng(0).normal(0, 1, (5, 50, 2))) * u.mV),
        "tau": ("ms", 10.0 * u.ms),
        "dt": ("ms", 1.0 * u.ms),
    }


@add("silicon.calibrate", rates_setting="setting", **{"*tables": "table"})
def calibrate() -> Any:
    return silicon.calibrate, {
        "*tables": ("table", bench().rates),
        "chip": ("chip", "H1v1"),
        "settings": ("optional settings", {0: 3}),
        "rates_setting": ("optional place", 0),
        "noise_std": ("optional positive mV", 1.5 * u.mV),
        "dt": ("ms", 1.0 * u.ms),
        "name": ("optional line", "chip 7"),
        "progress": ("flag", False),
    }


@add("silicon.synthetic_bench")
def synthetic_bench() -> Any:
    return silicon.synthetic_bench, {
        "chip": ("chip", "H1v1"),
        "seed": ("whole", 0),
        "neurons": ("distinct", [0, 1]),
        "profiles": ("distinct", [3, 4]),
        "rates_setting": ("place", 0),
        "synapses": ("short count", 3),
        "inputs": ("distinct", [1, 6]),
        "window": ("ms", 10.0 * u.ms),
        "noise_std": ("optional positive mV", 1.5 * u.mV),
        "gain_std": ("nonnegative number", 0.03),
        "charge_noise": ("nonnegative fC", 0.01 * u.fcoulomb),
        "read_noise": ("nonnegative mV", 0.4 * u.mV),
        "drive_gains": ("flag", True),
        "dt": ("ms", 1.0 * u.ms),
    }


@add("SyntheticBench.save")
def save() -> Any:
    return bench().save, {"folder": ("path of an old folder", ".")}


def axes() -> Any:
    return plt.subplots()[1]


@add("visualize.plot_charge_fit")
def plot_charge_fit() -> Any:
    return bh.visualize.plot_charge_fit, {
        "fit": ("fit", calibration().charge),
        "preset": ("optional fit", bh.chip.H1V1.charge),
        "ax": ("optional axes", axes()),
    }


@add("visualize.plot_leak_fit")
def plot_leak_fit() -> Any:
    return bh.visualize.plot_leak_fit, {"fit": ("fit", calibration().leak), "ax": ("optional axes", axes())}


@add("visualize.plot_threshold_fit")
def plot_threshold_fit() -> Any:
    return bh.visualize.plot_threshold_fit, {"fit": ("fit", calibration().threshold), "ax": ("optional axes", axes())}


@add("visualize.plot_rate_fit")
def plot_rate_fit() -> Any:
    return bh.visualize.plot_rate_fit, {"fit": ("fit", calibration().threshold), "ax": ("optional axes", axes())}


@add("visualize.plot_noise_fit")
def plot_noise_fit() -> Any:
    return bh.visualize.plot_noise_fit, {"fit": ("fit", noise_fit()), "ax": ("optional axes", axes())}


@add("visualize.plot_calibration")
def plot_calibration() -> Any:
    return bh.visualize.plot_calibration, {"calibration": ("fit", calibration())}
