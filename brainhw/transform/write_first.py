"""Exclude the old values of states from the inputs of a compiled function that overwrites them first.

brainstate retraces a function if the shape of a state that it reads or writes has changed since the last compilation. A
training step that starts with a reset was therefore traced again if the last batch of an epoch was smaller, and once
more for the first batch of the next epoch. If a function writes a state before it reads the state, the old value does
not matter. Such a state becomes an output of the trace, but not an input.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import jax
from brainstate._state import TRACE_CONTEXT

from brainhw._settings import AuxiliaryState

__all__ = ["writing_first"]

# Kinds of traces whose function runs exactly once. Others are excluded: a loop carries its states from step to step,
# and a branch that does not write a state returns its old value.
_RUN_ONCE = ("jit", "gradient")


class _Output(AuxiliaryState):
    """Stand-in for a state in a trace that does not need the old value of the state."""

    def __init__(self, trace: Any, state: Any) -> None:
        super().__init__(trace, ())
        self.__dict__.update(state=state, before=[state._value], around=[])

    def _read_value(self) -> tuple[()]:
        return ()

    @property
    def value(self) -> Any:
        """New value of the state while the function runs in Python; ``()`` when the compiled program is called."""
        return self.state.value if self.is_traced() or jax.config.jax_disable_jit else ()

    @value.setter
    def value(self, value: Any) -> None:
        _write(self.state, value)

    def restore_value(self, v: Any) -> None:
        """Restore the value that the state had before the trace."""
        while self.before:
            self.state.__dict__["_value"] = self.before.pop()
        # The function was traced but not called yet, so the surrounding traces must not contain the state.
        for output in self.around:
            _withdraw(output)
        self.around.clear()


@contextlib.contextmanager
def writing_first(states: Iterable[Any]) -> Iterator[None]:
    """Context manager that excludes the old values of states from the inputs of the surrounding traces.

    This applies only to those of ``states`` that the block writes before it reads them.
    """
    with contextlib.ExitStack() as hooks:
        for state in states:
            hooks.enter_context(state.temporary_hook("write_before", partial(_before_write, state)))
        yield


def _write(state: Any, value: Any) -> None:
    _before_write(state)
    state.value = value


def _before_write(state: Any, _: Any = None) -> None:
    traces = TRACE_CONTEXT.state_stack[state.stack_level :]
    # Without compilation brainstate restores the old values and runs the function itself, so do nothing.
    if jax.config.jax_disable_jit or any(trace.name not in _RUN_ONCE for trace in TRACE_CONTEXT.state_stack):
        return
    new = [trace for trace in traces if id(state) not in trace._state_id_index]
    outputs = [_join(trace, state) for trace in new]
    if outputs:
        outputs[-1].around.extend(outputs[:-1])


def _join(trace: Any, state: Any) -> _Output:
    output = _Output(trace, state)
    trace._state_id_index[id(state)] = len(trace.states)
    trace.states.append(output)
    trace.been_writen.append(False)
    trace._original_state_values.append(())
    return output


def _withdraw(output: _Output) -> None:
    trace = output._trace
    at = next(i for i, state in enumerate(trace.states) if state is output)
    for column in (trace.states, trace.been_writen, trace._original_state_values):
        del column[at]
    places = trace._state_id_index
    del places[id(output.state)]
    places.update({known: i - 1 for known, i in places.items() if i > at})
