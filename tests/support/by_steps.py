"""Runs a function with the compiled loops and with the loops of XLA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import pytest


def by_steps_too(run: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return a function compiled with the loop, and one compiled without it."""

    def without(*given: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BRAINHW_EVENTS", "0")
            return run(*given)

    return jax.jit(lambda *given: run(*given)), jax.jit(without)  # noqa: PLW0108  (JAX caches a trace by identity)
