"""A device whose chip is programmed and run by Python functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np

from brainhw import _arguments
from brainhw._files import first_line
from brainhw.silicon.device import DeviceError
from brainhw.silicon.program import ChipProgram
from brainhw.silicon.recording import Recording, check_recording
from brainhw.silicon.virtual import checked_run_input

__all__ = ["CallableDevice"]


@final
class CallableDevice:
    """A bench that is controlled by Python functions. These may call a board driver or simulate a chip.

    Parameters
    ----------
    function : callable
        ``function(program, x)`` runs the program on ``x [T, B, N_in]`` and returns a :class:`Recording`, or a mapping
        from the path of each layer to its spikes ``[T, B, N]``. ``x`` is a float32 copy, which the function may change.
    program : callable, optional
        ``program(chip_program)`` writes a program to the chip. By default, nothing is called before the run.

    Raises
    ------
    TypeError
        If an argument is not callable.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(4, 3, weight_bits="chip"), bh.nn.H1v2Layer(3, tau=20 * u.ms))
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     program = bh.silicon.ChipProgram.of(net)
    >>> def silent(program, x):
    ...     return {path: np.zeros((*x.shape[:2], n)) for path, n in program.layers.items()}
    >>> bench = bh.silicon.CallableDevice(silent)
    >>> bench.program(program)
    >>> bench.run(np.ones((50, 2, 4)))
    Recording('layers.1' (50, 2, 3); membranes of 0 of 1 layers)
    """

    def __init__(
        self,
        function: Callable[[ChipProgram, np.ndarray], Any],
        program: Callable[[ChipProgram], Any] | None = None,
    ) -> None:
        call = "CallableDevice"
        self._function = _arguments.function(function, call=call, name="function")
        self._write = None if program is None else _arguments.function(program, call=call, name="program")
        self._program: ChipProgram | None = None

    def program(self, program: ChipProgram) -> None:
        """Write a program to the chip.

        Raises
        ------
        DeviceError
            If the function fails. The chip must then be programmed again before a run.
        TypeError
            If ``program`` is not a :class:`ChipProgram`.
        """
        call = "CallableDevice.program"
        _arguments.instance(program, ChipProgram, call=call, name="program")
        # After a failed write, the chip contains neither the old program nor the new one.
        self._program = None
        if self._write is not None:
            _called(self._write, program, call=call)
        self._program = program

    def run(self, x: np.ndarray) -> Recording:
        """Run the program on ``x [T, B, N_in]`` from rest.

        Raises
        ------
        DeviceError
            If the chip is not programmed, or the function fails or does not return a recording of all layers, steps and
            samples.
        TypeError
            If ``x`` is not an array of real numbers.
        ValueError
            If ``x`` does not have the shape ``[T, B, N_in]`` or contains non-finite values.
        """
        call = "CallableDevice.run"
        if self._program is None:
            raise DeviceError(f"{call}: the chip is not programmed. Call program(...) first.")
        x = checked_run_input(x, self._program, call=call)
        # Pass a copy, because a driver may scale its input in place.
        found = _called(self._function, self._program, x.copy(), call=call)
        if not isinstance(found, (Recording, Mapping)):
            raise DeviceError(
                f"{call}: the function must return a Recording, or a mapping from the path of each layer to its "
                f"spikes; got {_arguments.describe(found)}."
            )
        try:
            if isinstance(found, Mapping):
                found = Recording(found)
            return check_recording(found, self._program.layers, *x.shape[:2], call=call)
        except (TypeError, ValueError) as error:
            text = str(error)
            raise DeviceError(text if text.startswith(call) else f"{call}: the function returned {text}") from error

    def __repr__(self) -> str:
        return f"CallableDevice({getattr(self._function, '__name__', type(self._function).__name__)})"


def _called(function: Callable[..., Any], *arguments: Any, call: str) -> Any:
    try:
        return function(*arguments)
    except DeviceError:
        raise
    except (Exception, SystemExit) as error:  # a driver may raise any error or call sys.exit
        name = getattr(function, "__name__", type(function).__name__)
        raise DeviceError(
            f"{call}: the function {name} raised {type(error).__name__}: {first_line(error)}. Repair the bench, "
            "program it again and continue."
        ) from error
