"""Inputs of a bench are float32: what overflows there is refused by name, without a raw warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from silicon_programs import program_of

import brainhw as bh
from brainhw.silicon.run_input import in_float32


def test_what_fits_is_the_same_number() -> None:
    x = np.array([[0.0, 0.1], [-3e38, 1e-60]])
    assert in_float32(x, call="call", name="x").dtype == np.float32
    np.testing.assert_array_equal(in_float32(x, call="call", name="x"), x.astype(np.float32))
    given = x.astype(np.float32)
    assert in_float32(given, call="call", name="x") is given


def test_nan_and_overflow_are_named() -> None:
    with pytest.raises(
        ValueError,
        match=r"^call: x must be finite in float32, with magnitudes up to 3\.4e\+38; got -1e\+300 at index \(1, 0\)",
    ):
        in_float32(np.array([[0.0], [-1e300]]), call="call", name="x")
    with pytest.raises(ValueError, match=r"^call: x contains 1 NaN or infinite value\(s\), the first at index \(1,\)"):
        in_float32(np.array([0.0, np.nan]), call="call", name="x")


def benches() -> dict[str, Callable[[], Any]]:
    _, program = program_of("H1v2")

    def virtual() -> Any:
        return bh.silicon.VirtualChip(program.chip, key=1)

    def function() -> Any:
        return bh.silicon.CallableDevice(lambda program, x: pytest.fail("the bench ran"))

    def command() -> Any:
        return bh.silicon.CommandDevice(["no-such-command"])

    return {"virtual": virtual, "function": function, "command": command}


@pytest.mark.parametrize("kind", ["virtual", "function", "command"])
def test_no_bench_gets_infinity(kind: str) -> None:
    device = benches()[kind]()
    device.program(program_of("H1v2")[1])
    x = np.zeros((4, 2, 16))
    x[1, 0, 3] = 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"\.run: x must be finite in float32.*got 1e\+300 at index \(1, 0, 3\)"):
            device.run(x)
