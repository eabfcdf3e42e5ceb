"""What a training run with a chip in the loop is made of, so that it can be saved and taken up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import brainstate
import brainunit as u
import numpy as np

from brainhw.silicon.program import ChipProgram

__all__ = ["content_of", "notes_of", "take_up"]


def content_of(net: brainstate.nn.Module, optimizer: Any, n_steps: int) -> dict[str, Any]:
    """Return weights, optimizer, schedules and counter."""
    return {
        "weights": {path: state.value for path, state in _parameters(net).items()},
        "optimizer": optimizer.state_dict(),
        "schedules": [schedule.state_dict() for schedule in _schedules(optimizer)],
        "n_steps": n_steps,
    }


def take_up(content: Mapping[str, Any], net: brainstate.nn.Module, optimizer: Any) -> int:
    """Put saved content in place and return its counter."""
    for path, state in _parameters(net).items():
        state.value = content["weights"][path]
    optimizer.load_state_dict(content["optimizer"])
    for schedule, saved in zip(_schedules(optimizer), content["schedules"], strict=True):
        schedule.load_state_dict(saved)
    return int(content["n_steps"])


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


def _parameters(net: brainstate.nn.Module) -> dict[str, brainstate.State]:
    return {".".join(map(str, path)): state for path, state in net.states(brainstate.ParamState).items()}


def _schedules(optimizer: Any) -> list[Any]:
    # The state of an optimizer leaves out its schedules of the learning rate.
    found = [getattr(optimizer, "lr_scheduler", None), *getattr(optimizer, "schedulers", ())]
    return list({id(one): one for one in found if hasattr(one, "state_dict")}.values())
