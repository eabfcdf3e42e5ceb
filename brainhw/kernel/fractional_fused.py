"""Run a scheme of fractional neurons in a time loop compiled by numba.

On a CPU, XLA's loop uses one core, and reads and writes the past values of all samples in each step. The loop compiled
by numba uses all cores, and runs all steps of a few hundred neurons before it starts with the next neurons. It needs
the extra ``fast``. XLA's loop is the reference, and is used for rules that the compiled loop does not support.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from brainhw.kernel.events import has_event_loops
from brainhw.kernel.fractional_step import NeuronRules, Scheme
from brainhw.kernel.numba_calls import call_loop
from brainhw.kernel.past import LeakySums, Past, expand
from brainhw.kernel.precision import as_dtype

__all__ = ["FiringRule", "SchemeRun", "is_faster", "run_scheme"]

# With fewer multiplications, calling the compiled loop takes more time than it saves.
_MIN_MULTIPLICATIONS = 2**20


class FiringRule(NamedTuple):
    """Threshold and look-ahead of neurons with the reset ``"current"``; ``lookahead`` may be ``None``."""

    V_th: jax.Array
    lookahead: jax.Array | None
    leak: float


class SchemeRun(NamedTuple):
    """Result of :func:`run_scheme`.

    ``V_compared [T, ..., N]`` are the voltages compared with the threshold. Without a look-ahead they are the voltages
    before the reset. ``V`` are the voltages after each step, or only after the last step, ``[1, ..., N]``. ``slots``
    are the past values after the last step. ``sensitivities`` contains the derivatives of the voltages before the
    reset, ``[T, ..., N]`` each.
    """

    V_compared: jax.Array
    V: jax.Array
    slots: jax.Array
    sensitivities: tuple[jax.Array, ...]


def is_faster(rules: NeuronRules, drives: jax.Array, slots: jax.Array, *states: jax.Array | None) -> bool:
    """Return whether the compiled loop supports the scheme of a layer and is expected to save time.

    ``drives [T, ..., N]`` are the inputs of all steps, ``slots`` are the past values before the first step, and
    ``states`` are the other states, if any.
    """
    known = isinstance(rules.past, LeakySums) and not rules.method.remembers_rate
    # XLA broadcasts arrays of different shapes or raises an error. The compiled loop would read beyond their ends.
    shapes = {slots.shape[1:], *(state.shape for state in states if state is not None)}
    same = drives.dtype == slots.dtype and slots.dtype in (jnp.float32, jnp.float64) and shapes == {drives.shape[1:]}
    return known and same and drives.size * len(slots) >= _MIN_MULTIPLICATIONS and has_event_loops()


def run_scheme(
    past: Past,
    schemes: tuple[Scheme, ...],
    firing: FiringRule | None,
    drives: jax.Array,
    V: jax.Array,
    before: jax.Array | None,
    slots: jax.Array,
    *,
    keep_V: bool = False,
    reverse: bool = False,
) -> SchemeRun:
    """Run the first of ``schemes`` over all steps. The other schemes are its derivatives.

    Parameters
    ----------
    past : LeakySums
        Storage of the past values. Other storages have no compiled loop.
    schemes : tuple of Scheme
        The scheme and its derivatives.
    firing : FiringRule or None
        Threshold and look-ahead. With ``None`` the neurons do not fire.
    drives, V, before, slots : array
        Inputs ``[T, ..., N]``, and voltage, previous drive and past values before the first step.
    keep_V : bool, optional
        Return the voltages after all steps instead of the last one. Default False.
    reverse : bool, optional
        Run the steps from the last to the first. Default False.

    Returns
    -------
    SchemeRun
        Voltages, past values and derivatives.
    """
    from brainhw.kernel import fractional_loops

    n_steps, n_slots, n_derivatives = len(drives), len(slots), len(schemes) - 1
    nothing = jnp.zeros_like(V)
    threshold = firing or FiringRule(nothing, None, leak=0.0)
    looks_ahead = threshold.lookahead is not None

    def column(value: Any) -> jax.Array:
        return jnp.broadcast_to(as_dtype(jnp.asarray(value), V.dtype), V.shape).reshape(-1)

    def weights(scheme: Scheme) -> jax.Array:
        if all(one.weights.ndim == 1 for one in schemes):
            return scheme.weights[:, None]
        return jnp.broadcast_to(expand(scheme.weights, slots.ndim), slots.shape).reshape(n_slots, -1)

    given = (
        drives.reshape(n_steps, -1),
        V.reshape(-1),
        (nothing if before is None else before).reshape(-1),
        slots.reshape(n_slots, -1),
        jnp.stack([column(scheme.drive) for scheme in schemes]),
        jnp.stack([column(nothing if scheme.before is None else scheme.before) for scheme in schemes]),
        jnp.stack([column(scheme.voltage) for scheme in schemes]),
        as_dtype(jnp.stack([weights(scheme) for scheme in schemes]), V.dtype),
        cast(LeakySums, past).decay([1], V.dtype)[0],
        column(threshold.V_th),
        column(threshold.lookahead if looks_ahead else nothing),
        jnp.array([looks_ahead, firing is not None, keep_V, reverse, threshold.leak > 0], jnp.int32),
    )
    columns = V.size
    # An array without elements cannot be passed to the loop.
    shapes = (
        (n_steps, columns),
        (n_steps if keep_V else 1, columns),
        (n_slots, columns),
        (n_steps, n_derivatives, columns) if n_derivatives else (1, 1, 1),
    )
    results = [jax.ShapeDtypeStruct(shape, V.dtype) for shape in shapes]
    V_compared, after, end, derivatives = call_loop(fractional_loops.scheme_steps, results, *given)
    return SchemeRun(
        V_compared.reshape(n_steps, *V.shape),
        after.reshape(-1, *V.shape),
        end.reshape(slots.shape),
        tuple(derivatives[:, i].reshape(n_steps, *V.shape) for i in range(n_derivatives)),
    )
