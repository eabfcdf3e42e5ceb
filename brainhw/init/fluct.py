"""Fluctuation-driven initialisation of chip networks from data."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import numpy as np

from brainhw import _arguments
from brainhw.init.pair import FluctSettings, PairInitializer
from brainhw.init.pairs import Stages, discover_stages
from brainhw.init.report import LayerReport
from brainhw.transform.prepare import as_key

__all__ = ["fluct_init"]


def fluct_init(
    net: brainstate.nn.Module,
    dataloader: Iterable[Any],
    xi_target: float = 2.0,
    alpha: float = 1.0,
    n_batches: int = 1,
    verbose: bool = True,
    *,
    center: bool | str = "auto",
    moments: str = "exact",
    in_range: bool = False,
    key: jax.Array | int = 0,
) -> None:
    r"""Put an H1 network into the fluctuation-driven regime, in place, before the first optimisation step.

    Each membrane is to fluctuate below threshold with

    .. math:: \xi = (V_{th} - \mu_U)/\sigma_U, \quad \mu_U = n_F\, \mu_W\, \nu\, \bar\epsilon, \quad
              \sigma_U^2 = n_F (\mu_W^2 + \sigma_W^2)\, \nu\, \hat\epsilon

    (Rossbroich, Gygax & Zenke 2022, doi 10.48550/arXiv.2206.10226) where :math:`\bar\epsilon, \hat\epsilon` are the
    integrals of the response and its square, measured on the real layer. Layer after layer: the mean weight is the
    smallest, plus 10 %, at which no neuron is silent on the data; the spread takes what is left of the variance; the
    output spikes are the next layer's input.

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
    center : bool or 'auto', optional
        Take the mean input out of every neuron's weights, so that no neuron is silent by the luck of its draw.
        ``'auto'`` (default) does so where there are enough active inputs.
    moments : {'exact', 'second'}, optional
        How the variance is predicted: from the filtered input (default), or from its second moment as in the paper.
        ``center=False, moments='second'`` is the procedure that the chip vendor describes.
    in_range : bool, optional
        Keep every weight within what the chip takes: the spread is capped at a third of the room that the mean leaves,
        and the mean raised until the neurons fire. The target is then met only as far as the range allows. Default
        False: weights are drawn as the target asks and a warning says how many are out of range.
    key : jax.Array or int, optional
        Source of the random numbers. Default 0; the same key gives the same weights.

    Raises
    ------
    ValueError
        If the families are mixed, there is no dense pair, or an argument or the data are out of range.
    RuntimeError
        If no time step is set.

    Warns
    -----
    UserWarning
        For ``xi_target`` below 1, weights beyond the chip's range, an exhausted variance budget, neurons that stay
        silent or fire in most steps.

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
    """
    call = "fluct_init"
    settings = _settings(xi_target, alpha, center, moments, in_range, call)
    dt = _arguments.time_step(call=call)
    if not isinstance(net, brainstate.nn.Module):
        raise TypeError(f"{call}: net must be a brainstate.nn.Module; got {_arguments.describe(net)}.")
    stages = discover_stages(net, call=call)
    x = _take(dataloader, _arguments.positive_int(n_batches, call=call, name="n_batches"), call)
    random_key = as_key(key, call)
    if random_key is None:
        raise TypeError(f"{call}: key must be a whole number or a jax.random.key; got None.")
    say = print if verbose else _nothing

    first = stages.frontend[0] if stages.frontend else stages.pairs[0][0]
    _arguments.check_last_axis(x, first.in_size[-1], call=call, name="a batch", ndims=(3,))
    _warn_of_settings(settings, stages, call)
    with _restored_unless_done(net):
        chip = stages.pairs[0][1].chip
        milliseconds = dt.to(u.ms).mantissa
        say(f"[fluct_init] ξ={settings.xi} α={settings.alpha} dt={milliseconds}ms (stacked, adaptive µ) [{chip.name}]")
        seconds = float(dt.to(u.second).mantissa)
        if stages.frontend:
            x = _run_frontend(stages, x)
            say(f"  Frontend → ν_out={x.mean() / seconds:.1f}Hz (used as ν_in for layer 1)")
        else:
            nu_mean, nu_var = x.mean() / seconds, np.square(x).mean() / seconds
            ratio = nu_var / nu_mean if nu_mean else float("inf")
            say(f"  Input → ν_mean={nu_mean:.1f}Hz ν_var={nu_var:.1f}Hz ratio={ratio:.1f}x")
        for index, (synapse, layer) in enumerate(stages.pairs, start=1):
            _check_active(x, index, bool(stages.frontend), call)
            solver = PairInitializer(synapse, layer, x, dt, settings, jax.random.fold_in(random_key, index))
            report, x = solver.solve(index)
            say(report.line())
            if index < len(stages.pairs):
                say(f"  → ν_{index + 1} = {report.nu_out:.1f} Hz")
            _warn_of_outcome(report, layer.chip, call)
        say("[fluct_init] done.")


def _nothing(*_: Any) -> None:
    return


def _settings(xi_target: Any, alpha: Any, center: Any, moments: Any, in_range: Any, call: str) -> FluctSettings:
    xi = _arguments.number(xi_target, call=call, name="xi_target", positive=True)
    share = _arguments.number(alpha, call=call, name="alpha", positive=True)
    if share > 1:
        raise ValueError(f"{call}: alpha is a share of the variance, at most 1; got {share:g}.")
    if center not in (True, False, "auto"):
        raise ValueError(f"{call}: center must be True, False or 'auto'; got {_arguments.describe(center)}.")
    basis = _arguments.choice(moments, ("exact", "second"), call=call, name="moments")
    return FluctSettings(xi, share, center, basis == "exact", bool(in_range))


def _take(dataloader: Iterable[Any], n_batches: int, call: str) -> np.ndarray:
    try:
        batches = iter(dataloader)
    except TypeError:
        raise TypeError(
            f"{call}: dataloader must be an iterable of batches [B, T, N]; got {_arguments.describe(dataloader)}."
        ) from None
    taken = []
    for batch in batches:
        array = np.asarray(batch[0] if isinstance(batch, (tuple, list)) else batch)
        if array.ndim != 3:
            raise ValueError(
                f"{call}: a batch must have shape [B, T, N]; got shape {array.shape}. For one array, pass [array]."
            )
        _arguments.check_finite(array, call=call, name="a batch")
        taken.append(array.astype(np.float32))
        if len(taken) == n_batches:
            break
    if not taken:
        raise ValueError(f"{call}: the dataloader gave no batch; give at least one of shape [B, T, N].")
    if len({array.shape[1:] for array in taken}) > 1:
        shapes = ", ".join(str(array.shape) for array in taken)
        raise ValueError(f"{call}: batches must share T and N to be used together; got {shapes}. Use n_batches=1.")
    return np.concatenate(taken)


def _check_active(x: np.ndarray, index: int, has_frontend: bool, call: str) -> None:
    if np.any(x):
        return
    if index > 1:
        raise ValueError(
            f"{call}: layer {index - 1} gives no spike, so layer {index} has no input to start from; use a smaller "
            "xi_target, longer tau, or more active inputs."
        )
    source = "the frontend gives no spike on the data" if has_frontend else "the data hold only zeros"
    raise ValueError(f"{call}: {source}; scale the input up or check the loader.")


def _run_frontend(stages: Stages, x: np.ndarray) -> np.ndarray:
    assert stages.frontend is not None
    frontend, layer = stages.frontend

    @brainstate.transform.jit
    def run(xs: jax.Array) -> jax.Array:
        frontend.prepare()
        layer.prepare()
        layer.reset_state(xs.shape[1])
        return brainstate.transform.for_loop(layer.update, frontend.update(xs))

    return np.swapaxes(np.asarray(run(np.swapaxes(x, 0, 1))), 0, 1)


@contextlib.contextmanager
def _restored_unless_done(net: brainstate.nn.Module) -> Iterator[None]:
    """Put every state back as it was: only the weights keep what was found, and on an error not even they."""
    before = [(state, state.value) for state in net.states().values()]
    try:
        yield
    except BaseException:
        for state, value in before:
            state.value = value
        raise
    for state, value in before:
        if not isinstance(state, brainstate.ParamState):
            state.value = value


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)


def _warn_of_settings(settings: FluctSettings, stages: Stages, call: str) -> None:
    recurrent = any(layer.topology == "RC" for _, layer in stages.pairs)
    if settings.xi < 1:
        _warn(
            f"{call}: xi_target={settings.xi:g} is below 1: the mean membrane lies so close to threshold that rates "
            "can become very high and training unstable; 1 to 3 is recommended."
        )
    if recurrent and settings.alpha == 1:
        _warn(
            f"{call}: alpha=1 leaves nothing of the variance to the recurrent weights, which become zero; "
            "pass for example alpha=0.9."
        )
    if not recurrent and settings.alpha < 1:
        _warn(f"{call}: alpha={settings.alpha:g} but no layer is recurrent; the rest of the variance stays unused.")


def _warn_of_outcome(report: LayerReport, chip: Any, call: str) -> None:
    where = f"{call}: layer {report.index}"
    if report.exhausted:
        _warn(
            f"{where}: {report.exhausted} neuron(s) need so large a mean weight that no variance is left; their spread "
            "is held at 0.1 of the mean and the init is mean-driven. Try a smaller xi_target or more inputs."
        )
    if report.out_of_range:
        _warn(
            f"{where}: {report.out_of_range} weight(s) lie outside [-{chip.weight_limit:g}, {chip.weight_limit:g}] of "
            f"{chip.name}, the largest at {report.largest:.3g}; use in_range=True, a higher xi_target, more or more "
            "active inputs, or add brainhw.train.weight_magnitude_loss(net) to the loss."
        )
    if report.dead:
        _warn(
            f"{where}: {report.dead} neuron(s) never spike on the data; try a smaller xi_target, a lower alpha, more "
            "inputs, or more data."
        )
    if report.saturated:
        _warn(
            f"{where}: {report.saturated} neuron(s) spike in more than half of all steps; try a larger xi_target or "
            "weaker input."
        )
