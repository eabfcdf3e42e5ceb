"""The sum of charges at a neuron, the same to the bit for one chip and for many side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import brainunit as u
import jax
import jax.numpy as jnp

from brainhw.kernel.rows import tall_product

__all__ = ["are_chips_side_by_side", "charge_sum", "charge_sums", "chips_side_by_side"]

_side_by_side: ContextVar[bool] = ContextVar("brainhw_chips_side_by_side", default=False)


def charge_sum(x: jax.Array, charge: u.Quantity) -> u.Quantity:
    """Return ``x [..., N_in] @ charge [N_in, N_out]`` in fC."""
    return _of_each_chip(x, charge) @ charge


def charge_sums(xs: jax.Array, charge: u.Quantity) -> u.Quantity:
    """Return the sums of many steps ``[T, ..., N_in]`` as one product, ``[T, ..., N_out]`` in fC."""
    return u.Quantity(tall_product(_of_each_chip(xs, charge), charge.to(u.fcoulomb).mantissa), unit=u.fcoulomb)


def _of_each_chip(x: jax.Array, charge: u.Quantity) -> jax.Array:
    if not _side_by_side.get():
        return x
    # An input that all chips share would be multiplied with all their weights as one wide matrix, in another order of
    # additions than for one chip alone, and spikes would differ. So each chip gets an input of its own: a choice that
    # depends on its charges, and whose other side XLA cannot rule out.
    return jnp.where(jnp.isnan(charge.mantissa[0, 0]), jnp.nan, x)


def are_chips_side_by_side() -> bool:
    """Whether what is traced now will be vmapped over chips."""
    return _side_by_side.get()


@contextlib.contextmanager
def chips_side_by_side() -> Iterator[None]:
    """Say that what is traced in this block will be vmapped over chips."""
    token = _side_by_side.set(True)
    try:
        yield
    finally:
        _side_by_side.reset(token)
