"""Checks of the fields of ``LayerReport`` and ``InitOutcome``.

Users may also create these objects by hand or read them from a file.
"""

from __future__ import annotations

import functools

import brainunit as u

from brainhw._arguments import flag, number, positive_int, text, whole_number
from brainhw._records import Check, is_in, numbers, optional, positive_or_infinite, share

__all__ = ["LAYER", "OUTCOME"]

_positive = functools.partial(number, positive=True)
_spread = functools.partial(number, nonnegative=True)
_volts = is_in(u.mV, scalar=False)


OUTCOME: dict[str, Check] = {
    "xi_target": _positive,
    "alpha": share,
    "mu_W": number,
    "sigma_FF": _spread,
    "sigma_RC": optional(_spread),
    "mu_U": is_in(u.mV),
    "exhausted": whole_number,
    "evaluations": whole_number,
}

LAYER: dict[str, Check] = {
    "index": positive_int,
    "name": text,
    "family": text,
    "nu_in": is_in(u.Hz),
    "nu_var": is_in(u.Hz, nonnegative=True),
    "nu_out": is_in(u.Hz, nonnegative=True),
    "eps_bar": is_in(u.volt * u.second, scalar=False),
    "eps_hat": is_in(u.volt**2 * u.second, scalar=False, nonnegative=True),
    "mean_weight": number,
    "weight_spread": _spread,
    "recurrent_spread": optional(_spread),
    "threshold": _volts,
    "mean_membrane": _volts,
    "membrane_sd": is_in(u.mV, scalar=False, nonnegative=True),
    "xi": numbers(ndims=(1,), finite=False, some=True),
    "share_RC": optional(_spread),
    "rates": is_in(u.Hz, scalar=False, nonnegative=True),
    "dead": whole_number,
    "saturated": whole_number,
    "expected_dead": _spread,
    "out_of_range": whole_number,
    "largest": _spread,
    "weight_limit": positive_or_infinite,
    "response": _volts,
    "dt": is_in(u.ms, positive=True),
    "steps": positive_int,
    "membrane_sample": _volts,
    "signed_input": flag,
}
