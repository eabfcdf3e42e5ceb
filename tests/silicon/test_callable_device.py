"""A function is a bench; what it raises or returns wrongly is one error, and the device works again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainunit as u
import numpy as np
import pytest
from silicon_programs import program_of

from brainhw.silicon import CallableDevice, ChipProgram, Device, DeviceError, Recording

X = np.ones((4, 2, 16), np.float32)


def spiking(program: ChipProgram, x: np.ndarray) -> dict[str, np.ndarray]:
    return {path: np.ones((*x.shape[:2], n)) for path, n in program.layers.items()}


def on(function: Any, **given: Any) -> CallableDevice:
    device = CallableDevice(function, **given)
    device.program(program_of("H1v2")[1])
    return device


def test_a_function_gets_program_and_input_and_its_spikes_come_back() -> None:
    written: list[ChipProgram] = []
    seen: list[np.ndarray] = []

    def driver(program: ChipProgram, x: np.ndarray) -> Recording:
        seen.append(x.copy())
        x *= 0  # of its own
        return Recording(spiking(program, x), {"layer1": np.full((4, 2, 6), 0.01) * u.volt})

    device = on(driver, program=written.append)
    assert isinstance(device, Device)
    given = X.astype(np.float64)
    recording = device.run(given)
    assert written[0].layers == {"layer0": 12, "layer1": 6}
    assert np.array_equal(seen[0], X)
    assert seen[0].dtype == np.float32
    assert given.all()
    assert recording.spikes["layer0"].all()
    np.testing.assert_allclose(recording.membranes["layer1"].mantissa, 10.0)


def test_a_buffer_that_a_driver_fills_again_does_not_change_a_recording() -> None:
    buffer = {"layer0": np.ones((4, 2, 12), np.uint8), "layer1": np.ones((4, 2, 6), np.uint8)}
    voltage = np.ones((4, 2, 6), np.float32)
    device = on(lambda program, x: Recording(buffer, {"layer1": voltage * u.mV}))
    first = device.run(X)
    buffer["layer0"][:] = 0
    voltage[:] = 7
    assert first.spikes["layer0"].all()
    assert (first.membranes["layer1"].mantissa == 1).all()


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*_: Any) -> Any:
        raise error

    return function


def returning(value: Any) -> Callable[..., Any]:
    return lambda *_: value


def changed(**layers: Any) -> Callable[..., Any]:
    def function(program: ChipProgram, x: np.ndarray) -> Any:
        return {path: value for path, value in {**spiking(program, x), **layers}.items() if value is not None}

    return function


FAULTS: list[tuple[Callable[..., Any], str]] = [
    (raising(OSError("the board is off")), "raised OSError: the board is off"),
    (raising(KeyError("x")), "raised KeyError"),
    (raising(MemoryError()), "raised MemoryError"),
    (raising(SystemExit(2)), "raised SystemExit"),
    (raising(ValueError("a\nb\nc")), "raised ValueError: a. Repair"),
    (lambda: None, "raised TypeError"),
    (returning(None), "must return a Recording, or a mapping .*; got None"),
    (returning([1, 2]), "must return a Recording, or a mapping"),
    (returning({}), "spikes must contain at least one layer"),
    (changed(layer1=None), r"lacks the spikes of \['layer1'\]"),
    (changed(ghost=np.ones((4, 2, 3))), r"unknown layers \['ghost'\]"),
    (changed(layer1=np.ones((4, 2, 5))), r"shape \(4, 2, 5\); expected \(4, 2, 6\)"),
    (changed(layer1=np.ones((3, 2, 6))), "have the same steps and samples"),
    (changed(layer0=np.ones((3, 2, 12)), layer1=np.ones((3, 2, 6))), r"expected \(4, 2, 12\)"),
    (changed(layer1=np.full((4, 2, 6), np.nan)), "must be 0 or 1; got nan"),
    (changed(layer1=np.full((4, 2, 6), 3)), "must be 0 or 1; got 3"),
    (changed(layer1="spikes"), "must be an array of 0 and 1"),
    (changed(layer1=[[1], [1, 2]]), "layer1|inhomogeneous"),
]


@pytest.mark.parametrize(("function", "words"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_is_one_error_and_the_device_works_again(function: Any, words: str) -> None:
    faults = [True]
    device = on(lambda program, x: function(program, x) if faults and faults.pop() else spiking(program, x))
    with pytest.raises(DeviceError, match=rf"^CallableDevice\.run: .*{words}"):
        device.run(X)
    assert device.run(X).spikes["layer1"].all()


def test_a_program_that_was_not_written_does_not_run() -> None:
    device = on(spiking)
    device._write = raising(OSError("no supply"))
    with pytest.raises(DeviceError, match=r"^CallableDevice\.program: the function function raised OSError: no supply"):
        device.program(program_of("H1v1")[1])
    with pytest.raises(DeviceError, match=r"CallableDevice\.run: the chip is not programmed"):
        device.run(X)
    device._write = None
    device.program(program_of("H1v1")[1])
    assert device.run(X).spikes["layer1"].all()


def test_an_interrupt_and_an_error_of_a_device_pass_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        on(raising(KeyboardInterrupt())).run(X)
    with pytest.raises(DeviceError, match=r"^the driver's own words$"):
        on(raising(DeviceError("the driver's own words"))).run(X)


def test_what_is_no_function_and_what_is_no_input_is_refused() -> None:
    with pytest.raises(TypeError, match="CallableDevice: function must be a function; got 3"):
        CallableDevice(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"CallableDevice\.run: x must have shape \[T, B, 16\]; got \(4, 2, 15\)"):
        on(spiking).run(X[..., :15])
