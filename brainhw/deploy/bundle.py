"""One file that holds all of a finished network: what the chip is programmed with, and all that it takes to run it."""

from __future__ import annotations

import os
import platform
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw._version import __version__
from brainhw.chip import ChipSpec
from brainhw.deploy.bundle_content import (
    DTYPES,
    BundleContent,
    BundledLayer,
    BundledSynapse,
    Codes,
    Wire,
    content_from_plain,
)
from brainhw.deploy.bundle_file import BundleError, read_bundle_file, write_bundle_file
from brainhw.deploy.bundled_net import BundledNet
from brainhw.deploy.check import judge
from brainhw.deploy.placement import needs_of, place_layers
from brainhw.deploy.survey import INPUT, Survey, survey
from brainhw.kernel import WeightGrid
from brainhw.nn import ChipWeight

__all__ = ["build_net", "export_bundle", "load_bundle", "read_bundle"]


def export_bundle(
    net: brainstate.nn.Module, path: str | os.PathLike[str], *, n_classes: int | None = None, notes: str = ""
) -> None:
    """Write a deployable network to one file that says everything about it.

    The file holds the whole-number codes of the weights, as they are after annealing and rounding, the tau profile of
    every neuron, topology and wiring, the placement, the chip's whole spec, dt, versions, and a checksum. It is text to
    look into; :func:`load_bundle` runs it. Surrogate functions and other means of training are not in it, and neither
    is a chip that :func:`brainhw.sample_chip` put in place: the network is for every chip of its spec. An existing file
    is replaced in one step.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. :func:`check_deployable` must pass it, and its weights must be grid levels to the bit, as
        ``weight_bits`` makes them.
    path : path
        The file; its folder must exist.
    n_classes : int, optional
        Number of classes, if equal, consecutive populations of output neurons stand for them.
    notes : str, optional
        Free text.

    Raises
    ------
    ValueError
        If the network is not deployable (`NotDeployableError`, listing every reason), the file could not hold it to
        the bit, an argument does not fit, or the file cannot be written.
    TypeError
        If an argument is of the wrong kind.
    RuntimeError
        If no dt is set in ``brainstate.environ``, or the call stands inside ``jit``.

    Notes
    -----
    A loaded network is exported with its own dt, placement, and unless others are given its ``n_classes`` and
    ``notes``: the same file again, to the byte, if the versions are the same.

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
    found = survey(net, call=call)
    bundled = isinstance(net, BundledNet)
    dt = net.dt if bundled else _arguments.time_step(call=call)
    if not isinstance(notes, str):
        raise TypeError(f"{call}: notes must be text; got {_arguments.describe(notes)}.")
    if n_classes is not None:
        n_classes = _arguments.positive_int(n_classes, call=call, name="n_classes")
    dtype = _dtype(found, call)
    judge(found).raise_if_not()
    assert found.output is not None  # what is deployable has one
    n_out = found.layers[found.output].n_neurons
    if n_classes is not None and n_out % n_classes:
        raise ValueError(f"{call}: n_classes must divide the {n_out} output neurons; got {n_classes}.")
    chip = found.chip
    if INPUT in found.layers:
        raise ValueError(f"{call}: a layer is called {INPUT!r}, as the input of the network is; name it otherwise.")
    content = BundleContent(
        chip=chip,
        dt=dt,
        dtype=dtype,
        synapses={
            path: BundledSynapse(path in found.frontends, _codes(path, found.weights[path], call))
            for path in (*found.synapses, *found.frontends)
        },
        layers={path: _layer(path, found, chip, call) for path in found.layers},
        wires=tuple(Wire(stage.source, stage.synapse_path, stage.layer_path) for stage in found.stages),
        output=found.output,
        placement=net.placement if bundled else place_layers(chip, needs_of(found), call=call),
        versions=_versions(),
        n_classes=net.n_classes if bundled and n_classes is None else n_classes,
        notes=net.notes if bundled and not notes else notes,
    )
    plain = content.to_plain()
    try:
        BundledNet(content_from_plain(plain))
    except ValueError as error:
        raise ValueError(f"{call}: a bundle cannot hold this network: {error}.") from error
    write_bundle_file(path, plain, call=call)


def load_bundle(path: str | os.PathLike[str]) -> BundledNet:
    """Read a bundle and build its network, whose spikes are those of the exported one to the bit.

    The file is read as data, nothing in it is run, and whatever is not exactly a bundle is refused. Where modules lay
    in the exported network, they lie in this one (``"layers.0"``, ``"block.syn"``), so that a key samples the same
    chip.

    Parameters
    ----------
    path : path
        A file that :func:`export_bundle` wrote.

    Returns
    -------
    BundledNet
        The network, with ``chip``, ``dt``, ``placement``, ``versions``, ``n_classes`` and ``notes``. Run it inside
        ``brainstate.environ.context(dt=net.dt)``.

    Raises
    ------
    BundleError
        If the file cannot be read, is no bundle, was cut short, damaged or changed, was written by a newer brainhw, or
        says what no bundle says. It is a ``ValueError``.
    TypeError
        If ``path`` is no path.
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
    content, _ = read_bundle(path, call=call)
    return build_net(content, path, call=call)


def build_net(content: BundleContent, path: str | os.PathLike[str], *, call: str) -> BundledNet:
    """Return the network of what the bundle at ``path`` says.

    Raises
    ------
    BundleError
        If it cannot be built to the bit.
    RuntimeError
        If called inside ``jit``.
    """
    if _arguments.inside_jit():
        raise RuntimeError(f"{call}: jit would lose the states of the network; call it outside of jit.")
    try:
        return BundledNet(content)
    except ValueError as error:
        raise BundleError(f"{call}: {os.fsdecode(path)!r} cannot become a network: {error}.") from error


def read_bundle(path: str | os.PathLike[str], *, call: str) -> tuple[BundleContent, str]:
    """Return what a bundle says, without building the network, and the checksum of its file.

    Raises
    ------
    BundleError
        As :func:`load_bundle`.
    """
    data, checksum = read_bundle_file(path, call=call)
    try:
        return content_from_plain(data), checksum
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise BundleError(
            f"{call}: {os.fsdecode(path)!r} says what no bundle says: {error}; its checksum is right, so it was not "
            "damaged on the way: export the network again with brainhw.deploy.export_bundle."
        ) from error


def _dtype(found: Survey, call: str) -> str:
    held = {str(weight.master.value.dtype) for weight in found.weights.values()}
    held |= {str(layer.tau.mantissa.dtype) for layer in found.layers.values()}
    held.add(np.dtype(brainstate.environ.dftype()).name)
    if len(held) > 1 or not held <= set(DTYPES):
        raise ValueError(
            f"{call}: the network and brainstate.environ must have one precision; got {', '.join(sorted(held))}. "
            "Export it inside the brainstate.environ.context(precision=...) that it was built in."
        )
    return held.pop()


def _codes(path: str, weight: ChipWeight, call: str) -> Codes:
    chip, grid = weight.chip, weight.effective.grid
    grid = WeightGrid(chip.weight_limit, chip.weight_bits) if grid is None else grid
    applied = weight.effective.applied(weight.master.value)
    codes = grid.codes(applied)
    off = int(np.sum(np.asarray(grid.values(codes, applied.dtype) != applied)))
    if off:
        raise ValueError(
            f"{call}: {off} of {applied.size} weights of {path} differ from a level of the grid by rounding errors, "
            "and spikes could; brainhw.deploy.set_weight_bits(net, 'chip') makes them exact."
        )
    return Codes(grid.bits, np.asarray(codes))


def _layer(path: str, found: Survey, chip: ChipSpec, call: str) -> BundledLayer:
    layer = found.layers[path]
    snap = chip.tau_profiles.snap(layer.tau, call=call)
    if not np.array_equal(jnp.asarray(snap.tau.mantissa, layer.tau.mantissa.dtype), layer.tau.mantissa):
        raise ValueError(f"{call}: the tau of {path} is a profile up to rounding only; give tau to its constructor.")
    weight = found.weights.get(path)
    return BundledLayer(np.asarray(snap.index, np.int32), None if weight is None else _codes(path, weight, call))


def _versions() -> dict[str, Any]:
    return {
        "brainhw": __version__,
        "brainstate": brainstate.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
