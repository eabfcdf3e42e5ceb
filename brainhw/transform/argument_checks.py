"""Argument checks shared by calls on a whole network. They run before the network is prepared."""

from __future__ import annotations

from typing import Any

import brainstate
import jax

from brainhw import _arguments

__all__ = ["check_input", "checked_key", "checked_progress_bar"]


def checked_key(key: Any, *, call: str, **switches: Any) -> Any:
    """Return ``key`` as a PRNG key, or ``None``. Raise if it is invalid, or if one of ``switches`` is not a bool."""
    for name, switch in switches.items():
        # Test the type here, so that a valid argument needs no further function call.
        if type(switch) is not bool:
            _arguments.flag(switch, call=call, name=name)
    return None if key is None else _arguments.as_key(key, call)


def checked_progress_bar(pbar: Any, n_steps: int, *, call: str) -> Any:
    """Return ``pbar`` if it is a brainstate progress bar, a number of steps between updates, or ``None``.

    Raise for other values.
    """
    if pbar is None or isinstance(pbar, brainstate.transform.ProgressBar):
        return pbar
    try:
        return _arguments.positive_int(pbar, call=call, name="pbar", most=n_steps)
    except TypeError:
        raise TypeError(
            f"{call}: pbar must be a brainstate.transform.ProgressBar or an integer, the steps between updates; "
            f"got {_arguments.describe(pbar)}."
        ) from None


def check_input(x: Any, *, call: str) -> None:
    """Raise unless ``x`` is an array, a Quantity or a pytree of them."""
    for leaf in jax.tree.leaves(x):
        # NumPy arrays of text and structured arrays have a shape too, so check the dtype.
        dtype = getattr(leaf, "dtype", None)
        if not hasattr(leaf, "shape") or getattr(dtype, "names", None) or getattr(dtype, "kind", "f") in "OUSM":
            raise TypeError(
                f"{call}: x must be an array, a Quantity or a pytree of them; got {_arguments.describe(leaf)}."
            )
