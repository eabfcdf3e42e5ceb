"""Tables of bench measurements: charge per code, decays of the membrane potential, and f-I curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw.chip._units import exact
from brainhw.silicon._results import counted

__all__ = ["ChargeTable", "DecayTable", "RateTable"]

# A chip has a few hundred neurons, each with a few hundred synapses. An index above this limit means that columns are
# mixed up.
MOST_INDEX = 10**6


@final
@dataclass(frozen=True, eq=False, repr=False)
class ChargeTable:
    """Charge of single spikes. Each row is one measurement of one synapse at one weight code.

    Parameters
    ----------
    code : array of int, shape [R]
        Weight code of the synapse, from minus to plus the largest code of the chip.
    synapse : array of int, shape [R]
        Index of the measured synapse, from 0.
    charge : Quantity, shape [R]
        Charge of one spike, stored in fC.
    trial : array of int, shape [R], optional
        Index of the repetition. Default: each pair of code and synapse was measured once.

    Raises
    ------
    TypeError
        If a column has the wrong type or unit.
    ValueError
        If a column is empty or contains non-finite values, if the columns differ in length, or if the same measurement
        appears twice.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u, numpy as np
    >>> codes = np.arange(-15, 16)
    >>> table = bh.silicon.ChargeTable(codes, np.zeros(31, int), 0.06 * codes * u.fcoulomb)
    >>> table
    ChargeTable(31 rows: 31 codes, 1 synapse)
    """

    code: Any
    synapse: Any
    charge: u.Quantity
    trial: Any = None

    def __post_init__(self) -> None:
        _check(self, {"code": None, "synapse": 0, "trial": 0}, {"charge": u.fcoulomb})
        _check_repeated(self, ("code", "synapse", "trial"))

    def __repr__(self) -> str:
        return (
            f"ChargeTable({counted(self.code.size, 'row')}: {counted(np.unique(self.code).size, 'code')}, "
            f"{counted(np.unique(self.synapse).size, 'synapse')})"
        )


@final
@dataclass(frozen=True, eq=False, repr=False)
class DecayTable:
    """Decays of the membrane potential without input. Each row is one reading of one neuron at one leak setting.

    Parameters
    ----------
    setting : array of int, shape [R]
        Index of the leak setting, from 0.
    neuron : array of int, shape [R]
        Physical index of the neuron, from 0.
    t : Quantity, shape [R]
        Time of the reading, zero or greater, stored in ms. The first time of a decay need not be 0.
    V : Quantity, shape [R]
        Membrane potential, stored in mV.
    trial : array of int, shape [R], optional
        Index of the repetition. Default: each decay was read once.

    Raises
    ------
    TypeError
        If a column has the wrong type or unit.
    ValueError
        If a column is empty or contains non-finite values, if the columns differ in length, or if the same reading
        appears twice.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u, numpy as np
    >>> t, zero = np.arange(40.0), np.zeros(40, int)
    >>> bh.silicon.DecayTable(zero, zero, t * u.ms, 60 * np.exp(-t / 20) * u.mV)
    DecayTable(40 rows: 1 setting, 1 neuron)
    """

    setting: Any
    neuron: Any
    t: u.Quantity
    V: u.Quantity
    trial: Any = None

    def __post_init__(self) -> None:
        _check(self, {"setting": 0, "neuron": 0, "trial": 0}, {"t": u.ms, "V": u.mV}, nonnegative=("t",))
        _check_repeated(self, ("setting", "neuron", "t", "trial"))

    def __repr__(self) -> str:
        return (
            f"DecayTable({counted(self.neuron.size, 'row')}: {counted(np.unique(self.setting).size, 'setting')}, "
            f"{counted(np.unique(self.neuron).size, 'neuron')})"
        )


@final
@dataclass(frozen=True, eq=False, repr=False)
class RateTable:
    """Firing rates against the number of active synapses (f-I curves). Each row is one measurement of one neuron.

    In each measurement, a number of synapses of the neuron (``inputs``) receive one spike in every step. All of them
    have the same weight (``code``).

    Parameters
    ----------
    neuron : array of int, shape [R]
        Physical index of the neuron, from 0.
    inputs : array of int, shape [R]
        Number of synapses that spike in every step, from 0.
    rate : Quantity, shape [R]
        Firing rate of the neuron, zero or greater, stored in Hz.
    code : array of int, shape [R], optional
        Weight code of the synapses. Default: the largest code of the chip.
    setting : array of int, shape [R], optional
        Leak setting, numbered as in `DecayTable`. Default: a single setting, which the fit identifies.
    window : Quantity, shape [R] or scalar, optional
        Time over which spikes were counted, greater than zero, stored in ms. Default: 1 second.
    trial : array of int, shape [R], optional
        Index of the repetition. Default: each point was measured once.

    Raises
    ------
    TypeError
        If a column has the wrong type or unit.
    ValueError
        If a column is empty or contains non-finite values, if the columns differ in length, or if the same point
        appears twice.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u, numpy as np
    >>> bh.silicon.RateTable(np.zeros(3, int), np.array([1, 2, 3]), [44.0, 137.0, 207.0] * u.Hz)
    RateTable(3 rows: 1 neuron, 1 to 3 inputs)
    """

    neuron: Any
    inputs: Any
    rate: u.Quantity
    code: Any = None
    setting: Any = None
    window: u.Quantity | None = None
    trial: Any = None

    def __post_init__(self) -> None:
        columns = {"neuron": 0, "inputs": 0, "code": None, "setting": 0, "trial": 0}
        # A single window is used for all rows.
        object.__setattr__(self, "window", 1000.0 * u.ms if self.window is None else self.window)
        _check(self, columns, {"rate": u.Hz, "window": u.ms}, nonnegative=("rate",), positive=("window",))
        _check_repeated(self, ("neuron", "inputs", "code", "setting", "trial"))

    def __repr__(self) -> str:
        return (
            f"RateTable({counted(self.neuron.size, 'row')}: {counted(np.unique(self.neuron).size, 'neuron')}, "
            f"{self.inputs.min()} to {self.inputs.max()} inputs)"
        )


def named(table: Any) -> str:
    """Return the name of a table for error messages. If the table was read from a file, the name includes the file."""
    path = getattr(table, "_path", None)
    return "table" if path is None else f"the table {path!r}"


def _check(
    table: Any,
    whole: dict[str, int | None],
    units: dict[str, u.Unit],
    nonnegative: tuple[str, ...] = (),
    positive: tuple[str, ...] = (),
) -> None:
    """Check the columns of a table, and store each as a read-only array of the same length.

    ``whole`` maps the name of each integer column to its lowest valid value, or to None for no limit. ``units`` maps
    the name of each other column to its unit.
    """
    call, first, length = type(table).__name__, "", 0
    for name, field in table.__dataclass_fields__.items():
        value = getattr(table, name)
        if value is None and field.default is None:
            continue
        if name in units:
            column = exact(
                value,
                units[name],
                call=call,
                name=name,
                shapes=None,
                positive=name in positive,
                nonnegative=name in nonnegative,
            )
        else:
            column = _whole(value, whole[name], call=call, name=name)
        if name == "window" and not column.ndim:
            column = np.full(length, column)
        if column.ndim != 1 or not column.size:
            raise ValueError(f"{call}: {name} must be a non-empty array with one axis; got shape {column.shape}.")
        first, length = (first, length) if first else (name, column.size)
        if column.size != length:
            raise ValueError(
                f"{call}: {first} and {name} must have one value per row; got {length} and {column.size} values. Pass "
                "columns of the same length."
            )
        column = column.copy()
        column.setflags(write=False)
        object.__setattr__(table, name, u.Quantity(column, unit=units[name]) if name in units else column)


def _whole(value: Any, least: int | None, *, call: str, name: str) -> np.ndarray:
    column = np.asarray(_arguments.as_array(value, call=call, name=name))
    if column.dtype.kind == "b":
        raise TypeError(f"{call}: {name} must contain integers; got {_arguments.describe(value)}.")
    _arguments.check_finite(column, call=call, name=name)
    bad = (column != np.rint(column)) | (np.abs(column) > MOST_INDEX)
    if least is not None:
        bad |= column < least
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        wanted = f"from {-MOST_INDEX if least is None else least} to {MOST_INDEX}"
        raise ValueError(
            f"{call}: {name} must contain integers {wanted}; got {column[at]:g} in row {at[0] + 1 if at else 1} "
            f"({int(bad.sum())} such values)."
        )
    return column.astype(np.int64)


def _check_repeated(table: Any, keys: tuple[str, ...]) -> None:
    call = type(table).__name__
    held = {name: getattr(table, name) for name in keys if getattr(table, name) is not None}
    columns = [np.asarray(u.get_mantissa(column)) for column in held.values()]
    order = np.lexsort(columns[::-1])
    same = np.all([column[order][1:] == column[order][:-1] for column in columns], axis=0)
    if same.any():
        first, second = sorted((int(order[int(np.argmax(same))]), int(order[int(np.argmax(same)) + 1])))
        what = ", ".join(f"{name} {column[first]:g}" for name, column in zip(held, columns, strict=True))
        raise ValueError(
            f"{call}: rows {first + 1} and {second + 1} both contain {what} ({int(same.sum())} repeated rows). Add a "
            "column `trial` with the index of the repetition, or average the repeated measurements."
        )
