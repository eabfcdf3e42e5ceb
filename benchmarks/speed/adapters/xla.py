"""Compiled calls, synchronisation and memory for the adapters on JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed.cases import Problem
from benchmarks.speed.contract import Calls

__all__ = ["calls", "check_device", "device_peak", "mean_loss"]


def check_device(device: str) -> str:
    """Return the device of JAX, or raise an error if its type was not requested."""
    import jax

    found = jax.devices()[0]
    if device not in ("auto", found.platform):
        raise RuntimeError(
            f"--device: expected device {device}, but JAX uses {found.platform}. Install JAX for it or change --device."
        )
    return f"{found.platform}: {found.device_kind}"


def device_peak() -> int | None:
    """Return the peak memory on an accelerator, or ``None`` if JAX does not report it."""
    import jax

    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def mean_loss(outputs: Any, pattern: Any) -> Any:
    """Return the loss of the benchmark."""
    return (outputs * pattern).sum() / pattern.size


def calls(
    problem: Problem,
    device: str,
    run: Callable[[Any, Any], Any],
    weights: Any,
    step: Callable[[Any, Any], tuple[Any, Any]],
    state: Any,
    *,
    named: Callable[[Any], dict[str, Any]] = lambda gradients: gradients,
    has_outputs: bool = True,
) -> Calls:
    """Return the calls that are timed, from the pure functions ``run(weights, xs)`` and ``step(state, x)``.

    Both functions are compiled with ``jax.jit``. ``named`` converts gradients to the names and scale of the problem.
    """
    import jax
    import jax.numpy as jnp

    kind = check_device(device)
    xs, pattern = jnp.asarray(problem.x), jnp.asarray(problem.pattern)
    forward = jax.jit(run)
    both = jax.jit(jax.value_and_grad(lambda weights, xs, pattern: mean_loss(run(weights, xs), pattern)))
    one_step, x, held = jax.jit(step), jnp.asarray(problem.x[0, :1]), [state]

    def stream() -> None:
        held[0], out = one_step(held[0], x)
        jax.block_until_ready(out)

    return Calls(
        forward=lambda: jax.block_until_ready(forward(weights, xs)),
        both=lambda: jax.block_until_ready(both(weights, xs, pattern)),
        step=stream,
        outputs=(lambda: np.asarray(forward(weights, xs))) if has_outputs else None,
        gradients=lambda: {name: np.asarray(g) for name, g in named(both(weights, xs, pattern)[1]).items()},
        temp_bytes={
            "forward": lambda: forward.lower(weights, xs).compile().memory_analysis().temp_size_in_bytes,
            "both": lambda: both.lower(weights, xs, pattern).compile().memory_analysis().temp_size_in_bytes,
        },
        device_peak=device_peak,
        device=kind,
    )
