"""Faster CPU gradients of convolutions and max pooling.

The values of the forward pass are those of XLA. The gradients of max pooling are bitwise identical to those of XLA. The
gradients of a convolution are sums in a different order, so their rounding may differ. On devices other than the CPU,
convolutions use XLA's own gradients.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["cheap_gradients", "convolution", "max_pool"]


def cheap_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a version of ``function`` with the same values and faster CPU gradients of convolution and max pooling.

    Operations that ``function`` runs inside a compiled function or a loop keep XLA's gradients.
    """

    def same(*given: Any) -> Any:
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*given)
        eqns = [_with_cheap_gradient(eqn) for eqn in closed.jaxpr.eqns]
        if all(eqn is own for eqn, own in zip(eqns, closed.jaxpr.eqns, strict=True)):
            return function(*given)
        found = jax.core.eval_jaxpr(closed.jaxpr.replace(eqns=eqns), closed.consts, *jax.tree.leaves(given))
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return same


def _with_cheap_gradient(eqn: Any) -> Any:
    """Return a jaxpr equation with a faster gradient if one is available, otherwise the equation itself."""
    if _is_plain_max_pool(eqn):
        return _replaced(eqn, partial(max_pool, window=eqn.params["window_dimensions"]))
    if _is_plain_convolution(eqn):
        return _replaced(eqn, partial(convolution, options=tuple(eqn.params.items())))
    return eqn


def _replaced(eqn: Any, function: Callable[..., jax.Array]) -> Any:
    inputs = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in eqn.invars]
    (made,) = jax.make_jaxpr(function)(*inputs).eqns
    return made.replace(invars=eqn.invars, outvars=eqn.outvars)


def _is_plain_max_pool(eqn: Any) -> bool:
    """Return whether an equation is max pooling of floats whose windows have no overlap, padding or dilation."""
    if eqn.primitive.name != "reduce_window_max":
        return False
    options = eqn.params
    return jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.floating) and (
        options["window_strides"] == options["window_dimensions"]
        and not any(low or high for low, high in options["padding"])
        and set(options["base_dilation"]) == {1}
        and set(options["window_dilation"]) == {1}
    )


# XLA differentiates max pooling with `select_and_scatter`, whose CPU code visits the windows one by one. It takes 61 ms
# for the first pooling of a 12C5-MP2-64C5-MP2-10 network on 384 images. The array operations below take 1.4 ms.
def max_pool(x: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """Return the maximum of each window. ``window`` is the window size per axis; an incomplete last window is dropped.

    In each window the gradient goes to the first maximum in row-major order, as in ``jax.lax.reduce_window``.
    """
    return _max_pool(x, window, x.shape)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _max_pool(x: jax.Array, window: tuple[int, ...], shape: tuple[int, ...]) -> jax.Array:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


def _pool_forward(x: jax.Array, window: tuple[int, ...], _: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    largest = max_pool(x, window)
    # For the backward pass store the index of the first maximum in each window. Storing x would take up to 16 times as
    # much memory. A window with a NaN gets the index len(places), so that none of its inputs gets a gradient.
    places = list(_places(window, window, (1,) * len(window), largest.shape))
    first = jnp.full(largest.shape, len(places), jnp.uint8 if len(places) < 256 else jnp.int32)
    for number, at in reversed(list(enumerate(places))):
        first = jnp.where(x[at] == largest, first.dtype.type(number), first)
    return largest, first


def _pool_backward(
    window: tuple[int, ...], shape: tuple[int, ...], first: jax.Array, gradient: jax.Array
) -> tuple[jax.Array]:
    # Write every number once. Scattering into an array of zeros took twice as long, mostly to write the zeros.
    places = tuple(range(1, 2 * len(window), 2))
    sizes = [size for pair in zip((1,) * len(window), window, strict=True) for size in pair]
    numbers = jnp.arange(math.prod(window), dtype=first.dtype).reshape(sizes)
    spread = jnp.where(jnp.expand_dims(first, places) == numbers, jnp.expand_dims(gradient, places), 0)
    ends = [n * size for n, size in zip(first.shape, window, strict=True)]
    rest = [(0, n - end) for n, end in zip(shape, ends, strict=True)]
    return (jnp.pad(spread.reshape(ends), rest),)


_max_pool.defvjp(_pool_forward, _pool_backward)


def _is_plain_convolution(eqn: Any) -> bool:
    """Return whether an equation is a convolution of floats without groups, input dilation or negative padding."""
    if eqn.primitive.name != "conv_general_dilated":
        return False
    options, (x, weight) = eqn.params, (var.aval for var in eqn.invars)
    return (
        jnp.issubdtype(x.dtype, jnp.floating)
        and x.dtype == weight.dtype == eqn.outvars[0].aval.dtype
        and options["feature_group_count"] == options["batch_group_count"] == 1
        and set(options["lhs_dilation"]) == {1}
        and all(low >= 0 and high >= 0 for low, high in options["padding"])
    )


# XLA's CPU code for the gradients of a convolution is slow if the input or the output has few channels. Times for a 5x5
# convolution of 384 images on one thread: the gradient of the input (12 to 64 channels, output 8x8) takes 33 ms in XLA
# and 7 ms here. The gradient of the weight (1 to 12 channels, output 24x24) takes 14 ms in XLA and 4 ms here. This code
# is faster because it processes a few images at a time, whose patches stay in the cache.
_VALUES_PER_PIECE = 2**18
_MOST_CHANNELS = 12  # largest number of input channels; with more, XLA's gradient of the weight is as fast


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution(x: jax.Array, weight: jax.Array, options: tuple[tuple[str, Any], ...]) -> jax.Array:
    """Return the convolution of ``x`` and ``weight`` with the parameters of JAX's ``conv_general_dilated``."""
    return jax.lax.conv_general_dilated_p.bind(x, weight, **dict(options))


def _convolution_forward(
    x: jax.Array, weight: jax.Array, options: tuple[tuple[str, Any], ...]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolution(x, weight, options), (x, weight)


def _convolution_backward(
    options: tuple[tuple[str, Any], ...], kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight = kept
    plain = partial(jax.lax.conv_general_dilated_p.bind, **dict(options))
    patches = _Patches(options, x, weight, gradient)

    def xla_gradient_of_x(gradient: jax.Array) -> jax.Array:
        return jax.vjp(lambda x: plain(x, weight), x)[1](gradient)[0]

    def xla_gradient_of_weight(gradient: jax.Array) -> jax.Array:
        return jax.vjp(lambda weight: plain(x, weight), weight)[1](gradient)[0]

    # Make two separate calls. A first layer uses only the gradient of the weight, so the compiler drops the other call.
    few_channels = patches.n_in <= _MOST_CHANNELS
    return (
        jax.lax.platform_dependent(gradient, cpu=patches.gradient_of_x, default=xla_gradient_of_x),
        jax.lax.platform_dependent(
            gradient,
            cpu=patches.gradient_of_weight if few_channels else xla_gradient_of_weight,
            default=xla_gradient_of_weight,
        ),
    )


convolution.defvjp(_convolution_forward, _convolution_backward)


class _Patches:
    """Gradients of a convolution, computed as matrix products.

    The weight matrix has one row for each pair of a window offset and an input channel. At each window offset, the
    convolution reads a strided slice of the padded input. This slice has the spatial shape of the output. A few images
    are processed at a time.
    """

    def __init__(
        self, options: tuple[tuple[str, Any], ...], x: jax.Array, weight: jax.Array, gradient: jax.Array
    ) -> None:
        params = dict(options)
        # JAX lists the axes of input and output as batch, channel, space, and the axes of the weight as out, in, space.
        self.x_axes, self.weight_axes, self.out_axes = params["dimension_numbers"]
        self.strides, self.dilation = params["window_strides"], params["rhs_dilation"]
        self.padding = params["padding"]
        self.x, self.weight = jnp.transpose(x, self.x_axes), jnp.transpose(weight, self.weight_axes)
        self.n_images, self.n_in, *self.space = self.x.shape
        self.n_out, _, *self.window = self.weight.shape
        self.out_space = tuple(gradient.shape[axis] for axis in self.out_axes[2:])
        per_image = math.prod(self.window) * self.n_in * math.prod(self.out_space)
        most = min(self.n_images, max(1, _VALUES_PER_PIECE // per_image))
        # Prefer a size that divides the number of images. Otherwise the images are padded, which copies them.
        equal = [n for n in range(most // 2 + 1, most + 1) if self.n_images % n == 0]
        self.n_at_once = max(equal, default=most)

    def gradient_of_x(self, gradient: jax.Array) -> jax.Array:
        """Return the gradient with respect to the input. ``gradient`` is the gradient with respect to the output."""
        # Order the rows by offset, then channel, so that the gradient for each offset is one contiguous block.
        rows = jnp.moveaxis(self.weight, (0, 1), (-1, -2)).reshape(-1, self.n_out)
        size = [n + low + high for n, (low, high) in zip(self.space, self.padding, strict=True)]

        def piece(_: None, gradient: jax.Array) -> tuple[None, jax.Array]:
            n = len(gradient)
            patches = (rows @ gradient.reshape(-1, self.n_out).T).reshape(-1, self.n_in, n, *self.out_space)
            x = jnp.zeros((self.n_in, n, *size), gradient.dtype)
            for patch, at in zip(patches, self._places(), strict=True):
                x = x.at[:, :, *at].add(patch)
            return None, jnp.moveaxis(x, 0, 1)

        _, pieces = jax.lax.scan(piece, None, self._in_pieces(self._channels_last(gradient)))
        x = pieces.reshape(-1, *pieces.shape[2:])[: self.n_images]
        inside = tuple(slice(low, low + n) for n, (low, _) in zip(self.space, self.padding, strict=True))
        return _untransposed(x[:, :, *inside], self.x_axes)

    def gradient_of_weight(self, gradient: jax.Array) -> jax.Array:
        """Return the gradient with respect to the weight. ``gradient`` is the gradient with respect to the output."""
        padded = jnp.pad(self.x, ((0, 0), (0, 0), *self.padding))

        def piece(total: jax.Array, arrays: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            x, gradient = arrays
            x = jnp.moveaxis(x, 1, 0)
            patches = jnp.stack([x[:, :, *at] for at in self._places()])
            return total + patches.reshape(len(total), -1) @ gradient.reshape(-1, self.n_out), None

        none = jnp.zeros((math.prod(self.window) * self.n_in, self.n_out), gradient.dtype)
        pieces = self._in_pieces(padded), self._in_pieces(self._channels_last(gradient))
        total, _ = jax.lax.scan(piece, none, pieces)
        weight = jnp.moveaxis(total.reshape(*self.window, self.n_in, self.n_out), (-1, -2), (0, 1))
        return _untransposed(weight, self.weight_axes)

    def _places(self) -> Iterator[tuple[slice, ...]]:
        return _places(self.window, self.strides, self.dilation, self.out_space)

    def _channels_last(self, gradient: jax.Array) -> jax.Array:
        return jnp.moveaxis(jnp.transpose(gradient, self.out_axes), 1, -1)

    def _in_pieces(self, images: jax.Array) -> jax.Array:
        """Split images ``[n_images, ...]`` into groups of ``n_at_once`` images, ``[n_groups, n_at_once, ...]``.

        The last group is padded with zeros.
        """
        missing = -len(images) % self.n_at_once
        filled = jnp.pad(images, ((0, missing), *((0, 0),) * (images.ndim - 1)))
        return filled.reshape(-1, self.n_at_once, *images.shape[1:])


def _places(
    window: Sequence[int], strides: Sequence[int], dilation: Sequence[int], counts: Sequence[int]
) -> Iterator[tuple[slice, ...]]:
    """Yield, for each offset in the window, the slices of the input that all window positions read at this offset.

    The offsets are in row-major order. ``counts`` is the number of window positions per axis.
    """
    for offset in itertools.product(*(range(n) for n in window)):
        along = zip(offset, strides, dilation, counts, strict=True)
        yield tuple(slice(k * apart, k * apart + (n - 1) * stride + 1, stride) for k, stride, apart, n in along)


def _untransposed(array: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.transpose(array, [axes.index(axis) for axis in range(len(axes))])
