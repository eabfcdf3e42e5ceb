"""Monte Carlo estimate of the distribution of a network's score over sampled chips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from brainhw import _arguments, _records
from brainhw._drawn import Drawn
from brainhw._progress import progress_bar
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.chip import get_family
from brainhw.nn import net_chip
from brainhw.nn.effective import chips_side_by_side
from brainhw.nn.pinned import has_sampled_chip
from brainhw.train.class_scores import ClassScores
from brainhw.transform.prepare import nominal_chip, sample_chip, states_restored

__all__ = ["RobustnessReport", "robustness"]


@final
@dataclass(frozen=True)
class RobustnessReport(Shown, Drawn):
    """Scores of one network on many sampled chips; ``print`` it for a table.

    ``report.plot()`` plots the scores (:func:`brainhw.visualize.plot_robustness`).

    Attributes
    ----------
    scores : ndarray
        The score on each chip, ``[n_chips]``.
    keys : jax.Array
        The PRNG key of each chip: ``brainhw.sample_chip(net, report.keys[i])`` samples chip ``i`` again.
    nominal : float
        The score on the nominal chip.
    in_place : float or None
        The score on the chip that was current when :func:`robustness` was called; ``None`` if this was the nominal
        chip.
    shares : mapping of str to ndarray
        If ``evaluate`` returned :class:`brainhw.train.ClassScores`, the fractions of recordings that are ``"silent"``,
        ``"tied"`` and ``"undecided"`` on each chip, ``[n_chips]``. Otherwise the mapping is empty.
    nominal_shares : mapping of str to float
        The same fractions on the nominal chip.
    """

    scores: np.ndarray
    keys: jax.Array = field(repr=False)
    nominal: float
    in_place: float | None = None
    shares: Mapping[str, np.ndarray] = field(default_factory=dict)
    nominal_shares: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _records.check_fields(
            self,
            scores=_records.numbers(ndims=(1,)),
            nominal=_arguments.number,
            in_place=_records.optional(_arguments.number),
            shares=_records.by_name(_records.numbers(ndims=(1,)), "arrays with one value per chip"),
            nominal_shares=_records.by_name(_records.share, "shares"),
        )
        if any(len(of_chips) != len(self.scores) for of_chips in self.shares.values()):
            raise ValueError(
                f"RobustnessReport: each array in shares must contain one value for each of the {len(self.scores)} "
                "scores."
            )
        if not len(self.scores):
            raise ValueError("RobustnessReport: scores must contain the score of at least one chip; got none.")
        keys = self.keys
        typed = isinstance(keys, jax.Array) and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) and keys.ndim == 1
        if not typed or len(keys) != len(self.scores):
            raise TypeError(
                "RobustnessReport: keys must be an array of PRNG keys (jax.random.key), one for each of the "
                f"{len(self.scores)} scores; got {_arguments.describe(keys)}."
            )

    @property
    def n_chips(self) -> int:
        """Number of sampled chips."""
        return len(self.scores)

    @property
    def mean(self) -> float:
        """Mean score over the chips."""
        return float(self.scores.mean())

    @property
    def std(self) -> float:
        """Standard deviation over the chips (0 for a single chip)."""
        return float(self.scores.std(ddof=1)) if self.n_chips > 1 else 0.0

    @property
    def worst(self) -> int:
        """Index of the chip with the lowest score."""
        return int(np.argmin(self.scores))

    def quantile(self, q: float) -> float:
        """Return the ``q`` quantile of the scores, with linear interpolation between neighbouring scores."""
        share = _arguments.number(q, call="RobustnessReport.quantile", name="q", nonnegative=True)
        if share > 1:
            raise ValueError(f"RobustnessReport.quantile: q must be from 0 to 1 (got {share:g}).")
        return float(np.quantile(self.scores, share))

    def yield_above(self, target: float) -> float:
        """Return the fraction of chips with a score of at least ``target``."""
        target = _arguments.number(target, call="RobustnessReport.yield_above", name="target")
        return float(np.mean(self.scores >= target))

    def _parts(self) -> Iterator[str | Table]:
        rows = [
            ("nominal chip", f"{self.nominal:.4f}"),
            *(() if self.in_place is None else (("current chip", f"{self.in_place:.4f}"),)),
            (f"mean of {self.n_chips} chips", f"{self.mean:.4f}"),
            ("standard deviation", f"{self.std:.4f}"),
            ("5 % quantile", f"{self.quantile(0.05):.4f}"),
            ("median", f"{self.quantile(0.5):.4f}"),
            ("95 % quantile", f"{self.quantile(0.95):.4f}"),
            (f"worst (chip {self.worst})", f"{self.scores[self.worst]:.4f}"),
            ("within 0.02 of nominal, or above", f"{self.yield_above(self.nominal - 0.02):.0%} of chips"),
        ]
        yield Table(("", "score"), rows, left=("",))
        yield from self.remarks

    @property
    def remarks(self) -> tuple[str, ...]:
        """Warnings, one sentence each, if recordings cannot be classified or if all chips have the same score."""
        words = {"silent": "have no output spike", "tied": "tie", "undecided": "are undecided"}
        said = [
            f"{self.nominal_shares.get(name, 0):.1%} of recordings {words.get(name, name)} on the nominal chip, up to "
            f"{of_chips.max():.1%} on a sampled chip"
            for name, of_chips in self.shares.items()
            if of_chips.any() or self.nominal_shares.get(name)
        ]
        if self.n_chips > 1 and not self.std and self.scores[0] == self.nominal < 1:
            said.append(f"all chips have the score {self.nominal:.4f}; print bh.train.class_report of the outputs")
        return tuple(said)


def robustness(
    net: brainstate.nn.Module,
    evaluate: Callable[[brainstate.nn.Module], jax.Array],
    n_chips: int = 100,
    *,
    key: jax.Array | int | Sequence[jax.Array | int],
    chunk: int | None = None,
    max_memory: int = 2**30,
    devices: Sequence[jax.Device] | None = None,
    pbar: bool = True,
    **mismatch: bool | float,
) -> RobustnessReport:
    """Evaluate a network on many sampled chips in parallel, in one compiled computation.

    The spikes on each chip are exactly the same as in a separate evaluation: :func:`brainhw.sample_chip` with the key
    of this chip, followed by a compiled ``evaluate``. A score that is computed from integers, such as an accuracy,
    is therefore also exactly the same. A score that is a sum of fractions may differ by rounding errors, because the
    order of summation may differ.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, which is not modified. If its current chip is sampled or measured, the report also contains the
        score on this chip. If the current chip is measured (:func:`brainhw.silicon.put_chip`), every sampled chip has
        the measured values, and only the other values are sampled.
    evaluate : callable
        ``evaluate(net)`` returns the score: a scalar such as an accuracy, or the result of
        :func:`brainhw.train.class_scores`. In the second case the report also contains the fractions of silent and tied
        recordings. ``evaluate`` should run the network with :func:`brainhw.rollout` without a key. JAX traces it, so it
        must not use ``float(...)`` or NumPy.
    n_chips : int, optional
        Number of chips. Default 100.
    key : jax.Array, int, or sequence of keys or seeds
        Chip ``i`` is sampled with ``jax.random.split(key, n_chips)[i]``. If you pass a sequence of PRNG keys or seeds,
        each of them samples one chip, and ``n_chips`` is ignored.
    chunk : int, optional
        Number of chips that are evaluated in parallel. Default: as many as fit into ``max_memory``, but on a CPU at
        most 8 per device.
    max_memory : int, optional
        Working memory in bytes that limits the default of ``chunk``. At least one chip per device is evaluated at a
        time, even if it needs more memory. Default 1 GiB.
    devices : sequence of jax.Device, optional
        Devices over which the chips of a chunk are distributed. Default: JAX's default device.
    pbar : bool, optional
        Show a progress bar over chips. Default True.
    **mismatch : bool or float, optional
        Standard deviation of each kind of mismatch, such as ``leak=0.2``, or ``False`` to disable it, such as
        ``synapse=False``; see :func:`brainhw.sample_chip`. Which kinds exist depends on the chip family. Default: the
        standard deviations in the chip's spec.

    Returns
    -------
    RobustnessReport
        The scores, with their mean, standard deviation and quantiles, the worst chip, and the yield (the fraction of
        chips that reach a target score).

    Raises
    ------
    TypeError
        If an argument has the wrong type, if the chip family does not have a given kind of mismatch, or if ``evaluate``
        does not return a scalar.
    ValueError
        If an argument is out of range, if ``evaluate`` returns NaN or infinity, or if the network contains no module on
        a chip.
    RuntimeError
        If called inside ``jit``.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.H1v1Synapse(4, 3, weight_init=jnp.full((4, 3), 0.5)), bh.nn.H1v1Layer(3, tau=10 * u.ms)
    ... )
    >>> def rate(net):
    ...     return bh.rollout(net, jnp.ones((50, 2, 4)))[0].mean()
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     report = bh.deploy.robustness(net, rate, n_chips=5, key=0, pbar=False)
    >>> report.scores.shape, bool(report.quantile(0.05) <= report.mean)
    ((5,), True)
    """
    call = "robustness"
    _arguments.check_module(net, call=call)
    if _arguments.inside_jit():
        raise RuntimeError(
            f"{call}: robustness compiles functions itself, so it cannot run inside jit. Call it outside of jit."
        )
    _arguments.function(evaluate, call=call, name="evaluate")
    _arguments.flag(pbar, call=call, name="pbar")
    _check_devices(devices, call)
    keys = _keys(key, n_chips, call)
    most = None if chunk is None else _arguments.positive_int(chunk, call=call, name="chunk")
    budget = _arguments.positive_int(max_memory, call=call, name="max_memory")
    chip = net_chip(net, call=call)
    if chip is None:
        raise ValueError(f"{call}: the network has no module on a chip. Build it with modules of a chip family.")
    kinds = [kind.kind for kind in get_family(chip.family, call=call).mismatches]
    if unknown := sorted(mismatch.keys() - set(kinds)):
        raise TypeError(
            f"{call}: {unknown[0]} is not a kind of mismatch of the family {chip.family} (its kinds: "
            f"{', '.join(map(repr, kinds)) or 'none'}). Remove this argument."
        )

    def on_chip(one: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        sample_chip(net, one, **mismatch)
        return _score(evaluate, net, call)

    # The parallel chips must run as one compiled program, so compile even if the caller uses `jax.disable_jit`.
    with states_restored(net, keep_weights=False), chips_side_by_side(), jax.disable_jit(False):
        # Compile this score too: it is compared with those of the sampled chips, and uncompiled steps round
        # differently.
        score = brainstate.transform.jit(lambda: _score(evaluate, net, call))
        in_place = float(score()[0]) if has_sampled_chip(net) else None
        # nominal_chip removes the measured values. Restore them afterwards, because the sampled chips keep them.
        with states_restored(net, keep_weights=False):
            nominal_chip(net)
            nominal, nominal_shares = score()
            nominal = float(nominal)
        # Make a pure function with the states as arguments and results: with vmap of a function that writes states, all
        # chips would write to the same state.
        program = brainstate.transform.StatefulFunction(on_chip, name=call)
        program.make_jaxpr(keys[0])
        values = [state.value for state in program.get_states(keys[0])]
        run = jax.jit(jax.vmap(lambda held, one: program.jaxpr_call(held, one)[1], in_axes=(None, 0)))
        sharding = _sharding(devices)
        n_devices = len(devices or (None,))
        size = min(len(keys), most or _fitting(run, values, keys, budget, n_devices))
        # Round up to a multiple of the number of devices, because JAX can only split an axis into equal parts.
        size = -(-size // n_devices) * n_devices
        parts = []
        with progress_bar(len(keys), desc="chips", unit="chip", shown=pbar, only_terminal=True) as bar:
            for start in range(0, len(keys), size):
                part = keys[start : start + size]
                # Pad the last chunk, so that all chunks have one shape and the program is compiled only once.
                filled = jnp.concatenate([part, jnp.repeat(part[-1:], size - len(part), axis=0)])
                found = run(values, jax.device_put(filled, sharding))
                parts.append(found)
                bar.update(len(part))
    # Drop the padding of the last chunk.
    together, shares = jax.tree.map(lambda *leaves: np.concatenate([*map(np.asarray, leaves)])[: len(keys)], *parts)
    bad = np.flatnonzero(~np.isfinite(together))
    named = {"the nominal chip": nominal, "the current chip": nominal if in_place is None else in_place}
    where = next((name for name, score in named.items() if not np.isfinite(score)), None)
    if bad.size or where is not None:
        where = f"{bad.size} of {len(together)} chips (the first is chip {bad[0]})" if bad.size else where
        raise ValueError(f"{call}: evaluate returned NaN or infinity for {where}. Check for divisions by zero.")
    of_nominal = {name: float(value) for name, value in nominal_shares.items()}
    return RobustnessReport(together, keys, nominal, in_place, shares, of_nominal)


def _score(
    evaluate: Callable[[Any], Any], net: brainstate.nn.Module, call: str
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the score, and the fractions of recordings without a clear class (silent, tied or undecided)."""
    shares: dict[str, jax.Array] = {}
    try:
        score = evaluate(net)
        if isinstance(score, ClassScores):
            shares = {"silent": score.silent, "tied": score.tied, "undecided": score.undecided}
            score = score.accuracy
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise TypeError(
            f"{call}: evaluate must use JAX operations only, because JAX traces it. Return the score "
            "without float(...), int(...), if, or NumPy."
        ) from error
    real = hasattr(score, "dtype") and (
        jnp.issubdtype(score.dtype, jnp.floating) or jnp.issubdtype(score.dtype, jnp.integer)
    )
    if not real or score.shape != ():
        raise TypeError(
            f"{call}: evaluate must return a scalar, such as brainhw.train.accuracy, or the result of "
            f"brainhw.train.class_scores; got {_arguments.describe(score)}."
        )
    return score, shares


def _check_devices(devices: Any, call: str) -> None:
    if devices is not None:
        for device in _arguments.several(devices, call=call, name="devices", of="jax.Device"):
            # Check an attribute instead of the class, because tests use a fake device of another process.
            if not hasattr(device, "process_index"):
                raise TypeError(
                    f"{call}: every element of devices must be a jax.Device; got {_arguments.describe(device)}."
                )


def _keys(key: Any, n_chips: Any, call: str) -> jax.Array:
    # An array of typed keys, as in RobustnessReport.keys. A single old-style key is also 1-D, but has integer elements.
    if isinstance(key, jax.Array) and key.ndim == 1 and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = list(key)
    if isinstance(key, (list, tuple)):
        if not key:
            raise ValueError(f"{call}: key must be a PRNG key or a non-empty list of PRNG keys; got an empty list.")
        return jnp.stack([_one_key(one, call) for one in key])
    n = _arguments.positive_int(n_chips, call=call, name="n_chips", most=_arguments.LONGEST_AXIS)
    return jax.random.split(_one_key(key, call), n)


def _one_key(key: Any, call: str) -> jax.Array:
    found = _arguments.some_key(key, call)
    return found if jax.dtypes.issubdtype(found.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(found)


def _sharding(devices: Sequence[jax.Device] | None) -> NamedSharding | None:
    if devices is None:
        return None
    if not len(devices):
        raise ValueError(
            "robustness: devices must contain at least one device; got none. Pass None for the default device."
        )
    foreign = [device for device in devices if device.process_index != jax.process_index()]
    if foreign:
        raise ValueError(
            f"robustness: devices contains {foreign[0]} of process {foreign[0].process_index}, but this is process "
            f"{jax.process_index()}. In each process, pass jax.local_devices() and the keys of this process."
        )
    return NamedSharding(Mesh(np.asarray(devices), ("chips",)), PartitionSpec("chips"))


def _fitting(run: Any, values: list[Any], keys: jax.Array, budget: int, n_devices: int) -> int:
    """Return the number of chips that are evaluated in parallel: as many as fit into ``budget`` bytes per device."""

    def memory(n_chips: int) -> int:
        analysis = run.lower(values, keys[jnp.zeros(n_chips, int)]).compile().memory_analysis()
        return 0 if analysis is None else analysis.temp_size_in_bytes

    on_cpu = jax.default_backend() == "cpu"
    most = -(-len(keys) // n_devices)
    if on_cpu:
        # A few chips at once are enough to use a CPU fully. In measurements, more than 8 were not consistently faster,
        # but always took more memory.
        most = min(most, 8)
        # Usually these fit. JAX keeps the compiled program, so it is not compiled again for the evaluation.
        if memory(most) <= budget:
            return n_devices * most
    # The memory per chip is the memory for two chips minus the memory for one chip. All chips share one copy of the
    # weights.
    one = memory(1)
    each = max(1, memory(2) - one)
    return n_devices * min(most, max(1, 1 + (budget - one) // each))
