"""Any object with `program` and `run` is a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brainhw.silicon import Device, DeviceError, Recording


class Bench:
    def program(self, program: Any) -> None:
        self.held = program

    def run(self, x: np.ndarray) -> Recording:
        return Recording({"hidden": np.zeros((*x.shape[:2], 3))})


def test_a_class_without_a_base_is_a_device() -> None:
    assert isinstance(Bench(), Device)
    assert not isinstance(object(), Device)


def test_a_failure_is_a_runtime_error_with_words() -> None:
    with pytest.raises(RuntimeError, match="the supply is off"):
        raise DeviceError("Bench.run: the supply is off; switch it on.")
    with pytest.raises(TypeError, match=r"DeviceError: message .*got 3"):
        DeviceError(3)  # type: ignore[arg-type]
