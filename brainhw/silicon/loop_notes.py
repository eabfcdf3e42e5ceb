"""Properties of network and chip that must match to resume chip-in-the-loop training."""

from __future__ import annotations

import hashlib

import brainstate
import brainunit as u
import numpy as np

from brainhw.silicon.program import ChipProgram

__all__ = ["notes_of"]


def notes_of(net: brainstate.nn.Module, program: ChipProgram) -> dict[str, str]:
    """Return the properties of network and chip that must be the same in a saved run and in a resumed run."""
    chip = hashlib.sha256(repr(program.chip).encode())
    for path, state in sorted(net.states(brainstate.LongTermState).items(), key=str):
        # Exclude the strength of sign annealing, which the caller's schedule sets in each epoch.
        if path[-1] != "sign_alpha" and not isinstance(state, brainstate.ParamState):
            chip.update(repr(path).encode() + np.asarray(u.get_mantissa(state.value)).tobytes())
    return {
        "chip": f"{program.chip.name} {chip.hexdigest()[:16]}",
        "layers": str(program.layers),
        "placement": str(program.placement.to_list()),
        "dt": str(program.dt),
    }
