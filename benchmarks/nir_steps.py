"""Error of imported NIR neurons compared with their differential equations, for several time steps.

``python -m benchmarks.nir_steps --out docs/results/nir_steps.json`` prints three tables. The first has the errors of
the firing rate for a constant current, with a reset to zero and with a reset by subtraction. The second has the errors
of a current-based neuron, as one node and as an ``LI`` node before an ``LIF`` node. The third has the steady state of a
standard LIF neuron.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import nir
import numpy as np

import brainhw as bh
from benchmarks.machine import machine
from brainhw.interop.nir import from_nir, to_nir

STEPS_MS = (2.0, 1.0, 0.5, 0.25, 0.125)
TAU_S, TAU_SYN_S = 0.02, 0.005


def ran(graph: Any, xs: np.ndarray, dt_ms: float, record: str = "", **options: Any) -> np.ndarray:
    """Run an imported graph, and return its output or one recorded state."""
    net = from_nir(graph, dt=dt_ms * u.ms, **options)
    with brainstate.environ.context(dt=dt_ms * u.ms):
        ys, seen = bh.rollout(net, xs.astype(np.float32), record=(record,) if record else ())
    return np.asarray(u.get_mantissa(seen[record] if record else ys))


def lif(n: int, v_threshold: float = 1.0) -> nir.LIF:
    """Return standard LIF neurons with R = 1 and a leak voltage of zero."""
    ones = np.ones(n)
    return nir.LIF(tau=TAU_S * ones, r=ones, v_leak=0 * ones, v_threshold=v_threshold * ones)


def rates() -> list[dict[str, float]]:
    """Return the mean relative error of the rate over currents from 1.2 to 3 times the threshold, for both resets."""
    currents, seconds = np.linspace(1.2, 3.0, 200), 4.0
    true = 1 / (TAU_S * np.log(currents / (currents - 1)))
    rows = []
    for dt in STEPS_MS:
        row = {"dt_ms": dt}
        for reset in ("zero", "subtract"):
            graph = nir.NIRGraph.from_list(lif(len(currents)))
            spikes = ran(graph, np.tile(currents, (round(seconds * 1000 / dt), 1)), dt, reset=reset)
            first, last = spikes.argmax(0), len(spikes) - 1 - spikes[::-1].argmax(0)
            # Measure the rate from the first spike to the last. The count in a fixed time would be too low by half a
            # spike on average.
            rate = (spikes.sum(0) - 1) / ((last - first) * dt / 1000)
            row[reset] = float(np.mean(rate / true - 1))
        rows.append(row)
    return rows


def current_based() -> list[dict[str, float]]:
    """Return the largest error of the membrane potential over 100 ms, for neurons that never fire."""
    one, rows = np.ones(1), []
    cuba = nir.CubaLIF(
        tau_syn=TAU_SYN_S * one, tau_mem=TAU_S * one, r=one, v_leak=0 * one, v_threshold=1e6 * one, w_in=one
    )
    li = nir.LI(tau=TAU_SYN_S * one, r=one, v_leak=0 * one)
    for dt in STEPS_MS:
        n = round(100 / dt)
        # The current is constant in blocks of 10 ms, which is a multiple of every time step used here.
        held = np.repeat(np.random.default_rng(0).normal(1, 1, 10), round(10 / dt))[:n, None]
        exact = exact_membrane(np.random.default_rng(0).normal(1, 1, 10), dt, n)
        one_node = ran(nir.NIRGraph.from_list(cuba), held, dt, "cubalif.V")[:, 0]
        two_nodes = ran(nir.NIRGraph.from_list(li, lif(1, 1e6)), held, dt, "lif.V")[:, 0]
        size = np.max(np.abs(exact))
        rows.append(
            {
                "dt_ms": dt,
                "CubaLIF": float(np.max(np.abs(one_node - exact)) / size),
                "LI, LIF": float(np.max(np.abs(two_nodes - exact)) / size),
            }
        )
    return rows


def exact_membrane(blocks: np.ndarray, dt_ms: float, n: int) -> np.ndarray:
    """Return the exact membrane potential at each step, for a current that is constant in blocks of 10 ms."""
    a, b = 1 / TAU_S, 1 / TAU_SYN_S
    v = current = 0.0
    values = []
    for block in blocks:
        times = np.arange(1, round(10 / dt_ms) + 1) * dt_ms / 1000
        decays, leaks = np.exp(-b * times), np.exp(-a * times)
        currents = block + (current - block) * decays
        membranes = block + (v - block) * leaks + (current - block) * a / (a - b) * (decays - leaks)
        values.append(membranes)
        v, current = membranes[-1], currents[-1]
    return np.concatenate(values)[:n]


def settled() -> list[dict[str, float]]:
    """Return the steady state for a constant current of 0.5, after an import, and after another export and import."""
    rows = []
    for dt in (0.1, 1.0, 5.0, 40.0):
        first = nir.NIRGraph.from_list(lif(1))
        again = to_nir(from_nir(first, dt=dt * u.ms), dt=dt * u.ms)
        xs = np.full((round(400 / dt) + 20, 1), 0.5)
        one, two = (float(ran(graph, xs, dt, "lif.V")[-1, 0]) for graph in (first, again))
        rows.append({"dt_ms": dt, "import": one, "round trip": two})
    return rows


def table(rows: list[dict[str, float]], *, orders: bool) -> str:
    """Return the rows as a Markdown table.

    With ``orders``, add the order of convergence between neighbouring time steps.
    """
    names = [name for name in rows[0] if name != "dt_ms"]
    heads = ["dt", *(head for name in names for head in ([name, "order"] if orders else [name]))]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for i, row in enumerate(rows):
        cells = [f"{row['dt_ms']:g} ms"]
        for name in names:
            cells.append(f"{row[name]:.2g}" if orders else f"{row[name]:.6f}")
            if orders:
                before = rows[i - 1]
                ratio = abs(before[name] / row[name]) if i else np.nan
                order = np.log(ratio) / np.log(before["dt_ms"] / row["dt_ms"]) if i else np.nan
                cells.append("" if not i else "rounding" if abs(row[name]) < 1e-5 else f"{order:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    content = {"rates": rates(), "current_based": current_based(), "settled": settled()}
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": machine(), **content}, indent=1) + "\n")
    for name, rows in content.items():
        print(f"{name}\n\n{table(rows, orders=name != 'settled')}\n")


if __name__ == "__main__":
    main()
