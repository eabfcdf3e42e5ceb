"""A valid call of each public callable: what each argument of it is (its kind), and a value that is right."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

import brainhw as bh

WINGS = (
    "brainhw",
    "brainhw.chip",
    "brainhw.cli",
    "brainhw.data",
    "brainhw.deploy",
    "brainhw.init",
    "brainhw.interop.nir",
    "brainhw.interop.stablehlo",
    "brainhw.interop.state_dicts",
    "brainhw.kernel",
    "brainhw.nn",
    "brainhw.recipe",
    "brainhw.silicon",
    "brainhw.surrogate",
    "brainhw.train",
    "brainhw.transform",
    "brainhw.visualize",
)
T, B, N, M, K = 5, 2, 3, 4, 2  # steps, samples, inputs, hidden neurons, outputs


@dataclass
class Valid:
    """A valid call: ``given`` holds for each argument its kind and a right value."""

    call: Callable[..., Any]
    given: dict[str, tuple[str, Any]]
    # A class counts by its own name, a method by that of its class or its own.
    names: tuple[str, ...]
    # Arguments that only positions name, such as those of `Sequential`, and what the texts call them.
    aka: dict[str, str]
    # Whether the call works here: a data set that is not on this machine cannot be read.
    works: bool = True

    def run(self, **changed: Any) -> Any:
        arguments = {name: value for name, (_, value) in self.given.items()} | changed
        positional = [arguments.pop(name) for name in self.given if name.startswith("*")]
        result = self.call(*positional, **arguments)
        # A generator or a context that never starts has checked nothing yet.
        if isinstance(result, Iterator):
            next(result, None)
        return result


CALLS: dict[str, Callable[[], Valid]] = {}


def add(name: str, /, **aka: Any) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register what a function returns, ``(callable, {argument: (kind, value)})``, as a valid call."""
    works, calls = aka.pop("works", True), aka.pop("calls", ())

    def register(make: Callable[[], Any]) -> Callable[[], Any]:
        def build() -> Valid:
            call, given = make()
            parts = name.split(".")
            owner = getattr(call, "__self__", call)
            owner_class = owner if inspect.isclass(owner) else type(owner)
            own = [] if inspect.isroutine(call) and owner is call else [owner_class.__name__]
            names = dict.fromkeys((*parts[-2:], *own, *calls))
            owner = tuple(name.split(":")[0] for name in names)
            return Valid(call, given, owner, aka, works)

        assert name not in CALLS, name
        CALLS[name] = build
        return make

    return register


def public_callables() -> dict[str, Any]:
    """Return every public callable that takes arguments: functions, classes, and methods under their class."""
    found: dict[int, tuple[str, Any]] = {}
    for wing in WINGS:
        module = importlib.import_module(wing)
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.ismodule(thing) or not callable(thing):
                continue
            found.setdefault(id(thing), (f"{wing}.{name}".removeprefix("brainhw."), thing))
            if not inspect.isclass(thing):
                continue
            for owner in thing.__mro__:
                if owner.__module__.split(".")[0] != "brainhw":
                    continue
                for method, raw in vars(owner).items():
                    if method.startswith("_") and method != "__call__":
                        continue
                    function = raw.__func__ if isinstance(raw, (classmethod, staticmethod)) else raw
                    if inspect.isfunction(function):
                        found.setdefault(id(function), (f"{owner.__name__}.{method}", function))
    return {name: thing for name, thing in found.values() if arguments_of(thing)}


def arguments_of(thing: Any) -> list[str]:
    """Return the names of the arguments of a callable, without ``self``."""
    own = ("self", "cls") if inspect.isclass(thing) or "." in thing.__qualname__ else ()
    if inspect.isclass(thing):
        if issubclass(thing, tuple):
            return list(thing._fields)
        thing = thing.__init__
    if not inspect.isfunction(thing):
        return []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in inspect.signature(thing).parameters.values() if p.name not in own and p.kind not in kinds]


# Things that many calls share.


def chip_net() -> brainstate.nn.Module:
    brainstate.random.seed(0)
    step = bh.chip.H1V2.weight_limit / 15
    weights = np.full((N, M), 9 * step), np.full((M, K), 9 * step)
    return brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(N, M, weight_init=weights[0], weight_bits=5),
        bh.nn.H1v2Layer(M, tau=10 * u.ms),
        bh.nn.H1v2Synapse(M, K, weight_init=weights[1], weight_bits=5),
        bh.nn.H1v2Layer(K, tau=10 * u.ms),
    )


def lif_net() -> brainstate.nn.Module:
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(N, K, weight_init=np.full((N, K), 0.6) * u.mV),
        bh.nn.LIFLayer(K, tau=10 * u.ms, reset="zero"),
    )


def fractional_net() -> brainstate.nn.Module:
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(N, K, weight_init=np.full((N, K), 0.6) * u.mV), bh.nn.FractionalLIFLayer(K, alpha=0.8)
    )


def frontend_net() -> brainstate.nn.Module:
    return brainstate.nn.Sequential(bh.nn.H1v2Frontend(), bh.nn.H1v2Layer(16, tau=5 * u.ms))


@functools.cache
def spikes() -> jax.Array:
    with jax.ensure_compile_time_eval():  # the first caller may be inside a trace
        return jnp.asarray(np.random.default_rng(0).random((T, B, K)) < 0.5, jnp.float32)


@functools.cache
def inputs(n: int = N) -> jax.Array:
    with jax.ensure_compile_time_eval():  # the first caller may be inside a trace
        return jnp.asarray(np.random.default_rng(0).random((T, B, n)) < 0.7, jnp.float32)


@functools.cache
def batch() -> list[np.ndarray]:
    """Batches for ``fluct_init``, batch first."""
    return [(np.random.default_rng(0).random((B, 40, N)) < 0.3).astype(np.float32)]


LABELS = np.array([0, 1])


@functools.cache
def split() -> Any:
    return bh.data.Split(np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32), [0, 1, 0, 1])


@functools.cache
def axes() -> Any:
    return plt.subplots()[1]


@functools.cache
def report() -> Any:
    return bh.init.fluct_report(lif_net(), batch())


@functools.cache
def placement() -> Any:
    return bh.deploy.place(chip_net())


@functools.cache
def power() -> Any:
    return bh.deploy.estimate_power(chip_net(), inputs())


def fields(thing: Any, **kinds: str) -> dict[str, tuple[str, Any]]:
    """Return each argument of the class of ``thing`` with the value that it has there."""
    given = {name: (kinds.pop(name), getattr(thing, name)) for name in arguments_of(type(thing))}
    assert not kinds, kinds
    return given


def net_arg(make: Callable[[], Any]) -> tuple[str, Any]:
    return "net", make()
