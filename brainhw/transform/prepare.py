"""Prepare a network (chip, states and effective weights), sample its chip, and restore its states."""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import brainstate
import brainunit as u
import jax
import numpy as np
from brainstate._state import TRACE_CONTEXT

from brainhw import _arguments
from brainhw.chip.family import Mismatch, get_family
from brainhw.chip.spec import ChipSpec
from brainhw.nn import net_chip
from brainhw.nn.effective import are_chips_side_by_side
from brainhw.nn.pinned import kinds_unchanged
from brainhw.nn.protocols import StepLimited, fulfils
from brainhw.nn.ranges import check_ranges
from brainhw.nn.time_steps import warn_of_long_steps
from brainhw.transform.trace import dotted, put_back_on_failure
from brainhw.transform.write_first import writing_first

__all__ = [
    "check_has_values",
    "is_finite",
    "modules_with_keys",
    "nominal_chip",
    "one_thread_at_a_time",
    "prepare_net",
    "retrack_states",
    "sample_chip",
    "states_restored",
    "step_limit",
]


def prepare_net(
    net: brainstate.nn.Module,
    batch_size: int | None = None,
    *,
    key: jax.Array | int | None = None,
    reset: bool = True,
) -> None:
    """Reset every state of a network and recompute every effective weight, in place.

    Call it once per batch, before the time loop. :func:`brainhw.rollout` calls it itself. It may be called inside
    ``brainstate.transform.jit``, and inside a loss function under ``grad``, so that gradients reach the master weights.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or a single module.
    batch_size : int, optional
        States get the shape ``[batch_size, N]``; ``None`` (default) means one sample, ``[N]``.
    key : jax.Array or int, optional
        PRNG key or seed of one sampled chip. It determines all mismatch for which the chip's spec has a standard
        deviation. The chip stays the same until the next call, and the same key samples the same chip for every batch.
        ``None`` (default) keeps the current chip, which is the nominal chip or the chip of :func:`brainhw.sample_chip`.
    reset : bool, optional
        Whether to reset the states, default True. ``False`` keeps the states and only recomputes the effective weights.
        This is for truncated backpropagation, where the weights change in the middle of a sequence. If ``reset`` is
        False, ``batch_size`` must be ``None``.

    Raises
    ------
    TypeError
        If ``net`` is not a module, ``batch_size`` is not an integer, ``key`` is not a key, ``reset`` is not a bool,
        or a parameter has the wrong unit or a complex dtype.
    ValueError
        If ``batch_size`` is passed with ``reset=False``, ``net`` mixes chip families, a weight is NaN, infinite or of
        the wrong shape, or a parameter is outside of the range that its module allows
        (:class:`~brainhw.nn.protocols.Ranged`). The network is then unchanged. Inside a compiled function the values
        are unknown and cannot be checked; ``rollout(check_finite=True)`` checks them at run time.
    RuntimeError
        If it is called inside a compiled function and a module of another package has not created its states yet.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u
    >>> net = brainstate.nn.Sequential(bh.nn.H1v1Synapse(4, 3), bh.nn.H1v1Layer(3, tau=10 * u.ms))
    >>> bh.prepare_net(net, batch_size=8)
    >>> net.layers[1].V.value.shape
    (8, 3)
    """
    call = "prepare_net"
    if not isinstance(net, brainstate.nn.Module):
        _arguments.check_module(net, call=call)
    # Fast path: every `rollout` prepares the network, so the check of valid arguments must be cheap.
    usual = batch_size is None or (type(batch_size) is int and 0 < batch_size <= _arguments.LONGEST_AXIS)
    if reset is not True or not usual:
        batch_size = _batch_size(batch_size, reset, call)
    if key is not None:
        key = _arguments.as_key(key, call)
        if are_chips_side_by_side():
            raise ValueError(
                f"{call}: key cannot be passed inside the evaluate function of robustness, which samples the chips "
                "itself. Omit key."
            )
    nodes = net.nodes()
    if any(hasattr(node, "chip") for node in nodes.values()):
        net_chip(net, call=call)
    states = net.states()
    retracked = retrack_states(states, call=call)
    check_ranges(net, call=call, nodes=nodes)
    warn_of_long_steps(net, nodes, call=call)
    for path, weights in states.items():
        if not isinstance(weights, brainstate.ParamState):
            continue
        # Read `_value`. If `.value` were read, a surrounding grad would treat the loss as dependent on this parameter.
        if not all(is_finite(leaf) for leaf in jax.tree.leaves(weights._value)):
            _arguments.check_finite_tree(
                weights._value, call=call, name=f"the parameter {dotted(path)}", fix="load or initialise it again"
            )

    if reset:
        _reset(net, batch_size, call)
    for module, own in modules_with_keys(net, "prepare", key):
        module.prepare(own)
    if retracked:
        check_has_values(retracked, call=call)


def _batch_size(batch_size: Any, reset: Any, call: str) -> int | None:
    if not _arguments.flag(reset, call=call, name="reset") and batch_size is not None:
        raise ValueError(
            f"{call}: batch_size is {_arguments.describe(batch_size)}, but reset is False, so the states keep their "
            "shape. Omit batch_size or reset."
        )
    if batch_size is None:
        return None
    return _arguments.positive_int(batch_size, call=call, name="batch_size", most=_arguments.LONGEST_AXIS)


def modules_with_keys(
    net: brainstate.nn.Module, method: str, key: jax.Array | None
) -> Iterator[tuple[Any, jax.Array | None]]:
    """Yield each module with the method ``method``, and a key for it. Without ``key``, yield ``None`` as its key.

    A check for this one attribute suffices, because ``prepare`` and ``pin_chip`` are the only members of their
    protocols.
    """
    for path, node in net.nodes().items():
        if callable(getattr(node, method, None)):
            # Derive the key from the path alone, so that adding another module does not change this draw.
            yield node, None if key is None else jax.random.fold_in(key, zlib.crc32(dotted(path).encode()))


def is_finite(leaf: Any) -> bool:
    """Return whether all elements are real and finite. Traced real arrays count as finite: their values are unknown."""
    numbers = u.get_mantissa(leaf)
    if isinstance(numbers, jax.core.Tracer):
        return numbers.dtype.kind != "c"
    numbers = np.asarray(numbers)
    return numbers.dtype.kind in "fiub" and bool(np.isfinite(numbers).all())


def _reset(net: brainstate.nn.Module, batch_size: int | None, call: str) -> None:
    base = brainstate.nn.Module
    for path, node in net.nodes().items():
        kind = type(node)
        if not isinstance(node, base) or kind.reset_state is not base.reset_state:
            continue
        held = [name for name, value in vars(node).items() if isinstance(value, brainstate.HiddenState)]
        # A module with `prepare` and without hidden states may call its own `init_state` there.
        if held or (kind.init_state is not base.init_state and not callable(getattr(node, "prepare", None))):
            has = f"the hidden state {held[0]}" if held else "init_state"
            raise TypeError(
                f"{call}: {kind.__name__} at {dotted(path)!r} has {has} but no reset_state, so its states cannot "
                "be reset. Define a method reset_state(batch_size) that sets them."
            )
    try:
        own = net.states().values() if TRACE_CONTEXT.state_stack else ()
        with writing_first(own) if own else contextlib.nullcontext():
            brainstate.nn.reset_all_states(net, batch_size)
    except AttributeError as error:
        # Modules of other packages create their states only in `init_state`, so they may have no states to reset yet.
        if _arguments.inside_jit():
            raise RuntimeError(
                f"{call}: a module has no states yet ({error}), and states that are created inside a compiled function "
                "are lost when it ends. Call brainhw.prepare_net(net, batch_size) once before you call that function."
            ) from error
        brainstate.nn.init_all_states(net, batch_size)


def step_limit(net: brainstate.nn.Module, call: str) -> Any | None:
    """Return the module with the fewest remaining steps (``StepLimited``), or ``None`` if no module has a limit."""
    counting = [module for module in net.nodes().values() if fulfils(module, StepLimited, call=call)]
    return min(counting, key=lambda module: module.steps_left, default=None)


Path = tuple[Any, ...]

# A preparation overwrites these states, so it does not need their old values.
_OVERWRITTEN_KINDS = (brainstate.HiddenState, brainstate.ShortTermState)


def _states_of_ended_traces(states: Mapping[Path, brainstate.State]) -> Iterator[tuple[Path, brainstate.State]]:
    """Yield the path and the state of each state that was created inside a trace that has ended."""
    depth = len(TRACE_CONTEXT.state_stack)
    for path, state in states.items():
        # A trace records reads and writes only of states that were created outside of it, according to `stack_level`. A
        # state that was created inside two nested traces would therefore be a constant in a loop inside one trace, and
        # silently give wrong results.
        if state.stack_level > depth or (depth == 0 and not _has_values(state)):
            yield path, state


def retrack_states(states: Mapping[Path, brainstate.State], *, call: str) -> list[tuple[Path, brainstate.State]]:
    """Return the states that were created in a compiled function, and make brainstate track them again.

    Raise if such a state has lost its arrays, unless a preparation overwrites it.
    """
    found = list(_states_of_ended_traces(states))
    for path, state in found:
        if not isinstance(state, _OVERWRITTEN_KINDS) and not _has_values(state):
            raise RuntimeError(_lost_message(dotted(path), state, call))
    for _, state in found:
        state.stack_level = len(TRACE_CONTEXT.state_stack)
    return found


def check_has_values(states: list[tuple[Path, brainstate.State]], *, call: str) -> None:
    """Raise if one of the states has lost its arrays."""
    for path, state in states:
        if not _has_values(state):
            raise RuntimeError(_lost_message(dotted(path), state, call))


def _has_values(state: brainstate.State) -> bool:
    """Return whether the values of a state are arrays, or tracers of a trace that still runs."""
    # When a trace ends, brainstate may replace its tracers by markers that are not arrays.
    return all(hasattr(leaf, "dtype") or isinstance(leaf, (bool, int, float, complex)) for leaf in _leaves(state)) and (
        bool(TRACE_CONTEXT.state_stack) or not any(isinstance(leaf, jax.core.Tracer) for leaf in _leaves(state))
    )


def _leaves(state: brainstate.State) -> list[Any]:
    # Read `_value`: a read of `value` would raise for such a state, or a surrounding trace would record it.
    return jax.tree.leaves(state._value)


def _lost_message(path: str, state: brainstate.State, call: str) -> str:
    kind = type(state).__name__
    remedy = (
        "Call brainhw.prepare_net(net, batch_size) first"
        if isinstance(state, _OVERWRITTEN_KINDS)
        else "Build the network and load its weights outside of compiled functions"
    )
    return (
        f"{call}: the {kind} {path} contains no values, because it was created inside a compiled function that has "
        f"ended. {remedy}."
    )


# While a network is traced, its states contain tracers. Other threads must not use these.
_STATES_LOCK = threading.RLock()


def one_thread_at_a_time() -> contextlib.AbstractContextManager[Any]:
    """Return a lock on the states of all networks. Inside a trace return a null context: a trace runs in one thread."""
    return contextlib.nullcontext() if TRACE_CONTEXT.state_stack else _STATES_LOCK


@contextlib.contextmanager
def states_restored(net: brainstate.nn.Module, *, keep_weights: bool) -> Iterator[None]:
    """Context manager that restores every state of a network when the block ends.

    If ``keep_weights`` is True, weights are restored only if the block fails.
    """
    # A state that a compiled function created has no values to restore. The next preparation overwrites it.
    states = net.states()
    without_values = {id(state) for _, state in _states_of_ended_traces(states) if not _has_values(state)}
    before = [(state, state.value) for state in states.values() if id(state) not in without_values]
    # `_source` refers to the weights from which the charges of a synapse were computed. Restore it too, so that the
    # network still counts as prepared.
    nodes = net.nodes().values()
    charges = [(node, node._source) for node in nodes if hasattr(node, "_source")]
    # Also restore which values of the current chip are known from `put_chip`.
    known = [(node, node.known, node.physical, node.chip_version) for node in nodes if hasattr(node, "known")]
    try:
        yield
    except BaseException:
        keep_weights = False
        raise
    finally:
        for state, value in before:
            if not (keep_weights and isinstance(state, brainstate.ParamState)):
                state.value = value
        for node, source in charges:
            node._source = source
        for node, masks, physical, version in known:
            node.known, node.physical, node.chip_version = masks, physical, version


def sample_chip(net: brainstate.nn.Module, key: jax.Array | int, **mismatch: bool | float) -> None:
    """Sample one chip and make it the current chip until the next call.

    Each key determines one chip. The chip stays the same over time, batches, calls and training: training changes the
    weights, but not the mismatch that is added to them. Prepare the network after this call; :func:`brainhw.rollout`
    does so itself. If you pass a key to :func:`brainhw.prepare_net` or :func:`brainhw.rollout`, the chip of that key is
    used instead of the current chip, for that call only.

    Parameters
    ----------
    net : brainstate.nn.Module
        A network with chip modules.
    key : jax.Array or int
        PRNG key or seed of the chip. ``prepare_net(net, key=key)`` samples the same chip. Measured values
        (:func:`brainhw.silicon.put_chip`) are kept; all others are sampled.
    **mismatch : bool or float
        One argument per kind of mismatch of the chip family. True (default) uses the standard deviation in the chip's
        spec. A number is used as the standard deviation; 0 means no mismatch. False keeps the values of the current
        chip for this kind, whether they are nominal, sampled or measured. H1v1 and H1v2 have these kinds:

        - ``synapse``: effective weights, normally distributed, in weight units. Of the presets only H1v1 has it;
        - ``leak``: leak currents, and therefore time constants, log-normally distributed, relative;
        - ``threshold``: thresholds, normally distributed, relative, at most 0.2. Of the presets only H1v2 has it.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, the family has no such kind of mismatch, ``net`` mixes families, or ``net`` has no
        chip module.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> layer = bh.nn.H1v2Layer(3, tau=10 * u.ms)
    >>> bh.sample_chip(layer, 7, threshold=False)
    >>> bh.prepare_net(layer)
    >>> print(layer.threshold())
    [100. 100. 100.] mV
    >>> bool((layer.chip_tau.value == 10 * u.ms).any())
    False
    """
    call = "sample_chip"
    chip = _chip(net, call)
    key = _arguments.as_key(key, call)
    if key is None:
        raise TypeError(
            f"{call}: key must be an integer or a jax.random.key; got None. To get the chip without mismatch, call "
            "brainhw.nominal_chip."
        )
    family = get_family(chip.family, call=call)
    kinds = {known.kind: known for known in family.mismatches}
    for kind in mismatch:
        if kind not in kinds:
            listed = ", ".join(repr(known) for known in kinds) or "none"
            raise TypeError(
                f"{call}: {kind} is not a kind of mismatch of the family {family.name} (expected one of {listed}). "
                "Omit it."
            )
    # Start from the standard deviations in the spec, which apply to every kind that is not passed.
    sizes = family.sizes(chip)
    for kind, wanted in mismatch.items():
        sizes[kind] = _mismatch_std(wanted, sizes[kind], kinds[kind], call=call)
    left = [kind for kind, wanted in mismatch.items() if wanted is False]
    with put_back_on_failure(net.states().values()), kinds_unchanged(net, left):
        for module, own in modules_with_keys(net, "pin_chip", key):
            module.pin_chip(own, sizes)


def nominal_chip(net: brainstate.nn.Module) -> None:
    """Make the nominal chip the current chip again. The nominal chip has no mismatch.

    Parameters
    ----------
    net : brainstate.nn.Module
        A network with chip modules.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is not a module, mixes families, or has no chip module.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> layer = bh.nn.H1v1Layer(3, tau=10 * u.ms)
    >>> bh.sample_chip(layer, 7)
    >>> bh.nominal_chip(layer)
    >>> bh.prepare_net(layer)
    >>> print(layer.chip_tau.value)
    [10. 10. 10.] ms
    """
    _chip(net, "nominal_chip")
    with put_back_on_failure(net.states().values()):
        for module, _ in modules_with_keys(net, "pin_chip", None):
            module.pin_chip(None, {})


def _chip(net: brainstate.nn.Module, call: str) -> ChipSpec:
    _arguments.check_module(net, call=call)
    chip = net_chip(net, call=call)
    if chip is None:
        raise ValueError(f"{call}: the network has no module on a chip. Build it with modules of a chip family.")
    return chip


def _mismatch_std(wanted: bool | float, of_spec: float | None, kind: Mismatch, *, call: str) -> float | None:
    # Check bool first: True is also a number in Python and would mean a standard deviation of 1.
    if isinstance(wanted, bool):
        return of_spec if wanted else None
    size = _arguments.number(wanted, call=call, name=kind.kind, nonnegative=True)
    if size > kind.most:
        raise ValueError(
            f"{call}: {kind.kind} must be at most {kind.most:g}, because above it {kind.why}; got {size:g}."
        )
    return size
