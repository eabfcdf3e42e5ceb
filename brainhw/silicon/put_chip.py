"""Replace the nominal chip of a network by a measured chip."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw._settings import next_chip_version
from brainhw.chip import ChipSpec
from brainhw.deploy.bundled_net import BundledNet
from brainhw.deploy.placement import Placement, place
from brainhw.nn import net_chip
from brainhw.nn.effective import EffectiveWeight
from brainhw.nn.known import checked_masks
from brainhw.silicon.measured import MeasuredChip
from brainhw.transform.trace import put_back_on_failure

__all__ = ["put_chip"]

# If one of these fields changed, the network would need different codes, placements or resets. So these fields must be
# the same for the nominal chip and the measured chip.
_SAME = ("family", "cores", "weight_limit", "weight_bits", "frontend_channels", "sign_block", "sign_axis", "reset")


def put_chip(net: brainstate.nn.Module, measured: MeasuredChip, placement: Placement | None = None) -> None:
    """Make a measured chip the current chip of a network.

    Every module uses the mean values of ``measured.spec`` (charge curve, capacitance, threshold, time constants of the
    leak settings). Each neuron of the network uses the threshold of its physical neuron, and the time constant of this
    physical neuron at the leak setting that the network uses. If a value was not measured, the neuron uses the mean
    value of the spec. The weights and their codes do not change.

    The measured chip stays the current chip in later calls and in training. :func:`brainhw.sample_chip`,
    :func:`brainhw.deploy.robustness` and calls with ``key=`` keep the measured values and sample the other values. A
    bundle stores the measured chip. :func:`brainhw.nominal_chip` discards the measured values of the neurons. The
    neurons then use the mean values of ``measured.spec``. Functions that ``brainstate.transform.jit`` compiled earlier
    are traced again.

    Parameters
    ----------
    net : brainstate.nn.Module
        A network of H1v1 or H1v2 modules, or of a family whose modules derive from :class:`brainhw.nn.H1Layer` and
        :class:`brainhw.nn.H1Synapse`.
    measured : MeasuredChip
        The chip. Its family, cores, ``weight_limit``, ``weight_bits``, frontend, sign blocks, reset and number of leak
        settings must be the same as for the network's chip.
    placement : Placement, optional
        The position of each neuron. Default: the placement of an earlier ``put_chip`` or of the bundle, or else the
        result of :func:`brainhw.deploy.place`. Bundles and programs use the same placement.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If ``measured`` does not match the chip of the network, if ``placement`` belongs to another network, or if no
        placement exists. After an error, the network is unchanged.
    RuntimeError
        If called inside ``jit``.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(4, 3), bh.nn.H1v2Layer(3, tau=20 * u.ms))
    >>> tau = np.full((8, 200), np.nan)
    >>> tau[4, :2] = [18.0, 23.0]  # setting 4 is 20 ms
    >>> chip = bh.silicon.MeasuredChip(bh.chip.H1V2, tau * u.ms, np.full(200, 95.0) * u.mV)
    >>> bh.silicon.put_chip(net, chip)
    >>> bh.prepare_net(net)
    >>> print(net.layers[1].chip_tau.value, net.layers[1].threshold())
    [18. 23. 20.] ms [95. 95. 95.] mV
    """
    call = "put_chip"
    _arguments.check_module(net, call=call)
    _arguments.instance(measured, MeasuredChip, call=call, name="measured")
    if placement is not None:
        _arguments.instance(placement, Placement, call=call, name="placement")
    if _arguments.inside_jit():
        raise RuntimeError(f"{call}: the chip of a network cannot be changed inside jit. Call put_chip outside of jit.")
    now = net_chip(net, call=call)
    if now is None:
        raise ValueError(f"{call}: the network has no module on a chip. Build it with modules of a chip family.")
    _check_fits(now, measured, call)
    modules = _modules(net, call)
    layers = {path: module for path, module in modules.items() if hasattr(module, "profiles")}
    if placement is None:
        placement = net.placement if isinstance(net, BundledNet) else place(net)
    _check_placement(placement, layers, now, call)
    # Keep the attributes, to restore them after an error. The nodes include the submodules, and the network itself if
    # it comes from a bundle.
    before = [(node, dict(vars(node))) for node in net.nodes().values()]
    try:
        with put_back_on_failure(net.states().values()):
            for module in modules.values():
                module.take_chip(measured.spec)
            for path, layer in layers.items():
                _put_values(layer, measured, placement.physical_of(path), call)
            for node in net.nodes().values():
                if isinstance(node, BundledNet):
                    node.take_chip(measured.spec)
    except BaseException:
        for node, held in before:
            vars(node).clear()
            vars(node).update(held)
        raise
    _warn_of_unmeasured(layers, measured, call)


def _warn_of_unmeasured(layers: Mapping[str, Any], measured: MeasuredChip, call: str) -> None:
    n_measured = int((measured.known_V_th | measured.known_tau.any(0)).sum())
    bare = [path for path, layer in layers.items() if not layer.known]
    if n_measured and bare:
        warnings.warn(
            f"{call}: {n_measured} neurons of the chip are measured, but none of them is in {', '.join(bare)}, so "
            "these layers use the mean values. Pass a placement on measured neurons, or measure the neurons in use.",
            UserWarning,
            stacklevel=3,
        )


def _check_fits(now: ChipSpec, measured: MeasuredChip, call: str) -> None:
    for name in _SAME:
        one, other = getattr(now, name), getattr(measured.spec, name)
        if one != other:
            raise ValueError(
                f"{call}: measured has {name} = {other}, but the chip of the network has {one}. "
                "Pass a measurement of the chip for which the network was built."
            )
    settings = len(now.tau_profiles.values.mantissa)
    if measured.n_settings != settings:
        raise ValueError(
            f"{call}: measured has {measured.n_settings} leak settings, but the network's chip has {settings}. Build "
            "the network on a chip with these settings, such as chip=measured.spec."
        )


def _modules(net: brainstate.nn.Module, call: str) -> dict[str, Any]:
    """Return every module that has a chip, by its path. Raise ``TypeError`` if the chip cannot be replaced."""
    found = {}
    for where, node in net.nodes().items():
        if isinstance(getattr(node, "chip", None), ChipSpec) and not isinstance(node, (EffectiveWeight, BundledNet)):
            path = ".".join(map(str, where)) or type(node).__name__
            if not callable(getattr(node, "take_chip", None)):
                raise TypeError(
                    f"{call}: {type(node).__name__} at {path!r} has a chip but no method take_chip. Derive it from "
                    "H1Layer or H1Synapse."
                )
            found[path] = node
    return found


def _check_placement(placement: Placement, layers: Mapping[str, Any], now: ChipSpec, call: str) -> None:
    wanted = {path: math.prod(layer.in_size) for path, layer in layers.items()}
    if placement.layers != wanted:
        raise ValueError(
            f"{call}: placement is for the layers {placement.layers}, but the network has {wanted}. Make a new "
            "placement with brainhw.deploy.place(net)."
        )
    if placement.chip.cores != now.cores:
        raise ValueError(
            f"{call}: placement is for the cores {placement.chip.cores}, but the chip has {now.cores}. Make a "
            "new placement with brainhw.deploy.place(net)."
        )


def _put_values(layer: Any, measured: MeasuredChip, physical: np.ndarray, call: str) -> None:
    """Write the measured values of the physical neurons of a layer into the layer."""
    layer.physical = physical
    physical = physical.reshape(layer.in_size)
    values = {"tau": measured.tau[layer.profiles, physical], "V_th": measured.V_th[physical]}
    masks = {}
    for name, value in values.items():
        state = getattr(layer, f"pinned_{name}")
        mean, unit = state.value.mantissa, state.value.unit
        numbers = np.asarray(value.to(unit).mantissa)
        masks[name] = ~np.isnan(numbers)
        # Round only once, to the precision of the network.
        state.value = u.Quantity(jnp.where(masks[name], jnp.asarray(numbers, mean.dtype), mean), unit=unit)
    layer.known = checked_masks(layer, masks, call=call)
    layer.chip_version = next_chip_version()
