"""What of network and chip must be equal for a training run in the loop to be taken up."""

from __future__ import annotations

import hashlib

import brainstate
import brainunit as u
import numpy as np

from brainhw.silicon.program import ChipProgram

__all__ = ["notes_of"]


def notes_of(net: brainstate.nn.Module, program: ChipProgram) -> dict[str, str]:
    """Return what of network and chip must be the same for a resumed run to be the same run."""
    chip = hashlib.sha256(repr(program.chip).encode())
    for path, state in sorted(net.states(brainstate.LongTermState).items(), key=str):
        # A schedule of the caller sets the strength of sign annealing anew in each epoch.
        if path[-1] != "sign_alpha" and not isinstance(state, brainstate.ParamState):
            chip.update(repr(path).encode() + np.asarray(u.get_mantissa(state.value)).tobytes())
    return {
        "chip": f"{program.chip.name} {chip.hexdigest()[:16]}",
        "layers": str(program.layers),
        "placement": str(program.placement.to_list()),
        "dt": str(program.dt),
    }
