"""Draw the weights of one (synapse, layer) pair so that its membranes fluctuate below threshold and all fire."""

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

_LEVELS = 8  # mean membranes looked at for one that meets the target within the weight range
_FLOOR = 0.1  # spread kept when the budget is spent, as a share of the mean weight
_MARGIN = 1.1  # added to the smallest mean that wakes every neuron
_RESOLUTION = 0.01  # of the search
_MIN_REC_RATE = 0.5  # Hz: a nearly silent layer would otherwise ask for unbounded recurrent weights
_REC_ROUNDS = 4
_REC_CHANGE = 4.0  # by which what is measured may correct the recurrent spread in all
_CALIBRATION_ROUNDS = 5
_CALIBRATION_STOP = 0.03
_MEASURED_ROUNDS = 12
_MEASURED_STOP = 0.01
_LEAST_ANSWER = 1.2  # of the membranes to twice the spread; a linear path gives 2, a normalisation 1
_MOST_GAIN = 1.3  # beyond the weight range: for the luck of one draw
_ENOUGH_SPIKES = 4.0  # per neuron over the data, to speak of a neuron that is silent by chance
MISSED = 0.1  # relative distance from the target at which it counts as missed
_LEAST_KEPT = 0.01  # of the variance, for centring to be of use
_SPREADS_IN_RANGE = 3.0  # standard deviations that fit into the weight range when it is to be kept
_LEAST_ROOM = 0.01  # spread kept, as a share of the mean weight, where nothing less than the edge of the range wakes
_FEW_INPUTS = 8  # up to here a silent neuron is dead, however short the data: its few weights decide, not chance


@dataclasses.dataclass(frozen=True)
class FluctSettings:
    """Checked arguments of ``fluct_init``."""

    xi: float
    alpha: float
    center: bool | str
    exact: bool  # the variance from the filtered input, corrected by measurements; otherwise from the second moment
    in_range: bool | str  # 'auto': in range where every neuron wakes there


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """Mean and spread of the weights at one mean membrane: plain numbers, in mV where the family's weights are."""

    mu_W: np.ndarray
    sigma_FF: np.ndarray
    sigma_RC: np.ndarray | None
    exhausted: np.ndarray


@dataclasses.dataclass(frozen=True)
class Draw:
    """Weights drawn for one mean membrane, and the spikes of the layer with them."""

    level: float  # mean membrane of the units that were lifted, in thresholds
    mu_U: np.ndarray  # mean membrane wanted, per unit in mV
    sizes: _Sizes
    weight: jax.Array
    recurrent: jax.Array | None
    spikes: jax.Array  # ``[T, B, n_neurons]``
    counts: np.ndarray  # spikes of each unit on all of the data

    @property
    def dead(self) -> int:
        """Units that never fired."""
        return int(np.sum(self.counts == 0))


class PairInitializer:
    """Finds the weights of one pair.

    The same random numbers serve every mean that is tried, so that the search sees a smooth function, and every trial
    is one call of one compiled function. ``x`` is the input ``[B, T, N]``; the circuit is written to while searching.
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
        # Variance that does not come from the weights to be drawn: other synapses and skips.
        self.rest_variance: np.ndarray | float = 0.0
        self.theta = circuit.per_unit(circuit.threshold()) - response.offset
        self.direction = self._direction(moments.rates)
        self.basis = self._basis(x, self.direction)
        if settings.center == "auto" and self.basis.kept < _LEAST_KEPT:
            # Inputs that move as one: of their common course nothing may be taken out.
            self.direction = None
            self.basis = self._basis(x, None)
        key_ff, key_rc = jax.random.split(key)
        n_in, n_columns, n = circuit.n_in, circuit.n_columns, circuit.n_units
        self.z_ff = _centred(jax.random.normal(key_ff, (n_in, n_columns)), self.direction)
        self.z_rc = _normal_like(key_rc, circuit.recurrent)
        self.meter = Meter(circuit, jnp.asarray(np.swapaxes(x, 0, 1)), rise_of(response))
        self._start_search(n)

    def _start_search(self, n: int) -> None:
        """Set what the search changes; ``n`` is the number of units."""
        # Correction of each neuron's spread for what the prediction leaves out: the bend of the charge curve, the
        # luck of one draw with few inputs, data that are no stationary process.
        self.gain = np.ones(n)
        self.gain_rc = 1.0
        self.lifted = np.ones(n, dtype=bool)
        self.base = 0.0  # mean membrane, in thresholds, of neurons that are not lifted
        self.silent_in_range = 0  # neurons that weights within the range left silent, if that was tried
        self.nu_rec = 0.0

    @property
    def can_fluctuate(self) -> bool:
        """Whether the input, as far as centring leaves it, moves a membrane at all."""
        return bool(np.all(self.basis.of_spread > 0)) and self.basis.kept >= _LEAST_KEPT

    def solve(self) -> Draw:
        """Search, leave the weights in place, and return them with what they do."""
        self._calibrate()
        self.base = self._level_in_range()
        best = self._settled(self.base)
        if not self.is_awake(best) and self.moments.mean_is_a_lever:
            if self.direction is not None:
                # Neurons that fire stay where they are; the vendor's rule lifts all of them for a single silent one.
                self.lifted = best.counts == 0
            best = self._search(best)
            if self.settings.in_range and best.dead:
                best = self._at_the_edge(best)
        self.circuit.store(best.weight, best.recurrent)
        return best

    @property
    def has_few_inputs(self) -> bool:
        """Whether the fan-in is small. Neurons then fire because of their mean input, not of its fluctuations."""
        return self.circuit.n_in <= _FEW_INPUTS

    def meets_target(self, draw: Draw) -> bool:
        """Return whether the membranes of a draw keep the distance asked for, and the recurrent ones their share."""
        measured = self.meter.measure(draw.weight, draw.recurrent, draw.spikes)
        if abs(float(np.median(measured.xi(self.circuit.threshold()))) / self.settings.xi - 1) > MISSED:
            return False
        share = 1 - self.settings.alpha
        if measured.sd_RC is None or not share:
            return True
        return 0.5 * share <= float(np.mean(measured.sd_RC**2) / np.mean(measured.sd**2)) <= 2 * share

    def what_limits(self, xi: float) -> str:
        """Say why membranes at a median distance ``xi`` miss the target; empty without a special reason."""
        return ""

    def _basis(self, x: np.ndarray, direction: np.ndarray | None) -> MembraneBasis:
        n_synapses, exact = self.circuit.n_synapses, self.settings.exact
        return membrane_basis(x, self.response, self.moments, n_synapses, exact=exact, direction=direction)

    def is_awake(self, draw: Draw) -> bool:
        """Return whether no more neurons are silent than chance explains on so little data.

        Without centring, or with few inputs, every silent neuron counts as dead.
        """
        if self.direction is None or self.has_few_inputs or draw.dead == 0:
            return draw.dead == 0
        # What neurons at the target would do, or these ones if they fire at all alike. The counts of real neurons
        # scatter more than Poisson's, hence the half in the exponent.
        seconds = self.meter.steps * self.moments.dt * self.circuit.positions
        floor = 0.0 if self.circuit.clamped else None
        share = silent_fraction(
            self.settings.xi, self.basis.step_correlation, self.moments.dt, seconds, mean_above_floor=floor
        )
        per_neuron = float(draw.counts.mean())
        if per_neuron >= _ENOUGH_SPIKES:
            share = max(share, math.exp(-0.5 * per_neuron))
        n = len(draw.counts)
        return draw.dead <= n * share + 2 * math.sqrt(n * share * (1 - share))

    def _direction(self, rates: np.ndarray) -> np.ndarray | None:
        """Return the unit vector of mean rates if centring is wanted and possible, otherwise ``None``."""
        # The paper's variance is one neuron's in time. Drawn columns also differ in their mean, and that variance is
        # 2 nu (tau_m + tau_s) times as large for a double exponential: 6 times at 100 Hz. These neurons are dead.
        norm = float(np.linalg.norm(rates))
        if self.settings.center is False or len(rates) < 2 or norm == 0:
            return None
        # With few effective inputs nothing is left of a weight column once its mean response is taken out.
        few = len(rates) < 8 or participation(rates) < 4
        return None if self.settings.center == "auto" and few else rates / norm

    def _sizes(self, level: float) -> tuple[np.ndarray, _Sizes]:
        """Return the mean membranes at a level, and the weights that make them."""
        # Rossbroich et al. (2022), solved for the weights, with the measured basis in place of n nu eps_bar and
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
            # Others already use up the budget of a unit: it keeps a tenth of what it would have had alone.
            floor = np.maximum(
                floor, _FLOOR**2 * self.circuit.per_column(alpha * budget) / (n_synapses * self.basis.of_spread)
            )
        sigma_FF = np.sqrt(np.maximum(left, floor))
        sigma_RC = None
        if self.z_rc is not None:
            # The same equation for the share 1 - alpha, with the rate at which the layer itself fires.
            rate = max(self.nu_rec, _MIN_REC_RATE)
            per_weight = self.circuit.n_neurons * rate * n_synapses * self.response.square_integral
            sigma_RC = self.gain_rc * np.sqrt(self.circuit.per_column((1 - alpha) * budget) / per_weight)
        exhausted = self.circuit.any_of_unit(left <= floor) & ((mu_U > 0) | (self.rest_variance > 0))
        if self.settings.in_range:
            # As much spread as fits, for neurons that differ can learn to; the mean is chosen to go with it.
            limit = self.circuit.weight_limit
            wanted = self.circuit.per_column(math.sqrt(alpha) * self.theta / xi * self.gain)
            wanted = wanted / np.sqrt(n_synapses * self.basis.of_spread)
            # A mean that was raised to wake them drives the neurons: their spread only tells them apart.
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
        # The theory knows the charge per weight; a charge at weight zero would add to every mean.
        return self._within(weight + self.circuit.neutral_weight)

    def _within(self, weight: np.ndarray) -> jax.Array:
        if self.settings.in_range:
            limit = self.circuit.weight_limit
            # Reflected and not cut off: weights at the very limit would be copies of each other.
            weight = np.clip(
                np.where(np.abs(weight) > limit, np.sign(weight) * 2 * limit - weight, weight), -limit, limit
            )
        return jnp.asarray(weight, self.circuit.weight.dtype)

    def _settled(self, level: float) -> Draw:
        """Draw at a level; for a recurrent layer let its own rate, which its weights depend on, settle first.

        The rate sets the spread at first; then, unless only the second moment is asked for, the share of the variance
        that the layer's spikes really bring back.
        """
        if self.z_rc is None or self.settings.alpha == 1:
            return self._draw(level)
        if not self.nu_rec:
            self.gain_rc = 0.0  # how it fires without them
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
                # Half of the correction in logarithms: the rate itself answers to it, and a full step oscillates.
                self.gain_rc = float(np.clip(self.gain_rc * math.sqrt(step), 1 / _REC_CHANGE, _REC_CHANGE))
            draw = self._draw(level)
        return draw

    def _calibrate(self) -> None:
        """Scale the spread of each neuron until its real membrane fluctuates as wanted."""
        if not self.settings.exact:
            return
        # A charge curve that saturates may never reach the target: beyond the weight range there is little to gain.
        predicted = self._sizes(0.0)[1].sigma_FF.reshape(self.circuit.n_units, -1).max(axis=1)
        most = np.maximum(self.circuit.weight_limit / np.maximum(predicted, 1e-30), _MOST_GAIN)
        wanted = math.sqrt(self.settings.alpha) * self.theta / self.settings.xi
        bends = self.direction is not None and self.circuit.bends
        for _ in range(_CALIBRATION_ROUNDS):
            sigma = self._sizes(0.0)[1].sigma_FF
            mean, measured = self.meter.alone(self._kept(sigma * self.z_ff))
            off = mean - self.response.offset if bends else np.zeros_like(mean)
            # A deviation is proportional to the spread, so that one division is Newton's step where nothing bends.
            miss = wanted / np.maximum(measured, 1e-3 * wanted)
            if self.circuit.n_in == 1:
                # A factor for each neuron would give its one weight the same size in all of them.
                miss = np.full_like(miss, np.median(miss))
            if np.all(np.abs(miss - 1) < _CALIBRATION_STOP) and np.all(np.abs(off) < _CALIBRATION_STOP * self.theta):
                return
            self._recentre(off, sigma)
            self.gain = np.minimum(self.gain * miss, most)

    def _recentre(self, off: np.ndarray, sigma: np.ndarray) -> None:
        """Take means that are left out of the draw: weights are centred, but a bent charge curve moves the charges."""
        if self.direction is None or not np.any(off):
            return
        norm = float(np.linalg.norm(self.moments.rates))
        response = self.circuit.n_synapses * norm * self.response.response.sum(axis=0) * sigma
        self.z_ff = self.z_ff - np.outer(self.direction, self.circuit.per_column(off) / response)

    def _level_in_range(self) -> float:
        """Return the mean membrane, in thresholds, that meets the target where the range leaves too little spread.

        The target is a distance in standard deviations: what the spread may not cover, the mean can. The smallest such
        mean is taken, or the one that comes nearest.
        """
        if not self.settings.in_range or not self.moments.mean_is_a_lever or self._xi(0.0) <= self.settings.xi:
            return 0.0
        # A mean above threshold would drive neurons instead of letting them fluctuate.
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
        """Return the distance to threshold that the feed-forward weights of a level make, the median of the neurons."""
        sizes = self._sizes(level)[1]
        mean, sd = self.meter.alone(self._kept(sizes.mu_W + sizes.sigma_FF * self.z_ff))
        share = math.sqrt(self.settings.alpha)  # the rest of the variance comes from the layer itself
        return float(np.median((self.circuit.threshold() - mean) * share / np.maximum(sd, 1e-30)))

    def _highest_in_range(self, spread: float) -> float:
        """Return the mean membrane, in thresholds, of the largest mean weight that fits the range with its spread.

        ``spread`` is the share of the mean; without one, neurons would be copies.
        """
        response = self.circuit.n_synapses * np.abs(self.basis.mean_response)
        limit = self.circuit.weight_limit / (1 + _SPREADS_IN_RANGE * spread)
        return float(np.min(response / self.circuit.per_column(self.theta))) * limit

    def _at_the_edge(self, best: Draw) -> Draw:
        """Let the neurons that stay silent have weights ever nearer to the limit of the range, and no two the same."""
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
        """Find the smallest mean membrane at which no neuron is dead, add the margin, and return the best draw seen."""
        # One input alone must be able to reach threshold; and a mean that the hardware cannot take is no answer.
        response = self.circuit.n_synapses * np.abs(self.basis.mean_response)
        reach = 2 * float(np.max(response / self.response.peak))
        ceiling = max(4.0, reach)
        if self.settings.in_range:
            ceiling = min(ceiling, self._highest_in_range(_LEAST_ROOM))

        best, low, high = silent, self.base, min(max(0.05, 2 * self.base), ceiling)
        while True:
            draw = self._draw(high)
            # Kept in case that no level wakes all: the fewest dead neurons are the best answer then.
            best = min(best, draw, key=lambda d: d.dead)
            if self.is_awake(draw):
                break
            if high >= ceiling:
                return best
            # Doubling first: the level spans two orders of magnitude between families.
            low, high = high, min(2 * high, ceiling)
        # Silent neurons do not fall strictly with the mean, since the spread shrinks: only the last awake draw counts.
        while high - low > _RESOLUTION * high:
            middle = 0.5 * (low + high)
            draw = self._draw(middle)
            if self.is_awake(draw):
                best, high = draw, middle
            else:
                low = middle
        # The vendor's rule adds 10 %; where the margin itself silences a neuron the search's own end is better.
        draw = self._settled(min(_MARGIN * high, max(high, ceiling)))
        return draw if draw.dead <= best.dead else best


class MeasuredInitializer(PairInitializer):
    r"""Finds the weights of a pair with something between synapse and layer, or whose weights many neurons share.

    No formula predicts the membranes there, so the same search runs on measured ones. With all weights at zero a
    membrane rests at :math:`m_0` with variance :math:`v_0`: bias, other synapses, skips. One draw and one set of equal
    weights give the response to a spread and to a mean. The spread of each unit is then corrected until the real
    membrane of its median neuron satisfies

    .. math:: V_{th} - m = \xi \, s

    which holds for curves that bend, for max pooling, whose mean grows with the spread, and for padding, with which
    neurons at the border have fewer inputs. Neurons whose drive never changes do not count. ``xs`` is the recorded
    input of the circuit, and the rates of ``moments`` are per row of the weights.
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
        # Large enough to stand clear of rounding, small enough for a charge curve to be straight; larger where another
        # synapse moves the membranes so much more that nothing of the probe is left beside it.
        for share in (0.1, 1.0):
            probe = share * min(circuit.weight_limit, float(circuit.threshold().min()))
            # The draw itself is the probe: with few inputs one draw is far from the mean of many.
            probe_sd, later = self.meter.lag_one(self._kept(probe * self.z_ff))
            self.moves = probe_sd > 0
            # Rest and draw are uncorrelated over many draws, so their variances add.
            own = self._typical(np.maximum(probe_sd**2 - rest_sd**2, 0.0))
            if np.all(own[self._typical(probe_sd) > 0] > 0):
                break
        self.response = dataclasses.replace(response, offset=self._typical(self.rest))
        self.rest_variance = self._typical(rest_sd**2)
        self.theta = self._typical(circuit.threshold() - self.rest)
        # Equal weights on all inputs: the mean that lifts silent neurons.
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
        """Say whether a bias or something between synapse and layer keeps the target out of reach; empty if not."""
        spread, held = self._sizes(self.base)[1].sigma_FF * self.z_ff, self.circuit.weight
        # Hardly any weights and not zero: neurons whose drive never changes do not count as fluctuating.
        # Not cut off at the range of the chip, which would look like a path that does not answer.
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
        if self.circuit.bends or ratio > _LEAST_ANSWER:  # a charge curve that bends answers less by itself
            return ""
        return (
            f"twice the spread of the weights makes the membranes fluctuate {ratio:.2g} times as much, so what lies "
            "between synapse and layer, such as a normalisation, sets their size. Scale what it gives, or remove it."
        )

    def _typical(self, of_neurons: np.ndarray) -> np.ndarray:
        """Return the median of each unit over its neurons that get any input."""
        return self.circuit.per_unit(np.where(self.moves, of_neurons, np.nan))

    def _calibrate(self) -> None:
        """Scale the spread of each unit until its median neuron keeps the distance that is asked for."""
        share = math.sqrt(self.settings.alpha)  # the rest of the variance comes from the layer itself
        predicted = self._sizes(0.0)[1].sigma_FF
        most = np.maximum(self.circuit.weight_limit / max(float(predicted.max()), 1e-30), _MOST_GAIN)
        for _ in range(_MEASURED_ROUNDS):
            sigma = self._sizes(0.0)[1].sigma_FF
            mean, sd = self.meter.alone(self._kept(sigma * self.z_ff))
            rise = mean - self.rest
            if self.direction is None and self.moves.any():
                # A unit's mean is the luck of its draw. Only what all have in common, as by pooling, is counted.
                rise = np.full_like(rise, rise[self.moves].mean())
            # The spread scales both parts, so that this lands on the target at once where nothing bends. A neuron's
            # factor is above 1 exactly where its xi is, so the factor of the median neuron is the median factor.
            theta = self.circuit.threshold() - self.rest
            used = rise + self.settings.xi / share * sd
            miss = self._typical(theta / np.maximum(used, 1e-3 * theta))
            if np.all(np.abs(miss - 1) < _MEASURED_STOP):
                return
            self.gain = np.clip(self.gain * miss, 1e-3, most)


def _normal_like(key: jax.Array, weight: jax.Array | None) -> np.ndarray | None:
    return None if weight is None else np.asarray(jax.random.normal(key, weight.shape), float)


def rise_of(response: Response) -> int:
    """Return the steps in which the slowest membrane gets to within 1 % of its mean."""
    total = np.cumsum(response.response, axis=0)
    return int(np.max(np.argmax(np.abs(total) >= 0.99 * np.abs(total[-1]), axis=0)))


def _centred(z: Any, direction: np.ndarray | None) -> np.ndarray:
    """Take the mean-rate direction out of every column of ``z`` and stretch what is left back to unit spread."""
    z = np.asarray(z, dtype=float)
    if direction is None:
        return z
    # Projecting one of n directions out leaves 1 - 1/n of the variance.
    return (z - np.outer(direction, direction @ z)) / math.sqrt(1 - 1 / len(direction))
