"""Broadcasting that also works if the user forbids implicit rank promotion in JAX."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

__all__ = ["broadcasting"]

P = ParamSpec("P")
R = TypeVar("R")


def broadcasting(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function broadcast as NumPy does, even if ``jax_numpy_rank_promotion`` is ``'raise'`` or ``'warn'``.

    Users set that flag to check their own code. In this package, arrays ``[N]`` meet arrays ``[..., N]`` on purpose.
    """

    @functools.wraps(function)
    def allowed(*given: Any, **options: Any) -> R:
        if jax.config.jax_numpy_rank_promotion == "allow":
            return function(*given, **options)
        with jax.numpy_rank_promotion("allow"):
            return function(*given, **options)

    return allowed
