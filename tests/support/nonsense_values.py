"""Nonsense by kind: values that somebody passes by mistake, each under a short label."""

from __future__ import annotations

import datetime
import decimal
import fractions
import functools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

EVENTS = np.array([(10, 3), (20, 5)], dtype=[("t", "i8"), ("x", "i2")])


def _ragged_array() -> np.ndarray:
    array = np.empty(2, object)
    array[:] = [[1.0], [1.0, 2.0]]
    return array


def _frozen(shape: tuple[int, ...], value: float = 0.0, dtype: Any = np.float32) -> np.ndarray:
    array = np.full(shape, value, dtype)
    array.setflags(write=False)
    return array


# A function for each value: an iterator is used up, and a mutable value may be changed by the call before.
NONSENSE: dict[str, Callable[[], Any]] = {
    # nothing, and words
    "None": lambda: None,
    "...": lambda: ...,
    "NotImplemented": lambda: NotImplemented,
    "'False'": lambda: "False",
    "''": lambda: "",
    "'abc'": lambda: "abc",
    "'3'": lambda: "3",
    "'a\\nb'": lambda: "a\nb",
    "bytes": lambda: b"abc",
    # truth values
    "True": lambda: True,
    "False": lambda: False,
    "np.bool_": lambda: np.bool_(True),
    # numbers
    "0": lambda: 0,
    "-1": lambda: -1,
    "-7": lambda: -7,
    "10**30": lambda: 10**30,
    "0.5": lambda: 0.5,
    "-0.5": lambda: -0.5,
    "1e300": lambda: 1e300,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "1j": lambda: 1j,
    "np.float64 nan": lambda: np.float64(math.nan),
    "np.int64 -1": lambda: np.int64(-1),
    "0-d numpy 2": lambda: np.array(2),
    "0-d numpy nan": lambda: np.array(math.nan),
    "0-d jax -1": lambda: jnp.asarray(-1),
    "Decimal": lambda: decimal.Decimal("-1.5"),
    "Fraction": lambda: fractions.Fraction(1, 3),
    # containers
    "[]": list,
    "[1, 2]": lambda: [1, 2],
    "[-1.5]": lambda: [-1.5],
    "ragged list": lambda: [[1.0], [1.0, 2.0]],
    "['a']": lambda: ["a"],
    "[None]": lambda: [None],
    "()": tuple,
    "(True, 2)": lambda: (True, 2),
    "{}": dict,
    "{'a': 1}": lambda: {"a": 1},
    "set": lambda: {1, 2},
    "range": lambda: range(3),
    "generator": lambda: (i for i in range(3)),
    # objects
    "object()": object,
    "int": lambda: int,
    "len": lambda: len,
    "lambda": lambda: lambda *args, **kwargs: None,
    "a module": lambda: math,
    "a path": lambda: Path("no/such/folder/x"),
    # Fresh, so that nothing is in it: the machine's own folders may hold anything, and a call may write there.
    "a folder": lambda: Path(tempfile.mkdtemp(dir=".")),
    "an exception": lambda: ValueError("abc"),
    "a date": lambda: datetime.timedelta(milliseconds=-1),
    # Quantities
    "Quantity -1 ms": lambda: -1.0 * u.ms,
    "Quantity 0 ms": lambda: 0.0 * u.ms,
    "Quantity nan ms": lambda: math.nan * u.ms,
    "Quantity -1 mV": lambda: -1.0 * u.mV,
    "Quantity inf mV": lambda: math.inf * u.mV,
    "Quantity -1 Hz": lambda: -1.0 * u.Hz,
    "Quantity 1 kg": lambda: 1.0 * u.kilogram,
    "Quantity of three ms": lambda: np.array([1.0, -2.0, math.nan]) * u.ms,
    "complex Quantity": lambda: u.Quantity(1j, unit=u.ms),
    "unit": lambda: u.ms,
    # arrays
    "array [2, 3, 5, 7]": lambda: _frozen((2, 3, 5, 7)),
    "array [0]": lambda: _frozen((0,)),
    "array [4, 2, 0]": lambda: _frozen((4, 2, 0)),
    "array [0, 2, 3]": lambda: _frozen((0, 2, 3)),
    "nan [4, 2, 3]": lambda: _frozen((4, 2, 3), math.nan),
    "nan [3]": lambda: _frozen((3,), math.nan),
    "inf jax [2, 3]": lambda: jnp.full((2, 3), jnp.inf),
    "complex [4, 2, 3]": lambda: _frozen((4, 2, 3), 1j, complex),
    "strings [3]": lambda: np.array(["a", "b", "c"]),
    "objects [2]": _ragged_array,
    "events": lambda: EVENTS,
    # JAX and brainstate
    "jax key": lambda: jax.random.key(0),
    "two jax keys": lambda: jax.random.split(jax.random.key(0)),
    "a State": lambda: brainstate.ParamState(jnp.full((3,), jnp.nan)),
    "nn.Linear": functools.cache(lambda: brainstate.nn.Linear(7, 5)),
    "nn.Module": brainstate.nn.Module,
}
