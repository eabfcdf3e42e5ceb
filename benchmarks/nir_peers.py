r"""Run NIR graphs of brainhw in other libraries, and count the outputs that differ.

    python -m benchmarks.nir_peers --python jaxpike=PATH spyx=PATH snntorch,norse,rockpool=PATH sinabs=PATH \
        --out docs/results/nir_peers.json

``PATH`` is the interpreter of an environment with the libraries before it. It does not need brainhw. A reader is a
library that reads NIR files. Each reader gets a file and an input, and returns the output of the graph in each step.
The last table is about networks that were trained on Japanese Vowels and exported with the options for each reader. It
counts the outputs on the test recordings that differ.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine

# The time step is that of snnTorch, whose reader does not support any other.
DT_S = 1e-4
N_STEPS, N_IN, N_OUT = 400, 12, 6
READERS = ("brainhw", "jaxpike", "snntorch", "norse", "spyx")
MORE_READERS = ("sinabs", "rockpool")
# Readers whose modules are changed by hand after they have read the graph.
SET_BY_HAND = ("sinabs, one spike a step", "rockpool, dt, one spike a step, one decay")
WRITTEN: dict[str, dict[str, Any]] = {
    "exact, factor in the weights": {},
    "exact, factor in R": {"gain": "R"},
    "euler, factor in the weights": {"discretisation": "euler"},
    "euler, factor in R": {"discretisation": "euler", "gain": "R"},
}


def nets() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return the networks to export, with their export options."""
    import brainstate
    import brainunit as u

    import brainhw as bh

    rng = np.random.default_rng(0)

    def weights(n_in: int, n_out: int, mean: float = 0.12) -> Any:
        return rng.normal(mean, 0.15, (n_in, n_out)).astype(np.float32) * u.mV

    def layers(last: Any = None, **options: Any) -> Any:
        hidden = bh.nn.LIFLayer(8, **{"tau": 2.0 * u.ms, "reset": "zero", **options})
        end = bh.nn.LIFLayer(N_OUT, tau=3.0 * u.ms, reset=options.get("reset", "zero")) if last is None else last
        first = [bh.nn.LIFSynapse(N_IN, 8, weight_init=weights(N_IN, 8)), hidden]
        between = [] if last is not None else [bh.nn.LIFSynapse(8, N_OUT, weight_init=weights(8, N_OUT, 0.3))]
        return brainstate.nn.Sequential(*first, *between, end)

    recurrent = {"topology": "RC", "recurrent_init": weights(8, 8, 0.0)}
    each = np.geomspace(1.0, 5.0, 8).astype(np.float32) * u.ms
    readout = bh.nn.LeakyReadout(8, N_OUT, tau=4.0 * u.ms, weight_init=rng.normal(0, 1, (8, N_OUT)).astype(np.float32))
    synapse = bh.nn.LIFSynapse(N_IN, 8, weight_init=weights(N_IN, 8, 0.03))
    current = bh.nn.CubaLIFLayer(8, tau_mem=2.0 * u.ms, tau_syn=1.0 * u.ms, max_spikes_per_step=1)
    return {
        "two LIF layers": (layers(), {}),
        "recurrent LIF": (layers(**recurrent), {}),
        "a time constant for each neuron": (layers(tau=each), {}),
        "LIF and leaky readout": (layers(last=readout), {}),
        "LIF that subtracts": (layers(reset="subtract"), {"reset": "continuous"}),
        "current-based LIF": (brainstate.nn.Sequential(synapse, current), {"reset": "continuous"}),
    }


def read_brainhw(path: str, xs: np.ndarray, dt: float) -> np.ndarray:
    """Run a graph with brainhw."""
    import brainstate
    import brainunit as u

    import brainhw as bh
    from brainhw.interop.nir import from_nir

    with brainstate.environ.context(dt=dt * 1000 * u.ms):
        return np.asarray(bh.rollout(from_nir(path, dt=dt * 1000 * u.ms), xs)[0])


def read_jaxpike(path: str, xs: np.ndarray, dt: float) -> np.ndarray:
    """Run a graph with jaxpike."""
    import jax.numpy as jnp
    from jaxpike import nir as bridge
    from jaxpike import unroll

    return np.asarray(unroll(bridge.load(path, dt_seconds=dt), jnp.asarray(xs))[0])


def read_spyx(path: str, xs: np.ndarray, dt: float) -> np.ndarray:
    """Run a graph with Spyx."""
    import jax.numpy as jnp
    import nir
    from spyx.nir import from_nir

    return np.asarray(from_nir(nir.read(path), jnp.asarray(xs), dt=dt)[1])


def read_snntorch(path: str, xs: np.ndarray, dt: float) -> np.ndarray:
    """Run a graph with snnTorch, whose time step is 0.1 ms."""
    import nir
    from snntorch.import_nir import import_from_nir

    return _torch_steps(import_from_nir(nir.read(path)), xs)


def read_norse(path: str, xs: np.ndarray, dt: float) -> np.ndarray:
    """Run a graph with Norse."""
    import nir
    import norse.torch as norse

    return _torch_steps(norse.from_nir(nir.read(path), dt=dt), xs)


def read_sinabs(path: str, xs: np.ndarray, dt: float, *, single: bool = False) -> np.ndarray:
    """Run a graph with sinabs, whose time constants are numbers of steps.

    All samples are one sequence, one after the other.
    """
    import nir
    import sinabs.activation
    import sinabs.nir
    import torch

    net = sinabs.nir.from_nir(nir.read(path), batch_size=xs.shape[1])
    if single:
        for module in net.modules():
            if hasattr(module, "spike_fn"):
                module.spike_fn = sinabs.activation.SingleSpike
    with torch.no_grad():
        # Its layers take the batch and the time as one axis: [B T, N].
        given = net(torch.as_tensor(np.moveaxis(xs, 0, 1).reshape(-1, xs.shape[-1])))
    ys = (given[0] if isinstance(given, tuple) else given).numpy()
    return np.moveaxis(ys.reshape(xs.shape[1], xs.shape[0], -1), 1, 0)


def read_rockpool(path: str, xs: np.ndarray, dt: float, *, single: bool = False) -> np.ndarray:
    """Run a graph with Rockpool, which derives the time step from ``R``."""
    import nir
    import torch
    from rockpool.nn.modules.torch.nir import from_nir

    net = from_nir(nir.read(path))
    if single:
        shares = []
        for module in net.modules():
            if hasattr(module, "max_spikes_per_dt"):
                module.dt, module.max_spikes_per_dt = dt, torch.tensor(1.0)
                shares.append(float(torch.exp(-dt / torch.as_tensor(module.tau_syn)).ravel()[0]))
        for module in net.modules():
            # The neurons of Rockpool multiply the input by a decay factor. The weights of the graph already contain
            # this factor.
            if type(module).__name__ == "LinearTorch":
                module.weight.data /= shares[0]
    with torch.no_grad():
        given = net(torch.as_tensor(np.moveaxis(xs, 0, 1)))
    return np.moveaxis((given[0] if isinstance(given, tuple) else given).numpy(), 1, 0)


def _torch_steps(net: Any, xs: np.ndarray) -> np.ndarray:
    import torch

    state, outputs = None, []
    with torch.no_grad():
        for x in torch.as_tensor(xs):
            given = net(x) if state is None else net(x, state)
            out, state = given if isinstance(given, tuple) else (given, None)
            outputs.append(out[0] if isinstance(out, tuple) else out)
    return torch.stack(outputs).numpy()


LIBRARIES: dict[str, Callable[[str, np.ndarray, float], np.ndarray]] = {
    "brainhw": read_brainhw,
    "jaxpike": read_jaxpike,
    "snntorch": read_snntorch,
    "norse": read_norse,
    "spyx": read_spyx,
    "sinabs": read_sinabs,
    "sinabs, one spike a step": functools.partial(read_sinabs, single=True),
    "rockpool": read_rockpool,
    "rockpool, dt, one spike a step, one decay": functools.partial(read_rockpool, single=True),
}


def work(reader: str, folder: str) -> None:
    """Run every graph of a folder with one reader. Save its outputs, and its errors as text, in the folder."""
    version = None
    if reader != "brainhw":
        version = importlib.metadata.version(reader.split(",", maxsplit=1)[0])
    told: dict[str, Any] = {"version": version, "errors": {}}
    found: dict[str, Any] = {}
    xs = np.load(Path(folder) / "input.npy")  # [T, B, N]
    dt = json.loads((Path(folder) / "dt.json").read_text())
    own = sorted(Path(folder).glob(f"{reader} *.nir"))
    for path in own or sorted(Path(folder).glob("g*.nir")):
        try:
            found[path.stem] = LIBRARIES[reader](str(path), xs, dt)
        except Exception as error:  # any error of a library is part of the result
            lines = [line for line in str(error).strip().splitlines() if line.strip()] or [""]
            told["errors"][path.stem] = f"{type(error).__name__}: {lines[0][:160]}"
    np.savez(Path(folder) / f"{reader}.npz", **found)
    (Path(folder) / f"{reader}.json").write_text(json.dumps(told))


def compare(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Return the number of outputs that differ. Spikes must be equal, and other values equal up to rounding errors."""
    if ours.shape != theirs.shape:
        return {"shape": list(theirs.shape)}
    spiking = bool(np.all((ours == 0) | (ours == 1)))
    largest = float(np.max(np.abs(ours)))
    differing = ours != theirs if spiking else np.abs(ours - theirs) > 1e-4 * largest
    counts = {"spikes": int(ours.sum()), "their_spikes": float(theirs.sum())} if spiking else {}
    return {
        "differ": int(differing.sum()),
        "of": int(ours.size),
        **counts,
        "largest": float(np.abs(ours - theirs).max()),
    }


def run(pythons: dict[str, str]) -> dict[str, Any]:
    """Export the networks, run every reader, and compare its outputs with those of brainhw."""
    import brainstate
    import brainunit as u
    import nir

    import brainhw as bh
    from brainhw.interop.nir import from_nir, to_nir

    dt = DT_S * 1000 * u.ms
    xs = (np.random.default_rng(1).random((N_STEPS, N_IN)) < 0.2).astype(np.float32)
    rows: list[dict[str, Any]] = []
    versions: dict[str, str | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "input.npy", xs[:, None])
        (Path(folder) / "dt.json").write_text(json.dumps(DT_S))
        graphs: dict[str, tuple[str, str, np.ndarray, np.ndarray | None]] = {}
        for name, (net, needs) in nets().items():
            with brainstate.environ.context(dt=dt):
                own = np.asarray(bh.rollout(net, xs)[0])
            for written, options in WRITTEN.items():
                stem = f"g{len(graphs)}"
                nir.write(Path(folder) / f"{stem}.nir", to_nir(net, dt=dt, **needs, **options))
                zero = None
                if needs:
                    with brainstate.environ.context(dt=dt):
                        back = from_nir(Path(folder) / f"{stem}.nir", dt=dt, reset="zero")
                        zero = np.asarray(bh.rollout(back, xs)[0])
                graphs[stem] = (name, written, own, zero)
        for reader in READERS:
            told, found = _let_run(reader, pythons, folder)
            if told is None:
                continue
            versions[reader] = told["version"] or bh.__version__
            for stem, (name, written, own, zero) in graphs.items():
                row = {"reader": reader, "net": name, "written": written}
                if stem in told["errors"]:
                    rows.append({**row, "error": told["errors"][stem]})
                else:
                    ys = found[stem][:, 0]
                    same = {} if zero is None else {"differ_from_reset_to_zero": int(np.sum(zero != ys))}
                    rows.append({**row, **compare(own, ys), **same})
    return {"dt_ms": DT_S * 1000, "steps": N_STEPS, "versions": versions, "rows": rows}


def _let_run(reader: str, pythons: dict[str, str], folder: str) -> tuple[dict[str, Any] | None, dict[str, np.ndarray]]:
    """Return the report and the outputs of one reader for all graphs of a folder.

    If it did not run, the report is ``None``.
    """
    library = reader.split(",", maxsplit=1)[0]
    python = sys.executable if library == "brainhw" else pythons.get(library)
    if python is None:
        print(f"{reader}: skipped, because --python names no interpreter for it", file=sys.stderr)
        return None, {}
    job = [python, os.path.abspath(__file__), "--worker", reader, folder]
    # Fix the hash seed, because some readers visit the nodes of a graph in the order of a Python set.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(job, env=environment, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode:
        print(f"{reader}: failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}", file=sys.stderr)
        return None, {}
    told = json.loads((Path(folder) / f"{reader}.json").read_text())
    with np.load(Path(folder) / f"{reader}.npz") as held:
        return told, dict(held)


def run_trained(pythons: dict[str, str]) -> dict[str, Any]:
    """Train the networks, export each for every reader, and count the outputs that differ."""
    import brainstate
    import brainunit as u
    import nir

    import brainhw as bh
    from benchmarks.nir_trained import DT_MS, trained, written_for
    from brainhw.interop.nir import from_nir

    made, xs = trained()
    dt = DT_MS * u.ms
    rows: list[dict[str, Any]] = []
    versions: dict[str, str | None] = {}
    for reader in (*READERS, *MORE_READERS, *SET_BY_HAND):
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "input.npy", xs)
            (Path(folder) / "dt.json").write_text(json.dumps(DT_MS / 1000))
            zeros = {}
            for i, (net, needs, own, _) in enumerate(made.values()):
                graph = written_for(net, reader, needs)
                nir.write(Path(folder) / f"{reader} {i}.nir", graph)
                zeros[i] = own
                if needs and reader == "brainhw":
                    with brainstate.environ.context(dt=dt):
                        zeros[i] = np.asarray(bh.rollout(from_nir(graph, dt=dt, reset="zero"), xs)[0])
            if reader == "brainhw":
                reset_to_zero = zeros
            told, found = _let_run(reader, pythons, folder)
        if told is None:
            continue
        versions[reader] = told["version"] or bh.__version__
        for i, (name, (_, needs, own, accuracy)) in enumerate(made.items()):
            row = {"reader": reader, "net": name, "accuracy": accuracy}
            if f"{reader} {i}" in told["errors"]:
                rows.append({**row, "error": told["errors"][f"{reader} {i}"]})
                continue
            ys = found[f"{reader} {i}"]
            row |= compare(own, ys)
            if row.get("differ"):
                row["fires_more_than_once"] = int(np.sum(ys > 1))
                # Some readers compare the membrane potential of the previous step with the threshold, which delays each
                # layer by one step.
                late = {k: int(np.sum(own[:-k] != ys[k:])) for k in (1, 2)}
                row["differ_when_later_by"] = late
                if needs:
                    row["differ_from_reset_to_zero"] = int(np.sum(reset_to_zero[i] != ys))
            rows.append(row)
    return {"dt_ms": DT_MS, "shape": list(xs.shape), "versions": versions, "rows": rows}


def trained_table(content: dict[str, Any]) -> str:
    """Return a Markdown table of the number of differing outputs of trained networks, one row for each reader."""
    names = list(dict.fromkeys(row["net"] for row in content["rows"]))
    lines = [f"| reader | {' | '.join(names)} |", f"|{' --- |' * (len(names) + 1)}"]
    for reader in content["versions"]:
        cells = {row["net"]: row for row in content["rows"] if row["reader"] == reader}
        lines.append(f"| {reader} | {' | '.join(str(_count(cells[name])) for name in names)} |")
    return "\n".join(lines)


def _count(row: dict[str, Any]) -> str:
    return "error" if "error" in row else "different shape" if "shape" in row else f"{row['differ']:,}"


def table(content: dict[str, Any]) -> str:
    """Return the results as a Markdown table, one row for each network and set of export options."""
    readers = list(content["versions"])
    heads = ["network", "written", *(f"{name} {content['versions'][name]}" for name in readers)]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    cells = {(row["net"], row["written"], row["reader"]): _words(row) for row in content["rows"]}
    for net, written in dict.fromkeys((row["net"], row["written"]) for row in content["rows"]):
        lines.append(f"| {net} | {written} | {' | '.join(cells[net, written, reader] for reader in readers)} |")
    return "\n".join(lines)


def _words(row: dict[str, Any]) -> str:
    if "error" in row:
        return "error"
    if "shape" in row:
        return f"different shape {row['shape']}"
    if row["differ"] == 0:
        return f"the same {row['spikes']} spikes" if "spikes" in row else "the same"
    if "spikes" in row:
        return f"{row['their_spikes']:g} spikes for {row['spikes']}, {row['differ']} of {row['of']} differ"
    return f"{row['differ']} of {row['of']} differ, by up to {row['largest']:.2g}"


def _python(text: str) -> tuple[str, str]:
    names, _, path = text.partition("=")
    known = (*READERS, *MORE_READERS)
    if not path or set(names.split(",")) - set(known):
        raise argparse.ArgumentTypeError(
            f"expected READER[,READER...]=PATH, got {text!r}. The readers are {', '.join(known)}"
        )
    # Do not resolve links, because Python finds a virtual environment by its link.
    return names, os.path.abspath(path) if os.sep in path else path


def main() -> None:
    """Run the comparison with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="+", action="extend", type=_python, default=[], metavar="READER=PATH")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--worker", nargs=2, metavar=("READER", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(*arguments.worker)
        return
    pythons = {name: path for names, path in arguments.python for name in names.split(",")}
    content = {**run(pythons), "trained": run_trained(pythons)}
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": machine(), **content}, indent=1) + "\n")
    print(table(content), trained_table(content["trained"]), sep="\n\n")


if __name__ == "__main__":
    main()
