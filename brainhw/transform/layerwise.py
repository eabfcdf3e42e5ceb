"""Run a network layer by layer, each layer over many steps at once, where that is faster than step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import brainstate
import jax
import jax.numpy as jnp

from brainhw import _arguments
from brainhw.nn.protocols import runs_whole_sequence
from brainhw.transform.trace import Call, Link, StepTrace, Value, trace_step

__all__ = ["Layers", "in_pieces", "layers_of", "segment_length"]

# Numbers that a layer hands on at once: enough for a large matrix product, and few enough to stay in the cache.
_NUMBERS = 2**17
# A run of no more numbers than this in all is not worth a second loop around the first.
_WHOLE = 2**19
# A convolution costs far more than the memory traffic that pieces save, and the backward pass of a piece would compute
# it again: one call over all steps took 0.1 of the time on 12C5-MP2-64C5-MP2-10. This bounds the memory, some 64 MiB a
# value.
_WHOLE_WITH_LINKS = 2**24


class _Sequence(NamedTuple):
    """How to compute one value for all steps: a link, and the positions of the sequences that it starts from."""

    link: Link
    sources: tuple[int, ...]
    unchanged: bool  # the value is its one source, unit included: a plain chain costs nothing

    def over(self, found: Sequence[Any], n_steps: int) -> Any:
        """Return the value at all steps, ``[T, ...]``, from the sequences found so far."""
        given = [found[i] for i in self.sources]
        if self.unchanged:
            return given[0]
        if given:
            return jax.vmap(self.link)(*given)
        return jax.tree.map(lambda same: jnp.broadcast_to(same, (n_steps, *jnp.shape(same))), self.link())


@dataclass(frozen=True, eq=False)
class Layers:
    """A network as modules that each process a whole sequence, and pure functions between them.

    Attributes
    ----------
    modules : tuple of SequenceModule
        The modules in the order of the step's calls.
    numbers : int
        The most numbers that one module or one operation between modules returns in a step.
    """

    modules: tuple[Any, ...]
    numbers: int
    _inputs: tuple[_Sequence, ...]
    _output: _Sequence

    def __call__(self, xs: Any) -> Any:
        """Return the outputs ``[T, ...]`` for an input ``[T, ...]``, and leave the states as the steps would."""
        n_steps = jax.tree.leaves(xs)[0].shape[0]
        found = [xs]
        for module, needed in zip(self.modules, self._inputs, strict=True):
            found.append(module.update_sequence(needed.over(found, n_steps)))
        return self._output.over(found, n_steps)

    def offer(self, module: Any, name: str) -> bool:
        """Return whether a recorder gets ``name`` of ``module`` as a whole sequence."""
        return any(one is module for one in self.modules) and name in module.sequence_records

    @property
    def can_be_cut(self) -> bool:
        """Whether the network may run some steps at a time and still have its lean backward pass."""
        return all(module.can_be_cut for module in self.modules)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is computed between the modules."""
        return all(link.unchanged for link in (*self._inputs, self._output))

    def steps_at_once(self, n_steps: int) -> int:
        """Return how many steps at once make matrix products that are large enough."""
        if n_steps * self.numbers <= (_WHOLE if self.is_plain else _WHOLE_WITH_LINKS):
            return n_steps
        return length_near(max(1, _NUMBERS // self.numbers), n_steps)


def layers_of(net: brainstate.nn.Module, x: Any, *, call: str) -> Layers | None:
    """Return how ``net`` runs layer by layer; ``None`` if it must run step by step, or gains nothing.

    One step is traced. The network runs layer by layer if every state that the step writes belongs to a module that
    can process a whole sequence, and everything between these modules is a pure function of the input, of their
    outputs in the same step and of states that the step does not write. Such a function is mapped over time, so
    skip connections, scaling, convolutions, pooling and units between the layers stay what they are in the step.

    Parameters
    ----------
    net : brainstate.nn.Module
        The prepared network.
    x : array, Quantity or pytree of them
        An input of one step.
    call : str
        The call to name in errors.

    Raises
    ------
    TypeError
        If a module has only some of the members of :class:`brainhw.nn.protocols.SequenceModule`.
    """
    try:
        step = trace_step(net, x, call=call)
    except Exception:  # running the step reports best what is wrong with it
        return None
    calls = [one for one in step.calls if runs_whole_sequence(one.module, call=call)]
    if not any(one.module.gains_from_sequence() for one in calls) or not _only_they_write(step, calls):
        return None
    dt = brainstate.environ.get("dt", default=None)
    if any(one.dt is not dt or not one.owns_states or not one.takes_one for one in calls):
        return None
    sources = [step.given]
    needed = []
    for target in (*(one.given for one in calls), step.returned):
        found = _sequence(step, target, sources)
        if found is None:
            return None
        needed.append(found)
        if len(needed) <= len(calls):
            sources.append(calls[len(needed) - 1].gave)
    numbers = max(sum(math.prod(like.shape) for like in value.likes) for value in sources[1:])
    return Layers(
        modules=tuple(one.module for one in calls),
        numbers=max(1, numbers, *(one.link.numbers for one in needed)),
        _inputs=tuple(needed[:-1]),
        _output=needed[-1],
    )


def _only_they_write(step: StepTrace, calls: Sequence[Call]) -> bool:
    """Return whether all that the step changes are the hidden states of these modules, each called once."""
    states = [id(state) for one in calls for state in one.module.states(brainstate.HiddenState).values()]
    # A module without states may be called in several places; a state that stands here twice is advanced twice.
    return not step.has_effects and len(set(states)) == len(states) and {id(s) for s in step.written} <= {*states}


def _sequence(step: StepTrace, target: Value, sources: Sequence[Value]) -> _Sequence | None:
    link = step.link(target, sources)
    written = {id(state) for state in step.written}
    # A value that the step writes differs from step to step: a link over all steps at once cannot read it.
    if link is None or any(id(state) in written for state in link.states):
        return None
    place = {id(source): i for i, source in enumerate(sources)}
    unchanged = len(link.sources) == 1 and link.sources[0].same(target) and link.sources[0].tree == target.tree
    return _Sequence(link, tuple(place[id(source)] for source in link.sources), unchanged)


def segment_length(checkpoint: int | str | None, n_steps: int, *, call: str) -> int | None:
    """Return the steps of a segment that ``checkpoint`` asks for; ``None`` if it asks for none."""
    if checkpoint is None:
        return None
    if checkpoint == "auto":
        # A segment keeps some five arrays a step while it is differentiated, and two at its start until then.
        return length_near(max(1, math.isqrt(n_steps) // 2), n_steps)
    if isinstance(checkpoint, str):
        raise ValueError(f"{call}: checkpoint must be None, 'auto' or a number of steps; got {checkpoint!r}.")
    return min(_arguments.positive_int(checkpoint, call=call, name="checkpoint"), n_steps)


def length_near(wanted: int, n_steps: int) -> int:
    """Return a length near the one wanted that divides ``n_steps``, so that no piece is left over; else the wanted."""
    near = [k for k in range(max(1, wanted // 2), min(2 * wanted, n_steps) + 1) if n_steps % k == 0]
    return min(near, key=lambda k: abs(k - wanted)) if near else min(wanted, n_steps)


def in_pieces(
    run: Callable[..., Any], xs: Any, n_steps: int, length: int, *, keeps: Sequence[str] = (), pbar: Any = None
) -> Any:
    """Return what ``run(*xs)`` returns, called on ``length`` steps after the other.

    The backward pass of each piece has the states that it began with, and what ``run`` marked with one of the names in
    ``keeps``; the rest it computes again.
    """
    policy = jax.checkpoint_policies.save_only_these_names(*keeps)

    def piece(prevent_cse: bool) -> Callable[..., Any]:
        return brainstate.transform.checkpoint(run, policy=policy, prevent_cse=prevent_cse)

    if length == n_steps and pbar is None:
        return piece(prevent_cse=True)(*xs)
    n_whole = n_steps // length
    whole = n_whole * length
    head = jax.tree.map(lambda x: x[:whole].reshape(n_whole, length, *x.shape[1:]), xs)
    # A loop cannot share what it computes with its backward pass, so nothing need be done to prevent it.
    done = brainstate.transform.for_loop(piece(prevent_cse=False), *head, pbar=pbar)
    done = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), done)
    if whole == n_steps:
        return done
    rest = piece(prevent_cse=True)(*jax.tree.map(lambda x: x[whole:], xs))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), done, rest)
