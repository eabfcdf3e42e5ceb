"""Write the input files and read the output files of a bench command, as npz or CSV."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import brainunit as u
import numpy as np

from brainhw._arguments import describe
from brainhw._files import open_regular, write_whole
from brainhw._plain_json import parse_json
from brainhw.silicon.program import ChipProgram
from brainhw.silicon.program_csv import parse_float, parse_int, read_rows
from brainhw.silicon.recording import Recording, check_recording

__all__ = ["read_output", "write_input"]

INPUT_NPZ, OUTPUT_NPZ = "input.npz", "output.npz"
INPUT_JSON, INPUT_CSV = "input.json", "input.csv"
OUTPUT_JSON, SPIKES_CSV, MEMBRANES_CSV = "output.json", "spikes.csv", "membranes.csv"
_INPUT_COLUMNS = ("step", "sample", "channel", "value")
_SPIKE_COLUMNS = ("layer", "step", "sample", "neuron")
_MEMBRANE_COLUMNS = (*_SPIKE_COLUMNS, "V_mV")
# An output file may exceed the size of its arrays by this many bytes, for layer names, headers and metadata.
_SLACK = 2**20


def write_input(folder: Path, x: np.ndarray, run: int, *, files: str, call: str) -> None:
    """Write the input ``x [T, B, N_in]`` and the run number to ``folder``. The output must have the same run number."""
    if files == "npz":
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, x=np.ascontiguousarray(x, "<f4"), run=np.asarray(run, "<i8"))
        write_whole(folder / INPUT_NPZ, stream.getvalue(), call=call)
        return
    n_steps, batch_size, n_in = x.shape
    rows = [",".join(_INPUT_COLUMNS)]
    # Only nonzero values are written, because most values of a spike input are zero.
    for step, sample, channel in np.argwhere(x):
        rows.append(f"{step},{sample},{channel},{x[step, sample, channel]}")
    write_whole(folder / INPUT_CSV, ("\n".join(rows) + "\n").encode(), call=call)
    top = {"run": run, "steps": n_steps, "samples": batch_size, "channels": n_in}
    write_whole(folder / INPUT_JSON, (json.dumps(top) + "\n").encode(), call=call)


def read_output(folder: Path, program: ChipProgram, shape: tuple[int, int], run: int, *, files: str) -> Recording:
    """Read the recording of a run with ``T`` time steps and ``B`` samples, where ``shape`` is ``(T, B)``.

    If the recording is invalid, the error message names the file and the fault.
    """
    read = _read_npz if files == "npz" else _read_csv
    spikes, membranes = read(folder, program.layers, shape, run)
    voltages = {path: u.Quantity(_floats(path, numbers), unit=u.mV) for path, numbers in membranes.items()}
    # Check the spikes without the membranes first. If both have a wrong shape, the error then names the spikes.
    check_recording(Recording(spikes), program.layers, *shape, call=OUTPUT_NPZ if files == "npz" else SPIKES_CSV)
    return Recording(spikes, voltages)


def _floats(path: str, numbers: np.ndarray) -> np.ndarray:
    if numbers.dtype.kind not in "iuf":
        raise TypeError(f"the membrane potentials of {path!r} must be numbers in mV; got dtype {numbers.dtype}")
    return numbers


def _check_run(found: Any, run: int, name: str) -> None:
    if found != run:
        raise ValueError(
            f"{name}: run must be {run}, the run number in the input; got {describe(found)}, which belongs to another "
            "run"
        )


_Arrays = dict[str, np.ndarray]


def _read_npz(folder: Path, layers: dict[str, int], shape: tuple[int, int], run: int) -> tuple[_Arrays, _Arrays]:
    found: dict[str, _Arrays] = {"spikes": {}, "membranes": {}}
    numbers = shape[0] * shape[1] * sum(layers.values())
    try:
        with open_regular(folder / OUTPUT_NPZ) as stream:
            with zipfile.ZipFile(stream) as members:
                size = sum(member.file_size for member in members.infolist())
            # At most two arrays of eight bytes per element are expected.
            if size > 16 * numbers + _SLACK:
                raise ValueError(f"it unpacks to {size} bytes, too many for {numbers} spikes and membrane potentials")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as held:
                arrays = {name: held[name] for name in held.files}
    except FileNotFoundError:
        there = ", ".join(sorted(path.name for path in folder.glob("output*"))) or "nothing"
        raise ValueError(f"the command wrote no {OUTPUT_NPZ} (output files: {there})") from None
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, MemoryError) as error:
        raise ValueError(f"{OUTPUT_NPZ} is corrupted or not an npz file: {str(error)[:200]}") from None
    if "run" not in arrays:
        raise ValueError(f"{OUTPUT_NPZ} lacks the array run, which must be copied from {INPUT_NPZ}")
    number = arrays.pop("run")
    _check_run(number.item() if number.size == 1 else number, run, OUTPUT_NPZ)
    for name, array in arrays.items():
        kind, _, layer = name.partition("/")
        if kind not in found or layer not in layers:
            wanted = ", ".join(f"spikes/{path}, membranes/{path}" for path in layers)
            raise ValueError(f"{OUTPUT_NPZ} contains an unknown array {name!r:.80}; expected run, {wanted}")
        found[kind][layer] = array
    return found["spikes"], found["membranes"]


def _read_csv(folder: Path, layers: dict[str, int], shape: tuple[int, int], run: int) -> tuple[_Arrays, _Arrays]:
    try:
        with open_regular(folder / OUTPUT_JSON) as stream:
            top = parse_json(stream.read(_SLACK).decode("utf-8-sig"))
    except FileNotFoundError:
        raise ValueError(f"the command wrote no {OUTPUT_JSON}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{OUTPUT_JSON} is corrupted: {str(error)[:200]}") from None
    if not isinstance(top, dict) or set(top) != {"run", "spikes", "membranes"}:
        raise ValueError(f"{OUTPUT_JSON} must have exactly the keys run, spikes and membranes")
    _check_run(top["run"], run, OUTPUT_JSON)
    sizes: dict[str, tuple[int, ...]] = {path: (*shape, n) for path, n in layers.items()}
    spikes = {path: np.zeros(size, np.uint8) for path, size in sizes.items()}
    n_rows = 0
    for where, row in read_rows(folder / SPIKES_CSV, _SPIKE_COLUMNS):
        layer, at = _place(row, sizes, where)
        if spikes[layer][at]:
            raise ValueError(f"{where}: this spike of layer {layer!r} appears twice")
        spikes[layer][at], n_rows = 1, n_rows + 1
    # Without this check, a truncated file would be read as a recording with fewer spikes.
    _check_rows(top["spikes"], n_rows, "spikes")
    if top["membranes"] == 0 and not (folder / MEMBRANES_CSV).exists():
        return spikes, {}
    return spikes, _csv_membranes(folder, sizes, top["membranes"])


def _csv_membranes(folder: Path, sizes: dict[str, tuple[int, ...]], wanted: Any) -> _Arrays:
    membranes: _Arrays = {}
    n_rows = 0
    for where, (*place, text) in read_rows(folder / MEMBRANES_CSV, _MEMBRANE_COLUMNS):
        layer, at = _place(place, sizes, where)
        # NaN marks the values that no row has set yet. A row cannot set NaN.
        numbers = membranes.setdefault(layer, np.full(sizes[layer], np.nan, np.float32))
        if not np.isnan(numbers[at]):
            raise ValueError(f"{where}: this membrane potential of {layer!r} appears twice")
        numbers[at], n_rows = parse_float(text, where, "V_mV"), n_rows + 1
    _check_rows(wanted, n_rows, "membranes")
    return membranes


def _check_rows(wanted: Any, found: int, name: str) -> None:
    if wanted != found:
        raise ValueError(f"{name}.csv must have {describe(wanted)} rows, as given in {OUTPUT_JSON}; got {found}")


def _place(row: list[str], sizes: dict[str, tuple[int, ...]], where: str) -> tuple[str, tuple[int, ...]]:
    layer, *numbers = row
    if layer not in sizes:
        raise ValueError(f"{where}: layer {layer!r:.80} does not exist; expected one of {', '.join(sizes)}")
    at = tuple(parse_int(text, where, name) for text, name in zip(numbers, _SPIKE_COLUMNS[1:], strict=True))
    if not all(0 <= i < n for i, n in zip(at, sizes[layer], strict=True)):
        raise ValueError(f"{where}: step, sample and neuron must be at least 0 and less than {sizes[layer]}; got {at}")
    return layer, at
