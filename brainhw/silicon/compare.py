"""Compare a model with a bench that runs the same program on the same inputs."""

from __future__ import annotations

import warnings
from typing import Any

import brainstate
import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._progress import progress_bar
from brainhw.silicon._results import counted
from brainhw.silicon.class_note import warn_of_classes
from brainhw.silicon.comparison import Comparison, LayerComparison
from brainhw.silicon.device import Device, DeviceError, checked_device
from brainhw.silicon.fit_recordings import LayerFit, fit_recordings
from brainhw.silicon.measured_bench import model_run
from brainhw.silicon.program import ChipProgram
from brainhw.silicon.recorded_drives import bench_input, program_of
from brainhw.silicon.recording import Recording, check_recording
from brainhw.train import accuracy_population

__all__ = ["compare"]

# Matching spikes are counted for all delays from ``-_TRIED`` to ``_TRIED`` steps. The best delay in ``_NAMED`` is
# reported only if its fraction of matching spikes is above ``_LEAST_SHARE`` and is more than ``_CLEARER`` times the
# fraction at every other delay. The last condition is needed because the spikes of a neuron with constant input match
# again after each period.
_NAMED, _TRIED = (-2, -1, 1, 2), 12
_CLEARER, _LEAST_SHARE = 1.5, 0.3
# Largest number of samples for the fit of time constants and thresholds. With this number, the fit takes a minute and
# reaches a precision of 5 %.
_FITTED = 50
_MOST_TRIALS = 1000
# A ratio of bench to model counts as a cause if it differs from 1 by more than ``_NOTABLE`` and by more than
# ``_ERRORS`` standard errors.
_NOTABLE, _ERRORS = 0.05, 3.0
# A neuron counts as dead if it never fires on the bench but fires at least ``_DEAD`` times in the model. It counts as
# stuck if it fires in more than the fraction ``_STUCK`` of the steps.
_DEAD, _STUCK = 5, 0.9
# The agreement between model and bench is divided by the agreement between bench trials. If the result is at least this
# value, no cause is given.
_EXPLAINED = 0.9


def compare(
    net: Any,
    device: Device,
    x: Any,
    y: Any = None,
    *,
    n_trials: int = 1,
    n_classes: int | None = None,
    explain: bool = True,
    progress: bool = False,
) -> Comparison:
    """Program the bench with a network, run bench and network on the same inputs, and compare them neuron by neuron.

    Parameters
    ----------
    net : brainstate.nn.Module or ChipProgram
        The network. It runs on its current chip (see :func:`put_chip`) and is not modified.
    device : Device
        The bench.
    x : array
        Inputs ``[T, B, N_in]``, dimensionless.
    y : array, optional
        Class index of each sample, ``[B]``, from 0. Without ``y``, no accuracy is computed.
    n_trials : int, optional
        Number of bench runs. With 2 or more, the agreement between these trials shows the best agreement that the noise
        allows. Default 1.
    n_classes : int, optional
        Number of classes. Each class has the same number of consecutive output neurons. Default: the number that is
        stored in the bundle if the program was made from a bundle. Otherwise, each output neuron is one class.
    explain : bool, optional
        Fit the time constants and thresholds of the bench with :func:`fit_recordings`, to find the causes of
        differences. The fit uses at most 50 samples, summed over the trials, and takes up to a minute. Default True.
    progress : bool, optional
        Show progress bars for the bench runs and for the fit. Default False.

    Returns
    -------
    Comparison
        The fractions of matching spikes, the firing rates, the differences of the membrane potentials, the accuracies,
        and the causes of differences. ``print`` shows a table, and ``plot()`` plots the result.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If an argument has the wrong shape or value, or if the network cannot be programmed.
    DeviceError
        If the bench fails or its recording does not match the program.
    RuntimeError
        If the time step is neither stored in ``net`` nor set in ``brainstate.environ``.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.H1v2Synapse(4, 3, weight_init=jnp.full((4, 3), 1.66), weight_bits="chip"),
    ...     bh.nn.H1v2Layer(3, tau=20 * u.ms),
    ... )
    >>> bench = bh.silicon.VirtualChip(bh.chip.H1V2, key=7)
    >>> x = np.random.default_rng(0).poisson(1.0, (100, 8, 4)).astype(np.float32)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     found = bh.silicon.compare(net, bench, x, explain=False)
    >>> found.layers["layers.1"].found.shape, bool(0 < found.agreement < 1)
    ((3,), True)
    """
    call = "compare"
    program = program_of(net, call=call)
    checked_device(device, call)
    inputs = bench_input(x, program, call=call, name="x")
    n_trials = _arguments.positive_int(n_trials, call=call, name="n_trials", most=_MOST_TRIALS)
    _arguments.flag(explain, call=call, name="explain")
    _arguments.flag(progress, call=call, name="progress")
    n_out = program.layers[program.output]
    known = program.content.n_classes if n_classes is None else n_classes
    n_classes = _classes(known, n_out, call)
    labels = None if y is None else _labels(y, inputs.shape[1], n_classes, call)
    if labels is not None and known is None:
        warn_of_classes(labels, n_out, call=call, fix="pass n_classes={}")
    trials = _bench_runs(program, device, inputs, n_trials, call, progress)
    model, taus, thresholds = model_run(
        net if isinstance(net, brainstate.nn.Module) else program.to_net(), program, inputs
    )
    # If all spikes agree, there is no difference to explain, so the fit is skipped.
    agree = all(np.array_equal(model.spikes[path], run.spikes[path]) for run in trials for path in program.layers)
    _warn_of_delay(model, trials[0], call)
    fits = _fits(program, inputs, trials, progress) if explain and not agree else {}
    layers = {
        path: _layer(program, path, model, trials, fits.get(path), np.asarray(taus[path]), np.asarray(thresholds[path]))
        for path in program.layers
    }
    own, bench = None, None
    if labels is not None:
        own, *others = (_accuracy(run.spikes[program.output], labels, n_classes) for run in (model, *trials))
        bench = float(np.mean(others))
    return Comparison(
        layers=layers,
        n_steps=inputs.shape[0],
        n_samples=inputs.shape[1],
        n_trials=n_trials,
        model_accuracy=own,
        bench_accuracy=bench,
    )


def _classes(given: Any, n_out: int, call: str) -> int:
    n_classes = n_out if given is None else _arguments.positive_int(given, call=call, name="n_classes")
    if n_out % n_classes:
        raise ValueError(
            f"{call}: n_classes must be a divisor of the number of output neurons, {n_out}; got {n_classes}."
        )
    return n_classes


def _labels(y: Any, n_samples: int, n_classes: int, call: str) -> np.ndarray:
    labels = np.asarray(_arguments.as_array(y, call=call, name="y"))
    if labels.dtype.kind not in "iu" or labels.shape != (n_samples,):
        raise ValueError(
            f"{call}: y must contain integers and have shape ({n_samples},), one class index per sample; "
            f"got shape {labels.shape} and dtype {labels.dtype}."
        )
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"{call}: y must contain class indices from 0 to {n_classes - 1}; got {labels.min()} to {labels.max()}."
        )
    return labels


def _accuracy(spikes: np.ndarray, labels: np.ndarray, n_classes: int) -> float:
    return float(accuracy_population(spikes, labels, n_classes))


def _bench_runs(
    program: ChipProgram, device: Device, x: np.ndarray, n_trials: int, call: str, progress: bool
) -> list[Recording]:
    """Run all trials and return the recordings. Raise `DeviceError` for any failure of the bench."""
    runs = []
    doing = "programming"
    try:
        device.program(program)
        with progress_bar(n_trials, desc="bench", unit="run", shown=progress) as bar:
            for trial in range(n_trials):
                doing = f"trial {trial + 1} of {n_trials}"
                # Pass a copy, because a bench may scale its input in place, and the model needs the same input.
                runs.append(check_recording(device.run(x.copy()), program.layers, *x.shape[:2], call=call))
                bar.update()
    except (Exception, SystemExit) as error:  # user code may raise any error
        text = " ".join(str(error).removeprefix(f"{call}: ").split()) or type(error).__name__
        raise DeviceError(f"{call}: the bench failed during {doing}: {text}") from error
    return runs


def _warn_of_delay(model: Recording, bench: Recording, call: str) -> None:
    """Warn if the spikes of the bench match those of the model much better with a delay of one or two steps."""
    n_model = sum(int(spikes.sum(dtype=np.int64)) for spikes in model.spikes.values())

    def found(delay: int) -> float:
        shared = 0
        for path, own in model.spikes.items():
            early, late = (own, bench.spikes[path]) if delay >= 0 else (bench.spikes[path], own)
            n = max(len(own) - abs(delay), 0)
            shared += int(np.count_nonzero(early[:n] & late[abs(delay) :].astype(np.uint8)))
        return shared / n_model

    if not n_model:
        return
    shares = {delay: found(delay) for delay in range(-_TRIED, _TRIED + 1)}
    best = max(_NAMED, key=lambda delay: shares[delay])
    others = max(share for delay, share in shares.items() if delay != best)
    if shares[best] > max(_CLEARER * others, _LEAST_SHARE):
        steps = f"{counted(abs(best), 'step')} {'later' if best > 0 else 'earlier'}"
        warnings.warn(
            f"{call}: {shares[best]:.0%} of the model's spikes occur on the bench {steps}, but only {shares[0]:.0%} in "
            "the same step. Check how the bench indexes the time steps of its recording.",
            UserWarning,
            stacklevel=3,
        )


def _fits(program: ChipProgram, x: np.ndarray, trials: list[Recording], progress: bool) -> dict[str, LayerFit]:
    each = max(1, min(x.shape[1], _FITTED // len(trials)))
    held = [
        Recording(
            {path: spikes[:, :each] for path, spikes in run.spikes.items()},
            {path: membranes[:, :each] for path, membranes in run.membranes.items()},
        )
        for run in trials[:_FITTED]
    ]
    try:
        return dict(fit_recordings(program, x[:, :each], held, progress=progress).layers)
    except ValueError:  # with too few spikes, the comparison does not name these causes
        return {}


def _layer(
    program: ChipProgram,
    path: str,
    model: Recording,
    trials: list[Recording],
    fit: LayerFit | None,
    tau: np.ndarray,
    threshold: np.ndarray,
) -> LayerComparison:
    own = model.spikes[path].astype(np.float64)
    bench = [run.spikes[path] for run in trials]
    n_own, n_bench = own.sum(axis=(0, 1)), np.mean([run.sum(axis=(0, 1)) for run in bench], axis=0)
    common = np.mean([(own * run).sum(axis=(0, 1)) for run in bench], axis=0)
    seconds = own.shape[0] * own.shape[1] * float(program.dt.to(u.second).mantissa)
    missing = np.full(own.shape[2], np.nan)
    tau_ratio, threshold_ratio, tau_error, threshold_error = missing, missing, missing, missing
    if fit is not None:
        tau_ratio, tau_error = fit.tau.mantissa / tau, fit.tau_error.mantissa / tau
        threshold_ratio = fit.threshold.mantissa / threshold
        threshold_error = fit.threshold_error.mantissa / threshold
    membranes = None
    if path in model.membranes and all(path in run.membranes for run in trials):
        V = np.asarray(model.membranes[path].mantissa)
        squares = [np.mean((np.asarray(run.membranes[path].mantissa) - V) ** 2, axis=(0, 1)) for run in trials]
        membranes = np.sqrt(np.mean(squares, axis=0)) * u.mV
    itself = _repeatability(bench)
    found = _share(common, n_own)
    always = n_bench > _STUCK * own.shape[0] * own.shape[1]
    reasons = [
        _reason(
            n_own[k], n_bench[k], bool(always[k]), found[k], itself[k],
            {"threshold": (threshold_ratio[k], threshold_error[k]), "tau": (tau_ratio[k], tau_error[k])},
        )
        for k in range(len(n_own))
    ]  # fmt: skip
    return LayerComparison(
        physical=program.physical(path),
        model_rate=n_own / seconds * u.Hz,
        bench_rate=n_bench / seconds * u.Hz,
        found=found,
        predicted=_share(common, n_bench),
        itself=itself,
        model_spikes=n_own,
        bench_spikes=n_bench,
        common=common,
        membrane_rms=membranes,
        tau_ratio=tau_ratio,
        threshold_ratio=threshold_ratio,
        reasons=tuple(reasons),
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return ``part / whole``, or NaN where ``whole`` is zero."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _repeatability(bench: list[np.ndarray]) -> np.ndarray:
    """Return, for each neuron ``[N]``, the fraction of its spikes that another trial repeats in the same step."""
    k = len(bench)
    if k < 2:
        return np.full(bench[0].shape[2], np.nan)
    total = np.sum(bench, axis=0, dtype=np.int64)
    # If a neuron fires in n of k trials in a step, each of these spikes also occurs in n - 1 of the other k - 1 trials.
    return _share((total * (total - 1)).sum(axis=(0, 1)) / (k - 1), total.sum(axis=(0, 1)))


def _reason(
    n_own: float, n_bench: float, always: bool, found: float, itself: float, ratios: dict[str, tuple[float, float]]
) -> str:
    """Return the most likely reason why a neuron spikes differently on the bench, or an empty string if none is found.

    ``ratios`` has two items, for the threshold and for tau. Each contains the ratio of bench to model, and the standard
    error of this ratio.
    """
    if n_bench == 0:
        return "dead: silent on the bench" if n_own >= _DEAD else ""
    if always:
        return "spikes in almost every time step on the bench"
    notable = [
        (abs(np.log(ratio)), f"{name} x {ratio:.2f}")
        for name, (ratio, error) in ratios.items()
        if np.isfinite(ratio) and abs(ratio - 1) > max(_NOTABLE, _ERRORS * error)
    ]
    if notable:
        return ", ".join(text for _, text in sorted(notable, reverse=True))
    ceiling = itself if np.isfinite(itself) else 1.0
    if n_own == 0:
        return "silent in the model"
    if found >= _EXPLAINED * ceiling:
        return ""
    fitted = all(np.isfinite(ratio) for ratio, _ in ratios.values())
    # Threshold and tau agree with the model, so the input current must differ.
    return "inputs or synapses" if fitted else "unknown"
