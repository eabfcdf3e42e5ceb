"""Valid calls of the wing ``brainhw.silicon``."""

from __future__ import annotations

from typing import Any

import brainunit as u
import numpy as np
from valid_calls import add

import brainhw as bh

SPIKES = np.zeros((5, 2, 3), np.uint8)


@add("silicon.Recording")
def recording() -> Any:
    membranes = {"hidden": 20.0 * np.ones(SPIKES.shape) * u.mV}
    return bh.silicon.Recording, {"spikes": ("mapping", {"hidden": SPIKES}), "membranes": ("mapping", membranes)}


@add("silicon.DeviceError")
def device_error() -> Any:
    return bh.silicon.DeviceError, {"message": ("text", "the bench is off")}
