"""A bench in plain numpy: run the program in the folder that is the last argument, and leave output.npz there."""

import json
import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[-1])
program = json.loads((folder / "program.json").read_text())
arrays, given = np.load(folder / "program.npz"), np.load(folder / "input.npz")
chip, x = program["chip"], given["x"]
taus, V_th, C = (np.asarray(chip[name]["value"], np.float32) for name in ("tau_profiles", "V_th", "C"))


def charges(name: str, bits: int) -> np.ndarray:
    """Return the charge in fC of each code of an array."""
    return arrays[f"levels/{bits}/charge_fC"][arrays[name] - arrays[f"levels/{bits}/code"][0]]


spikes, output = {"input": x}, {"run": given["run"]}
for stage in program["stages"]:
    layer, source = stage["layer"], spikes[stage["source"]]
    synapse = charges(f"codes/{stage['synapse']}", stage["bits"])
    recurrent = charges(f"recurrent/{layer}", stage["recurrent_bits"]) if stage["recurrent_bits"] else 0
    drive = source * synapse if stage["frontend"] else source @ synapse
    decay = np.exp(-np.float32(program["dt_ms"]) / taus[arrays[f"leak/{layer}"]])
    spikes[layer], membranes = np.zeros_like(drive), np.zeros_like(drive)
    V = s = np.zeros_like(drive[0])
    for t in range(len(x)):
        charge = drive[t] + (s @ recurrent if stage["recurrent_bits"] else 0)
        V = np.maximum(decay * V + 1000 * charge / C, 0)  # fC / fF is V, and membranes are in mV
        s = (V_th <= V).astype(np.float32)
        V = V * (1 - s) if chip["reset"]["value"] == "zero" else np.maximum(V - s * V_th, 0)
        spikes[layer][t], membranes[t] = s, V
    output |= {f"spikes/{layer}": spikes[layer].astype(np.uint8), f"membranes/{layer}": membranes}
np.savez(folder / "output.npz", **output)
