"""Bundles: export a network for a chip to one file, and load the network from this file."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import brainstate
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw._files import FileKind, Sealed, check_target, path_text, versions
from brainhw._plain_json import parse_json, text_of
from brainhw.chip import UnknownFamilyError
from brainhw.deploy.bundle_chip import known_in_place, values_in_place
from brainhw.deploy.bundle_content import (
    DTYPES,
    FINGERPRINT,
    BundleContent,
    BundledLayer,
    BundledSynapse,
    Codes,
    Wire,
    clipped,
    content_from_plain,
)
from brainhw.deploy.bundled_net import BundledNet
from brainhw.deploy.check import judge
from brainhw.deploy.placement import Placement, placement_of
from brainhw.deploy.survey import INPUT, Survey, survey
from brainhw.kernel.precision import state_dtype
from brainhw.kernel.quantize import stored_grid
from brainhw.nn import ChipWeight

__all__ = [
    "BundleError",
    "build_net",
    "codes_of",
    "content_of",
    "export_bundle",
    "load_bundle",
    "read_bundle",
    "write_plain",
]


class BundleError(ValueError):
    """Raised if a file is not a bundle or is corrupted. The message states what is wrong and how to fix it."""


_KIND = FileKind("bundle", "`brainhw train` or brainhw.deploy.export_bundle", 1, BundleError)
# The size limit is about 100 times the size of a bundle that fills a whole chip. A larger file is rejected before
# memory is allocated for it.
_FILE = Sealed(_KIND, "brainhw-bundle", 64 * 2**20)


def export_bundle(
    net: brainstate.nn.Module,
    path: str | os.PathLike[str],
    *,
    n_classes: int | None = None,
    notes: str = "",
    encoding_fingerprint: str | None = None,
) -> None:
    """Write a deployable network to one file, from which :func:`load_bundle` builds the same network again.

    The file is readable text. It contains the integer codes of the weights after sign annealing and rounding, the time
    constant of every neuron as the index of a tau profile, the topology of each layer, the connections, the placement,
    the chip's spec, dt, the versions of brainhw, brainstate, JAX and Python, and a checksum. If the current chip is
    sampled or measured, its values are stored too. To omit them, call :func:`brainhw.nominal_chip` first. Surrogate
    functions and other training settings are not stored. An existing file is replaced atomically.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. It must pass :func:`check_deployable`, and every weight must be exactly equal to a level of the
        weight grid. Set ``weight_bits`` to round the weights to these levels.
    path : path
        The file; its folder must exist.
    n_classes : int, optional
        Number of classes. The output neurons are divided into equal, consecutive populations, one per class.
    notes : str, optional
        Free text.
    encoding_fingerprint : str, optional
        :attr:`brainhw.recipe.Encoding.fingerprint` of the encoding that computes the inputs of the network. The
        ``brainhw`` commands then reject every other encoding.

    Raises
    ------
    ValueError
        If the network is not deployable (`NotDeployableError`, which lists every reason), if the file format cannot
        represent the network exactly, if an argument is invalid, or if the file cannot be written or is not a regular
        file.
    TypeError
        If an argument has the wrong type.
    RuntimeError
        If no dt is set in ``brainstate.environ``, or if called inside ``jit``.

    Notes
    -----
    A network from :func:`load_bundle` is exported with the dt and the placement of its file, and also with the
    ``n_classes``, ``notes`` and ``encoding_fingerprint`` of its file unless you pass different ones. With the same
    versions, the new file equals the old one byte for byte.

    Examples
    --------
    >>> import os, tempfile
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.H1v1Synapse(4, 2, weight_init=jnp.full((4, 2), 0.3), weight_bits="chip"),
    ...     bh.nn.H1v1Layer(2, tau=10 * u.ms),
    ... )
    >>> with tempfile.TemporaryDirectory() as folder, brainstate.environ.context(dt=1.0 * u.ms):
    ...     file = os.path.join(folder, "net.bundle")
    ...     bh.deploy.export_bundle(net, file, n_classes=2, notes="a demonstration")
    ...     loaded = bh.deploy.load_bundle(file)
    ...     spikes, _ = bh.rollout(loaded, jnp.full((20, 4), 3.0))
    >>> loaded.notes, loaded.n_classes, float(spikes.sum())
    ('a demonstration', 2, 12.0)
    """
    call = "export_bundle"
    # Check the path first, so that an invalid path is reported before the expensive work.
    check_target(path_text(path, call=call, what="the file to write"), call=call)
    if not isinstance(notes, str):
        raise TypeError(f"{call}: notes must be text; got {_arguments.describe(notes)}.")
    if n_classes is not None:
        n_classes = _arguments.positive_int(n_classes, call=call, name="n_classes")
    if encoding_fingerprint is not None:
        _check_fingerprint(encoding_fingerprint, call)
    content = content_of(net, n_classes=n_classes, notes=notes, encoding_fingerprint=encoding_fingerprint, call=call)
    plain = content.to_plain()
    # Read the content back before writing, so that a file that cannot be loaded never replaces a good one.
    try:
        BundledNet(content_from_plain(plain))
    except ValueError as error:
        raise ValueError(f"{call}: this network cannot be stored in a bundle: {error}.") from error
    write_plain(path, plain, call=call)


def _check_fingerprint(value: Any, call: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{call}: encoding_fingerprint must be text; got {_arguments.describe(value)}.")
    if not FINGERPRINT.fullmatch(value):
        raise ValueError(
            f"{call}: encoding_fingerprint must be 64 hexadecimal digits; got {_arguments.describe(value)}. Pass the "
            "fingerprint of an Encoding."
        )


def content_of(
    net: brainstate.nn.Module,
    *,
    n_classes: int | None = None,
    notes: str = "",
    encoding_fingerprint: str | None = None,
    placement: Placement | None = None,
    unchecked: Collection[str] = (),
    call: str,
) -> BundleContent:
    """Return the bundle content for a network.

    Raise ``NotDeployableError`` if the network violates a rule of its chip. The rules in ``unchecked`` are not checked.
    """
    found = survey(net, call=call)
    in_place, known = values_in_place(net), known_in_place(net)
    # A network from load_bundle keeps its dt and placement, so that exporting it again yields the same file.
    bundled = isinstance(net, BundledNet)
    dt = net.dt if bundled else _arguments.time_step(call=call)
    dtype = _dtype(found, call)
    report = judge(found)
    broken = tuple(violation for violation in report.violations if violation.rule not in unchecked)
    replace(report, violations=broken).raise_if_not()
    assert found.output is not None  # the rule on connections was checked above, and it requires an output layer
    n_out = found.n_neurons(found.output)
    if n_classes is not None and n_out % n_classes:
        raise ValueError(
            f"{call}: n_classes must be a divisor of the number of output neurons, {n_out}; got {n_classes}."
        )
    if INPUT in found.layers:
        raise ValueError(f"{call}: the layer path {INPUT!r} is reserved for the network input. Rename the layer.")
    if placement is None or known:
        kept = net.placement if bundled else placement_of(found, call=call)
        placement, given = kept, placement
    else:
        kept = given = placement
    if given is not None and given.pieces != kept.pieces:
        raise ValueError(
            f"{call}: placement differs from the placement of the measured chip in the network. Omit placement, or "
            "first call brainhw.silicon.put_chip(net, chip, placement)."
        )
    return BundleContent(
        chip=found.chip,
        dt=dt,
        dtype=dtype,
        synapses={
            path: BundledSynapse(path in found.frontends, codes_of(path, found.weights[path], call))
            for path in (*found.synapses, *found.frontends)
        },
        layers={path: _layer(path, found, call) for path in found.layers},
        wires=tuple(Wire(stage.source, stage.synapse_path, stage.layer_path) for stage in found.stages),
        output=found.output,
        placement=placement,
        versions=versions(),
        n_classes=net.n_classes if bundled and n_classes is None else n_classes,
        notes=net.notes if bundled and not notes else notes,
        in_place=in_place,
        known=known,
        encoding_fingerprint=net.encoding_fingerprint
        if bundled and encoding_fingerprint is None
        else encoding_fingerprint,
    )


def load_bundle(path: str | os.PathLike[str]) -> BundledNet:
    """Read a bundle and build its network, which produces exactly the same spikes as the exported network.

    No code from the file is run or imported. A file that deviates from the bundle format is rejected. The modules have
    the same paths as in the exported network (``"layers.0"``, ``"block.syn"``), so that :func:`brainhw.sample_chip`
    with the same key samples the same chip. If the chip family belongs to another package, import that package first.
    This is not necessary if the package has an entry point in the group ``brainhw.chip_families``.

    Parameters
    ----------
    path : path
        A file that :func:`export_bundle` wrote.

    Returns
    -------
    BundledNet
        The network, with ``chip``, ``dt``, ``placement``, ``versions``, ``n_classes``, ``notes`` and
        ``encoding_fingerprint``. Run it inside ``brainstate.environ.context(dt=net.dt)``.

    Raises
    ------
    BundleError
        If the file cannot be read, is not a bundle, is corrupted, was written by a newer brainhw, has invalid content,
        or needs a chip family that is not registered. ``BundleError`` is a subclass of ``ValueError``.
    TypeError
        If ``path`` is not a path.
    RuntimeError
        If called inside ``jit``.

    Examples
    --------
    >>> import os, tempfile
    >>> import brainhw as bh, brainstate, brainunit as u
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.H1v2Frontend(weight_bits="chip"), bh.nn.H1v2Layer(16, tau=20 * u.ms)
    ... )
    >>> with tempfile.TemporaryDirectory() as folder, brainstate.environ.context(dt=1.0 * u.ms):
    ...     file = os.path.join(folder, "ears.bundle")
    ...     bh.deploy.export_bundle(net, file)
    ...     loaded = bh.deploy.load_bundle(file)
    >>> bh.deploy.is_net_deployable(loaded), loaded.placement.free
    (True, (34, 50, 100))
    """
    call = "load_bundle"
    return build_net(read_bundle(path, call=call)[0], path, call=call)


def build_net(content: BundleContent, path: str | os.PathLike[str], *, call: str) -> BundledNet:
    """Build the network of the bundle at ``path``. Raise ``BundleError`` if the network cannot be built exactly."""
    if _arguments.inside_jit():
        raise RuntimeError(f"{call}: jit would discard the states of the network. Call it outside of jit.")
    try:
        return BundledNet(content)
    except ValueError as error:
        raise BundleError(f"{call}: {os.fsdecode(path)!r} contains a network that cannot be built: {error}.") from error


def read_bundle(path: str | os.PathLike[str], *, call: str) -> tuple[BundleContent, str]:
    """Return the content of a bundle and the checksum of its file, without building the network."""
    payload, checksum, what = _FILE.read(path, call=call)
    try:
        data = parse_json(payload.decode("ascii"))
    except (ValueError, RecursionError) as error:
        reason = clipped(" ".join(str(error).split()), 200)
        raise _KIND.corrupted(what, f"does not contain valid JSON: {reason}") from None
    try:
        return content_from_plain(data), checksum
    except UnknownFamilyError as error:
        raise BundleError(f"{what} needs a chip family that is not registered: {error}") from error
    # The checksum only detects corruption. Anyone can write a file with a correct checksum, so any error in its content
    # is reported as invalid content.
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise BundleError(
            f"{what} has invalid content: {error}. Its checksum is correct, so the file is not corrupted. "
            f"Export the network again with {_KIND.writer}."
        ) from error


def _dtype(found: Survey, call: str) -> str:
    # Weights in another precision are rounded to the same codes, but yield slightly different charges and thus
    # different spikes.
    held = {str(weight.master.value.dtype) for weight in found.weights.values()}
    of_environ = np.dtype(brainstate.environ.dftype()).name
    held.add(of_environ)
    # Layers in half precision store their time constants in float32.
    taus = {str(layer.tau.mantissa.dtype) for layer in found.layers.values()}
    held |= {of_environ} if taus == {np.dtype(state_dtype()).name} else taus
    if len(held) > 1 or not held <= set(DTYPES):
        raise ValueError(
            f"{call}: the network and brainstate.environ must have the same precision; got {', '.join(sorted(held))}. "
            "Export inside the brainstate.environ.context(precision=...) in which the network was built."
        )
    return held.pop()


def codes_of(path: str, weight: ChipWeight, call: str) -> Codes:
    """Return the integer codes of a weight matrix. Raise ``ValueError`` if a weight is not a level of its grid."""
    grid = weight.effective.grid
    grid = stored_grid(weight.chip, weight.chip.weight_bits) if grid is None else grid
    applied = weight.effective.applied(weight.master.value)
    codes = grid.codes(applied)
    off = int(np.sum(np.asarray(grid.values(codes, applied.dtype) != applied)))
    if off:
        raise ValueError(
            f"{call}: {off} of {applied.size} weights of {path} are not exactly equal to a level of the weight grid. "
            "Rounding them could change the spikes. Call brainhw.deploy.set_weight_bits(net, 'chip') to fix this."
        )
    return Codes(grid.bits, np.asarray(codes))


def _layer(path: str, found: Survey, call: str) -> BundledLayer:
    layer = found.layers[path]
    # The file stores the index of a profile. If tau differs from its profile by a rounding error, the loaded network
    # could produce different spikes.
    snap = found.chip.tau_profiles.snap(layer.tau, call=call)
    if not np.array_equal(jnp.asarray(snap.tau.mantissa, layer.tau.mantissa.dtype), layer.tau.mantissa):
        raise ValueError(
            f"{call}: tau of {path} must be exactly equal to a leak profile; it differs by a rounding error. Set tau "
            "in the constructor of the layer."
        )
    weight = found.weights.get(path)
    return BundledLayer(np.asarray(snap.index, np.int32), None if weight is None else codes_of(path, weight, call))


def write_plain(path: str | os.PathLike[str], data: dict[str, Any], *, call: str) -> None:
    """Write plain dicts, lists, strings and numbers as a bundle file, atomically.

    The first line contains ``brainhw-bundle``, the format version, and the SHA-256 (in hexadecimal) and the length (in
    bytes) of the remaining text. The remaining text is JSON with sorted keys.
    """
    _FILE.write(path, text_of(data).encode("ascii"), call=call)
