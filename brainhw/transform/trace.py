"""Trace one step of a network: the calls to its modules, and the computation between these calls."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, DebugInfo, Jaxpr, Var, get_opaque_trace_state

from brainhw import _arguments
from brainhw.transform.argument_checks import check_input
from brainhw.transform.clock import now, reads_last_argument
from brainhw.transform.step_rules import StepRuleError, StepRules, wrapped_updates

__all__ = [
    "Call",
    "Link",
    "StepTrace",
    "Value",
    "hidden_values",
    "in_one_line",
    "is_leaf",
    "put_back_on_failure",
    "trace_step",
    "try_step",
    "watch_calls",
]


class Value(NamedTuple):
    """A traced value. Two values with the same ids consist of the same array objects, not just of equal arrays.

    Attributes
    ----------
    ids : tuple of int
        One id per array of the pytree.
    units : tuple of Unit
        Unit of each array.
    likes : tuple of jax.ShapeDtypeStruct
        Shape and dtype of each array.
    tree : jax.tree_util.PyTreeDef
        Structure, with Quantities as leaves.
    """

    ids: tuple[int, ...]
    units: tuple[u.Unit, ...]
    likes: tuple[jax.ShapeDtypeStruct, ...]
    tree: Any

    def same(self, other: Value) -> bool:
        """Return whether both values are the same arrays in the same units."""
        return self.ids == other.ids and self.units == other.units

    def holding(self, arrays: Iterable[Any]) -> Any:
        """Return a pytree of plain ``arrays`` with the structure and the units of this value."""
        return self.tree.unflatten(
            array if unit == u.UNITLESS else u.Quantity(array, unit=unit)
            for array, unit in zip(arrays, self.units, strict=True)
        )

    @property
    def unit(self) -> u.Unit:
        """Unit of the value if it is a single array, otherwise unitless."""
        return self.units[0] if len(self.units) == 1 else u.UNITLESS

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value if it is a single array, otherwise ``()``."""
        return self.likes[0].shape if len(self.likes) == 1 else ()


class Call(NamedTuple):
    """One call to a module in a step.

    Attributes
    ----------
    path : str
        Dotted path of the module; empty for the network itself.
    module : brainstate.nn.Module
        The module.
    given, gave : Value
        Input and output of the call.
    dt : Quantity or None
        Time step of ``brainstate.environ`` during the call.
    owns_states : bool
        Whether only this call wrote the hidden states of the module in this step.
    takes_one : bool
        Whether the call has one positional argument. Otherwise ``given`` is the pair of positional and keyword
        arguments.
    """

    path: str
    module: Any
    given: Value
    gave: Value
    dt: Any
    owns_states: bool
    takes_one: bool = True


@dataclass(frozen=True, eq=False)
class Link:
    """The computation between modules that produces one value of a step.

    Attributes
    ----------
    sources : tuple of Value
        The values from which the computation starts. They are a subset of those passed to :meth:`StepTrace.link`.
    states : tuple of State
        The states that the computation reads. It uses their values at the beginning of the step.
    identity : bool
        Whether the result is one of the sources, without any operation on its elements. The unit may differ.
    target : Value
        The result.
    numbers : int
        Size of the largest array that one of its operations returns; 0 if there are no operations.
    """

    sources: tuple[Value, ...]
    states: tuple[brainstate.State, ...]
    identity: bool
    target: Value
    numbers: int
    _jaxpr: ClosedJaxpr
    _reads: tuple[tuple[int, int], ...]
    _takes: tuple[tuple[int, int], ...]

    def __call__(self, *sources: Any) -> Any:
        """Return the result for new sources and the current values of the states. ``jax.vmap`` may be applied to it."""
        given = [jax.tree.leaves(source) for source in sources]
        states = [jax.tree.leaves(state.value) for state in self.states]
        inputs = [given[i][j] for i, j in self._takes] + [states[i][j] for i, j in self._reads]
        return self.target.holding(jax.core.eval_jaxpr(self._jaxpr.jaxpr, self._jaxpr.consts, *inputs))


@dataclass(frozen=True, eq=False)
class StepTrace:
    """Trace of one step of a network, returned by :func:`trace_step`.

    Attributes
    ----------
    calls : tuple of Call
        Every call to a leaf module, in order. A leaf module contains no other module that computes, or it implements a
        protocol of brainhw such as ``update_sequence``.
    given, returned : Value
        Input and output of the step.
    written : tuple of State
        The states that the step writes.
    has_effects : bool
        Whether the step has side effects, such as printing.
    reads_time : bool
        Whether the step depends on ``t`` or ``i`` of ``brainstate.environ``.
    """

    calls: tuple[Call, ...]
    given: Value
    returned: Value
    written: tuple[brainstate.State, ...]
    has_effects: bool
    reads_time: bool
    _jaxpr: ClosedJaxpr
    _atoms: tuple[Any, ...]
    _state_vars: dict[Any, tuple[brainstate.State, int]]

    def link(self, target: Value, sources: Iterable[Value]) -> Link | None:
        """Return the computation that produces ``target`` from ``sources`` and states.

        Modules whose outputs are not among the sources become part of the computation. Returns ``None`` if an operation
        of the computation has a side effect, such as printing, or needs an input of the step that is not a source.
        """
        sources = tuple(sources)
        starts: dict[Any, tuple[int, int]] = {}
        for i, source in enumerate(sources):
            for j, name in enumerate(source.ids):
                # A constant needs no source. If several sources contain the same array, use the first.
                if isinstance(self._atoms[name], Var):
                    starts.setdefault(self._atoms[name], (i, j))
        jaxpr = self._jaxpr.jaxpr
        made_by = {var: eqn for eqn in jaxpr.eqns for var in eqn.outvars}
        ends = [self._atoms[name] for name in target.ids]
        needed: set[int] = set()
        visited: dict[Any, None] = {}  # an ordered set
        waiting = [atom for atom in ends if isinstance(atom, Var)]
        while waiting:
            var = waiting.pop()
            if var in visited:
                continue
            visited[var] = None
            # Stop at a source: the computation before it belongs to another link.
            if var in starts or var not in made_by:
                continue
            eqn = made_by[var]
            # A print or a callback must run once per step, but a link may be called once for all steps.
            if eqn.effects:
                return None
            needed.add(id(eqn))
            waiting += [atom for atom in eqn.invars if isinstance(atom, Var)]
        takes = [var for var in visited if var in starts]
        reads = [var for var in visited if var not in starts and var in self._state_vars]
        consts = [var for var in visited if var in jaxpr.constvars and var not in starts]
        # The target needs an input of the step that is not among the sources.
        if any(v not in starts and v not in made_by and v not in self._state_vars and v not in consts for v in visited):
            return None
        used = sorted({starts[var][0] for var in takes})
        states = list({id(self._state_vars[var][0]): self._state_vars[var][0] for var in reads}.values())
        place = {id(state): i for i, state in enumerate(states)}
        known = dict(zip(jaxpr.constvars, self._jaxpr.consts, strict=True))
        inner = Jaxpr(
            constvars=consts,
            invars=takes + reads,
            outvars=ends,
            eqns=[eqn for eqn in jaxpr.eqns if id(eqn) in needed],
            debug_info=DebugInfo("link", "brainhw.transform.trace", None, None),
        )
        return Link(
            sources=tuple(sources[i] for i in used),
            states=tuple(states),
            identity=any(target.ids == source.ids for source in sources),
            target=target,
            numbers=max([math.prod(v.aval.shape) for eqn in inner.eqns for v in eqn.outvars], default=0),
            _jaxpr=ClosedJaxpr(inner, [known[var] for var in consts]),
            _reads=tuple((place[id(self._state_vars[v][0])], self._state_vars[v][1]) for v in reads),
            _takes=tuple((used.index(starts[v][0]), starts[v][1]) for v in takes),
        )


def trace_step(net: brainstate.nn.Module, x: Any, *, call: str = "trace_step") -> StepTrace:
    """Trace one step of a network, and return the calls to its modules and the states that it writes.

    The network does not change, and nothing is computed or compiled. The modules need no code for this, because their
    ``update`` is wrapped during the traced step.

    Parameters
    ----------
    net : brainstate.nn.Module
        The prepared network (:func:`brainhw.prepare_net`).
    x : array, Quantity or pytree of them
        Input of one step.
    call : str, optional
        Name of the call in error messages.

    Returns
    -------
    StepTrace
        The calls in order, the computation between them, and the written states.

    Raises
    ------
    ValueError
        If the step would silently give wrong results: it writes a hidden state that the network does not own, writes a
        plain attribute, or calls a layer with hidden states more than once.
    Exception
        Any error of the step itself, without the wrapper that containers add. A module that is called inside a compiled
        function or a loop within the step raises ``jax.errors.UnexpectedTracerError``.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(bh.nn.LIFSynapse(3, 2), bh.nn.LIFLayer(2, tau=10 * u.ms))
    >>> bh.prepare_net(net)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     step = bh.transform.trace_step(net, jnp.ones(3))
    >>> [call.path for call in step.calls], step.calls[1].given.same(step.calls[0].gave)
    (['layers.0', 'layers.1'], True)
    """
    if not isinstance(net, brainstate.nn.Module):
        _arguments.check_module(net, call=call)
    if type(call) is not str or not call:
        _arguments.text(call, call="trace_step", name="call", some=True)
    if not all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(x)):
        check_input(x, call=call)
    modules = registered_modules(net)
    leaves = {id(module): (path, module) for path, module in modules if is_leaf(module)}
    rules = StepRules(net, modules, call=call)
    array_ids = _ArrayIds()
    observed: list[tuple[Any, Any, Any, dict[str, Any], dict[str, Any], Any]] = []
    ends: dict[str, Any] = {}
    nested: list[str] = []

    def on_call(module: Any, given: Any, gave: Any, before: dict[str, Any]) -> None:
        # A value from a loop or a compiled function cannot be used outside of it, and JAX does not always detect this.
        # Raise only after the step. If the trace stopped early, an enclosing `grad` would assume that it has read the
        # states, and they would be constants in the step that runs afterwards.
        if not at_the_top():
            nested.append(type(module).__name__)
            return
        dt = brainstate.environ.get("dt", default=None)
        observed.append((module, given, gave, before, hidden_values(module), dt))

    def at_the_top() -> bool:
        return get_opaque_trace_state() == ends["tracing"]

    def one_step(x: Any, time: dict[str, Any]) -> list[Any]:
        # brainstate may trace the function again, so drop the values of an earlier trace.
        observed.clear()
        nested.clear()
        array_ids.clear()
        ends["tracing"] = get_opaque_trace_state()
        initial = {key: hidden_values(module) for key, (_, module) in leaves.items()}
        watched = watch_calls([module for _, module in leaves.values()], on_call)
        with rules.watching(at_the_top), watched, brainstate.environ.context(**time):
            returned = net(x)
        ends["given"], ends["returned"] = array_ids.of(x), array_ids.of(returned)
        ends["calls"] = tuple(
            Call(
                leaves[id(module)][0],
                module,
                array_ids.of(given),
                array_ids.of(gave),
                dt,
                # Whether only this call wrote the states: they did not change before the call, nor after it.
                _all_same(before, initial[id(module)]) and _all_same(after, hidden_values(module)),
                not isinstance(given, _Arguments),
            )
            for module, given, gave, before, after, dt in observed
        )
        return array_ids.arrays

    stepped = brainstate.transform.StatefulFunction(one_step, name=call)
    time = now().like()
    with put_back_on_failure([*net.states().values(), brainstate.random.DEFAULT]):
        try:
            # Compute the key once. An eager rollout traces at every call, and other methods would compute it again.
            key = stepped.get_arg_cache_key(x, time, compile_if_miss=True)
        except brainstate.BrainStateError as error:
            raise first_reason(error) from None
    del ends["tracing"]
    states, written = stepped.get_states_by_cache(key), stepped.get_write_states_by_cache(key)
    rules.check(states, written)
    if nested:
        raise jax.errors.UnexpectedTracerError(
            f"{call}: {nested[0]} is called inside a compiled function or a loop within the step, where it cannot be "
            "traced. Call it directly in the step."
        )
    jaxpr = stepped.get_jaxpr_by_cache(key)
    sizes = [len(jax.tree.leaves(state.value)) for state in states]
    # brainstate appends the values of the states to the arguments.
    state_invars = iter(jaxpr.jaxpr.invars[len(jaxpr.jaxpr.invars) - sum(sizes) :])
    return StepTrace(
        **ends,
        written=tuple(written),
        has_effects=bool(jaxpr.effects),
        reads_time=reads_last_argument(jaxpr, x, time),
        _jaxpr=jaxpr,
        # The named arrays come first; brainstate appends the new values of the states.
        _atoms=tuple(jaxpr.jaxpr.outvars[: len(array_ids.arrays)]),
        _state_vars={next(state_invars): (s, j) for s, n in zip(states, sizes, strict=True) for j in range(n)},
    )


def try_step(net: brainstate.nn.Module, x: Any, *, call: str) -> StepTrace | None:
    """Return the trace of a step. Raise if the step would silently give wrong results.

    Returns ``None`` if tracing fails for any other reason, because the run of the step then raises a clearer error.
    """
    try:
        return trace_step(net, x, call=call)
    except (StepRuleError, Warning):  # a filter of the user may turn warnings into errors
        raise
    except Exception:
        return None


class _Arguments(NamedTuple):
    """Positional and keyword arguments of a call, unless the call has one positional argument and no keywords."""

    given: tuple[Any, ...]
    options: dict[str, Any]


def is_leaf(module: Any) -> bool:
    """Return whether a trace records the calls to this module and not those to the modules inside it.

    Such a module overrides ``update``, and implements a protocol of brainhw or contains no other module that computes.
    """
    if not isinstance(module, brainstate.nn.Module) or not _computes(module):
        return False
    # A module that implements a protocol is a leaf, even if it contains other modules.
    if any(hasattr(module, name) for name in ("update_sequence", "weight_slot", "subthreshold")):
        return True
    return not any(_computes(inner) for inner in modules_within(module) if inner is not module)


def _computes(module: Any) -> bool:
    return type(module).update is not brainstate.nn.Module.update and not isinstance(module, brainstate.nn.Param)


@contextlib.contextmanager
def watch_calls(modules: Iterable[Any], on_call: Callable[[Any, Any, Any, dict[str, Any]], None]) -> Iterator[None]:
    """Call ``on_call(module, given, gave, states_before)`` after every outermost ``update`` of the modules.

    The instances are wrapped while the block runs. Calls inside another watched call are not reported.
    """
    inside: list[Any] = []

    def wrapped(module: Any, update: Callable[..., Any]) -> Callable[..., Any]:
        def watched_update(*given: Any, **options: Any) -> Any:
            # Report only the outermost call, because its input comes from the network itself.
            if inside:
                return update(*given, **options)
            before = hidden_values(module)
            inside.append(module)
            try:
                gave = update(*given, **options)
            finally:
                inside.pop()
            on_call(module, given[0] if len(given) == 1 and not options else _Arguments(given, options), gave, before)
            return gave

        return watched_update

    with wrapped_updates(modules, wrapped):
        yield


@contextlib.contextmanager
def put_back_on_failure(states: Iterable[brainstate.State]) -> Iterator[None]:
    """Restore the states if the block fails, so that an interrupted call changes nothing.

    brainstate leaves traced values in the states of a step that failed.
    """
    # Read `_value`, because a read of `.value` would make a surrounding trace track the state.
    held = [(state, state._value) for state in states]
    try:
        yield
    except BaseException:
        for state, value in held:
            state._value = value
        raise


def hidden_values(module: Any) -> dict[str, Any]:
    """Return the current values of the hidden states of a module, by name."""
    return {name: state.value for name, state in vars(module).items() if isinstance(state, brainstate.HiddenState)}


def in_one_line(error: BaseException) -> str:
    """Return the error as one line of text."""
    error = first_reason(error)
    line = (str(error).strip().splitlines() or [""])[0]
    # Remove the name of the call that traced the step, because another call may report the error.
    return line.partition(": ")[2] if isinstance(error, StepRuleError) else f"{type(error).__name__}: {line}"


class _ArrayIds:
    """Assign a number to each distinct array of a step."""

    def __init__(self) -> None:
        self.arrays: list[Any] = []
        self._known: dict[int, int] = {}

    def clear(self) -> None:
        self.arrays.clear()
        self._known.clear()

    def of(self, value: Any) -> Value:
        leaves, tree = jax.tree.flatten(value, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))
        ids, units, likes = [], [], []
        for leaf in leaves:
            array = u.get_mantissa(leaf)
            if id(array) not in self._known:
                self._known[id(array)] = len(self.arrays)
                self.arrays.append(array)  # keep a reference, so that no other array gets the same id
            ids.append(self._known[id(array)])
            units.append(u.get_unit(leaf))
            likes.append(jax.ShapeDtypeStruct(jax.numpy.shape(array), jax.numpy.result_type(array)))
        return Value(tuple(ids), tuple(units), tuple(likes), tree)


def _all_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(_same_numbers(one[name], other[name]) for name in one)


def _same_numbers(one: Any, other: Any) -> bool:
    return u.get_mantissa(one) is u.get_mantissa(other) and u.get_unit(one) == u.get_unit(other)


def first_reason(error: BaseException) -> BaseException:
    """Return the original error. Containers such as ``Sequential`` wrap it in an error that prints the module."""
    while type(error) is brainstate.BrainStateError and error.__cause__ is not None:
        error = error.__cause__
    return error


def dotted(path: tuple[Any, ...]) -> str:
    """Return the path of a module as dotted text, such as ``"layers.0"``."""
    return ".".join(str(part) for part in path)


def registered_modules(net: brainstate.nn.Module, *, skip: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """Return every module of ``net`` once, as ``(path, module)``, in registration order.

    brainstate itself lists modules alphabetically. Paths are dotted, as in the names of ``rollout(record=...)``; the
    path of ``net`` itself is empty. Attributes whose names are in ``skip`` are not searched.
    """
    paths = {id(node): dotted(path) for path, node in net.nodes().items()}
    return [(paths[id(module)], module) for module in modules_within(net, skip=skip) if id(module) in paths]


def modules_within(net: brainstate.nn.Module, *, skip: tuple[str, ...] = ()) -> Iterator[Any]:
    """Yield the modules of :func:`registered_modules`. The paths are omitted, because they take most of the time."""
    return _walk(net, set(), skip)


# Most attributes of modules have one of these types. Flattening them as pytrees took half of the time of a search.
_NO_MODULES = (str, int, float, type(None), brainstate.State, u.Quantity, u.Unit, jax.Array, np.ndarray, FunctionType)


def _walk(value: Any, seen: set[int], skip: tuple[str, ...]) -> Iterator[brainstate.nn.Module]:
    if isinstance(value, brainstate.graph.Node):
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, brainstate.nn.Module):
            yield value
        hidden = {*value.graph_invisible_attrs, *skip}
        children = [child for name, child in vars(value).items() if name not in hidden]
    elif isinstance(value, _NO_MODULES):
        return
    elif isinstance(value, dict):
        children = list(value.values())  # jax would sort the keys
    elif isinstance(value, (list, tuple)):
        children = list(value)
    else:
        leaves = jax.tree.leaves(value, is_leaf=lambda leaf: isinstance(leaf, brainstate.graph.Node))
        children = [leaf for leaf in leaves if isinstance(leaf, brainstate.graph.Node)]
    for child in children:
        yield from _walk(child, seen, skip)
