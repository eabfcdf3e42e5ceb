"""An independent simulation of the neurons, in plain numpy and double precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


def _simulate(
    drive: np.ndarray,
    *,
    tau: float | np.ndarray,
    V_th: float | np.ndarray = 1.0,
    dt: float = 1.0,
    reset: str = "subtract",
    clamped: bool = False,
    recurrent: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Step neurons through ``drive`` ``[T, ..., N]`` in mV; times in ms, ``recurrent`` in mV per spike."""
    V = np.zeros(drive.shape[1:])
    spk = np.zeros(drive.shape[1:])
    seen: dict[str, list[np.ndarray]] = {"V_pre": [], "spk": [], "V": []}
    for x in np.asarray(drive, dtype=float):
        V = V * np.exp(-dt / np.asarray(tau, dtype=float)) + x
        if recurrent is not None:
            V = V + spk @ recurrent
        if clamped:
            V = np.where(V > 0, V, 0.0)
        seen["V_pre"].append(V)
        spk = np.where(V_th <= V, 1.0, 0.0)
        if reset == "subtract":
            V = V - np.where(spk == 1, V_th, 0.0)
            V = np.where(V > 0, V, 0.0) if clamped else V
        elif reset == "zero":
            V = np.where(spk == 1, 0.0, V)
        seen["spk"].append(spk)
        seen["V"].append(V)
    return {name: np.stack(values) for name, values in seen.items()}


@pytest.fixture(scope="session")
def simulate() -> Callable[..., dict[str, np.ndarray]]:
    """Return the simulation; ``margin`` of its result says how clearly each spike is decided."""

    def run(drive: np.ndarray, **kwargs: object) -> dict[str, np.ndarray]:
        seen = _simulate(drive, **kwargs)
        seen["margin"] = np.min(np.abs(seen["V_pre"] - kwargs.get("V_th", 1.0)))
        return seen

    return run
