"""Check that an imported network runs with the time step for which it was imported."""

from __future__ import annotations

import brainunit as u
import numpy as np

from brainhw import _arguments

__all__ = ["check_own_step"]


def check_own_step(own: u.Quantity, *, call: str, what: str, reader: str) -> None:
    """Raise an error unless the time step of ``brainstate.environ`` equals ``own``.

    ``own`` is the time step for which the network was imported. Its weights and decay factors were computed for this
    time step, so a different one would silently change the results. The error message names the imported object,
    ``what``, and the import function, ``reader``.
    """
    # Converted to numbers, because inside a compiled function a message would show a Quantity as a tracer.
    read_for, now = float(own.to(u.ms).mantissa), float(_arguments.time_step(call=call).mantissa)
    if not np.isclose(now, read_for, rtol=1e-6, atol=0):
        raise RuntimeError(
            f"{call}: the {what} was read for dt = {read_for:g} ms, but brainstate.environ has dt = {now:g} ms. Run "
            f"the network inside brainstate.environ.context(dt={read_for:g} * u.ms), or build it again with "
            f"{reader}(..., dt={now:g} * u.ms)."
        )
