"""States that a compiled function writes before it reads them, so that their old values are no input of it.

brainstate traces a function again whenever a state that it touches has another shape than it had when the function was
compiled. A training step that begins with a reset was traced anew for each last batch of another size, and once more
for the batch after it. Where the first access to a state is a write, its old value does not matter: such a state takes
part in the trace as an output alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import jax
from brainstate._state import TRACE_CONTEXT

from brainhw._settings import StandIn

__all__ = ["writing_first"]

# Traces whose function runs once and whole. A loop carries its states from step to step, and a branch that does not
# write a state returns its old value.
_RUN_ONCE = ("jit", "gradient")


class _Output(StandIn):
    """What a trace holds in place of a state whose old value it does not need."""

    def __init__(self, trace: Any, state: Any) -> None:
        super().__init__(trace, ())
        self.__dict__.update(state=state, before=[state._value], around=[])

    def _read_value(self) -> tuple[()]:
        return ()

    @property
    def value(self) -> Any:
        """The new value while the function runs in Python; nothing when its compiled program is called."""
        return self.state.value if self.is_traced() or jax.config.jax_disable_jit else ()

    @value.setter
    def value(self, value: Any) -> None:
        _write(self.state, value)

    def restore_value(self, v: Any) -> None:
        """Put back what the state held before the trace."""
        while self.before:
            self.state.__dict__["_value"] = self.before.pop()
        # The function was traced, but not yet called: the functions around it have seen nothing of the state.
        for output in self.around:
            _withdraw(output)
        self.around.clear()


@contextlib.contextmanager
def writing_first(states: Iterable[Any]) -> Iterator[None]:
    """Make every state in ``states`` that the block writes before anything reads it an output alone of the trace."""
    with contextlib.ExitStack() as hooks:
        for state in states:
            hooks.enter_context(state.temporary_hook("write_before", partial(_before_write, state)))
        yield


def _write(state: Any, value: Any) -> None:
    _before_write(state)
    state.value = value


def _before_write(state: Any, _: Any = None) -> None:
    traces = TRACE_CONTEXT.state_stack[state.stack_level :]
    # Without compilation brainstate restores the old values and runs the function itself.
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
