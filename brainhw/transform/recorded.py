"""Recorded spikes and membrane potentials that replace the values computed by layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.kernel.recorded import Recorded
from brainhw.nn.recorded import replace_outputs
from brainhw.transform.trace import dotted

__all__ = ["RecordedValues"]


class RecordedValues:
    """Recorded spikes and membrane potentials for a rollout; they are checked before the network is prepared.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.
    recorded : mapping or Recording
        See :func:`brainhw.rollout`.
    leading : tuple of int
        Number of steps and, for a batch, number of samples.
    call : str
        Name of the call in error messages.

    Attributes
    ----------
    arrays : tuple of tuples of arrays
        For each layer its spikes and, if recorded, its membrane potentials in mV. The first axis is time.
    """

    def __init__(self, net: brainstate.nn.Module, recorded: Any, leading: tuple[int, ...], *, call: str) -> None:
        self._call = call
        modules = {dotted(path): node for path, node in net.nodes().items()}
        values: dict[str, dict[str, Any]] = {}
        for name, value in _by_name(recorded, call).items():
            path, attribute = _split_name(name, modules, call)
            values.setdefault(path, {})[attribute] = value
        self.arrays: tuple[Recorded, ...] = tuple(
            self._of_layer(path, modules[path], found, leading) for path, found in values.items()
        )
        self._paths = {id(modules[path]): path for path in values}

    def _of_layer(self, path: str, layer: Any, found: dict[str, Any], leading: tuple[int, ...]) -> Recorded:
        call = self._call
        if "spk" not in found:
            raise ValueError(
                f"{call}: recorded has '{path}.V' but not '{path}.spk'. Pass the spikes too, because the reset uses "
                "them."
            )
        spk, V = (getattr(layer, name, None) for name in ("spk", "V"))
        if not (isinstance(spk, brainstate.HiddenState) and isinstance(V, brainstate.HiddenState)):
            raise self._unsupported_error(path, layer)
        # Do not use the shape of the states, which may still be that of the previous batch.
        shape = (*leading, *layer.out_size)
        spikes = _spikes(found["spk"], shape, f"{call}: recorded '{path}.spk'")
        if "V" not in found:
            return (spikes,)
        return spikes, _millivolts(found["V"], shape, f"{call}: recorded '{path}.V'")

    def _unsupported_error(self, path: str, layer: Any) -> ValueError:
        return ValueError(
            f"{self._call}: recorded contains values for {path!r}, a {type(layer).__name__}, which cannot use them. "
            "CubaLIFLayer, ALIFLayer and each brainhw.nn.SpikingLayer that does not override update can use recorded "
            "values."
        )

    @contextlib.contextmanager
    def applied(self, arrays: tuple[Recorded, ...], net: brainstate.nn.Module) -> Iterator[None]:
        """Context manager that passes recorded values of one step, or of a whole sequence, to each layer.

        Raise if a layer does not use its recorded values.
        """
        with replace_outputs(dict(zip(self._paths, arrays, strict=True))) as used:
            yield
        # A layer that overrides `update` may silently ignore the recorded spikes.
        for module, path in self._paths.items():
            if module not in used:
                layer = next(node for node in net.nodes().values() if id(node) == module)
                raise self._unsupported_error(path, layer)


def _by_name(recorded: Any, call: str) -> Mapping[Any, Any]:
    # Recognise a Recording by its attributes: its class is in brainhw.silicon, which this package must not import.
    spikes, membranes = (getattr(recorded, name, None) for name in ("spikes", "membranes"))
    if isinstance(spikes, Mapping) and isinstance(membranes, Mapping):
        of_spikes = {f"{path}.spk": value for path, value in spikes.items()}
        return of_spikes | {f"{path}.V": value for path, value in membranes.items()}
    if not isinstance(recorded, Mapping):
        raise TypeError(
            f"{call}: recorded must be a brainhw.silicon.Recording or a mapping from names such as 'hidden.spk' to "
            f"arrays; got {_arguments.describe(recorded)}."
        )
    if not recorded:
        raise ValueError(
            f"{call}: recorded must contain the spikes of at least one layer; got none. Pass spikes, or omit recorded."
        )
    return recorded


def _split_name(name: Any, modules: Mapping[str, Any], call: str) -> tuple[str, str]:
    if not isinstance(name, str):
        raise TypeError(f"{call}: each name in recorded must be a string; got {_arguments.describe(name)}.")
    path, _, attribute = name.rpartition(".")
    if attribute not in ("spk", "V"):
        raise ValueError(
            f"{call}: recorded contains {name!r}, but only spikes ('.spk') and membrane potentials after the reset "
            "('.V') can be passed."
        )
    if path not in modules:
        known = ", ".join(repr(p) for p in sorted(modules) if p and hasattr(modules[p], "spk"))
        raise ValueError(
            f"{call}: recorded contains {name!r}, but no module has the path {path!r}. The layers are {known}."
        )
    return path, attribute


def _spikes(value: Any, shape: tuple[int, ...], where: str) -> jax.Array:
    if isinstance(value, u.Quantity) or np.dtype(getattr(value, "dtype", object)).kind not in "biufV":
        raise TypeError(f"{where} must be an array of 0 and 1; got {_arguments.describe(value)}.")
    _check_shape(value, shape, where)
    if not isinstance(value, jax.core.Tracer):
        held = np.asarray(value)
        # NaN fails both comparisons, so it is found too.
        bad = ~((held == 0) | (held == 1))
        if bad.any():
            place = tuple(map(int, np.argwhere(bad)[0]))
            raise ValueError(
                f"{where} must contain only 0 and 1; got {held[place]} at {list(place)} (invalid values: "
                f"{int(bad.sum())})."
            )
    return jnp.asarray(value)


def _millivolts(value: Any, shape: tuple[int, ...], where: str) -> jax.Array:
    if not isinstance(value, u.Quantity) or not u.have_same_dim(value, u.mV):
        raise TypeError(f"{where} must be a Quantity of voltage; got {_arguments.describe(value)}. Multiply by u.mV.")
    numbers = value.to(u.mV).mantissa
    _check_shape(numbers, shape, where)
    if not isinstance(numbers, jax.core.Tracer):
        bad = ~np.isfinite(np.asarray(numbers, float))
        if bad.any():
            raise ValueError(
                f"{where} must be finite; got NaN or infinity at {np.argwhere(bad)[0].tolist()} "
                f"(invalid values: {int(bad.sum())})."
            )
    return jnp.asarray(numbers)


def _check_shape(value: Any, shape: tuple[int, ...], where: str) -> None:
    if np.shape(value) != shape:
        raise ValueError(f"{where} must have shape {shape} (steps, samples, neurons); got {np.shape(value)}.")
