"""A bench in the standard library alone that reads and writes CSV; the model in plain loops."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

folder = Path(sys.argv[-1])


def rows(name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def main() -> None:
    program = json.loads((folder / "program.json").read_text(encoding="utf-8"))
    given = json.loads((folder / "input.json").read_text(encoding="utf-8"))
    chip = program["chip"]
    taus, V_th, C = (chip[name]["value"] for name in ("tau_profiles", "V_th", "C"))
    charge = {(row["bits"], row["code"]): float(row["charge_fC"]) for row in rows("levels.csv")}
    # Of each synapse the charges by the neuron behind it.
    codes: dict[str, Any] = defaultdict(lambda: defaultdict(list))
    for row in rows("codes.csv"):
        codes[row["synapse"]][int(row["post"])].append((int(row["pre"]), row["code"]))
    decay = {
        (row["layer"], int(row["index"])): math.exp(-program["dt_ms"] / taus[int(row["leak"])])
        for row in rows("neurons.csv")
    }
    value = {
        ("input", int(row["step"]), int(row["sample"]), int(row["channel"])): float(row["value"])
        for row in rows("input.csv")
    }
    spikes, membranes = ["layer,step,sample,neuron"], ["layer,step,sample,neuron,V_mV"]
    for stage in program["stages"]:
        layer = stage["layer"]
        for sample in range(given["samples"]):
            V = [0.0] * stage["neurons"]
            for step in range(given["steps"]):
                for neuron in range(stage["neurons"]):
                    Q = 0.0
                    for pre, code in codes[stage["synapse"]][neuron]:
                        Q += value.get((stage["source"], step, sample, pre), 0) * charge[str(stage["bits"]), code]
                    if stage["recurrent_bits"] is not None:
                        for pre, code in codes[layer][neuron]:
                            key = str(stage["recurrent_bits"]), code
                            Q += value.get((layer, step - 1, sample, pre), 0) * charge[key]
                    V[neuron] = max(decay[layer, neuron] * V[neuron] + 1000 * Q / C, 0)
                    if V[neuron] >= V_th:
                        value[layer, step, sample, neuron] = 1
                        V[neuron] = 0 if chip["reset"]["value"] == "zero" else max(V[neuron] - V_th, 0)
                        spikes.append(f"{layer},{step},{sample},{neuron}")
                    membranes.append(f"{layer},{step},{sample},{neuron},{V[neuron]}")
    (folder / "spikes.csv").write_text("\n".join(spikes) + "\n", encoding="utf-8")
    (folder / "membranes.csv").write_text("\n".join(membranes) + "\n", encoding="utf-8")
    counts = {"run": given["run"], "spikes": len(spikes) - 1, "membranes": len(membranes) - 1}
    (folder / "output.json").write_text(json.dumps(counts), encoding="utf-8")


main()
