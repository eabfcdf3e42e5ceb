"""Run one step of a network and record values by names such as ``"hidden.V"``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import brainstate

from brainhw import _arguments
from brainhw.nn.protocols import collect_taps
from brainhw.transform.reasons import reason_in_words
from brainhw.transform.trace import dotted

__all__ = ["Recorder", "advance"]


def advance(net: brainstate.nn.Module, x: Any) -> Any:
    """Return ``net(x)``. For known failures, raise an error with a plain message.

    Containers such as ``Sequential`` add a printout of the module to an error. The message does not contain it.
    """
    try:
        return net(x)
    except (brainstate.BrainStateError, KeyError, TypeError) as error:
        reason = reason_in_words(error, net, x)
        if reason is error:
            raise
        raise reason from None


class Recorder:
    """Read by name the states of a network, and the values that its modules pass to ``tap`` during a step.

    In a name ``"path.to.module.name"``, the last part names a state of the module or a value that the module passes to
    ``tap``, such as ``V_pre``.
    """

    def __init__(self, net: brainstate.nn.Module, names: Sequence[str], *, call: str) -> None:
        self._call, self._net = call, net
        if not isinstance(names, (tuple, list)):
            names = _arguments.several(names, call=call, name="record", of="names such as ('hidden.V',)", ordered=False)
        self.names = tuple(names)
        # Skip this if nothing is recorded: listing the modules takes as long as checking the input.
        nodes = net.nodes() if self.names else {}
        modules = {dotted(path): node for path, node in nodes.items()}
        # Build the readers before the run, so that a wrong name fails before anything is computed.
        self._readers = {name: self._reader(name, modules) for name in self.names}
        self.targets = {
            name: (modules[path], attribute) for name in self.names for path, _, attribute in [name.rpartition(".")]
        }

    def _reader(self, name: Any, modules: dict[str, Any]) -> Callable[[dict[tuple[int, str], Any]], Any]:
        if not isinstance(name, str):
            raise TypeError(f"{self._call}: each name in record must be a string; got {name!r}.")
        path, _, attribute = name.rpartition(".")
        if path not in modules:
            known = ", ".join(repr(p) for p in sorted(modules) if p)
            raise ValueError(
                f"{self._call}: record contains {name!r}, but no module has the path {path!r}. The modules are {known}."
            )
        module = modules[path]

        def read(tapped: dict[tuple[int, str], Any]) -> Any:
            # Look the state up at every step, because it may be created again after the recorder was built.
            state = getattr(module, attribute, None)
            if isinstance(state, brainstate.State):
                return state.value
            try:
                return tapped[id(module), attribute]
            except KeyError:
                raise ValueError(
                    f"{self._call}: record contains {name!r}, but {_recordable_values(path, module, tapped)}"
                ) from None

        return read

    def collect_taps(self) -> contextlib.AbstractContextManager[dict[tuple[int, str], Any]]:
        """Return a context manager that collects the values that modules pass to ``tap``.

        If nothing is recorded, the context manager collects no values.
        """
        return collect_taps() if self.names else contextlib.nullcontext({})

    def collect(self, tapped: dict[tuple[int, str], Any]) -> dict[str, Any]:
        """Return the recorded sequences by name.

        ``tapped`` contains the sequences that the modules passed to ``tap``.
        """
        return {name: tapped[id(module), attribute] for name, (module, attribute) in self.targets.items()}

    def step(self, x: Any) -> tuple[Any, dict[str, Any]]:
        """Run one step; return its output, and the recorded values by name."""
        with self.collect_taps() as tapped:
            out = advance(self._net, x)
        return out, self.read(tapped)

    def read(self, tapped: dict[tuple[int, str], Any]) -> dict[str, Any]:
        """Return the recorded values of this step by name.

        ``tapped`` contains the values that were passed to ``tap``.
        """
        return {name: reader(tapped) for name, reader in self._readers.items()}


def _recordable_values(path: str, module: Any, tapped: dict[tuple[int, str], Any]) -> str:
    """Return a text that lists the values of a module that can be recorded.

    If there are none, it lists the inner modules.
    """
    states = {name for name, value in vars(module).items() if isinstance(value, brainstate.State)}
    offered = {name for owner, name in tapped if owner == id(module)}
    where = f"{type(module).__name__} at {path!r}" if path else f"the network itself, a {type(module).__name__},"
    if known := ", ".join(sorted(states | offered)):
        return f"{where} has only {known}."
    inside = ", ".join(repr(dotted(inner)) for inner in sorted(module.nodes()) if inner)
    return f"{where} has nothing to record" + (f". Name a module inside it: {inside}." if inside else ".")
