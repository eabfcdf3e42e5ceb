"""A note where labels fill fewer classes than there are output neurons."""

from __future__ import annotations

import warnings

import numpy as np

__all__ = ["warn_of_classes"]

# So many samples of equally frequent classes leave half of the classes out once in a thousand times at most.
_ENOUGH = 10


def warn_of_classes(labels: np.ndarray, n_out: int, *, call: str, fix: str) -> None:
    """Warn if labels from 0 fill a proper divisor of ``n_out`` classes: a class may have several neurons then."""
    n = int(labels.max()) + 1
    if len(labels) >= _ENOUGH and 1 < n < n_out and n_out % n == 0:
        warnings.warn(
            f"{call}: y holds classes 0 to {n - 1}, and the {n_out} output neurons count as {n_out} classes. If each "
            f"class has {n_out // n} neurons, {fix.format(n)}.",
            UserWarning,
            stacklevel=3,
        )
