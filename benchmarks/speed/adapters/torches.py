"""Device, threads, loss and gradients for the adapters on PyTorch."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.speed.cases import Problem
from benchmarks.speed.contract import Calls

__all__ = ["calls", "chosen_device", "weight"]


def chosen_device(device: str) -> str:
    """Return ``'cuda'`` or ``'cpu'``."""
    import torch

    if device == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("--device gpu: torch finds no GPU. Install torch with CUDA, or pass --device cpu.")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def weight(problem: Problem, name: str, place: str, *, scale: float = 1.0, transpose: bool = True) -> Any:
    """Return a weight as a parameter ``[out, in]``. With ``transpose=False`` it is ``[in, out]``."""
    import torch

    value = problem.weights[name].T if transpose else problem.weights[name]
    return torch.nn.Parameter(torch.as_tensor(np.ascontiguousarray(value) * np.float32(scale), device=place))


def calls(
    problem: Problem,
    place: str,
    run: Callable[[Any], Any],
    weights: Mapping[str, Any],
    step: Callable[[Any, Any], tuple[Any, Any]] | None,
    *,
    scales: Mapping[str, float] | None = None,
    transposed: bool = True,
    batch_first: bool = False,
) -> Calls:
    """Return the calls that are timed, from ``run(xs)``, which starts from rest, and ``step(state or None, x)``.

    ``scales`` are factors on the weights of the problem. ``transposed`` means that the weights are ``[out, in]``.
    """
    import torch

    def as_data(value: np.ndarray) -> Any:
        return torch.as_tensor(np.ascontiguousarray(np.swapaxes(value, 0, 1) if batch_first else value), device=place)

    xs, pattern, x = as_data(problem.x), as_data(problem.pattern), torch.as_tensor(problem.x[0, :1], device=place)
    held: list[Any] = [None]

    def wait() -> None:
        if place == "cuda":
            torch.cuda.synchronize()

    def forward() -> Any:
        with torch.no_grad():
            out = run(xs)
        wait()
        return out

    def both() -> Any:
        for parameter in weights.values():
            parameter.grad = None
        loss = (run(xs) * pattern).sum() / pattern.numel()
        loss.backward()
        wait()
        return loss

    def stream() -> None:
        with torch.no_grad():
            _, held[0] = step(held[0], x)  # type: ignore[misc]
        wait()

    def outputs() -> np.ndarray:
        out = forward().cpu().numpy()
        return np.swapaxes(out, 0, 1) if batch_first else out

    def gradients() -> dict[str, np.ndarray]:
        both()
        found = {name: w.grad.cpu().numpy() * (scales or {}).get(name, 1.0) for name, w in weights.items()}
        return {name: g.T if transposed else g for name, g in found.items()}

    cores = os.cpu_count() or 1
    threads = sorted({1, cores}) if place == "cpu" else [1]
    return Calls(
        forward=forward,
        both=both,
        step=stream if step is not None else None,
        outputs=outputs,
        gradients=gradients,
        settings={f"{n} thread{'s' * (n > 1)}": functools.partial(torch.set_num_threads, n) for n in threads},
        device_peak=torch.cuda.max_memory_allocated if place == "cuda" else None,
        device=f"gpu: {torch.cuda.get_device_name()}" if place == "cuda" else "cpu: cpu",
    )
