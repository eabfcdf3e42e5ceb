"""Allow NumPy broadcasting in a function even if the user forbids implicit rank promotion in JAX."""

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

    Users set this option to check their own code. brainhw combines arrays ``[N]`` and ``[..., N]`` on purpose.
    """

    @functools.wraps(function)
    def allowed(*given: Any, **options: Any) -> R:
        if jax.config.jax_numpy_rank_promotion == "allow":
            return function(*given, **options)
        with jax.numpy_rank_promotion("allow"):
            return function(*given, **options)

    return allowed
