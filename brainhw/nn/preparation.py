"""What a module offers when something in it must be computed once per batch, before the time loop."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import jax

__all__ = ["Preparable"]


@runtime_checkable
class Preparable(Protocol):
    """A module that :func:`brainhw.prepare_net` calls once per batch."""

    def prepare(self, key: jax.Array | None = None) -> None:
        """Compute what the steps will use; ``key`` samples a chip, ``None`` is the nominal one."""
