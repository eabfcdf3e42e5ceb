"""Import NIR files of snnTorch networks with every reset mechanism, and count the spikes that differ.

``python -m benchmarks.nir_snntorch --python PATH`` prints the counts and saves ``docs/results/nir_snntorch.json``.
``PATH`` is the interpreter of an environment with snnTorch and nir. snnTorch builds, runs and exports the networks.
brainhw imports the files and runs them on the same input.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import PROJECT, save

# The time step of snnTorch's export is always 0.1 ms.
DT_MS = 0.1
N_STEPS, N_IN, N_HIDDEN, N_OUT = 256, 12, 8, 4
# Neurons of snnTorch, and the scale of the weights, for which an output neuron spikes in about a third of the steps.
SCALE = {"Leaky": 1.0, "Synaptic": 0.18, "RLeaky": 1.0}
# Options of the neurons of snnTorch: mechanism, and whether the reset is delayed by one step.
RESETS = (("zero", False), ("zero", True), ("subtract", False), ("subtract", True), ("none", False))


def work(folder: str) -> None:
    """Build, run and export the networks with snnTorch, in the folder with the input."""
    import nir
    import snntorch as snn
    import torch
    from snntorch.export_nir import export_to_nir

    xs = torch.from_numpy(np.load(Path(folder) / "input.npy"))
    found = {}
    for name, scale in SCALE.items():
        for mechanism, delay in RESETS:
            torch.manual_seed(0)
            options = {"reset_mechanism": mechanism, "reset_delay": delay, "init_hidden": True}

            def neurons(n: int, last: bool, name: str = name, options: dict[str, Any] = options) -> Any:
                # The export needs one value for each neuron.
                each = {"beta": torch.full((n,), 0.9), "threshold": torch.ones(n)}
                each |= {"alpha": torch.full((n,), 0.8)} if name == "Synaptic" else {}
                more = {"all_to_all": True, "linear_features": n} if name == "RLeaky" else {}
                return getattr(snn, name)(output=last, **each, **options, **more)

            net = torch.nn.Sequential(
                torch.nn.Linear(N_IN, N_HIDDEN), neurons(N_HIDDEN, False),
                torch.nn.Linear(N_HIDDEN, N_OUT), neurons(N_OUT, True),
            )  # fmt: skip
            with torch.no_grad():
                for layer in (net[0], net[2]):
                    layer.weight.copy_(layer.weight.abs() * scale)
                    layer.bias.zero_()
                spikes = [net(x[None])[0] for x in xs]
                nir.write(Path(folder) / f"{name} {mechanism} {delay}.nir", export_to_nir(net, xs[0]))
            found[f"{name} {mechanism} {delay}"] = torch.cat(spikes).numpy()
    found["version"] = np.array(snn.__version__)
    np.savez(Path(folder) / "spikes.npz", **found)


def run(python: str) -> dict[str, Any]:
    """Return the number of spikes that differ, for each kind of neuron and reset."""
    import brainstate
    import brainunit as u

    import brainhw as bh
    from brainhw.interop.nir import from_nir

    xs = (np.random.default_rng(0).random((N_STEPS, N_IN)) < 0.3).astype(np.float32)
    dt = DT_MS * u.ms
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "input.npy", xs)
        worker = [python, "-m", "benchmarks.nir_snntorch", "--worker", folder]
        subprocess.run(worker, cwd=PROJECT, check=True, timeout=600)
        with np.load(Path(folder) / "spikes.npz") as held:
            theirs = dict(held)
        for name in SCALE:
            for mechanism, delay in RESETS:
                key = f"{name} {mechanism} {delay}"
                net = from_nir(Path(folder) / f"{key}.nir", dt=dt, discretisation="euler")
                with brainstate.environ.context(dt=dt):
                    ours = np.asarray(bh.rollout(net, xs)[0])
                rows.append(
                    {
                        "neuron": name,
                        "reset_mechanism": mechanism,
                        "reset_delay": delay,
                        "differ": int(np.sum(ours != theirs[key])),
                        "of": int(ours.size),
                        "spikes": int(ours.sum()),
                        "their_spikes": int(theirs[key].sum()),
                    }
                )
    versions = {"brainhw": bh.__version__, "snntorch": str(theirs["version"])}
    return {"dt_ms": DT_MS, "steps": N_STEPS, "versions": versions, "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="interpreter of an environment with snnTorch and nir")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
    else:
        results = run(options.python)
        for row in results["rows"]:
            print(row)
        save("nir_snntorch", results)
