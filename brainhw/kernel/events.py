"""Matrix products with sparse matrices, such as spikes.

On a CPU and with the extra ``fast`` (numba), compiled loops add only the weights of nonzero inputs. If 5 % of the
inputs spike, these loops take a quarter of the time of a dense matrix product. The loops are called through
``brainevent.numba_kernel``. In all other cases the dense product is used, which is also the reference for tests.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

from brainhw.kernel.numba_calls import call_loop

__all__ = ["dense_products", "event_outer", "event_product", "has_event_loops"]

# Above this fraction of nonzero inputs the loops no longer save time (measured with 128 to 512 inputs on two cores).
_MAX_SPIKE_FRACTION = 0.25
# With fewer multiplications, calling the compiled loops takes more time than they save.
_MIN_MULTIPLICATIONS = 2**23
# Up to this number of inputs, XLA's dense product adds in the same order as the loops, so the results are identical.
_MAX_INPUTS = 512
# With fewer outputs the inner loops are too short to save time.
_MIN_OUTPUTS = 32
# Number of rows sampled to estimate the fraction of nonzero inputs.
_SAMPLED_ROWS = 256


@functools.cache
def _is_usable() -> bool:
    if importlib.util.find_spec("numba") is None:
        return False
    try:
        import numba
        from brainevent import numba_kernel  # noqa: F401

        from brainhw.kernel import event_loops  # noqa: F401
    except Exception as error:  # numba raises various errors for unsupported versions of Python and numpy
        warnings.warn(
            f"rollout: numba is installed but cannot be used ({type(error).__name__}: {error}), so matrix products "
            "with spikes are dense. Set BRAINHW_EVENTS=0 to silence this warning.",
            stacklevel=2,
        )
        return False
    # With NUMBA_DISABLE_JIT=1, for example in a debugger, numba returns the plain Python functions.
    return not getattr(numba.config, "DISABLE_JIT", 0)


_only_dense: ContextVar[bool] = ContextVar("brainhw_only_dense_products", default=False)


@contextlib.contextmanager
def dense_products() -> Iterator[None]:
    """Context manager that makes traced functions use only dense products, so that they can run on any machine."""
    token = _only_dense.set(True)
    try:
        yield
    finally:
        _only_dense.reset(token)


def has_event_loops() -> bool:
    """Return whether compiled loops are used.

    They need numba and a single CPU device. The environment variable ``BRAINHW_EVENTS=0`` disables them, and
    :func:`dense_products` disables them inside a ``with`` block.
    """
    if _only_dense.get() or os.environ.get("BRAINHW_EVENTS", "1") == "0":
        return False
    # XLA cannot distribute a call to the loops over several devices.
    return jax.default_backend() == "cpu" and jax.device_count() == 1 and _is_usable()


def event_product(x: jax.Array, weights: jax.Array) -> jax.Array:
    """Return ``x [rows, n_in] @ weights [n_in, n_out]``, computed with compiled loops if they save time."""
    return _product(x, weights) if _is_faster(x, weights, weights.size * len(x)) else x @ weights


def event_outer(x: jax.Array, g: jax.Array) -> jax.Array:
    """Return ``x.T [n_in, rows] @ g [rows, n_out]``, computed with compiled loops if they save time.

    If ``g`` is the gradient of the result of :func:`event_product`, this is the gradient of its weights.
    """
    return _outer(x, g) if _is_faster(x, g, g.size * x.shape[1]) else x.T @ g


def _is_faster(x: jax.Array, other: jax.Array, multiplications: int) -> bool:
    same = x.dtype == other.dtype and x.dtype in (jnp.float32, jnp.float64)
    fits = x.shape[1] <= _MAX_INPUTS and other.shape[1] >= _MIN_OUTPUTS and multiplications >= _MIN_MULTIPLICATIONS
    return bool(same and fits and has_event_loops())


def _is_sparse(x: jax.Array) -> jax.Array:
    # Use an odd stride. With an even stride, all sampled rows of a batch could belong to a few samples.
    seen = x[:: max(len(x) // _SAMPLED_ROWS, 1) | 1]
    return jnp.count_nonzero(seen) <= _MAX_SPIKE_FRACTION * seen.size


# Under vmap, for example over chips, `cond` would compute both branches, and a call to the compiled loops has no rule
# for vmap. So use the dense product there.
@jax.custom_batching.custom_vmap
def _chosen_product(x: jax.Array, weights: jax.Array) -> jax.Array:
    # A NaN weight makes a dense product NaN, but the compiled loop would skip it if its input is zero. So use the loop
    # only if all weights are finite.
    adds = _is_sparse(x) & jnp.isfinite(weights).all()
    return jax.lax.cond(adds, _looped_product, jnp.matmul, x, weights)


@_chosen_product.def_vmap
def _(axis_size: int, batched: list[bool], x: jax.Array, weights: jax.Array) -> tuple[jax.Array, bool]:
    return jax.vmap(jnp.matmul, [0 if one else None for one in batched], axis_size=axis_size)(x, weights), True


@jax.custom_batching.custom_vmap
def _chosen_outer(x: jax.Array, g: jax.Array) -> jax.Array:
    return jax.lax.cond(_is_sparse(x), _looped_outer, _dense_outer, x, g)


@_chosen_outer.def_vmap
def _(axis_size: int, batched: list[bool], x: jax.Array, g: jax.Array) -> tuple[jax.Array, bool]:
    return jax.vmap(_dense_outer, [0 if one else None for one in batched], axis_size=axis_size)(x, g), True


def _dense_outer(x: jax.Array, g: jax.Array) -> jax.Array:
    return x.T @ g


def _looped_product(x: jax.Array, weights: jax.Array) -> jax.Array:
    from brainhw.kernel import event_loops

    return call_loop(event_loops.product, [_like(x, len(x), weights.shape[1])], x, weights)[0]


def _looped_outer(x: jax.Array, g: jax.Array) -> jax.Array:
    from brainhw.kernel import event_loops

    shape = x.shape[1], g.shape[1]
    return call_loop(event_loops.outer, [_like(x, event_loops.PARTS, *shape), _like(x, *shape)], x, g)[1]


def _like(x: jax.Array, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, x.dtype)


@jax.custom_vjp
def _product(x: jax.Array, weights: jax.Array) -> jax.Array:
    return _chosen_product(x, weights)


def _product_forward(x: jax.Array, weights: jax.Array) -> tuple[jax.Array, Any]:
    # Call the differentiable function, because a second derivative differentiates this forward pass.
    return _product(x, weights), (x, weights)


def _product_backward(kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weights = kept
    # XLA removes a product whose result is not used.
    return g @ weights.T, event_outer(x, g)


@jax.custom_vjp
def _outer(x: jax.Array, g: jax.Array) -> jax.Array:
    return _chosen_outer(x, g)


def _outer_forward(x: jax.Array, g: jax.Array) -> tuple[jax.Array, Any]:
    return _outer(x, g), (x, g)


def _outer_backward(kept: Any, grad_result: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, g = kept
    return g @ grad_result.T, event_product(x, grad_result)


_product.defvjp(_product_forward, _product_backward)
_outer.defvjp(_outer_forward, _outer_backward)
