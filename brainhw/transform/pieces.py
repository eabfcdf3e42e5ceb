"""Run a long sequence in pieces, of which the backward pass computes again what was not kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import brainstate
import jax
import jax.numpy as jnp

from brainhw import _arguments

__all__ = ["in_pieces", "length_near", "segment_length"]


def segment_length(checkpoint: int | str | None, n_steps: int, *, call: str) -> int | None:
    """Return the steps of a segment that ``checkpoint`` asks for; ``None`` if it asks for none."""
    if checkpoint is None:
        return None
    if checkpoint == "auto":
        # A segment keeps some five arrays a step while it is differentiated, and two at its start until then.
        return length_near(max(1, math.isqrt(n_steps) // 2), n_steps)
    if isinstance(checkpoint, str):
        raise ValueError(f"{call}: checkpoint must be None, 'auto' or a number of steps; got {checkpoint!r}.")
    return min(_arguments.positive_int(checkpoint, call=call, name="checkpoint"), n_steps)


def length_near(wanted: int, n_steps: int) -> int:
    """Return a length near the one wanted that divides ``n_steps``, so that no piece is left over; else the wanted."""
    near = [k for k in range(max(1, wanted // 2), min(2 * wanted, n_steps) + 1) if n_steps % k == 0]
    return min(near, key=lambda k: abs(k - wanted)) if near else min(wanted, n_steps)


def in_pieces(
    run: Callable[..., Any], xs: Any, n_steps: int, length: int, *, keeps: Sequence[str] = (), pbar: Any = None
) -> Any:
    """Return what ``run(*xs)`` returns, called on ``length`` steps after the other.

    The backward pass of each piece has the states that it began with, and what ``run`` marked with one of the names in
    ``keeps``; the rest it computes again.
    """
    policy = jax.checkpoint_policies.save_only_these_names(*keeps)

    def piece(prevent_cse: bool) -> Callable[..., Any]:
        return brainstate.transform.checkpoint(run, policy=policy, prevent_cse=prevent_cse)

    if length == n_steps and pbar is None:
        return piece(prevent_cse=True)(*xs)
    n_whole = n_steps // length
    whole = n_whole * length
    head = jax.tree.map(lambda x: x[:whole].reshape(n_whole, length, *x.shape[1:]), xs)
    # A loop cannot share what it computes with its backward pass, so nothing need be done to prevent it.
    done = brainstate.transform.for_loop(piece(prevent_cse=False), *head, pbar=pbar)
    done = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), done)
    if whole == n_steps:
        return done
    rest = piece(prevent_cse=True)(*jax.tree.map(lambda x: x[whole:], xs))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), done, rest)
