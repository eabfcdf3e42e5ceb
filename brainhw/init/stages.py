"""Find the (synapse, layer) pairs of a network and how its step connects them."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.nn import net_chip
from brainhw.nn.protocols import HasWeight, Neuron, Quietable, Sampled, fulfils, weight_slot_of
from brainhw.transform.prepare import prepare_net
from brainhw.transform.trace import Link, StepTrace, Value, registered_modules, trace_step, watch_calls

__all__ = [
    "FAMILIES",
    "OwnStep",
    "Stages",
    "Wiring",
    "discover_frontend",
    "discover_stages",
    "wire",
    "without_noise",
]

Families = Literal["H1", "any"]
FAMILIES: tuple[Families, ...] = get_args(Families)

# These attributes only refer to modules that are also registered under another name.
_POINTERS = ("layer_pairs", "frontend_stage")


class Stages(NamedTuple):
    """Frontend stage (or ``None``) and dense pairs of a network, and the path of the layer in each dense pair."""

    frontend: tuple[Any, Any] | None
    pairs: list[tuple[Any, Any]]
    paths: list[str]


def discover_stages(net: brainstate.nn.Module, *, families: str = "H1", call: str) -> Stages:
    """Find the dense pairs and the frontend stage of ``net``.

    They are read from ``net.layer_pairs`` and ``net.frontend_stage`` if those are set. Otherwise each synapse or
    frontend is paired with the layer that is registered next.
    """
    registered = registered_modules(net, skip=_POINTERS)
    modules = [module for _, module in registered]
    net_chip(net, call=call)
    software = [m for m in modules if _family(m) is None and (_is_neuron(m, call) or _has_weight(m, call))]
    if software and families == "H1":
        raise ValueError(
            f"{call}: only H1v1 and H1v2 networks are supported; got {type(software[0]).__name__}. Pass families='any' "
            "for LIF, adaptive and fractional layers."
        )
    frontend, pairs = _in_registration_order(modules, families, call)
    frontend = _given_frontend(net, modules, call) or frontend
    given = _explicit(net, "layer_pairs")
    if given is not None:
        if not isinstance(given, (list, tuple)):
            raise TypeError(
                f"{call}: layer_pairs must be a list of (synapse, layer); got {_arguments.describe(given)}."
            )
        pairs = [_checked(modules, pair, _is_dense, "(synapse, layer)", "layer_pairs", call) for pair in given]
    _warn_of_unpaired(modules, pairs, call)
    if pairs and (unknown := _unknown(_before_unpaired(registered, pairs, call), call)):
        warnings.warn(
            f"{call}: {unknown}, so the weights do not change. Add a weight_slot, or set the weights yourself.",
            UserWarning,
            stacklevel=3,
        )
    if not pairs:
        unknown = _unknown(registered, call)
        what = (
            "a frontend but no dense (synapse, layer) pair after it" if frontend else "no dense (synapse, layer) pair"
        )
        raise ValueError(
            f"{call}: the network has {what}{unknown and f' ({unknown})'}. Define each synapse directly before its "
            "layer, or set net.layer_pairs = [(synapse, layer), ...]."
        )
    every = [frontend, *pairs] if frontend else pairs
    _check_once(every, call)
    _check_sizes(every, call)
    paths = {id(module): path for path, module in registered}
    return Stages(frontend, pairs, [paths[id(layer)] for _, layer in pairs])


def discover_frontend(net: brainstate.nn.Module, *, call: str) -> tuple[Any, Any]:
    """Return the frontend of ``net`` and its layer. The network need not have dense pairs."""
    modules = [module for _, module in registered_modules(net, skip=_POINTERS)]
    net_chip(net, call=call)
    frontend = _given_frontend(net, modules, call) or _in_registration_order(modules, "H1", call)[0]
    if frontend is None:
        raise ValueError(
            f"{call}: the network has no frontend. Define an H1 frontend directly before its H1 layer, or set "
            "net.frontend_stage = (frontend, layer)."
        )
    _check_sizes([frontend], call)
    return frontend


def _explicit(net: brainstate.nn.Module, attribute: str) -> Any:
    return vars(net).get(attribute, getattr(type(net), attribute, None))


def _given_frontend(net: brainstate.nn.Module, modules: list[Any], call: str) -> tuple[Any, Any] | None:
    given = _explicit(net, "frontend_stage")
    if given is None:
        return None
    return _checked(modules, given, _is_frontend, "(frontend, layer)", "frontend_stage", call)


def _family(module: Any) -> str | None:
    return getattr(module, "family", None)


def _has_weight(module: Any, call: str) -> bool:
    return fulfils(module, HasWeight, call=call)


def _is_neuron(module: Any, call: str) -> bool:
    return fulfils(module, Neuron, call=call)


def _is_dense(module: Any, call: str) -> bool:
    """Return whether a module is a synapse with an output axis, such as a dense synapse or a convolution."""
    slot = weight_slot_of(module, call=call)
    return slot is not None and slot.out_axis is not None


def _is_frontend(module: Any, call: str) -> bool:
    """Return whether a module is a one-to-one synapse, which has no output axis."""
    return _has_weight(module, call) and module.weight_slot().out_axis is None


def _in_registration_order(
    modules: list[Any], families: str, call: str
) -> tuple[tuple[Any, Any] | None, list[tuple[Any, Any]]]:
    frontend: tuple[Any, Any] | None = None
    pairs: list[tuple[Any, Any]] = []
    waiting: Any = None
    for module in modules:
        # A brainstate Linear has no family. In a chip network it is not a synapse of the chip.
        if _is_frontend(module, call) or (_is_dense(module, call) and (families == "any" or _family(module))):
            waiting = module
        elif _is_neuron(module, call) and waiting is not None and _family(waiting) == _family(module):
            if _is_frontend(waiting, call):
                frontend = frontend or (waiting, module)
            else:
                pairs.append((waiting, module))
            waiting = None
    return frontend, pairs


def _check_sizes(pairs: list[tuple[Any, Any]], call: str) -> None:
    for synapse, layer in pairs:
        if _family(synapse) != _family(layer):
            raise ValueError(
                f"{call}: the output of {type(synapse).__name__} cannot drive {type(layer).__name__}. Pair modules of "
                "the same family."
            )
        # With several axes, the network may pool or flatten between synapse and layer, so the sizes may differ.
        plain = len(synapse.out_size) == len(layer.in_size) == 1 and _has_weight(synapse, call)
        if plain and synapse.out_size != layer.in_size:
            raise ValueError(
                f"{call}: a synapse must have as many outputs as its layer has inputs; got {synapse.out_size[-1]} "
                f"outputs and {layer.in_size[-1]} inputs ({layer.out_size[-1]} neurons). Set net.layer_pairs to pair "
                "modules of matching sizes."
            )


def _check_once(stages: list[tuple[Any, Any]], call: str) -> None:
    parts = [part for stage in stages for part in stage]
    repeated = next((part for i, part in enumerate(parts) if any(part is other for other in parts[:i])), None)
    if repeated is not None:
        raise ValueError(
            f"{call}: a {type(repeated).__name__} is part of two (synapse, layer) pairs, but a module may be part of "
            "only one. Use different modules for each pair."
        )


def _unknown(registered: list[tuple[str, Any]], call: str) -> str:
    """Return text that names the modules with weights but no ``weight_slot``; an empty string if there are none."""
    names = [
        f"{path} ({type(module).__name__})"
        for path, module in registered
        if weight_slot_of(module, call=call) is None
        and not _is_neuron(module, call)
        and any(isinstance(s, brainstate.ParamState) and _is_matrix(s) for s in vars(module).values())
    ]
    return f"{', '.join(names)} has no weight_slot (see brainhw.nn.protocols.HasWeight)" if names else ""


def _before_unpaired(registered: list[tuple[str, Any]], pairs: list[Any], call: str) -> list[tuple[str, Any]]:
    """Return the path and the module of each module that is registered directly before an unpaired layer."""
    paired = {id(layer) for _, layer in pairs}
    following = itertools.pairwise(registered)
    return [one for one, (_, after) in following if _is_neuron(after, call) and id(after) not in paired]


def _is_matrix(state: brainstate.State) -> bool:
    leaves = jax.tree.leaves(state.value, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))
    return any(np.ndim(u.get_mantissa(leaf)) > 1 for leaf in leaves)


def _warn_of_unpaired(modules: list[Any], pairs: list[tuple[Any, Any]], call: str) -> None:
    paired = {id(synapse) for synapse, _ in pairs}
    alone = sum(
        _has_weight(m, call) and _is_dense(m, call) and m.weight_slot().trainable and id(m) not in paired
        for m in modules
    )
    if alone:
        warnings.warn(
            f"{call}: {alone} synapse(s) belong to no pair, so their weights do not change. Define each synapse "
            "directly before its layer, or set net.layer_pairs.",
            UserWarning,
            stacklevel=4,
        )


def _checked(modules: list[Any], pair: Any, is_synapse: Any, wanted: str, name: str, call: str) -> tuple[Any, Any]:
    fits = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not (fits and is_synapse(pair[0], call) and _is_neuron(pair[1], call)):
        got = ", ".join(type(part).__name__ for part in pair) if isinstance(pair, (tuple, list)) else pair
        raise TypeError(f"{call}: {name} must contain {wanted}; got {_arguments.describe(got)}.")
    if not all(_is_in(part, modules) for part in pair):
        raise ValueError(f"{call}: {name} contains a module that is not in the network. Use modules of the network.")
    return pair[0], pair[1]


class Wiring(NamedTuple):
    """Position of a (synapse, layer) pair in the traced step."""

    synapse: int  # index of the synapse's call in the trace
    layer: int  # index of the layer's call in the trace
    link: Link  # function that computes the layer's input from the synapse's output and ``sources``
    sources: tuple[Value, ...]  # other values that the layer's input depends on: outputs of calls, input of the step
    depends_on: set[int]  # calls whose states from earlier steps affect the input of the pair

    @property
    def feeds_back(self) -> bool:
        """Whether the output of the layer affects the layer's own input in later steps."""
        return self.layer in self.depends_on

    @property
    def is_direct(self) -> bool:
        """Whether the layer's input is the unchanged output of the synapse."""
        return self.link.identity and not self.sources


class OwnStep:
    """Traced time step of a network, with data ``[B, T, ...]``. It can record intermediate values at every time step.

    Values that depend only on known values, such as the spikes of a layer that was just initialised, are computed
    directly. The whole network is run only for other values.
    """

    def __init__(self, net: Any, x: np.ndarray, valid: np.ndarray | None = None, *, call: str) -> None:
        self.net, self.call = net, call
        self.valid = valid  # False for padded steps, ``[T, B]``; ``None`` if all steps count
        self.xs = jnp.asarray(np.swapaxes(x, 0, 1))
        self.known: dict[tuple[int, ...], Any] = {}
        # Trace with the batch size of the data, because the step may depend on it, for example if it flattens arrays.
        prepare_net(net, x.shape[0])
        try:
            self.trace: StepTrace = trace_step(net, self.xs[0], call=call)
        except jax.errors.UnexpectedTracerError as error:
            raise ValueError(
                f"{call}: update calls a module inside a loop or a compiled function, so the input of this "
                "module cannot be recorded. Call the module directly in update."
            ) from error
        self.forget()

    def forget(self) -> None:
        """Drop all known values except the data. Call this method after the weights have changed."""
        self.known = {self.trace.given.ids: self.xs}

    def learn(self, value: Value, array: Any) -> None:
        """Store ``array`` ``[T, ...]`` as the known values of the traced value ``value`` at all steps."""
        self.known[value.ids] = array

    def values(self, wanted: list[Value]) -> list[Any]:
        """Return the traced values ``wanted`` at all steps of the data, each as ``[T, B, ...]``."""
        missing = [value for value in wanted if value.ids not in self.known]
        # Compute from known values if possible, because a run of the whole network must be compiled first.
        still = [value for value in missing if not self._computed(value)]
        if still:
            for value, array in zip(still, self._run(still), strict=True):
                self.learn(value, array)
        return [_in_unit(self.known[value.ids], value) for value in wanted]

    def record(self, wanted: list[Value]) -> list[Any]:
        """Run the network and return the requested values, each ``[T, B, ...]``, without using known values."""
        return [_in_unit(array, value) for value, array in zip(wanted, self._run(wanted), strict=True)]

    def without_padding(self, values: Any) -> Any:
        """Return values ``[T, B, ...]`` with padded steps set to zero."""
        if self.valid is None:
            return values
        valid = self.valid
        return jax.tree.map(lambda a: a * valid.reshape(*valid.shape, *(1,) * (a.ndim - 2)).astype(a.dtype), values)

    def prepare(self) -> None:
        """Reset the states and recompute the values that modules derive from their weights."""
        prepare_net(self.net, self.xs.shape[1])

    def _computed(self, value: Value) -> bool:
        """Compute and store a value if it depends only on known values and weights. Return whether it was computed."""
        of_step = [self.trace.given, *(value for call in self.trace.calls for value in (call.given, call.gave))]
        known = [other for other in of_step if other.ids in self.known]
        # Weights may have changed since the value was recorded. A link uses the current weights.
        link = self.trace.link(value, known)
        if link is None or any(_is_in(state, self.trace.written) for state in link.states):
            return False
        arrays = [_in_unit(self.known[source.ids], source) for source in link.sources]
        if not arrays:
            return False
        self.learn(value, brainstate.transform.jit(jax.vmap(link))(*arrays))
        return True

    def _run(self, wanted: list[Value]) -> list[Any]:
        """Run the network on the data and return the traced values ``wanted`` at all steps."""
        places = [self._place(value) for value in wanted]
        modules = list({id(call.module): call.module for call in self.trace.calls}.values())

        def step(x: Any) -> list[Any]:
            heard: list[tuple[Any, Any]] = []
            with watch_calls(modules, lambda _, given, gave, __: heard.append((given, gave))):
                self.net(x)
            return [heard[number][side] for number, side in places]

        self.prepare()
        return brainstate.transform.for_loop(step, self.xs)

    def _place(self, value: Value) -> tuple[int, int]:
        for number, call in enumerate(self.trace.calls):
            for side, other in enumerate((call.given, call.gave)):
                if other.ids == value.ids:
                    return number, side
        raise ValueError(
            f"{self.call}: a value that is computed between the modules cannot be recorded. Only inputs and outputs of "
            "modules can be recorded."
        )


@contextlib.contextmanager
def without_noise(net: Any, *, call: str) -> Iterator[None]:
    """Context manager that disables noise. Weight rounding of a chip stays on, because it is part of the network."""
    with contextlib.ExitStack() as stack:
        for _, module in registered_modules(net):
            if fulfils(module, Quietable, call=call) and not fulfils(module, Sampled, call=call):
                stack.enter_context(module.quiet())
        yield


def wire(step: OwnStep, pairs: list[tuple[Any, Any]], names: list[str], *, initialise: bool) -> list[Wiring]:
    """Return the position of each pair in the traced step.

    If a pair is unsupported, raise an error that names its layer.
    """
    trace, call = step.trace, step.call
    if initialise:
        _check_shared(step.net, pairs, call)
    wired = []
    for (synapse, layer), name in zip(pairs, names, strict=True):
        numbers = []
        for module in (synapse, layer):
            calls = [number for number, made in enumerate(trace.calls) if made.module is module]
            which = f"layer {name}"
            if module is synapse:
                which = f"the {type(module).__name__}, which is paired with {which},"
            if len(calls) != 1:
                raise ValueError(
                    f"{call}: {which} is called {len(calls)} times per time step (expected once). Omit the pair from "
                    "net.layer_pairs."
                )
            made = trace.calls[calls[0]]
            if not made.takes_one:
                raise ValueError(
                    f"{call}: {which} is called with several arguments or with keyword arguments (expected one "
                    "positional argument). Call it as module(x)."
                )
            if not made.owns_states:
                raise ValueError(
                    f"{call}: the network changes the states of {which} outside of its update method, so the "
                    "states do not depend on its input alone. Omit the pair from net.layer_pairs."
                )
            numbers += calls
        wired.append(_wiring(trace, numbers[0], numbers[1], name, call))
    return wired


def _wiring(trace: StepTrace, synapse: int, layer: int, name: str, call: str) -> Wiring:
    gave, target = trace.calls[synapse].gave, trace.calls[layer].given
    # Calls that process the synapse's output, such as pooling, are part of the link. The outputs of other calls are
    # sources.
    others = [trace.given, *(made.gave for made in trace.calls[:synapse])]
    for made in trace.calls[synapse + 1 : layer]:
        behind = trace.link(made.given, [gave, *others])
        if behind is None or not any(source.same(gave) for source in behind.sources):
            others.append(made.gave)
    others = [value for value in others if not set(value.ids) & set(gave.ids)]
    link = trace.link(target, [gave, *others])
    if link is None or not any(source.same(gave) for source in link.sources):
        raise ValueError(
            f"{call}: the {type(trace.calls[synapse].module).__name__} is paired with layer {name}, but the "
            "input of this layer is not computed from the output of this synapse in the same time step. Set "
            "net.layer_pairs to pairs that are connected."
        )
    held = [state for state in link.states if _is_in(state, trace.written)]
    if held:
        raise ValueError(
            f"{call}: the network updates a state ({type(held[0]).__name__}) between the "
            f"{type(trace.calls[synapse].module).__name__} and layer {name}, so the input of this layer also depends "
            "on earlier time steps. Omit the pair from net.layer_pairs."
        )
    sources = tuple(source for source in link.sources if not source.same(gave))
    return Wiring(synapse, layer, link, sources, _depends_on(trace, [trace.calls[synapse].given, *sources]))


def _depends_on(trace: StepTrace, values: list[Value]) -> set[int]:
    """Return the indices of the calls whose states from earlier steps affect ``values``, directly or indirectly."""
    owners = {
        id(state): number
        for number, made in enumerate(trace.calls)
        for state in vars(made.module).values()
        if isinstance(state, brainstate.State)
    }
    met: set[int] = set()
    waiting = list(values)
    while waiting:
        # Trace the value back to the input of the step. Every state in between that the step writes carries information
        # from earlier steps.
        link = trace.link(waiting.pop(), [trace.given])
        written = [] if link is None else [state for state in link.states if _is_in(state, trace.written)]
        # A Dropout writes the random state at every draw, but this state does not depend on values of the network.
        written = [state for state in written if not isinstance(state, brainstate.random.RandomState)]
        for state in written:
            # If the state belongs to no called module, any call may have written it, so include all calls.
            numbers = [owners[id(state)]] if id(state) in owners else range(len(trace.calls))
            for number in numbers:
                if number not in met:
                    met.add(number)
                    waiting.append(trace.calls[number].given)
    return met


def _check_shared(net: Any, pairs: list[tuple[Any, Any]], call: str) -> None:
    # Compare parameters, not modules, because two synapses may share one ParamState.
    drawn = {id(weight_slot_of(synapse).parameter): synapse for synapse, _ in pairs}  # type: ignore[union-attr]
    for path, module in registered_modules(net, skip=_POINTERS):
        slot = weight_slot_of(module, call=call)
        if slot is not None and drawn.get(id(slot.parameter), module) is not module:
            raise ValueError(
                f"{call}: {path} shares its weight with another synapse, but a weight can be initialised for only one "
                "input. Use a separate weight for each synapse, or omit the pair from net.layer_pairs."
            )


def _is_in(one: Any, many: Any) -> bool:
    return any(one is other for other in many)


def _in_unit(array: Any, value: Value) -> Any:
    """Return ``array`` with the unit of ``value``. The elements are not converted."""
    if len(value.units) != 1 or u.get_unit(array) == value.unit:
        return array
    return value.holding([u.get_mantissa(array)])
