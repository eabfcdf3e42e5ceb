"""Broadcasting between numbers of neurons and of samples, for those who forbid JAX to do it by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

__all__ = ["broadcasting"]

P = ParamSpec("P")
R = TypeVar("R")


def broadcasting(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function broadcast as NumPy does, also where ``jax_numpy_rank_promotion`` is ``'raise'`` or ``'warn'``.

    The flag is meant for the code of the person who sets it; here numbers ``[N]`` meet numbers ``[..., N]`` on purpose.
    """

    @functools.wraps(function)
    def allowed(*given: Any, **options: Any) -> R:
        if jax.config.jax_numpy_rank_promotion == "allow":
            return function(*given, **options)
        with jax.numpy_rank_promotion("allow"):
            return function(*given, **options)

    return allowed
