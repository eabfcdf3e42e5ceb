"""Checks for chip-in-the-loop training: the chip of the network, the optimizer, the loss and the targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw._files import first_line
from brainhw.chip import ChipSpec
from brainhw.nn import chip_weights

__all__ = [
    "all_finite",
    "call_function",
    "check_same_chip",
    "checked_optimizer",
    "scalar_loss",
    "target_fault",
]


def check_same_chip(net: brainstate.nn.Module, chip: ChipSpec, call: str) -> None:
    """Raise ``ValueError`` if the network has another chip than ``chip``, the chip when the loop was built."""
    for weight in chip_weights(net).values():
        now = weight.chip
        if now is not chip and now != chip:
            differ = [name for name in chip.provenance if getattr(chip, name) != getattr(now, name)]
            raise ValueError(
                f"{call}: the network must be on the chip for which the loop was built, {chip.name!r}; got "
                f"{now.name!r}, which was put into the network later and differs in {', '.join(differ) or 'notes'}. "
                "Build a new InTheLoop with this network."
            )


def call_function(function: Callable[..., Any], name: str, outputs: jax.Array, y: jax.Array, call: str) -> Any:
    """Return ``function(outputs, y)``. If the function fails, raise an error with the shapes of its arguments."""
    try:
        return function(outputs, y)
    except Exception as error:  # user code may raise any error
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{call}: {name}(outputs, y) raised {type(error).__name__} for outputs of shape {outputs.shape} and y of "
            f"dtype {y.dtype} and shape {y.shape}: {first_line(error)}. Change the targets or the function."
        ) from error


def scalar_loss(loss: Callable[..., Any], outputs: jax.Array, y: jax.Array, call: str) -> jax.Array:
    """Return the loss of a batch. Raise an error if the loss function fails or does not return a real scalar."""
    value = call_function(loss, "loss", outputs, y, call)
    dtype = getattr(u.get_mantissa(value), "dtype", np.asarray(0.0).dtype if type(value) is float else None)
    shape = () if dtype is None else np.shape(u.get_mantissa(value))
    if dtype is None or shape or not jnp.issubdtype(dtype, jnp.floating):
        got = _arguments.describe(value) if dtype is None else f"shape {shape} and dtype {dtype}"
        raise ValueError(f"{call}: loss must return a real scalar; got {got}. Return the mean, for example.")
    return value


def target_fault(y: np.ndarray, n_out: int) -> str:
    """Return text for an error message if the targets are invalid, otherwise an empty string.

    Targets are invalid if they are not finite, or if a class index has no output neuron.
    """
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        return ", y (it contains non-finite values)"
    if y.dtype.kind not in "iu" or y.ndim != 1 or (y.min() >= 0 and y.max() < n_out):
        return ""
    return f", y (its labels range from {y.min()} to {y.max()}, but the class indices from 0 to {n_out - 1})"


def all_finite(tree: Any) -> jax.Array:
    """Return whether all values of a pytree are finite."""
    return jnp.all(jnp.stack([jnp.isfinite(u.get_mantissa(leaf)).all() for leaf in jax.tree.leaves(tree)]))


def checked_optimizer(optimizer: Any, net: brainstate.nn.Module, call: str) -> tuple[Any, dict[Any, brainstate.State]]:
    """Return the optimizer and its weights. If the optimizer has no weights, register all weights of the network."""
    if not isinstance(optimizer, braintools.optim.Optimizer) or not hasattr(optimizer, "state_dict"):
        raise TypeError(
            f"{call}: optimizer must be an optimizer of braintools.optim, such as braintools.optim.Adam(lr=0.01); "
            f"got {_arguments.describe(optimizer)}."
        )
    of_net = net.states(brainstate.ParamState)
    known = optimizer.param_states.to_pytree() or {}
    if not known:
        optimizer.register_trainable_weights(of_net)
        return optimizer, dict(of_net)
    if not {id(state) for state in known.values()} <= {id(state) for state in of_net.values()}:
        raise ValueError(
            f"{call}: optimizer contains weights of another network. Pass a new optimizer, or one with weights of this "
            "network."
        )
    return optimizer, known
