"""What a module offers that must hear of a run before the time loop begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import jax

__all__ = ["OnChip", "Preparable", "StepCounting"]


@runtime_checkable
class Preparable(Protocol):
    """A module that :func:`brainhw.prepare_net` calls once per batch."""

    def prepare(self, key: jax.Array | None = None) -> None:
        """Compute what the steps will use; ``key`` samples a chip, ``None`` is the one in place."""


@runtime_checkable
class OnChip(Protocol):
    """A module that is not the same on every chip."""

    def pin_chip(self, key: jax.Array | None, sizes: Mapping[str, float | None]) -> None:
        """Put the chip of ``key`` in place, or with ``None`` the nominal one, until the next call."""


@runtime_checkable
class StepCounting(Protocol):
    """A module that :func:`brainhw.rollout` tells how many steps come, because it may not be able to take them all."""

    def expect_steps(self, n_steps: int) -> None:
        """Raise if ``n_steps`` more since the last preparation are too many."""
