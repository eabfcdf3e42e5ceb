"""The pairs of a network in its own step: what feeds each, and what the network brings it on the data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from brainhw.init.circuit import Circuit, prepare_module
from brainhw.nn.protocols import HasWeight, Quietable, Sampled, fulfils, weight_slot_of
from brainhw.transform.prepare import prepare_net
from brainhw.transform.trace import Link, StepTrace, Value, registered_modules, trace_step, watch_calls

__all__ = ["OwnStep", "WiredCircuit", "Wiring", "wire", "without_noise"]


class Wiring(NamedTuple):
    """Where a pair stands in a step.

    Attributes
    ----------
    synapse, layer : int
        Numbers of their calls in the trace.
    link : Link
        The computation that leads from the synapse's output, and from ``sources``, to the layer's input.
    sources : tuple of Value
        What else the layer's input is made of: outputs of other calls, the input of the step.
    reached : set of int
        Calls whose states go into what reaches the pair.
    """

    synapse: int
    layer: int
    link: Link
    sources: tuple[Value, ...]
    reached: set[int]

    @property
    def feeds_back(self) -> bool:
        """Whether what reaches the pair depends on its own layer in the steps before."""
        return self.layer in self.reached

    @property
    def is_direct(self) -> bool:
        """Whether the layer takes exactly what the synapse gives."""
        return self.link.identity and not self.sources


class OwnStep:
    """One traced step of a network, and runs of the network that record what goes through it.

    What can be computed from values that are known already, such as the spikes of a layer that was just initialised,
    is computed. Only for the rest the network runs, and only that is recorded.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.
    x : numpy.ndarray
        The data, ``[B, T, ...]``.
    call : str
        The call to name in errors.
    """

    def __init__(self, net: Any, x: np.ndarray, *, call: str) -> None:
        self.net, self.call = net, call
        self.xs = jnp.asarray(np.swapaxes(x, 0, 1))
        self.known: dict[tuple[int, ...], Any] = {}
        # With the real batch: a step may depend on the batch size, as one that flattens does.
        prepare_net(net, x.shape[0])
        with _no_plain_memory(net, call):
            try:
                self.trace: StepTrace = trace_step(net, self.xs[0], call=call)
            except jax.errors.UnexpectedTracerError as error:
                raise ValueError(
                    f"{call}: a module is called inside a loop or a compiled function within the step, so its input "
                    "cannot be recorded. Call it directly in update."
                ) from error
        self.forget()

    def forget(self) -> None:
        """Forget all that is known but the data, because weights have changed."""
        self.known = {self.trace.given.ids: self.xs}

    def learn(self, value: Value, array: Any) -> None:
        """Take an array ``[T, ...]`` as what a value of the step is at each step."""
        self.known[value.ids] = array

    def values(self, wanted: list[Value]) -> list[Any]:
        """Return what values of the step are on the data, each ``[T, B, ...]``."""
        missing = [value for value in wanted if value.ids not in self.known]
        # A run of the whole network costs a compilation; a link between known values does not need one.
        still = [value for value in missing if not self._computed(value)]
        if still:
            for value, array in zip(still, self._run(still), strict=True):
                self.learn(value, array)
        return [_in_unit(self.known[value.ids], value) for value in wanted]

    def record(self, wanted: list[Value]) -> list[Any]:
        """Run the network and return values of its step, each ``[T, B, ...]``, with nothing taken from before."""
        return [_in_unit(array, value) for value, array in zip(wanted, self._run(wanted), strict=True)]

    def prepare(self) -> None:
        """Put states to rest and charges up to date."""
        prepare_net(self.net, self.xs.shape[1])

    def _computed(self, value: Value) -> bool:
        """Compute a value from known ones if nothing else goes into it than weights."""
        ids = {value.ids for call in self.trace.calls for value in (call.given, call.gave)} | {self.trace.given.ids}
        everything = {v.ids: v for call in self.trace.calls for v in (call.given, call.gave)}
        everything[self.trace.given.ids] = self.trace.given
        known = [everything[name] for name in ids if name in self.known]
        # Weights may have changed since the value was recorded; a link reads them as they are now.
        link = self.trace.link(value, known)
        if link is None or any(_is_in(state, self.trace.written) for state in link.states):
            return False
        arrays = [_in_unit(self.known[source.ids], source) for source in link.sources]
        if not arrays:
            return False
        self.learn(value, brainstate.transform.jit(jax.vmap(link))(*arrays))
        return True

    def _run(self, wanted: list[Value]) -> list[Any]:
        """Run the network on the data and return values of its step."""
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
        raise ValueError(f"{self.call}: a value of the step belongs to no module, so it cannot be recorded.")


@contextlib.contextmanager
def _no_plain_memory(net: Any, call: str) -> Iterator[None]:
    """Refuse a step that leaves traced values in plain attributes of modules; the attributes are put back."""
    before = [(path, module, dict(vars(module))) for path, module in registered_modules(net)]
    written: list[str] = []
    try:
        yield
    finally:
        for path, module, attributes in before:
            for name, value in list(vars(module).items()):
                if isinstance(value, (brainstate.State, brainstate.graph.Node)):
                    continue
                if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
                    written.append(f"{path}.{name}".removeprefix("."))
                    del vars(module)[name]
                    if name in attributes:
                        vars(module)[name] = attributes[name]
        if written:
            raise ValueError(
                f"{call}: the step writes {written[0]}, a plain attribute, and a compiled run would lose what it "
                "holds. Make it a brainstate.HiddenState, with init_state and reset_state."
            )


@contextlib.contextmanager
def without_noise(net: Any, *, call: str) -> Iterator[None]:
    """Switch noise off while the block runs; the rounding of a chip stays, since it is part of the network."""
    with contextlib.ExitStack() as stack:
        for _, module in registered_modules(net):
            if fulfils(module, Quietable, call=call) and not fulfils(module, Sampled, call=call):
                stack.enter_context(module.quiet())
        yield


def wire(step: OwnStep, pairs: list[tuple[Any, Any]], names: list[str], *, initialise: bool) -> list[Wiring]:
    """Find every pair in the step, or refuse it by name.

    Raises
    ------
    ValueError
        If a module of a pair is not called, more than once, or with several arguments, if others write its states, if a
        synapse does not reach its layer, if two synapses share a weight, or if a state that the step writes lies
        between the two.
    """
    trace, call = step.trace, step.call
    if initialise:
        _check_shared(step.net, pairs, call)
    wired = []
    for (synapse, layer), name in zip(pairs, names, strict=True):
        numbers = []
        for module in (synapse, layer):
            calls = [number for number, made in enumerate(trace.calls) if made.module is module]
            if len(calls) != 1:
                raise ValueError(
                    f"{call}: the {type(module).__name__} of the pair of {name} is called {len(calls)} times in a step "
                    "(expected once), so there is no single input to draw its weights for. Leave the pair out of "
                    "net.layer_pairs."
                )
            made = trace.calls[calls[0]]
            if not made.takes_one:
                raise ValueError(
                    f"{call}: the {type(module).__name__} of the pair of {name} is called with several or with named "
                    "arguments (expected one). Call it as module(x)."
                )
            if not made.owns_states:
                raise ValueError(
                    f"{call}: the step writes the states of the {type(module).__name__} of the pair of {name} from "
                    "outside of it, so its membrane is not what its input makes. Leave the pair out of net.layer_pairs."
                )
            numbers += calls
        wired.append(_wiring(trace, numbers[0], numbers[1], name, call))
    return wired


def _wiring(trace: StepTrace, synapse: int, layer: int, name: str, call: str) -> Wiring:
    gave, target = trace.calls[synapse].gave, trace.calls[layer].given
    # Calls that the synapse's output goes through, such as a pooling, belong to the link; all others are sources.
    others = [trace.given, *(made.gave for made in trace.calls[:synapse])]
    for made in trace.calls[synapse + 1 : layer]:
        behind = trace.link(made.given, [gave, *others])
        if behind is None or not any(source.same(gave) for source in behind.sources):
            others.append(made.gave)
    others = [value for value in others if not set(value.ids) & set(gave.ids)]
    link = trace.link(target, [gave, *others])
    if link is None or not any(source.same(gave) for source in link.sources):
        raise ValueError(
            f"{call}: the output of the {type(trace.calls[synapse].module).__name__} paired with {name} does not reach "
            "it in a step of the network. Set net.layer_pairs to say which belong together."
        )
    held = [state for state in link.states if _is_in(state, trace.written)]
    if held:
        raise ValueError(
            f"{call}: between the {type(trace.calls[synapse].module).__name__} and {name} lies a state that the step "
            f"writes ({type(held[0]).__name__}), so the drive is not a function of the step's weights alone. Leave the "
            "pair out of net.layer_pairs."
        )
    sources = tuple(source for source in link.sources if not source.same(gave))
    reached = _depends_on(trace, [trace.calls[synapse].given, *sources])
    return Wiring(synapse, layer, link, sources, reached)


def _depends_on(trace: StepTrace, values: list[Value]) -> set[int]:
    """Return the calls whose states of the step before go into values, directly or through other states."""
    owners = {
        id(state): number
        for number, made in enumerate(trace.calls)
        for state in vars(made.module).values()
        if isinstance(state, brainstate.State)
    }
    met: set[int] = set()
    waiting = list(values)
    while waiting:
        # Back through the step to its input: every state met on the way carries something of the step before.
        link = trace.link(waiting.pop(), [trace.given])
        written = [] if link is None else [state for state in link.states if _is_in(state, trace.written)]
        # Every draw of a Dropout writes the random state, but it carries nothing of what the network computed.
        written = [state for state in written if not isinstance(state, brainstate.random.RandomState)]
        for state in written:
            # A state of no module may come from anywhere: then everything that was called counts.
            numbers = [owners[id(state)]] if id(state) in owners else range(len(trace.calls))
            for number in numbers:
                if number not in met:
                    met.add(number)
                    waiting.append(trace.calls[number].given)
    return met


def _check_shared(net: Any, pairs: list[tuple[Any, Any]], call: str) -> None:
    # By the parameter and not by the module: two synapses may hold one ParamState.
    drawn = {id(weight_slot_of(synapse).parameter): synapse for synapse, _ in pairs}  # type: ignore[union-attr]
    for path, module in registered_modules(net, skip=("layer_pairs", "frontend_stage")):
        slot = weight_slot_of(module) if fulfils(module, HasWeight, call=call) or _knows(module) else None
        if slot is not None and drawn.get(id(slot.parameter), module) is not module:
            raise ValueError(
                f"{call}: {path} shares its weight with another synapse, but a weight can be drawn for one input only. "
                "Give each a weight of its own, or leave the pair out of net.layer_pairs."
            )


def _knows(module: Any) -> bool:
    return weight_slot_of.dispatch(type(module)) is not weight_slot_of.dispatch(object)


def _is_in(state: Any, states: Any) -> bool:
    return any(state is other for other in states)


def _in_unit(array: Any, value: Value) -> Any:
    """Return an array as a value of the step carries it: the same numbers may be known with another unit."""
    if len(value.units) != 1 or u.get_unit(array) == value.unit:
        return array
    return u.Quantity(u.get_mantissa(array), unit=value.unit) if value.unit != u.UNITLESS else u.get_mantissa(array)


class WiredCircuit(Circuit):
    """A pair with something between synapse and layer, or whose weights serve many neurons.

    Its input is ``(given, sources)``: what the synapse takes and what else the drive is made of, each ``[T, B, ...]``.
    Neurons that the same columns of the weight reach form a unit: the positions of an output channel, or one neuron.

    Parameters
    ----------
    synapse, layer
        The pair.
    wiring : Wiring
        Its place in the step.
    trace : StepTrace
        The step.
    call : str
        The call to name in errors.
    """

    def __init__(self, synapse: Any, layer: Any, wiring: Wiring, trace: StepTrace, *, call: str) -> None:
        super().__init__(synapse, layer)
        self.link, self.given = wiring.link, trace.calls[wiring.synapse].given
        self.gave, self.target = trace.calls[wiring.synapse].gave, trace.calls[wiring.layer].given
        self._slots = [source.same(self.gave) for source in self.link.sources]
        if len(self.gave.likes) != 1:
            raise ValueError(f"{call}: the synapse of a pair gives several arrays (expected one).")
        self._gain = np.ones(self.n_neurons)
        self._label(call)

    def drive(self, weight: jax.Array, xs: Any) -> u.Quantity:
        """Return the layer's input, ``[T, B, *layer.in_size]``."""
        given, sources = xs
        self._write(weight)
        prepare_module(self.synapse)
        # All steps at once, since a synapse holds no state: one large product instead of T small ones.
        n_steps, n_samples = jax.tree.leaves(given)[0].shape[:2]
        # Modules of other packages may take one batch axis only.
        folded = jax.tree.map(lambda a: a.reshape(n_steps * n_samples, *a.shape[2:]), given)
        gave = self.synapse.update(folded)
        gave = jax.tree.map(lambda a: a.reshape(n_steps, n_samples, *a.shape[1:]), gave)
        return jax.vmap(self._linked)(gave, sources)

    def probe(self, weight: float) -> float:
        """Return what the synapse gives for one spike at one input, all weights being equal."""
        like = self.given.likes[0]
        spike = np.zeros((1, *like.shape[1:]))
        # In the middle, where a convolution sees it with its whole kernel.
        spike[(0, *(size // 2 for size in like.shape[1:]))] = 1
        given = jnp.asarray(spike, like.dtype) if self.given.unit == u.UNITLESS else spike * self.given.unit
        self._write(self._full(weight))
        prepare_module(self.synapse)
        found = np.asarray(u.get_mantissa(self.synapse.update(given)) - u.get_mantissa(self._silent(given)))
        return float(found.ravel()[np.argmax(np.abs(found))])

    def _silent(self, given: Any) -> Any:
        return self.synapse.update(0 * given)

    def drive_unit(self) -> u.Unit:
        """Return the unit of the layer's input."""
        return self.target.unit

    def reach(self) -> Any:
        """Return what one unit of the synapse's output becomes at each input of the layer."""
        return np.repeat(self._gain, self.layer_synapses)

    def rates(self, given: jax.Array) -> np.ndarray:
        """Return the mean input that meets each row of the weight, ``[n_in]``, of inputs ``[T, B, ...]``.

        The gradient of the mean output: it holds for every synapse that is linear in its weight, padding included.
        """
        held = self.slot.quantity

        def mean_output(weight: jax.Array, folded: Any) -> jax.Array:
            self._write(weight)
            prepare_module(self.synapse)
            gave = u.get_mantissa(self.synapse.update(folded))
            return gave.mean(axis=tuple(range(gave.ndim - 1))).sum() if gave.ndim > 1 else gave.sum()

        folded = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), given)
        try:
            slope = brainstate.transform.jit(brainstate.transform.grad(mean_output, argnums=0))
            gradient = slope(jnp.zeros((self.n_in, self.n_columns), self.weight.dtype), folded)
        finally:
            self._restore(held)
        return np.asarray(gradient, dtype=float).mean(axis=1)

    def _restore(self, held: Any) -> None:
        self.slot.write(held.to(self.slot.unit).mantissa if isinstance(held, u.Quantity) else held)
        prepare_module(self.synapse)

    def _linked(self, gave: Any, sources: Any) -> Any:
        rest = iter(sources)
        return self.link(*(gave if ours else next(rest) for ours in self._slots))

    def _label(self, call: str) -> None:
        """Group neurons and columns that depend on each other into units."""
        like = self.gave.likes[0]
        n = self.n_neurons

        def moved(column: jax.Array, size: float) -> jax.Array:
            # The targets of a column are along the last axis: brainstate and this package put channels last.
            hot = jnp.zeros(like.shape, like.dtype).reshape(*like.shape[:-1], -1)
            hot = hot + size * (jnp.arange(like.shape[-1]) == column)
            gave = hot if self.gave.unit == u.UNITLESS else u.Quantity(hot, unit=self.gave.unit)
            others = [
                jax.tree.map(jnp.ones_like, _example(source))
                for source, ours in zip(self.link.sources, self._slots, strict=True)
                if not ours
            ]
            drive = u.get_mantissa(self._linked(gave, others))[0]
            return drive.reshape(n, self.layer_synapses).sum(axis=1)

        def all_columns(_: Any) -> jax.Array:
            rest = moved(jnp.asarray(0), 0.0)
            return jax.lax.map(lambda column: moved(column, 1.0) - rest, jnp.arange(like.shape[-1]))

        if like.shape[-1] != self.n_columns:
            raise ValueError(
                f"{call}: the {type(self.synapse).__name__} has {self.n_columns} columns of weights and "
                f"{like.shape[-1]} channels on the last axis of its output (expected as many). Put channels last."
            )
        reached = np.asarray(brainstate.transform.jit(all_columns)(0))
        touches = np.abs(reached) > 0
        self._gain = np.where(touches.any(axis=0), np.abs(reached).max(axis=0), 0.0)
        # Max pooling and grouped channels join columns and neurons in ways that no shape tells: the connected parts of
        # the bipartite graph of columns and neurons are the groups whose weights can be scaled by one number.
        column, neuron = np.nonzero(touches)
        nodes = self.n_columns + n
        graph = csr_array((np.ones(len(column)), (column, self.n_columns + neuron)), shape=(nodes, nodes))
        _, label = connected_components(graph, directed=False)
        units = np.unique(label[: self.n_columns])
        number = {name: i for i, name in enumerate(units)}
        self.of_column = np.array([number[name] for name in label[: self.n_columns]])
        self.of_neuron = np.array([number.get(name, -1) for name in label[self.n_columns :]])
        sizes = np.bincount(self.of_column)
        if np.any(sizes != sizes[0]) or np.any(np.diff(self.of_column) < 0):
            raise ValueError(
                f"{call}: what lies between the {type(self.synapse).__name__} and its layer mixes some of its columns "
                "and not others, so no spread can be found for each. Leave the pair out of net.layer_pairs."
            )
        self.n_units, self.n_synapses = len(units), int(sizes[0])
        counted = np.bincount(self.of_neuron[self.of_neuron >= 0], minlength=self.n_units)
        self._served = counted > 0
        self.positions = float(counted[self._served].mean())
        self._size = np.maximum(counted, 1)
        if self.is_recurrent and (self.n_units != n or not self._served.all()):
            raise ValueError(
                f"{call}: {type(self.layer).__name__} is recurrent and shares incoming weights between its neurons, "
                "which has no start. Freeze the recurrent weights or use a layer without."
            )

    def moved(self, drive: Any, sd: jax.Array) -> jax.Array:
        """Return deviations of membranes ``[n_neurons]``, zero where the drive ``[T, B, *in]`` never changes."""
        # A constant drive, as of a bias at the empty border of an image, leaves a membrane that only rises: its
        # deviation would be the rest of that rise.
        numbers = u.get_mantissa(drive)
        changes = numbers.max(axis=(0, 1)) > numbers.min(axis=(0, 1))
        return jnp.where(changes.reshape(self.n_neurons, -1).any(axis=1), sd, 0.0)

    def _filled(self, of_units: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Give columns that reach no neuron the mean of the others: their weights do nothing, but are not NaN."""
        return np.where(known, of_units, of_units[known].mean() if known.any() else 0.0)

    def total(self, counts: np.ndarray) -> np.ndarray:
        """Return the spikes of each unit; of one without a neuron those of the others."""
        ours = self.of_neuron >= 0
        return self._filled(np.bincount(self.of_neuron[ours], counts[ours], self.n_units), self._served)

    def per_unit(self, of_neurons: np.ndarray) -> np.ndarray:
        """Return the median over the neurons of each unit, those that are NaN left out."""
        ours = (self.of_neuron >= 0) & ~np.isnan(of_neurons)
        values, units = of_neurons[ours], self.of_neuron[ours]
        # Sorted by unit and value, so that the median of each unit is found without a loop over units.
        ordered = values[np.lexsort((values, units))]
        size = np.bincount(units, minlength=self.n_units)
        if not len(ordered):
            return np.zeros(self.n_units)
        first, last = np.cumsum(size) - size, len(ordered) - 1
        low, high = (ordered[np.minimum(first + n // 2, last)] for n in (np.maximum(size - 1, 0), size))
        return self._filled(0.5 * (low + high), size > 0)

    def by_column(self, of_inputs: np.ndarray) -> np.ndarray:
        """Return the mean over what each column reaches, ``[L, n_columns]``, of values per input of the layer."""
        per_neuron = of_inputs.reshape(len(of_inputs), self.n_neurons, -1).mean(axis=2)
        ours = np.zeros((self.n_neurons, self.n_units))
        reached = np.flatnonzero(self.of_neuron >= 0)
        ours[reached, self.of_neuron[reached]] = 1 / self._size[self.of_neuron[reached]]
        ours[:, ~self._served] = 1 / self.n_neurons
        return (per_neuron @ ours)[:, self.of_column]

    def per_column(self, of_units: np.ndarray) -> np.ndarray:
        """Return for each column the value of its unit."""
        return of_units[self.of_column]


def _example(value: Value) -> Any:
    arrays = [
        jnp.zeros(like.shape, like.dtype)
        if unit == u.UNITLESS
        else u.Quantity(jnp.zeros(like.shape, like.dtype), unit=unit)
        for like, unit in zip(value.likes, value.units, strict=True)
    ]
    return value.tree.unflatten(arrays)
