"""Estimate of the power and energy of a network on its chip, from counts of spikes and synaptic events."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments, _records
from brainhw._drawn import Drawn
from brainhw._progress import progress_bar
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.chip import ChipSpec
from brainhw.deploy.inputs import warn_of_input
from brainhw.deploy.placement import Placement, placement_of
from brainhw.deploy.survey import INPUT, Survey, survey
from brainhw.kernel.lengths import check_lengths, zero_padding
from brainhw.transform.prepare import states_restored
from brainhw.transform.rollout import rollout

__all__ = ["Cost", "PowerReport", "estimate_power"]

CostKind = Literal["core", "frontend", "spike", "event"]

_COUNT = functools.partial(_arguments.number, nonnegative=True)
# All spikes of a batch are recorded, which limits its size: 64 samples of a full chip over 1000 steps take 66 MB.
_SAMPLES_AT_ONCE = 64


@final
@dataclass(frozen=True)
class Cost:
    """One part of the energy of an inference.

    Attributes
    ----------
    part : str
        Name of the part, for example ``"core 0"``, ``"frontend"``, ``"spikes of hidden"`` or ``"events into hidden"``.
    kind : {'core', 'frontend', 'spike', 'event'}
        What uses the energy: the static power of a core, the frontend, spikes, or synaptic events.
    count : float
        Mean number of spikes or events per inference; 1 for a core, the number of channels for the frontend.
    coefficient : str
        The field of the chip's spec that contains the energy per spike or event, or the power per core or channel.
    energy : Quantity
        Energy of one inference, in uJ.
    """

    part: str
    kind: str
    count: float
    coefficient: str
    energy: u.Quantity

    def __post_init__(self) -> None:
        _records.check_fields(
            self,
            part=_arguments.text,
            kind=_records.one_of(*_COEFFICIENTS),
            count=_COUNT,
            coefficient=_records.one_of(*_COEFFICIENTS.values()),
            energy=_records.is_in(u.ujoule, nonnegative=True),
        )


@final
@dataclass(frozen=True)
class PowerReport(Shown, Drawn):
    """Power and energy of a network on its chip. ``print`` it for a table, or call ``plot()`` for a figure.

    Attributes
    ----------
    chip : ChipSpec
        The chip, with its energy coefficients and their provenance.
    duration : Quantity
        Length of one inference, in ms.
    n_samples : int
        The number of inferences over which the counts are averaged.
    costs : tuple of Cost
        All parts of the energy.
    spikes : mapping
        Spikes per inference, by the path of the layer.
    synaptic_events, synops : float
        Number of synaptic operations per inference. One operation is one spike that arrives at one weight.
        ``synaptic_events`` counts only weights that move charge, and ``synops`` counts all weights.
    silent : mapping
        Number of neurons that never fired, by the path of the layer.
    weight_bits : int
        Size of the weight memory in bits: the number of weights times the bits of the chip.
    by_core : mapping
        Energy of one inference in uJ for each core, from the static power of the core and from the spikes and synaptic
        events of its neurons.
    """

    chip: ChipSpec
    duration: u.Quantity
    n_samples: int
    costs: tuple[Cost, ...]
    spikes: Mapping[str, float]
    synaptic_events: float
    synops: float
    silent: Mapping[str, int]
    weight_bits: int
    by_core: Mapping[int, u.Quantity]

    def __post_init__(self) -> None:
        energy = _records.is_in(u.ujoule, nonnegative=True)
        _records.check_fields(
            self,
            chip=_records.is_a(ChipSpec),
            duration=_records.is_in(u.ms, positive=True),
            n_samples=_arguments.positive_int,
            costs=_records.each(_records.is_a(Cost), "Cost"),
            spikes=_records.by_name(_COUNT, "numbers"),
            synaptic_events=_COUNT,
            synops=_COUNT,
            silent=_records.by_name(_arguments.whole_number, "integers"),
            weight_bits=_arguments.whole_number,
            by_core=_records.by_name(energy, "energies", int),
        )

    @property
    def energy(self) -> u.Quantity:
        """Energy of one inference, in uJ."""
        return u.Quantity(sum(_uJ(cost.energy) for cost in self.costs), unit=u.ujoule)

    @property
    def power(self) -> u.Quantity:
        """Mean power during an inference, in uW."""
        return u.Quantity(_uJ(self.energy) / self.duration.to(u.second).mantissa, unit=u.uwatt)

    def energy_of(self, kind: CostKind) -> u.Quantity:
        """Return the energy in uJ of one kind of cost: ``'core'``, ``'frontend'``, ``'spike'`` or ``'event'``."""
        _arguments.choice(kind, _COEFFICIENTS, call="PowerReport.energy_of", name="kind")
        return u.Quantity(sum(_uJ(cost.energy) for cost in self.costs if cost.kind == kind), unit=u.ujoule)

    def _parts(self) -> Iterator[str | Table]:
        total, seconds = _uJ(self.energy), self.duration.to(u.second).mantissa
        rows = []
        for cost in self.costs:
            value, energy = getattr(self.chip, cost.coefficient), _uJ(cost.energy)
            coefficient = f"{cost.coefficient} {value.mantissa:g} {u.get_unit(value)}"
            numbers = (f"{energy:.4g}", f"{energy / seconds:.4g}", f"{energy / total if total else 0:.1%}")
            rows.append((cost.part, f"{cost.count:.6g}", coefficient, self.chip.provenance[cost.coefficient], *numbers))
        rows.append(("total", "", "", "", f"{total:.4g}", f"{self.power.mantissa:.4g}", "100.0%"))
        headings = ("per inference", "count", "coefficient", "provenance", "energy (uJ)", "power (uW)", "share")
        cores = ", ".join(f"core {core} {_uJ(energy):.4g} uJ" for core, energy in self.by_core.items())
        silent = sum(self.silent.values())
        yield f"{self.chip.name}, one inference of {self.duration.mantissa:g} ms, mean of {self.n_samples}"
        yield Table(headings, rows, left=("per inference", "coefficient", "provenance"))
        yield f"with the spikes and events of its neurons: {cores}"
        yield (
            f"SynOps {self.synops:.4g} (synapses that move charge: {self.synaptic_events:.4g}), spikes "
            f"{sum(self.spikes.values()):.4g}, silent neurons {silent}, weight memory {self.weight_bits} bits"
        )


# For each kind of cost, the field of the chip's spec. The vendor publishes none of these values.
_COEFFICIENTS: dict[str, str] = {
    "core": "core_power",
    "frontend": "frontend_channel_power",
    "spike": "spike_energy",
    "event": "event_energy",
}


def _uJ(energy: u.Quantity) -> float:
    return float(energy.to(u.ujoule).mantissa)


def estimate_power(net: brainstate.nn.Module, xs: Any, *, lengths: Any = None, progress: bool = False) -> PowerReport:
    r"""Estimate the power and energy of a network on its chip from its activity on data.

    .. math:: E = T \Delta t\,(n_{cores} P_{core} + n_{channels} P_{channel})
              + n_{spikes} E_{spike} + n_{events} E_{event}

    A synaptic event is one spike that arrives at one nonzero weight. If the charge curve of the chip is not zero at
    weight zero, every spike that arrives at a weight is an event. An input of 2 to a dense synapse counts as two
    spikes. :func:`place` determines which cores are used. The four coefficients come from the chip's spec. In the
    presets all four are **assumed**. Therefore use the result to compare networks, or the contributions within one
    network, but do not rely on absolute values. If you have measured the coefficients, set them with
    ``chip.replace(spike_energy=..., provenance="measured")``.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, on its current chip (see :func:`brainhw.sample_chip`). It is not modified.
    xs : array
        Inputs ``[T, B, N]`` or ``[T, N]``, with time as the leading axis: ``B`` inferences of ``T`` time steps. ``dt``
        is read from ``brainstate.environ``.
    lengths : array, optional
        Number of valid steps of each inference, ``[B]``. Later steps are padding. They use no energy, as on a chip
        whose output is read at the end of each recording. ``duration`` is then the mean duration. Default: all steps.
    progress : bool, optional
        Show a progress bar over inferences. Default False.

    Returns
    -------
    PowerReport
        The mean ``power`` in uW, the ``energy`` in uJ, and all parts of the energy in ``costs``. ``print`` the report
        for a table.

    Raises
    ------
    TypeError
        If ``net`` is not a module, or if ``xs`` is not an array of real numbers.
    ValueError
        If ``xs`` has the wrong shape or contains non-finite values, if the network cannot be placed, or if its
        connections cannot be determined.
    RuntimeError
        If no time step is set in ``brainstate.environ``, or if called inside ``jit``.

    Warns
    -----
    UserWarning
        If ``xs`` contains values out of the range of a chip. See ``data`` of :func:`check_deployable`.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.H1v2Synapse(3, 2, weight_init=jnp.ones((3, 2))), bh.nn.H1v2Layer(2, tau=10 * u.ms)
    ... )
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     report = bh.deploy.estimate_power(net, jnp.ones((100, 1, 3)))
    >>> report.synops, print(report.energy_of("core"))
    2. uJ
    (600.0, None)
    """
    call = "estimate_power"
    _arguments.flag(progress, call=call, name="progress")
    found = survey(net, call=call)
    problem = found.failure or next((f"{path}: {what}" for path, what in found.tangles.items()), None)
    if problem or found.foreign:
        problem = problem or f"{', '.join(found.foreign)} is not a module of a chip"
        raise ValueError(
            f"{call}: the connections of the network cannot be determined ({problem}). Call check_deployable(net)."
        )
    dt = _arguments.time_step(call=call)
    xs = _arguments.as_array(xs, call=call, name="xs")
    if xs.ndim not in (2, 3) or 0 in xs.shape:
        raise ValueError(f"{call}: xs must be a non-empty array of shape [T, B, N] or [T, N]; got shape {xs.shape}.")
    _arguments.check_finite(xs, call=call, name="xs")
    xs = xs if xs.ndim == 3 else xs[:, None]
    placement = placement_of(found, call=call)
    warn_of_input(xs, has_frontend=bool(found.frontends), call=call)
    n_steps, n_samples = xs.shape[:2]
    if lengths is None:
        steps = np.full(n_samples, n_steps)
    else:
        steps = np.asarray(check_lengths(lengths, n_steps, (n_samples,), call=call))
    counts = _counts(net, found, xs, steps, progress=progress)
    return _power_report(found, placement, counts, n_samples, float(steps.mean()) * dt)


def _counts(
    net: brainstate.nn.Module, found: Survey, xs: Any, lengths: np.ndarray, *, progress: bool
) -> dict[str, np.ndarray]:
    """Return the mean spike count per inference of each neuron and each input, by layer path. Padding is excluded."""
    paths = list(found.layers)
    names = tuple(f"{path}.spk" for path in paths)

    @brainstate.transform.jit
    def run(part: jax.Array, steps: jax.Array) -> list[jax.Array]:
        _, seen = rollout(net, part, record=names, lengths=steps)
        part = zero_padding(part, steps)
        # Convert to float32, because spike counts would overflow in half precision and in small integers.
        wide = [jnp.abs(part.astype(jnp.float32)), *(seen[name].astype(jnp.float32) for name in names)]
        return [counts.sum(axis=(0, 1)) for counts in wide]

    totals = []
    bar = progress_bar(xs.shape[1], desc="power", unit="sample", shown=progress)
    with states_restored(net, keep_weights=False), bar:
        for start in range(0, xs.shape[1], _SAMPLES_AT_ONCE):
            part = slice(start, start + _SAMPLES_AT_ONCE)
            found_here = run(jnp.asarray(xs[:, part]), jnp.asarray(lengths[part]))
            totals.append([np.asarray(total, float) for total in found_here])
            bar.update(len(lengths[part]))
    means = [sum(parts) / xs.shape[1] for parts in zip(*totals, strict=True)]
    return dict(zip((INPUT, *paths), means, strict=True))


def _power_report(
    found: Survey, placement: Placement, counts: dict[str, np.ndarray], n_samples: int, duration: u.Quantity
) -> PowerReport:
    chip = found.chip
    seconds = float(duration.to(u.second).mantissa)
    costs: list[Cost] = []

    def add(part: str, kind: str, count: float, energy: float) -> None:
        costs.append(Cost(part, kind, float(count), _COEFFICIENTS[kind], float(energy) * u.ujoule))

    static = seconds * float(chip.core_power.to(u.uwatt).mantissa)
    spike, event = chip.spike_energy.to(u.ujoule).mantissa, chip.event_energy.to(u.ujoule).mantissa
    for core in placement.cores_used:
        add(f"core {core}", "core", 1.0, static)
    by_core = dict.fromkeys(placement.cores_used, static)
    # If a weight of zero moves charge, a spike at any synapse costs the energy of an event.
    leaks = float(chip.charge(0.0).mantissa) != 0
    for frontend in found.frontends.values():
        channels = frontend.in_size[-1]
        each = float(chip.frontend_channel_power.to(u.uwatt).mantissa)
        add("frontend", "frontend", channels, seconds * channels * each)
    synops = 0.0
    for stage in found.stages:
        spikes, arriving, passed = counts[stage.layer_path], np.zeros(found.n_neurons(stage.layer_path)), []
        # The frontend costs power per channel, not energy per synaptic event.
        if not stage.is_frontend:
            passed.append((counts[stage.source], stage.synapse_path))
        if found.is_recurrent(stage.layer_path):
            passed.append((spikes, stage.layer_path))
        for sent, owner in passed:
            weight = found.weights[owner]
            applied = np.asarray(weight.effective.applied(weight.master.value))
            arriving = arriving + sent @ ((applied != 0) | leaks)
            synops += float(sent.sum()) * applied.shape[1]
        path = stage.layer_path
        add(f"spikes of {path}", "spike", spikes.sum(), spikes.sum() * spike)
        if passed:
            add(f"events into {path}", "event", arriving.sum(), arriving.sum() * event)
        cores = placement.core_of(path)
        for core in np.unique(cores):
            here = cores == core
            by_core[int(core)] += float(spikes[here].sum() * spike + arriving[here].sum() * event)
    return PowerReport(
        chip=chip,
        duration=duration.to(u.ms),
        n_samples=n_samples,
        costs=tuple(costs),
        spikes={path: float(counts[path].sum()) for path in found.layers},
        synaptic_events=float(sum(cost.count for cost in costs if cost.kind == "event")),
        synops=synops,
        silent={path: int(np.sum(counts[path] == 0)) for path in found.layers},
        weight_bits=chip.weight_bits * sum(int(weight.master.value.size) for weight in found.weights.values()),
        by_core={core: energy * u.ujoule for core, energy in by_core.items()},
    )
