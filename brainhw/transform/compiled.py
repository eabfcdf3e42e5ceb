"""Compile rollouts that are called outside of jit. Equal programs are compiled only once."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import brainstate
import jax
from brainstate._state import TRACE_CONTEXT

__all__ = ["compiled"]

# Maps the text of a program to the compiled program. The most recently used program is the last entry.
_programs: dict[Any, jax.stages.Compiled] = {}
_lock = threading.Lock()
# Largest number of programs that are kept, to limit memory. A program needs about a megabyte.
_MAX_PROGRAMS = 16
# With these settings of JAX, the text of a program does not determine its result.
_SETTINGS = ("jax_debug_nans", "jax_debug_infs", "jax_use_simplified_jaxpr_constants")
# Prefix of the names under which brainevent registers compiled loops.
_LOOP_PREFIX = "brainevent_numba_ffi_"


def compiled(run: Callable[[Any], Any], xs: Any) -> Any:
    """Return ``run(xs)``, compiled as one program unless a surrounding function is being compiled."""
    if TRACE_CONTEXT.state_stack or jax.config.jax_disable_jit:
        return run(xs)
    # If the operations ran one by one, JAX would keep the time loop in its caches permanently, 0.7 to 1.4 MiB per eager
    # call of rollout. If a rollout is one program, brainhw stores the program, and keeps only the last few of them.
    function = brainstate.transform.StatefulFunction(run, name="rollout")
    key = function.get_arg_cache_key(xs, compile_if_miss=True)
    jaxpr, trace = function.get_jaxpr_by_cache(key), function.get_state_trace_by_cache(key)
    read, given = trace.get_read_state_values(True), jax.tree.leaves((xs, trace.get_state_values()))
    # Pass constants as arguments. XLA would fold constants of the program and then round differently from operations
    # that run one by one.
    found = _run(partial(jax.core.eval_jaxpr, jaxpr.jaxpr), (jaxpr.consts, *given), jaxpr.out_avals)
    out, written = jax.tree.unflatten(function.get_out_treedef_by_cache(key), found)
    trace.assign_state_vals_v2(read, written)
    return out


def _run(function: Callable[..., Any], arguments: tuple[Any, ...], results: Any) -> Any:
    """Compile ``function`` and return ``function(*arguments)``. If an equal program is stored, use it instead."""
    program = jax.jit(function)
    leaves, tree = jax.tree.flatten(arguments)
    is_traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    if is_traced or any(getattr(jax.config, name, False) for name in _SETTINGS):
        return program(*arguments)
    lowered = program.lower(*arguments)
    text = lowered.as_text()
    # A callback to Python is stored as the address of a function, and another function may later get the same address.
    # The loops of the extra `fast` are called by names that stay valid.
    if any(not name.startswith(_LOOP_PREFIX) for name in re.findall(r"custom_call @(\w*)", text)):
        return program(*arguments)
    places = tuple(getattr(leaf, "sharding", None) for leaf in leaves)
    key = (hashlib.sha256(text.encode()).digest(), tree, tuple(results), places, jax.config.jax_default_device)
    with _lock:
        found = _programs.pop(key, None)
    found = lowered.compile() if found is None else found
    with _lock:
        _programs[key] = found
        while len(_programs) > _MAX_PROGRAMS:
            del _programs[next(iter(_programs))]
    return found(*arguments)
