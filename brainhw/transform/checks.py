"""What every call on a whole network checks first: the module, and the key."""

from __future__ import annotations

import operator
from typing import Any

import brainstate
import jax

from brainhw import _arguments

__all__ = ["as_key", "check_module", "dotted", "first_reason"]


def check_module(net: Any, *, call: str) -> None:
    """Raise unless ``net`` is a module."""
    if not isinstance(net, brainstate.nn.Module):
        raise TypeError(f"{call}: net must be a brainstate.nn.Module; got {_arguments.describe(net)}.")


def dotted(path: tuple[Any, ...]) -> str:
    """Return the path of a module as text."""
    return ".".join(str(part) for part in path)


def first_reason(error: BaseException) -> BaseException:
    """Return the original error: containers such as ``Sequential`` wrap it in a printout of the module."""
    while type(error) is brainstate.BrainStateError and error.__cause__ is not None:
        error = error.__cause__
    return error


def as_key(key: Any, call: str) -> jax.Array | None:
    """Return a random key from a key or a whole number; ``None`` stays ``None``."""
    if key is None:
        return None
    if isinstance(key, jax.Array) and (key.ndim or jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)):
        if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) and not key.ndim:
            return key
        if key.dtype == "uint32" and key.shape == jax.random.key_data(jax.random.key(0)).shape:  # an old-style key
            return key
        raise ValueError(f"{call}: key must be one key; got {_arguments.describe(key)}.")
    try:
        number = operator.index(key)
        if isinstance(key, bool):
            raise TypeError
    except TypeError:
        raise TypeError(
            f"{call}: key must be a whole number or a jax.random.key; got {_arguments.describe(key)}."
        ) from None
    if not 0 <= number < 2**32:
        # JAX would wrap it, and two numbers would be one chip.
        raise ValueError(f"{call}: key must be a whole number from 0 to 2**32 - 1; got {number}.")
    return jax.random.key(number)
