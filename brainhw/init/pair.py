"""Draw the weights of one (synapse, layer) pair so that its membranes fluctuate below threshold and all fire."""

from __future__ import annotations

import dataclasses
import math

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw.init.kernel import measure_kernel
from brainhw.init.moments import input_moments, membrane_basis
from brainhw.init.report import LayerReport
from brainhw.nn import H1Layer, H1Synapse

__all__ = ["FluctSettings", "PairInitializer"]

_FLOOR = 0.1  # spread kept when the budget is spent, as a share of the mean weight
_MARGIN = 1.1  # added to the smallest mean that wakes every neuron
_MIN_REC_RATE = 0.5  # Hz: a nearly silent layer would otherwise ask for unbounded recurrent weights
_CALIBRATION_ROUNDS = 5
_CALIBRATION_STOP = 0.03
_ENOUGH_SPIKES = 4.0  # per neuron over the data, to speak of a neuron that is silent by chance
_SPREADS_IN_RANGE = 3.0  # standard deviations that fit into the weight range when it is to be kept


@dataclasses.dataclass(frozen=True)
class FluctSettings:
    """What the user asked for.

    Attributes
    ----------
    xi, alpha : float
        Distance to threshold in standard deviations; feed-forward share of the variance.
    center : bool or 'auto'
        Take the mean input out of every weight column.
    exact : bool
        Predict the variance from the filtered input, else from its second moment.
    in_range : bool
        Never draw a weight that the chip cannot take.
    """

    xi: float
    alpha: float
    center: bool | str
    exact: bool
    in_range: bool


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """Weights drawn for one mean membrane, and what the layer did with them."""

    mu_U: float
    mu_W: np.ndarray
    sigma_FF: np.ndarray
    sigma_RC: np.ndarray | None
    exhausted: np.ndarray
    weight: jax.Array
    recurrent: jax.Array | None
    spikes: jax.Array
    counts: np.ndarray

    @property
    def dead(self) -> int:
        return int(np.sum(self.counts == 0))

    def all_awake(self, *, allow_chance: bool) -> bool:
        """Whether no neuron is silent, or with ``allow_chance`` no more of them than the little data explain.

        Neurons that all fire at the mean rate of the layer leave some silent on short data. Their counts scatter more
        than Poisson's, hence the half in the exponent. A layer that hardly fires at all has no such excuse.
        """
        per_neuron = float(self.counts.mean())
        excused = allow_chance and per_neuron >= _ENOUGH_SPIKES
        return self.dead <= (len(self.counts) * math.exp(-0.5 * per_neuron) if excused else 0.0)


class PairInitializer:
    """Finds the weights of one pair.

    Parameters
    ----------
    synapse, layer : H1Synapse, H1Layer
        The pair; written to while searching.
    x : numpy.ndarray
        Input of the pair, ``[B, T, N]``.
    dt : Quantity
        Time step.
    settings : FluctSettings
        Target and options.
    key : jax.Array
        Source of the random numbers: the same numbers serve every mean that is tried, so that the search sees a
        smooth function.
    """

    def __init__(
        self,
        synapse: H1Synapse,
        layer: H1Layer,
        x: np.ndarray,
        dt: u.Quantity,
        settings: FluctSettings,
        key: jax.Array,
    ) -> None:
        self.synapse, self.layer, self.settings = synapse, layer, settings
        self.xs = jnp.asarray(np.swapaxes(x, 0, 1))
        self.dt = float(dt.to(u.second).mantissa)
        self.kernel = measure_kernel(layer, layer.chip, dt)
        self.moments = input_moments(x, self.dt)
        self.theta = np.broadcast_to(np.asarray(layer.threshold().to(u.mV).mantissa), (layer.n_neurons,)).astype(float)
        key_ff, key_rc = jax.random.split(key)
        self.direction = self._mean_direction()
        self.basis = membrane_basis(x, self.kernel, self.moments, exact=settings.exact, direction=self.direction)
        self.z_ff = _centred(jax.random.normal(key_ff, synapse.weight.value.shape), self.direction)
        self.z_rc = jax.random.normal(key_rc, (layer.n_neurons,) * 2) if layer.topology == "RC" else None
        # Correction of each neuron's spread for what the prediction leaves out: the bend of the charge curve, the
        # luck of one draw with few inputs.
        self.gain = np.ones(layer.n_neurons)
        self.lifted = np.ones(layer.n_neurons, dtype=bool)
        self.nu_rec = 0.0
        self.evaluations = 0
        self._run = brainstate.transform.jit(self._run_layer)
        self._measure_sd = brainstate.transform.jit(self._subthreshold_sd)

    def solve(self, index: int) -> tuple[LayerReport, np.ndarray]:
        """Search, leave the weights in place, and return the report and the output spikes ``[B, T, n]``."""
        self._calibrate()
        best = self._with_recurrent_rate(0.0)
        if not self._awake(best) and self._mean_is_a_lever():
            if self.direction is not None:
                # Neurons that fire stay where they are; the vendor's rule lifts all of them for a single silent one.
                self.lifted = best.counts == 0
            best = self._search(best)
        self.synapse.weight.value = best.weight
        if best.recurrent is not None:
            self.layer.recurrent_weight.value = best.recurrent
        weights = [np.asarray(w) for w in (best.weight, best.recurrent) if w is not None]
        limit = self.layer.chip.weight_limit
        steps = self.xs.shape[0] * self.xs.shape[1]
        report = LayerReport(
            index=index,
            nu_in=self.moments.nu_mean,
            nu_out=float(best.counts.mean()) / (steps * self.dt),
            mu_W=float(best.mu_W.mean()),
            sigma_FF=float(best.sigma_FF.mean()),
            sigma_RC=None if best.sigma_RC is None else float(best.sigma_RC.mean()),
            mu_U=best.mu_U * float(self.lifted.mean()) / 1000.0,
            dead=best.dead,
            saturated=int(np.sum(best.counts > 0.5 * steps)),
            exhausted=int(best.exhausted.sum()),
            out_of_range=sum(int(np.sum(np.abs(w) > limit)) for w in weights),
            largest=max(float(np.abs(w).max()) for w in weights),
            evaluations=self.evaluations,
        )
        return report, np.swapaxes(np.asarray(best.spikes), 0, 1)

    def _awake(self, outcome: _Outcome) -> bool:
        # Without centring a silent neuron is unlucky in its draw, not in the data: the rule takes it at its word.
        return outcome.all_awake(allow_chance=self.direction is not None)

    def _mean_direction(self) -> np.ndarray | None:
        """Return the unit vector of mean input rates if centring is wanted and possible, else ``None``."""
        wanted, moments = self.settings.center, self.moments
        norm = float(np.linalg.norm(moments.rates))
        possible = moments.fan_in >= 2 and norm > 0
        # With few effective inputs nothing is left of a weight column once its mean response is taken out.
        sensible = moments.fan_in >= 8 and moments.participation >= 4
        if wanted is False or not possible or (wanted == "auto" and not sensible):
            return None
        return moments.rates / norm

    def _mean_is_a_lever(self) -> bool:
        """Whether shifting all weights shifts the mean membrane: not so for input that is symmetric about zero."""
        return abs(self.moments.nu_mean) > 0.05 * math.sqrt(self.moments.nu_var / self.dt)

    def _mean_response(self) -> np.ndarray:
        """Mean membrane per unit of mean weight, ``[n]`` in mV."""
        return self.moments.fan_in * self.moments.nu_mean * self.kernel.integral

    def _spreads(self, mu_U: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return ``mu_W``, ``sigma_FF``, which neurons are exhausted, and the variance budget, each ``[n]``."""
        means = np.where(self.lifted, mu_U, 0.0)
        mu_W = means / self._mean_response() if mu_U else np.zeros_like(self.theta)
        budget = (np.maximum(self.theta - means, 0.0) / self.settings.xi) ** 2
        left = (self.settings.alpha * budget - mu_W**2 * self.basis.of_mean) / self.basis.of_spread
        left = left * self.gain**2
        floor = (_FLOOR * mu_W) ** 2
        sigma_FF = np.sqrt(np.maximum(left, floor))
        if self.settings.in_range:
            room = self.layer.chip.weight_limit - np.abs(mu_W)
            sigma_FF = np.minimum(sigma_FF, np.maximum(room, 0.0) / _SPREADS_IN_RANGE)
        return mu_W, sigma_FF, (left <= floor) & self.lifted, budget

    def _draw_and_run(self, mu_U: float) -> _Outcome:
        mu_W, sigma_FF, exhausted, budget = self._spreads(mu_U)
        weight = self._in_range(jnp.asarray(mu_W + sigma_FF * self.z_ff, self.synapse.weight.value.dtype))
        recurrent = sigma_RC = None
        if self.z_rc is not None:
            share = (1 - self.settings.alpha) * budget
            rate = max(self.nu_rec, _MIN_REC_RATE)
            sigma_RC = np.sqrt(share / (self.layer.n_neurons * rate * self.kernel.square_integral))
            if self.settings.in_range:
                sigma_RC = np.minimum(sigma_RC, self.layer.chip.weight_limit / _SPREADS_IN_RANGE)
            recurrent = self._in_range(jnp.asarray(sigma_RC * self.z_rc, weight.dtype))
        spikes = self._run(weight, recurrent, self.xs)
        self.evaluations += 1
        counts = np.asarray(spikes.sum(axis=(0, 1)))
        return _Outcome(mu_U, mu_W, sigma_FF, sigma_RC, exhausted, weight, recurrent, spikes, counts)

    def _in_range(self, weight: jax.Array) -> jax.Array:
        limit = self.layer.chip.weight_limit
        return jnp.clip(weight, -limit, limit) if self.settings.in_range else weight

    def _with_recurrent_rate(self, mu_U: float) -> _Outcome:
        """Draw at ``mu_U``; for a recurrent layer let its own rate, which its weights depend on, settle first."""
        outcome = self._draw_and_run(mu_U)
        if self.z_rc is None or self.settings.alpha == 1:
            return outcome
        steps = self.xs.shape[0] * self.xs.shape[1] * self.dt
        for _ in range(3):
            rate = float(outcome.counts.mean()) / steps
            self.nu_rec = rate if not self.nu_rec else 0.5 * (self.nu_rec + rate)
            outcome = self._draw_and_run(mu_U)
        return outcome

    def _calibrate(self) -> None:
        """Scale the spread of each neuron until its real membrane fluctuates as wanted."""
        if not self.settings.exact:
            return
        # A charge curve that saturates may never reach the target: beyond the weight range there is nothing to gain.
        predicted = self._spreads(0.0)[1]
        most = np.maximum(self.layer.chip.weight_limit / predicted, 1.0)
        for _ in range(_CALIBRATION_ROUNDS):
            mu_W, sigma_FF, _, budget = self._spreads(0.0)
            weight = self._in_range(jnp.asarray(mu_W + sigma_FF * self.z_ff))
            measured = np.asarray(self._measure_sd(weight, self.xs), dtype=float)
            wanted = np.sqrt(self.settings.alpha * budget)
            miss = wanted / np.maximum(measured, 1e-3 * wanted)
            if np.all(np.abs(miss - 1) < _CALIBRATION_STOP):
                return
            self.gain = np.minimum(self.gain * miss, most)

    def _search(self, silent: _Outcome) -> _Outcome:
        """Find the smallest mean membrane at which no neuron is dead, add the margin, and return the best draw seen."""
        response = np.abs(self._mean_response())
        theta = float(self.theta.max())
        reach = 2 * float(np.max(response * self.theta / self.kernel.peak))
        in_range = float(np.min(response)) * self.layer.chip.weight_limit
        ceiling = min(max(4 * theta, reach), in_range)

        best, low, high = silent, 0.0, min(0.05 * theta, ceiling)
        while True:
            outcome = self._draw_and_run(high)
            best = min(best, outcome, key=lambda o: o.dead)
            if self._awake(outcome):
                break
            if high >= ceiling:
                return best
            low, high = high, min(2 * high, ceiling)
        while high - low > 0.01 * high:
            middle = 0.5 * (low + high)
            outcome = self._draw_and_run(middle)
            if self._awake(outcome):
                best, high = outcome, middle
            else:
                low = middle
        outcome = self._with_recurrent_rate(_MARGIN * high)
        return outcome if outcome.dead <= best.dead else best

    def _run_layer(self, weight: jax.Array, recurrent: jax.Array | None, xs: jax.Array) -> jax.Array:
        synapse, layer = self.synapse, self.layer
        synapse.weight.value = weight
        if recurrent is not None:
            layer.recurrent_weight.value = recurrent
        synapse.prepare()
        layer.prepare()
        layer.reset_state(xs.shape[1])
        return brainstate.transform.for_loop(layer.update, synapse.update(xs))

    def _subthreshold_sd(self, weight: jax.Array, xs: jax.Array) -> jax.Array:
        """Return the standard deviation of each membrane over time and batch with spiking and clamp off, ``[n]``."""
        self.synapse.weight.value = weight
        self.synapse.prepare()
        self.layer.prepare()
        dt = self.dt * u.second

        def one_step(V: u.Quantity, charge: u.Quantity) -> tuple[u.Quantity, jax.Array]:
            V = self.layer.integrate(V, charge, dt)
            return V, V.to(u.mV).mantissa

        rest = jnp.zeros((xs.shape[1], self.layer.n_neurons)) * u.mV
        trace = brainstate.transform.scan(one_step, rest, self.synapse.update(xs))[1]
        return jnp.std(trace[min(len(self.kernel.response), len(trace) // 2) :], axis=(0, 1))


def _centred(z: jax.Array, direction: np.ndarray | None) -> np.ndarray:
    """Take the mean-rate direction out of every column of ``z`` and stretch what is left back to unit spread."""
    z = np.asarray(z, dtype=float)
    if direction is None:
        return z
    return (z - np.outer(direction, direction @ z)) / math.sqrt(1 - 1 / len(direction))
