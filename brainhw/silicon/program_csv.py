"""CSV files of a chip program: tables of neurons, of weight codes, and of the weight and charge of each code."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from brainhw._files import open_regular

__all__ = ["CSV_FILES", "parse_float", "parse_int", "read_csv", "read_rows", "write_csv"]

NEURONS, CODES, LEVELS = CSV_FILES = ("neurons.csv", "codes.csv", "levels.csv")
_COLUMNS = {
    NEURONS: ("layer", "index", "core", "position", "leak"),
    CODES: ("synapse", "pre", "post", "code"),
    LEVELS: ("bits", "code", "weight", "charge_fC"),
}
_LEVEL_COLUMNS = ("code", "weight", "charge_fC")


def write_csv(stages: list[dict[str, Any]], arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """Return the text of each CSV file, by file name, from the stages and the arrays of a program."""
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in CSV_FILES}
    for stage in stages:
        layer, synapse = stage["layer"], stage["synapse"]
        columns = [arrays[f"{column}/{layer}"].tolist() for column in ("core", "position", "leak")]
        rows[NEURONS] += [(layer, index, *row) for index, row in enumerate(zip(*columns, strict=True))]
        codes = arrays[f"codes/{synapse}"]
        if stage["frontend"]:
            rows[CODES] += [(synapse, i, i, code) for i, code in enumerate(codes.tolist())]
        else:
            rows[CODES] += _matrix_rows(synapse, codes)
        if stage["recurrent_bits"] is not None:
            rows[CODES] += _matrix_rows(layer, arrays[f"recurrent/{layer}"])
    for name in arrays:
        if name.startswith("levels/") and name.endswith("/code"):
            bits = name.split("/")[1]
            held = [arrays[f"levels/{bits}/{column}"] for column in _LEVEL_COLUMNS]
            # `str` returns the shortest decimals that are read as the same float.
            rows[LEVELS] += [(bits, int(c), str(w), str(q)) for c, w, q in zip(*held, strict=True)]
    return {name: _text(_COLUMNS[name], rows[name]) for name in CSV_FILES}


def _matrix_rows(name: str, codes: np.ndarray) -> list[tuple[Any, ...]]:
    return [(name, pre, post, code) for pre, row in enumerate(codes.tolist()) for post, code in enumerate(row)]


def _text(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def read_csv(folder: Path, stages: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Read the CSV files of a program and return their arrays by name.

    If a file is invalid, raise a ``ValueError`` that names the file, the line and the error.
    """
    arrays: dict[str, np.ndarray] = {}
    for stage in stages:
        shape = (stage["neurons"],)
        arrays |= {f"{column}/{stage['layer']}": np.zeros(shape, np.int32) for column in ("core", "position", "leak")}
    layers = {stage["layer"]: stage["neurons"] for stage in stages}
    seen: set[tuple[str, int]] = set()
    for where, (layer, *row) in read_rows(folder / NEURONS, _COLUMNS[NEURONS]):
        if layer not in layers:
            raise ValueError(f"{where}: layer {layer!r:.80} does not exist; expected one of {', '.join(layers)}")
        index, *values = (parse_int(text, where, name) for text, name in zip(row, _COLUMNS[NEURONS][1:], strict=True))
        if not 0 <= index < layers[layer] or (layer, index) in seen:
            fault = "appears twice" if (layer, index) in seen else f"is not one of its {layers[layer]} neurons"
            raise ValueError(f"{where}: neuron {index} of layer {layer!r} {fault}")
        seen.add((layer, index))
        for column, value in zip(("core", "position", "leak"), values, strict=True):
            arrays[f"{column}/{layer}"][index] = value
    for layer, n in layers.items():
        if missing := [index for index in range(n) if (layer, index) not in seen]:
            raise ValueError(f"{NEURONS} lacks neuron {missing[0]} of layer {layer!r} ({len(missing)} of {n} missing)")
    return arrays | _read_codes(folder / CODES, stages) | _read_levels(folder / LEVELS)


def _read_codes(path: Path, stages: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    # For each name in the file: the name of the array, the array, and whether the connections are one-to-one.
    owners: dict[str, tuple[str, np.ndarray, bool]] = {}
    for stage in stages:
        n, inputs, synapse = stage["neurons"], stage["inputs"], stage["synapse"]
        shape = (inputs,) if stage["frontend"] else (inputs, n)
        owners[synapse] = f"codes/{synapse}", np.zeros(shape, np.int32), stage["frontend"]
        if stage["recurrent_bits"] is not None:
            owners[stage["layer"]] = f"recurrent/{stage['layer']}", np.zeros((n, n), np.int32), False
    seen = {name: np.zeros(array.shape, bool) for name, (_, array, _) in owners.items()}
    for where, (name, *row) in read_rows(path, _COLUMNS[CODES]):
        if name not in owners:
            raise ValueError(f"{where}: synapse {name!r:.80} does not exist; expected one of {', '.join(owners)}")
        pre, post, code = (parse_int(text, where, what) for text, what in zip(row, _COLUMNS[CODES][1:], strict=True))
        _, array, one_to_one = owners[name]
        at = (pre,) if one_to_one else (pre, post)
        inside = all(0 <= i < n for i, n in zip(at, array.shape, strict=True)) and (not one_to_one or pre == post)
        if not inside or seen[name][at]:
            fault = "appears twice" if inside else f"is outside the shape {array.shape}"
            raise ValueError(f"{where}: the code from {pre} to {post} of {name!r} {fault}")
        seen[name][at], array[at] = True, code
    for name, there in seen.items():
        if not there.all():
            pre, post = np.argwhere(~there)[0][[0, -1]]
            raise ValueError(
                f"{path.name} lacks the code from {pre} to {post} of {name!r} ({int((~there).sum())} of {there.size} "
                "missing)"
            )
    return {key: array for key, array, _ in owners.values()}


def _read_levels(path: Path) -> dict[str, np.ndarray]:
    held: dict[str, list[list[float]]] = {}
    for where, (bits, code, *numbers) in read_rows(path, _COLUMNS[LEVELS]):
        row = [parse_float(text, where, name) for text, name in zip(numbers, _LEVEL_COLUMNS[1:], strict=True)]
        held.setdefault(str(parse_int(bits, where, "bits")), []).append([parse_int(code, where, "code"), *row])
    return {
        f"levels/{bits}/{name}": column
        for bits, rows in held.items()
        for name, column in zip(_LEVEL_COLUMNS, np.array(rows).T, strict=True)
    }


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield a pair for each row of a CSV file: its location as text, and its cells.

    The location consists of the file name and the line number. The header of the file must be exactly ``columns``.
    """
    try:
        with open_regular(path) as stream:
            text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is not UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror or error}") from None
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{path.name} is not CSV: {error}") from None
    if not rows or tuple(rows[0][1]) != columns:
        got = ",".join(rows[0][1])[:80] if rows else "an empty file"
        raise ValueError(f"{path.name} must begin with the columns {','.join(columns)}; got {got}")
    for number, row in rows[1:]:
        # Editors and spreadsheets leave blank lines, usually at the end.
        if not any(cell.strip() for cell in row):
            continue
        where = f"{path.name}, line {number}"
        if len(row) != len(columns):
            raise ValueError(f"{where}: expected {len(columns)} values; got {len(row)}")
        yield where, row


def parse_int(text: str, where: str, name: str) -> int:
    """Return the integer in a cell of a CSV file. Raise ``ValueError`` if the cell does not contain an integer."""
    # `int` would also accept "1_0" and digits of other scripts.
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
        raise ValueError(f"{where}: {name} must be an integer; got {text!r:.40}")
    return int(text)


def parse_float(text: str, where: str, name: str) -> float:
    """Return the number in a cell of a CSV file. Raise ``ValueError`` if the cell does not contain a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(f"{where}: {name} must be a finite number; got {text!r:.40}")
    return value
