"""Shared parts of the synapses: the sequence protocol without a state, and the product over a whole sequence."""

from __future__ import annotations

from typing import ClassVar

import jax

__all__ = ["SequenceSynapse", "tall_product"]


class SequenceSynapse:
    """Sequence protocol of a synapse: no state, so nothing to record and nothing to carry over a cut."""

    sequence_records: ClassVar[tuple[str, ...]] = ()
    can_be_cut: ClassVar[bool] = True

    def gains_from_sequence(self) -> bool:
        """Return False: a synapse alone does not make layer by layer worth it."""
        return False


def tall_product(xs: jax.Array, weights: jax.Array) -> jax.Array:
    """Return ``xs [..., N_in] @ weights [N_in, N_out]`` as one product of a tall matrix."""
    # As a product of matrices with two axes, its gradient is one plain product too.
    return (xs.reshape(-1, xs.shape[-1]) @ weights).reshape(*xs.shape[:-1], -1)
