"""Read and write the folder of a chip program, with a JSON file and npz or CSV files."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tomllib
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Literal, get_args

import jax.numpy as jnp
import numpy as np

from brainhw._arguments import choice, describe
from brainhw._files import FileKind, path_text, write_whole
from brainhw._plain_json import parse_json, text_of
from brainhw.chip import BITS, ChipSpec
from brainhw.chip.file import chip_from_data, chip_to_text
from brainhw.deploy.bundle_content import BundleContent, content_from_plain
from brainhw.deploy.packing import FORWARD, FRONTEND, RECURRENT
from brainhw.deploy.placement import Placement
from brainhw.kernel.quantize import lowest_code, stored_grid
from brainhw.silicon.program_csv import CSV_FILES, read_csv, write_csv

__all__ = ["FORMATS", "JSON_FILE", "NPZ_FILE", "content_of_folder", "places", "wanted_shapes", "write_folder"]

Format = Literal["npz", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
JSON_FILE, NPZ_FILE = "program.json", "program.npz"
_KIND = FileKind("program", "ChipProgram.save", 1)
_TAG = "brainhw-program"
# Size limit in bytes, several hundred times the size of the file of a full chip. A larger file is rejected before
# parsing.
_LARGEST = 2**28
# Fields of a stage and their types. A stage is a synapse with its source and its target layer.
_STAGE = {
    "bits": (int, type(None)),
    "frontend": (bool,),
    "inputs": (int,),
    "layer": (str,),
    "neurons": (int,),
    "recurrent_bits": (int, type(None)),
    "source": (str,),
    "synapse": (str,),
}
# Fields of `BundleContent` that the files store as stages and arrays.
_REPLACED = ("chip", "layers", "placement", "synapses", "wires")


def write_folder(content: BundleContent, folder: Any, *, files: str, call: str) -> None:
    """Write a program to a folder. A missing folder is created, and files of an earlier program are replaced."""
    files = choice(files, FORMATS, call=call, name="format")
    path = Path(path_text(folder, call=call, what="a folder"))
    top, arrays = _to_stages(content)
    try:
        path.mkdir(exist_ok=True)
        # Remove the JSON file first and write it last. If writing is interrupted, the folder has no JSON file and is
        # rejected.
        for name in (JSON_FILE, NPZ_FILE, *CSV_FILES):
            with contextlib.suppress(FileNotFoundError):
                (path / name).unlink()
    except (OSError, ValueError) as error:  # a ValueError means a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{call}: cannot write the folder {str(path)!r}: {reason}. Pass a new or existing folder with write "
            "permission."
        ) from error
    if files == "npz":
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **arrays)
        write_whole(path / NPZ_FILE, stream.getvalue(), call=call)
        top["npz_sha256"] = hashlib.sha256(stream.getvalue()).hexdigest()
    else:
        for name, text in write_csv(top["stages"], arrays).items():
            write_whole(path / name, text.encode(), call=call)
    write_whole(path / JSON_FILE, text_of({**top, "arrays": files}).encode(), call=call)


def content_of_folder(folder: Any, *, call: str) -> BundleContent:
    """Read the content of a program from a folder and check every value.

    If the content is invalid, raise a ``ValueError`` that names the folder.
    """
    path = Path(path_text(folder, call=call, what="the folder of a program"))
    what = f"{call}: the program in {str(path)!r}"
    top = _KIND.read(path / JSON_FILE, _json, call=call)
    try:
        _check_top(top)
        if top.pop("arrays") == "npz":
            arrays = _KIND.read(path / NPZ_FILE, lambda stream, _: _npz(stream, top), call=call)
        else:
            arrays = read_csv(path, top["stages"])
        return _from_stages(top, arrays)
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        text = str(error)
        raise ValueError(
            text if text.startswith(f"{call}:") else f"{what} has invalid content: {text.rstrip('.')}."
        ) from error


def _json(stream: IO[bytes], what: str) -> dict[str, Any]:
    data = stream.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise _KIND.corrupted(what, f"has more than {_LARGEST} bytes, the limit for a program")
    try:
        top = parse_json(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _KIND.corrupted(what, f"is not valid JSON, or is truncated: {str(error)[:200]}") from None
    kind, _, version = str(top.get("format") if isinstance(top, dict) else None).partition("/")
    if kind != _TAG or not version.isdecimal():
        raise _KIND.wrong_kind(what)
    _KIND.check_format(int(version), what)
    return top


def _check_top(top: dict[str, Any]) -> None:
    """Raise ``ValueError`` if a field that this module reads is missing from the JSON file or invalid.

    ``content_from_plain`` checks the other fields.
    """
    for name in ("arrays", "chip", "family", "stages", *(["npz_sha256"] if top.get("arrays") == "npz" else [])):
        if name not in top:
            raise ValueError(f"{JSON_FILE} lacks {name}")
    choice(top["arrays"], FORMATS, call=JSON_FILE, name="arrays")
    stages = top["stages"]
    if not isinstance(stages, list) or not stages:
        raise ValueError(f"{JSON_FILE}: stages must be a non-empty list; got {describe(stages)}")
    for i, stage in enumerate(stages):
        if not isinstance(stage, dict) or set(stage) != set(_STAGE):
            raise ValueError(f"{JSON_FILE}: stage {i} must have exactly the fields {', '.join(_STAGE)}")
        for name, kinds in _STAGE.items():
            if type(stage[name]) not in kinds:
                kind = " or ".join({int: "an integer", bool: "a boolean", str: "text"}.get(k, "null") for k in kinds)
                raise ValueError(f"{JSON_FILE}: {name} of stage {i} must be {kind}; got {describe(stage[name])}")
        for name in ("inputs", "neurons"):
            if not 0 < stage[name] <= 2**20:
                raise ValueError(f"{JSON_FILE}: {name} of stage {i} must be between 1 and {2**20}; got {stage[name]}")
        if stage["recurrent_bits"] not in (None, *BITS) or stage["bits"] not in BITS:
            raise ValueError(f"{JSON_FILE}: bits of stage {i} must be between {BITS[0]} and {BITS[-1]}")
    for role in ("layer", "synapse"):
        names = [stage[role] for stage in stages]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{JSON_FILE}: two stages have the {role} {twice[0]!r}")


def wanted_shapes(stages: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the arrays of a program must have, by array name. The arrays of levels are omitted."""
    shapes: dict[str, tuple[int, ...]] = {}
    for stage in stages:
        n, inputs = stage["neurons"], stage["inputs"]
        shapes |= {f"{column}/{stage['layer']}": (n,) for column in ("core", "position", "leak")}
        shapes[f"codes/{stage['synapse']}"] = (inputs,) if stage["frontend"] else (inputs, n)
        if stage["recurrent_bits"] is not None:
            shapes[f"recurrent/{stage['layer']}"] = (n, n)
    return shapes


def places(placement: Placement) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, for each layer, the core of each neuron and the position of each neuron on its core."""
    found = {layer: (np.zeros(n, np.int32), np.zeros(n, np.int32)) for layer, n in placement.layers.items()}
    for piece in placement.pieces:
        core, position = found[piece.layer]
        there = slice(piece.first, piece.first + piece.count)
        core[there], position[there] = piece.core, np.arange(piece.offset, piece.offset + piece.count)
    return found


def _levels(chip: ChipSpec, bits: int, dtype: str) -> dict[str, np.ndarray]:
    """Return all codes of a weight grid, and their weights and charges in the precision of the model."""
    grid = stored_grid(chip, bits)
    codes = np.arange(lowest_code(grid), grid.largest_code + 1, dtype=np.int32)
    weights = grid.values(jnp.asarray(codes), dtype)
    # NumPy files do not support bfloat16, but float32 represents its values exactly.
    kind = np.float64 if dtype == "float64" else np.float32
    return {
        "code": codes,
        "weight": np.asarray(weights, kind),
        "charge_fC": np.asarray(chip.charge(weights).mantissa, kind),
    }


def _bits(stages: list[dict[str, Any]]) -> list[int]:
    return sorted({bits for stage in stages for bits in (stage["bits"], stage["recurrent_bits"]) if bits is not None})


def _to_stages(content: BundleContent) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the content of a program as data for the JSON file, and as arrays by name."""
    stages, arrays = [], {}
    at = places(content.placement)
    for wire in content.wires:
        synapse, layer = content.synapses[wire.synapse], content.layers[wire.layer]
        stages.append(
            {
                **wire._asdict(),
                "bits": synapse.weight.bits,
                "frontend": synapse.frontend,
                "inputs": len(synapse.weight.values),
                "neurons": len(layer.profiles),
                "recurrent_bits": None if layer.recurrent is None else layer.recurrent.bits,
            }
        )
        arrays[f"core/{wire.layer}"], arrays[f"position/{wire.layer}"] = at[wire.layer]
        arrays[f"leak/{wire.layer}"] = layer.profiles
        arrays[f"codes/{wire.synapse}"] = synapse.weight.values
        if layer.recurrent is not None:
            arrays[f"recurrent/{wire.layer}"] = layer.recurrent.values
    for bits in _bits(stages):
        levels = _levels(content.chip, bits, content.dtype)
        arrays |= {f"levels/{bits}/{name}": values for name, values in levels.items()}
    rest = {name: value for name, value in content.to_plain().items() if name not in _REPLACED}
    chip = tomllib.loads(chip_to_text(content.chip))
    top = {**rest, "format": f"{_TAG}/{_KIND.format}", "family": content.chip.family, "chip": chip, "stages": stages}
    # Use the same byte order and integer size on every machine, so that a bench need not check them.
    return top, {name: _little_endian(values) for name, values in arrays.items()}


def _little_endian(values: np.ndarray) -> np.ndarray:
    whole = values.dtype.kind in "iu"
    return np.ascontiguousarray(values.astype("<i4" if whole else values.dtype.newbyteorder("<")))


def _npz(stream: IO[bytes], top: dict[str, Any]) -> dict[str, np.ndarray]:
    data = stream.read(_LARGEST + 1)
    if len(data) > _LARGEST or hashlib.sha256(data).hexdigest() != top.pop("npz_sha256"):
        raise ValueError(
            f"{NPZ_FILE} does not match npz_sha256 of {JSON_FILE}: it is corrupted, was changed, or belongs to another "
            "program"
        )
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"{NPZ_FILE} is not an npz file of arrays: {str(error)[:200]}") from None


def _from_stages(top: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> BundleContent:
    """Build the content of a program from the data of the JSON file and the arrays.

    Raise ``ValueError`` if the data or the arrays are invalid.
    """
    stages = top.pop("stages")
    chip = chip_from_data(_table(top.pop("chip"), "chip"), call="chip")
    if top.pop("family") != chip.family or top.pop("format", None) is None:
        raise ValueError(f"family must be the family of the chip, {chip.family!r}")
    shapes = wanted_shapes(stages)
    levels = [f"levels/{bits}/{name}" for bits in _bits(stages) for name in ("code", "weight", "charge_fC")]
    for name in arrays:
        if name not in shapes and name not in levels:
            raise ValueError(f"unknown array {name!r}; expected one of {', '.join(shapes)}"[:400])
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f"the array {name!r} is missing")
        if arrays[name].dtype.kind not in "iu":
            raise ValueError(f"{name!r} must contain integers; got dtype {arrays[name].dtype}")
        if arrays[name].shape != shape:
            raise ValueError(f"{name!r} must have shape {shape}; got {arrays[name].shape}")
    plain: dict[str, Any] = {**top, "chip": chip_to_text(chip).split("\n"), "wires": [], "synapses": {}, "layers": {}}
    plain["placement"] = []
    for stage in stages:
        path, fed = stage["layer"], stage["synapse"]
        recurrent = None
        if stage["recurrent_bits"] is not None:
            recurrent = {"bits": stage["recurrent_bits"], "codes": arrays[f"recurrent/{path}"].tolist()}
        codes = arrays[f"codes/{fed}"].tolist()
        plain["wires"].append({name: stage[name] for name in ("source", "synapse", "layer")})
        plain["synapses"][fed] = {"bits": stage["bits"], "codes": codes, "frontend": stage["frontend"]}
        plain["layers"][path] = {
            "recurrent": recurrent,
            "tau_profiles": arrays[f"leak/{path}"].tolist(),
            "topology": "FF" if recurrent is None else "RC",
        }
        kind = FRONTEND if stage["frontend"] else FORWARD if recurrent is None else RECURRENT
        plain["placement"] += _pieces(path, kind, arrays[f"core/{path}"], arrays[f"position/{path}"])
    content = content_from_plain(plain)
    for bits in _bits(stages):
        _check_levels(chip, bits, content.dtype, arrays)
    return content


def _pieces(path: str, kind: str, core: np.ndarray, position: np.ndarray) -> list[dict[str, Any]]:
    """Return the placement of a layer as a list of pieces.

    A piece consists of consecutive neurons of the layer at consecutive positions on one core.
    """
    cuts = np.flatnonzero((np.diff(core) != 0) | (np.diff(position) != 1)) + 1
    return [
        {
            "layer": path,
            "kind": kind,
            "first": int(first),
            "count": int(end - first),
            "core": int(core[first]),
            "offset": int(position[first]),
        }
        for first, end in pairwise([0, *cuts.tolist(), len(core)])
    ]


def _check_levels(chip: ChipSpec, bits: int, dtype: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise ``ValueError`` if the weights or charges of the codes in the files differ from those of the chip."""
    # The levels are for benches that do not know the charge curve. If they differed from the curve, the charges of such
    # a bench would differ from those of brainhw.
    for name, right in _levels(chip, bits, dtype).items():
        held = arrays.get(f"levels/{bits}/{name}")
        # Another version of JAX may round the last bits of a charge differently.
        if held is None or held.shape != right.shape or not np.allclose(held, right, rtol=1e-5, atol=0):
            raise ValueError(f"levels of {bits} bits: {name} does not match the chip. Save the program again")


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a mapping; got {describe(value)}")
    return value
