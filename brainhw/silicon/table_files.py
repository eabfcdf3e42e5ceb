"""Read CSV files of bench measurements. Columns are identified by name and unit, in any order."""

from __future__ import annotations

import csv
import io
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import text
from brainhw._closest import closest
from brainhw._files import NotRegularError, first_line, open_regular, path_text
from brainhw.silicon.tables import ChargeTable, DecayTable, RateTable

__all__ = ["read_table"]

# Size limit in bytes. Reading a file of this size takes some gigabytes of memory.
LARGEST = 256 * 2**20

# Spellings of units in headers, as multiples of the stored unit.
_MICRO = ("u", "µ", "μ")
_CHARGES = {"aC": 1e-3, "fC": 1.0, "pC": 1e3, "nC": 1e6, "C": 1e15}
_TIMES = {"s": 1e3, "ms": 1.0, "ns": 1e-6, **{f"{letter}s": 1e-3 for letter in _MICRO}}
_VOLTAGES = {"V": 1e3, "mV": 1.0, "nV": 1e-6, **{f"{letter}V": 1e-3 for letter in _MICRO}}
_RATES = {"Hz": 1.0, "kHz": 1e3, "mHz": 1e-3}
_WHOLE: dict[str, float] = {}


@dataclass(frozen=True)
class _Kind:
    """Kind of a table: its class, and for each column the spellings of its unit and the stored unit."""

    table: type
    columns: dict[str, tuple[dict[str, float], Any]]
    optional: tuple[str, ...]

    @property
    def required(self) -> list[str]:
        return [name for name in self.columns if name not in self.optional]

    def header(self) -> str:
        return ",".join(
            f"{name}_{next(k for k, v in self.columns[name][0].items() if v == 1.0)}" if self.columns[name][0] else name
            for name in self.required
        )


_KINDS = (
    _Kind(
        ChargeTable,
        {
            "code": (_WHOLE, None),
            "synapse": (_WHOLE, None),
            "charge": (_CHARGES, u.fcoulomb),
            "trial": (_WHOLE, None),
        },
        ("trial",),
    ),
    _Kind(
        DecayTable,
        {
            "setting": (_WHOLE, None),
            "neuron": (_WHOLE, None),
            "t": (_TIMES, u.ms),
            "V": (_VOLTAGES, u.mV),
            "trial": (_WHOLE, None),
        },
        ("trial",),
    ),
    _Kind(
        RateTable,
        {
            "neuron": (_WHOLE, None),
            "inputs": (_WHOLE, None),
            "rate": (_RATES, u.Hz),
            "code": (_WHOLE, None),
            "setting": (_WHOLE, None),
            "window": (_TIMES, u.ms),
            "trial": (_WHOLE, None),
        },
        ("code", "setting", "window", "trial"),
    ),
)


def read_table(path: str | os.PathLike[str], *, call: str = "read_table") -> ChargeTable | DecayTable | RateTable:
    r"""Read a CSV file of bench measurements. The header determines the kind of table.

    ==============  ======================================================================================
    kind            columns, in any order (those in brackets are optional)
    ==============  ======================================================================================
    `ChargeTable`   ``code, synapse, charge_fC, [trial]``
    `DecayTable`    ``setting, neuron, t_ms, V_mV, [trial]``
    `RateTable`     ``neuron, inputs, rate_Hz, [code], [setting], [window_s], [trial]``
    ==============  ======================================================================================

    The unit follows the name of a column, as in ``charge_pC``, ``charge [pC]`` or ``charge (pC)``, and the values are
    converted. Columns are separated by commas, semicolons or tabs. With semicolons or tabs, decimal commas are
    accepted. If every comma in the values could also be a thousands separator, the file is rejected. The text is
    UTF-8, or UTF-16 with a byte order mark. Columns with other names are ignored with a warning. Error messages count
    rows from 1, which is the first row below the header. Empty lines and lines that start with ``#`` are not counted.

    Parameters
    ----------
    path : str or path
        The file, at most 256 MiB.
    call : str, optional
        Name of the calling function, for error messages.

    Returns
    -------
    ChargeTable, DecayTable or RateTable
        The table.

    Raises
    ------
    TypeError
        If ``path`` is not a path.
    ValueError
        If the file cannot be read or is not such a table. The message names the file, the row and the column.

    Examples
    --------
    >>> import brainhw as bh, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "charge.csv"
    >>> _ = path.write_text("code;charge_pC;synapse\n-1;-0,0006;0\n0;0,0000;0\n1;0,0006;0\n")
    >>> bh.silicon.read_table(path)
    ChargeTable(3 rows: 3 codes, 1 synapse)
    """
    text(call, call="read_table", name="call", some=True)
    name = path_text(path, call=call, what="a CSV file of bench measurements")
    what = f"{call}: the table {name!r}"
    content = _unmarked(_text(name, what))
    first = next((line for line in content.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [
            row
            for row in csv.reader(io.StringIO(content), delimiter=delimiter)
            if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#")
        ]
    except csv.Error as error:
        raise ValueError(f"{what} is not CSV text ({first_line(error)}).") from error
    if not rows:
        raise ValueError(f"{what} is empty; expected a header such as {_KINDS[0].header()} and rows.")
    kind, columns = _columns(rows[0], what)
    if len(rows) == 1:
        raise ValueError(f"{what} has a header but no rows.")
    # In a comma-separated file, a decimal comma adds a cell, which would shift the rest of the row.
    odd = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if odd is not None:
        raise ValueError(
            f"{what}: row {odd} below the header has {len(rows[odd])} cells; expected {len(rows[0])}. Write numbers "
            "with a decimal point, or separate columns by semicolons."
        )
    decimal_comma = delimiter != "," and _decimal_comma(rows, columns, what)
    values = {
        column: _numbers(rows, place, header, factor, decimal_comma, what)
        for column, (place, header, factor) in columns.items()
    }
    units = {column: kind.columns[column][1] for column in values}
    given = {
        column: numbers if units[column] is None else u.Quantity(numbers, unit=units[column])
        for column, numbers in values.items()
    }
    try:
        table: ChargeTable | DecayTable | RateTable = kind.table(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} is invalid: {error}") from error
    # The fits name this file in their error messages.
    object.__setattr__(table, "_path", name)
    return table


# A first line such as ``sep=;``, which Excel writes or needs to identify the separator.
_MARK = re.compile(r'\s*"?sep=.?"?[^\S\n]*\n', re.IGNORECASE)


def _unmarked(content: str) -> str:
    """Return the text with line feeds as line ends, and without a first line ``sep=;``."""
    content = content.replace("\r\n", "\n").replace("\r", "\n")
    mark = _MARK.match(content)
    return content[mark.end() :] if mark else content


def _text(name: str, what: str) -> str:
    try:
        size = os.stat(name).st_size
        if size > LARGEST:
            raise ValueError(
                f"{what} has {size / 2**20:.0f} MiB, more than the limit of {LARGEST // 2**20}. "
                "Split it, or average repeated measurements."
            )
        with open_regular(name) as stream:
            data = stream.read(LARGEST + 1)
    except FileNotFoundError:
        raise ValueError(f"{what} does not exist.") from None
    except NotRegularError as error:
        raise ValueError(f"{what} cannot be read: {error.strerror}.") from error
    except OSError as error:
        raise ValueError(f"{what} cannot be read: {error.strerror or error}.") from error
    # Spreadsheets save "Unicode text" as UTF-16.
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        decoded = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} is not UTF-8 text: {first_line(error)}. Save it as CSV in UTF-8.") from error
    if "\0" in decoded:
        raise ValueError(f"{what} is not text: it contains null characters. Save it as CSV in UTF-8.")
    return decoded


_HEADER = re.compile(r"([^\W\d_]+)\s*(?:[_ /]\s*|[\[(]\s*|[_ /]\s*[\[(]\s*)?([^\W\d_]*)\s*[\])]?")


def _columns(header: Sequence[str], what: str) -> tuple[_Kind, dict[str, tuple[int, str, float]]]:
    """Return the kind of table, and the index, header and unit factor of each of its columns."""
    split = [_split(cell) for cell in header]
    names = [name.lower() for name, _ in split]
    known = {column.lower() for kind in _KINDS for column in kind.columns}
    kind = max(_KINDS, key=lambda kind: _score(kind, names))
    missing = [column for column in kind.required if column.lower() not in names]
    if missing:
        shown = ", ".join(repr(cell.strip()[:30]) for cell in header[:8])
        expected = kind.header() if known & set(names) else " or ".join(kind.header() for kind in _KINDS)
        meant = next((cell.strip()[:30] for cell in header if closest(cell, missing[:1])), "")
        near = f" (if {meant!r} is meant, rename it)" if meant else ""
        raise ValueError(
            f"{what} lacks the column {missing[0]!r}{near}; its columns are {shown}; expected {expected} in any order."
        )
    found: dict[str, tuple[int, str, float]] = {}
    for column, (units, _) in kind.columns.items():
        places = [place for place, name in enumerate(names) if name == column.lower()]
        if len(places) > 1:
            raise ValueError(f"{what} has {len(places)} columns {column!r}; keep one.")
        for place in places:
            found[column] = (place, header[place].strip(), _factor(column, header[place], split[place][1], units, what))
    extra = [header[place].strip() for place in range(len(header)) if place not in {at for at, *_ in found.values()}]
    if extra:
        warnings.warn(f"{what} has columns that are not used: {', '.join(map(repr, extra))}.", stacklevel=4)
    return kind, found


def _split(cell: str) -> tuple[str, str]:
    matched = _HEADER.fullmatch(cell.strip())
    return (matched[1], matched[2]) if matched else (cell.strip(), "")


def _score(kind: _Kind, names: Sequence[str]) -> tuple[bool, int]:
    there = sum(column.lower() in names for column in kind.required)
    return there == len(kind.required), there


def _factor(column: str, header: str, unit: str, units: dict[str, float], what: str) -> float:
    if not units:
        if unit:
            raise ValueError(
                f"{what}: the column {header.strip()!r} must have no unit, and the name {column!r}; got the suffix "
                f"{unit!r}. Rename the column."
            )
        return 1.0
    if unit not in units:
        fault = f"has the unit {unit!r}{closest(unit, units)}" if unit else "has no unit"
        raise ValueError(
            f"{what}: the column {header.strip()!r} {fault}; expected {column}_UNIT with one of {', '.join(units)}."
        )
    return units[unit]


# In numbers such as 1,000 or -12,345,678, the comma may separate thousands or decimals.
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")


def _decimal_comma(rows: Sequence[Sequence[str]], columns: dict[str, tuple[int, str, float]], what: str) -> bool:
    """Return whether the commas in the numbers are decimal commas.

    Raise ``ValueError`` if every comma could also be a thousands separator.
    """
    doubtful: tuple[int, str, str] | None = None
    for place, header, _ in columns.values():
        for at, row in enumerate(rows[1:]):
            cell = row[place].strip()
            if "," not in cell:
                continue
            if not _THOUSANDS.fullmatch(cell):
                # One such number shows the format of the whole file.
                return "." not in cell
            doubtful = doubtful or (at + 1, header, cell)
    if doubtful is None:
        return False
    raise ValueError(
        f"{what}: row {doubtful[0]} below the header contains {doubtful[2][:30]!r} in the column {doubtful[1]!r}. The "
        "comma may separate thousands or decimals, and no other number in the file shows which. Write numbers without "
        "thousands separators and with a decimal point."
    )


def _numbers(
    rows: Sequence[Sequence[str]], place: int, header: str, factor: float, decimal_comma: bool, what: str
) -> np.ndarray:
    # Word processors write the Unicode minus sign.
    cells = [row[place].strip().replace("\u2212", "-") for row in rows[1:]]
    plain = [cell.replace(",", ".") for cell in cells] if decimal_comma else cells
    try:
        numbers = np.array(plain, dtype=float)
    except ValueError:
        numbers = np.array([_number(cell) for cell in plain])
    # Python accepts 1_000 as a number, but in a table it is an error.
    bad = ~np.isfinite(numbers) | np.array(["_" in cell for cell in plain])
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(
            f"{what}: row {at + 1} below the header contains {cells[at][:30]!r} in the column {header!r} "
            f"(in {int(bad.sum())} of {bad.size} rows); expected a finite number without thousands separators. "
            "Remove rows that were not measured."
        )
    # Rounding to thirteen digits removes the rounding error of a unit conversion by a power of ten.
    return numbers if factor == 1.0 else np.array([float(f"{x:.13g}") for x in (numbers * factor).tolist()])


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
