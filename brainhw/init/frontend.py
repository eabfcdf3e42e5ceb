"""Initialise chip frontends so that every channel fires at a target rate on the data."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments, _printing
from brainhw.init.batches import take_batches
from brainhw.init.stages import discover_frontend
from brainhw.nn import H1Frontend, H1Layer
from brainhw.transform.prepare import states_restored

__all__ = ["frontend_init"]

_MOST_HALVINGS = 40  # about 15 halvings are enough, unless a weight is thousands of times below the limit
_PRECISION = 1e-4  # relative; chip weights have about five bits, and a finer search would depend on float rounding
_ROUNDS_RC = 6  # neurons of an RC layer drive each other, so a new weight of one channel also changes other rates
_REOPEN_FACTOR = 1.5  # a later round searches up to this factor above and below the last weights
_TOLERANCE = 0.1  # relative; a channel misses its target if it is off by more than this and by more than one spike
_MOST_GAIN = 1024.0  # the largest factor on the input that is tried
_GAIN_PRECISION = 1.01


def frontend_init(
    net: brainstate.nn.Module,
    dataloader: Iterable[Any],
    target_rate: u.Quantity = 50 * u.Hz,
    n_batches: int = 1,
    verbose: bool = True,
) -> u.Quantity:
    r"""Set the weights of a chip frontend so that every channel fires at a target rate on data, in place.

    The rate of channel :math:`i` is the firing rate of its neuron on the data,

    .. math:: \nu_i(w_i) = \frac{1}{B\,T\,\Delta t} \sum_{b,t} s_{bti}(w_i), \qquad
              w_i = \pm \operatorname{argmin}_{0 < |w| \le w_{max}} |\nu_i(w) - \nu_i^*|

    where :math:`w_{max}` is the weight limit of the chip. A larger weight causes more spikes, so the weights can be
    found by bisection. Each trial runs the frontend and its layer on the data, for all channels at the same time. Spike
    counts are integers, so a count can differ from its target by half a spike, and by more if it jumps by several
    spikes at some weight. If several weights come equally close to the target, the smallest one tried is used. The
    weight has the sign of the channel's mean input. If the rate is too low even at the limit, the weight gets the sign
    that causes more spikes.

    Call this function before training and before :func:`fluct_init`, which does not change the frontend.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. Its ``(frontend, layer)`` pair is read from ``net.frontend_stage`` if that is set. Otherwise the
        frontend is paired with the layer registered after it.
    dataloader : iterable
        Batches ``[B, T, channels]`` of the frontend's input, or tuples whose first element is such a batch. Each batch
        is a torch, numpy or jax array.
    target_rate : Quantity, optional
        Target rate, scalar or ``[channels]``. Default 50 Hz. It must be at most ``0.5 / dt``, because a neuron that
        spikes in more than half of all steps carries little information about its input, and its rate changes in
        coarse steps. It must be high enough for at least one spike in the data.
    n_batches : int, optional
        Number of batches to use. Default 1. If a channel has few spikes in the data, one spike is a large part of its
        rate. In this case, use more batches.
    verbose : bool, optional
        Print a summary. Default True.

    Returns
    -------
    Quantity
        Firing rate of each channel on the data with the final weights, ``[channels]`` in Hz.

    Raises
    ------
    TypeError
        If an argument or the data have the wrong type or unit. The weights are then unchanged.
    ValueError
        If the network has no frontend, or if an argument or the data are out of range. The weights are then unchanged.
    RuntimeError
        If no time step is set.

    Warns
    -----
    UserWarning
        If channels have no input; their weights do not change. If channels do not reach the target even at the weight
        limit; the warning says by which factor to scale the input. If other channels miss the target by more than
        10 % and more than one spike.

    Notes
    -----
    The nominal chip is used. Neurons of an ``'RC'`` layer drive each other. For such a layer the bisection is repeated
    around the last weights until every channel is within 10 % or one spike of the target, at most six times. The best
    weights of all rounds are used. All states except the frontend weights are restored. The result is deterministic.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> net = brainstate.nn.Sequential(bh.nn.H1v1Frontend(), bh.nn.H1v1Layer(16, tau=10 * u.ms))
    >>> x = (30 * np.random.default_rng(0).random((8, 250, 16))).astype(np.float32)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     rates = bh.init.frontend_init(net, [x], 40 * u.Hz, verbose=False)
    >>> [round(float(rate), 1) for rate in rates.to(u.Hz).mantissa[:3]]
    [40.0, 40.0, 40.0]
    """
    call = "frontend_init"
    dt = _arguments.time_step(call=call)
    _arguments.check_module(net, call=call)
    _arguments.flag(verbose, call=call, name="verbose")
    frontend, layer = discover_frontend(net, call=call)
    target = _checked_target(target_rate, frontend.in_size[-1], dt, call)
    x = take_batches(dataloader, n_batches, n_in=frontend.in_size[-1], call=call)
    duration = x.shape[0] * x.shape[1] * float(dt.to(u.second).mantissa)
    _check_data(frontend, layer, x, target, duration, call)
    say: Callable[[str], None] = _printing.say if verbose else lambda _: None
    say(f"[{call}] target={_span(target)}Hz dt={dt.to(u.ms).mantissa}ms [{frontend.chip.name}]")
    # Python's warning filter may turn a warning into an error. The weights must be restored also in this case.
    with states_restored(net, keep_weights=True):
        search = _ChannelSearch(frontend, layer, x, target * duration)
        before = search.counts(search.initial_weights) / duration
        found = search.solve()
        for message in _findings(search, found, target, duration):
            warnings.warn(f"{call}: {message}", UserWarning, stacklevel=2)
        frontend.weight.value = jnp.asarray(found.weights, frontend.weight.value.dtype)
    rates = found.counts / duration
    say(f"  Frontend → ν={_span(before)}Hz before, {_span(rates)}Hz after | w={_span(found.weights, '.4g')}")
    say(f"[{call}] done.")
    return u.Quantity(jnp.asarray(rates, brainstate.environ.dftype()), unit=u.Hz)


class _SearchResult(NamedTuple):
    """Result of a search: weights ``[channels]``, and the spike count of each channel with these weights."""

    weights: np.ndarray
    counts: np.ndarray


class _ChannelSearch:
    """Find the weights of all channels at the same time by bisection.

    Each trial calls one compiled function, which runs the frontend and its layer on the data.
    """

    def __init__(self, frontend: H1Frontend, layer: H1Layer, x: np.ndarray, target_counts: np.ndarray) -> None:
        self.frontend, self.layer = frontend, layer
        self.target_counts = target_counts
        self.limit = frontend.weight_slot().limit
        self.initial_weights = np.asarray(frontend.weight.value, dtype=float)
        self.active = np.any(x != 0, axis=(0, 1))
        self.sign = np.where(x.mean(axis=(0, 1), dtype=float) < 0, -1.0, 1.0)
        self.two_sided = np.any(x > 0, axis=(0, 1)) & np.any(x < 0, axis=(0, 1))
        self.xs = jnp.asarray(np.swapaxes(x, 0, 1))
        self._run = brainstate.transform.jit(self._spikes_per_step)
        # Set the shapes of the states before the first run. If the first run changed them, the second would compile
        # again.
        frontend.prepare()
        layer.prepare()
        layer.reset_state(x.shape[0])

    def _spikes_per_step(self, weights: jax.Array, gain: jax.Array, xs: jax.Array) -> jax.Array:
        self.frontend.weight.value = weights
        self.frontend.prepare()
        self.layer.prepare()
        self.layer.reset_state(xs.shape[1])
        charge = self.frontend.update(xs * gain)
        return brainstate.transform.for_loop(lambda drive: self.layer.update(drive).sum(axis=0), charge)

    def counts(self, weights: np.ndarray, gain: np.ndarray | float = 1.0) -> np.ndarray:
        """Return the spike count of each channel with these weights and the input scaled by ``gain``."""
        gains = jnp.asarray(np.broadcast_to(gain, weights.shape), self.xs.dtype)
        spikes = self._run(jnp.asarray(weights, self.frontend.weight.value.dtype), gains, self.xs)
        return np.asarray(spikes, dtype=float).sum(axis=0)

    def solve(self) -> _SearchResult:
        """Return the best weights found. Channels without input keep their weights."""
        strongest = self._signed(np.full_like(self.initial_weights, self.limit))
        at_limit = self.counts(strongest)
        weak = (at_limit < self.target_counts) & self.two_sided
        if weak.any():
            other = self.counts(np.where(weak, -strongest, strongest))
            turned = weak & (other > at_limit)
            self.sign = np.where(turned, -self.sign, self.sign)
            at_limit = np.where(turned, other, at_limit)
        magnitudes = self._bisect(
            np.zeros_like(self.initial_weights), np.full_like(self.initial_weights, self.limit), at_limit
        )
        best = self._evaluate(magnitudes)
        last = best
        for _ in range(_ROUNDS_RC if self.layer.topology == "RC" else 0):
            if not self.misses_target(best.counts).any():
                break
            now = np.abs(last.weights)
            last = self._evaluate(
                self._bisect(now / _REOPEN_FACTOR, np.minimum(now * _REOPEN_FACTOR, self.limit), None)
            )
            best = min(best, last, key=lambda found: float(self._miss_in_tolerances(found.counts).max()))
        return best

    def misses_target(self, counts: np.ndarray) -> np.ndarray:
        """Return a mask of the channels that have input, but are silent or miss the target.

        A channel misses the target if it is off by more than 10 % and by more than one spike.
        """
        return self.active & ((self._miss_in_tolerances(counts) > 1 + 1e-6) | (counts == 0))

    def at_limit(self, weights: np.ndarray) -> np.ndarray:
        """Return a mask of the weights that are at the limit of the chip, within the precision of the search."""
        return np.abs(weights) >= self.limit * (1 - 2 * _PRECISION)

    def required_gain(self, weights: np.ndarray, weak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the factor by which to scale the input of each channel so that the channel reaches its target.

        Also return the spike counts with the largest factors tried. The mask ``weak`` selects the channels; the factor
        of all others is 1. If no factor suffices for a channel, its factor is infinite.
        """
        need = np.ceil(self.target_counts - 0.5)
        low, high = np.ones_like(weights), np.where(weak, 2.0, 1.0)
        while True:
            counts = self.counts(weights, high)
            never = weak & (counts < need)
            short = never & (high < _MOST_GAIN)
            if not short.any():
                break
            low, high = np.where(short, high, low), np.where(short, 2 * high, high)
        while np.any(weak & ~never & (high > low * _GAIN_PRECISION)):
            middle = np.sqrt(low * high)
            enough = self.counts(weights, middle) >= need
            low, high = np.where(enough, low, middle), np.where(enough & ~never, middle, high)
        return np.where(never, np.inf, high), counts

    def _signed(self, magnitudes: np.ndarray) -> np.ndarray:
        return np.where(self.active, self.sign * magnitudes, self.initial_weights)

    def _miss(self, counts: np.ndarray) -> np.ndarray:
        return np.abs(counts - self.target_counts)

    def _evaluate(self, magnitudes: np.ndarray) -> _SearchResult:
        weights = self._signed(magnitudes)
        return _SearchResult(weights, self.counts(weights))

    def _miss_in_tolerances(self, counts: np.ndarray) -> np.ndarray:
        return np.where(self.active, self._miss(counts) / np.maximum(_TOLERANCE * self.target_counts, 1.0), 0.0)

    def _bisect(self, lower: np.ndarray, upper: np.ndarray, at_upper: np.ndarray | None) -> np.ndarray:
        """Return the weight magnitudes from ``lower`` to ``upper`` whose spike counts are closest to the targets."""
        best = upper
        miss = np.full_like(upper, np.inf) if at_upper is None else self._miss(at_upper)
        moving = self.active & (miss >= 0.5)
        if at_upper is not None:
            moving &= at_upper > self.target_counts
        for _ in range(_MOST_HALVINGS):
            moving &= upper - lower > _PRECISION * upper
            if not moving.any():
                break
            middle = np.where(moving, 0.5 * (lower + upper), best)
            counts = self.counts(self._signed(middle))
            now = self._miss(counts)
            better = moving & ((now < miss) | ((now == miss) & (middle < best)))
            best, miss = np.where(better, middle, best), np.where(better, now, miss)
            enough = counts >= self.target_counts
            lower = np.where(moving & ~enough, middle, lower)
            upper = np.where(moving & enough, middle, upper)
            # No count can be closer to the target. Stop here. Further steps would move the weight to the lower edge of
            # the interval of weights with this count.
            moving &= miss >= 0.5
        return best


def _checked_target(target_rate: Any, channels: int, dt: u.Quantity, call: str) -> np.ndarray:
    rate = _arguments.quantity(
        target_rate, u.Hz, call=call, name="target_rate", shapes=[(), (channels,)], positive=True
    )
    target = np.broadcast_to(np.asarray(rate.mantissa, dtype=float), (channels,))
    most = 0.5 / float(dt.to(u.second).mantissa)
    if target.max() > most * (1 + 1e-6):
        raise ValueError(
            f"{call}: target_rate must be at most 0.5 / dt = {most:g} Hz, one spike in two steps; got "
            f"{target.max():g} Hz. Use a lower target or a shorter dt."
        )
    return target


def _check_data(
    frontend: H1Frontend, layer: H1Layer, x: np.ndarray, target: np.ndarray, duration: float, call: str
) -> None:
    for module in (frontend, layer):
        for state in module.states(brainstate.ParamState).values():
            name = f"a weight of {type(module).__name__}"
            _arguments.check_finite_tree(state.value, call=call, name=name, fix="load or initialise it again")
    if not np.any(x):
        raise ValueError(f"{call}: the data contain only zeros. Scale the input up or check the loader.")
    if target.min() * duration < 1 - 1e-6:
        raise ValueError(
            f"{call}: target_rate {target.min():g} Hz means less than one spike in the {duration:g} s of data. Use "
            f"more data (n_batches), or a target of at least {1 / duration:.3g} Hz."
        )


def _findings(search: _ChannelSearch, found: _SearchResult, target: np.ndarray, duration: float) -> Iterator[str]:
    """Yield the texts of warnings about channels that have no input or miss the target rate.

    Channels whose rate is too low even at the weight limit get separate warnings.
    """
    if not search.active.all():
        yield (
            f"{_channels(~search.active)} have only zeros as input and keep their weights. Check the filter "
            "bank, or use data in which every channel is active."
        )
    rates, off = found.counts / duration, search.misses_target(found.counts)
    weak = off & (found.counts < search.target_counts) & search.at_limit(found.weights)
    if weak.any():
        gain, strongest = search.required_gain(found.weights, weak)
        never = weak & np.isinf(gain)
        helped = weak & ~never
        if helped.any():
            worst = int(np.argmax(np.where(helped, gain, 0.0)))
            factor = math.ceil(gain[worst] * 100) / 100
            yield (
                f"{_reach(helped, rates, target)} even at the weight limit {search.limit:g}. Scale the input by "
                f"{factor:.2f} (needed by channel {worst}) or use a longer tau."
            )
        if never.any():
            yield (
                f"{_reach(never, rates, target)} even at the weight limit {search.limit:g}, and only "
                f"{_listed(strongest[never] / duration)} Hz if the input is {_MOST_GAIN:g} times as strong, because "
                "the input is nonzero in too few steps. Use a lower target or data with more active steps."
            )
    rest = off & ~weak
    if rest.any():
        why = (
            "the neurons of an 'RC' layer drive each other; use smaller recurrent weights or a different target"
            if search.layer.topology == "RC"
            else "the input is so regular that the rate is a step function of the weight; use more varied data or a "
            "different target"
        )
        yield f"{_reach(rest, rates, target)}. No closer rate was found, because {why}."


def _reach(mask: np.ndarray, rates: np.ndarray, target: np.ndarray) -> str:
    return f"{_channels(mask)} fire at {_listed(rates[mask])} Hz (target {_span(target[mask])} Hz)"


def _channels(mask: np.ndarray) -> str:
    return f"channel(s) {', '.join(str(i) for i in np.flatnonzero(mask))}"


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _span(values: np.ndarray, form: str = ".1f") -> str:
    low, high = (format(float(value), form) for value in (values.min(), values.max()))
    return low if low == high else f"{low}..{high}"
