"""Checks of arguments. Each error names the call, the argument, its value, the expected value and the fix."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import brainstate
import brainunit as u
import jax
import numpy as np
from brainstate._state import TRACE_CONTEXT

from brainhw._settings import note_settings

_Option = TypeVar("_Option", bound=str)


def describe(value: Any) -> str:
    """Return a short description of ``value``: its type, and its unit and shape if it has them."""
    if isinstance(value, u.Quantity):
        shape = np.shape(value.mantissa)
        what = f"a Quantity in {u.get_unit(value)}"
        if shape or not is_concrete(value):
            return f"{what} of shape {shape}" if shape else what
        # Without this context, the conversion inside `jit` would be traced, and the text would show a tracer.
        with jax.ensure_compile_time_eval():
            return f"{value} ({what})"
    if isinstance(value, (bool, int, float, complex, str, type(None))):
        return repr(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {tuple(value.shape)} and dtype {value.dtype}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # the repr of an object may fail, but the caller needs a text in any case
        return f"an object of type {type(value).__name__}"
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def is_concrete(value: Any) -> bool:
    """Return whether every leaf of ``value`` has concrete values, that is, no leaf is traced by JAX."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def inside_jit() -> bool:
    """Return whether this code is being traced by JAX, for example inside ``jit``. Arrays then have no values."""
    # Inside `jit` JAX also traces constants.
    return not is_concrete(jax.numpy.zeros(()))


def _mantissa(value: Any) -> np.ndarray:
    return np.asarray(u.get_mantissa(value))


def _check_numbers(value: Any, positive: bool, nonnegative: bool, *, call: str, name: str) -> None:
    if not is_concrete(value):
        return
    numbers = _mantissa(value)
    if not np.all(np.isfinite(numbers)):
        bad = int(np.sum(~np.isfinite(numbers)))
        raise ValueError(f"{call}: {name} must be finite; got {bad} NaN or infinite value(s) among {numbers.size}.")
    fits = numbers > 0 if positive else numbers >= 0
    if (positive or nonnegative) and not np.all(fits):
        wanted = "greater than zero" if positive else "zero or greater"
        got = describe(value if numbers.ndim or isinstance(value, u.Quantity) else numbers.item())
        least = f" with minimum {numbers.min():g}" if numbers.ndim else ""
        raise ValueError(f"{call}: {name} must be {wanted}; got {got}{least}.")


def _check_shape(shape: tuple[int, ...], allowed: Sequence[tuple[int, ...]] | None, *, call: str, name: str) -> None:
    if allowed is not None and shape not in allowed:
        wanted = " or ".join("a scalar" if not s else f"shape {s}" for s in allowed)
        raise ValueError(f"{call}: {name} must be {wanted}; got shape {shape}.")


def quantity(
    value: Any,
    unit: u.Unit,
    *,
    call: str,
    name: str,
    shapes: Sequence[tuple[int, ...]] | None = None,
    positive: bool = False,
    nonnegative: bool = False,
) -> u.Quantity:
    """Return ``value`` as a float Quantity in ``unit``. A scalar Quantity contains a Python float.

    Other units of the same dimension are converted. ``shapes`` lists the allowed shapes, where ``()`` means a scalar.
    ``positive`` and ``nonnegative`` are checked unless the value is traced.
    """
    example = f"for example 10 * u.{unit_name(unit)}"
    if not isinstance(value, u.Quantity) or value.dim.is_dimensionless:
        raise TypeError(
            f"{call}: {name} must be a Quantity with the dimension of {unit}, {example}; got {describe(value)}."
        )
    if not u.have_same_dim(value, unit):
        raise TypeError(f"{call}: {name} must have the dimension of {unit}, {example}; got {describe(value)}.")
    if np.result_type(getattr(value.mantissa, "dtype", type(value.mantissa))).kind == "c":
        raise TypeError(f"{call}: {name} must be real; got {describe(value)}. Take the real part.")
    # Without this context, JAX would trace the conversion inside `jit`, and an error would print a tracer.
    concrete = is_concrete(value)
    with jax.ensure_compile_time_eval() if concrete else contextlib.nullcontext():
        mantissa = value.to(unit).mantissa
    if concrete:
        mantissa = np.asarray(mantissa)
        mantissa = mantissa.astype(np.result_type(mantissa.dtype, np.float32))
        # A Python float is weakly typed, so it does not raise the precision of arrays in the same operation.
        mantissa = mantissa if mantissa.ndim else float(mantissa)
    converted = u.Quantity(mantissa, unit=unit)
    _check_shape(np.shape(mantissa), shapes, call=call, name=name)
    _check_numbers(converted, positive, nonnegative, call=call, name=name)
    return converted


def unit_name(unit: u.Unit) -> str:
    """Return the name of ``unit`` in brainunit, such as ``"mV"``, or its printed form if brainunit has no such name."""
    # Try both forms. `fC`, the printed form of femtocoulomb, is not an attribute of brainunit. `mvolt`, the name of
    # millivolt, is unusual.
    for candidate in (str(unit), unit.name):
        if getattr(u, candidate, None) == unit:
            return candidate
    return str(unit)


def number(
    value: Any,
    *,
    call: str,
    name: str,
    shapes: Sequence[tuple[int, ...]] | None = ((),),
    positive: bool = False,
    nonnegative: bool = False,
    traced: bool = False,
) -> Any:
    """Convert ``value`` to a dimensionless float or array of floats, and check its shape and sign.

    A traced value is rejected, because most options must be known before a function is compiled. If ``traced`` is True,
    a traced value is accepted, and only its shape is checked.
    """
    if isinstance(value, u.Quantity):
        raise TypeError(f"{call}: {name} must be a number without a unit; got {describe(value)}.")
    # NumPy would convert these values: True to 1.0, text to the number that it contains, None to NaN.
    if value is None or isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{call}: {name} must be a number; got {describe(value)}.")
    if not is_concrete(value):
        if not traced:
            raise TypeError(
                f"{call}: {name} must be a number and not a traced value; got {describe(value)}. Compute it "
                "outside of jit."
            )
        array = jax.numpy.asarray(value)
        _check_shape(array.shape, shapes, call=call, name=name)
        return array
    try:
        given = np.asarray(value)
        if given.dtype.kind in "bUSc":
            raise TypeError
        array = given.astype(float)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{call}: {name} must be a number; got {describe(value)}.") from None
    _check_shape(array.shape, shapes, call=call, name=name)
    _check_numbers(array, positive, nonnegative, call=call, name=name)
    return array if array.ndim else float(array)


# Largest length of an axis. Longer arrays do not fit into memory.
LONGEST_AXIS = 2**31 - 1


def positive_int(value: Any, *, call: str, name: str, most: int | None = None) -> int:
    """Return ``value`` as an int. Raise if it is not an integer from 1 to ``most``."""
    return whole_number(value, call=call, name=name, least=1, most=most)


def whole_number(value: Any, *, call: str, name: str, least: int = 0, most: int | None = None) -> int:
    """Return ``value`` as an int. Raise if it is not an integer from ``least`` to ``most``."""
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(f"{call}: {name} must be an integer; got {describe(value)}.") from None
    # bool is a subclass of int, but True is not a count.
    if isinstance(value, bool) or result < least:
        raise ValueError(f"{call}: {name} must be at least {least}; got {value!r}.")
    if most is not None and result > most:
        raise ValueError(f"{call}: {name} must be at most {most}; got {result}.")
    return result


def sizes(value: Any, *, call: str, name: str) -> tuple[int, ...]:
    """Return the size of a layer as a tuple of ints. ``value`` is an int or a tuple of ints.

    If the length of an axis is invalid, the error message names the axis.
    """
    if not isinstance(value, (tuple, list)):
        return (positive_int(value, call=call, name=name, most=LONGEST_AXIS),)
    if not value:
        raise ValueError(f"{call}: {name} must be an integer or a nonempty tuple of integers; got {value!r}.")
    more = len(value) > 1
    return tuple(
        positive_int(n, call=call, name=f"{name}[{axis}]" if more else name, most=LONGEST_AXIS)
        for axis, n in enumerate(value)
    )


def size(value: Any, *, call: str, name: str) -> int:
    """Return the number of neurons of a layer. ``value`` is an int or a tuple of one int, as in brainstate."""
    if isinstance(value, (tuple, list)) and len(value) != 1:
        raise ValueError(f"{call}: {name} must be a single integer, the number of neurons; got {value!r}.")
    return sizes(value, call=call, name=name)[0]


def choice(value: Any, options: Iterable[_Option], *, call: str, name: str) -> _Option:
    """Return the element of ``options`` that equals ``value``. If there is none, the error lists the options."""
    allowed = tuple(options)
    if not isinstance(value, str) or value not in allowed:
        listed = ", ".join(repr(option) for option in allowed)
        raise ValueError(f"{call}: {name} must be one of {listed}; got {describe(value)}.")
    return allowed[allowed.index(value)]


def flag(value: Any, *, call: str, name: str) -> bool:
    """Return ``value``. Raise if it is not a bool."""
    # Require a bool, because the string "False" would count as true.
    if not isinstance(value, bool):
        raise TypeError(f"{call}: {name} must be True or False; got {describe(value)}.")
    return value


def text(value: Any, *, call: str, name: str, some: bool = False) -> str:
    """Return ``value`` as a plain str. Raise if it is not text or, with ``some=True``, if it is empty."""
    if not isinstance(value, str) or (some and not value):
        raise TypeError(f"{call}: {name} must be text{', not empty' if some else ''}; got {describe(value)}.")
    # Convert to str, because pathlib of Python 3.11 rejects `numpy.str_`.
    return str(value)


def module_name(value: Any, *, call: str) -> str | None:
    """Return the argument ``name`` of a module. Raise if it is neither ``None`` nor nonempty text."""
    return None if value is None else text(value, call=call, name="name", some=True)


def function(value: Any, *, call: str, name: str) -> Any:
    """Return ``value``. Raise if it is not callable, or is a class."""
    # A class is callable, but calling it returns an instance and not a result.
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{call}: {name} must be a function; got {describe(value)}.")
    return value


def instance(value: Any, kind: type, *, call: str, name: str, source: str = "") -> Any:
    """Return ``value``. Raise if it is not an instance of ``kind``.

    ``source`` is the name of a function that returns such an instance. It is part of the error message.
    """
    if not isinstance(value, kind):
        origin = f" returned by {source}" if source else ""
        raise TypeError(f"{call}: {name} must be a {kind.__name__}{origin}; got {describe(value)}.")
    return value


def several(value: Any, *, call: str, name: str, of: str, ordered: bool = True, flat: bool = True) -> list[Any]:
    """Return the items of a list, a tuple or another sequence. Raise for other values, and for text and mappings.

    ``ordered=False`` also accepts a set. ``flat=False`` also accepts an array with several axes.
    """
    axes = len(getattr(value, "shape", (0,)))
    # Reject generators, because they can be read only once.
    sized = hasattr(value, "__len__") and hasattr(value, "__iter__") and (axes == 1 or (axes > 1 and not flat))
    sized = sized and (hasattr(value, "__getitem__") or not ordered)
    if not sized or isinstance(value, (str, bytes, Mapping)):
        raise TypeError(f"{call}: {name} must be a sequence of {of}; got {describe(value)}.")
    return list(value)


def as_array(value: Any, *, call: str, name: str) -> Any:
    """Convert ``value`` to a plain array of real numbers. Raise if this is impossible, or if it is a Quantity."""
    if isinstance(value, u.Quantity):
        raise TypeError(f"{call}: {name} must be plain numbers without a unit, such as spikes; got {describe(value)}.")
    # NumPy would silently use the values below the mask.
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(
            f"{call}: {name} has {int(np.ma.count_masked(value))} masked value(s). Fill them, such as by "
            f"{name}.filled(0)."
        )
    dtype = getattr(value, "dtype", None)
    # Use `getattr`, because a torch dtype has no attribute `kind`.
    if getattr(dtype, "kind", None) == "c":
        raise TypeError(f"{call}: {name} must be real; got {describe(value)}.")
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(f"{call}: {name} must be an array of numbers, not of PRNG keys; got {describe(value)}.")
    if isinstance(value, jax.Array):
        return value
    given = value
    if hasattr(value, "detach"):  # a torch tensor, which may require a gradient or be on a GPU
        value = value.detach().cpu()
        # NumPy has no bfloat16, and float32 represents every bfloat16 number exactly.
        value = value.float() if "bfloat16" in str(getattr(value, "dtype", "")) else value
        value = value.numpy()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # a ragged list, or a list of traced arrays
        array = np.asarray(None)
    # Use JAX's `issubdtype`, which supports bfloat16. NumPy treats bfloat16 as raw bytes.
    if not (array.dtype.kind == "b" or jax.numpy.issubdtype(array.dtype, np.number)):
        raise TypeError(f"{call}: {name} must be an array of numbers; got {describe(given)}.")
    if array.dtype.kind == "c":
        raise TypeError(f"{call}: {name} must be real; got {describe(given)}.")
    # Convert the byte order, because JAX accepts only the native one.
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def as_arrays(value: Any, *, call: str, name: str) -> Any:
    """Convert each leaf of a pytree to an array of real numbers. A Quantity keeps its unit. Raise if impossible."""
    leaves, tree = jax.tree.flatten(value)
    if all(isinstance(leaf, jax.Array) or (type(leaf) is np.ndarray and _is_plain(leaf.dtype)) for leaf in leaves):
        return value
    return tree.unflatten([as_array(leaf, call=call, name=name) for leaf in leaves])


def _is_plain(dtype: np.dtype) -> bool:
    return dtype.kind in "biuf" and dtype.isnative


def check_cast(given: Any, wanted: Any, *, call: str, name: str, why: str = "") -> None:
    """Raise unless the dtype ``given`` can be cast to ``wanted``.

    Integers can be cast to floats, but not floats to integers.
    """
    if jax.numpy.issubdtype(wanted, jax.numpy.floating):
        fits = given.kind in "biu" or jax.numpy.issubdtype(given, jax.numpy.floating)
    else:
        fits = np.can_cast(given, wanted, "same_kind")
    if not fits:
        raise TypeError(f"{call}: {name} must have dtype {wanted}{why}; got dtype {given}.")


def check_finite(value: Any, *, call: str, name: str, fix: str = "clean the data before this call") -> None:
    """Raise if ``value`` is complex or contains NaN or infinity. For a traced value, only the dtype is checked."""
    dtype = getattr(u.get_mantissa(value), "dtype", None)
    if not is_concrete(value):
        _refuse_complex(dtype, call=call, name=name)
        return
    numbers = _mantissa(value)
    # Use JAX's `issubdtype`, which supports bfloat16. NumPy treats bfloat16 as raw bytes.
    if not jax.numpy.issubdtype(numbers.dtype, jax.numpy.inexact):
        return
    finite = np.isfinite(numbers)
    if not np.all(finite):
        bad = np.argwhere(~finite)
        where = tuple(int(i) for i in bad[0])
        raise ValueError(
            f"{call}: {name} contains {len(bad)} NaN or infinite value(s), the first at index {where}; {fix}."
        )
    _refuse_complex(numbers.dtype, call=call, name=name)


def _refuse_complex(dtype: Any, *, call: str, name: str) -> None:
    if dtype is not None and dtype.kind == "c":
        raise TypeError(f"{call}: {name} must be real; got numbers of dtype {dtype}. Take the real part.")


def check_transform(value: Any, *, call: str, name: str) -> None:
    """Raise if ``value`` is a ``brainstate.nn.Param`` with a value outside the range of its transform."""
    if not isinstance(value, brainstate.nn.Param) or isinstance(value.t, brainstate.nn.IdentityT):
        return
    # At a bound of the range the value would be valid, but the trained parameter (its inverse transform) is infinite.
    held = value.val.value if value.fit else value.value()
    if not is_concrete(held):
        return
    finite = np.isfinite(_mantissa(held))
    if not np.all(finite):
        raise ValueError(
            f"{call}: {name} must lie strictly inside the range of its transform {type(value.t).__name__}; got "
            f"{int(np.sum(~finite))} of {finite.size} value(s) outside the range, at a bound or NaN. "
            "Pass values inside the range, or use a transform with a wider range."
        )


def check_finite_tree(value: Any, *, call: str, name: str, fix: str = "clean the data before this call") -> None:
    """Apply :func:`check_finite` to every array of a pytree."""
    for leaf in jax.tree.leaves(value, is_leaf=lambda leaf: isinstance(leaf, u.Quantity)):
        check_finite(leaf, call=call, name=name, fix=fix)


def check_last_axis(value: Any, n: int, *, call: str, name: str, ndims: Sequence[int] | None = None) -> None:
    """Raise unless the last axis of ``value`` has length ``n`` and the number of axes is in ``ndims`` (None: any)."""
    shape = np.shape(u.get_mantissa(value))
    if ndims is not None and len(shape) not in ndims:
        leading = {1: "", 2: "B, ", 3: "T, B, "}
        wanted = " or ".join(f"[{leading[ndim]}{n}]" for ndim in ndims)
        raise ValueError(f"{call}: {name} must have shape {wanted}; got shape {shape}.")
    if not shape or shape[-1] != n:
        raise ValueError(f"{call}: the last axis of {name} must have length {n}; got shape {shape}.")


def check_axes(value: Any, size: tuple[int, ...], *, call: str, name: str, steps: bool = False) -> None:
    """Raise unless ``value`` has shape ``[*size]`` or ``[B, *size]``. With ``steps=True`` a time axis comes first."""
    shape, leading = np.shape(u.get_mantissa(value)), 1 if steps else 0
    if len(size) == 1:
        check_last_axis(value, size[0], call=call, name=name, ndims=(leading + 1, leading + 2))
    elif len(shape) - len(size) not in (leading, leading + 1) or shape[-len(size) :] != size:
        axes = ", ".join(str(n) for n in size)
        wanted = f"[T, {axes}] or [T, B, {axes}]" if steps else f"[{axes}] or [B, {axes}]"
        raise ValueError(f"{call}: {name} must have shape {wanted}; got shape {shape}.")


def step_input(value: Any, n: int, *, call: str, ndims: Sequence[int] | None = None) -> Any:
    """Return the input of a module with ``n`` channels as a plain array. Raise if its shape is invalid.

    NaN and infinity raise an error unless the value is traced. To check values inside a time loop, use
    ``rollout(check_finite=True)``.
    """
    value = as_array(value, call=call, name="the input")
    check_last_axis(value, n, call=call, name="the input", ndims=ndims)
    check_finite(value, call=call, name="the input")
    return jax.numpy.asarray(value)


def time_step(*, call: str) -> u.Quantity:
    """Return ``dt`` from ``brainstate.environ``. If it is not set, the error explains how to set it."""
    try:
        dt = brainstate.environ.get("dt")
    except KeyError:
        raise RuntimeError(
            f"{call}: no time step is set. Run the call inside `with brainstate.environ.context(dt=1. * u.ms):` "
            "or call `brainstate.environ.set(dt=1. * u.ms)` once. The context applies only to the thread that enters "
            "it."
        ) from None
    if TRACE_CONTEXT.state_stack:
        note_settings()
    return quantity(dt, u.ms, call=call, name="dt", shapes=[()], positive=True)


def check_module(net: Any, *, call: str, name: str = "net") -> None:
    """Raise unless ``net`` is a module."""
    if not isinstance(net, brainstate.nn.Module):
        raise TypeError(f"{call}: {name} must be a brainstate.nn.Module; got {describe(net)}.")


def some_key(key: Any, call: str) -> jax.Array:
    """Return ``key`` as a PRNG key. An integer is used as the seed. Raise a TypeError if ``key`` is ``None``."""
    found = as_key(key, call)
    if found is None:
        raise TypeError(f"{call}: key must be an integer or a jax.random.key; got None.")
    return found


def as_key(key: Any, call: str) -> jax.Array | None:
    """Return ``key`` as a PRNG key. An integer is used as the seed. If ``key`` is ``None``, return ``None``."""
    if key is None:
        return None
    is_typed = isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    if isinstance(key, jax.Array) and (key.ndim or is_typed):
        # An old-style key is an array of plain numbers. Its shape depends on JAX's random number generator.
        is_old = key.dtype == "uint32" and key.shape == jax.random.key_data(jax.random.key(0)).shape
        if is_old or (is_typed and not key.ndim):
            return key
        raise ValueError(f"{call}: key must be a single key; got {describe(key)}.")
    try:
        number = operator.index(key)
        if isinstance(key, bool):
            raise TypeError
    except TypeError:
        raise TypeError(f"{call}: key must be an integer or a jax.random.key; got {describe(key)}.") from None
    if not 0 <= number < 2**32:
        # JAX would reduce the seed modulo 2**32, so two different seeds could result in the same chip.
        raise ValueError(f"{call}: key must be an integer from 0 to 2**32 - 1; got {number}.")
    return jax.random.key(number)
