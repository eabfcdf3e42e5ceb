"""Run a network over time: layer by layer where possible, otherwise step by step; with bounded memory on request."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from brainstate._state import TRACE_CONTEXT

from brainhw import _arguments
from brainhw.kernel.leaky import KEPT
from brainhw.kernel.lengths import check_lengths, zero_padding
from brainhw.nn.protocols import runs_whole_sequence
from brainhw.nn.ranges import check_ranges
from brainhw.transform.clock import now
from brainhw.transform.cpu_gradients import cheap_gradients
from brainhw.transform.finite import FiniteWatch, check_states
from brainhw.transform.given import checked_bar, checked_key
from brainhw.transform.prepare import (
    check_numbers,
    is_finite,
    one_thread_at_a_time,
    prepare_net,
    step_limit,
    take_back,
)
from brainhw.transform.record import Recorder
from brainhw.transform.recorded import Replaced
from brainhw.transform.trace import Call, Link, StepTrace, Value, modules_within, try_step

__all__ = ["LayerwisePlan", "plan_layerwise", "rollout", "time_and_batch"]


def rollout(
    net: brainstate.nn.Module,
    xs: Any,
    *,
    record: Sequence[str] = (),
    checkpoint: int | Literal["auto"] | None = None,
    pbar: Any = None,
    prepare: bool | str = True,
    key: jax.Array | int | None = None,
    check_finite: bool = False,
    layerwise: bool = True,
    recorded: Any = None,
    lengths: Any = None,
) -> tuple[Any, dict[str, Any]]:
    """Prepare a network, run it over a time-major input, and return its outputs and what was recorded.

    The same as ``prepare_net(net, B)`` followed by ``brainstate.transform.for_loop(net, xs)``, and faster where the net
    can run layer by layer (see Notes).

    Parameters
    ----------
    net : brainstate.nn.Module
        The network; ``net(x)`` advances it by one step.
    xs : array, Quantity or pytree of them
        Input, time first: ``[T, ...]`` for one sample or ``[T, B, ...]`` for a batch (see Notes).
    record : sequence of str, optional
        What to keep at every step besides the output: ``"hidden.V"`` is the state ``V`` of ``net.hidden`` (after the
        reset), ``"hidden.V_pre"`` the membrane before it, ``"hidden.spk"`` its spikes.
    checkpoint : 'auto', int or None, optional
        ``None`` (default) keeps the membranes of every step, or of a net that runs step by step all that the backward
        pass needs. An int keeps it of every so-many-th step
        and recomputes the rest; ``'auto'`` chooses about ``sqrt(T) / 2``: memory falls from ``T`` to some ``3 sqrt(T)``
        stored steps for about one more forward pass. XLA may round a membrane otherwise by one unit in the last place.
    pbar : int or brainstate.transform.ProgressBar, optional
        Progress bar over steps (over segments with ``checkpoint``).
    prepare : bool or 'weights', optional
        Call :func:`brainhw.prepare_net` first. Default True; ``False`` goes on from the present states, so that a
        stream fed in chunks gives what one long run gives. ``'weights'`` goes on from them too, and takes up weights
        that have changed: truncated backpropagation calls it inside the loss, once per chunk.
    key : jax.Array or int, optional
        Sampled chip, see :func:`brainhw.prepare_net`. Not with ``prepare=False``.
    check_finite : bool, optional
        Raise ``FloatingPointError`` (inside a compiled function: ``JaxRuntimeError`` with the same words) naming the
        state and the step at which a hidden state, or under ``grad`` the gradient that flows into it, stops being
        finite; and for a parameter that is out of its range. A debugging aid, off by default: it costs time.
    layerwise : bool, optional
        Run layer by layer where the net allows it (see Notes). Default True; ``False`` runs every net step by step,
        which is slower and has forward-mode derivatives too.
    recorded : Recording or mapping, optional
        What a chip did on the same input, put in place of what the layers compute (chip in the loop, see Notes):
        ``{"hidden.spk": spikes, "hidden.V": membranes}`` with spikes 0 or 1, ``[T, ...]``, and membranes after the
        reset, a voltage; or a :class:`brainhw.silicon.Recording`. Layers and membranes may be left out. Default: none.
    lengths : array, optional
        Number of true steps of each recording, ``[B]``, or one number for a single recording. Outputs and records of
        the steps behind them, where the input is padding, are zero. Default: all steps are true.

    Returns
    -------
    outputs : array, Quantity or pytree
        What ``net`` returned, stacked: ``[T, ...]``.
    records : dict
        The recorded values by name, ``[T, ...]``.

    Raises
    ------
    TypeError, ValueError
        If ``xs`` is empty, ragged or not finite, a recorded name does not exist, an option is unknown, ``lengths`` do
        not fit, or ``recorded`` has another shape or unit, other values, or a layer that cannot take it.
    RuntimeError
        If no time step is set, weights or the chip changed since the net was prepared (``prepare=False``), or states
        would have to be made inside ``jit``.

    Notes
    -----
    A net runs layer by layer over many steps at once if all that changes in a step are the states of LIF, H1,
    current-based, adaptive or fractional layers, leaky readouts and other modules with an ``update_sequence``, and if
    what stands between them (synapses, scaling, skip connections, units, convolutions, pooling) depends on the same
    step alone. Synapses are one matrix product then, and neurons have a leaner backward pass but no forward-mode
    derivatives. One traced step shows whether this holds. Spikes and gradients are those of the steps; where a library
    sums a large product in another order than a small one, a membrane may be rounded otherwise by some units in the
    last place. Any other net runs step by step, as does one with ``pbar`` or ``check_finite``, or where something is
    recorded that only exists step by step.

    Two axes are ``[T, N]``, three ``[T, B, N]``, more ``[T, B, ...]``. Images without a batch are recognised by the
    ``in_size`` of the network or of a module in it: ``[T, 28, 28, 1]`` for ``in_size=(28, 28, 1)``.

    A function compiled by ``brainstate.transform.jit`` is traced again when it is called under another ``dt`` or
    ``fit`` of ``brainstate.environ``, and for another batch size once. Whether the net was prepared outside of
    it is baked in: a function compiled with ``prepare=False`` cannot notice that weights have changed since.

    Inside ``jax.disable_jit()`` the steps run one after the other as they are written: prints and a debugger see them.

    A step may ask ``brainstate.environ`` for its number ``i`` and its time ``t``, as in brainstate's own loops. They
    count from the ``i`` and ``t`` that are set around the call, otherwise from 0 and 0 ms, also with ``prepare=False``:
    a chunk that begins at step 100 stands in ``brainstate.environ.context(i=100)``. A net that depends on them runs
    step by step.

    Rollouts and streams outside of compiled functions take turns where several threads call them. brainstate cannot
    trace one network in two threads: call a compiled function of your own once before threads share it.

    With ``recorded``, a layer with spikes ``s`` of its own returns ``s + stop_gradient(recorded - s)``: the value is
    that of the chip, the gradient that of the model at its own membrane before the reset. Resets and recurrent drives
    follow the recorded spikes. A recorded membrane replaces the membrane after the reset in the same way; without one,
    the membrane of a neuron that did not fire is held at its threshold at most, as it must have been. So training
    corrects what the model does not know of the chip (Cramer et al. 2022, PNAS 119, e2109194119).

    Outside ``brainstate.transform.jit`` every call compiles the loop anew; put training and evaluation steps in
    ``jit``. A not finite ``xs`` can only be seen there where it is not traced; use ``check_finite`` inside.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(bh.nn.LIFSynapse(2, 3), bh.nn.LIFLayer(3, tau=10 * u.ms))
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     spikes, seen = bh.rollout(net, jnp.ones((50, 4, 2)), record=("layers.1.V",))
    >>> spikes.shape, seen["layers.1.V"].shape
    ((50, 4, 3), (50, 4, 3))
    """
    call = "rollout"
    if not isinstance(net, brainstate.nn.Module):
        _arguments.check_module(net, call=call)
    if key is not None or not (type(check_finite) is type(layerwise) is bool):
        key = checked_key(key, call=call, check_finite=check_finite, layerwise=layerwise)
    n_steps, batch_size = time_and_batch(net, xs, call=call)
    xs = _arguments.as_arrays(xs, call=call, name="xs")
    if lengths is not None:
        of_batch = () if batch_size is None else (batch_size,)
        lengths = check_lengths(lengths, n_steps, of_batch, call=call)
    _check_values(net, xs, call)
    pbar = None if pbar is None else checked_bar(pbar, n_steps, call=call)
    segment = segment_length(checkpoint, n_steps, call=call)
    if jax.config.jax_disable_jit:
        # Somebody looks into the steps: each runs as it is written, one after the other.
        layerwise, segment = False, None
    with one_thread_at_a_time():
        recorder = Recorder(net, record, call=call)
        leading = (n_steps,) if batch_size is None else (n_steps, batch_size)
        given = None if recorded is None else Replaced(net, recorded, leading, call=call)
        arrays = () if given is None else given.arrays
        _make_ready(net, batch_size, prepare, key, call)
        limit = step_limit(net, call)
        if limit is not None and limit.steps_left < n_steps:
            raise limit.limit_reached(call, n_steps)
        # Traced before anything runs, in either way: a step that would give wrong numbers in silence is refused.
        whole = layerwise and pbar is None and not check_finite
        layers = _plan(net, jax.tree.map(lambda x: x[0], xs), recorder, segment, whole=whole, call=call)
        if layers is not None:
            run_layers = partial(_layer_by_layer, net, layers, recorder, given, n_steps=n_steps, segment=segment)
            return _without_padding(compiled(run_layers, (xs, arrays)), lengths)
        watch, clock = FiniteWatch(net) if check_finite else None, now()

        def step(k: jax.Array, x: Any, of_step: Any) -> tuple[Any, dict[str, Any], dict[str, jax.Array]]:
            with brainstate.environ.context(**clock.at(k)), _in_place(given, of_step, net):
                return *recorder.step(x), watch.step(k) if watch is not None else {}

        def run(inputs: tuple[Any, Any]) -> Any:
            timed = jnp.arange(n_steps), *inputs
            if segment is None:
                return brainstate.transform.for_loop(step, *timed, pbar=pbar)
            return in_pieces(partial(brainstate.transform.for_loop, step), timed, n_steps, segment, pbar=pbar)

        outputs, records, bad = compiled(run, (xs, arrays))
        if watch is not None:
            watch.report(bad)
        return _without_padding((outputs, records), lengths)


def _without_padding(found: tuple[Any, dict[str, Any]], lengths: jax.Array | None) -> tuple[Any, dict[str, Any]]:
    return found if lengths is None else zero_padding(found, lengths)


def _plan(
    net: brainstate.nn.Module, x: Any, recorder: Recorder, segment: int | None, *, whole: bool, call: str
) -> LayerwisePlan | None:
    if not whole:
        try_step(net, x, call=call)
        return None
    layers = plan_layerwise(net, x, call=call)
    return layers if layers is not None and layers.serve(recorder, segment) else None


def _make_ready(net: brainstate.nn.Module, batch_size: int | None, prepare: Any, key: Any, call: str) -> None:
    """Prepare a network as the argument ``prepare`` of :func:`rollout` says."""
    if not (isinstance(prepare, (bool, np.bool_)) or (isinstance(prepare, str) and prepare == "weights")):
        raise TypeError(f"{call}: prepare must be True, False or 'weights'; got {_arguments.describe(prepare)}.")
    weights = isinstance(prepare, str)
    if prepare and not weights:
        prepare_net(net, batch_size, key=key)
        return
    if key is not None and not weights:
        raise ValueError(f"{call}: key samples a chip while preparing, but prepare is False; leave one of them out.")
    check_numbers(take_back(net.states(), call=call), call=call)
    check_states(net, call)
    if weights:
        prepare_net(net, key=key, reset=False)
    else:
        check_ranges(net, call=call)


def compiled(run: Callable[[Any], Any], xs: Any) -> Any:
    """Return ``run(xs)``, compiled as a whole unless a function around it is being compiled."""
    if TRACE_CONTEXT.state_stack or jax.config.jax_disable_jit:
        return run(xs)
    # As single operations JAX would keep a loop in its caches for good: 0.7 to 1.4 MiB for each call of an eager
    # rollout. A program of its own goes with its function.
    function = brainstate.transform.StatefulFunction(run, name="rollout")
    key = function.get_arg_cache_key(xs, compile_if_miss=True)
    jaxpr, trace = function.get_jaxpr_by_cache(key), function.get_state_trace_by_cache(key)
    read, given = trace.get_read_state_values(True), jax.tree.leaves((xs, trace.get_state_values()))
    # Constants are arguments, as in single operations: XLA computes with constants in advance and rounds otherwise.
    found = jax.jit(partial(jax.core.eval_jaxpr, jaxpr.jaxpr))(jaxpr.consts, *given)
    out, written = jax.tree.unflatten(function.get_out_treedef_by_cache(key), found)
    trace.assign_state_vals_v2(read, written)
    return out


def _in_place(
    given: Replaced | None, arrays: Any, net: brainstate.nn.Module
) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if given is None else given.in_place(arrays, net)


def _layer_by_layer(
    net: brainstate.nn.Module,
    layers: LayerwisePlan,
    recorder: Recorder,
    given: Replaced | None,
    inputs: tuple[Any, Any],
    n_steps: int,
    segment: int | None,
) -> tuple[Any, dict[str, Any]]:
    """Return outputs and records of a network that runs layer by layer, some steps at a time."""

    def run(xs: Any, recorded: Any) -> tuple[Any, dict[str, Any]]:
        with recorder.hearing() as heard, _in_place(given, recorded, net):
            outputs = layers(xs)
        return outputs, recorder.collect(heard)

    length = segment or layers.steps_at_once(n_steps)
    # The backward pass of a piece computes again what stands between the membranes. For products that is cheap and
    # saves memory, even for a single piece; a convolution would cost more than it saves.
    links_in_one_piece = length == n_steps and not layers.is_plain
    if segment is None and (links_in_one_piece or not layers.can_be_cut):
        return run(*inputs)
    return in_pieces(run, inputs, n_steps, length, keeps=() if segment else (KEPT,))


def _check_values(net: brainstate.nn.Module, xs: Any, call: str) -> None:
    if not all(is_finite(leaf) for leaf in jax.tree.leaves(xs)):
        _arguments.check_finite_tree(xs, call=call, name="xs")
    # A bundle knows what its chip takes.
    if (check := getattr(net, "check_input", None)) is not None:
        check(xs, call=call)


def time_and_batch(net: brainstate.nn.Module, xs: Any, *, call: str) -> tuple[int, int | None]:
    """Return the number of steps and the batch size of an input; the batch size is ``None`` for one sample.

    The first module decides whose ``in_size`` has several axes and matches the last axes of the input, such as
    ``(28, 28, 1)`` of a ``Conv2d``: the axes in front of them are ``[T]`` or ``[T, B]``. Otherwise an input of two
    axes is ``[T, N]``, one of three ``[T, B, N]``, and one of more ``[T, B, ...]``.
    """
    leaves = jax.tree.leaves(xs, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))
    for leaf in leaves:
        if not hasattr(leaf, "shape"):
            raise TypeError(
                f"{call}: xs must be an array of shape [T, ...] or [T, B, ...], or a pytree of them; got a "
                f"{type(xs).__name__} that holds {_arguments.describe(leaf)}. Make arrays of lists first."
            )
    shapes = {np.shape(u.get_mantissa(leaf)) for leaf in leaves}
    if not shapes or any(len(shape) < 2 for shape in shapes):
        raise ValueError(f"{call}: xs must have shape [T, ...] or [T, B, ...]; got {_shapes(shapes)}.")
    leading = {shape[: _leading_axes(net, shape)] for shape in shapes}
    if len(leading) > 1:
        raise ValueError(f"{call}: all inputs must share their time and batch axes; got {_shapes(shapes)}.")
    (axes,) = leading
    if 0 in axes:
        raise ValueError(f"{call}: xs must hold at least one step and one sample; got {_shapes(shapes)}.")
    return axes[0], axes[1] if len(axes) == 2 else None


def _leading_axes(net: brainstate.nn.Module, shape: tuple[int, ...]) -> int:
    if len(shape) > 2:
        sizes = (getattr(module, "in_size", None) for module in modules_within(net))
        for size in sizes:
            n = len(shape) - len(size) if isinstance(size, tuple) and len(size) > 1 else 0
            if n in (1, 2) and shape[n:] == size:
                return n
    return 1 if len(shape) == 2 else 2


def _shapes(shapes: set[tuple[int, ...]]) -> str:
    return "shape " + " and ".join(str(shape) for shape in sorted(shapes)) if shapes else "nothing"


# Numbers that a layer hands on at once: enough for a large matrix product, and few enough to stay in the cache.
_NUMBERS = 2**19
# A run of no more numbers than this in all is not worth a second loop around the first.
_WHOLE = 2**19
# A convolution costs far more than the memory traffic that pieces save, and the backward pass of a piece would compute
# it again: one call over all steps took 0.1 of the time on 12C5-MP2-64C5-MP2-10. This bounds the memory, some 64 MiB a
# value.
_WHOLE_WITH_LINKS = 2**24


class _OverTime(NamedTuple):
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
            # Over time alone: the batch is already in the traced step.
            return cheap_gradients(jax.vmap(self.link))(*given)
        return jax.tree.map(lambda same: jnp.broadcast_to(same, (n_steps, *jnp.shape(same))), self.link())


@dataclass(frozen=True, eq=False)
class LayerwisePlan:
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
    _inputs: tuple[_OverTime, ...]
    _output: _OverTime

    def __call__(self, xs: Any) -> Any:
        """Return the outputs ``[T, ...]`` for an input ``[T, ...]``, and leave the states as the steps would."""
        n_steps = jax.tree.leaves(xs)[0].shape[0]
        found = [xs]
        for module, needed in zip(self.modules, self._inputs, strict=True):
            found.append(module.update_sequence(needed.over(found, n_steps)))
        return self._output.over(found, n_steps)

    def serve(self, recorder: Recorder, segment: int | None) -> bool:
        """Return whether a recorder gets its names as whole sequences, and segments are possible if they are asked."""
        records = all(
            any(one is module for one in self.modules) and name in module.sequence_records
            for module, name in recorder.targets.values()
        )
        return records and (segment is None or self.can_be_cut)

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


def plan_layerwise(net: brainstate.nn.Module, x: Any, *, call: str) -> LayerwisePlan | None:
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
    step = try_step(net, x, call=call)
    if step is None:
        return None
    # All other calls, such as of a convolution, become part of the links.
    calls = [one for one in step.calls if runs_whole_sequence(one.module, call=call)]
    if not any(one.module.gains_from_sequence() for one in calls) or not _only_they_write(step, calls):
        return None
    # All steps at once have no time of their own.
    if step.reads_time:
        return None
    dt = brainstate.environ.get("dt", default=None)
    # The sequence method reads dt once and takes one input: a step that differs must run as it is.
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
    # The widest value decides how many steps stay in the cache.
    numbers = max(sum(math.prod(like.shape) for like in value.likes) for value in sources[1:])
    return LayerwisePlan(
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


def _sequence(step: StepTrace, target: Value, sources: Sequence[Value]) -> _OverTime | None:
    link = step.link(target, sources)
    written = {id(state) for state in step.written}
    # A value that the step writes differs from step to step: a link over all steps at once cannot read it.
    if link is None or any(id(state) in written for state in link.states):
        return None
    place = {id(source): i for i, source in enumerate(sources)}
    unchanged = len(link.sources) == 1 and link.sources[0].same(target) and link.sources[0].tree == target.tree
    return _OverTime(link, tuple(place[id(source)] for source in link.sources), unchanged)


def segment_length(checkpoint: int | str | None, n_steps: int, *, call: str) -> int | None:
    """Return the steps of a segment that ``checkpoint`` asks for; ``None`` if it asks for none."""
    if checkpoint is None:
        return None
    if isinstance(checkpoint, str) and checkpoint == "auto":
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
    # Membranes are marked by their kernel: with them nothing of a loop is computed twice.
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
