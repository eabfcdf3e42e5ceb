"""Draw the weights of one (synapse, layer) pair: membranes fluctuate below threshold, and all neurons fire."""

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

__all__ = ["MISSED", "Draw", "FluctSettings", "MeasuredInitializer", "PairInitializer", "rise_of"]

_LEVELS = 8  # mean membranes tried to meet the target within the weight range
_FLOOR = 0.1  # smallest spread, as a share of the mean weight, once the variance budget is exhausted (vendor's rule)
_MARGIN = 1.1  # factor on the smallest mean that wakes every neuron (vendor's rule)
_RESOLUTION = 0.01  # relative resolution of the search for the mean
_MIN_REC_RATE = 0.5  # Hz; at lower rates the recurrent weights would grow without bound
_REC_ROUNDS = 4  # damped fixed-point iterations; 3 to 4 bring the recurrent share to 0.11-0.22 for alpha 0.85-0.9
_REC_CHANGE = 4.0  # largest total factor by which measurements may correct the recurrent spread
_CALIBRATION_ROUNDS = 5
_CALIBRATION_STOP = 0.03
_MEASURED_ROUNDS = 12
_MEASURED_STOP = 0.01
_LEAST_ANSWER = 1.2  # ratio of fluctuations if the spread doubles: 2 for a linear path, 1 behind a normalisation
_MOST_GAIN = 1.3  # correction allowed beyond the weight range: one random draw deviates from the mean of many
_ENOUGH_SPIKES = 4.0  # mean spikes per neuron from which spike counts may explain a silent neuron by chance
MISSED = 0.1  # the target counts as missed at this relative distance
_LEAST_KEPT = 0.01  # centring must leave this share of the variance
_SPREADS_IN_RANGE = 3.0  # the weight range must hold this number of standard deviations
_LEAST_ROOM = 0.01  # smallest spread, as a share of the mean, if only weights at the edge of the range wake a neuron
_FEW_INPUTS = 8  # with so few inputs a silent neuron is dead, however short the data: its weights decide, not chance


@dataclasses.dataclass(frozen=True)
class FluctSettings:
    """Checked arguments of ``fluct_init``."""

    xi: float
    alpha: float
    center: bool | str
    exact: bool  # True: variance from the filtered input, corrected by measurement. False: from the second moment
    in_range: bool | str  # 'auto': keep weights in range where every neuron wakes with them


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """Mean and spread of the weights for one mean membrane: plain numbers, in mV where weights are voltages."""

    mu_W: np.ndarray
    sigma_FF: np.ndarray
    sigma_RC: np.ndarray | None
    exhausted: np.ndarray


@dataclasses.dataclass(frozen=True)
class Draw:
    """Weights drawn for one mean membrane, and the spikes that they give."""

    level: float  # mean membrane of the lifted units, in thresholds
    mu_U: np.ndarray  # target mean membrane, per unit in mV
    sizes: _Sizes
    weight: jax.Array
    recurrent: jax.Array | None
    spikes: jax.Array  # ``[T, B, n_neurons]``
    counts: np.ndarray  # spikes of each unit, summed over the data

    @property
    def dead(self) -> int:
        """Number of units that never fired."""
        return int(np.sum(self.counts == 0))


class PairInitializer:
    """Find the weights of one pair.

    Every trial mean uses the same random numbers, so the search sees a smooth function. Every trial is one call of one
    compiled function. ``x`` is the input ``[B, T, N]``. The search writes to the circuit.
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
        # Variance from other sources than the drawn weights: other synapses and skip connections.
        self.rest_variance: np.ndarray | float = 0.0
        self.theta = circuit.per_unit(circuit.threshold()) - response.offset
        self.direction = self._direction(moments.rates)
        self.basis = self._basis(x, self.direction)
        if settings.center == "auto" and self.basis.kept < _LEAST_KEPT:
            # The inputs move as one, so centring would remove nearly all of their variance.
            self.direction = None
            self.basis = self._basis(x, None)
        key_ff, key_rc = jax.random.split(key)
        n_in, n_columns, n = circuit.n_in, circuit.n_columns, circuit.n_units
        self.z_ff = _centred(jax.random.normal(key_ff, (n_in, n_columns)), self.direction)
        self.z_rc = _normal_like(key_rc, circuit.recurrent)
        self.meter = Meter(circuit, jnp.asarray(np.swapaxes(x, 0, 1)), rise_of(response))
        self._start_search(n)

    def _start_search(self, n: int) -> None:
        """Reset what the search changes. ``n`` is the number of units."""
        # Correction of each neuron's spread for effects that the prediction leaves out: a bent charge curve, one random
        # draw with few inputs, data that are not stationary.
        self.gain = np.ones(n)
        self.gain_rc = 1.0
        self.lifted = np.ones(n, dtype=bool)
        self.base = 0.0  # mean membrane of neurons that are not lifted, in thresholds
        self.silent_in_range = 0  # neurons that stayed silent with weights in range, if that was tried
        self.nu_rec = 0.0

    @property
    def can_fluctuate(self) -> bool:
        """Whether the input moves a membrane at all, also after centring."""
        return bool(np.all(self.basis.of_spread > 0)) and self.basis.kept >= _LEAST_KEPT

    def solve(self) -> Draw:
        """Search for weights, leave them in the network, and return them with their spikes."""
        self._calibrate()
        self.base = self._level_in_range()
        best = self._settled(self.base)
        if not self.is_awake(best) and self.moments.mean_is_a_lever:
            if self.direction is not None:
                # Lift only silent neurons. The vendor's rule lifts all neurons even for a single silent one.
                self.lifted = best.counts == 0
            best = self._search(best)
            if self.settings.in_range and best.dead:
                best = self._at_the_edge(best)
        self.circuit.store(best.weight, best.recurrent)
        return best

    @property
    def has_few_inputs(self) -> bool:
        """Whether the fan-in is small. The mean input then makes neurons fire, not its fluctuations."""
        return self.circuit.n_in <= _FEW_INPUTS

    def meets_target(self, draw: Draw) -> bool:
        """Return whether a draw meets the target distance to threshold and the variance share of recurrent weights."""
        measured = self.meter.measure(draw.weight, draw.recurrent, draw.spikes)
        if abs(float(np.median(measured.xi(self.circuit.threshold()))) / self.settings.xi - 1) > MISSED:
            return False
        share = 1 - self.settings.alpha
        if measured.sd_RC is None or not share:
            return True
        return 0.5 * share <= float(np.mean(measured.sd_RC**2) / np.mean(measured.sd**2)) <= 2 * share

    def what_limits(self, xi: float) -> str:
        """Return why neurons at a median distance ``xi`` miss the target; empty if there is no special reason."""
        return ""

    def _basis(self, x: np.ndarray, direction: np.ndarray | None) -> MembraneBasis:
        n_synapses, exact = self.circuit.n_synapses, self.settings.exact
        return membrane_basis(x, self.response, self.moments, n_synapses, exact=exact, direction=direction)

    def is_awake(self, draw: Draw) -> bool:
        """Return whether chance on short data explains the number of silent neurons.

        Without centring, or with few inputs, every silent neuron counts as dead.
        """
        if self.direction is None or self.has_few_inputs or draw.dead == 0:
            return draw.dead == 0
        # The expected silent share is that of neurons at the target, or that of Poisson neurons at the measured rate if
        # they fire. Real spike counts scatter more than Poisson counts, hence the factor 0.5 in the exponent.
        seconds = self.meter.steps * self.moments.dt * self.circuit.positions
        floor = 0.0 if self.circuit.clamped else None
        share = silent_fraction(
            self.settings.xi, self.basis.step_correlation, self.moments.dt, seconds, mean_above_floor=floor
        )
        per_neuron = float(draw.counts.mean())
        if per_neuron >= _ENOUGH_SPIKES:
            share = max(share, math.exp(-0.5 * per_neuron))
        n = len(draw.counts)
        # The expected number plus two binomial standard deviations.
        return draw.dead <= n * share + 2 * math.sqrt(n * share * (1 - share))

    def _direction(self, rates: np.ndarray) -> np.ndarray | None:
        """Return the unit vector of mean rates for centring, or ``None`` if weights are not centred."""
        # The paper's variance is that of one neuron over time. Drawn columns also differ in their mean, and that
        # variance is 2 nu (tau_m + tau_s) times as large for a double exponential: 6 times at 100 Hz. It is the cause
        # of dead neurons, and centring removes it.
        norm = float(np.linalg.norm(rates))
        if self.settings.center is False or len(rates) < 2 or norm == 0:
            return None
        # With few effective inputs, hardly anything of a weight column is left after its mean response is removed.
        few = len(rates) < 8 or participation(rates) < 4
        return None if self.settings.center == "auto" and few else rates / norm

    def _sizes(self, level: float) -> tuple[np.ndarray, _Sizes]:
        """Return the mean membranes at a level, and the mean and spread of the weights for them."""
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
            # Other sources use up the variance budget of a unit: it keeps a tenth of the spread it would have alone.
            floor = np.maximum(
                floor, _FLOOR**2 * self.circuit.per_column(alpha * budget) / (n_synapses * self.basis.of_spread)
            )
        sigma_FF = np.sqrt(np.maximum(left, floor))
        sigma_RC = None
        if self.z_rc is not None:
            # The same equation for the share 1 - alpha, with the firing rate of the layer itself. With the input rate
            # the recurrent weights would carry 0.001 to 0.13 of the variance instead of 0.10 to 0.15 (measured).
            rate = max(self.nu_rec, _MIN_REC_RATE)
            per_weight = self.circuit.n_neurons * rate * n_synapses * self.response.square_integral
            sigma_RC = self.gain_rc * np.sqrt(self.circuit.per_column((1 - alpha) * budget) / per_weight)
        exhausted = self.circuit.any_of_unit(left <= floor) & ((mu_U > 0) | (self.rest_variance > 0))
        if self.settings.in_range:
            # Use as much spread as fits, because neurons that differ can learn. `_level_in_range` then sets the mean.
            limit = self.circuit.weight_limit
            wanted = self.circuit.per_column(math.sqrt(alpha) * self.theta / xi * self.gain)
            wanted = wanted / np.sqrt(n_synapses * self.basis.of_spread)
            # Neurons whose mean was raised to wake them are mean-driven: their spread only makes them differ.
            exhausted &= mu_U > self.base * self.theta
            driven = self.circuit.per_column(exhausted.astype(float)) > 0
            wanted = np.where(driven, np.minimum(wanted, _FLOOR * np.abs(mu_W)), wanted)
            sigma_FF = np.minimum(wanted, np.maximum(limit - np.abs(mu_W), 0.0) / _SPREADS_IN_RANGE)
            sigma_RC = None if sigma_RC is None else np.minimum(sigma_RC, limit / _SPREADS_IN_RANGE)
        return mu_U, _Sizes(mu_W, sigma_FF, sigma_RC, exhausted)

    def _draw(self, level: float) -> Draw:
        mu_U, sizes = self._sizes(level)
        weight = self._kept(sizes.mu_W + sizes.sigma_FF * self.z_ff)
        recurrent = None if self.z_rc is None else self._kept(sizes.sigma_RC * self.z_rc)
        return self._tried(level, mu_U, sizes, weight, recurrent)

    def _tried(
        self, level: float, mu_U: np.ndarray, sizes: _Sizes, weight: jax.Array, recurrent: jax.Array | None
    ) -> Draw:
        self.circuit.store(weight, recurrent)
        self.circuit.check_recurrent(recurrent, call="fluct_init")
        spikes = self.meter.run(weight, recurrent)
        counts = self.circuit.total(np.asarray(spikes.sum(axis=(0, 1))))
        return Draw(level, mu_U, sizes, weight, recurrent, spikes, counts)

    def _kept(self, weight: np.ndarray) -> jax.Array:
        # The theory assumes zero charge at zero weight. The neutral weight cancels an offset of the charge curve.
        return self._within(weight + self.circuit.neutral_weight)

    def _within(self, weight: np.ndarray) -> jax.Array:
        if self.settings.in_range:
            limit = self.circuit.weight_limit
            # Reflect instead of clipping: clipped weights would all be equal.
            weight = np.clip(
                np.where(np.abs(weight) > limit, np.sign(weight) * 2 * limit - weight, weight), -limit, limit
            )
        return jnp.asarray(weight, self.circuit.weight.dtype)

    def _settled(self, level: float) -> Draw:
        """Draw at a level. For a recurrent layer, iterate until its own rate, which its weights affect, has settled.

        At first the rate sets the recurrent spread. With ``exact``, later rounds use the measured share of the variance
        that the layer's own spikes contribute.
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
                have = np.mean(self.meter.spread_RC(draw.weight, draw.recurrent, draw.spikes) ** 2)
                budget = ((self.theta - draw.mu_U) / self.settings.xi) ** 2
                want = (1 - self.settings.alpha) * float(np.mean(budget))
                step = math.sqrt(want / max(float(have), 1e-6 * want))
                # Apply half of the correction in logarithms: the rate reacts to it, and a full step oscillates.
                self.gain_rc = float(np.clip(self.gain_rc * math.sqrt(step), 1 / _REC_CHANGE, _REC_CHANGE))
            draw = self._draw(level)
        return draw

    def _calibrate(self) -> None:
        """Scale the spread of each neuron until its real membrane has the target standard deviation."""
        if not self.settings.exact:
            return
        # A saturating charge curve may never reach the target, and weights beyond the range gain little there.
        predicted = self._sizes(0.0)[1].sigma_FF.reshape(self.circuit.n_units, -1).max(axis=1)
        most = np.maximum(self.circuit.weight_limit / np.maximum(predicted, 1e-30), _MOST_GAIN)
        wanted = math.sqrt(self.settings.alpha) * self.theta / self.settings.xi
        bends = self.direction is not None and self.circuit.bends
        for _ in range(_CALIBRATION_ROUNDS):
            sigma = self._sizes(0.0)[1].sigma_FF
            mean, measured = self.meter.alone(self._kept(sigma * self.z_ff))
            off = mean - self.response.offset if bends else np.zeros_like(mean)
            # The standard deviation is proportional to the spread, so one division is exact if the curve is straight.
            miss = wanted / np.maximum(measured, 1e-3 * wanted)
            if self.circuit.n_in == 1:
                # With one weight per neuron, a factor for each neuron would make all weights equal in size.
                miss = np.full_like(miss, np.median(miss))
            if np.all(np.abs(miss - 1) < _CALIBRATION_STOP) and np.all(np.abs(off) < _CALIBRATION_STOP * self.theta):
                return
            self._recentre(off, sigma)
            self.gain = np.minimum(self.gain * miss, most)

    def _recentre(self, off: np.ndarray, sigma: np.ndarray) -> None:
        """Remove the mean membranes that a bent charge curve causes even though the weights are centred."""
        if self.direction is None or not np.any(off):
            return
        norm = float(np.linalg.norm(self.moments.rates))
        response = self.circuit.n_synapses * norm * self.response.response.sum(axis=0) * sigma
        self.z_ff = self.z_ff - np.outer(self.direction, self.circuit.per_column(off) / response)

    def _level_in_range(self) -> float:
        """Return the mean membrane, in thresholds, that meets the target if the range limits the spread too much.

        The target is a distance in standard deviations, so a higher mean can make up for a smaller spread. Returns the
        smallest such mean, or the mean that comes nearest to the target.
        """
        if not self.settings.in_range or not self.moments.mean_is_a_lever or self._xi(0.0) <= self.settings.xi:
            return 0.0
        # A mean above threshold would drive the neurons; they would not fire by fluctuations.
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
        """Return the distance to threshold for the feed-forward weights of a level, the median over neurons."""
        sizes = self._sizes(level)[1]
        mean, sd = self.meter.alone(self._kept(sizes.mu_W + sizes.sigma_FF * self.z_ff))
        share = math.sqrt(self.settings.alpha)  # the layer's own spikes contribute the rest of the variance
        return float(np.median((self.circuit.threshold() - mean) * share / np.maximum(sd, 1e-30)))

    def _highest_in_range(self, spread: float) -> float:
        """Return the mean membrane, in thresholds, of the largest mean weight that fits the range with its spread.

        ``spread`` is a share of the mean. Without any spread, all neurons would be equal.
        """
        response = self.circuit.n_synapses * np.abs(self.basis.mean_response)
        limit = self.circuit.weight_limit / (1 + _SPREADS_IN_RANGE * spread)
        return float(np.min(response / self.circuit.per_column(self.theta))) * limit

    def _at_the_edge(self, best: Draw) -> Draw:
        """Move the weights of silent neurons towards the limit of the range, step by step, and keep them different."""
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
            draw = self._tried(best.level, best.mu_U, sizes, self._within(weight), best.recurrent)
            best = min(best, draw, key=lambda d: d.dead)
            if not best.dead:
                break
        return best

    def _search(self, silent: Draw) -> Draw:
        """Return the best draw for the smallest mean membrane at which no neuron is dead, plus the margin."""
        # A single input must be able to reach threshold, so the ceiling allows for that. A mean beyond the range of the
        # hardware is useless, so with in_range the ceiling stays below it.
        response = self.circuit.n_synapses * np.abs(self.basis.mean_response)
        reach = 2 * float(np.max(response / self.response.peak))
        ceiling = max(4.0, reach)
        if self.settings.in_range:
            ceiling = min(ceiling, self._highest_in_range(_LEAST_ROOM))

        best, low, high = silent, self.base, min(max(0.05, 2 * self.base), ceiling)
        while True:
            draw = self._draw(high)
            # If no level wakes all neurons, the draw with the fewest dead ones is returned.
            best = min(best, draw, key=lambda d: d.dead)
            if self.is_awake(draw):
                break
            if high >= ceiling:
                return best
            # Double first, because the level differs by two orders of magnitude between neuron families.
            low, high = high, min(2 * high, ceiling)
        # The number of silent neurons is not monotone in the mean, since the spread shrinks: keep the last awake draw.
        while high - low > _RESOLUTION * high:
            middle = 0.5 * (low + high)
            draw = self._draw(middle)
            if self.is_awake(draw):
                best, high = draw, middle
            else:
                low = middle
        # The vendor's rule adds 10 %. If that silences a neuron again, the result of the search is better.
        draw = self._settled(min(_MARGIN * high, max(high, ceiling)))
        return draw if draw.dead <= best.dead else best


class MeasuredInitializer(PairInitializer):
    r"""Find the weights of a pair with operations between synapse and layer, or with weights that neurons share.

    No formula predicts these membranes, so the search uses measured ones. With all weights at zero a membrane rests at
    :math:`m_0` with variance :math:`v_0`, from a bias, other synapses and skip connections. One random draw measures
    the response to a spread of the weights, and one set of equal weights the response to their mean. The spread of each
    unit is then corrected until the real membrane of its median neuron satisfies

    .. math:: V_{th} - m = \xi \, s

    This also holds for bent charge curves, for max pooling, whose mean grows with the spread, and for padding, where
    neurons at the border have fewer inputs. Neurons with a constant drive do not count. ``xs`` is the recorded input of
    the circuit. The rates of ``moments`` are per row of the weights.
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
        self.meter = Meter(circuit, xs, rise_of(response))
        self.rest, rest_sd = self.meter.alone(self._kept(np.zeros(shape)))
        # The probe must exceed rounding errors, yet be small enough for a charge curve to be straight. A larger one is
        # used if another synapse moves the membranes so much that the response to the first probe is lost.
        for share in (0.1, 1.0):
            probe = share * min(circuit.weight_limit, float(circuit.threshold().min()))
            # Probe with the draw itself: with few inputs one draw differs much from the mean of many draws.
            probe_sd, later = self.meter.lag_one(self._kept(probe * self.z_ff))
            self.moves = probe_sd > 0
            # Resting fluctuations and draw are uncorrelated over many draws, so their variances add.
            own = self._typical(np.maximum(probe_sd**2 - rest_sd**2, 0.0))
            if np.all(own[self._typical(probe_sd) > 0] > 0):
                break
        self.response = dataclasses.replace(response, offset=self._typical(self.rest))
        self.rest_variance = self._typical(rest_sd**2)
        self.theta = self._typical(circuit.threshold() - self.rest)
        # Equal weights on all inputs measure the response to the mean that lifts silent neurons.
        of_flat, flat_sd = self.meter.alone(self._kept(np.full(shape, probe)))
        rise = self._typical(of_flat - self.rest)
        of_rise = self._typical(np.maximum(flat_sd**2 - rest_sd**2, 0.0))
        self.basis = MembraneBasis(
            mean_response=circuit.per_column(rise / (probe * circuit.n_synapses)),
            of_mean=np.divide(of_rise, rise**2, out=np.zeros_like(rise), where=rise != 0),
            of_spread=circuit.per_column(own / probe**2 / circuit.n_synapses),
            kept=1.0,
            step_correlation=later,
        )
        self._start_search(circuit.n_units)

    def what_limits(self, xi: float) -> str:
        """Name a bias or an operation between synapse and layer that prevents the target; empty if there is none."""
        spread, held = self._sizes(self.base)[1].sigma_FF * self.z_ff, self.circuit.weight
        # Use tiny weights instead of zero weights, because neurons with a constant drive do not count. Do not clip to
        # the range of the chip: clipped weights would look like a path that does not respond.
        tried = [jnp.asarray(times * spread, held.dtype) for times in (1e-3, 1, 2)]
        (mean, sd), (_, once), (_, twice) = (self.meter.alone(weight) for weight in tried)
        self.circuit.store(held, None)
        theta = self.circuit.threshold()
        without = float(np.median(((theta - mean) / np.maximum(sd, 1e-30))[self.moves]))
        if max(xi, without) < self.settings.xi:
            return (
                f"with hardly any weights the membranes are at xi={without:.2g} already, at {np.median(mean):.3g} mV "
                f"where V_th is {np.median(theta):.3g} mV, by a bias, other synapses or skips. Make those weaker or "
                "raise V_th."
            )
        ratio = float(np.median(twice[self.moves] / np.maximum(once[self.moves], 1e-30)))
        if self.circuit.bends or ratio > _LEAST_ANSWER:  # a bent charge curve alone also lowers the ratio
            return ""
        return (
            f"twice the spread of the weights makes the membranes fluctuate {ratio:.2g} times as much. An operation "
            "between synapse and layer, such as a normalisation, sets their size. Scale its output, or remove it."
        )

    def _typical(self, of_neurons: np.ndarray) -> np.ndarray:
        """Return the median of each unit over those neurons that get input."""
        return self.circuit.per_unit(np.where(self.moves, of_neurons, np.nan))

    def _calibrate(self) -> None:
        """Scale the spread of each unit until its median neuron has the target distance to threshold."""
        share = math.sqrt(self.settings.alpha)  # the layer's own spikes contribute the rest of the variance
        predicted = self._sizes(0.0)[1].sigma_FF
        most = np.maximum(self.circuit.weight_limit / max(float(predicted.max()), 1e-30), _MOST_GAIN)
        for _ in range(_MEASURED_ROUNDS):
            sigma = self._sizes(0.0)[1].sigma_FF
            mean, sd = self.meter.alone(self._kept(sigma * self.z_ff))
            rise = mean - self.rest
            if self.direction is None and self.moves.any():
                # The mean of one unit depends on its random draw. Count only the mean of all, for example from pooling.
                rise = np.full_like(rise, rise[self.moves].mean())
            # The spread scales both terms, so one step reaches the target if nothing is nonlinear. The factor of a
            # neuron is above 1 exactly if its xi is too large, so the median factor belongs to the median neuron.
            theta = self.circuit.threshold() - self.rest
            used = rise + self.settings.xi / share * sd
            miss = self._typical(theta / np.maximum(used, 1e-3 * theta))
            if np.all(np.abs(miss - 1) < _MEASURED_STOP):
                return
            self.gain = np.clip(self.gain * miss, 1e-3, most)


def _normal_like(key: jax.Array, weight: jax.Array | None) -> np.ndarray | None:
    return None if weight is None else np.asarray(jax.random.normal(key, weight.shape), float)


def rise_of(response: Response) -> int:
    """Return the number of steps in which the slowest membrane rises to within 1 % of its mean."""
    total = np.cumsum(response.response, axis=0)
    return int(np.max(np.argmax(np.abs(total) >= 0.99 * np.abs(total[-1]), axis=0)))


def _centred(z: Any, direction: np.ndarray | None) -> np.ndarray:
    """Project the mean-rate direction out of every column of ``z`` and rescale the columns to unit spread."""
    z = np.asarray(z, dtype=float)
    if direction is None:
        return z
    # Projecting one of n directions out leaves 1 - 1/n of the variance.
    return (z - np.outer(direction, direction @ z)) / math.sqrt(1 - 1 / len(direction))
