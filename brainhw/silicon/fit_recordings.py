"""Fit of thresholds and time constants of a chip to recorded spikes and inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._progress import progress_bar
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.silicon.measured import MeasuredChip
from brainhw.silicon.measured_means import measured_chip
from brainhw.silicon.neuron_fit import fit_neurons, shared_factors
from brainhw.silicon.program import ChipProgram
from brainhw.silicon.recorded_drives import LayerRuns, layer_runs, program_of
from brainhw.silicon.recording import Recording

__all__ = ["LayerFit", "RecordingsFit", "fit_recordings"]

_LISTED = 8  # neurons listed per line of the table


@final
@dataclass(frozen=True, eq=False)
class LayerFit:
    """Fit results of the ``N`` neurons of one layer.

    Attributes
    ----------
    threshold, threshold_error : Quantity
        Threshold divided by the relative charge gain, and its standard error, ``[N]`` in mV. NaN if not measured.
    tau, tau_error : Quantity
        Membrane time constant and its standard error, ``[N]`` in ms. NaN if not measured.
    noise : Quantity
        Noise added to the membrane potential per step, divided by the relative charge gain, ``[N]`` in mV.
    gain : numpy.ndarray or None
        Relative charge gain, ``[N]``. It is the ratio of charge to capacitance, divided by the same ratio of the
        program's chip. None without recorded membrane potentials.
    spikes : numpy.ndarray
        Number of recorded spikes, ``[N]``.
    reasons : tuple of str
        Reason why each neuron was not measured, ``[N]``. Empty for measured neurons.
    residuals : numpy.ndarray
        Standardised residual of the spike count in each run, ``[runs, N]``: recorded minus expected count, divided by
        the standard deviation of the count in the model. NaN if not measured.
    shared : tuple of float or None
        Ratios of the threshold and of tau to their nominal values, fitted to all neurons of the layer together. None
        without ``per_layer=True``.
    """

    threshold: u.Quantity
    threshold_error: u.Quantity
    tau: u.Quantity
    tau_error: u.Quantity
    noise: u.Quantity
    gain: np.ndarray | None
    spikes: np.ndarray
    reasons: tuple[str, ...]
    residuals: np.ndarray
    shared: tuple[float, float] | None = None


@final
@dataclass(frozen=True, eq=False)
class RecordingsFit(Shown):
    """Result of :func:`fit_recordings`. ``print`` shows a table.

    Attributes
    ----------
    layers : mapping of str to LayerFit
        The fit of each layer, by the path of the layer.
    measured : MeasuredChip
        The fitted values of each physical neuron. Only ratios of threshold, capacitance and charge are measured; see
        ``cannot_tell``.
    cannot_tell : str
        Text that names the quantities that the recordings cannot determine separately.
    """

    layers: Mapping[str, LayerFit]
    measured: MeasuredChip
    cannot_tell: str

    @property
    def unmeasured(self) -> dict[str, np.ndarray]:
        """For each layer, the indices of the neurons that were not measured."""
        return {path: np.flatnonzero([bool(why) for why in one.reasons]) for path, one in self.layers.items()}

    def table(self) -> str:
        """Return a table of the layers, and a list of the neurons that were not measured."""
        return str(self)

    def _parts(self) -> Iterator[str | Table]:
        headings = ("layer", "neurons", "measured", "threshold", "error", "tau", "error", "noise", "gain", "misfit")
        rows, lines = [], []
        for path, one in self.layers.items():
            good = np.array([not why for why in one.reasons])
            gain = "-" if one.gain is None else _middle(one.gain[good], "")
            rows.append(
                (path, f"{len(good)}", f"{good.sum()}", _middle(one.threshold.mantissa[good], " mV"),
                 _share(one.threshold_error, one.threshold, good), _middle(one.tau.mantissa[good], " ms"),
                 _share(one.tau_error, one.tau, good), _middle(one.noise.mantissa[good], " mV"), gain,
                 _middle(one.residuals[:, good].std(axis=0) if good.any() else good[:0], ""))
            )  # fmt: skip
            for why in dict.fromkeys(reason for reason in one.reasons if reason):
                which = [i for i, reason in enumerate(one.reasons) if reason == why]
                more = f" and {len(which) - _LISTED} more" if len(which) > _LISTED else ""
                lines.append(f"{path}: not measured, {why}: neurons {', '.join(map(str, which[:_LISTED]))}{more}")
            if one.shared is not None:
                lines.append(f"{path}: common factors, threshold {one.shared[0]:.3f}, tau {one.shared[1]:.3f}")
        yield Table(headings, rows, left=("layer",))
        yield "Values are medians over neurons. Errors are standard errors."
        yield from lines
        yield self.cannot_tell


def fit_recordings(
    net: Any,
    xs: Any,
    recordings: Recording | Sequence[Recording],
    *,
    min_spikes: int = 20,
    largest_error: float = 0.2,
    per_layer: bool = False,
    progress: bool = False,
) -> RecordingsFit:
    r"""Fit threshold, time constant and noise of each neuron to recorded spikes and their inputs.

    The charge :math:`Q_t` of each step is computed from the codes of the program and the input of the layer in this
    step. The input of the first layer is ``xs``. The input of a later layer consists of the recorded spikes of the
    previous layer. The charge curve and the capacitance are those of the program's chip. Between two recorded spikes
    the membrane potential follows

    .. math:: V' = \max(e^{-\Delta t/\tau} V_{t-1} + Q_t/C + \sigma \xi_t,\; 0), \qquad s_t = H(V' - V_{th})

    and each recorded spike resets it. For each neuron, the fit maximises the likelihood of the steps with and without
    spikes, by L-BFGS from SciPy with gradients from JAX. The standard errors are computed from the Hessian at
    the optimum. The likelihood is computed by an assumed density filter (Maybeck 1979, Stochastic Models, vol. 2,
    ch. 12) with probit observations. Maximum-likelihood fits of spiking neurons go back to Paninski et al. 2004 (Neural
    Computation 16, 2533).

    Parameters
    ----------
    net : brainstate.nn.Module, ChipProgram, or sequence of ChipProgram
        The network or program that the bench ran. A sequence contains the program of each recording, as collected
        during chip-in-the-loop training.
    xs : array, or sequence of arrays
        Inputs of each recording, ``[T, B, N_in]``. A single array is the input of all recordings (repeated trials).
    recordings : Recording, or sequence of Recording
        The recordings of the bench. If all recordings of a layer include membrane potentials, the fit is far more
        precise.
    min_spikes : int, optional
        A neuron with fewer recorded spikes, or with fewer steps without a spike, counts as not measured. Default 20.
    largest_error : float, optional
        A neuron counts as not measured if the relative standard error of its threshold or tau is larger than this
        value. Default 0.2.
    per_layer : bool, optional
        Fit one factor of the threshold and one factor of tau to all neurons of a layer. For each neuron that was not
        measured, return the nominal threshold and tau, multiplied by these factors. Default False, which returns NaN
        for these neurons.
    progress : bool, optional
        Show a progress bar. Default False.

    Returns
    -------
    RecordingsFit
        Values, standard errors and residuals of each layer, and the chip ``measured`` for :func:`put_chip`.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If the recordings do not match their programs, or if no neuron fired often enough.
    RuntimeError
        If the time step is neither stored in ``net`` nor set in ``brainstate.environ``.

    Notes
    -----
    Spikes determine only the ratio :math:`V_{th} C / q`, because a chip with twice the charge and twice the threshold
    fires identically. ``measured`` keeps the charge and the capacitance of the program's chip, and its ``V_th`` is
    chosen such that the ratio is correct. With recorded membrane potentials, the ratio of charge to capacitance is also
    determined, but not the charge or the capacitance alone.

    The model assumes that all synapses of a neuron have the same charge curve. If the charges of the synapses differ,
    the fitted ``noise`` increases, and the errors in the table are too small. For example, they are too small by a
    factor of about 1.5 if the charges of 60 synapses have a standard deviation of 3 %. The column ``misfit`` of the
    table is the standard deviation of the residuals. If the charges differ and the inputs are constant, this standard
    deviation is above 1.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.H1v2Synapse(4, 1, weight_init=jnp.full((4, 1), 1.66), weight_bits="chip"),
    ...     bh.nn.H1v2Layer(1, tau=20 * u.ms),
    ... )
    >>> x = np.random.default_rng(0).poisson(1.0, (100, 10, 4)).astype(np.float32)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     spikes, _ = bh.rollout(net, x)  # the model in place of a bench
    ...     fit = bh.silicon.fit_recordings(net, x, bh.silicon.Recording({"layers.1": spikes}))
    >>> bool(abs(fit.layers["layers.1"].threshold[0] / (100 * u.mV) - 1) < 0.02), fit.unmeasured
    (True, {'layers.1': array([], dtype=int64)})
    """
    call = "fit_recordings"
    min_spikes = _arguments.positive_int(min_spikes, call=call, name="min_spikes")
    largest_error = float(_arguments.number(largest_error, call=call, name="largest_error", positive=True))
    _arguments.flag(per_layer, call=call, name="per_layer")
    _arguments.flag(progress, call=call, name="progress")
    programs, inputs, held = _runs(net, xs, recordings, call=call)
    program = programs[0]
    runs = layer_runs(programs, inputs, held, call=call)
    _check_enough(runs, min_spikes, per_layer, call)
    layers = {}
    with progress_bar(len(runs), desc=call, unit="layer", shown=progress) as bar:
        for path, layer in runs.items():
            layers[path] = _layer(program, path, layer, min_spikes, largest_error, per_layer)
            bar.update()
    if all(all(one.reasons) for one in layers.values()) and not per_layer:
        n = sum(len(one.reasons) for one in layers.values())
        why = next(one.reasons[0] for one in layers.values())
        raise ValueError(
            f"{call}: recordings do not determine the values of any of the {n} neurons (the first neuron: {why}). "
            "Record more, or use a stronger input."
        )
    seen = all(layer.membranes is not None for layer in runs.values())
    return RecordingsFit(layers, measured_chip(program, layers), _CANNOT_TELL[seen])


_CANNOT_TELL = {
    False: "Spikes determine only the ratio threshold / (charge / capacitance). The values of `threshold` and `noise` "
    "are for the charge and the capacitance of the program's chip.",
    True: "Membrane potentials determine only the ratio charge / capacitance (`gain`). A chip with twice the charge "
    "and twice the capacitance produces the same recordings.",
}


def _runs(net: Any, xs: Any, recordings: Any, *, call: str) -> tuple[list[ChipProgram], list[Any], list[Recording]]:
    """Check the arguments of `fit_recordings`. Return the program, the input and the recording of each run."""
    one = isinstance(recordings, Recording)
    held = [recordings] if one else _arguments.several(recordings, call=call, name="recordings", of="Recording")
    if not held:
        raise ValueError(f"{call}: recordings must contain at least one Recording; got none.")
    for i, recording in enumerate(held):
        _arguments.instance(recording, Recording, call=call, name="recordings" if one else f"recordings[{i}]")
    several = isinstance(net, (list, tuple))
    programs = [program_of(item, call=call) for item in (net if several else [net])]
    inputs = list(xs) if isinstance(xs, (list, tuple)) else [xs]
    for name, found in (("net", programs), ("xs", inputs)):
        if len(found) not in (1, len(held)):
            raise ValueError(
                f"{call}: {name} must be one item for all recordings, or a sequence with one item for each of the "
                f"{len(held)} recordings; got {len(found)} items."
            )
    n = len(held)
    return (programs * n if len(programs) == 1 else programs), (inputs * n if len(inputs) == 1 else inputs), held


def _check_enough(runs: Mapping[str, LayerRuns], min_spikes: int, per_layer: bool, call: str) -> None:
    counts = [layer.spikes.sum(axis=(0, 1)) for layer in runs.values()]
    most, total = max(int(count.max()) for count in counts), sum(int(count.sum()) for count in counts)
    found = total if per_layer else most
    if found < min_spikes:
        n_runs = next(iter(runs.values())).drive.shape[1]
        what = "all neurons together fired" if per_layer else "the most active neuron fired"
        raise ValueError(
            f"{call}: recordings contain too few spikes: {what} {found} times in {n_runs} run(s), but min_spikes is "
            f"{min_spikes}. Record more, or use a stronger input."
        )


def _layer(
    program: ChipProgram, path: str, runs: LayerRuns, min_spikes: int, largest_error: float, per_layer: bool
) -> LayerFit:
    dt, chip = float(program.dt.to(u.ms).mantissa), program.chip
    spikes = runs.spikes.sum(axis=(0, 1), dtype=int)
    silent = int(runs.valid.sum()) - spikes
    n, enough = len(spikes), (spikes >= min_spikes) & (silent >= min_spikes)
    nominal = np.full(n, float(chip.V_th.to(u.mV).mantissa))
    steps = np.asarray(chip.tau_profiles.values.to(u.ms).mantissa, float)[program.leak(path)] / dt
    to_zero = chip.reset == "zero"
    reasons = [
        "" if good else f"fewer than {min_spikes} spikes" if few else "spikes in almost every time step"
        for good, few in zip(enough, spikes < min_spikes, strict=True)
    ]
    values, errors = np.full((4, n), np.nan), np.full((2, n), np.nan)
    residuals = np.full((runs.spikes.shape[1], n), np.nan)
    if enough.any():
        # Replace the other neurons by a neuron that fired, because a different number of neurons would need another
        # compilation.
        used = np.where(enough, np.arange(n), np.argmax(enough))
        fit = fit_neurons(runs.only(used), nominal[used], steps[used], to_zero=to_zero)
        for k in np.flatnonzero(enough):
            # The fit uses logarithms, whose errors are relative errors.
            relative = np.sqrt(np.maximum(np.diag(fit.covariance[k])[:2], 0))
            if not fit.converged[k]:
                reasons[k] = "no optimum found"
            elif not relative.max() <= largest_error:
                reasons[k] = f"a standard error above {largest_error:.0%}"
            else:
                values[: len(fit.p), k] = np.exp(fit.p[:, k])
                errors[:, k] = values[:2, k] * relative
                residuals[:, k] = fit.residuals[:, k]
    shared = None
    if per_layer and spikes.sum() >= min_spikes:
        shared = shared_factors(runs, nominal, steps, to_zero=to_zero)
        bad = np.array([bool(why) for why in reasons])
        values[0, bad], values[1, bad] = shared[0] * nominal[bad], shared[1] * steps[bad]
    return LayerFit(
        threshold=values[0] * u.mV,
        threshold_error=errors[0] * u.mV,
        tau=values[1] * dt * u.ms,
        tau_error=errors[1] * dt * u.ms,
        noise=values[2] * u.mV,
        gain=None if runs.membranes is None else values[3],
        spikes=spikes,
        reasons=tuple(reasons),
        residuals=residuals,
        shared=shared,
    )


def _middle(values: np.ndarray, unit: str) -> str:
    return f"{np.median(values):.4g}{unit}" if len(values) else "-"


def _share(error: u.Quantity, value: u.Quantity, good: np.ndarray) -> str:
    return f"{np.median(error.mantissa[good] / value.mantissa[good]):.1%}" if good.any() else "-"
