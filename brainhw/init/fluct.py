"""Fluctuation-driven initialisation of spiking networks from data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.init.advice import warn_of_outcome, warn_of_settings
from brainhw.init.batches import states_restored, take_batches
from brainhw.init.circuit import Circuit
from brainhw.init.kernel import measure_kernel
from brainhw.init.measure import Meter
from brainhw.init.moments import input_moments, membrane_basis
from brainhw.init.pair import Draw, FluctSettings, PairInitializer, rise_of
from brainhw.init.report import FluctReport, InitOutcome, LayerReport, report_layer
from brainhw.init.stages import FAMILIES, Stages, discover_stages
from brainhw.nn import net_chip
from brainhw.transform.checks import as_key, check_module
from brainhw.transform.sample import nominal_chip

__all__ = ["fluct_init", "fluct_report", "nwave_preset"]


def fluct_init(
    net: brainstate.nn.Module,
    dataloader: Iterable[Any],
    xi_target: float = 2.0,
    alpha: float = 1.0,
    n_batches: int = 1,
    verbose: bool = True,
    *,
    families: str = "H1",
    center: bool | str = "auto",
    moments: str = "exact",
    in_range: bool = False,
    key: jax.Array | int = 0,
    return_report: bool = False,
) -> FluctReport | None:
    r"""Put a network into the fluctuation-driven regime, in place, before the first optimisation step.

    Each membrane is to fluctuate below threshold with

    .. math:: \xi = (V_{th} - \mu_U)/\sigma_U, \quad \mu_U = n_F\, \mu_W\, \nu\, \bar\epsilon, \quad
              \sigma_U^2 = n_F (\mu_W^2 + \sigma_W^2)\, \nu\, \hat\epsilon

    (Rossbroich, Gygax & Zenke 2022, doi 10.48550/arXiv.2206.10226) where :math:`\bar\epsilon, \hat\epsilon` are the
    integrals of the response and its square, measured on the real layer. Layer after layer: weights get the spread that
    meets the target; neurons that are silent on the data, more than chance explains, get the smallest mean weight, plus
    10 %, that wakes them, and the spread that is left; the output spikes are the next layer's input.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. Its dense ``(synapse, layer)`` pairs are taken from ``net.layer_pairs`` or discovered in
        registration order; a frontend from ``net.frontend_stage`` or discovered. (A class that sets ``layer_pairs``
        should list it in ``graph_invisible_attrs``, else the paths of its states change.)
    dataloader : iterable
        Batches ``[B, T, N]``, or tuples whose first element is that; torch, numpy or jax arrays.
    xi_target : float, optional
        Distance of the mean to threshold in standard deviations. Default 2; 1 to 3 is recommended.
    alpha : float, optional
        Share of the variance that the feed-forward weights carry; recurrent weights take the rest. Default 1.
    n_batches : int, optional
        Batches to use. Default 1.
    verbose : bool, optional
        Print a summary. Default True.
    families : {'H1', 'any'}, optional
        ``'H1'`` (default) serves H1v1 and H1v2 networks and refuses others, as the chip vendor documents. ``'any'``
        serves :class:`~brainhw.nn.LIFSynapse` with LIF, current-based, adaptive and fractional layers as well; their
        weights are voltages.
    center : bool or 'auto', optional
        Take the mean input out of every neuron's weights, so that no neuron is silent by the luck of its draw.
        ``'auto'`` (default) does so where there are enough active inputs.
    moments : {'exact', 'second'}, optional
        How the variance is predicted: from the filtered input, corrected by what the membranes then do (default), or
        from its second moment alone, as in the paper. For the vendor's procedure pass ``**nwave_preset()``.
    in_range : bool, optional
        Keep every weight within what the chip takes: the spread is capped at a third of the room that the mean leaves,
        and the mean raised until the neurons fire. The target is then met only as far as the range allows. Default
        False: weights are drawn as the target asks and a warning says how many are out of range. No effect without a
        chip.
    key : jax.Array or int, optional
        Source of the random numbers. Default 0; the same key gives the same weights.
    return_report : bool, optional
        Return a :class:`FluctReport`. Default False.

    Returns
    -------
    None or FluctReport
        Nothing, or with ``return_report`` the numbers of every layer.

    Raises
    ------
    ValueError
        If the families are mixed, there is no dense pair, an argument or the data are out of range, a layer gives no
        spike for the next one to start from, or a bias alone takes neurons to threshold. The weights are then as
        before.
    RuntimeError
        If no time step is set, or weights near zero bring no charge.

    Warns
    -----
    UserWarning
        For ``xi_target`` below 1 or above 3, weights beyond the chip's range, an exhausted variance budget, neurons
        that stay silent or fire in most steps, data too short to tell.

    Notes
    -----
    Measured on the nominal chip and without the neurons' noise. The membrane meant is that of the inputs alone: no
    spikes, no reset, no after-hyperpolarisation, not held above zero as the chip does. Recurrent weights have zero
    mean; their spread follows from the rate at which the layer itself fires. Recurrent weights that are frozen
    (``brainstate.nn.Const``) stay as they are. All other states are left as they were, whatever happens.

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

    A network without a chip, and the numbers:

    >>> net = brainstate.nn.Sequential(bh.nn.LIFSynapse(64, 100), bh.nn.LIFLayer(100, tau=20 * u.ms))
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     report = bh.init.fluct_init(net, [x], verbose=False, families="any", return_report=True)
    >>> print(f"{report.layers[0].xi_median:.1f}")
    2.0
    """
    call = "fluct_init"
    settings = _settings(xi_target, alpha, center, moments, in_range, call)
    check_module(net, call=call)
    families = _arguments.choice(families, FAMILIES, call=call, name="families")
    stages = discover_stages(net, families=families, call=call)
    random_key = as_key(key, call)
    if random_key is None:
        raise TypeError(f"{call}: key must be a whole number or a jax.random.key; got None.")
    dt = _arguments.time_step(call=call)
    x = take_batches(dataloader, n_batches, n_in=_n_inputs(stages), call=call)
    circuits = [Circuit(*pair) for pair in stages.pairs]
    warn_of_settings(settings, recurrent=any(circuit.is_recurrent for circuit in circuits), call=call)

    say = print if verbose else _nothing
    names = ", ".join(dict.fromkeys(circuit.family for circuit in circuits))
    milliseconds = dt.to(u.ms).mantissa
    say(f"[fluct_init] ξ={settings.xi} α={settings.alpha} dt={milliseconds}ms (stacked, adaptive µ) [{names}]")
    reports = []
    with _undisturbed(net, circuits, keep_weights=True):
        x = _through_frontend(stages, x, dt, say)
        for index, circuit in enumerate(circuits, start=1):
            _check_active(x, index, stages, call)
            if np.mean(x != 0) > 0.5 and np.all((x == 0) | (x == 1)):
                say("  ν·dt > 0.5: inputs spike in more than half of all steps, so silence says more than a spike")
            pair_key = jax.random.fold_in(random_key, index)
            solver, draw, report = _initialise(index, stages, circuit, x, dt, settings, pair_key, call)
            say(report.line())
            if index < len(circuits):
                say(f"  → ν_{index + 1} = {report.nu_out.to(u.Hz).mantissa:.1f} Hz")
            warn_of_outcome(report, solver, draw, call)
            reports.append(report)
            x = _batch_major(draw.spikes)
        say("[fluct_init] done.")
    return FluctReport(tuple(reports)) if return_report else None


def fluct_report(
    net: brainstate.nn.Module, dataloader: Iterable[Any], n_batches: int = 1, *, families: str = "any"
) -> FluctReport:
    r"""Measure how far below threshold the membranes of a network fluctuate on data; nothing is changed.

    For a network as it stands, however it was initialised or trained. What is measured is described at
    :func:`fluct_init`.

    Parameters
    ----------
    net, dataloader, n_batches
        As for :func:`fluct_init`.
    families : {'any', 'H1'}, optional
        As for :func:`fluct_init`; default ``'any'``.

    Returns
    -------
    FluctReport
        The numbers of every layer; ``init`` is ``None``.

    Raises
    ------
    ValueError, RuntimeError
        As for :func:`fluct_init`.

    Examples
    --------
    Kaiming's weights leave the membranes of a chip far from threshold:

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
    check_module(net, call=call)
    families = _arguments.choice(families, FAMILIES, call=call, name="families")
    stages = discover_stages(net, families=families, call=call)
    dt = _arguments.time_step(call=call)
    x = take_batches(dataloader, n_batches, n_in=_n_inputs(stages), call=call)
    circuits = [Circuit(*pair) for pair in stages.pairs]
    applied = [circuit.applied() for circuit in circuits]
    reports = []
    with _undisturbed(net, circuits, keep_weights=False):
        x = _through_frontend(stages, x, dt, _nothing)
        for index, circuit in enumerate(circuits, start=1):
            report, spikes = _measure(index, stages, circuit, applied[index - 1], x, dt, call)
            reports.append(report)
            x = _batch_major(spikes)
    return FluctReport(tuple(reports))


def nwave_preset() -> dict[str, Any]:
    """Return the options with which :func:`fluct_init` does what the chip vendor's ``fluct_init`` is documented to do.

    The mean weight is searched over weights that are not centred, and the variance comes from the second moment of the
    input. The search then nearly always ends where no variance is left: neurons driven by their mean, with a spread of
    a tenth of it. Kept for comparison; the defaults meet the target.

    Returns
    -------
    dict
        Keyword arguments of :func:`fluct_init`.

    Examples
    --------
    >>> import brainhw as bh
    >>> bh.init.nwave_preset()
    {'center': False, 'moments': 'second'}
    """
    return {"center": False, "moments": "second"}


def _nothing(*_: Any) -> None:
    return


def _settings(xi_target: Any, alpha: Any, center: Any, moments: Any, in_range: Any, call: str) -> FluctSettings:
    xi = _arguments.number(xi_target, call=call, name="xi_target", positive=True)
    share = _arguments.number(alpha, call=call, name="alpha", positive=True)
    if share > 1:
        raise ValueError(f"{call}: alpha is a share of the variance, at most 1; got {share:g}.")
    if not (isinstance(center, bool) or (isinstance(center, str) and center == "auto")):
        raise ValueError(f"{call}: center must be True, False or 'auto'; got {_arguments.describe(center)}.")
    basis = _arguments.choice(moments, ("exact", "second"), call=call, name="moments")
    within = _arguments.flag(in_range, call=call, name="in_range")
    return FluctSettings(xi, share, center, basis == "exact", within)


def _initialise(
    index: int,
    stages: Stages,
    circuit: Circuit,
    x: np.ndarray,
    dt: u.Quantity,
    settings: FluctSettings,
    key: jax.Array,
    call: str,
) -> tuple[PairInitializer, Draw, LayerReport]:
    kernel = measure_kernel(circuit, dt, x.shape[1], call=call)
    driven = int(np.sum(kernel.offset >= circuit.threshold()))
    if driven:
        raise ValueError(
            f"{call}: the bias, added at every step, alone takes {driven} neuron(s) of layer {index} to "
            f"{kernel.offset.max():.3g} mV where V_th is {circuit.threshold().min():.3g} mV, so no weight keeps them "
            "below threshold; lower the bias or raise V_th."
        )
    moments = input_moments(x, _seconds(dt))
    solver = PairInitializer(circuit, x, kernel, moments, settings, key)
    if not solver.can_fluctuate:
        raise ValueError(
            f"{call}: the input of layer {index} never changes, or with center=True all of its channels move as one, "
            "so no membrane can fluctuate about its mean; give varied input, or pass moments='second', center=False to "
            "start from the mean."
        )
    draw = solver.solve()
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
    steps, name = solver.meter.steps, stages.paths[index - 1]
    report = report_layer(index, name, circuit, kernel, moments, solver.basis, measured, draw.counts, steps, outcome)
    return solver, draw, report


def _measure(
    index: int,
    stages: Stages,
    circuit: Circuit,
    applied: tuple[jax.Array, jax.Array | None],
    x: np.ndarray,
    dt: u.Quantity,
    call: str,
) -> tuple[LayerReport, jax.Array]:
    kernel = measure_kernel(circuit, dt, x.shape[1], call=call)
    moments = input_moments(x, _seconds(dt))
    basis = membrane_basis(x, kernel, moments, circuit.n_synapses, exact=True, direction=None)
    meter = Meter(circuit, _time_major(x), rise_of(kernel))
    weight, recurrent = applied
    for value in (circuit.weight, circuit.recurrent):
        name = f"a weight of layer {index}"
        _arguments.check_finite_tree(value, call=call, name=name, fix="load or initialise it again")
    spikes = meter.run(weight, recurrent)
    measured = meter.measure(weight, recurrent, spikes)
    counts, name = np.asarray(spikes.sum(axis=(0, 1))), stages.paths[index - 1]
    return report_layer(index, name, circuit, kernel, moments, basis, measured, counts, meter.steps, None), spikes


def _n_inputs(stages: Stages) -> int:
    return (stages.frontend or stages.pairs[0])[0].in_size[-1]


def _seconds(dt: u.Quantity) -> float:
    return float(dt.to(u.second).mantissa)


def _time_major(x: np.ndarray) -> jax.Array:
    return jnp.asarray(np.swapaxes(x, 0, 1))


def _batch_major(spikes: jax.Array) -> np.ndarray:
    return np.swapaxes(np.asarray(spikes), 0, 1)


@contextlib.contextmanager
def _undisturbed(net: brainstate.nn.Module, circuits: list[Circuit], *, keep_weights: bool) -> Iterator[None]:
    """Leave the network as it was, but for the weights; inside, its chip is the nominal one and the layers smooth."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(states_restored(net, keep_weights=keep_weights))
        if net_chip(net, call="fluct_init") is not None:
            nominal_chip(net)
        for circuit in circuits:
            stack.enter_context(circuit.smooth())
        yield


def _through_frontend(stages: Stages, x: np.ndarray, dt: u.Quantity, say: Any) -> np.ndarray:
    if stages.frontend is None:
        moments = input_moments(x, _seconds(dt))
        nu_mean, nu_var = moments.nu_mean, moments.nu_var
        ratio = nu_var / nu_mean if nu_mean else float("inf")
        say(f"  Input → ν_mean={nu_mean:.1f}Hz ν_var={nu_var:.1f}Hz ratio={ratio:.1f}x")
        return x
    frontend, layer = stages.frontend

    @brainstate.transform.jit
    def run(xs: jax.Array) -> jax.Array:
        frontend.prepare()
        layer.prepare()
        layer.reset_state(xs.shape[1])
        return brainstate.transform.for_loop(layer.update, frontend.update(xs))

    x = _batch_major(run(_time_major(x)))
    say(f"  Frontend → ν_out={x.mean() / _seconds(dt):.1f}Hz (used as ν_in for layer 1)")
    return x


def _check_active(x: np.ndarray, index: int, stages: Stages, call: str) -> None:
    if np.any(x):
        return
    if index > 1:
        raise ValueError(
            f"{call}: layer {index - 1} gives no spike, so layer {index} has no input to start from; use a smaller "
            "xi_target, longer tau, or more active inputs."
        )
    source = "the frontend gives no spike on the data" if stages.frontend else "the data hold only zeros"
    fix = "call brainhw.init.frontend_init first, or scale the input up" if stages.frontend else "scale the input up"
    raise ValueError(f"{call}: {source}; {fix}, or check the loader.")
