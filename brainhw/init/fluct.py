"""Fluctuation-driven initialisation of spiking networks from data."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments, _printing
from brainhw.init.batches import Data, take_batches, take_data
from brainhw.init.circuit import Circuit, WiredCircuit
from brainhw.init.inputs import input_line, warn_of_inputs, warn_of_volleys
from brainhw.init.padding import PaddedInitializer, true_steps
from brainhw.init.pair import Draw, FluctSettings, MeasuredInitializer, PairInitializer, rise_steps
from brainhw.init.report import (
    FluctReport,
    InitOutcome,
    LayerReport,
    observe,
    report_layer,
    warn,
    warn_of_outcome,
    warn_of_settings,
)
from brainhw.init.response import InputMoments, Response, input_moments, measure_response
from brainhw.init.stages import FAMILIES, Families, OwnStep, Stages, Wiring, discover_stages, wire, without_noise
from brainhw.nn import net_chip
from brainhw.nn.protocols import weight_slot_of
from brainhw.transform.prepare import nominal_chip, states_restored
from brainhw.transform.reasons import reason_in_words

__all__ = ["fluct_init", "fluct_report", "nwave_preset"]

_FEEDBACK_ROUNDS = 6
_CONVERGED = 0.05  # relative change of the weight statistics per round below which the iteration stops


def fluct_init(
    net: brainstate.nn.Module,
    dataloader: Iterable[Any],
    xi_target: float = 2.0,
    alpha: float = 1.0,
    n_batches: int = 1,
    verbose: bool = True,
    *,
    families: Families = "H1",
    center: bool | Literal["auto"] = "auto",
    moments: Literal["exact", "second"] = "exact",
    in_range: bool | Literal["auto"] = "auto",
    key: jax.Array | int = 0,
    return_report: bool = False,
    lengths: Any = None,
) -> FluctReport | None:
    r"""Initialise a network in the fluctuation-driven regime, in place, before training.

    The sub-threshold membrane potential :math:`U` of each neuron then fluctuates below threshold with

    .. math:: \xi = (V_{th} - \mu_U)/\sigma_U, \quad \mu_U = n_F\, \mu_W\, \nu\, \bar\epsilon, \quad
              \sigma_U^2 = n_F (\mu_W^2 + \sigma_W^2)\, \nu\, \hat\epsilon

    (Rossbroich, Gygax & Zenke 2022, doi 10.48550/arXiv.2206.10226) where :math:`\bar\epsilon` is the integral of the
    response to one spike, and :math:`\hat\epsilon` is the integral of the squared response. Both are measured on the
    layer itself. Layers are initialised in the order in which the network calls them. Each layer is initialised on the
    input that it receives in the network.

    First, the standard deviation of the weights is set to meet the target. Some neurons may then stay silent on the
    data. If more neurons are silent than chance explains, the silent neurons (without centring, all neurons) get the
    smallest mean weight that makes them fire, plus 10 %. The standard deviation of their weights is then reduced so
    that the variance of the membrane potential meets the target. The formula above predicts the membrane potential. If
    other operations lie between a synapse and its layer, or if a convolution shares weights between neurons, the
    membrane potential is measured instead.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. Its dense ``(synapse, layer)`` pairs are read from ``net.layer_pairs`` if that is set. Otherwise
        each synapse is paired with the layer registered after it. The frontend is read from ``net.frontend_stage`` or
        found in the same way. A class that sets ``layer_pairs`` should list ``"layer_pairs"`` in
        ``graph_invisible_attrs``; otherwise the paths of its states change.
    dataloader : iterable
        Batches ``[B, T, ...]`` of the network's input, such as ``[B, T, N]`` or images ``[B, T, H, W, C]``, or tuples
        whose first element is such a batch. Each batch is a torch, numpy or jax array.
    xi_target : float, optional
        Distance from the mean membrane potential to threshold, in standard deviations. Default 2; 1 to 3 is
        recommended.
    alpha : float, optional
        Fraction of the membrane variance that comes from feed-forward input. The rest comes from recurrent input.
        Default 1.
    n_batches : int, optional
        Number of batches to use. Default 1.
    verbose : bool, optional
        Print a summary. Default True.
    families : {'H1', 'any'}, optional
        ``'H1'`` (default) accepts only H1v1 and H1v2 networks, like the chip vendor's ``fluct_init``. ``'any'`` accepts
        every synapse and neuron: LIF, current-based, adaptive and fractional layers, ``Linear`` and ``Conv`` of
        brainstate, and modules of other packages with a ``weight_slot`` or ``subthreshold``.
    center : bool or 'auto', optional
        Whether to make the weights of each neuron orthogonal to the vector of mean inputs. Random weights then do not
        shift the mean membrane potential. ``'auto'`` (default) does this if there are enough active inputs.
    moments : {'exact', 'second'}, optional
        How to predict the variance of the membrane potential. ``'exact'`` (default) uses the filtered input and
        corrects the result with measured membrane potentials. ``'second'`` uses only the second moment of the input,
        as in the paper. For the chip vendor's procedure pass ``**nwave_preset()``.
    in_range : bool or 'auto', optional
        ``True`` keeps every weight within the range of the chip. The standard deviation of the weights is then at most
        a third of the distance from their mean to the limit, and the mean of the weights is raised until the neurons
        fire. The target is met only as far as the range allows. ``False`` meets the target, and a warning counts the
        weights that are out of range. ``'auto'`` (default) decides for each layer. It keeps the weights of a layer in
        range if its neurons then fire, and if the layer meets its target or has at most 8 inputs. It also keeps them in
        range if ``False`` would neither meet the target nor make more neurons fire. Otherwise the weights are drawn as
        with ``False``. The option has no effect without a chip.
    key : jax.Array or int, optional
        PRNG key or seed. Default 0; the same key draws the same weights.
    return_report : bool, optional
        Return a :class:`FluctReport`. Default False.
    lengths : array, optional
        Number of steps of each recording in the batches used, without padding, ``[B]``. Later steps are ignored. For
        batches of type :class:`brainhw.data.Split` the default is their own ``lengths``. For other batches padding is
        detected by default: long constant ends of recordings are ignored, with a warning.

    Returns
    -------
    None or FluctReport
        ``None``, or the measured values of every layer if ``return_report`` is True.

    Raises
    ------
    ValueError
        If the network mixes chip families or has no dense pair; if an argument or the data are out of range; if a layer
        never spikes, so that the next layer has no input; if the bias alone drives neurons to threshold; if a module of
        a pair is not called exactly once per step; if two synapses share a weight; if a synapse's output does not reach
        its layer in the same step; or if a module stores values of a step in plain attributes instead of states. The
        weights are then unchanged.
    TypeError
        If ``net`` is not a module, ``dataloader`` is not an iterable of arrays, ``key`` is not a key, or
        ``net.layer_pairs`` or ``net.frontend_stage`` do not contain pairs of modules.
    RuntimeError
        If no time step is set, if ``fluct_init`` is called inside ``jit``, or if the layer's input, as a function of
        the weights, is zero or not smooth near zero weight.

    Warns
    -----
    UserWarning
        If ``xi_target`` is below 1 or above 3, if weights are out of range, if the mean weight alone uses up the target
        variance, if neurons stay silent or fire in most steps, if the data are too short to distinguish neurons that
        are silent by chance from neurons that never fire, or if only simultaneous spikes of many neurons can make a
        layer fire.

    Notes
    -----
    Everything is measured on the nominal chip and without the neurons' noise. The sub-threshold membrane potential is
    the response to the inputs alone, without spikes, reset, after-hyperpolarisation or the chip's clamp at zero.
    Recurrent weights have zero mean. Their standard deviation follows from the firing rate of the layer. Frozen weights
    do not change. Recurrent weights are frozen if they are in a ``brainstate.nn.Const``. Synapse weights are frozen if
    they are in a state that is not a ``ParamState``. All states other than weights are restored, even after an error.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> net = brainstate.nn.Sequential(bh.nn.H1v1Synapse(64, 32), bh.nn.H1v1Layer(32, tau=20 * u.ms))
    >>> x = (np.random.default_rng(0).random((16, 100, 64)) < 0.3).astype(np.float32)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     bh.init.fluct_init(net, [x], in_range=True, verbose=False)
    ...     spikes, _ = bh.rollout(net, np.swapaxes(x, 0, 1))
    >>> bool((spikes.sum(axis=(0, 1)) > 0).all())
    True

    Initialise a network without a chip and get a report:

    >>> net = brainstate.nn.Sequential(bh.nn.LIFSynapse(64, 100), bh.nn.LIFLayer(100, tau=20 * u.ms))
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     report = bh.init.fluct_init(net, [x], verbose=False, families="any", return_report=True)
    >>> print(f"{report.layers[0].xi_median:.1f}")
    2.0
    """
    call = "fluct_init"
    _arguments.flag(verbose, call=call, name="verbose")
    _arguments.flag(return_report, call=call, name="return_report")
    settings = _settings(xi_target, alpha, center, moments, in_range, call)
    _arguments.check_module(net, call=call)
    families = _arguments.choice(families, FAMILIES, call=call, name="families")
    stages = discover_stages(net, families=families, call=call)
    random_key = _arguments.some_key(key, call)
    dt = _arguments.time_step(call=call)
    data = take_data(dataloader, n_batches, lengths, call=call)
    drawn = [number for number, (synapse, _) in enumerate(stages.pairs) if _trainable(synapse)]
    warn_of_settings(settings, recurrent=any(Circuit(*stages.pairs[i]).is_recurrent for i in drawn), call=call)

    say: Callable[[str], None] = _printing.say if verbose else lambda _: None
    names = ", ".join(dict.fromkeys(Circuit(*pair).family for pair in stages.pairs))
    milliseconds = dt.to(u.ms).mantissa
    say(f"[fluct_init] ξ={settings.xi} α={settings.alpha} dt={milliseconds}ms (stacked, adaptive µ) [{names}]")
    outcomes: dict[int, InitOutcome] = {}
    with _nominal_and_restored(net, keep_weights=True, call=call):
        # `prepare_net` raises an error for weights that are not finite, but these weights are replaced below anyway.
        for number in drawn:
            _make_finite(Circuit(*stages.pairs[number]))
        step = _own_step(net, stages, data, call)
        wired = wire(step, stages.pairs, stages.paths, initialise=True)
        if verbose:
            say(input_line(step, stages, dt))
        loops = _loops(drawn, wired)
        following = iter([number for loop in loops for number in loop][1:])
        for loop in loops:
            found = _initialise_group(loop, step, stages, wired, dt, settings, random_key, call)
            for number, (solver, draw, report) in found.items():
                if report.nu_in.to(u.Hz).mantissa * _seconds(dt) > 0.5 and report.nu_in == report.nu_var:
                    say("  ν·dt > 0.5: inputs spike in more than half of all steps, so they are rarely silent")
                say(report.line())
                if (after := next(following, None)) is not None:
                    say(f"  → ν_{after + 1} = {report.nu_out.to(u.Hz).mantissa:.1f} Hz")
                warn_of_outcome(report, solver, draw, call)
                warn_of_inputs(np.asarray(jax.tree.leaves(solver.meter.xs)[0]), report.index, solver.circuit, call)
                if not isinstance(solver.circuit, WiredCircuit) and _has_upstream_pair(number, wired):
                    warn_of_volleys(report, solver.circuit, call)
                assert report.init is not None
                outcomes[number] = report.init
        say("[fluct_init] done.")
        if return_report:
            return _report(step, stages, wired, dt, outcomes)
    return None


def fluct_report(
    net: brainstate.nn.Module,
    dataloader: Iterable[Any],
    n_batches: int = 1,
    *,
    families: Families = "any",
    lengths: Any = None,
) -> FluctReport:
    r"""Measure how far below threshold the membrane potentials of a network fluctuate on data.

    The network does not change, and it may be untrained or trained. It runs once on the nominal chip, with weight
    rounding and without noise. The firing rates equal those of :func:`brainhw.rollout`. The sub-threshold membrane
    potentials are computed from the recorded inputs and spikes of each layer. See :func:`fluct_init` for the
    definitions.

    Parameters
    ----------
    net, dataloader, n_batches
        The same as for :func:`fluct_init`.
    families : {'any', 'H1'}, optional
        The same as for :func:`fluct_init`, but the default is ``'any'``.
    lengths : array, optional
        The same as for :func:`fluct_init`.

    Returns
    -------
    FluctReport
        The measured values of every layer. The attribute ``init`` of each layer is ``None``.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        For the same reasons as in :func:`fluct_init`.

    Examples
    --------
    With Kaiming weights the membrane potentials on a chip stay far below threshold:

    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> net = brainstate.nn.Sequential(bh.nn.H1v2Synapse(64, 32), bh.nn.H1v2Layer(32, tau=20 * u.ms))
    >>> bh.init.kaiming_init(net)
    >>> x = (np.random.default_rng(0).random((16, 100, 64)) < 0.05).astype(np.float32)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     layer = bh.init.fluct_report(net, [x]).layers[0]
    >>> layer.dead, bool(layer.xi_median > 10)
    (32, True)
    """
    call = "fluct_report"
    _arguments.check_module(net, call=call)
    families = _arguments.choice(families, FAMILIES, call=call, name="families")
    stages = discover_stages(net, families=families, call=call)
    dt = _arguments.time_step(call=call)
    data = take_data(dataloader, n_batches, lengths, call=call)
    for index, pair in enumerate(stages.pairs, start=1):
        for value in (Circuit(*pair).weight, Circuit(*pair).recurrent):
            name = f"a weight of layer {index}"
            _arguments.check_finite_tree(value, call=call, name=name, fix="load or initialise it again")
    with _nominal_and_restored(net, keep_weights=False, call=call):
        step = _own_step(net, stages, data, call)
        return _report(step, stages, wire(step, stages.pairs, stages.paths, initialise=False), dt, {})


def nwave_preset() -> dict[str, Any]:
    """Return the options that make :func:`fluct_init` follow the chip vendor's documented ``fluct_init``.

    The weights are not centred, the variance is predicted from the second moment of the input, and a search finds the
    mean weight. In nearly all cases, this mean weight is so large that it alone uses up the target variance. The
    neurons are then driven by the mean input, and the standard deviation of the weights is a tenth of their mean. Use
    this preset only for comparison, because it usually misses the target. The default arguments of :func:`fluct_init`
    meet the target.

    Returns
    -------
    dict
        Keyword arguments of :func:`fluct_init`.

    Examples
    --------
    >>> import brainhw as bh
    >>> bh.init.nwave_preset()
    {'center': False, 'moments': 'second', 'in_range': False}
    """
    return {"center": False, "moments": "second", "in_range": False}


def _settings(xi_target: Any, alpha: Any, center: Any, moments: Any, in_range: Any, call: str) -> FluctSettings:
    xi = _arguments.number(xi_target, call=call, name="xi_target", positive=True)
    share = _arguments.number(alpha, call=call, name="alpha", positive=True)
    if share > 1:
        raise ValueError(f"{call}: alpha is a fraction of the variance and must be at most 1; got {share:g}.")
    if not (isinstance(center, bool) or (isinstance(center, str) and center == "auto")):
        raise ValueError(f"{call}: center must be True, False or 'auto'; got {_arguments.describe(center)}.")
    basis = _arguments.choice(moments, ("exact", "second"), call=call, name="moments")
    if isinstance(in_range, str) and in_range != "auto":
        raise ValueError(f"{call}: in_range must be True, False or 'auto'; got {in_range!r}.")
    if not isinstance(in_range, str):
        in_range = _arguments.flag(in_range, call=call, name="in_range")
    return FluctSettings(xi, share, center, basis == "exact", in_range)


def _trainable(synapse: Any) -> bool:
    slot = weight_slot_of(synapse)
    return slot is not None and slot.trainable


def _make_finite(circuit: Circuit) -> None:
    if not np.all(np.isfinite(np.asarray(circuit.weight))):
        circuit.store(jnp.zeros_like(circuit.weight), None)
    if circuit.recurrent is not None and not np.all(np.isfinite(np.asarray(circuit.recurrent))):
        circuit.store(circuit.weight, jnp.zeros_like(circuit.recurrent))


def _own_step(net: Any, stages: Stages, data: Data, call: str) -> OwnStep:
    """Trace the network's step on the data. If the data do not fit, raise an error that shows the expected shape."""
    first, x = (stages.frontend or stages.pairs[0])[0].in_size, data.x
    try:
        return OwnStep(net, x, data.valid, call=call)
    except Exception as error:
        reason = reason_in_words(error, net, x, call=call)
        if reason is not error:
            raise reason from None
        if len(first) == 1 and (x.ndim != 3 or x.shape[-1] != first[0]):
            take_batches([x], 1, n_in=first[0], call=call)
        raise


def _loops(drawn: list[int], wired: list[Wiring]) -> list[list[int]]:
    """Return groups of pairs in the order of initialisation.

    Pairs that depend on each other form one group. Each group comes after the groups that it depends on. Apart from
    this, the groups are in the order in which the step calls them.
    """
    waiting = sorted(drawn, key=lambda number: wired[number].layer)
    loops: list[list[int]] = []
    while waiting:
        needs = {n: [m for m in waiting if m != n and wired[m].layer in wired[n].depends_on] for n in waiting}
        mutual = {n: [m for m in waiting if m == n or (m in needs[n] and n in needs[m])] for n in waiting}
        ready = (mutual[n] for n in waiting if all(m in mutual[n] for m in needs[n]))
        loops.append(next(ready))
        waiting = [n for n in waiting if n not in loops[-1]]
    return loops


def _has_upstream_pair(number: int, wired: list[Wiring]) -> bool:
    """Return whether the pair with the index ``number`` receives spikes from another pair."""
    return any(other.layer in wired[number].depends_on for i, other in enumerate(wired) if i != number)


def _initialise_group(
    loop: list[int],
    step: OwnStep,
    stages: Stages,
    wired: list[Wiring],
    dt: u.Quantity,
    settings: FluctSettings,
    key: jax.Array,
    call: str,
) -> dict[int, tuple[PairInitializer, Draw, LayerReport]]:
    """Draw the weights of a group of synapse-layer pairs. With feedback, repeat this until the weights converge."""
    circuits = {number: _circuit(step, stages, wired, number) for number in loop}
    responses: dict[int, Response] = {}
    feeds_back = wired[loop[0]].feeds_back
    found: dict[int, tuple[PairInitializer, Draw, LayerReport]] = {}
    sizes = before = np.zeros(1)
    for turn in range(_FEEDBACK_ROUNDS if feeds_back else 1):
        for number, circuit in circuits.items():
            given, xs = _inputs(step, wired[number], circuit)
            _check_active(given, number + 1, step, wired, stages, call)
            pair_key = jax.random.fold_in(key, number + 1)
            with circuit.smooth():
                if number not in responses:  # the response per unit weight does not depend on the weights
                    responses[number] = measure_response(circuit, dt, given.shape[1], call=call)
                found[number] = _initialise(
                    number + 1, stages, circuit, responses[number], given, xs, settings, pair_key, call
                )
            _pass_on(step, wired[number], circuit, found[number][1])
        # The input of a feedback loop depends on its output spikes, so draw again with the input that results from the
        # new weights.
        before = sizes
        sizes = np.concatenate([s for _, d, _ in found.values() for s in (d.sizes.mu_W, d.sizes.sigma_FF)])
        if turn and np.allclose(sizes, before, rtol=_CONVERGED, atol=1e-6):
            return found
    if feeds_back:
        change = float(np.max(np.abs(sizes - before)) / max(float(np.max(np.abs(before))), 1e-30))
        names = ", ".join(stages.paths[number] for number in loop)
        warn(
            f"{call}: the weights of the feedback loop {names} do not converge and still change by {change:.0%} after "
            f"{_FEEDBACK_ROUNDS} rounds. Weaken the feedback or use a larger xi_target."
        )
    return found


def _circuit(step: OwnStep, stages: Stages, wired: list[Wiring], number: int) -> Circuit:
    """Return a ``Circuit`` if the layer's input is the synapse's output, otherwise a ``WiredCircuit``."""
    circuit = Circuit(*stages.pairs[number])
    in_a_dict = circuit.slot.key is not None  # a brainstate module with weights, which may also have a bias
    if (
        wired[number].is_direct
        and not in_a_dict
        and circuit.slot.quantity.ndim == 2
        and len(circuit.layer.in_size) == 1
    ):
        circuit.valid = step.valid
        return circuit
    return WiredCircuit(*stages.pairs[number], wired[number], step.trace, step.valid, call=step.call)


def _inputs(step: OwnStep, wiring: Wiring, circuit: Circuit) -> tuple[np.ndarray, Any]:
    """Return the input of a synapse as ``[B, T, n]``, and the time-major input of the circuit."""
    found = [step.without_padding(a) for a in step.values([step.trace.calls[wiring.synapse].given, *wiring.sources])]
    numbers = np.asarray(u.get_mantissa(found[0]))
    given = np.swapaxes(numbers.reshape(*numbers.shape[:2], -1), 0, 1)
    return given, (found[0], tuple(found[1:])) if isinstance(circuit, WiredCircuit) else given


def _pass_on(step: OwnStep, wiring: Wiring, circuit: Circuit, draw: Draw) -> None:
    """Store the spikes that result from the drawn weights, as input to the next pairs.

    If the network rounds its weights, or if the pair is part of a feedback loop, the spikes in the network differ from
    these. In this case, drop all stored values instead.
    """
    gave = step.trace.calls[wiring.layer].gave
    if circuit.is_rounded or wiring.feeds_back:
        step.forget()
        return
    step.learn(gave, draw.spikes.reshape(*draw.spikes.shape[:2], *gave.shape[1:]))


def _initialise(
    index: int,
    stages: Stages,
    circuit: Circuit,
    response: Response,
    given: np.ndarray,
    xs: Any,
    settings: FluctSettings,
    key: jax.Array,
    call: str,
) -> tuple[PairInitializer, Draw, LayerReport]:
    driven = int(np.sum(response.offset >= circuit.threshold()))
    if driven:
        raise ValueError(
            f"{call}: the bias alone drives {driven} neuron(s) of layer {index} to "
            f"{response.offset.max():.3g} mV (V_th is {circuit.threshold().min():.3g} mV), so no initial weights can "
            "keep these neurons below threshold. Lower the bias or raise V_th."
        )
    moments = input_moments(true_steps(given, circuit.valid), response.dt)
    solver, draw = _solve(index, circuit, response, moments, given, xs, settings, key, call)
    if settings.in_range == "auto" and solver.settings.in_range and not _is_enough(solver, draw):
        beyond = dataclasses.replace(settings, in_range=False)
        other, farther = _solve(index, circuit, response, moments, given, xs, beyond, key, call)
        # If the target is missed in both cases, prefer weights in range, because the chip can store them.
        if farther.dead < draw.dead or (not solver.has_few_inputs and other.meets_target(farther)):
            other.silent_in_range = draw.dead
            solver, draw = other, farther
        else:
            circuit.store(draw.weight, draw.recurrent)
    measured = solver.meter.measure(draw.weight, draw.recurrent, draw.spikes)
    sizes = draw.sizes
    outcome = InitOutcome(
        xi_target=settings.xi,
        alpha=settings.alpha,
        mu_W=float(sizes.mu_W.mean()),
        sigma_FF=float(sizes.sigma_FF.mean()),
        sigma_RC=None if sizes.sigma_RC is None else float(sizes.sigma_RC.mean()),
        mu_U=float(draw.mu_U.mean()) * u.mV,
        exhausted=int(sizes.exhausted.sum()),
        evaluations=solver.meter.n_runs,
    )
    report = report_layer(
        index,
        stages.paths[index - 1],
        circuit,
        response,
        moments,
        solver.basis.step_correlation,
        measured,
        np.asarray(draw.spikes.sum(axis=(0, 1))),
        solver.meter.steps,
        outcome,
    )
    return solver, draw, report


def _is_enough(solver: PairInitializer, draw: Draw) -> bool:
    """Return whether ``in_range='auto'`` accepts a draw whose weights are in range.

    All neurons must fire. If the layer has more than a few inputs, it must also meet the target.
    """
    return solver.enough_neurons_fire(draw) and (solver.has_few_inputs or solver.meets_target(draw))


def _solve(
    index: int,
    circuit: Circuit,
    response: Response,
    moments: InputMoments,
    given: np.ndarray,
    xs: Any,
    settings: FluctSettings,
    key: jax.Array,
    call: str,
) -> tuple[PairInitializer, Draw]:
    solver: PairInitializer
    if isinstance(circuit, WiredCircuit):
        rates = circuit.rates(xs[0]) / (0.5 * (circuit.probe(1e-3) - circuit.probe(-1e-3)) / 1e-3)
        measured_moments = dataclasses.replace(moments, rates=rates)
        of_columns = dataclasses.replace(response, response=circuit.mean_per_column(response.response))
        by_measuring = MeasuredInitializer(circuit, xs, of_columns, measured_moments, settings, key)
        circuit.exclude_without_input(by_measuring.responds)
        solver = by_measuring
        driven = int(np.sum(solver.theta <= 0))
        if driven:
            raise ValueError(
                f"{call}: with all weights at zero, {driven} neuron(s) or channel(s) of layer {index} are already at "
                f"{solver.response.offset.max():.3g} mV on average (V_th is {circuit.threshold().min():.3g} mV). "
                "A bias, other synapses or skip connections drive them. Make those weaker or raise V_th."
            )
    else:
        kind = PairInitializer if circuit.valid is None else PaddedInitializer
        solver = kind(circuit, given, response, moments, settings, key)
    if not solver.can_fluctuate:
        raise ValueError(
            f"{call}: no membrane potential of layer {index} can fluctuate, because its input is constant, or because "
            "center=True is set and all input channels are proportional to each other. Use input that varies. To "
            "initialise the weights from the mean input instead, pass moments='second', center=False."
        )
    return solver, solver.solve()


def _report(
    step: OwnStep, stages: Stages, wired: list[Wiring], dt: u.Quantity, outcomes: dict[int, InitOutcome]
) -> FluctReport:
    """Run the network once more and return a report with the measured values of each (synapse, layer) pair."""
    calls = step.trace.calls
    # Record everything in one new run. The values from the initialisation do not include weight rounding, but the
    # network applies it.
    wanted = [value for w in wired for value in (calls[w.synapse].given, calls[w.layer].given, calls[w.layer].gave)]
    found = step.record(wanted)
    reports = []
    for number in range(len(wired)):
        circuit = _circuit(step, stages, wired, number)
        recorded, drive, spikes = found[3 * number : 3 * number + 3]
        given = np.asarray(u.get_mantissa(recorded))
        with circuit.smooth():
            response = measure_response(circuit, dt, given.shape[0], call=step.call)
        step.prepare()  # the response was measured with small weights and without rounding, so prepare again
        measured, correlation = observe(circuit, drive, spikes, rise_steps(response))
        steps = given.shape[0] * given.shape[1] if step.valid is None else int(step.valid.sum())
        counts = np.asarray(step.without_padding(spikes).sum(axis=(0, 1))).reshape(-1)
        flat = np.swapaxes(given.reshape(*given.shape[:2], -1), 0, 1)
        moments = input_moments(true_steps(flat, step.valid), _seconds(dt))
        name = stages.paths[number]
        reports.append(
            report_layer(
                number + 1, name, circuit, response, moments, correlation, measured, counts, steps, outcomes.get(number)
            )
        )
    return FluctReport(tuple(reports))


def _seconds(dt: u.Quantity) -> float:
    return float(dt.to(u.second).mantissa)


@contextlib.contextmanager
def _nominal_and_restored(net: brainstate.nn.Module, *, keep_weights: bool, call: str) -> Iterator[None]:
    """Context manager that uses the nominal chip without noise, and restores the states at exit.

    With ``keep_weights``, weights that are set inside the ``with`` block are kept.
    """
    with states_restored(net, keep_weights=keep_weights), without_noise(net, call=call):
        if net_chip(net, call=call) is not None:
            nominal_chip(net)
        yield


def _check_active(given: np.ndarray, index: int, step: OwnStep, wired: list[Wiring], stages: Stages, call: str) -> None:
    if np.any(given):
        return
    value = step.trace.calls[wired[index - 1].synapse].given
    for number, other in enumerate(wired):
        if step.trace.calls[other.layer].gave.ids == value.ids:
            raise ValueError(
                f"{call}: layer {number + 1} does not spike, so the weights of layer {index} cannot be initialised. "
                "Use a smaller xi_target, a longer tau, or more active inputs."
            )
    if stages.frontend is None and value.ids != step.trace.given.ids and np.any(np.asarray(step.xs)):
        raise ValueError(
            f"{call}: the input of layer {index} is zero at every step, so its weights cannot be initialised. "
            "Check the modules before it, or use more active inputs."
        )
    source = "the frontend does not spike on the data" if stages.frontend else "the data contain only zeros"
    fix = "Call brainhw.init.frontend_init first, scale the input up" if stages.frontend else "Scale the input up"
    raise ValueError(f"{call}: {source}. {fix}, or check the loader.")
