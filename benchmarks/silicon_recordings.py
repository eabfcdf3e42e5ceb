"""Errors of parameters that are fitted to recorded spikes, and agreement between models and chips.

``python -m benchmarks.silicon_recordings`` uses the network of ``gallery/chip_in_the_loop.py`` for the vowels, trained
on the preset. It runs on the virtual chips of that script, with and without deviations of the synapses.
:func:`brainhw.silicon.fit_recordings` gets the inputs and spikes of 50 training recordings. The thresholds and time
constants that it returns are compared with the true values. Then the test recordings run on the chip and on three
models with the same weight codes: the model of the preset, a model that was calibrated with bench tables, and a model
with the true values of the neurons. The result is the fraction of the spikes of a model that also occur on the chip in
the same step. The results are saved in ``docs/results/silicon_recordings.json``. They do not depend on the machine.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import brainstate
import numpy as np

import brainhw as bh
from benchmarks.machine import PROJECT, save

FAMILIES = ("h1v1", "h1v2")
SYNAPSES = (0.0, 0.2)
CHIPS = 3
RECORDINGS = 50


def errors_of(fit: bh.silicon.RecordingsFit, program: bh.silicon.ChipProgram, truth: Any, gain: float) -> list[Any]:
    """Return, for each layer, the relative errors of thresholds (divided by the charge gain) and time constants."""
    found = []
    for path, layer in fit.layers.items():
        at = program.physical(path)
        V_th = np.asarray(truth.V_th.mantissa)[at] / gain
        tau = np.asarray(truth.tau.mantissa)[program.leak(path), at]
        known = np.array([not why for why in layer.reasons])
        found.append(
            (
                path,
                (np.asarray(layer.threshold.mantissa) / V_th - 1)[known],
                (np.asarray(layer.tau.mantissa) / tau - 1)[known],
                known.size,
            )
        )
    return found


def agreement(net: brainstate.nn.Module, device: Any, x: np.ndarray) -> float:
    """Return the fraction of the spikes of the model that also occur on the device in the same step."""
    return bh.silicon.compare(net, device, x, explain=False).agreement


def study(gallery: Any, family: str, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of both tables for one family."""
    run = gallery.Study(gallery.options().parse_args(["--chip", family, "--out", str(folder)]))
    fits: list[dict[str, Any]] = []
    shares: list[dict[str, Any]] = []
    with brainstate.environ.context(dt=run.task.dt):
        net = run.start()
        program = bh.silicon.ChipProgram.of(net)
        split = run.train_split
        x = np.ascontiguousarray(np.swapaxes(split.x[:RECORDINGS], 0, 1), np.float32)
        for spread in SYNAPSES:
            errors: dict[str, list[Any]] = {}
            agree: dict[str, list[float]] = {}
            for key in range(CHIPS):
                spreads = {**gallery.SPREADS, "synapse_mismatch_std": spread}
                spec = bh.silicon.scaled_chip(
                    bh.chip.get_chip(family), **gallery.HIDDEN, **spreads, noise_std=gallery.NOISE
                )
                device = bh.silicon.VirtualChip(spec, key=key)
                device.program(program)
                recording = bh.silicon.Recording(device.run(x).spikes)  # spikes without membrane potentials
                fit = bh.silicon.fit_recordings(net, [x], [recording])
                for path, V_th, tau, size in errors_of(fit, program, device.truth, gallery.HIDDEN["gain"]):
                    errors.setdefault(path, []).append((V_th, tau, size))
                calibrated, true = run.calibrated(net, device, 100 * (spread > 0) + key), copy.deepcopy(net)
                bh.silicon.put_chip(true, device.truth)
                for name, model in (("preset", net), ("calibrated", calibrated), ("true neurons", true)):
                    agree.setdefault(name, []).append(agreement(model, device, run.test[0]))
            for path, parts in errors.items():
                V_th, tau = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
                fits.append(
                    {
                        "family": family,
                        "synapse spread": spread,
                        "layer": path,
                        "measured": f"{V_th.size} of {sum(part[2] for part in parts)}",
                        "V_th/C median error": round(float(np.median(np.abs(V_th))), 4),
                        "V_th/C within 5 %": round(float(np.mean(np.abs(V_th) <= 0.05)), 3),
                        "tau median error": round(float(np.median(np.abs(tau))), 4),
                        "tau within 5 %": round(float(np.mean(np.abs(tau) <= 0.05)), 3),
                    }
                )
            means = {name: round(float(np.mean(values)), 4) for name, values in agree.items()}
            shares.append({"family": family, "synapse spread": spread, **means})
    return fits, shares


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-save", action="store_true", help="print the results without saving them")
    words = parser.parse_args()
    sys.path.insert(0, str(PROJECT / "gallery"))
    gallery = importlib.import_module("chip_in_the_loop")
    fits: list[dict[str, Any]] = []
    shares: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            of_fits, of_shares = study(gallery, family, Path(folder))
            fits += of_fits
            shares += of_shares
    for row in (*fits, *shares):
        print(row)
    if not words.no_save:
        save("silicon_recordings", {"from recordings": fits, "spikes in the same step": shares})


if __name__ == "__main__":
    main()
