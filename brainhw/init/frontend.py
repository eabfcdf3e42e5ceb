"""Initialisation of chip frontends from data: every channel at a target firing rate."""

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

_MOST_HALVINGS = 40  # only a weight thousands of times below the limit needs more than about 15
_PRECISION = 1e-4  # relative; a chip weight has some five bits, and closer to a jump the last float bit would decide
_ROUNDS_RC = 6  # neurons that drive each other move the rates that were found before
_REOPENED = 1.5  # how far to either side a later round looks
_TOLERANCE = 0.1  # a channel further off than this share of its target, and than one spike, is off
_MOST_GAIN = 1024.0
_GAIN_PRECISION = 1.01


def frontend_init(
    net: brainstate.nn.Module,
    dataloader: Iterable[Any],
    target_rate: u.Quantity = 50 * u.Hz,
    n_batches: int = 1,
    verbose: bool = True,
) -> u.Quantity:
    r"""Bring every channel of a chip frontend to a target firing rate on the user's data, in place, before training.

    The rate of channel :math:`i` is what its neuron does on the data taken,

    .. math:: \nu_i(w_i) = \frac{1}{B\,T\,\Delta t} \sum_{b,t} s_{bti}(w_i), \qquad
              w_i = \pm \operatorname{arg\,min}_{0 < |w| \le w_{max}} |\nu_i(w) - \nu_i^*|

    with :math:`w_{max}` the weight limit of the chip. A larger weight gives more spikes, so all channels are bisected
    at once on the real frontend and layer. A spike count moves in whole spikes, so the target is met up to half a
    spike in the data, or up to where the count jumps. Of weights equally near the smallest tried is kept. The sign is
    that of the channel's mean input, or where this falls short even at the limit, the one that gives more spikes.

    Use it before :func:`fluct_init`, which takes the frontend as it stands.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network; its ``(frontend, layer)`` is ``net.frontend_stage`` or discovered in registration order.
    dataloader : iterable
        Batches ``[B, T, channels]`` as the frontend gets them, or tuples whose first element is that; torch, numpy or
        jax arrays.
    target_rate : Quantity, optional
        Rate wanted, scalar or ``[channels]``. Default 50 Hz. At most ``0.5 / dt``: a neuron that spikes in more than
        half of all steps says little about its input, and its rate moves in steps too coarse to aim at. At least one
        spike in the data taken.
    n_batches : int, optional
        Batches to use. Default 1. With few spikes in the data, one spike is a large part of the rate; take more.
    verbose : bool, optional
        Print a summary. Default True.

    Returns
    -------
    Quantity
        The rate that each channel reached on the data, ``[channels]`` in Hz, from a run of its own.

    Raises
    ------
    TypeError, ValueError
        If there is no frontend, or an argument or the data do not fit; the weights are then as before.
    RuntimeError
        If no time step is set.

    Warns
    -----
    UserWarning
        For channels without any input (their weights stay), for channels too weak to reach the target at the weight
        limit (with the factor on the input that would do), and for others that are off the target by more than 10 %
        and more than one spike.

    Notes
    -----
    The chip is the nominal one. Neurons of an ``'RC'`` layer drive each other: there the bisection is repeated around
    what it found until every channel is within the tolerance of the warning, and of the weights that were run together
    the best are kept. All states but the frontend weights are put back. Nothing is random.

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
    # A warning may be turned into an error: also then the weights are to be as before.
    with states_restored(net, keep_weights=True):
        search = _ChannelSearch(frontend, layer, x, target * duration)
        before = search.counts(search.left) / duration
        found = search.solve()
        for message in _findings(search, found, target, duration):
            warnings.warn(f"{call}: {message}", UserWarning, stacklevel=2)
        frontend.weight.value = jnp.asarray(found.weights, frontend.weight.value.dtype)
    rates = found.counts / duration
    say(f"  Frontend → ν={_span(before)}Hz before, {_span(rates)}Hz after | w={_span(found.weights, '.4g')}")
    say(f"[{call}] done.")
    return u.Quantity(jnp.asarray(rates, brainstate.environ.dftype()), unit=u.Hz)


class _Found(NamedTuple):
    """Weights ``[channels]`` and the spikes that each channel gives with them on the data."""

    weights: np.ndarray
    counts: np.ndarray


class _ChannelSearch:
    """Bisects the weights of all channels at once, with one compiled run of the frontend and its layer."""

    def __init__(self, frontend: H1Frontend, layer: H1Layer, x: np.ndarray, wanted: np.ndarray) -> None:
        self.frontend, self.layer = frontend, layer
        self.wanted = wanted
        self.limit = frontend.weight_slot().limit
        self.left = np.asarray(frontend.weight.value, dtype=float)
        self.active = np.any(x != 0, axis=(0, 1))
        self.sign = np.where(x.mean(axis=(0, 1), dtype=float) < 0, -1.0, 1.0)
        self.two_sided = np.any(x > 0, axis=(0, 1)) & np.any(x < 0, axis=(0, 1))
        self.xs = jnp.asarray(np.swapaxes(x, 0, 1))
        self._run = brainstate.transform.jit(self._spikes_per_step)
        # The compiled run depends on the shapes of the states that it finds; with other ones it would compile twice.
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
        """Return the spikes of each channel with these weights, and with the input scaled by ``gain``."""
        gains = jnp.asarray(np.broadcast_to(gain, weights.shape), self.xs.dtype)
        spikes = self._run(jnp.asarray(weights, self.frontend.weight.value.dtype), gains, self.xs)
        return np.asarray(spikes, dtype=float).sum(axis=0)

    def solve(self) -> _Found:
        """Return the best weights found; those of channels without input are as they were."""
        strongest = self._signed(np.full_like(self.left, self.limit))
        at_limit = self.counts(strongest)
        weak = (at_limit < self.wanted) & self.two_sided
        if weak.any():
            other = self.counts(np.where(weak, -strongest, strongest))
            turned = weak & (other > at_limit)
            self.sign = np.where(turned, -self.sign, self.sign)
            at_limit = np.where(turned, other, at_limit)
        magnitudes = self._bisect(np.zeros_like(self.left), np.full_like(self.left, self.limit), at_limit)
        best = self._together(magnitudes)
        last = best
        for _ in range(_ROUNDS_RC if self.layer.topology == "RC" else 0):
            if not self.off(best.counts).any():
                break
            now = np.abs(last.weights)
            last = self._together(self._bisect(now / _REOPENED, np.minimum(now * _REOPENED, self.limit), None))
            best = min(best, last, key=lambda found: float(self._miss_in_tolerances(found.counts).max()))
        return best

    def off(self, counts: np.ndarray) -> np.ndarray:
        """Whether each channel has input and is off its target by more than 10 % and one spike, or silent."""
        return self.active & ((self._miss_in_tolerances(counts) > 1 + 1e-6) | (counts == 0))

    def at_limit(self, weights: np.ndarray) -> np.ndarray:
        """Whether each weight is as strong as the chip allows, up to the precision of the search."""
        return np.abs(weights) >= self.limit * (1 - 2 * _PRECISION)

    def gain_wanted(self, weights: np.ndarray, weak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return by how much the input of each weak channel must be scaled, and its spikes with that.

        Infinite where no gain does it: then the spikes are those at the largest gain tried.
        """
        need = np.ceil(self.wanted - 0.5)
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
        return np.where(self.active, self.sign * magnitudes, self.left)

    def _miss(self, counts: np.ndarray) -> np.ndarray:
        return np.abs(counts - self.wanted)

    def _together(self, magnitudes: np.ndarray) -> _Found:
        weights = self._signed(magnitudes)
        return _Found(weights, self.counts(weights))

    def _miss_in_tolerances(self, counts: np.ndarray) -> np.ndarray:
        return np.where(self.active, self._miss(counts) / np.maximum(_TOLERANCE * self.wanted, 1.0), 0.0)

    def _bisect(self, lower: np.ndarray, upper: np.ndarray, at_upper: np.ndarray | None) -> np.ndarray:
        """Return the magnitudes between the bounds whose counts came nearest to what is wanted."""
        best = upper
        miss = np.full_like(upper, np.inf) if at_upper is None else self._miss(at_upper)
        moving = self.active & (miss >= 0.5)
        if at_upper is not None:
            moving &= at_upper > self.wanted
        for _ in range(_MOST_HALVINGS):
            moving &= upper - lower > _PRECISION * upper
            if not moving.any():
                break
            middle = np.where(moving, 0.5 * (lower + upper), best)
            counts = self.counts(self._signed(middle))
            now = self._miss(counts)
            better = moving & ((now < miss) | ((now == miss) & (middle < best)))
            best, miss = np.where(better, middle, best), np.where(better, now, miss)
            enough = counts >= self.wanted
            lower = np.where(moving & ~enough, middle, lower)
            upper = np.where(moving & enough, middle, upper)
            # No count is nearer. To stop here leaves the weight within its step and not at the edge of it.
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
            f"{call}: target_rate must be at most 0.5 / dt = {most:g} Hz, a spike in every second step; got "
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
        raise ValueError(f"{call}: the data hold only zeros; scale the input up or check the loader.")
    if target.min() * duration < 1 - 1e-6:
        raise ValueError(
            f"{call}: target_rate {target.min():g} Hz is less than one spike in the {duration:g} s of data; take more "
            f"data (n_batches), or a target of at least {1 / duration:.3g} Hz."
        )


def _findings(search: _ChannelSearch, found: _Found, target: np.ndarray, duration: float) -> Iterator[str]:
    """Yield warnings: of channels without input, too weak, or off the target for another reason."""
    if not search.active.all():
        yield (
            f"{_channels(~search.active)} with only zeros as input keep the weight that they had; check the filter "
            "bank, or take data in which every channel is active."
        )
    rates, off = found.counts / duration, search.off(found.counts)
    weak = off & (found.counts < search.wanted) & search.at_limit(found.weights)
    if weak.any():
        gain, strongest = search.gain_wanted(found.weights, weak)
        never = weak & np.isinf(gain)
        helped = weak & ~never
        if helped.any():
            worst = int(np.argmax(np.where(helped, gain, 0.0)))
            factor = math.ceil(gain[worst] * 100) / 100
            yield (
                f"{_reach(helped, rates, target)} even at the weight limit {search.limit:g}; scale the input by "
                f"{factor:.2f}, which is what channel {worst} needs, or use a longer tau."
            )
        if never.any():
            yield (
                f"{_reach(never, rates, target)} even at the weight limit {search.limit:g}, and an input "
                f"{_MOST_GAIN:g} times as strong gives {_listed(strongest[never] / duration)} Hz: it drives in too few "
                "steps. Use a lower target or data in which it is active more often."
            )
    rest = off & ~weak
    if rest.any():
        why = (
            "neurons of an 'RC' layer drive each other; use smaller recurrent weights or another target"
            if search.layer.topology == "RC"
            else "with input this regular the rate jumps as the weight grows; use more varied data or another target"
        )
        yield f"{_reach(rest, rates, target)}, the nearest found: {why}."


def _reach(mask: np.ndarray, rates: np.ndarray, target: np.ndarray) -> str:
    return f"{_channels(mask)} end at {_listed(rates[mask])} Hz (target {_span(target[mask])} Hz)"


def _channels(mask: np.ndarray) -> str:
    return f"channel(s) {', '.join(str(i) for i in np.flatnonzero(mask))}"


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _span(values: np.ndarray, form: str = ".1f") -> str:
    low, high = (format(float(value), form) for value in (values.min(), values.max()))
    return low if low == high else f"{low}..{high}"
