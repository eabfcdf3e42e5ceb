"""Run a network over time, layer by layer if possible and otherwise step by step."""

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

from brainhw import _arguments
from brainhw.kernel.leaky import SAVED_NAME
from brainhw.kernel.lengths import check_lengths, zero_padding
from brainhw.nn.protocols import runs_whole_sequence
from brainhw.nn.ranges import check_ranges
from brainhw.transform.argument_checks import checked_key, checked_progress_bar
from brainhw.transform.clock import now
from brainhw.transform.compiled import compiled
from brainhw.transform.cpu_gradients import cheap_gradients
from brainhw.transform.finite import FiniteWatch, check_states
from brainhw.transform.prepare import (
    check_has_values,
    is_finite,
    one_thread_at_a_time,
    prepare_net,
    retrack_states,
    step_limit,
)
from brainhw.transform.record import Recorder
from brainhw.transform.recorded import RecordedValues
from brainhw.transform.trace import Call, Link, StepTrace, Value, modules_within, try_step

__all__ = ["LayerwisePlan", "plan_layerwise", "rollout", "time_and_batch"]


def rollout(
    net: brainstate.nn.Module,
    xs: Any,
    *,
    record: Sequence[str] = (),
    checkpoint: int | Literal["auto"] | None = None,
    pbar: Any = None,
    prepare: bool | Literal["weights"] = True,
    key: jax.Array | int | None = None,
    check_finite: bool = False,
    layerwise: bool = True,
    recorded: Any = None,
    lengths: Any = None,
) -> tuple[Any, dict[str, Any]]:
    """Prepare a network, run it over a time-major input, and return its outputs and the recorded values.

    It is equivalent to ``prepare_net(net, B)`` followed by ``brainstate.transform.for_loop(net, xs)``, and faster if
    the network can run layer by layer (see Notes).

    Parameters
    ----------
    net : brainstate.nn.Module
        The network; ``net(x)`` advances it by one step.
    xs : array, Quantity or pytree of them
        Input with time first: ``[T, ...]`` for one sample or ``[T, B, ...]`` for a batch (see Notes).
    record : sequence of str, optional
        Names of values to return for every step. ``"hidden.V"`` is the state ``V`` of ``net.hidden``, the membrane
        potential after the reset. ``"hidden.V_pre"`` is the membrane potential before the reset, and ``"hidden.spk"``
        are the spikes.
    checkpoint : 'auto', int or None, optional
        Reduce the memory of the backward pass at the cost of time. ``None`` (default) stores the membrane potentials of
        every step or, if the network runs step by step, everything that the backward pass needs. An int ``n`` stores
        the states at every ``n``-th step and recomputes the rest. ``'auto'`` chooses ``n`` near ``sqrt(T) / 2``, or
        larger if the states are larger than those of LIF neurons. For LIF neurons, the memory then falls from ``T`` to
        about ``3 sqrt(T)`` stored steps. The recomputation takes about as long as one forward pass. A membrane
        potential may differ from a run without ``checkpoint`` by one unit in the last place.
    pbar : int or brainstate.transform.ProgressBar, optional
        Progress bar, or number of steps between two updates of a progress bar. With ``checkpoint`` the bar counts
        segments instead of steps.
    prepare : bool or 'weights', optional
        ``True`` (default) calls :func:`brainhw.prepare_net` first. ``False`` continues from the current states, so that
        an input in chunks has the same result as one long run. ``'weights'`` also continues from the current states,
        but recomputes the effective weights first. Use it for truncated backpropagation, inside the loss function, once
        per chunk.
    key : jax.Array or int, optional
        PRNG key or seed of a sampled chip, see :func:`brainhw.prepare_net`. It cannot be combined with
        ``prepare=False``.
    check_finite : bool, optional
        Raise ``FloatingPointError`` if a hidden state or its gradient (under ``grad``) is not finite, or if a parameter
        is out of range. Inside a compiled function the error is a ``JaxRuntimeError`` with the same message. The
        message names the state and the first step. Use this only for debugging, because it costs time. Default False.
    layerwise : bool, optional
        Run layer by layer if the network allows it (see Notes). Default True. ``False`` runs every network step by
        step, which is slower but supports forward-mode derivatives.
    recorded : Recording or mapping, optional
        Spikes and membrane potentials that were measured on a chip with the same input. They replace the values that
        the layers compute (chip in the loop, see Notes). Pass a :class:`brainhw.silicon.Recording`, or a mapping
        ``{"hidden.spk": spikes, "hidden.V": membranes}``. The spikes are 0 or 1, ``[T, ...]``. The membrane potentials
        are those after the reset, as a Quantity of voltage. The recording need not contain all layers, and the membrane
        potentials are optional. Default: no measurements.
    lengths : array, optional
        Number of valid steps of each sample, ``[B]``, or one number for a single sample. Later steps are padding, and
        their outputs and records are set to zero. Default: all steps are valid.

    Returns
    -------
    outputs : array, Quantity or pytree
        Outputs of ``net`` at all steps, ``[T, ...]``.
    records : dict
        The recorded values by name, ``[T, ...]``.

    Raises
    ------
    TypeError, ValueError
        If ``xs`` is empty, ragged or not finite, if a name in ``record`` does not exist, if an option is invalid, if
        ``lengths`` do not match ``xs``, or if ``recorded`` has a wrong shape, unit or value or names a layer that
        cannot use it.
    RuntimeError
        If no time step is set, if ``prepare=False`` and the weights or the chip changed since the network was prepared,
        or if states would have to be created inside ``jit``.

    Notes
    -----
    A network runs layer by layer, with many steps at once, if two conditions are fulfilled. First, a step changes only
    the states of modules that have an ``update_sequence``, such as LIF, H1, current-based, adaptive and fractional
    layers and leaky readouts. Second, all computation between these modules (synapses, scaling, skip connections,
    units, convolutions, pooling) depends only on values of the same step. ``rollout`` traces one step to test this. A
    synapse then needs only one matrix product for many steps, and the backward pass of the neurons stores less. Such a
    run does not support forward-mode derivatives. Spikes and gradients equal those of the step-by-step run. Membrane
    potentials may differ by some units in the last place if a library sums a large matrix product in a different order
    than a small one. Any other network runs step by step. A network also runs step by step with ``pbar`` or
    ``check_finite``, or if a value in ``record`` is not available as a whole sequence.

    An input with two axes is ``[T, N]``, with three axes ``[T, B, N]``, and with more axes ``[T, B, ...]``. Images
    without a batch axis are recognised by the ``in_size`` of the network or of a module in it: with
    ``in_size=(28, 28, 1)``, an input ``[T, 28, 28, 1]`` is a single sample.

    A function compiled by ``brainstate.transform.jit`` is traced again if ``dt`` or ``fit`` of ``brainstate.environ``
    changes, and once for each new batch size. A function compiled with ``prepare=False`` does not notice that weights
    have changed since the network was prepared.

    Inside ``jax.disable_jit()`` the steps run one after the other without compilation, so prints and debuggers work.

    A step may read its number ``i`` and its time ``t`` from ``brainstate.environ``, as in brainstate's own loops. They
    start from the ``i`` and ``t`` that are set when ``rollout`` is called. If ``i`` is not set, it starts from 0. If
    ``t`` is not set, it is ``i * dt``. This also applies to ``prepare=False``: for a chunk that begins at step 100, use
    ``brainstate.environ.context(i=100)``. A network that depends on ``i`` or ``t`` runs step by step.

    If several threads call rollouts and streams outside of compiled functions, the calls run one after the other.
    brainstate cannot trace one network in two threads. If threads share a function that you compiled, call it once
    before you start them.

    With ``recorded``, a layer that computes the spikes ``s`` returns ``s + stop_gradient(recorded - s)``. The value of
    this expression is the recorded spikes. Its gradient is the surrogate gradient at the membrane potential that the
    model computed before the reset. Resets and recurrent inputs use the recorded spikes. A recorded membrane potential
    replaces the value, but not the gradient, of the potential that the model computed after the reset. If no membrane
    potentials were recorded, the computed potential of a neuron that did not fire on the chip is limited to the
    threshold, because on the chip its potential was below the threshold. Training with recorded values also compensates
    for properties of the chip that the model lacks (Cramer et al. 2022, PNAS 119, e2109194119).

    Outside ``brainstate.transform.jit``, every call traces the network. It also compiles the time loop, unless one of
    the last calls compiled an equal loop. So put training and evaluation steps in ``jit``. Inside ``jit``, NaN and
    infinity in ``xs`` cannot be detected; use ``check_finite`` there.

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
    pbar = None if pbar is None else checked_progress_bar(pbar, n_steps, call=call)
    segment = segment_length(checkpoint, n_steps, net, call=call)
    if jax.config.jax_disable_jit:
        # The user is debugging, so run the steps one after the other without compilation.
        layerwise, segment = False, None
    with one_thread_at_a_time():
        recorder = Recorder(net, record, call=call)
        leading = (n_steps,) if batch_size is None else (n_steps, batch_size)
        replacements = None if recorded is None else RecordedValues(net, recorded, leading, call=call)
        arrays = () if replacements is None else replacements.arrays
        _prepare(net, batch_size, prepare, key, call)
        limit = step_limit(net, call)
        if limit is not None and limit.steps_left < n_steps:
            raise limit.limit_reached(call, n_steps)
        # Trace one step before the run, even if the network runs step by step, to refuse a step that would silently
        # give wrong results.
        whole = layerwise and pbar is None and not check_finite
        layers = _layerwise_plan(net, jax.tree.map(lambda x: x[0], xs), recorder, segment, whole=whole, call=call)
        if layers is not None:
            run_layers = partial(_layer_by_layer, net, layers, recorder, replacements, n_steps=n_steps, segment=segment)
            return _without_padding(compiled(run_layers, (xs, arrays)), lengths)
        watch, clock = FiniteWatch(net) if check_finite else None, now()

        def step(k: jax.Array, x: Any, of_step: Any) -> tuple[Any, dict[str, Any], dict[str, jax.Array]]:
            with brainstate.environ.context(**clock.at(k)), _using_recorded(replacements, of_step, net):
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


def _layerwise_plan(
    net: brainstate.nn.Module, x: Any, recorder: Recorder, segment: int | None, *, whole: bool, call: str
) -> LayerwisePlan | None:
    if not whole:
        try_step(net, x, call=call)
        return None
    layers = plan_layerwise(net, x, call=call)
    return layers if layers is not None and layers.can_record(recorder, segment) else None


def _prepare(net: brainstate.nn.Module, batch_size: int | None, prepare: Any, key: Any, call: str) -> None:
    """Prepare a network according to the argument ``prepare`` of :func:`rollout`."""
    if not (isinstance(prepare, (bool, np.bool_)) or (isinstance(prepare, str) and prepare == "weights")):
        raise TypeError(f"{call}: prepare must be True, False or 'weights'; got {_arguments.describe(prepare)}.")
    weights = isinstance(prepare, str)
    if prepare and not weights:
        prepare_net(net, batch_size, key=key)
        return
    if key is not None and not weights:
        raise ValueError(
            f"{call}: key samples a chip when the network is prepared, but prepare is False. Omit key or prepare=False."
        )
    check_has_values(retrack_states(net.states(), call=call), call=call)
    check_states(net, call)
    if weights:
        prepare_net(net, key=key, reset=False)
    else:
        check_ranges(net, call=call)


def _using_recorded(
    replacements: RecordedValues | None, arrays: Any, net: brainstate.nn.Module
) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if replacements is None else replacements.applied(arrays, net)


def _layer_by_layer(
    net: brainstate.nn.Module,
    layers: LayerwisePlan,
    recorder: Recorder,
    replacements: RecordedValues | None,
    inputs: tuple[Any, Any],
    n_steps: int,
    segment: int | None,
) -> tuple[Any, dict[str, Any]]:
    """Run a network layer by layer, in pieces of several steps each, and return its outputs and records."""

    def run(xs: Any, recorded: Any) -> tuple[Any, dict[str, Any]]:
        with recorder.collect_taps() as tapped, _using_recorded(replacements, recorded, net):
            outputs = layers(xs)
        return outputs, recorder.collect(tapped)

    length = segment or layers.steps_per_piece(n_steps)
    # In the backward pass a piece recomputes everything except the membrane potentials, to save memory. A network that
    # fits into one piece stores little, so it recomputes nothing.
    in_one_piece = length == n_steps or not layers.can_be_cut or _state_arrays(net) > _MOST_STATE_ARRAYS
    if segment is None and in_one_piece:
        return run(*inputs)
    return in_pieces(run, inputs, n_steps, length, saved_names=() if segment else (SAVED_NAME,))


def _check_values(net: brainstate.nn.Module, xs: Any, call: str) -> None:
    if not all(is_finite(leaf) for leaf in jax.tree.leaves(xs)):
        _arguments.check_finite_tree(xs, call=call, name="xs")
    # A network from a bundle checks whether its chip accepts the input.
    if (check := getattr(net, "check_input", None)) is not None:
        check(xs, call=call)


def time_and_batch(net: brainstate.nn.Module, xs: Any, *, call: str) -> tuple[int, int | None]:
    """Return the number of steps and the batch size of an input. The batch size is ``None`` for one sample.

    Only modules whose ``in_size`` has several axes, such as ``(28, 28, 1)`` of a ``Conv2d``, are considered. If the
    last axes of the input match such an ``in_size``, the axes before them are ``[T]`` or ``[T, B]``. The first module
    that matches decides. If none matches, an input with two axes is ``[T, N]``, with three ``[T, B, N]``, and with more
    ``[T, B, ...]``.
    """
    leaves = jax.tree.leaves(xs, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))
    for leaf in leaves:
        if not hasattr(leaf, "shape"):
            raise TypeError(
                f"{call}: xs must be an array of shape [T, ...] or [T, B, ...], or a pytree of them; got a "
                f"{type(xs).__name__} that contains {_arguments.describe(leaf)}. Convert lists to arrays first."
            )
    shapes = {np.shape(u.get_mantissa(leaf)) for leaf in leaves}
    if not shapes or any(len(shape) < 2 for shape in shapes):
        raise ValueError(f"{call}: xs must have shape [T, ...] or [T, B, ...]; got {_shapes(shapes)}.")
    leading = {shape[: _leading_axes(net, shape)] for shape in shapes}
    if len(leading) > 1:
        raise ValueError(
            f"{call}: all inputs must have the same number of steps and the same number of samples; got "
            f"{_shapes(shapes)}."
        )
    (axes,) = leading
    if 0 in axes:
        raise ValueError(f"{call}: xs must contain at least one step and one sample; got {_shapes(shapes)}.")
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


# A run can be split into pieces of several steps. This is the largest number of values that a layer outputs in a piece.
# A piece must be large enough for an efficient matrix product and small enough to stay in the cache. Of all measured
# sizes, 2**18 to 2**19 were fastest (docs/speed.md).
_VALUES_PER_PIECE = 2**19
# A run of up to this size is not split, because the loop over pieces would cost more time than it saves.
_MAX_VALUES_UNSPLIT = 2**19
# With convolutions a run of up to this size is not split. The backward pass of a piece would compute the convolution
# again, which takes far longer than the memory traffic that pieces save. Without pieces, 12C5-MP2-64C5-MP2-10 took 0.1
# of the time. The limit bounds the memory to about 64 MiB per array.
_MAX_VALUES_UNSPLIT_WITH_LINKS = 2**24
# If the states are larger, passing them and their gradients between pieces takes longer than the pieces save.
_MOST_STATE_ARRAYS = 8


class _SequenceLink(NamedTuple):
    """Computation of one value for all steps. ``sources`` are the indices of the sequences that ``link`` reads."""

    link: Link
    sources: tuple[int, ...]
    unchanged: bool  # the value equals its only source, with the same unit, so nothing is computed

    def evaluate(self, found: Sequence[Any], n_steps: int) -> Any:
        """Return the value at all steps, ``[T, ...]``, from the sequences computed so far."""
        values = [found[i] for i in self.sources]
        if self.unchanged:
            return values[0]
        if values:
            # Map over time only, because the traced step already contains the batch.
            return cheap_gradients(jax.vmap(self.link))(*values)
        return jax.tree.map(lambda same: jnp.broadcast_to(same, (n_steps, *jnp.shape(same))), self.link())


@dataclass(frozen=True, eq=False)
class LayerwisePlan:
    """Plan to run a network layer by layer: modules that process whole sequences, and pure functions between them.

    Attributes
    ----------
    modules : tuple of SequenceModule
        The modules, in the order in which a step calls them.
    values_per_step : int
        Largest number of values that one module, or one operation between modules, returns in a step.
    """

    modules: tuple[Any, ...]
    values_per_step: int
    _inputs: tuple[_SequenceLink, ...]
    _output: _SequenceLink

    def __call__(self, xs: Any) -> Any:
        """Return the outputs ``[T, ...]`` for an input ``[T, ...]``.

        The final states equal those of the step-by-step run.
        """
        n_steps = jax.tree.leaves(xs)[0].shape[0]
        found = [xs]
        for module, needed in zip(self.modules, self._inputs, strict=True):
            found.append(module.update_sequence(needed.evaluate(found, n_steps)))
        return self._output.evaluate(found, n_steps)

    def can_record(self, recorder: Recorder, segment: int | None) -> bool:
        """Return whether a layer-by-layer run can record all values that ``recorder`` needs.

        Unless ``segment`` is ``None``, also require that the run can be split into segments.
        """
        records = all(
            any(one is module for one in self.modules) and name in module.sequence_records
            for module, name in recorder.targets.values()
        )
        return records and (segment is None or self.can_be_cut)

    @property
    def can_be_cut(self) -> bool:
        """Whether every module supports a run in pieces, which saves memory in the backward pass."""
        return all(module.can_be_cut for module in self.modules)

    @property
    def is_plain(self) -> bool:
        """Whether there is no computation between the modules."""
        return all(link.unchanged for link in (*self._inputs, self._output))

    def steps_per_piece(self, n_steps: int) -> int:
        """Return the number of steps that each layer processes at once.

        With this number, the matrix products are large, but their results still fit into the cache.
        """
        if n_steps * self.values_per_step <= (_MAX_VALUES_UNSPLIT if self.is_plain else _MAX_VALUES_UNSPLIT_WITH_LINKS):
            return n_steps
        return divisor_near(max(1, _VALUES_PER_PIECE // self.values_per_step), n_steps)


def plan_layerwise(net: brainstate.nn.Module, x: Any, *, call: str) -> LayerwisePlan | None:
    """Return the plan to run ``net`` layer by layer, or ``None`` if this is impossible or has no advantage.

    One step is traced. The network can run layer by layer under two conditions. First, every state that the step writes
    belongs to a module that can process a whole sequence. Second, everything between these modules is a pure function.
    Such a function may depend on the input, on outputs of the modules in the same step, and on states that the step
    does not write. It is mapped over time with ``jax.vmap``. Examples are skip connections, scaling, convolutions,
    pooling and conversions of physical units.

    Parameters
    ----------
    net : brainstate.nn.Module
        The prepared network.
    x : array, Quantity or pytree of them
        Input of one step.
    call : str
        Name of the call in error messages.

    Raises
    ------
    TypeError
        If a module has only some of the members of :class:`brainhw.nn.protocols.SequenceModule`.
    """
    step = try_step(net, x, call=call)
    if step is None:
        return None
    # All other calls, such as those of convolutions, become part of the links between these modules.
    calls = [one for one in step.calls if runs_whole_sequence(one.module, call=call)]
    if not any(one.module.gains_from_sequence() for one in calls) or not _write_only_own_states(step, calls):
        return None
    # A step that reads the time cannot run for all steps at once.
    if step.reads_time:
        return None
    dt = brainstate.environ.get("dt", default=None)
    # `update_sequence` reads dt once and takes one input. A network with any other call must run step by step.
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
    # The largest value of a step decides how many steps fit into the cache.
    numbers = max(sum(math.prod(like.shape) for like in value.likes) for value in sources[1:])
    return LayerwisePlan(
        modules=tuple(one.module for one in calls),
        values_per_step=max(1, numbers, *(one.link.numbers for one in needed)),
        _inputs=tuple(needed[:-1]),
        _output=needed[-1],
    )


def _write_only_own_states(step: StepTrace, calls: Sequence[Call]) -> bool:
    """Return whether a step writes only hidden states of the called modules, and each state in only one call."""
    states = [id(state) for one in calls for state in one.module.states(brainstate.HiddenState).values()]
    # A module without states may be called several times. A state that occurs twice would be advanced twice.
    return not step.has_effects and len(set(states)) == len(states) and {id(s) for s in step.written} <= {*states}


def _sequence(step: StepTrace, target: Value, sources: Sequence[Value]) -> _SequenceLink | None:
    link = step.link(target, sources)
    written = {id(state) for state in step.written}
    # A state that the step writes changes from step to step, so a link over all steps at once cannot read it.
    if link is None or any(id(state) in written for state in link.states):
        return None
    place = {id(source): i for i, source in enumerate(sources)}
    unchanged = len(link.sources) == 1 and link.sources[0].same(target) and link.sources[0].tree == target.tree
    return _SequenceLink(link, tuple(place[id(source)] for source in link.sources), unchanged)


def segment_length(checkpoint: int | str | None, n_steps: int, net: brainstate.nn.Module, *, call: str) -> int | None:
    """Return the number of steps per segment for ``checkpoint``, or ``None`` if the run is not split."""
    if checkpoint is None:
        return None
    if isinstance(checkpoint, str) and checkpoint == "auto":
        # Each segment stores the states at its start. The segment that is being differentiated also stores about eight
        # arrays per step. This length keeps the total near its minimum.
        return divisor_near(max(1, int(math.sqrt(n_steps * _state_arrays(net) / 8))), n_steps)
    if isinstance(checkpoint, str):
        raise ValueError(f"{call}: checkpoint must be None, 'auto' or a number of steps; got {checkpoint!r}.")
    return min(_arguments.positive_int(checkpoint, call=call, name="checkpoint"), n_steps)


def _state_arrays(net: brainstate.nn.Module) -> float:
    """Return how many arrays with one value per neuron the states of a network take: 2 for LIF neurons."""
    total = neurons = 0
    for node in net.nodes().values():
        own = [value for value in vars(node).values() if isinstance(value, brainstate.HiddenState)]
        # Scalars, such as a position in a buffer, need no memory. Read `_value`, because reading `.value` inside a
        # compiled function makes the state an input of that function.
        sizes = [size for state in own for leaf in jax.tree.leaves(state._value) if (size := np.size(leaf)) > 1]
        total, neurons = total + sum(sizes), neurons + min(sizes, default=0)
    return total / neurons if neurons else 2.0


def divisor_near(wanted: int, n_steps: int) -> int:
    """Return a length near ``wanted`` that divides ``n_steps``. If there is none, return ``wanted``."""
    near = [k for k in range(max(1, wanted // 2), min(2 * wanted, n_steps) + 1) if n_steps % k == 0]
    return min(near, key=lambda k: abs(k - wanted)) if near else min(wanted, n_steps)


def in_pieces(
    run: Callable[..., Any], xs: Any, n_steps: int, length: int, *, saved_names: Sequence[str] = (), pbar: Any = None
) -> Any:
    """Return the result of ``run(*xs)``, computed in pieces of ``length`` steps.

    For the backward pass each piece stores its initial states, and the values that ``run`` marks with a name in
    ``saved_names``. Everything else is recomputed.
    """
    # The layers mark their membrane potentials. If these are stored, the time loop of a layer is not repeated.
    policy = jax.checkpoint_policies.save_only_these_names(*saved_names)

    def piece(prevent_cse: bool) -> Callable[..., Any]:
        return brainstate.transform.checkpoint(run, policy=policy, prevent_cse=prevent_cse)

    if length == n_steps and pbar is None:
        return piece(prevent_cse=True)(*xs)
    n_whole = n_steps // length
    whole = n_whole * length
    head = jax.tree.map(lambda x: x[:whole].reshape(n_whole, length, *x.shape[1:]), xs)
    # In a loop XLA cannot merge the recomputation with the forward pass, so `prevent_cse` is not needed.
    done = brainstate.transform.for_loop(piece(prevent_cse=False), *head, pbar=pbar)
    done = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), done)
    if whole == n_steps:
        return done
    rest = piece(prevent_cse=True)(*jax.tree.map(lambda x: x[whole:], xs))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), done, rest)
