"""A program that computes one time step of a network, and `load_step`, which reads such a program from a file."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, final

import brainunit as u
import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw._files import check_target, first_line, path_text
from brainhw.interop.stablehlo.file import FILE, Stored, read_program_file, stored_dtype, write_program_file
from brainhw.interop.stablehlo.ports import Port, argument_ports, plain_ports, result_ports
from brainhw.interop.stablehlo.safety import examine_in_subprocess, faults

__all__ = ["StepProgram", "load_step"]


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class StepProgram:
    """One step of a network as a program, returned by :func:`export_step` or :func:`load_step`.

    The program is a pure function of the state and the input, and returns the new state and the output. All other
    values that a step needs are constants in the program: the weights as the chip applies them, time constants,
    thresholds and the time step. The program runs without the network and its code. In :meth:`step`, states, input and
    output are Quantities if they have a unit. ``exported`` takes and returns plain arrays with values in the same
    units.

    Attributes
    ----------
    exported : jax.export.Exported
        The program as an object of ``jax.export``. ``exported.call(state, x)`` returns ``(state, y)``. All values are
        plain numbers, and ``state`` is a dict with the state names as keys.
    initial_state : dict
        States at rest as a dict, with keys such as ``"hidden.V"``. The values are arrays, or Quantities if they have a
        unit.
    state_units : Mapping
        Unit of each state, or ``None`` for a state without a unit.
    input_unit : Unit or None
        Unit of the input of a step.
    output_units : tuple of (Unit or None)
        Units of the arrays in the output, in order.
    dt : Quantity
        Time step of the program, in ms.
    versions : dict
        Versions of ``brainhw``, ``brainstate``, ``jax`` and ``python`` with which the program was exported.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax, jax.numpy as jnp
    >>> from brainhw.interop.stablehlo import export_step
    >>> layer = bh.nn.LIFLayer(2, tau=10 * u.ms)
    >>> program = export_step(layer, jnp.zeros(2) * u.mV, dt=1.0 * u.ms)
    >>> state, spikes = program.step(program.initial_state, jnp.array([0.5, 2.0]) * u.mV)
    >>> print(state["V"], spikes)
    [0.5 1. ] mV [0. 1.]
    >>> state, many = jax.lax.scan(program.step, program.initial_state, 0.3 * jnp.ones((50, 2)) * u.mV)
    >>> many.shape
    (50, 2)
    """

    exported: jax.export.Exported
    state_units: Mapping[str, u.Unit | None]
    input_unit: u.Unit | None
    output_units: tuple[u.Unit | None, ...]
    dt: u.Quantity
    versions: Mapping[str, str]
    _initial_values: Mapping[str, np.ndarray]

    @property
    def initial_state(self) -> dict[str, Any]:
        """The states at rest, in a new dict for each access."""
        return {
            name: _with_unit(jnp.asarray(self._initial_values[name]), unit) for name, unit in self.state_units.items()
        }

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platforms on which the program can run, such as ``"cpu"`` or ``"cuda"``."""
        return self.exported.platforms

    @property
    def arguments(self) -> tuple[Port, ...]:
        """Arguments of the main function, in order: the states sorted by name, followed by the input."""
        return argument_ports(self.exported, self.state_units, self.input_unit)

    @property
    def results(self) -> tuple[Port, ...]:
        """Results of the main function, in order: the states sorted by name, followed by the arrays of the output."""
        return result_ports(self.exported, self.state_units, self.output_units)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input of one step, ``[N]`` or ``[B, N]``."""
        return self._argument_avals[1].shape

    def step(self, state: Mapping[str, Any], x: Any) -> tuple[dict[str, Any], Any]:
        """Advance by one step.

        This is a pure function. It works inside ``jit`` and ``jax.lax.scan``, but not inside ``vmap``. A program that
        was loaded from a file has no gradient.

        Parameters
        ----------
        state : mapping
            The states: ``initial_state``, or the states that the previous step returned.
        x : array or Quantity
            The input of this step, with the shape ``input_shape``. Its unit must have the same dimension as
            ``input_unit``.

        Returns
        -------
        state : dict
            The states after the step.
        y : array, Quantity or tuple, list or dict of them
            The output of the network.

        Raises
        ------
        TypeError, ValueError
            If the names of the states are wrong, or if a state or the input has a wrong shape, dtype or unit.
        RuntimeError
            If the program was exported for different platforms, or if it uses 64-bit types and JAX is set to 32 bits.
        """
        call = "StepProgram.step"
        run = self._run
        state_avals, aval = self._argument_avals
        if not isinstance(state, Mapping) or state.keys() != state_avals.keys():
            got = f"a mapping with {', '.join(map(str, state)) or 'nothing'}" if isinstance(state, Mapping) else None
            raise TypeError(
                f"{call}: state must be a mapping with {', '.join(state_avals) or 'nothing'}, such as initial_state; "
                f"got {got or _arguments.describe(state)}."
            )
        units = self.state_units
        plain = {name: _plain(state[name], state_avals[name], units[name], call, f"the state {name}") for name in units}
        after, out = run(plain, _plain(x, aval, self.input_unit, call, "the input"))
        leaves, tree = jax.tree.flatten(out)
        outputs = [_with_unit(leaf, unit) for leaf, unit in zip(leaves, self.output_units, strict=True)]
        return {name: _with_unit(after[name], units[name]) for name in units}, tree.unflatten(outputs)

    def as_text(self) -> str:
        """Return the StableHLO text of the program."""
        return self.exported.mlir_module()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program to a file, atomically.

        The file is a NumPy archive. ``program`` contains the bytes for ``jax.export.deserialize``. Each array
        ``state/NAME`` contains a state at rest. ``description`` is JSON text with units, ``dt``, versions, the
        arguments and results of the program in order (kind, name, shape, dtype, unit), and the SHA-256 of all content.

        Raises
        ------
        TypeError
            If ``path`` is not a path.
        ValueError
            If the file cannot be written or is not a regular file. An existing file of that name is then not changed.
        RuntimeError
            If the package flatbuffers is not installed. JAX requires this package to write programs.
        """
        call = "StepProgram.save"
        path_text(path, call=call, what="the file to write")
        check_target(path, call=call)
        _check_flatbuffers(call)
        program = bytes(self.exported.serialize())
        units = (self.state_units, self.input_unit, self.output_units)
        ports = plain_ports(self.arguments), plain_ports(self.results)
        write_program_file(path, Stored(program, self._initial_values, *units, self.dt, self.versions, *ports), call)

    def __repr__(self) -> str:
        def description(aval: Any, unit: u.Unit | None) -> str:
            return f"{aval.dtype}{list(aval.shape)} {_unit_text(unit)}"

        state_avals, aval = self._argument_avals
        outputs = zip(self.exported.out_avals[len(state_avals) :], self.output_units, strict=True)
        lines = [
            f"StepProgram for {', '.join(self.platforms)}, dt {float(self.dt.to(u.ms).mantissa):g} ms",
            f"  input: {description(aval, self.input_unit)}",
            *(f"  state {name}: {description(state_avals[name], unit)}" for name, unit in self.state_units.items()),
            f"  output: {', '.join(description(*pair) for pair in outputs)}",
        ]
        return "\n".join(lines)

    @functools.cached_property
    def _argument_avals(self) -> tuple[dict[str, Any], Any]:
        (state, x), _ = self.exported.in_tree.unflatten(self.exported.in_avals)
        return state, x

    @functools.cached_property
    def _run(self) -> Callable[..., Any]:
        here = jax.export.default_export_platform()
        if here not in self.platforms:
            raise RuntimeError(
                f"StepProgram.step: the program was exported for {', '.join(self.platforms)}, but JAX "
                f"runs on {here} on this machine. Export it with platforms=({here!r},)."
            )
        # If JAX is set to 32 bits, it converts 64-bit arguments without a message. The call would then fail with an
        # unclear type error.
        wide = sorted({str(aval.dtype) for aval in self.exported.in_avals if aval.dtype.itemsize == 8})
        if wide and not jax.config.jax_enable_x64:
            raise RuntimeError(
                f"StepProgram.step: the program uses {', '.join(wide)}, but JAX is set to 32 bits. Call "
                'jax.config.update("jax_enable_x64", True) first.'
            )
        return jax.jit(self.exported.call)


def load_step(path: str | os.PathLike[str]) -> StepProgram:
    """Read a program from a file that :meth:`StepProgram.save` wrote.

    A crafted file can crash the process that reads it. A subprocess therefore reads and checks the program first. This
    takes 0.2 s.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    StepProgram
        The program. It computes the same results as when it was exported.

    Raises
    ------
    TypeError
        If ``path`` is not a path.
    ValueError
        If the file cannot be read, is not a step program, or is truncated or corrupted. If it was written by a newer
        brainhw, or by a version of JAX whose programs the installed JAX cannot read. If the program contains external
        calls.
    RuntimeError
        If the package flatbuffers is not installed. JAX requires this package to read programs.

    Examples
    --------
    >>> import os, tempfile
    >>> import brainhw as bh, brainunit as u, jax.numpy as jnp
    >>> from brainhw.interop.stablehlo import export_step, load_step
    >>> program = export_step(bh.nn.LIFLayer(2, tau=10 * u.ms), jnp.zeros((1, 2)) * u.mV, dt=1.0 * u.ms)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "layer.step")
    ...     program.save(path)
    ...     print(sorted(load_step(path).initial_state))
    ['V', 'spk']
    """
    call = "load_step"
    _check_flatbuffers(call)
    stored, what = read_program_file(path, call)
    states, units = stored.states, stored.state_units
    try:
        exported = jax.export.deserialize(bytearray(stored.program))
        exported, examined = examine_in_subprocess(exported)
        found = next(faults(exported, examined), None)
    except Exception as error:  # JAX raises many error classes for unreadable bytes
        raise ValueError(
            f"{what} contains a program that jax {jax.__version__} cannot read ({first_line(error)}). Use the jax that "
            f"wrote the file ({stored.versions.get('jax', 'of an unknown version')}), or export the network again."
        ) from error
    if found is not None:
        raise ValueError(
            f"{what} contains a program that is not a step of a network: {found}. Pass a file that {FILE.writer} wrote."
        )
    program = StepProgram(exported, units, stored.input_unit, stored.output_units, stored.dt, stored.versions, states)
    try:
        state_avals, _ = program._argument_avals
        fits = state_avals.keys() == states.keys() == units.keys() and all(
            states[name].shape == aval.shape and states[name].dtype == stored_dtype(aval.dtype)
            for name, aval in state_avals.items()
        )
        after, _ = exported.out_tree.unflatten(exported.out_avals)
        # The states that a step returns must be valid as the states of the next step.
        fits = (
            fits
            and after.keys() == state_avals.keys()
            and all(_is_like(after[name], state_avals[name]) for name in state_avals)
        )
        if not fits or len(exported.out_avals) != len(state_avals) + len(stored.output_units):
            raise ValueError("its states or its description do not match the program")
        listed = plain_ports(program.arguments), plain_ports(program.results)
        if stored.arguments is not None and listed != (stored.arguments, stored.results):
            raise ValueError("its arguments and results do not match the program")
    except Exception as error:  # a corrupted description may raise other errors
        raise FILE.corrupted(what, f"is corrupted: {first_line(error)}") from error
    return dataclasses.replace(
        program, _initial_values={name: states[name].view(state_avals[name].dtype) for name in units}
    )


def _check_flatbuffers(call: str) -> None:
    try:
        import flatbuffers  # noqa: F401
    except ImportError as error:
        raise RuntimeError(
            f"{call}: JAX requires the package flatbuffers to write and read programs. Install it with pip install "
            "'brainhw[stablehlo]'."
        ) from error


def _is_like(one: Any, other: Any) -> bool:
    return bool(one.shape == other.shape and one.dtype == other.dtype)


def _unit_text(unit: u.Unit | None) -> str:
    return "dimensionless" if unit is None else _arguments.unit_name(unit)


def _with_unit(value: Any, unit: u.Unit | None) -> Any:
    return value if unit is None else u.Quantity(value, unit=unit)


def _plain(value: Any, aval: Any, unit: u.Unit | None, call: str, name: str) -> Any:
    """Convert ``value`` to ``unit``, and return its numbers as an array with the dtype of ``aval``.

    Raise an error if ``value`` has a wrong dimension or shape, or a dtype that cannot be converted.
    """
    if unit is None:
        value = _arguments.as_array(value, call=call, name=name)
    else:
        if not isinstance(value, u.Quantity) or not u.have_same_dim(value, unit):
            raise TypeError(
                f"{call}: {name} must have the dimension of {_unit_text(unit)}; got {_arguments.describe(value)}."
            )
        value = jnp.asarray(value.to(unit).mantissa)
    if value.shape != aval.shape:
        raise ValueError(f"{call}: {name} must have shape {aval.shape}; got shape {value.shape}.")
    if value.dtype != aval.dtype:
        _arguments.check_cast(value.dtype, aval.dtype, call=call, name=name)
        value = value.astype(aval.dtype)
    return value
