"""Compile one step of a network as a pure function of its states, and check the input of each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from brainstate._state import TRACE_CONTEXT

from brainhw import _arguments
from brainhw._settings import AuxiliaryState
from brainhw.transform.clock import Clock, reads_last_argument
from brainhw.transform.trace import dotted

__all__ = ["Input", "StepState", "StreamStep", "as_step_input", "refuse_inside_jit"]

Arrays = tuple[jax.Array, ...]

# Arguments of `check_cast`, for its message about the dtype of an input.
_FIRST = {"call": "stream", "name": "the input", "why": ", as in the first step"}


def refuse_inside_jit(call: str) -> None:
    """Raise an error if a function is being compiled or differentiated."""
    if TRACE_CONTEXT.state_stack or _arguments.inside_jit():
        raise RuntimeError(
            f"{call}: a stream runs in real time and cannot be called inside jit, grad, vmap or a compiled loop. "
            "Use brainhw.rollout there."
        )


def as_step_input(x: Any, batch_size: int | None) -> Any:
    """Return the input of the first step as JAX arrays. Raise if it does not have the shape of one step."""
    x = jax.tree.map(_as_array, x, is_leaf=_is_quantity)
    leaves = jax.tree.leaves(x)
    lead = () if batch_size is None else (batch_size,)
    if not leaves or any(len(leaf.shape) <= len(lead) or leaf.shape[: len(lead)] != lead for leaf in leaves):
        wanted = "[...]" if batch_size is None else f"[{batch_size}, ...]"
        got = " and ".join(f"shape {shape}" for shape in sorted({leaf.shape for leaf in leaves})) or "nothing"
        raise ValueError(
            f"stream: the input of one step must have shape {wanted}, because the stream has batch_size={batch_size}; "
            f"got {got}."
        )
    return x


class Input:
    """Check that the input of each step has the structure, shapes, units and dtypes of the input of the first step.

    ``settings`` are the settings of ``brainstate.environ``.
    """

    def __init__(self, first: Any, settings: dict[str, Any]) -> None:
        leaves, self.tree = jax.tree.flatten(first)
        self._likes = [_like(leaf) for leaf in leaves]
        self._parts, self._structure = jax.tree.flatten(self.tree.unflatten(self._likes), is_leaf=_is_quantity)
        self._settings = settings
        # Exclude 64-bit NumPy arrays, because without x64 JAX would convert them to 32 bits when the step is called.
        self._takes_numpy = all(like.dtype.itemsize <= 4 for like in self._likes)

    def leaves(self, x: Any) -> list[Any]:
        """Return the arrays of ``x`` in the units and dtypes of the first input. Raise if they cannot be converted."""
        leaves, tree = jax.tree.flatten(x)
        if tree != self.tree:
            return self._converted(x)
        for i, (leaf, like) in enumerate(zip(leaves, self._likes, strict=True)):
            if type(leaf) is np.ndarray and self._takes_numpy and leaf.shape == like.shape:
                if leaf.dtype != like.dtype:
                    _arguments.check_cast(leaf.dtype, like.dtype, **_FIRST)
                # Copy: the caller may refill the buffer after the call returns, while the step is still reading it.
                leaves[i] = leaf.astype(like.dtype)
            elif not _is_array(leaf) or leaf.shape != like.shape or leaf.dtype != like.dtype:
                return self._converted(x)
        return leaves

    def _converted(self, x: Any) -> list[Any]:
        if not _arguments.is_concrete(x):
            refuse_inside_jit("stream")
        try:
            parts = self._structure.flatten_up_to(x)
        except (TypeError, ValueError):
            raise TypeError(
                f"stream: the input must have the structure of the first input, {self._structure}; "
                f"got {jax.tree.structure(x, is_leaf=_is_quantity)}."
            ) from None
        with brainstate.environ.context(**self._settings):
            return [_converted_leaf(value, like) for value, like in zip(parts, self._parts, strict=True)]


class StepState(NamedTuple):
    """A state that a step reads or writes, with the structure, shapes and dtypes for which the step was compiled."""

    state: brainstate.State
    tree: Any
    likes: list[jax.ShapeDtypeStruct]
    key_impls: list[Any]
    is_written: bool
    path: str | None

    @classmethod
    def of(cls, state: brainstate.State, is_written: bool, path: str | None) -> StepState:
        """Describe the current value of ``state``.

        ``is_written`` tells whether the step writes the state. ``path`` is the path of the state in the network.
        """
        leaves, tree = jax.tree.flatten(state.value)
        key_impls = [jax.random.key_impl(leaf) if _is_key(leaf) else None for leaf in leaves]
        return cls(state, tree, [_like(leaf) for leaf in leaves], key_impls, is_written, path)

    def is_like(self, value: Any) -> bool:
        """Return whether ``value`` has the structure, shapes and dtypes for which the step was compiled."""
        leaves, tree = jax.tree.flatten(value)
        return tree == self.tree and [_like(leaf) for leaf in leaves] == self.likes

    def arrays(self) -> Arrays:
        """Return a copy of the arrays of the state. A copy is needed because a step reuses the memory of its inputs."""
        value = self.state.value
        # Split the key, so that two streams, or a stream and its network, do not draw the same random numbers.
        if self.is_written and isinstance(self.state, brainstate.random.RandomState):
            value = self.state.split_key()
        return tuple(jnp.array(leaf) for leaf in _plain_leaves(value))

    def value(self, arrays: Iterator[jax.Array]) -> Any:
        """Take the arrays of this state from ``arrays``, and return them as a value of the state."""
        return self.tree.unflatten(
            next(arrays) if impl is None else jax.random.wrap_key_data(next(arrays), impl=impl)
            for impl in self.key_impls
        )


class StreamStep:
    """One step of a prepared network as a compiled pure function.

    ``advance`` takes the input of a step and returns the output and the records. ``x`` is an input from
    :func:`as_step_input`. ``held`` lists the states that a step reads or writes, in the order in which their arrays are
    passed. JAX reuses the memory of the states that the step writes (donated arguments); the other states are ordinary
    arguments. ``reads_time`` tells whether the step depends on ``t`` or ``i`` of ``brainstate.environ``. If it does,
    the step number is an additional array after the written states.
    """

    # run(written, read_only, leaves) returns the written states, and the leaves of the output and of the records.
    run: Callable[[Arrays, Arrays, list[Any]], tuple[Arrays, Arrays, Arrays]]

    def __init__(
        self,
        net: brainstate.nn.Module,
        advance: Callable[[Any], Any],
        x: Any,
        settings: dict[str, Any],
        *,
        call: str = "stream",
    ) -> None:
        self.input = Input(x, settings)
        self._advance, clock = advance, Clock(settings)

        def step(x: Any, time: dict[str, Any]) -> Any:
            with brainstate.environ.context(**time):
                return advance(x)

        self._function = brainstate.transform.StatefulFunction(step, name="stream")
        arguments = x, clock.like()
        self._clock, self.reads_time = clock, reads_last_argument(self._function.get_jaxpr(*arguments), *arguments)
        written = {id(state) for state in self._function.get_write_states(*arguments)}
        paths = _paths(net)
        self.held = [
            StepState.of(state, id(state) in written, paths.get(id(state)))
            for state in self._function.get_states(*arguments)
        ]
        (out, records), after = self._function.get_out_shapes(*arguments)
        self.out_tree, self.records_tree = jax.tree.structure(out), jax.tree.structure(records)
        for held, value in zip(self.held, after, strict=True):
            # These arrays are arguments of the next step, and the compiled step accepts only one shape and dtype.
            if held.is_written and not held.is_like(value):
                raise ValueError(
                    f"{call}: a step turns the state {held.path or type(held.state).__name__} from "
                    f"{_arguments.describe(held.state.value)} into {_arguments.describe(value)}, but a state must keep "
                    "its structure, shape, unit and dtype."
                )

    def compile(self, written: Arrays, read_only: Arrays, x: Any) -> None:
        """Compile the step for states and an input of these shapes.

        Inside ``jax.disable_jit()``, it is not compiled.
        """
        if jax.config.jax_disable_jit:
            self.run = self._run_uncompiled
            return
        # Donate the states, so that a step writes the new states into the memory of the old ones.
        self.run = jax.jit(self.pure, donate_argnums=0).lower(written, read_only, jax.tree.leaves(x)).compile()

    def pure(self, written: Arrays, read_only: Arrays, leaves: list[Any]) -> tuple[Arrays, Arrays, Arrays]:
        """Run one step. Return the written states, and the leaves of the output and of the records."""
        which = {True: iter(written), False: iter(read_only)}
        values = [held.value(which[held.is_written]) for held in self.held]
        # The step number is the last array of `written`.
        count = written[-1] if self.reads_time else jnp.zeros((), jnp.int32)
        time = self._clock.at(count)
        after, (out, records) = self._function.jaxpr_call(values, self.input.tree.unflatten(leaves), time)
        new_arrays = [
            leaf
            for held, value in zip(self.held, after, strict=True)
            if held.is_written
            for leaf in _plain_leaves(value)
        ]
        if self.reads_time:
            new_arrays.append(count + 1)
        return tuple(new_arrays), tuple(jax.tree.leaves(out)), tuple(jax.tree.leaves(records))

    def _run_uncompiled(self, written: Arrays, read_only: Arrays, leaves: list[Any]) -> tuple[Arrays, Arrays, Arrays]:
        arrays = iter(written)
        # Use the network's own weights, not `read_only`: a synapse tests by identity that its charges belong to them.
        written_states = [held for held in self.held if held.is_written]
        before = [held.state.value for held in written_states]
        try:
            for held in written_states:
                held.state.value = held.value(arrays)
            count = next(arrays) if self.reads_time else 0
            with brainstate.environ.context(**self._clock.at(count)):
                out, records = self._advance(self.input.tree.unflatten(leaves))
            new_arrays = [leaf for held in written_states for leaf in _plain_leaves(held.state.value)]
            if self.reads_time:
                new_arrays.append(count + 1)
        finally:
            for held, value in zip(written_states, before, strict=True):
                held.state.value = value
        return tuple(new_arrays), tuple(jax.tree.leaves(out)), tuple(jax.tree.leaves(records))

    def fits(self, net: brainstate.nn.Module) -> bool:
        """Return whether the network still has the chip and the states for which the step was compiled.

        The shapes and dtypes of the states must be the same as at compilation.
        """
        # The spec of the chip is a constant of the compiled step, and `put_chip` replaces it in the network.
        if any(held.state.chip_changed() for held in self.held if isinstance(held.state, AuxiliaryState)):
            return False
        paths = _paths(net)
        # Ignore stand-ins for settings, because the stream keeps the settings of its first step.
        own = [held for held in self.held if not isinstance(held.state, AuxiliaryState)]
        return all(paths.get(id(held.state)) == held.path and held.is_like(held.state.value) for held in own)

    def state_arrays(self) -> tuple[Arrays, Arrays]:
        """Return copies of the current states as two tuples: the states that a step writes, and the others."""
        by_kind: dict[bool, list[jax.Array]] = {True: [], False: []}
        for held in self.held:
            by_kind[held.is_written].extend(held.arrays())
        if self.reads_time:
            by_kind[True].append(jnp.zeros((), jnp.int32))
        return tuple(by_kind[True]), tuple(by_kind[False])

    def write(self, written: Arrays) -> None:
        """Copy the written states into the network, except for random generators."""
        # Copy, because the next step overwrites the memory of `written`.
        arrays = iter([jnp.array(leaf) for leaf in written])
        for held in self.held:
            if held.is_written:
                value = held.value(arrays)
                # The generator of the network did not advance: the stream drew from a split of its key.
                if not isinstance(held.state, brainstate.random.RandomState):
                    held.state.value = value


def _as_array(value: Any) -> Any:
    if not hasattr(value, "shape"):
        raise TypeError(
            f"stream: the input must be an array, a Quantity or a pytree of them; got {_arguments.describe(value)}. "
            "Convert lists to arrays first."
        )
    if isinstance(value, u.Quantity):
        mantissa = _arguments.as_array(value.mantissa, call="stream", name="the input")
        return u.Quantity(jnp.array(mantissa), unit=value.unit)
    return jnp.array(_arguments.as_array(value, call="stream", name="the input"))


def _converted_leaf(value: Any, like: Any) -> jax.Array:
    """Return ``value`` as a plain array, converted to the unit and dtype of ``like``. Raise if this is impossible."""
    call, value = "stream", _as_array(value)
    if isinstance(like, u.Quantity):
        if not isinstance(value, u.Quantity) or not u.have_same_dim(value, like.unit):
            raise TypeError(
                f"{call}: the input must have the dimension of {like.unit}, as in the first step; "
                f"got {_arguments.describe(value)}."
            )
        value, like = value.to(like.unit).mantissa, like.mantissa
    elif isinstance(value, u.Quantity):
        raise TypeError(
            f"{call}: the input must have no unit, as in the first step; got {_arguments.describe(value)}. "
            "Divide by its unit."
        )
    if value.shape != like.shape:
        raise ValueError(
            f"{call}: the input must have shape {like.shape}, as in the first step; got shape {value.shape}."
        )
    _arguments.check_cast(value.dtype, like.dtype, **_FIRST)
    return value.astype(like.dtype)


def _plain_leaves(value: Any) -> list[Any]:
    return [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(value)]


def _paths(net: brainstate.nn.Module) -> dict[int, str]:
    return {id(state): dotted(path) for path, state in net.states().items()}


def _like(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf))


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)


def _is_quantity(value: Any) -> bool:
    return isinstance(value, u.Quantity)
