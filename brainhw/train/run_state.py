"""State of a training run for saving and resuming: weights, optimizer, schedules, progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import brainstate

__all__ = ["content_of", "parameters_of", "restore_content"]


def content_of(net: brainstate.nn.Module, optimizer: Any, n_done: int) -> dict[str, Any]:
    """Return a pytree of the weights, the states of optimizer and learning rate schedules, and ``n_done``.

    ``n_done`` is the number of completed updates or epochs, as the caller counts.
    """
    return {
        "weights": {path: state.value for path, state in parameters_of(net).items()},
        "optimizer": optimizer.state_dict(),
        "schedules": [schedule.state_dict() for schedule in _schedules(optimizer)],
        "n_steps": n_done,
    }


def restore_content(content: Mapping[str, Any], net: brainstate.nn.Module, optimizer: Any) -> int:
    """Restore the network and the optimizer from a result of :func:`content_of`, and return its ``n_done``."""
    for path, state in parameters_of(net).items():
        state.value = content["weights"][path]
    optimizer.load_state_dict(content["optimizer"])
    for schedule, saved in zip(_schedules(optimizer), content["schedules"], strict=True):
        schedule.load_state_dict(saved)
    return int(content["n_steps"])


def parameters_of(net: brainstate.nn.Module) -> dict[str, brainstate.State]:
    """Return a dict from the dotted path of each ``ParamState`` of a network to the state."""
    return {".".join(map(str, path)): state for path, state in net.states(brainstate.ParamState).items()}


def _schedules(optimizer: Any) -> list[Any]:
    # The state of an optimizer does not include its learning rate schedules.
    found = [getattr(optimizer, "lr_scheduler", None), *getattr(optimizer, "schedulers", ())]
    return list({id(one): one for one in found if hasattr(one, "state_dict")}.values())
