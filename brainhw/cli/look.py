"""Commands ``info`` and ``check``: show the content of a bundle, and check it against the rules of its chip."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import brainstate
import brainunit as u
import numpy as np

from brainhw._arrays import ARRAY_STARTS
from brainhw._files import starts_with
from brainhw._table import plain_table
from brainhw.chip import ChipSpec
from brainhw.chip.fields import info_of
from brainhw.cli.result import Result
from brainhw.deploy.bundle import build_net, read_bundle
from brainhw.deploy.bundle_content import DTYPES, BundleContent, Codes
from brainhw.deploy.bundled_net import BundledNet
from brainhw.deploy.check import check_deployable
from brainhw.kernel.quantize import lowest_code, stored_grid
from brainhw.nn.pinned import MISMATCH
from brainhw.silicon.measured import MeasuredChip
from brainhw.silicon.measured_file import is_measured, read_measured

__all__ = ["check", "info", "measured_data", "open_bundle"]

_LISTED = 6  # maximum number of time constants in a row of the table


@contextlib.contextmanager
def open_bundle(path: str, *, call: str) -> Iterator[tuple[BundledNet, str]]:
    """Context manager that yields the network of a bundle and the checksum of the file.

    Inside the context, ``dt`` and ``precision`` of ``brainstate.environ`` have the values of the bundle.
    """
    if call in ("run", "power") and starts_with(path, ARRAY_STARTS):
        raise ValueError(
            f"{call}: {path!r} is not a bundle, but a file of arrays. The order of the arguments is "
            f"`brainhw {call} BUNDLE DATA`."
        )
    content, checksum = read_bundle(path, call=call)
    # A network runs only with the dt and precision of its bundle, which the caller does not know.
    with brainstate.environ.context(dt=content.dt, precision=DTYPES[content.dtype]):
        yield build_net(content, path, call=call), checksum


def info(bundle: str, *, chip: bool = False) -> Result:
    """Return the content of a bundle or of a measured chip; ``chip=True`` adds every field of the chip's spec."""
    if is_measured(bundle):
        return _info_measured(bundle, chip)
    with open_bundle(bundle, call="info") as (net, checksum):
        content = net.content
    classes = "" if content.n_classes is None else f", {content.n_classes} classes"
    spec = content.chip
    layers = [_layer(wire, content) for wire in content.wires]
    lines = [
        f"bundle      {os.path.basename(bundle)!r}, {os.path.getsize(bundle)} bytes, checksum correct",
        f"SHA-256     {checksum}",
        f"chip        {spec.name}, family {spec.family}, {spec.n_neurons} neurons in {len(spec.cores)} core(s)",
        f"time step   {content.dt.mantissa:.10g} ms, {content.dtype}",
        f"input       {content.n_in} channels",
        f"output      {content.output}, {content.n_out} neurons{classes}",
        f"written by  {_versions(content.versions)}",
        *(f"in place    {words}" for words in [_chip_in_place(content)] if words),
        *_notes(content),
        "",
        plain_table(_HEADINGS, [row for layer in layers for row in _rows(layer)], left=("layer", "fed by", "through")),
        "",
        str(content.placement),
    ]
    data = {
        "kind": "bundle",
        **_file(bundle, checksum, content.versions),
        "chip": _chip(spec, chip),
        "dt_ms": float(content.dt.mantissa),
        "precision": content.dtype,
        "n_inputs": content.n_in,
        "output_layer": content.output,
        "n_outputs": content.n_out,
        "n_classes": content.n_classes,
        "in_place": _chip_in_place(content) or None,
        "notes": content.notes,
        "layers": layers,
        "placement": content.placement.to_list(),
    }
    return Result((*lines, *(("", spec.table(notes=True)) if chip else ())), data)


def _notes(content: BundleContent) -> list[str]:
    """Return the lines of ``info`` for the notes of a bundle.

    If the command ``train`` wrote the bundle, these notes are the names of the classes.
    """
    lines = content.notes.splitlines()
    if content.encoding_fingerprint is not None and len(lines) == content.n_classes:
        return [f"classes     {', '.join(lines)}"]
    return [f"notes       {line}" for line in lines]


def _info_measured(path: str, every_number: bool) -> Result:
    measured, checksum, versions = read_measured(path, call="info")
    lines = [
        f"measured    {os.path.basename(path)!r}, {os.path.getsize(path)} bytes, checksum correct",
        f"SHA-256     {checksum}",
        f"written by  {_versions(versions)}",
        "",
        measured.table(),
    ]
    data = {
        "kind": "measured chip",
        **_file(path, checksum, versions),
        "chip": _chip(measured.spec, every_number),
        **measured_data(measured),
    }
    return Result((*lines, *(("", measured.spec.table(notes=True)) if every_number else ())), data)


def measured_data(measured: MeasuredChip) -> dict[str, Any]:
    """Return the measured values of a chip as floats; values that were not measured are None."""
    spec = measured.spec
    profiles = zip(spec.tau_profiles.values.mantissa, measured.tau.mantissa, strict=True)
    return {
        "neurons_measured": int((measured.known_tau.any(axis=0) | measured.known_V_th).sum()),
        "tau": [{"setting": i, **_spread(mean, values, "ms")} for i, (mean, values) in enumerate(profiles)],
        "V_th": _spread(spec.V_th.mantissa, measured.V_th.mantissa, "mV"),
        "C_fF": float(spec.C.to(u.ffarad).mantissa),
        "noise_std_mV": None if spec.noise_std is None else float(spec.noise_std.to(u.mV).mantissa),
        "notes": measured.notes,
    }


def _spread(in_spec: float, values: np.ndarray, unit: str) -> dict[str, Any]:
    known = values[~np.isnan(values)]
    some = known.size > 0
    return {
        "measured": int(known.size),
        "neurons": int(values.size),
        f"spec_{unit}": float(in_spec),
        f"mean_{unit}": float(known.mean()) if some else None,
        f"smallest_{unit}": float(known.min()) if some else None,
        f"largest_{unit}": float(known.max()) if some else None,
        "spread": float(known.std() / known.mean()) if some else None,
    }


def _file(path: str, checksum: str, versions: Any) -> dict[str, Any]:
    return {
        "file": os.path.basename(path),
        "size_bytes": os.path.getsize(path),
        "sha256": checksum,
        "versions": [{"package": name, "version": version} for name, version in versions.items()],
    }


def _versions(versions: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _chip(spec: ChipSpec, every_number: bool) -> dict[str, Any]:
    fields = [
        {"field": name, "value": info.text(getattr(spec, name)), "provenance": spec.provenance[name]}
        for name, info in info_of(spec).items()
    ]
    return {
        "name": spec.name,
        "family": spec.family,
        "n_neurons": spec.n_neurons,
        "cores": list(spec.cores),
        "fields": fields if every_number else None,
    }


def _chip_in_place(content: BundleContent) -> str:
    if content.known:
        known = sum(int(mask.sum()) for named in content.known.values() for mask in named.values())
        # Count only time constants and thresholds, because the charges of single synapses are not measured.
        values = [value for path in content.layers for value in content.in_place.get(path, {}).items()]
        of = sum(np.size(value.mantissa) for name, value in values if name != MISMATCH)
        return f"a measured chip: {known} of {of} values of neurons measured"
    return "a chip of its own: " + ", ".join(content.in_place) if content.in_place else ""


def check(bundle: str) -> Result:
    """Verify a bundle and check its network against the rules of its chip."""
    with open_bundle(bundle, call="check") as (net, checksum):
        report = check_deployable(net)
    data = {
        "sha256": checksum,
        "chip": report.chip,
        "deployable": report.ok,
        "rules": list(report.rules),
        "violations": [
            {"module": one.path, "rule": one.rule, "found": one.found, "limit": one.limit, "fix": one.fix}
            for one in report.violations
        ],
    }
    return Result((str(report), f"checksum correct: SHA-256 {checksum}"), data, code=0 if report.ok else 1)


_HEADINGS = ("layer", "fed by", "through", "neurons", "topology", "tau", "weights", "bits", "levels used", "at limit")


def _layer(wire: Any, content: BundleContent) -> dict[str, Any]:
    layer, chip = content.layers[wire.layer], content.chip
    return {
        "layer": wire.layer,
        "source": wire.source,
        "synapse": wire.synapse,
        "n_neurons": len(layer.profiles),
        "topology": layer.topology,
        "tau_ms": chip.tau_profiles.values.mantissa[np.unique(layer.profiles)].tolist(),
        "weights": _weight(content.synapses[wire.synapse].weight, chip),
        "recurrent": None if layer.recurrent is None else _weight(layer.recurrent, chip),
    }


def _weight(codes: Codes, chip: ChipSpec) -> dict[str, Any]:
    grid = stored_grid(chip, codes.bits)
    return {
        "shape": list(codes.values.shape),
        "bits": codes.bits,
        "levels_used": len(np.unique(codes.values)),
        "levels": grid.n_levels,
        "at_limit": float(np.mean((codes.values == grid.largest_code) | (codes.values == lowest_code(grid)))),
    }


def _rows(layer: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    taus = ", ".join(f"{tau:g}" for tau in layer["tau_ms"][:_LISTED]) + ", ..." * (len(layer["tau_ms"]) > _LISTED)
    size = (f"{layer['n_neurons']}", layer["topology"], f"{taus} ms")
    yield (layer["layer"], layer["source"], layer["synapse"], *size, *_weight_cells(layer["weights"]))
    if layer["recurrent"] is not None:
        yield (layer["layer"], "itself", "recurrent weights", "", "", "", *_weight_cells(layer["recurrent"]))


def _weight_cells(weight: dict[str, Any]) -> tuple[str, ...]:
    return (
        " x ".join(map(str, weight["shape"])),
        f"{weight['bits']}",
        f"{weight['levels_used']} of {weight['levels']}",
        f"{weight['at_limit']:.1%}",
    )
