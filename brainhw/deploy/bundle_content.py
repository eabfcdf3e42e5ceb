"""Content of a bundle, and its conversion to and from dicts, lists, strings and numbers, with strict checks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, final

import brainunit as u
import numpy as np

from brainhw._arguments import describe
from brainhw.chip import BITS, ChipSpec
from brainhw.chip.file import chip_from_text, chip_to_text
from brainhw.deploy.bundle_chip import chip_values, plain_values
from brainhw.deploy.placement import Placement
from brainhw.deploy.survey import INPUT
from brainhw.kernel.quantize import lowest_code, stored_grid

__all__ = [
    "DTYPES",
    "FINGERPRINT",
    "BundleContent",
    "BundledLayer",
    "BundledSynapse",
    "Codes",
    "Wire",
    "clipped",
    "content_from_plain",
]

# For each dtype of a network, the precision of brainstate.environ that selects it.
DTYPES: Mapping[str, int | str] = {"float16": 16, "bfloat16": "bf16", "float32": 32, "float64": 64}

# A SHA-256 in hexadecimal.
FINGERPRINT = re.compile("[0-9a-f]{64}")

_VERSIONED = ("brainhw", "brainstate", "jax", "python")
# Every level of a path becomes a nested dict, and Python's recursion limit is about a thousand levels.
_LONGEST_PATH, _DEEPEST_PATH = 500, 64


@final
@dataclass(frozen=True, eq=False)
class Codes:
    """Weights as integer codes, ``[N_in, N_out]``, or ``[N]`` if the connections are one-to-one.

    Each code stands for a level of `brainhw.kernel.quantize.stored_grid`. If the levels are evenly spaced, a weight is
    its code times ``weight_limit / (2**(bits - 1) - 1)``.
    """

    bits: int
    values: np.ndarray


@final
@dataclass(frozen=True, eq=False)
class BundledSynapse:
    """A synapse or the frontend, with its weights."""

    frontend: bool
    weight: Codes


@final
@dataclass(frozen=True, eq=False)
class BundledLayer:
    """A layer: the index of the tau profile of each neuron, ``[N]``, and the recurrent weights ``[N, N]`` or None."""

    profiles: np.ndarray
    recurrent: Codes | None

    @property
    def topology(self) -> str:
        """``'RC'`` with recurrent weights, otherwise ``'FF'``."""
        return "FF" if self.recurrent is None else "RC"


class Wire(NamedTuple):
    """A synapse, the source of its input (the path of a layer or ``"input"``), and the layer that it drives."""

    source: str
    synapse: str
    layer: str


@final
@dataclass(frozen=True, eq=False)
class BundleContent:
    """The content of a bundle, with ``dt`` in ms, modules by path, and ``wires`` in execution order.

    ``in_place`` contains the values of a sampled or measured chip, by module path and value name (``"tau"``,
    ``"V_th"``, ``"mismatch"``); it is empty for the nominal chip. ``known`` has the same keys and marks the values that
    were measured, which :func:`brainhw.sample_chip` does not change. ``dtype`` is the floating-point dtype of the
    network, and ``output`` is the path of the layer whose spikes it returns. ``n_classes`` is the number of classes;
    the output neurons are divided into equal, consecutive populations, one per class. ``encoding_fingerprint``
    identifies the encoding that computes the inputs of the network. It is None if the bundle has no encoding.
    """

    chip: ChipSpec
    dt: u.Quantity
    dtype: str
    synapses: Mapping[str, BundledSynapse]
    layers: Mapping[str, BundledLayer]
    wires: tuple[Wire, ...]
    output: str
    placement: Placement
    versions: Mapping[str, str]
    n_classes: int | None
    notes: str
    in_place: Mapping[str, Mapping[str, u.Quantity]]
    known: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    encoding_fingerprint: str | None = None

    def __post_init__(self) -> None:
        # If there are no chip values, masks would mark nominal values as measured.
        if not self.in_place:
            object.__setattr__(self, "known", {})

    @property
    def n_in(self) -> int:
        """Number of input channels."""
        return next(len(self.synapses[wire.synapse].weight.values) for wire in self.wires if wire.source == INPUT)

    @property
    def n_out(self) -> int:
        """Number of output neurons."""
        return len(self.layers[self.output].profiles)

    def weights(self) -> Iterator[tuple[str, Codes]]:
        """Yield the path and the weights of each synapse and of each recurrent layer, in execution order."""
        for wire in self.wires:
            yield wire.synapse, self.synapses[wire.synapse].weight
            recurrent = self.layers[wire.layer].recurrent
            if recurrent is not None:
                yield wire.layer, recurrent

    def __repr__(self) -> str:
        return f"BundleContent({self.chip.name!r}, {len(self.layers)} layers)"

    def to_plain(self) -> dict[str, Any]:
        """Return the content as dicts, lists, strings and numbers, for `content_from_plain`."""
        return {
            "chip": chip_to_text(self.chip).split("\n"),
            "dt_ms": float(self.dt.to(u.ms).mantissa),
            "dtype": self.dtype,
            # Fields without a value are omitted, so that older versions of brainhw can read the file.
            **({"encoding_fingerprint": self.encoding_fingerprint} if self.encoding_fingerprint else {}),
            **({"in_place": plain_values(self.in_place, self.known)} if self.in_place else {}),
            "layers": {
                path: {
                    "recurrent": None if layer.recurrent is None else _plain(layer.recurrent),
                    "tau_profiles": layer.profiles.tolist(),
                    "topology": layer.topology,
                }
                for path, layer in self.layers.items()
            },
            "n_classes": self.n_classes,
            "notes": self.notes,
            "output": self.output,
            "placement": self.placement.to_list(),
            "synapses": {
                path: {"frontend": synapse.frontend, **_plain(synapse.weight)}
                for path, synapse in self.synapses.items()
            },
            "versions": dict(self.versions),
            "wires": [wire._asdict() for wire in self.wires],
        }


def _plain(codes: Codes) -> dict[str, Any]:
    return {"bits": codes.bits, "codes": codes.values.tolist()}


# Fields of the file. They have the names of the content's fields, but dt is called dt_ms, and in_place contains known.
_TOP = tuple(sorted({one.name for one in fields(BundleContent)} - {"dt", "known"} | {"dt_ms"}))


def content_from_plain(data: Any) -> BundleContent:
    """Build the content from the data that `BundleContent.to_plain` returns.

    Every value is checked. If a value is missing, unknown, of the wrong type, out of range, or inconsistent with other
    values, a `ValueError` names it. A chip of an unregistered family raises `UnknownFamilyError`.
    """
    top = _table(data, _TOP, "the file", optional=("encoding_fingerprint", "in_place"))
    lines = _list(top["chip"], "chip")
    chip = chip_from_text("\n".join(_text(line, "a line of chip", lines=True) for line in lines), call="chip")
    synapses = {path: _synapse(item, path, chip) for path, item in _modules(top["synapses"], "synapses", ())}
    taken = (INPUT, *synapses)
    layers = {path: _layer(item, path, chip) for path, item in _modules(top["layers"], "layers", taken)}
    wires = tuple(_wire(item, f"wire {i}") for i, item in enumerate(_list(top["wires"], "wires")))
    _check_wiring(wires, synapses, layers)
    output = _one_of(top["output"], layers, "output")
    n_out = len(layers[output].profiles)
    n_classes = None if top["n_classes"] is None else _int(top["n_classes"], 1, n_out, "n_classes")
    if n_classes is not None and n_out % n_classes:
        raise ValueError(f"n_classes must be a divisor of the number of output neurons, {n_out}; got {n_classes}")
    placement = Placement.from_list(chip, top["placement"], {path: len(item.profiles) for path, item in layers.items()})
    _check_kinds(placement, wires, synapses, layers)
    versions = _table(top["versions"], _VERSIONED, "versions")
    in_place, known = chip_values(top.get("in_place", {}), (*synapses, *layers))
    return BundleContent(
        chip=chip,
        dt=_dt(top["dt_ms"]) * u.ms,
        dtype=_one_of(top["dtype"], DTYPES, "dtype"),
        synapses=synapses,
        layers=layers,
        wires=wires,
        output=output,
        placement=placement,
        versions={name: _text(versions[name], f"version of {name}") for name in _VERSIONED},
        n_classes=n_classes,
        notes=_text(top["notes"], "notes", lines=True),
        in_place=in_place,
        known=known,
        encoding_fingerprint=_fingerprint(top.get("encoding_fingerprint")),
    )


def _fingerprint(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and FINGERPRINT.fullmatch(value)):
        raise ValueError(f"encoding_fingerprint must be 64 hexadecimal digits; got {_found(value)}")
    return value


def _synapse(item: Any, path: str, chip: ChipSpec) -> BundledSynapse:
    where = f"synapse {path!r}"
    entry = _table(item, ("bits", "codes", "frontend"), where)
    if not isinstance(entry["frontend"], bool):
        raise ValueError(f"{where}: frontend must be a boolean; got {_found(entry['frontend'])}")
    codes = _codes(entry, where, chip, one_to_one=entry["frontend"])
    n, channels = len(codes.values), chip.frontend_channels
    if entry["frontend"] and n != channels:
        raise ValueError(f"{where}: a frontend of {chip.name} must have {channels} codes; got {n}")
    return BundledSynapse(entry["frontend"], codes)


def _layer(item: Any, path: str, chip: ChipSpec) -> BundledLayer:
    where = f"layer {path!r}"
    entry = _table(item, ("recurrent", "tau_profiles", "topology"), where)
    taus = _list(entry["tau_profiles"], f"{where}: tau_profiles")
    last = len(chip.tau_profiles.values.mantissa) - 1
    profiles = np.array([_int(tau, 0, last, f"{where}: an entry of tau_profiles") for tau in taus], np.int32)
    topology, recurrent = _one_of(entry["topology"], ("FF", "RC"), f"{where}: topology"), None
    if entry["recurrent"] is not None:
        recurrent = _codes(_table(entry["recurrent"], ("bits", "codes"), f"{where}: recurrent"), where, chip)
        if recurrent.values.shape != (len(taus), len(taus)):
            raise ValueError(
                f"{where}: recurrent codes of shape {recurrent.values.shape} do not match {len(taus)} neurons"
            )
    if (topology == "RC") != (recurrent is not None):
        raise ValueError(
            f"{where}: topology {topology} does not fit a layer with{'out' * (recurrent is None)} recurrent codes"
        )
    return BundledLayer(profiles, recurrent)


def _codes(entry: Mapping[str, Any], where: str, chip: ChipSpec, *, one_to_one: bool = False) -> Codes:
    bits = _int(entry["bits"], BITS[0], BITS[-1], f"{where}: bits")
    grid = stored_grid(chip, bits)
    ends = lowest_code(grid), grid.largest_code
    if one_to_one:
        return Codes(bits, np.array(_row(entry["codes"], ends, f"{where}: codes"), np.int32))
    rows = [_row(row, ends, f"{where}: a row of codes") for row in _list(entry["codes"], f"{where}: codes")]
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"{where}: all rows of codes must have the same length")
    return Codes(bits, np.array(rows, np.int32))


def _row(value: Any, ends: tuple[int, int], where: str) -> list[int]:
    row, (lowest, largest) = _list(value, where), ends
    for code in row:
        # Compare the type: a bool, which is an instance of int, and a float such as 1.0 must be rejected.
        if type(code) is not int or not lowest <= code <= largest:
            raise ValueError(f"{where} must contain integers from {lowest} to {largest}; got {_found(code)}")
    return row


def _wire(item: Any, where: str) -> Wire:
    entry = _table(item, Wire._fields, where)
    return Wire(**{name: _text(entry[name], f"{where}: {name}") for name in Wire._fields})


def _check_wiring(
    wires: tuple[Wire, ...], synapses: Mapping[str, BundledSynapse], layers: Mapping[str, BundledLayer]
) -> None:
    """Raise ``ValueError`` unless every module is used once, in a valid order, and connected modules match in width."""
    # The number of channels of each source that later wires can use: the input, and the layers of earlier wires.
    widths: dict[str, int] = {}
    used: set[str] = set()
    for i, wire in enumerate(wires):
        where = f"wire {i}"
        synapse = synapses[_one_of(wire.synapse, synapses, f"{where}: synapse")]
        layer = layers[_one_of(wire.layer, layers, f"{where}: layer")]
        if wire.source not in widths and wire.source != INPUT:
            raise ValueError(
                f"{where}: source must be {INPUT!r} or the layer of an earlier wire; got {_found(wire.source)}"
            )
        if wire.layer in widths or wire.synapse in used:
            raise ValueError(f"{where}: another wire already uses {wire.layer!r} or {wire.synapse!r}")
        used.add(wire.synapse)
        if synapse.frontend and wire.source != INPUT:
            raise ValueError(
                f"{where}: the source of the frontend {wire.synapse!r} must be {INPUT!r}; got {wire.source!r}"
            )
        shape = synapse.weight.values.shape
        width = widths.setdefault(INPUT, shape[0]) if wire.source == INPUT else widths[wire.source]
        if (shape[0], shape[-1]) != (width, len(layer.profiles)):
            raise ValueError(
                f"{where}: {wire.synapse!r} has codes of shape {shape}, but connects {width} inputs to "
                f"{len(layer.profiles)} neurons"
            )
        widths[wire.layer] = len(layer.profiles)
    unused = [path for path in (*synapses, *layers) if path not in used and path not in widths]
    if unused:
        raise ValueError(f"{unused[0]!r} is not used by any wire")
    if sum(synapse.frontend for synapse in synapses.values()) > 1:
        raise ValueError("there is more than one frontend")


def _check_kinds(
    placement: Placement,
    wires: tuple[Wire, ...],
    synapses: Mapping[str, BundledSynapse],
    layers: Mapping[str, BundledLayer],
) -> None:
    # The kind decides where a layer may be placed. With a wrong kind, a recurrent layer could be split over cores.
    frontends = {wire.layer for wire in wires if synapses[wire.synapse].frontend}
    for piece in placement.pieces:
        kind = "frontend" if piece.layer in frontends else layers[piece.layer].topology
        if piece.kind != kind:
            raise ValueError(f"placement: layer {piece.layer!r} must have kind {kind!r}; got {piece.kind!r}")


def _modules(value: Any, where: str, taken: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{where} must be a non-empty mapping of modules; got {_found(value)}")
    for path, item in value.items():
        _text(path, f"a path in {where}")
        if len(path) > _LONGEST_PATH or path.count(".") >= _DEEPEST_PATH or path in taken:
            raise ValueError(f"{where}: {_found(path)} is not a valid module path; rename the module")
        yield path, item


def _table(value: Any, names: tuple[str, ...], where: str, *, optional: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a mapping with the keys {', '.join(names)}; got {_found(value)}")
    unknown = [key for key in value if key not in names]
    missing = [name for name in names if name not in value and name not in optional]
    if unknown or missing:
        fault = f"has an unknown field {_found(unknown[0])}" if unknown else f"lacks {', '.join(missing)}"
        raise ValueError(f"{where} {fault}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where} must be a non-empty list; got {_found(value)}")
    return value


def _int(value: Any, least: int, most: int, where: str) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{where} must be an integer from {least} to {most}; got {_found(value)}")
    return value


def _dt(value: Any) -> float:
    # An integer in the file may be too large for a float. to_plain always writes a float.
    if type(value) is not float or not (math.isfinite(value) and value > 0):
        raise ValueError(f"dt_ms must be a float greater than zero, written with a decimal point; got {_found(value)}")
    return value


def _text(value: Any, where: str, *, lines: bool = False) -> str:
    bare = value.replace("\n", "").replace("\t", "") if isinstance(value, str) and lines else value
    if not isinstance(bare, str) or not bare.isprintable() or not (lines or bare):
        raise ValueError(f"{where} must be printable text; got {_found(value)}")
    return value


def _one_of(value: Any, options: Any, where: str) -> Any:
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{where} must be one of {clipped(', '.join(options))}; got {_found(value)}")
    return value


def _found(value: Any) -> str:
    return clipped(describe(value))


def clipped(text: str, most: int = 80) -> str:
    """Return at most the first ``most`` characters of a text, because text from a file can have any length."""
    return text if len(text) <= most else text[: most - 3] + "..."
