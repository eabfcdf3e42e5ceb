"""Maximum-likelihood fit of threshold, time constant and noise of many neurons at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from brainhw.silicon.recorded_drives import LayerRuns
from brainhw.silicon.spike_likelihood import (
    Observed,
    curvature,
    expected_spikes,
    log_likelihood,
    value_and_gradient,
)

__all__ = ["NeuronFit", "fit_neurons", "shared_factors"]

# To compute its derivatives, the likelihood stores some 20 values per step, about 0.3 GB for this many steps.
_NUMBERS_AT_ONCE = 4_000_000
# A fit has converged if a Newton step changes each parameter by less than ``_CONVERGED`` standard errors. A fit has at
# most ``_ROUNDS`` rounds of ``_STEPS`` iterations.
_CONVERGED, _ROUNDS, _STEPS = 0.1, 12, 12
# Membrane potentials can make the errors smaller than the precision of float32. So a fit has also converged if a Newton
# step changes the logarithms of the parameters by less than this.
_CLOSE = 1e-3
# After the last round, a fit has failed if a Newton step is larger than both ``_GOOD`` standard errors and ``_NEAR`` in
# the logarithm.
_GOOD, _NEAR = 0.5, 5e-3
_FURTHEST = 0.8  # largest change of a parameter in one round, in the logarithm
# Grid search before the fit: logarithms of the factors of threshold and tau, and the noise as a fraction of the
# threshold.
_THRESHOLDS, _TAUS, _NOISE = np.arange(-1.2, 1.6, 0.3), np.arange(-1.0, 1.1, 0.5), 0.08
# With membrane potentials the likelihood is steep and needs a finer grid. Larger noise is also tried, because the
# synapses may differ.
_FINE, _NOISES = np.arange(-0.2, 0.21, 0.04), np.array([0.0, 0.5, 1.0])
# If the bench has no noise, the likelihood has no maximum, because it grows without limit as the fitted noise falls. So
# the fit assumes a minimum noise of ``_LEAST_NOISE`` thresholds. The logarithm of the additional noise has a normal
# prior, centred at ``_PRIOR`` thresholds. With 100 spikes, the data outweigh the prior.
_LEAST_NOISE, _PRIOR, _PRIOR_STD = 0.003, 0.02, 1.5
_LOWEST_MV = 2.0  # lower readings are not used as values, because the clamp at zero changes them
_LEAST_READ_MV = 0.1


@dataclass(frozen=True, eq=False)
class NeuronFit:
    """Result of the maximum-likelihood fit for ``N`` neurons.

    ``p [K, N]`` contains the logarithms of threshold (mV), tau (steps), noise (mV) and, with membrane potentials, gain.

    ``covariance [N, K, K]`` is the inverse of the negative Hessian of the log-posterior. ``converged`` marks the
    neurons whose optimisation has converged. ``read_noise`` is in mV, or None without membrane potentials.
    ``residuals [runs, N]`` are recorded minus expected spike counts, divided by the standard deviation of the count.
    """

    p: np.ndarray
    covariance: np.ndarray
    converged: np.ndarray
    read_noise: float | None
    residuals: np.ndarray


def fit_neurons(
    runs: LayerRuns,
    threshold: np.ndarray,
    tau_steps: np.ndarray,
    *,
    to_zero: bool,
    advance: Callable[[], None] = lambda: None,
) -> NeuronFit:
    """Fit the threshold, time constant and noise of each neuron to the recorded runs of its layer.

    The fit starts from the nominal ``threshold [N]`` in mV and the nominal time constants ``tau_steps [N]`` in time
    steps. ``to_zero`` is true if a spike resets the membrane potential to zero. ``advance`` is called after the grid
    search and after each round of the optimisation.
    """
    read_noise = None
    start = np.stack([np.log(threshold), np.log(tau_steps), np.log(_NOISE * threshold)])
    if runs.membranes is not None:
        gain, tau, noise, read_noise = _regression(runs, tau_steps)
        start = np.stack(
            [np.log(threshold), np.log(tau), np.log(noise / gain + _LEAST_NOISE * threshold), np.log(gain)]
        )
    seen = _observed_chunks(runs, read_noise, float(np.median(threshold)), to_zero)
    p = _grid_search(start, seen)
    advance()
    p, bend, converged = _maximise_posterior(p, seen, np.log(_PRIOR * threshold), advance)
    expected, variance = expected_spikes(p, seen)
    spikes = runs.spikes.sum(axis=0, dtype=float)
    n_runs = spikes.shape[0]
    residuals = (spikes - expected[:n_runs]) / np.sqrt(np.maximum(variance[:n_runs], 1e-9))
    p[2] = 0.5 * np.log(np.exp(2 * p[2]) + (_LEAST_NOISE * np.median(threshold)) ** 2)
    return NeuronFit(p, np.linalg.pinv(bend, hermitian=True), converged, read_noise, residuals)


def _observed_chunks(runs: LayerRuns, read_noise: float | None, typical: float, to_zero: bool) -> Observed:
    n_steps, n_runs, n_neurons = runs.drive.shape
    # Runs are split into chunks to limit the memory. The last chunk is padded with invalid runs.
    size = max(1, min(n_runs, _NUMBERS_AT_ONCE // (n_steps * n_neurons)))
    n_chunks = -(-n_runs // size)

    def chunks(array: np.ndarray) -> jnp.ndarray:
        filled = np.pad(array, [(0, 0), (0, n_chunks * size - n_runs)] + [(0, 0)] * (array.ndim - 2))
        return jnp.asarray(filled.reshape(n_steps, n_chunks, size, *array.shape[2:]).swapaxes(0, 1), jnp.float32)

    return Observed(
        drive=chunks(runs.drive),
        spikes=chunks(runs.spikes),
        valid=chunks(runs.valid),
        membranes=None if runs.membranes is None else chunks(runs.membranes),
        read_noise=jnp.float32(read_noise or 0.0),
        floor=jnp.float32(_LOWEST_MV),
        least_noise=jnp.float32(_LEAST_NOISE * typical),
        to_zero=to_zero,
    )


def _grid_search(start: np.ndarray, seen: Observed) -> np.ndarray:
    """Return, for each neuron, the most likely parameters on a grid around ``start``.

    The grid search is needed because the likelihood has several maxima.
    """
    best, value = start, np.full(start.shape[1], -np.inf)

    def try_parameters(p: np.ndarray) -> None:
        nonlocal best, value
        found = log_likelihood(p, seen)
        better = found > value
        best, value = np.where(better, p, best), np.where(better, found, value)

    alone = seen.membranes is None
    for threshold in _THRESHOLDS:
        for tau in _TAUS if alone else [0.0]:
            # Scale the noise with the threshold. With membrane potentials, noise and tau are already known.
            try_parameters(start + np.array([threshold, tau, threshold] if alone else [threshold, 0, 0, 0])[:, None])
    if not alone:
        coarse = best
        for threshold in _FINE:
            for noise in _NOISES:
                try_parameters(coarse + np.array([threshold, 0, noise, 0])[:, None])
    return best


def _maximise_posterior(
    p: np.ndarray, seen: Observed, usual: np.ndarray, advance: Callable[[], None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the optimal parameters of each neuron, the negative Hessian at the optimum, and a mask of convergence.

    In each round, one call to L-BFGS optimises all neurons. So that few iterations are enough, the parameters of each
    neuron are whitened with the negative Hessian of its log-posterior. Negative eigenvalues of this matrix are replaced
    by their absolute values, and values below 1 are then set to 1. There are at most ``_ROUNDS`` rounds. They end when
    a Newton step is small compared with the standard errors.
    """
    from scipy.optimize import minimize

    def posterior(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, slope = value_and_gradient(p, seen)
        away = (p[2] - usual) / _PRIOR_STD
        slope[2] -= away / _PRIOR_STD
        return value - 0.5 * away**2, slope

    for last in [False] * _ROUNDS + [True]:
        gradient = posterior(p)[1]
        bend = curvature(p, seen)
        bend[:, 2, 2] += 1 / _PRIOR_STD**2
        sizes, axes = np.linalg.eigh(bend)
        # Use absolute eigenvalues of at least 1. The value 1 corresponds to a standard error of 1 in the logarithm.
        scale = np.sqrt(np.maximum(np.abs(sizes), 1.0))
        whiten = axes / scale[:, None, :]
        steps = np.einsum("nki,kn->in", whiten, gradient)
        left = np.abs(np.einsum("nki,in->kn", whiten, steps)).max(axis=0)
        converged = ((np.abs(steps).max(axis=0) < _CONVERGED) | (left < _CLOSE)) & (sizes.min(axis=1) > 0)
        if last or converged.all():
            break

        # Without weights, the gradient of a neuron far from its optimum would dominate the sum. Weights do not move the
        # optimum of a neuron.
        weight = 1 / np.maximum(1.0, np.abs(steps).max(axis=0))

        def loss(
            y: np.ndarray, p: np.ndarray = p, whiten: np.ndarray = whiten, weight: np.ndarray = weight
        ) -> tuple[float, np.ndarray]:
            moved = p + np.einsum("nki,in->kn", whiten, y.reshape(p.shape))
            value, slope = posterior(moved)
            return -float((weight * value).sum()), -(weight * np.einsum("nki,kn->in", whiten, slope)).ravel()

        # The line search uses the sum over neurons, so without bounds one neuron could diverge.
        reach = (_FURTHEST * scale.T).ravel()
        found = minimize(
            loss,
            np.zeros(p.size),
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([-reach, reach], axis=1),
            options={"maxiter": _STEPS},
        )
        p = p + np.einsum("nki,in->kn", whiten, found.x.reshape(p.shape))
        advance()
    return p, bend, ((np.abs(steps).max(axis=0) < _GOOD) | (left < _NEAR)) & (sizes.min(axis=1) > 0)


def shared_factors(
    runs: LayerRuns, threshold: np.ndarray, tau_steps: np.ndarray, *, to_zero: bool
) -> tuple[float, float]:
    """Fit two factors to all neurons of a layer by maximum likelihood: one of the thresholds, and one of tau."""
    from scipy.optimize import minimize

    seen = _observed_chunks(
        LayerRuns(runs.drive, runs.spikes, None, runs.valid), None, float(np.median(threshold)), to_zero
    )
    start = np.stack([np.log(threshold), np.log(tau_steps), np.log(_NOISE * threshold)])

    def loss(common: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = value_and_gradient(start + common[:, None], seen)
        return -value.sum() / n, -slope.sum(axis=1) / n

    n = max(1.0, float(runs.spikes.sum()))
    grid = [np.array([threshold, tau, threshold]) for threshold in _THRESHOLDS for tau in _TAUS]
    first = max(grid, key=lambda common: log_likelihood(start + common[:, None], seen).sum())
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=[(-3.0, 3.0)] * 3)
    return float(np.exp(found.x[0])), float(np.exp(found.x[1]))


def _regression(runs: LayerRuns, tau_steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Estimate gain, tau (steps) and noise (mV) of each neuron from recorded membrane potentials.

    Also return the read noise (mV), which all neurons share.

    Without a spike or a clamp in step ``t - 1`` or ``t``, ``V[t] = beta V[t-1] + gain I[t]``. In a least-squares fit,
    read noise in ``V[t-1]`` would bias ``beta`` towards zero. So this is an instrumental-variable regression. The
    instrument of ``V[t-1]`` is the membrane potential with nominal parameters and the recorded resets.
    """
    assert runs.membranes is not None
    V, drive, spikes = runs.membranes, runs.drive, runs.spikes
    nominal, decay = np.zeros_like(V), np.exp(-1 / tau_steps).astype(np.float32)
    for t in range(len(V)):
        before = nominal[t - 1] * (1 - spikes[t - 1]) if t else 0.0
        nominal[t] = np.maximum(decay * before + drive[t], 0)
    use = (spikes[1:] == 0) & (V[1:] > _LOWEST_MV) & (V[:-1] > _LOWEST_MV) & (runs.valid[1:, :, None] > 0)
    proxy = nominal[:-1] * (1 - spikes[:-1])

    def total(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sum(a * b * use, axis=(0, 1), dtype=float)

    # There are two equations per neuron, with the instruments `proxy` and `drive`.
    left = np.array([[total(one, V[:-1]), total(one, drive[1:])] for one in (proxy, drive[1:])])
    right = np.array([total(one, V[1:]) for one in (proxy, drive[1:])])
    left = np.moveaxis(left, -1, 0) + 1e-6 * np.eye(2)
    beta, gain = np.linalg.solve(left, right.T[..., None])[..., 0].T
    beta, gain = np.clip(beta, 1e-3, 0.9999), np.clip(gain, 0.05, 20)
    error = (V[1:] - beta * V[:-1] - gain * drive[1:]) * use
    counted = np.maximum(use.sum(axis=(0, 1)), 1)
    variance = np.sum(error**2, axis=(0, 1)) / counted
    pairs = np.maximum((use[1:] & use[:-1]).sum(axis=(0, 1)), 1)
    # The read noise of one step also appears in the error of the next step, multiplied by -beta.
    read = np.median(-np.sum(error[1:] * error[:-1], axis=(0, 1)) / pairs / beta)
    read = max(float(read), _LEAST_READ_MV**2)
    noise = np.sqrt(np.maximum(variance - (1 + beta**2) * read, 0.01))
    return gain, -1 / np.log(beta), noise, float(np.sqrt(read))
