"""Least-squares fit of f-I curves with the expected spike counts of noisy neurons, on arrays without units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import least_squares
from scipy.sparse import csr_matrix

from brainhw._progress import progress_bar
from brainhw.silicon._results import PROGRESS_AFTER
from brainhw.silicon.rate_model import LEAST_NOISE, Counts, expected_counts

__all__ = ["Bar", "RateData", "RateSolution", "rough_tau", "solve_gains", "solve_rates"]

# This variance is added to the variance of each count in the model. Otherwise, the fit would treat counts that are
# locked to the time steps as exact.
_ROUNDING = 0.1
# For each stage of the fit: additional variance of each count as a fraction of the squared number of steps, largest
# number of evaluations, precision. The first stage adds a variance, so that the fit converges from a poor start. Later
# stages use only the variance of the model.
_PLAN = ((1e-4, 10, 1e-3), (0.0, 8, 1e-4), (0.0, 6, 1e-5))
# First value of the search for the standard deviation of the gain, and largest number of rounds of the search.
_FIRST_GAIN = 0.05
_GAIN_ROUNDS = 8
# Bound on the change of the logarithms of threshold, tau and noise. It is far beyond the range that a table can
# determine.
_FARTHEST = 10.0
# Above this number of parameters, a sparse solver is used.
_DENSE = 200


@dataclass(frozen=True)
class RateData:
    """Spike counts of f-I curves, with one row per measurement.

    ``neuron`` and ``setting`` are indices. ``inputs`` is the number of active synapses, and ``charge`` is the charge
    per spike of a synapse in fC. ``count`` is the number of spikes in ``n_steps`` steps of ``dt`` ms. ``subtract`` is
    true if a spike subtracts the threshold from the membrane potential.
    """

    neuron: np.ndarray
    setting: np.ndarray
    inputs: np.ndarray
    charge: np.ndarray
    n_steps: np.ndarray
    count: np.ndarray
    dt: float
    subtract: bool

    @property
    def drive(self) -> np.ndarray:
        """Charge per step in each measurement, in fC."""
        return self.inputs * self.charge


@dataclass
class RateSolution:
    """Result of a fit of f-I curves.

    ``theta [N]`` is the threshold charge in fC, ``tau [S, N]`` is in ms, and ``noise`` is in fC. Errors are relative.
    ``mean`` and ``variance`` are the mean and the variance of each count in the model. ``excess`` is the variance of
    the counts around the fit, divided by the variance in the model. ``chance`` is the p-value of ``excess`` in a
    chi-square test. ``cost`` is the sum of all squared residuals. ``gain_std`` is the relative standard deviation of
    the gain of the synapses that drive a neuron. ``determined`` marks the neurons whose curves determine a threshold,
    because at least one rate is between zero and one spike per step.
    """

    theta: np.ndarray
    error: np.ndarray
    tau: np.ndarray
    tau_error: np.ndarray
    noise: float
    noise_error: float
    mean: np.ndarray
    variance: np.ndarray
    excess: float
    chance: float
    cost: float
    gain_std: float
    determined: np.ndarray
    notes: list[str] = field(default_factory=list)

    def enlarge(self, factor: float) -> None:
        """Multiply all errors by a factor."""
        self.error, self.tau_error = factor * self.error, factor * self.tau_error
        self.noise_error *= factor


def solve_rates(
    data: RateData, prior: tuple[np.ndarray, np.ndarray] | None, bar: Bar
) -> tuple[np.ndarray, RateSolution]:
    """Fit the f-I curves with the same gain for all synapses. Return the fitted parameters and the solution.

    ``prior`` contains log tau from decays and its error, each ``[S, N]``, with NaN for unknown values.
    """
    problem = _Problem(data, prior)
    p = problem.start()
    for wide, most, precision in _PLAN:
        problem.set_weights(p, wide)
        p = problem.optimise(p, most, precision, bar)
    problem.set_weights(p, 0.0)
    return problem.bounded(p), problem.solution(p)


def solve_gains(data: RateData, prior: tuple[np.ndarray, np.ndarray] | None, p: np.ndarray, bar: Bar) -> RateSolution:
    """Fit the f-I curves with a separate gain for each synapse that drives a neuron.

    The fit starts from the parameters ``p`` that `solve_rates` returned.
    """
    gain = _FIRST_GAIN
    problem = _Problem(data, prior, gain)
    problem.center = np.concatenate([p[:-1], np.zeros(problem.deviations), p[-1:]])
    p = problem.center
    for wide in (1e-4, *(0.0,) * _GAIN_ROUNDS):
        problem.set_weights(p, wide)
        p = problem.optimise(p, 8, 1e-4, bar)
        new = float(np.clip(problem.next_gain(p), 1e-4, 1.0))
        settled, gain = abs(new - gain) < 0.03 * gain, new
        problem = problem.with_gain(gain)
        # The deviations are in units of the standard deviation, so convert them to the new standard deviation.
        xi = slice(-1 - problem.deviations, -1)
        p = np.concatenate([p[: xi.start], p[xi] * (problem.old_gain / gain), p[-1:]])
        if settled and not wide:
            break
    problem.set_weights(p, 0.0)
    p = problem.optimise(p, 8, 1e-5, bar)
    problem.set_weights(p, 0.0)
    return problem.solution(p)


def rough_tau(data: RateData, log_tau: np.ndarray) -> np.ndarray:
    """Return, for each neuron, the value of ``log_tau`` whose noise-free f-I curve fits best, ``[N]``.

    The f-I curves must all have the same leak setting.
    """
    return _Problem(data, None).scan(np.exp(log_tau))[1][0]


class Bar:
    """Progress bar over evaluations of the model. It appears after some seconds."""

    def __init__(self, shown: bool) -> None:
        # Number of evaluations if the first fit is good and no other fit follows.
        total = sum(most for _, most, _ in _PLAN)
        self._bar = progress_bar(total, desc="f-I curves", shown=shown, delay=PROGRESS_AFTER, leave=False)

    def step(self) -> None:
        """Count one evaluation."""
        self._bar.update()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()


class _Problem:
    """Least-squares problem of a fit of f-I curves: parameters, residuals, Jacobian and solution."""

    def __init__(self, data: RateData, prior: tuple[np.ndarray, np.ndarray] | None, gain: float = 0.0) -> None:
        self.data, self.given, self.gain, self.old_gain = data, prior, gain, gain
        self.n, self.s = int(data.neuron.max()) + 1, int(data.setting.max()) + 1
        shape = (self.s, self.n)
        self.prior = np.full(shape, np.nan) if prior is None else prior[0]
        self.prior_error = np.full(shape, np.nan) if prior is None else prior[1]
        self.tied = np.isfinite(self.prior) & np.isfinite(self.prior_error)
        # Mask of the pairs of setting and neuron that have rows. If a pair has neither rows nor a decay, its tau keeps
        # the start value.
        self.measured = np.zeros(shape, bool)
        self.measured[data.setting, data.neuron] = True
        self.rows = [np.flatnonzero(data.neuron == i) for i in range(self.n)]
        self.root = np.ones(data.count.size)
        # The curve of a neuron that is always silent or fires in every step does not show its threshold.
        between = (data.count > 0) & (data.count < data.n_steps)
        self.determined = np.bincount(data.neuron[between], minlength=self.n) > 0
        # With n inputs, the first n synapses are active. The synapses between two consecutive input counts are
        # always active together, so the sum of their gain deviations is one normal number for each neuron.
        levels, at = np.unique(np.concatenate([[0.0], data.inputs]), return_inverse=True)
        self.reach = np.tri(levels.size, levels.size - 1, -1) * np.sqrt(np.diff(levels))
        self.level, self.deviations = at[1:], (levels.size - 1) * self.n if gain else 0
        self.center = np.zeros(self.n * (1 + self.s) + self.deviations + 1)
        self._cache: tuple[bytes, Any] = (b"", None)
        self.cached_rows: np.ndarray | None = None
        self.sensitive = np.ones(data.count.size, bool)

    def with_gain(self, gain: float) -> _Problem:
        """Return a copy of the problem with a different standard deviation of the gain."""
        other = _Problem(self.data, self.given, gain)
        other.old_gain, other.center = self.gain, self.center
        return other

    # Parameters: log threshold charge [N], log tau [S * N], deviations of the gains [N * K], log noise charge.
    def split(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        p = self.bounded(p)
        return p[: self.n], p[self.n : self.n * (1 + self.s)].reshape(self.s, self.n), float(p[-1])

    def bounded(self, p: np.ndarray) -> np.ndarray:
        """Clip the parameters to bounds around their start values, so that undetermined parameters do not diverge."""
        return np.clip(p, self.center - _FARTHEST, self.center + _FARTHEST)

    def drive(self, p: np.ndarray) -> np.ndarray:
        """Return the charge per step in each measurement, in fC, with the gain deviations in ``p``."""
        data = self.data
        if not self.deviations:
            return data.drive
        xi = p[-1 - self.deviations : -1].reshape(self.n, -1)[data.neuron]
        return np.asarray(data.charge * (data.inputs + self.gain * (self.reach[self.level] * xi).sum(1)))

    def start(self) -> np.ndarray:
        """Return the start parameters of the fit. For each neuron, a grid search over noise-free curves finds them."""
        known = self.prior[self.tied]
        taus = (
            np.exp(np.quantile(known, np.linspace(0, 1, 12)))
            if known.size
            else np.geomspace(1.5, 300.0, 24) * self.data.dt
        )
        log_theta, log_tau = self.scan(taus)
        log_tau = np.where(self.tied, self.prior, log_tau)
        self.center = np.concatenate([log_theta, log_tau.ravel(), [np.median(log_theta) + np.log(0.02)]])
        return self.center

    def scan(self, taus: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log threshold ``[N]`` and log tau ``[S, N]`` of the best noise-free curves on a grid."""
        data = self.data
        largest, least = data.drive.max(), data.drive[data.drive > 0].min()
        theta = np.geomspace(0.5 * least, 4 * largest, 160)
        # Each distinct drive is simulated once for all neurons.
        drives, place = np.unique(data.drive, return_inverse=True)
        rate = _noise_free_rates(drives[:, None, None] / theta[:, None], np.exp(-data.dt / taus), data.subtract)
        log_theta, log_tau = np.zeros(self.n), np.zeros((self.s, self.n))
        for i, rows in enumerate(self.rows):
            misfit = np.zeros((self.s, theta.size, taus.size))
            for row in rows:
                misfit[data.setting[row]] += np.abs(rate[place[row]] - data.count[row] / data.n_steps[row])
            # Each setting has its own tau, so find the best tau for each threshold, then the best threshold.
            at = int(np.argmin(misfit.min(2).sum(0)))
            log_theta[i] = np.log(theta[at])
            log_tau[:, i] = np.log(taus[np.argmin(misfit[:, at], axis=1)])
        return log_theta, log_tau

    def evaluate(self, p: np.ndarray, every: bool = False) -> tuple[Counts, np.ndarray, np.ndarray, np.ndarray]:
        """Return the counts and their derivatives with respect to log threshold, log tau and log noise.

        If ``every`` is true, all rows are computed. Otherwise, rows whose counts hardly depend on the parameters keep
        the counts from the last call to `set_weights`.
        """
        key = p.tobytes()
        if every or self._cache[0] != key:
            data, row = self.data, slice(None) if every or self.cached_rows is None else self.sensitive
            theta, log_tau, noise = self.split(p)
            m = self.drive(p) / np.exp(theta)[data.neuron]
            s = np.exp(noise - theta)[data.neuron]
            tau = np.exp(log_tau[data.setting, data.neuron])
            beta = np.exp(-data.dt / tau)
            found = np.array(expected_counts(m[row], beta[row], s[row], data.n_steps[row], subtract=data.subtract))
            if self.cached_rows is None or every:
                self.cached_rows = found
            else:
                found, some = self.cached_rows.copy(), found
                found[:, row] = some
            counts = Counts(*found)
            by_noise = counts.by_noise * s
            self._cache = (
                key,
                (counts, -counts.by_drive * m - by_noise, counts.by_beta * beta * data.dt / tau, by_noise),
            )
        return self._cache[1]

    def set_weights(self, p: np.ndarray, wide: float) -> None:
        """Set the weight of each row from the variance of its count at ``p``.

        The squared number of steps times ``wide`` is added to the variance.
        """
        counts, by_theta, by_tau, by_noise = self.evaluate(p, every=True)
        # A row is sensitive if its count changes by more than this when the parameters change by 5 %.
        self.sensitive = 0.05 * (np.abs(by_theta) + np.abs(by_tau) + np.abs(by_noise)) > (1e-4 if self.gain else 0.01)
        self.root = self.determined[self.data.neuron] / np.sqrt(
            counts.variance + _ROUNDING + wide * self.data.n_steps**2
        )

    def residuals(self, p: np.ndarray) -> np.ndarray:
        counts, *_ = self.evaluate(p)
        tied = (self.split(p)[1] - self.prior)[self.tied] / self.prior_error[self.tied]
        return np.concatenate([(counts.mean - self.data.count) * self.root, tied, p[p.size - 1 - self.deviations : -1]])

    def jacobian(self, p: np.ndarray) -> Any:
        _, by_theta, by_tau, by_noise = self.evaluate(p)
        data, size = self.data, self.data.count.size
        row, tied = np.arange(size), np.flatnonzero(self.tied.ravel())
        at = np.concatenate([row, row, row, size + np.arange(tied.size)])
        of_tau = self.n + data.setting * self.n + data.neuron
        to = np.concatenate([data.neuron, of_tau, np.full(size, p.size - 1), self.n + tied])
        values = [by_theta * self.root, by_tau * self.root, by_noise * self.root, 1.0 / self.prior_error.ravel()[tied]]
        size += tied.size
        if self.deviations:
            per = self.evaluate(p)[0].by_drive * data.charge / np.exp(self.split(p)[0])[data.neuron]
            of_row = (per * self.root * self.gain)[:, None] * self.reach[self.level]
            first = self.n * (1 + self.s)
            row, step = np.nonzero(of_row)
            own = np.arange(self.deviations)
            at = np.concatenate([at, row, size + own])
            to = np.concatenate([to, first + data.neuron[row] * of_row.shape[1] + step, first + own])
            values = [*values, of_row[row, step], np.ones(own.size)]
            size += own.size
        matrix = csr_matrix((np.concatenate(values), (at, to)), shape=(size, p.size))
        return matrix if p.size > _DENSE else matrix.toarray()

    def next_gain(self, p: np.ndarray) -> float:
        """Return a new estimate of the standard deviation of the gain.

        The new variance is the sum of the squared gain deviations, divided by the effective number of deviations that
        the data determine (D. J. C. MacKay, Neural Comput. 4, 415, 1992).
        """
        first = self.n * (1 + self.s)
        xi, error = p[first:-1], self.errors(p)[first:-1]
        return float(self.gain * np.sqrt(np.sum(xi**2) / max(np.sum(1 - error**2), 1e-3)))

    def errors(self, p: np.ndarray) -> np.ndarray:
        """Return the standard error of each parameter.

        Only the noise couples the neurons, so the information matrix is inverted for one neuron after the other.
        """
        information = csr_matrix(self.jacobian(p))
        information = (information.T @ information).tocsr()
        steps = self.deviations // self.n
        parts, left = [], float(information[-1, -1])
        for i in range(self.n):
            own = [i, *(self.n * (1 + s) + i for s in range(self.s))]
            own += range(self.n * (1 + self.s) + i * steps, self.n * (1 + self.s) + (i + 1) * steps)
            block = information[own].tocsc()
            # Add a small ridge, because the data may not determine all parameters.
            inverse = np.linalg.inv(block[:, own].toarray() + 1e-9 * np.eye(len(own)))
            tied = block[:, [p.size - 1]].toarray()[:, 0]
            parts.append((own, inverse, inverse @ tied))
            left -= float(tied @ parts[-1][2])
        error = np.full(p.size, np.inf)
        noise = 1.0 / max(left, 1e-12)
        for own, inverse, along in parts:
            error[own] = np.sqrt(np.maximum(np.diag(inverse) + noise * along**2, 0.0))
        error[-1] = np.sqrt(noise)
        return error

    def optimise(self, p: np.ndarray, most: int, precision: float, bar: Bar) -> np.ndarray:
        def residuals(p: np.ndarray) -> np.ndarray:
            bar.step()
            return self.residuals(p)

        found = least_squares(residuals, p, self.jacobian, max_nfev=most, ftol=precision, xtol=1e-6, gtol=1e-12)
        return np.asarray(found.x)

    def solution(self, p: np.ndarray) -> RateSolution:
        counts, *_ = self.evaluate(p)
        theta, tau, noise = self.split(p)
        error = self.errors(p)
        notes = []
        squares = self.residuals(p) ** 2
        misfit = squares[: self.data.count.size]
        # Counts that are locked to the time steps do not show the scatter.
        free = counts.variance > _ROUNDING
        # Each fitted parameter costs one degree of freedom. These are the thresholds of all neurons, and the time
        # constants that no decay determines.
        freedom = max(int(free.sum()) - self.n - int((self.measured & ~self.tied).sum()), 1)
        excess = float(misfit[free].sum() / freedom) if free.any() else 1.0
        if np.exp(noise - np.median(theta)) < LEAST_NOISE * 1.05:
            notes.append(f"the trial noise is below {100 * LEAST_NOISE:g} % of the threshold and too small to measure")
        if self.gain:
            notes.append(f"the driving synapses differ in gain by {100 * self.gain:.2g} % (standard deviation)")
        return RateSolution(
            theta=np.exp(theta),
            error=error[: self.n],
            tau=np.where(self.measured, np.exp(tau), np.nan),
            tau_error=np.where(self.measured, error[self.n : self.n * (1 + self.s)].reshape(self.s, self.n), np.nan),
            noise=float(np.exp(noise)),
            noise_error=float(error[-1]),
            mean=counts.mean,
            variance=counts.variance + _ROUNDING,
            excess=excess,
            chance=float(stats.chi2.sf(excess * freedom, freedom)),
            cost=float(squares.sum()),
            gain_std=self.gain,
            determined=self.determined,
            notes=notes,
        )


def _noise_free_rates(m: np.ndarray, beta: np.ndarray, subtract: bool, n_steps: int = 200) -> np.ndarray:
    """Return the number of spikes per step without noise.

    ``m [D, A, 1]`` is the drive in units of the threshold, and ``beta [B]`` the decay factor of a step.
    """
    m = np.broadcast_to(m, (*m.shape[:-1], beta.size))
    V, spikes = np.zeros(m.shape, np.float32), np.zeros(m.shape, np.float32)
    for _ in range(n_steps):
        V = np.maximum(beta * V + m, 0.0)
        fired = V >= 1.0
        spikes += fired
        V = np.where(fired, np.maximum(V - 1.0, 0.0) if subtract else 0.0, V)
    return np.asarray(spikes / n_steps)
