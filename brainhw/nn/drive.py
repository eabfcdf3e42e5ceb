"""The check of what arrives at a layer of neurons in one step."""

from __future__ import annotations

from typing import Any

import brainunit as u
import numpy as np

from brainhw import _arguments

__all__ = ["checked_drive"]


def checked_drive(
    x: Any, unit: u.Unit, word: str, *, n: int, held: tuple[int, ...], call: str, source: str, steps: bool = False
) -> u.Quantity:
    """Return the drive in ``unit``, or raise unless it is a ``word`` for each of ``n`` neurons with states ``held``.

    ``source`` says where such a drive comes from, for the message; with ``steps``, ``x`` is a whole sequence of drives.
    """
    if not isinstance(x, u.Quantity) or not u.have_same_dim(x, unit):
        raise TypeError(
            f"{call}: the input must be a Quantity with the dimension of {unit} ({word}); "
            f"got {_arguments.describe(x)}. {source}"
        )
    _arguments.check_last_axis(x, n, call=call, name="the input", ndims=(2, 3) if steps else (1, 2))
    shape = np.shape(x.mantissa)[1:] if steps else np.shape(x.mantissa)
    if shape != held:
        batch = shape[0] if len(shape) == 2 else None
        raise ValueError(
            f"{call}: the input has shape {x.shape} but the state was prepared for {held}; "
            f"call brainhw.prepare_net(net, batch_size={batch}) before the time loop."
        )
    _arguments.check_finite(x, call=call, name="the input")
    return x.in_unit(unit)
