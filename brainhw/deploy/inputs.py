"""Range checks of inputs. They find negative values, and unscaled data such as bytes."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import numpy as np

from brainhw import _arguments
from brainhw.chip.spec import MOST_EVENTS

__all__ = ["InputFault", "checked_data", "input_fault", "warn_of_input"]


class InputFault(NamedTuple):
    """A fault of input data: the values found, the limit of the chip, and how to fix the data."""

    found: str
    limit: str
    fix: str


def input_fault(xs: Any, *, has_frontend: bool) -> InputFault | None:
    """Return the most serious fault of the inputs. Return ``None`` if there is no fault or if the inputs are traced."""
    if isinstance(xs, jax.core.Tracer):
        return None
    values = np.asarray(xs)
    if values.dtype.kind not in "fiu" and values.dtype.name != "bfloat16":  # boolean spikes are always in range
        return None
    with np.errstate(over="ignore"):  # an overflow results in infinity, which exceeds the limit below
        values = values.astype(np.float32, copy=False)
    negative = int(np.sum(values < 0))
    if negative:
        found = f"{negative} of {values.size} input values are negative, the lowest {values.min():g}"
        fix = "Encode the data as spikes, or split them into two channels with brainhw.data.split_on_off."
        return InputFault(found, "spikes, or values of at least 0", fix)
    # A frontend receives analog values, which its weights scale. So these values have no upper limit here.
    large = 0 if has_frontend else int(np.sum(values > MOST_EVENTS))
    if large:
        found = f"{large} of {values.size} input values exceed {MOST_EVENTS}, the largest {values.max():g}"
        limit = f"at most {MOST_EVENTS} per channel and step (assumed)"
        return InputFault(found, limit, "Scale the data, for example bytes to the range 0 to 1.")
    return None


def warn_of_input(xs: Any, *, has_frontend: bool, call: str, stacklevel: int = 3) -> None:
    """Warn if inputs are out of the range of a chip; the message states the limit and the fix."""
    fault = input_fault(xs, has_frontend=has_frontend)
    if fault is not None:
        message = f"{call}: {fault.found}; a chip takes {fault.limit}. {fault.fix}"
        warnings.warn(message, UserWarning, stacklevel=stacklevel)


def checked_data(data: Any, *, call: str) -> Any:
    """Return input data as an array.

    Raise ``ValueError`` if the array is empty, has fewer than two axes or contains non-finite values.
    """
    xs = _arguments.as_array(data, call=call, name="data")
    if not xs.size or xs.ndim < 2:
        raise ValueError(f"{call}: data must be a non-empty array of shape [T, N] or [T, B, N]; got shape {xs.shape}.")
    _arguments.check_finite(xs, call=call, name="data")
    return xs
