"""Summary of a network on its chip: layers, connections, weights, cores, and the result of the deployment check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import brainstate
import brainunit as u
import numpy as np

from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.chip import ChipSpec
from brainhw.deploy.check import DeployReport, judge
from brainhw.deploy.packing import PlacementError
from brainhw.deploy.placement import placement_of
from brainhw.deploy.survey import Survey, survey
from brainhw.nn.pinned import has_sampled_chip

__all__ = ["LayerSummary", "NetSummary", "summary"]

_LISTED = 6  # largest number of time constants that a row lists


@final
@dataclass(frozen=True)
class LayerSummary:
    """One layer of a network on a chip, with the synapse or frontend that drives it.

    Attributes
    ----------
    path : str
        Path of the layer.
    n_neurons : int
        Number of neurons.
    topology : str
        ``"FF"`` (feed-forward) or ``"RC"`` (recurrent).
    tau : tuple of Quantity
        The distinct membrane time constants of the neurons, in ms.
    source : str or None
        Path of the layer whose spikes the synapse receives, or ``"input"``; None if it is unknown.
    synapse : str or None
        Path of the synapse or frontend; None if it is unknown.
    weights : tuple of int
        Shape of the weights of the synapse, ``(N_in, N_out)``, or of the frontend, ``(N,)``; empty if unknown.
    bits : int or None
        Number of bits of a weight; None if the weights are not rounded.
    cores : tuple of int
        The cores of the layer; empty if the network does not fit the chip.
    """

    path: str
    n_neurons: int
    topology: str
    tau: tuple[u.Quantity, ...]
    source: str | None
    synapse: str | None
    weights: tuple[int, ...]
    bits: int | None
    cores: tuple[int, ...]


@final
@dataclass(frozen=True)
class NetSummary(Shown):
    """Summary of a network on its chip. ``print`` it for a table; a notebook shows the table without ``print``.

    Attributes
    ----------
    chip : ChipSpec
        The chip of the network.
    sampled : bool
        Whether the current chip is sampled or measured; otherwise it is nominal.
    layers : tuple of LayerSummary
        The layers, in execution order.
    n_weights : int
        Number of all weights on the chip, including recurrent weights.
    output : str or None
        Path of the layer whose spikes the network returns.
    report : DeployReport
        The result of :func:`check_deployable`.
    """

    chip: ChipSpec
    sampled: bool
    layers: tuple[LayerSummary, ...]
    n_weights: int
    output: str | None
    report: DeployReport

    def _parts(self) -> Iterator[str | Table]:
        n_neurons = sum(layer.n_neurons for layer in self.layers)
        place = "a sampled or measured chip" if self.sampled else "the nominal chip"
        yield (
            f"on {place} of {self.chip.name} (family {self.chip.family}): {n_neurons} of {self.chip.n_neurons} "
            f"neurons, {self.n_weights} weights, output {self.output or 'unknown'}"
        )
        if self.report.ok:
            yield str(self.report)
        else:
            broken = ", ".join(dict.fromkeys(violation.rule for violation in self.report.violations))
            yield f"not deployable: {broken} (see check_deployable)"
        headings = ("layer", "neurons", "kind", "tau", "fed by", "through", "weights", "bits", "cores")
        yield Table(headings, map(_row, self.layers), left=("layer", "fed by", "through"))


def summary(net: brainstate.nn.Module) -> NetSummary:
    """Summarise a network on its chip: layers, connections, weights, cores, and whether the network is deployable.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. One step of the network is traced to find its connections. The network itself is not modified.

    Returns
    -------
    NetSummary
        The summary. ``print`` it for a table; a notebook shows the table without ``print``.

    Raises
    ------
    TypeError
        If ``net`` is not a module.
    ValueError
        If ``net`` contains no module on a chip.
    RuntimeError
        If called inside ``jit``.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u
    >>> net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(8, 30, weight_bits="chip"), bh.nn.H1v2Layer(30, tau=20 * u.ms))
    >>> found = bh.deploy.summary(net)
    >>> found.layers[0].source, found.layers[0].weights, found.layers[0].cores, found.n_weights
    ('input', (8, 30), (0,), 240)
    """
    call = "summary"
    found = survey(net, call=call)
    try:
        placement = placement_of(found, call=call)
    except (PlacementError, ValueError):  # judge(found) below reports the reason
        placement = None
    cores = {} if placement is None else {path: placement.core_of(path) for path in placement.layers}
    stages = {stage.layer_path: stage for stage in found.stages}
    # Layers whose synapse is unknown come last.
    paths = dict.fromkeys((*stages, *found.layers))
    return NetSummary(
        chip=found.chip,
        sampled=has_sampled_chip(net),
        layers=tuple(_layer(found, path, stages.get(path), cores.get(path)) for path in paths),
        n_weights=sum(int(weight.master.value.size) for weight in found.weights.values()),
        output=found.output,
        report=judge(found),
    )


def _layer(found: Survey, path: str, stage: Any, cores: Any) -> LayerSummary:
    layer = found.layers[path]
    taus = np.unique(np.asarray(layer.tau.to(u.ms).mantissa, float))
    weight = None if stage is None else found.weights.get(stage.synapse_path)
    grid = None if weight is None else weight.effective.grid
    return LayerSummary(
        path=path,
        n_neurons=found.n_neurons(path),
        topology=getattr(layer, "topology", "FF"),
        tau=tuple(float(tau) * u.ms for tau in taus),
        source=None if stage is None else stage.source,
        synapse=None if stage is None else stage.synapse_path,
        weights=() if weight is None else tuple(weight.master.value.shape),
        bits=None if grid is None else grid.bits,
        cores=() if cores is None else tuple(map(int, np.unique(cores))),
    )


def _row(layer: LayerSummary) -> tuple[str, ...]:
    taus = ", ".join(f"{tau.mantissa:.4g}" for tau in layer.tau[:_LISTED]) + ", ..." * (len(layer.tau) > _LISTED)
    return (
        layer.path,
        f"{layer.n_neurons}",
        layer.topology,
        f"{taus} ms",
        layer.source or "-",
        layer.synapse or "-",
        " x ".join(map(str, layer.weights)) or "-",
        "-" if layer.bits is None else f"{layer.bits}",
        ", ".join(map(str, layer.cores)) or "-",
    )
