"""Rockpool's own limits on spikes were refused: ``np.inf``, the float ``65536.0``, and arrays of one number.

Seen where a net with ``aLIFTorch`` was written anew with its arguments as they stood.
"""

from __future__ import annotations

from typing import Any

import brainunit as u
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh

NO_LIMIT = {"inf": np.inf, "0-d inf": np.array(np.inf), "jax inf": jnp.asarray(jnp.inf)}
THREE = {"float": 3.0, "float32": np.float32(3), "0-d": np.array(3.0), "0-d int": np.array(3), "jax": jnp.array(3)}


@pytest.mark.parametrize("limit", NO_LIMIT.values(), ids=NO_LIMIT)
def test_infinity_is_no_limit(limit: Any) -> None:
    layer = bh.nn.ALIFLayer(1, max_spikes_per_step=limit)
    assert layer.max_spikes_per_step is None
    assert bh.surrogate.StepPWL()(70000.5, 1.0, max_spikes=limit) == 70000


def test_infinity_is_no_limit_beside_a_spike_function_that_fires_once() -> None:
    layer = bh.nn.CubaLIFLayer(1, max_spikes_per_step=np.inf, spk_fun=bh.surrogate.atan())
    assert layer(jnp.array([9.0]) * u.mV)[0] == 1


@pytest.mark.parametrize("limit", THREE.values(), ids=THREE)
def test_a_whole_number_of_another_kind_is_that_limit(limit: Any) -> None:
    layer = bh.nn.CubaLIFLayer(1, leak="decays", beta=1.0, max_spikes_per_step=limit)
    assert type(layer.max_spikes_per_step) is int
    assert layer(jnp.array([5.0]) * u.mV)[0] == 3


def test_the_default_of_rockpool_is_taken_as_it_is_written() -> None:
    assert bh.nn.ALIFLayer(1, max_spikes_per_step=2.0**16).max_spikes_per_step == 65536


NONSENSE = [2.5, np.nan, -np.inf, 0.0, np.array(0.5), np.array([3.0]), 1e300, np.array(2j), True]


@pytest.mark.parametrize("limit", NONSENSE)
def test_what_is_no_limit_is_refused_by_call_and_argument(limit: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^CubaLIFLayer: max_spikes_per_step must be .* got .{1,60}\."):
        bh.nn.CubaLIFLayer(1, max_spikes_per_step=limit)
