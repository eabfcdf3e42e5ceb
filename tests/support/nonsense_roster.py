"""Walk over every public callable with nonsense in place of each argument, and judge what comes."""

from __future__ import annotations

import collections
import contextlib
import io
import re
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import brainstate
import brainunit as u
import jax
import numpy as np
import valid_calls_data
import valid_calls_net
import valid_calls_nn
import valid_calls_recipe
import valid_calls_silicon
import valid_calls_silicon_devices
import valid_calls_silicon_fits
import valid_calls_silicon_loop
import valid_calls_silicon_measured
import valid_calls_silicon_recordings
import valid_calls_train
from matplotlib import pyplot as plt
from nonsense_values import NONSENSE
from valid_calls import CALLS, Valid

assert valid_calls_data
assert valid_calls_net
assert valid_calls_nn
assert valid_calls_recipe
assert valid_calls_silicon
assert valid_calls_silicon_devices
assert valid_calls_silicon_fits
assert valid_calls_silicon_loop
assert valid_calls_silicon_measured
assert valid_calls_silicon_recordings
assert valid_calls_train
# What the texts call an argument, besides its name.
ALSO = {
    "net": ("network",),
    "synapse": ("network", "module"),
    "x": ("input",),
    "xs": ("input",),
    "dataloader": ("batch",),
    "marker": ("no such file",),
    "graph": ("NIR file", "no file"),
    "weight_bits": ("matches no weight",),
    "items": ("layer", "pieces"),
    # Two arguments that do not fit each other: the text names one of them.
    "size": ("recurrent_init",),
    "in_size": ("weight_init",),
    "out_size": ("weight_init",),
    "source": ("spikes of layer",),
    "lower": ("upper",),
    "offsets": ("multipliers",),
    "spikes": ("output neurons",),
    "n_classes": ("classes",),
}
CLEAR_TYPES = (TypeError, ValueError, RuntimeError, OSError)


class Outcome(NamedTuple):
    """One call; ``verdict`` is 'clear', 'unclear', 'accepted', 'warned' or 'changed': refused, but not as before."""

    call: str
    argument: str
    kind: str
    value: str
    verdict: str
    text: str


def judge(error: BaseException, valid: Valid, argument: str) -> str:
    """Return whether an error is of a plain type and names the call and the argument."""
    text = str(error)
    if not isinstance(error, CLEAR_TYPES) or isinstance(error, UnicodeError):
        return "unclear"
    call = any(re.search(rf"\b{re.escape(name)}\b", text) for name in valid.names)
    words = [argument, *ALSO.get(argument, ()), valid.aka.get(argument, argument)]
    named = any(re.search(rf"\b{re.escape(word)}\b", text) for word in words) or "" in words
    # Of a file the text shows the path itself.
    named = named or ("path" in valid.given[argument][0] and bool(re.search(r"cannot (be read|write)|is not a", text)))
    return "clear" if call and named else "unclear"


def states_of(valid: Valid) -> list[tuple[brainstate.State, Any]]:
    """Return the states of every net among the arguments of a call and of its owner, with what they hold."""
    things = [value for _, value in valid.given.values()] + [getattr(valid.call, "__self__", None)]
    nets = [thing for thing in things if isinstance(thing, brainstate.nn.Module)]
    return [(state, state.value) for net in nets for state in net.states().values()]


def changed(before: list[tuple[brainstate.State, Any]]) -> bool:
    for state, value in before:
        if state.value is value:
            continue
        pairs = zip(jax.tree.leaves(state.value), jax.tree.leaves(value), strict=False)
        if jax.tree.structure(state.value) != jax.tree.structure(value):
            return True
        if any(not np.array_equal(_numbers(a), _numbers(b), equal_nan=True) for a, b in pairs):
            return True
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(brainstate.random.DEFAULT._value))


def _numbers(leaf: Any) -> np.ndarray:
    is_key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def tried(name: str, valid: Valid, argument: str, label: str) -> Outcome:
    """Call once with nonsense in place of one argument."""
    kind, _ = valid.given[argument]
    made = NONSENSE[label]()
    before = states_of(valid)
    with warnings.catch_warnings(record=True) as said, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            err = io.StringIO()
            with contextlib.redirect_stderr(err):
                result = valid.run(**{argument: made})
        except Exception as error:
            verdict = judge(error, valid, argument)
            text = f"{type(error).__name__}: {error}"
            if verdict == "clear" and changed(before):
                verdict = "changed"
        else:
            ours = [str(one.message) for one in said if any(n in str(one.message) for n in valid.names)]
            refused = name == "cli.main" and result != 0 and err.getvalue().startswith("error: ")
            verdict = "clear" if refused else "warned" if ours else "accepted"
            text = (
                ours[0]
                if ours
                else repr(result)[:80]
                if not isinstance(result, brainstate.nn.Module)
                else type(result).__name__
            )
    return Outcome(name, argument, kind, label, verdict, " ".join(text.split())[:300])


def outcomes(names: list[str] | None = None, labels: list[str] | None = None) -> Iterator[Outcome]:
    """Try every nonsense at every argument of the calls named (default: of all)."""
    for name in names or list(CALLS):
        # A folder of its own: what one call writes, another would read.
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            yield from _of_one(name, list(labels or NONSENSE))


def _of_one(name: str, labels: list[str]) -> Iterator[Outcome]:
    valid = CALLS[name]()
    for argument in valid.given:
        for label in labels:
            one = tried(name, valid, argument, label)
            yield one
            if one.verdict not in ("clear", "unclear"):
                # It may have changed what it was given.
                valid = CALLS[name]()
            if len(plt.get_fignums()) > 5:
                plt.close("all")


def table(found: list[Outcome]) -> str:
    """Return counts by verdict."""
    counts = collections.Counter(one.verdict for one in found)
    return f"{len(found)} calls: " + ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))


def dt() -> Any:
    return brainstate.environ.context(dt=1.0 * u.ms)
