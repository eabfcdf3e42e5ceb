"""A step of a network that has become a program: state and input in, state and output out."""

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
from brainhw.interop.stablehlo.file import read_program_file, stored_dtype, write_program_file
from brainhw.interop.stablehlo.units import plain_number, plain_unit, unit_of, unit_text

__all__ = ["StepProgram", "check_flatbuffers", "load_step"]


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class StepProgram:
    """One step of a network as a compiled program, from :func:`export_step` or :func:`load_step`.

    The program is a pure function and holds all that a step needs besides state and input: weights, as the chip
    applies them, time constants, thresholds, the time step. Neither the network nor the code that it was written in is
    needed to run it. Here states, input and output are Quantities where they have a unit; the program itself takes and
    gives plain numbers in these units.

    Attributes
    ----------
    exported : jax.export.Exported
        The program: ``exported.call(state, x)`` returns ``(state, y)`` in plain numbers, the state as a dict by name.
    initial_state : dict
        The states at rest by name, such as ``"hidden.V"``: arrays, Quantities where they have a unit.
    state_units : Mapping
        The unit of each state, ``None`` for none.
    input_unit : Unit or None
        The unit of the input of a step.
    output_units : tuple of (Unit or None)
        The units of the arrays of the output, in order.
    dt : Quantity
        The time step that is compiled in, ms.
    versions : dict
        What it was exported with: ``brainhw``, ``brainstate``, ``jax``, ``python``.

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
    _rest: Mapping[str, np.ndarray]

    @property
    def initial_state(self) -> dict[str, Any]:
        """The states at rest, by name; a new dict each time."""
        return {name: _with_unit(jnp.asarray(self._rest[name]), unit) for name, unit in self.state_units.items()}

    @property
    def platforms(self) -> tuple[str, ...]:
        """What the program runs on, such as ``"cpu"`` or ``"cuda"``."""
        return self.exported.platforms

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the input of one step, ``[N]`` or ``[B, N]``."""
        return self._likes[1].shape

    def step(self, state: Mapping[str, Any], x: Any) -> tuple[dict[str, Any], Any]:
        """Advance by one step; a pure function, which may stand inside ``jit`` and ``jax.lax.scan``, not ``vmap``.

        It runs forward; a program that was read from a file has no gradient.

        Parameters
        ----------
        state : mapping
            The states by name: ``initial_state``, or what the step before returned.
        x : array or Quantity
            The input of this step, shape ``input_shape``, in any unit of the dimension of ``input_unit``.

        Returns
        -------
        state : dict
            The states after the step.
        y : array, Quantity or tuple, list or dict of them
            What the network returned.

        Raises
        ------
        TypeError, ValueError
            If the state or the input has the wrong names, shape, number type or unit.
        RuntimeError
            If the program was exported for other platforms, or computes in 64 bits, which JAX is not set to here.
        """
        call = "StepProgram.step"
        run = self._run
        likes, like = self._likes
        if not isinstance(state, Mapping) or state.keys() != likes.keys():
            got = f"a mapping with {', '.join(map(str, state)) or 'nothing'}" if isinstance(state, Mapping) else None
            raise TypeError(
                f"{call}: state must be a mapping with {', '.join(likes) or 'nothing'}, such as initial_state; got "
                f"{got or _arguments.describe(state)}."
            )
        plain = {
            name: _plain(state[name], likes[name], unit, call, f"the state {name}")
            for name, unit in self.state_units.items()
        }
        after, out = run(plain, _plain(x, like, self.input_unit, call, "the input"))
        leaves, tree = jax.tree.flatten(out)
        outputs = [_with_unit(leaf, unit) for leaf, unit in zip(leaves, self.output_units, strict=True)]
        return {name: _with_unit(after[name], unit) for name, unit in self.state_units.items()}, tree.unflatten(outputs)

    def as_text(self) -> str:
        """Return the StableHLO of the program as text."""
        return self.exported.mlir_module()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program, its states at rest and its description to a file, in one step.

        The file is a NumPy archive: ``program`` holds the bytes that ``jax.export.deserialize`` reads, ``state/NAME``
        each state at rest, ``description`` JSON with units, ``dt``, versions and the SHA-256 of program and states.

        Raises
        ------
        TypeError
            If ``path`` is no path.
        ValueError
            If the file cannot be written; what stood there before is still whole.
        RuntimeError
            If the package flatbuffers, which JAX needs for this, is not installed.
        """
        call = "StepProgram.save"
        try:
            os.fsdecode(path)
        except TypeError:
            raise TypeError(
                f"{call}: path must be the path of the file to write; got {_arguments.describe(path)}."
            ) from None
        check_flatbuffers(call)
        description = {
            "dt_ms": float(self.dt.to(u.ms).mantissa),
            "state_units": {name: plain_unit(unit) for name, unit in self.state_units.items()},
            "input_unit": plain_unit(self.input_unit),
            "output_units": [plain_unit(unit) for unit in self.output_units],
            "versions": dict(self.versions),
        }
        write_program_file(path, bytes(self.exported.serialize()), self._rest, description, call)

    def __repr__(self) -> str:
        def words(like: Any, unit: u.Unit | None) -> str:
            return f"{like.dtype}{list(like.shape)} {unit_text(unit)}"

        likes, like = self._likes
        states = [f"  state {name}: {words(likes[name], unit)}" for name, unit in self.state_units.items()]
        outputs = [words(*pair) for pair in zip(self.exported.out_avals[len(likes) :], self.output_units, strict=True)]
        first = f"StepProgram for {', '.join(self.platforms)}, dt {float(self.dt.to(u.ms).mantissa):g} ms"
        return "\n".join(
            [first, f"  input: {words(like, self.input_unit)}", *states, f"  output: {', '.join(outputs)}"]
        )

    @functools.cached_property
    def _likes(self) -> tuple[dict[str, Any], Any]:
        (state, x), _ = self.exported.in_tree.unflatten(self.exported.in_avals)
        return state, x

    @functools.cached_property
    def _run(self) -> Callable[..., Any]:
        here = jax.export.default_export_platform()
        if here not in self.platforms:
            raise RuntimeError(
                f"StepProgram.step: the program was exported for {', '.join(self.platforms)} and JAX runs on {here} "
                f"here; export it with platforms=({here!r},)."
            )
        wide = sorted({str(like.dtype) for like in self.exported.in_avals if like.dtype.itemsize == 8})
        if wide and not jax.config.jax_enable_x64:
            raise RuntimeError(
                f"StepProgram.step: the program computes in {', '.join(wide)}, which JAX is not set to here; call "
                'jax.config.update("jax_enable_x64", True) first.'
            )
        return jax.jit(self.exported.call)


def load_step(path: str | os.PathLike[str]) -> StepProgram:
    """Read a program that :meth:`StepProgram.save` wrote.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    StepProgram
        The program; it runs as it did when it was exported.

    Raises
    ------
    TypeError
        If ``path`` is no path.
    ValueError
        If the file cannot be read, is none of these, is cut short or damaged, or was written by a newer brainhw or a
        JAX whose programs this one cannot read.
    RuntimeError
        If the package flatbuffers, which JAX needs for this, is not installed.

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
    check_flatbuffers(call)
    data, rest, description, what = read_program_file(path, call)
    versions = description.get("versions")
    if not isinstance(versions, dict) or not all(isinstance(version, str) for version in versions.values()):
        raise ValueError(f"{what} is damaged: its versions are no names; export the network again.")
    try:
        exported = jax.export.deserialize(bytearray(data))
    except Exception as error:  # whatever JAX makes of bytes that it does not know
        raise ValueError(
            f"{what} holds a program that jax {jax.__version__} cannot read ({error}); it was written with jax "
            f"{versions.get('jax', 'of an unknown version')}: use that one, or export the network again."
        ) from error
    try:
        program = StepProgram(
            exported,
            {name: unit_of(unit) for name, unit in description["state_units"].items()},
            unit_of(description["input_unit"]),
            tuple(unit_of(unit) for unit in description["output_units"]),
            plain_number(description["dt_ms"], "dt_ms", positive=True) * u.ms,
            versions,
            rest,
        )
        likes, _ = program._likes
        whole = likes.keys() == rest.keys() == program.state_units.keys() and all(
            rest[name].shape == like.shape and rest[name].dtype == stored_dtype(like.dtype)
            for name, like in likes.items()
        )
        if not whole or len(exported.out_avals) != len(likes) + len(program.output_units):
            raise ValueError("states or description are not those of the program")
        kept = {name: rest[name].view(likes[name].dtype) for name in program.state_units}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{what} is damaged: {error}; export the network again.") from error
    return dataclasses.replace(program, _rest=kept)


def check_flatbuffers(call: str) -> None:
    """Raise unless the package is there that JAX writes and reads programs with."""
    try:
        import flatbuffers  # noqa: F401
    except ImportError as error:
        raise RuntimeError(
            f"{call}: JAX needs the package flatbuffers to write and read programs; pip install 'brainhw[stablehlo]'."
        ) from error


def _with_unit(value: Any, unit: u.Unit | None) -> Any:
    return value if unit is None else u.Quantity(value, unit=unit)


def _plain(value: Any, like: Any, unit: u.Unit | None, call: str, name: str) -> Any:
    """Return the numbers of ``value`` in ``unit``, with the dtype of ``like``, or raise."""
    if unit is None:
        value = _arguments.as_array(value, call=call, name=name)
    else:
        if not isinstance(value, u.Quantity) or not u.have_same_dim(value, unit):
            raise TypeError(
                f"{call}: {name} must have the dimension of {unit_text(unit)}; got {_arguments.describe(value)}."
            )
        value = jnp.asarray(value.to(unit).mantissa)
    if value.shape != like.shape:
        raise ValueError(f"{call}: {name} must have shape {like.shape}; got shape {value.shape}.")
    if value.dtype != like.dtype:
        _arguments.check_cast(value.dtype, like.dtype, call=call, name=name)
        value = value.astype(like.dtype)
    return value
