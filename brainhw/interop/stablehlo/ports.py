"""Arguments and results of the main function of an exported program, in order. The program computes one time step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import brainunit as u
import jax
import jax.export

from brainhw._arguments import unit_name

__all__ = ["Port", "argument_ports", "plain_ports", "result_ports"]


class Port(NamedTuple):
    """One argument or result of a program. It is a plain array without a unit.

    Attributes
    ----------
    kind : {'platform', 'state', 'input', 'output'}
        What the array contains. A program for several platforms has an additional first argument of the kind
        ``'platform'``, which is an index into ``StepProgram.platforms``.
    name : str
        Name of the state, ``"x"`` for the input, or ``"y"`` for the output. If the output consists of several arrays,
        each name has an index or key, such as ``"y[0]"``.
    shape : tuple of int
        Shape of the array.
    dtype : str
        The dtype, such as ``"float32"``.
    unit : Unit or None
        Unit of the values, or ``None`` if they have no unit.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    unit: u.Unit | None


def argument_ports(
    exported: jax.export.Exported, state_units: Mapping[str, u.Unit | None], input_unit: u.Unit | None
) -> tuple[Port, ...]:
    """Return a `Port` for each argument of the main function of a program, in order.

    In older files, the main function has no arguments for states that a step only writes.
    """
    (state, _), _ = exported.in_tree.unflatten(exported.in_avals)
    # In the same order as JAX, which sorts a dict by its keys.
    names: list[tuple[str, str, u.Unit | None]] = [("state", name, state_units[name]) for name in sorted(state)]
    names += [("input", "x", input_unit)]
    ports = [_port(*one, aval) for one, aval in zip(names, exported.in_avals, strict=True)]
    first = (Port("platform", "platform", (), "int32", None),) if len(exported.platforms) > 1 else ()
    return (*first, *(ports[at] for at in exported.module_kept_var_idx))


def result_ports(
    exported: jax.export.Exported,
    state_units: Mapping[str, u.Unit | None],
    output_units: Sequence[u.Unit | None],
) -> tuple[Port, ...]:
    """Return a `Port` for each result of the main function of a program, in order."""
    state, output = exported.out_tree.unflatten(range(len(exported.out_avals)))
    places = [f"y{jax.tree_util.keystr(path)}" for path, _ in jax.tree_util.tree_leaves_with_path(output)]
    names = [("state", name, state_units[name]) for name in sorted(state)]
    names += [("output", place, unit) for place, unit in zip(places, output_units, strict=True)]
    return tuple(_port(*one, aval) for one, aval in zip(names, exported.out_avals, strict=True))


def plain_ports(ports: Sequence[Port]) -> list[dict[str, Any]]:
    """Convert ports to dicts of strings and numbers, which can be written to a file."""
    return [
        {**port._asdict(), "shape": list(port.shape), "unit": None if port.unit is None else unit_name(port.unit)}
        for port in ports
    ]


def _port(kind: str, name: str, unit: u.Unit | None, aval: Any) -> Port:
    return Port(kind, name, tuple(aval.shape), str(aval.dtype), unit)
