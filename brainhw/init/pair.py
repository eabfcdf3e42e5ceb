"""Draw weights of a (synapse, layer) pair so that membrane potentials fluctuate below threshold and neurons fire."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from brainhw.init.circuit import Circuit, Meter
from brainhw.init.response import (
    InputMoments,
    MembraneBasis,
    Response,
    membrane_basis,
    participation,
    silent_fraction,
)

__all__ = ["MISS_TOLERANCE", "Draw", "FluctSettings", "MeasuredInitializer", "PairInitializer", "rise_steps"]

_LEVELS = 8  # number of mean membrane potentials tried to meet the target within the weight range
_FLOOR = 0.1  # smallest standard deviation, as a fraction of the mean, if the mean uses up the variance (vendor's rule)
_MARGIN = 1.1  # factor on the smallest mean weight with which every neuron fires (vendor's rule)
_RESOLUTION = 0.01  # relative resolution of the search for the mean
_MIN_REC_RATE = 0.5  # Hz; at lower rates the recurrent weights would grow without bound
_REC_ROUNDS = 4  # damped fixed-point iterations; 3 to 4 reach a recurrent fraction of 0.11-0.22 for alpha 0.85-0.9
_REC_CHANGE = 4.0  # largest total factor by which measurements may correct the recurrent standard deviation
_CALIBRATION_ROUNDS = 5
_CALIBRATION_STOP = 0.03
_MEASURED_ROUNDS = 12
_MEASURED_STOP = 0.01
# Least growth of the fluctuations if the standard deviation of the weights doubles. The fluctuations double in a linear
# path, and stay the same behind a normalisation.
_LEAST_GROWTH = 1.2
# The standard deviation may always be corrected up to this factor, because a single draw deviates from the expected
# value.
_MOST_GAIN = 1.3
_ENOUGH_SPIKES = 4.0  # with at least this mean spike count, a silent neuron may be explained by Poisson statistics
MISS_TOLERANCE = 0.1  # the target is missed if the relative deviation exceeds this value
_LEAST_VARIANCE_KEPT = 0.01  # centring must leave at least this fraction of the variance
_LIMIT_DISTANCE_SDS = 3.0  # least distance of the mean weight from the limit, in standard deviations
_LEAST_RELATIVE_SD = 0.01  # smallest standard deviation relative to the mean, if a neuron fires only near the limit
_FEW_INPUTS = 8  # with at most this many inputs, the weights and not chance decide whether a neuron is silent


@dataclasses.dataclass(frozen=True)
class FluctSettings:
    """Checked arguments of ``fluct_init``."""

    xi: float
    alpha: float
    center: bool | str
    exact: bool  # True: variance from the filtered input, corrected by measurement. False: from the second moment
    in_range: bool | str  # 'auto': keep weights in range if every neuron then fires


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """Mean and standard deviation of the weights, computed for one value of the mean membrane potential.

    The values have no unit. If weights are voltages, they are in mV.
    """

    mu_W: np.ndarray
    sigma_FF: np.ndarray
    sigma_RC: np.ndarray | None
    exhausted: np.ndarray


@dataclasses.dataclass(frozen=True)
class Draw:
    """Weights drawn for one value of the mean membrane potential, and the resulting spikes."""

    level: float  # mean membrane potential of units with a raised mean, as a multiple of the threshold
    mu_U: np.ndarray  # target of the mean membrane potential of each unit, in mV
    sizes: _Sizes
    weight: jax.Array
    recurrent: jax.Array | None
    spikes: jax.Array  # ``[T, B, n_neurons]``
    counts: np.ndarray  # spikes of each unit, summed over the data

    @property
    def dead(self) -> int:
        """Number of units that never fire on the data."""
        return int(np.sum(self.counts == 0))


class PairInitializer:
    """Find the initial weights of one (synapse, layer) pair.

    ``x`` is the input ``[B, T, N]``. The search tries several mean membrane potentials, called levels. To *lift* a
    neuron means to raise its mean membrane potential by a nonzero mean weight. All trials use the same random values,
    so the result is a smooth function of the level. Each trial calls one compiled function, and leaves its weights in
    the network.
    """

    def __init__(
        self,
        circuit: Circuit,
        x: np.ndarray,
        response: Response,
        moments: InputMoments,
        settings: FluctSettings,
        key: jax.Array,
    ) -> None:
        self.circuit, self.response, self.moments = circuit, response, moments
        self.settings = dataclasses.replace(settings, in_range=bool(settings.in_range) and circuit.has_weight_limit)
        # Membrane variance that does not come from the drawn weights, but from other synapses and skip connections.
        self.rest_variance: np.ndarray | float = 0.0
        self.theta = circuit.median_per_unit(circuit.threshold()) - response.offset
        self.direction = self._direction(moments.rates)
        self.basis = self._basis(x, self.direction)
        if settings.center == "auto" and self.basis.variance_kept < _LEAST_VARIANCE_KEPT:
            # The inputs are nearly proportional to each other, so centring would remove nearly all of their variance.
            self.direction = None
            self.basis = self._basis(x, None)
        key_ff, key_rc = jax.random.split(key)
        n_in, n_columns, n = circuit.n_in, circuit.n_columns, circuit.n_units
        self.z_ff = _centred(jax.random.normal(key_ff, (n_in, n_columns)), self.direction)
        self.z_rc = _normal_like(key_rc, circuit.recurrent)
        self.meter = Meter(circuit, jnp.asarray(np.swapaxes(x, 0, 1)), rise_steps(response))
        self._start_search(n)

    def _start_search(self, n: int) -> None:
        """Reset the attributes that the search changes. ``n`` is the number of units."""
        # Factor on the standard deviation of the weights of each unit. It corrects for effects that the prediction
        # omits: a nonlinear charge curve, a random draw with few inputs, and data that are not stationary.
        self.gain = np.ones(n)
        self.gain_rc = 1.0
        self.lifted = np.ones(n, dtype=bool)
        self.base = 0.0  # mean membrane potential of neurons that are not lifted, as a multiple of the threshold
        self.silent_in_range = 0  # neurons that were silent with weights in range, if such weights were tried
        self.nu_rec = 0.0

    @property
    def can_fluctuate(self) -> bool:
        """Whether the input makes the membrane potentials fluctuate, also after centring."""
        return bool(np.all(self.basis.of_spread > 0)) and self.basis.variance_kept >= _LEAST_VARIANCE_KEPT

    def solve(self) -> Draw:
        """Search for weights, write them to the network, and return them with the spikes that they cause."""
        self._calibrate()
        self.base = self._level_in_range()
        best = self._draw_with_recurrence(self.base)
        if not self.enough_neurons_fire(best) and self.moments.has_mean_input:
            if self.direction is not None:
                # Lift only silent neurons. The vendor's rule lifts all neurons if any neuron is silent.
                self.lifted = best.counts == 0
            best = self._search(best)
            if self.settings.in_range and best.dead:
                best = self._raise_to_limit(best)
        self.circuit.store(best.weight, best.recurrent)
        return best

    @property
    def has_few_inputs(self) -> bool:
        """Whether the fan-in is so small that the mean input, and not its fluctuations, makes neurons fire."""
        return self.circuit.n_in <= _FEW_INPUTS

    def meets_target(self, draw: Draw) -> bool:
        """Return whether a draw meets the target ``xi`` and the variance fraction ``1 - alpha`` of recurrent input."""
        measured = self.meter.measure(draw.weight, draw.recurrent, draw.spikes)
        if abs(float(np.median(measured.xi(self.circuit.threshold()))) / self.settings.xi - 1) > MISS_TOLERANCE:
            return False
        share = 1 - self.settings.alpha
        if measured.sd_RC is None or not share:
            return True
        return 0.5 * share <= float(np.mean(measured.sd_RC**2) / np.mean(measured.sd**2)) <= 2 * share

    def reason_for_miss(self, xi: float) -> str:
        """Return the reason why the median ``xi`` misses the target, or an empty string if the reason is unknown."""
        return ""

    def _basis(self, x: np.ndarray, direction: np.ndarray | None) -> MembraneBasis:
        n_synapses, exact = self.circuit.n_synapses, self.settings.exact
        return membrane_basis(x, self.response, self.moments, n_synapses, exact=exact, direction=direction)

    def enough_neurons_fire(self, draw: Draw) -> bool:
        """Return whether chance explains the number of silent neurons, for data of this length.

        Without centring, or with few inputs, no neuron may be silent.
        """
        if self.direction is None or self.has_few_inputs or draw.dead == 0:
            return draw.dead == 0
        # The expected fraction of silent neurons is computed for neurons at the target. If neurons fire enough, a
        # second estimate is the fraction of Poisson neurons without a spike. The larger estimate is used. Real spike
        # counts vary more than Poisson counts, hence the factor 0.5 in the exponent.
        seconds = self.meter.steps * self.moments.dt * self.circuit.positions
        floor = 0.0 if self.circuit.clamped else None
        share = silent_fraction(
            self.settings.xi, self.basis.step_correlation, self.moments.dt, seconds, mean_above_floor=floor
        )
        per_neuron = float(draw.counts.mean())
        if per_neuron >= _ENOUGH_SPIKES:
            share = max(share, math.exp(-0.5 * per_neuron))
        n = len(draw.counts)
        # Allow the expected number plus two binomial standard deviations.
        return draw.dead <= n * share + 2 * math.sqrt(n * share * (1 - share))

    def _direction(self, rates: np.ndarray) -> np.ndarray | None:
        """Return the vector of mean input rates, normalised to length 1; ``None`` if weights are not centred."""
        # The paper's formula predicts the variance of one neuron over time. But neurons also differ in their mean,
        # because each has its own random weights. For a double-exponential response, the variance of the means over
        # neurons is 2 nu (tau_m + tau_s) times the variance over time, for example 6 times at 100 Hz. Neurons with a
        # low mean are then silent. Centring removes the variance of the means.
        norm = float(np.linalg.norm(rates))
        if self.settings.center is False or len(rates) < 2 or norm == 0:
            return None
        # With few effective inputs, centring would remove nearly all of a weight column.
        few = len(rates) < 8 or participation(rates) < 4
        return None if self.settings.center == "auto" and few else rates / norm

    def _sizes(self, level: float) -> tuple[np.ndarray, _Sizes]:
        """Return the target mean membrane potentials, and the sizes of the weights that meet these targets.

        The sizes are the mean and the standard deviation of the weights. ``level`` is the mean membrane potential of
        lifted neurons, as a multiple of the threshold.
        """
        # Rossbroich et al. (2022), solved for the weights. The measured basis replaces n nu eps_bar and
        # n nu eps_hat:  mu_W = mu_U / (n nu eps_bar),
        #                sigma_W^2 = alpha ((V_th - mu_U) / xi)^2 / (n nu eps_hat) - mu_W^2.
        xi, alpha, n_synapses = self.settings.xi, self.settings.alpha, self.circuit.n_synapses
        mu_U = np.where(self.lifted, level, self.base) * self.theta
        budget = (np.maximum(self.theta - mu_U, 0.0) / xi) ** 2
        mu_W, of_mean = np.zeros(self.circuit.n_columns), np.zeros_like(mu_U)
        if np.any(mu_U):
            mu_W = self.circuit.per_column(mu_U) / (n_synapses * self.basis.mean_response)
            of_mean = mu_U**2 * self.basis.of_mean
        left = self.circuit.per_column((alpha * budget - of_mean - self.rest_variance) * self.gain**2)
        left = left / (n_synapses * self.basis.of_spread)
        floor = (_FLOOR * mu_W) ** 2
        if np.any(self.rest_variance):
            # Other inputs may already exceed the variance of the target. The unit then keeps a tenth of the standard
            # deviation that it would have without these inputs.
            floor = np.maximum(
                floor, _FLOOR**2 * self.circuit.per_column(alpha * budget) / (n_synapses * self.basis.of_spread)
            )
        sigma_FF = np.sqrt(np.maximum(left, floor))
        sigma_RC = None
        if self.z_rc is not None:
            # The same equation for the fraction 1 - alpha, with the firing rate of the layer instead of its input rate.
            # With the input rate, the measured recurrent fraction was 0.001 to 0.13 instead of the target of 0.10 to
            # 0.15.
            rate = max(self.nu_rec, _MIN_REC_RATE)
            per_weight = self.circuit.n_neurons * rate * n_synapses * self.response.square_integral
            sigma_RC = self.gain_rc * np.sqrt(self.circuit.per_column((1 - alpha) * budget) / per_weight)
        exhausted = self.circuit.any_of_unit(left <= floor) & ((mu_U > 0) | (self.rest_variance > 0))
        if self.settings.in_range:
            # Use as large a standard deviation as the range allows, because learning needs neurons that differ.
            # `_level_in_range` then sets the mean.
            limit = self.circuit.weight_limit
            wanted = self.circuit.per_column(math.sqrt(alpha) * self.theta / xi * self.gain)
            wanted = wanted / np.sqrt(n_synapses * self.basis.of_spread)
            # Neurons whose mean was raised to make them fire are driven by their mean input. They only need a small
            # standard deviation, so that their weights differ.
            exhausted &= mu_U > self.base * self.theta
            driven = self.circuit.per_column(exhausted.astype(float)) > 0
            wanted = np.where(driven, np.minimum(wanted, _FLOOR * np.abs(mu_W)), wanted)
            sigma_FF = np.minimum(wanted, np.maximum(limit - np.abs(mu_W), 0.0) / _LIMIT_DISTANCE_SDS)
            sigma_RC = None if sigma_RC is None else np.minimum(sigma_RC, limit / _LIMIT_DISTANCE_SDS)
        return mu_U, _Sizes(mu_W, sigma_FF, sigma_RC, exhausted)

    def _draw(self, level: float) -> Draw:
        mu_U, sizes = self._sizes(level)
        weight = self._to_weight(sizes.mu_W + sizes.sigma_FF * self.z_ff)
        recurrent = None if self.z_rc is None else self._to_weight(sizes.sigma_RC * self.z_rc)
        return self._run_trial(level, mu_U, sizes, weight, recurrent)

    def _run_trial(
        self, level: float, mu_U: np.ndarray, sizes: _Sizes, weight: jax.Array, recurrent: jax.Array | None
    ) -> Draw:
        self.circuit.store(weight, recurrent)
        self.circuit.check_recurrent(recurrent, call="fluct_init")
        spikes = self.meter.run(weight, recurrent)
        counts = self.circuit.total(np.asarray(spikes.sum(axis=(0, 1))))
        return Draw(level, mu_U, sizes, weight, recurrent, spikes, counts)

    def _to_weight(self, weight: np.ndarray) -> jax.Array:
        # The theory assumes zero charge at zero weight. Add the neutral weight to cancel an offset of the charge curve.
        return self._reflect_into_range(weight + self.circuit.neutral_weight)

    def _reflect_into_range(self, weight: np.ndarray) -> jax.Array:
        if self.settings.in_range:
            limit = self.circuit.weight_limit
            # Reflect weights at the limit instead of clipping them, because clipped weights would all be equal.
            weight = np.clip(
                np.where(np.abs(weight) > limit, np.sign(weight) * 2 * limit - weight, weight), -limit, limit
            )
        return jnp.asarray(weight, self.circuit.weight.dtype)

    def _draw_with_recurrence(self, level: float) -> Draw:
        """Draw weights for the mean membrane potential ``level``.

        For a recurrent layer, repeat the draw so that the firing rate can converge. The recurrent weights affect the
        rate, and their standard deviation is computed from the rate. With ``exact``, later rounds correct this standard
        deviation with the measured variance that recurrent spikes contribute.
        """
        if self.z_rc is None or self.settings.alpha == 1:
            return self._draw(level)
        if not self.nu_rec:
            self.gain_rc = 0.0  # first measure the rate without recurrent weights
        draw = self._draw(level)
        if not self.gain_rc:
            self.gain_rc = 1.0
            self.z_rc = _centred(self.z_rc, self._direction(draw.counts.astype(float)))
        for _ in range(_REC_ROUNDS):
            rate = float(draw.counts.mean()) / (self.meter.steps * self.moments.dt)
            if not self.nu_rec or not self.settings.exact:
                self.nu_rec = rate if not self.nu_rec else 0.5 * (self.nu_rec + rate)
            elif rate >= _MIN_REC_RATE:
                have = np.mean(self.meter.sd_of_recurrent(draw.weight, draw.recurrent, draw.spikes) ** 2)
                budget = ((self.theta - draw.mu_U) / self.settings.xi) ** 2
                want = (1 - self.settings.alpha) * float(np.mean(budget))
                step = math.sqrt(want / max(float(have), 1e-6 * want))
                # Apply only the square root of the correction. The correction changes the firing rate, so the full
                # correction would cause oscillations.
                self.gain_rc = float(np.clip(self.gain_rc * math.sqrt(step), 1 / _REC_CHANGE, _REC_CHANGE))
            draw = self._draw(level)
        return draw

    def _calibrate(self) -> None:
        """Scale the weights until the measured standard deviation of each membrane potential meets its target."""
        if not self.settings.exact:
            return
        # With a saturating charge curve the target may be out of reach. Limit the correction, because weights beyond
        # the range increase the charge only a little.
        predicted = self._sizes(0.0)[1].sigma_FF.reshape(self.circuit.n_units, -1).max(axis=1)
        most = np.maximum(self.circuit.weight_limit / np.maximum(predicted, 1e-30), _MOST_GAIN)
        wanted = math.sqrt(self.settings.alpha) * self.theta / self.settings.xi
        nonlinear = self.direction is not None and self.circuit.has_nonlinear_charge
        for _ in range(_CALIBRATION_ROUNDS):
            sigma = self._sizes(0.0)[1].sigma_FF
            mean, measured = self.meter.feedforward_moments(self._to_weight(sigma * self.z_ff))
            off = mean - self.response.offset if nonlinear else np.zeros_like(mean)
            # With a linear charge curve, the standard deviation of the potential is proportional to that of the
            # weights, so one step is exact.
            miss = wanted / np.maximum(measured, 1e-3 * wanted)
            if self.circuit.n_in == 1:
                # With one weight per neuron, a factor for each neuron would make all magnitudes equal.
                miss = np.full_like(miss, np.median(miss))
            if np.all(np.abs(miss - 1) < _CALIBRATION_STOP) and np.all(np.abs(off) < _CALIBRATION_STOP * self.theta):
                return
            self._recentre(off, sigma)
            self.gain = np.minimum(self.gain * miss, most)

    def _recentre(self, off: np.ndarray, sigma: np.ndarray) -> None:
        """Remove the mean membrane potentials that a nonlinear charge curve causes even with centred weights."""
        if self.direction is None or not np.any(off):
            return
        norm = float(np.linalg.norm(self.moments.rates))
        response = self.circuit.n_synapses * norm * self.response.response.sum(axis=0) * sigma
        self.z_ff = self.z_ff - np.outer(self.direction, self.circuit.per_column(off) / response)

    def _level_in_range(self) -> float:
        """Return the smallest mean membrane potential with which weights in range meet the target.

        It is a multiple of the threshold. The weight range may limit the standard deviation of the weights too much. A
        higher mean membrane potential can compensate for this, because the target is a distance in standard deviations.
        If no mean membrane potential meets the target, return the one that comes closest.
        """
        if not self.settings.in_range or not self.moments.has_mean_input or self._xi(0.0) <= self.settings.xi:
            return 0.0
        # With a mean above threshold, the neurons would be driven by their mean and not by fluctuations.
        ceiling = min(self._highest_in_range(_FLOOR), 1.0)
        levels = np.linspace(0.0, ceiling, _LEVELS + 1)[1:]
        reached = [self._xi(level) for level in levels]
        if min(reached) > self.settings.xi:
            return float(levels[int(np.argmin(reached))])
        high = float(levels[next(i for i, xi in enumerate(reached) if xi <= self.settings.xi)])
        low = high - ceiling / _LEVELS
        while high - low > _RESOLUTION * high:
            middle = 0.5 * (low + high)
            low, high = (low, middle) if self._xi(middle) <= self.settings.xi else (middle, high)
        return high

    def _xi(self, level: float) -> float:
        """Return the median ``xi`` over neurons, for feed-forward weights and the mean membrane potential ``level``."""
        sizes = self._sizes(level)[1]
        mean, sd = self.meter.feedforward_moments(self._to_weight(sizes.mu_W + sizes.sigma_FF * self.z_ff))
        share = math.sqrt(self.settings.alpha)  # recurrent spikes contribute the rest of the variance
        return float(np.median((self.circuit.threshold() - mean) * share / np.maximum(sd, 1e-30)))

    def _highest_in_range(self, spread: float) -> float:
        """Return the mean membrane potential for the largest mean weight in range, as a multiple of the threshold.

        ``spread`` is the standard deviation of the weights as a fraction of the mean. The range must leave a margin for
        it, because with a standard deviation of zero all neurons would be equal.
        """
        response = self.circuit.n_synapses * np.abs(self.basis.mean_response)
        limit = self.circuit.weight_limit / (1 + _LIMIT_DISTANCE_SDS * spread)
        return float(np.min(response / self.circuit.per_column(self.theta))) * limit

    def _raise_to_limit(self, best: Draw) -> Draw:
        """Move the weights of silent neurons step by step towards the weight limit, but do not make them all equal."""
        sign, share = np.sign(self.basis.mean_response), norm.cdf(self.z_ff)
        for room in (0.1, 0.01, 0.001):
            silent = self.circuit.per_column((best.counts == 0).astype(float)) > 0
            edge = sign * self.circuit.weight_limit * (1 - room * share)
            weight = np.where(silent, edge, np.asarray(best.weight, float))
            sizes = dataclasses.replace(
                best.sizes,
                mu_W=np.where(silent, edge.mean(axis=0), best.sizes.mu_W),
                sigma_FF=np.where(silent, edge.std(axis=0), best.sizes.sigma_FF),
                exhausted=best.sizes.exhausted | (best.counts == 0),
            )
            draw = self._run_trial(best.level, best.mu_U, sizes, self._reflect_into_range(weight), best.recurrent)
            best = min(best, draw, key=lambda d: d.dead)
            if not best.dead:
                break
        return best

    def _search(self, silent: Draw) -> Draw:
        """Find the smallest mean membrane potential with which all neurons fire, and return a draw 10 % above it."""
        # The ceiling must let a single input reach threshold. With in_range, the ceiling must also keep the mean weight
        # in the range of the chip.
        response = self.circuit.n_synapses * np.abs(self.basis.mean_response)
        reach = 2 * float(np.max(response / self.response.peak))
        ceiling = max(4.0, reach)
        if self.settings.in_range:
            ceiling = min(ceiling, self._highest_in_range(_LEAST_RELATIVE_SD))

        best, low, high = silent, self.base, min(max(0.05, 2 * self.base), ceiling)
        while True:
            draw = self._draw(high)
            # If no level makes all neurons fire, return the draw with the fewest silent neurons.
            best = min(best, draw, key=lambda d: d.dead)
            if self.enough_neurons_fire(draw):
                break
            if high >= ceiling:
                return best
            # Double the level first, because it differs by two orders of magnitude between neuron families.
            low, high = high, min(2 * high, ceiling)
        # Then bisect. The number of silent neurons is not a monotone function of the mean, because the standard
        # deviation decreases as the mean grows. So keep the last draw in which all neurons fire.
        while high - low > _RESOLUTION * high:
            middle = 0.5 * (low + high)
            draw = self._draw(middle)
            if self.enough_neurons_fire(draw):
                best, high = draw, middle
            else:
                low = middle
        # Add 10 %, as in the vendor's rule. If a neuron becomes silent again, return the result of the search instead.
        draw = self._draw_with_recurrence(min(_MARGIN * high, max(high, ceiling)))
        return draw if draw.dead <= best.dead else best


class MeasuredInitializer(PairInitializer):
    r"""Find the weights of a pair that has operations between synapse and layer, or whose neurons share weights.

    No formula predicts the membrane potentials of such a pair, so the search measures them. A run with all weights at
    zero measures the effect of a bias, other synapses and skip connections on mean and variance. A run with one random
    draw measures the response to the standard deviation of the weights. A run with equal weights measures the response
    to their mean. The standard deviation of the weights of each unit is then corrected until the mean :math:`m` and the
    standard deviation :math:`s` of the membrane potential of its median neuron satisfy

    .. math:: V_{th} - m = \xi \, s

    This method also works for nonlinear charge curves, for max pooling, where the mean grows with the standard
    deviation, and for padding, where neurons at the border have fewer inputs. Neurons with a constant drive are
    ignored. ``xs`` is the recorded input of the circuit. ``moments.rates`` has one value for each row of the weights.
    """

    def __init__(
        self,
        circuit: Circuit,
        xs: Any,
        response: Response,
        moments: InputMoments,
        settings: FluctSettings,
        key: jax.Array,
    ) -> None:
        self.circuit, self.moments = circuit, moments
        self.settings = dataclasses.replace(settings, in_range=bool(settings.in_range) and circuit.has_weight_limit)
        self.direction = self._direction(moments.rates)
        key_ff, key_rc = jax.random.split(key)
        shape = (circuit.n_in, circuit.n_columns)
        self.z_ff = _centred(jax.random.normal(key_ff, shape), self.direction)
        self.z_rc = _normal_like(key_rc, circuit.recurrent)
        self.meter = Meter(circuit, xs, rise_steps(response))
        self.rest, rest_sd = self.meter.feedforward_moments(self._to_weight(np.zeros(shape)))
        # The probe must exceed rounding errors, but be small enough for the charge curve to be linear. If another
        # synapse changes the membrane potentials so much that the response to the probe is lost, use a larger probe.
        for share in (0.1, 1.0):
            probe = share * min(circuit.weight_limit, float(circuit.threshold().min()))
            # Probe with the random values of the draw itself, because with few inputs, different random values could
            # have a very different effect.
            probe_sd, later = self.meter.lag_one(self._to_weight(probe * self.z_ff))
            self.responds = probe_sd > 0
            # Over many draws, the response to the drawn weights is uncorrelated with the fluctuations at zero weights.
            # So their variances add.
            own = self._typical(np.maximum(probe_sd**2 - rest_sd**2, 0.0))
            if np.all(own[self._typical(probe_sd) > 0] > 0):
                break
        self.response = dataclasses.replace(response, offset=self._typical(self.rest))
        self.rest_variance = self._typical(rest_sd**2)
        self.theta = self._typical(circuit.threshold() - self.rest)
        # Use equal weights to measure the response to the mean weight. This response is needed to lift silent neurons.
        of_flat, flat_sd = self.meter.feedforward_moments(self._to_weight(np.full(shape, probe)))
        rise = self._typical(of_flat - self.rest)
        of_rise = self._typical(np.maximum(flat_sd**2 - rest_sd**2, 0.0))
        self.basis = MembraneBasis(
            mean_response=circuit.per_column(rise / (probe * circuit.n_synapses)),
            of_mean=np.divide(of_rise, rise**2, out=np.zeros_like(rise), where=rise != 0),
            of_spread=circuit.per_column(own / probe**2 / circuit.n_synapses),
            variance_kept=1.0,
            step_correlation=later,
        )
        self._start_search(circuit.n_units)

    def reason_for_miss(self, xi: float) -> str:
        """Return the reason if a bias, or an operation between synapse and layer, makes the target impossible.

        Otherwise, return an empty string.
        """
        spread, held = self._sizes(self.base)[1].sigma_FF * self.z_ff, self.circuit.weight
        # Use tiny weights instead of zero weights, because neurons with a constant drive are ignored. Do not clip the
        # weights to the range of the chip, because clipped weights would look like a path that does not respond.
        tried = [jnp.asarray(times * spread, held.dtype) for times in (1e-3, 1, 2)]
        (mean, sd), (_, once), (_, twice) = (self.meter.feedforward_moments(weight) for weight in tried)
        self.circuit.store(held, None)
        theta = self.circuit.threshold()
        without = float(np.median(((theta - mean) / np.maximum(sd, 1e-30))[self.responds]))
        if max(xi, without) < self.settings.xi:
            return (
                f"even with weights near zero, xi is {without:.2g} and the mean membrane potential is "
                f"{np.median(mean):.3g} mV (V_th is {np.median(theta):.3g} mV). The cause is a bias, other synapses or "
                "skip connections. Make those weaker or raise V_th."
            )
        ratio = float(np.median(twice[self.responds] / np.maximum(once[self.responds], 1e-30)))
        if self.circuit.has_nonlinear_charge or ratio > _LEAST_GROWTH:  # a nonlinear charge curve also lowers the ratio
            return ""
        return (
            f"if the standard deviation of the weights doubles, the membrane potentials fluctuate only {ratio:.2g} "
            "times as much. An operation between synapse and layer, such as a normalisation, determines the size of "
            "the layer's input. Scale the output of this operation, or remove the operation."
        )

    def _typical(self, of_neurons: np.ndarray) -> np.ndarray:
        """Return the median over the neurons of each unit. Neurons without input are excluded."""
        return self.circuit.median_per_unit(np.where(self.responds, of_neurons, np.nan))

    def _calibrate(self) -> None:
        """Scale the standard deviation of the weights until the median neuron of each unit meets the target ``xi``."""
        share = math.sqrt(self.settings.alpha)  # recurrent spikes contribute the rest of the variance
        predicted = self._sizes(0.0)[1].sigma_FF
        most = np.maximum(self.circuit.weight_limit / max(float(predicted.max()), 1e-30), _MOST_GAIN)
        for _ in range(_MEASURED_ROUNDS):
            sigma = self._sizes(0.0)[1].sigma_FF
            mean, sd = self.meter.feedforward_moments(self._to_weight(sigma * self.z_ff))
            rise = mean - self.rest
            if self.direction is None and self.responds.any():
                # The mean of one unit depends on its random draw. So use the mean over all neurons, which can be
                # nonzero, for example after max pooling.
                rise = np.full_like(rise, rise[self.responds].mean())
            # Mean and standard deviation of the potential are both proportional to the standard deviation of the
            # weights if the path is linear. So one step then reaches the target. The factor of a neuron exceeds 1
            # exactly if its xi is too large. So the median factor brings the median neuron to the target.
            theta = self.circuit.threshold() - self.rest
            used = rise + self.settings.xi / share * sd
            miss = self._typical(theta / np.maximum(used, 1e-3 * theta))
            if np.all(np.abs(miss - 1) < _MEASURED_STOP):
                return
            self.gain = np.clip(self.gain * miss, 1e-3, most)


def _normal_like(key: jax.Array, weight: jax.Array | None) -> np.ndarray | None:
    return None if weight is None else np.asarray(jax.random.normal(key, weight.shape), float)


def rise_steps(response: Response) -> int:
    """Return the number of steps in which the slowest membrane potential rises to within 1 % of its steady state."""
    total = np.cumsum(response.response, axis=0)
    return int(np.max(np.argmax(np.abs(total) >= 0.99 * np.abs(total[-1]), axis=0)))


def _centred(z: Any, direction: np.ndarray | None) -> np.ndarray:
    """Remove the component along ``direction`` from every column of ``z`` and rescale the columns to unit variance."""
    z = np.asarray(z, dtype=float)
    if direction is None:
        return z
    # Removing one of n directions leaves 1 - 1/n of the variance.
    return (z - np.outer(direction, direction @ z)) / math.sqrt(1 - 1 / len(direction))
