"""Recorded values in place of computed ones, with the gradient of the computed ones."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from brainhw.kernel.precision import as_dtype

__all__ = ["Recorded", "instead"]

# Nothing, spikes, or spikes and membranes after the reset in mV. A plain tuple: it is a pytree that scans and gradients
# take apart without a class of its own.
Recorded = tuple[jax.Array, ...]


@jax.custom_jvp
def _instead(computed: jax.Array, recorded: jax.Array) -> jax.Array:
    return recorded


@_instead.defjvp
def _instead_jvp(primals: tuple[jax.Array, jax.Array], tangents: tuple[Any, Any]) -> tuple[jax.Array, Any]:
    return primals[1], tangents[0]


def instead(computed: jax.Array, recorded: jax.Array) -> jax.Array:
    """Return ``recorded``, with the gradient of ``computed`` and none of its own.

    The same as ``computed + stop_gradient(recorded - computed)``, but exact: that sum rounds a membrane.
    """
    return _instead(computed, as_dtype(jnp.asarray(recorded), computed.dtype))
