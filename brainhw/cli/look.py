"""Commands without data: content of a bundle, and its deployment check."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import brainstate
import numpy as np

from brainhw._printing import printable
from brainhw._table import plain_table
from brainhw.chip import ChipSpec
from brainhw.deploy.bundle import build_net, read_bundle
from brainhw.deploy.bundle_content import DTYPES, BundleContent, Codes
from brainhw.deploy.bundled_net import BundledNet
from brainhw.deploy.check import check_deployable
from brainhw.kernel.quantize import lowest_code, stored_grid
from brainhw.nn.pinned import MISMATCH
from brainhw.silicon.measured_file import is_measured, read_measured

__all__ = ["check", "info", "opened", "say"]

_LISTED = 6  # time constants in a row of the table


def say(*lines: str) -> None:
    """Write lines to the standard output."""
    sys.stdout.write(printable("\n".join(lines)) + "\n")


@contextlib.contextmanager
def opened(path: str, *, call: str) -> Iterator[tuple[BundledNet, str]]:
    """Yield the network of a bundle and the file's checksum, inside its own dt and precision."""
    content, checksum = read_bundle(path, call=call)
    # A network only runs with the dt and precision of its bundle, which the caller cannot know.
    with brainstate.environ.context(dt=content.dt, precision=DTYPES[content.dtype]):
        yield build_net(content, path, call=call), checksum


def info(bundle: str, *, chip: bool = False) -> int:
    """Show the content of a bundle or of a measured chip; ``chip`` also shows every number of the chip's spec."""
    if is_measured(bundle):
        return _info_measured(bundle, chip)
    with opened(bundle, call="info") as (net, checksum):
        content = net.content
        classes = "" if content.n_classes is None else f", {content.n_classes} classes"
        spec = content.chip
        written = ", ".join(f"{name} {version}" for name, version in content.versions.items())
        say(
            f"bundle      {os.path.basename(bundle)!r}, {os.path.getsize(bundle)} bytes, whole",
            f"SHA-256     {checksum}",
            f"chip        {spec.name}, family {spec.family}, {spec.n_neurons} neurons in {len(spec.cores)} core(s)",
            f"time step   {content.dt.mantissa:.10g} ms, {content.dtype}",
            f"input       {content.n_in} channels",
            f"output      {content.output}, {content.n_out} neurons{classes}",
            f"written by  {written}",
            *_in_place(content),
            *(f"notes       {line}" for line in content.notes.splitlines()),
            "",
            plain_table(_HEADINGS, _rows(content), left=("layer", "fed by", "through")),
            "",
            str(content.placement),
        )
        if chip:
            say("", spec.table(notes=True))
    return 0


def _info_measured(path: str, every_number: bool) -> int:
    measured, checksum, written = read_measured(path, call="info")
    say(
        f"measured    {os.path.basename(path)!r}, {os.path.getsize(path)} bytes, whole",
        f"SHA-256     {checksum}",
        "written by  " + ", ".join(f"{name} {version}" for name, version in written.items()),
        "",
        measured.table(),
    )
    if every_number:
        say("", measured.spec.table(notes=True))
    return 0


def _in_place(content: BundleContent) -> Iterator[str]:
    if content.known:
        known = sum(int(mask.sum()) for named in content.known.values() for mask in named.values())
        # Of the time constants and thresholds; the charges of single synapses are not measured.
        values = [value for path in content.layers for value in content.in_place.get(path, {}).items()]
        of = sum(np.size(value.mantissa) for name, value in values if name != MISMATCH)
        yield f"in place    a measured chip: {known} of {of} values of neurons measured"
    elif content.in_place:
        yield "in place    a chip of its own: " + ", ".join(content.in_place)


def check(bundle: str) -> int:
    """Verify a bundle and check its network against the rules of its chip."""
    with opened(bundle, call="check") as (net, checksum):
        report = check_deployable(net)
        say(f"whole: SHA-256 {checksum}", str(report))
    return 0 if report.ok else 1


_HEADINGS = ("layer", "fed by", "through", "neurons", "topology", "tau", "weights", "bits", "levels used", "at limit")


def _rows(content: BundleContent) -> Iterator[tuple[str, ...]]:
    for wire in content.wires:
        layer = content.layers[wire.layer]
        used = content.chip.tau_profiles.values.mantissa[np.unique(layer.profiles)]
        taus = ", ".join(f"{tau:g}" for tau in used[:_LISTED]) + (", ..." if len(used) > _LISTED else "")
        weight = _weight(content.synapses[wire.synapse].weight, content.chip)
        yield (wire.layer, wire.source, wire.synapse, f"{len(layer.profiles)}", layer.topology, f"{taus} ms", *weight)
        if layer.recurrent is not None:
            yield (wire.layer, "itself", "recurrent weights", "", "", "", *_weight(layer.recurrent, content.chip))


def _weight(codes: Codes, chip: ChipSpec) -> tuple[str, ...]:
    grid = stored_grid(chip, codes.bits)
    return (
        " x ".join(str(n) for n in codes.values.shape),
        f"{codes.bits}",
        f"{len(np.unique(codes.values))} of {grid.n_levels}",
        f"{np.mean((codes.values == grid.largest_code) | (codes.values == lowest_code(grid))):.1%}",
    )
