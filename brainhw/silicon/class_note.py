"""Warning for labels that use fewer classes than there are output neurons."""

from __future__ import annotations

import warnings

import numpy as np

__all__ = ["warn_of_classes"]

# If all classes are equally frequent, 10 random samples miss the upper half of the classes in about 1 of 1000 cases.
_ENOUGH = 10


def warn_of_classes(labels: np.ndarray, n_out: int, *, call: str, fix: str) -> None:
    """Warn if the number of classes is a proper divisor of ``n_out``. Each class may then have several neurons."""
    n = int(labels.max()) + 1
    if len(labels) >= _ENOUGH and 1 < n < n_out and n_out % n == 0:
        warnings.warn(
            f"{call}: y contains the class indices 0 to {n - 1}, but the {n_out} output neurons are treated as {n_out} "
            f"classes. If each class has {n_out // n} output neurons, {fix.format(n)}.",
            UserWarning,
            stacklevel=3,
        )
