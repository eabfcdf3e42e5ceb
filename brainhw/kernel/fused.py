"""Choose the time loop for recurrent neurons: a loop compiled by numba, or XLA's loop.

In each step XLA's loop computes a dense matrix product of the spikes with the recurrent weights. The loop compiled by
numba runs all steps of one sample before the next sample, and adds only the weights of neurons that fired. The compiled
loop needs the extra ``fast`` and saves time if few neurons fire. XLA's loop is the reference, and is used for neuron
models that the compiled loop does not support, for networks in which many neurons fire, and for weights that are not
finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brainhw.kernel.events import has_event_loops

__all__ = ["constant_factors", "is_faster", "loop_or_steps", "with_reference"]

# With fewer multiplications, calling the compiled loop takes more time than it saves.
_MIN_MULTIPLICATIONS = 2**22
# Up to this number of neurons, the recurrent weights fit into the cache of a core, and XLA adds in the same order as
# the compiled loop.
_MAX_NEURONS = 512
_MIN_NEURONS = 32


def is_faster(drives: jax.Array, V: jax.Array, recurrent: jax.Array | None) -> bool:
    """Return whether the compiled loop supports inputs ``drives [T, ..., *size, S]`` and is expected to save time."""
    if recurrent is None or not has_event_loops():
        return False
    same = drives.dtype == V.dtype == recurrent.dtype and V.dtype in (jnp.float32, jnp.float64)
    # The compiled loop would read beyond the end of a state of another shape.
    same = same and drives.shape[1 : 1 + V.ndim] == V.shape
    n = recurrent.shape[0]
    fits = _MIN_NEURONS <= n <= _MAX_NEURONS and drives.size * n >= _MIN_MULTIPLICATIONS
    return bool(same and fits and V.size > 0)


def loop_or_steps(
    loop: Callable[..., list[jax.Array]], by_steps: Callable[..., list[jax.Array]], recurrent: int, *given: jax.Array
) -> list[jax.Array]:
    """Return the result of ``loop``, or of ``by_steps`` if too many neurons fire or a weight is not finite.

    Parameters
    ----------
    loop : callable
        Function that calls the compiled loop. The last array that it returns is nonzero for samples in which too many
        neurons fire. ``loop_or_steps`` does not return this array.
    by_steps : callable
        The reference, which computes the same results with XLA's loop. It is also used for second derivatives and for
        ``vmap`` over chips.
    recurrent : int
        Position of the recurrent weights in ``given``.
    given : array
        Arguments of both functions.
    """

    def loop_if_sparse(*given: jax.Array) -> list[jax.Array]:
        *found, is_dense = loop(*given)
        # A NaN weight makes a dense product NaN, but the compiled loop would skip it if its neuron is silent. So use
        # the compiled loop only if all weights are finite.
        holds = (jnp.count_nonzero(is_dense) == 0) & jnp.isfinite(given[recurrent]).all()
        return jax.lax.cond(holds, lambda found, given: found, lambda found, given: by_steps(*given), found, given)

    return with_reference(loop_if_sparse, by_steps)(*given)


def with_reference(loop: Callable[..., Any], reference: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``loop`` with rules for vmap and for derivatives, for which ``reference`` computes the same results.

    A call to a compiled loop has no such rules. The rule for derivatives is only used for second derivatives, because
    first derivatives use a custom backward pass.
    """

    @jax.custom_batching.custom_vmap
    def batched_by_reference(*given: Any) -> Any:
        return loop(*given)

    @batched_by_reference.def_vmap
    def _(axis_size: int, batched: list[Any], *given: Any) -> tuple[Any, Any]:
        axes = jax.tree.map(lambda one: 0 if one else None, batched)
        found = jax.vmap(reference, axes, axis_size=axis_size)(*given)
        return found, jax.tree.map(lambda _: True, found)

    @jax.custom_vjp
    def differentiable(*given: Any) -> Any:
        return batched_by_reference(*given)

    differentiable.defvjp(
        lambda *given: (differentiable(*given), given), lambda given, gradient: jax.vjp(reference, *given)[1](gradient)
    )
    return differentiable


def constant_factors(function: Callable[[jax.Array], jax.Array], like: jax.Array) -> tuple[float, ...] | None:
    """Return the constants by which ``function`` multiplies an array, in the order of the multiplications.

    A division by a constant counts as multiplication by its inverse, as in XLA. If the function contains any other
    operation, return ``None``.
    """
    closed = jax.make_jaxpr(lambda x: function(x))(like)  # noqa: PLW0108  (JAX caches a trace by identity)
    (value,) = closed.jaxpr.invars
    constants = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    factors = []
    for operation in closed.jaxpr.eqns:
        if operation.primitive.name not in ("mul", "div") or len(operation.invars) != 2:
            return None
        of, by = operation.invars
        if of is not value:
            of, by = by, of
            if operation.primitive.name == "div":
                return None
        number = by.val if isinstance(by, jax.extend.core.Literal) else constants.get(by)
        if of is not value or number is None or isinstance(number, jax.core.Tracer) or np.size(number) != 1:
            return None
        factor = np.asarray(number, like.dtype).reshape(())
        factors.append(float(factor if operation.primitive.name == "mul" else np.asarray(1, like.dtype) / factor))
        (value,) = operation.outvars
    return tuple(factors) if closed.jaxpr.outvars == [value] else None
