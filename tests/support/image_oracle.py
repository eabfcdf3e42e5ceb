"""Convolution, pooling and NIR chains by their definitions, in plain NumPy and double precision, channels first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np


def windows(x: np.ndarray, kernel, stride, pads, dilation) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Each place of a window, and what it covers of an image ``[C, *space]`` with zeros around it."""
    x = np.pad(x, [(0, 0), *pads])
    places = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[1:], kernel, stride, dilation, strict=True)]
    for place in itertools.product(*map(range, places)):
        cut = [
            slice(p * s, p * s + d * (k - 1) + 1, d) for p, k, s, d in zip(place, kernel, stride, dilation, strict=True)
        ]
        yield place, x[(slice(None), *cut)]


def convolved(x: np.ndarray, weight: np.ndarray, bias, stride, pads, dilation, groups: int = 1) -> np.ndarray:
    axes = weight.ndim - 1
    found = {}
    for place, seen in windows(x, weight.shape[2:], stride, pads, dilation):
        pairs = zip(np.split(weight, groups), np.split(seen, groups), strict=True)
        found[place] = np.concatenate([np.tensordot(w, part, axes) for w, part in pairs])
    return _array(found) + (0 if bias is None else np.reshape(bias, (-1, *(1,) * (axes - 1))))


def pooled(x: np.ndarray, kernel, stride, pads, mean: bool) -> np.ndarray:
    found = {}
    for place, seen in windows(x, kernel, stride, pads, (1,) * len(kernel)):
        flat = seen.reshape(len(x), -1)
        found[place] = flat.mean(1) if mean else flat.sum(1)
    return _array(found)


def _array(found: dict[tuple[int, ...], np.ndarray]) -> np.ndarray:
    """The values ``[C]`` at each place as an image ``[C, *space]``."""
    space = [n + 1 for n in map(max, zip(*found, strict=True))]
    return np.moveaxis(np.reshape([found[place] for place in np.ndindex(*space)], (*space, -1)), -1, 0)


def pads_of(node: Any) -> list[tuple[int, int]]:
    """The zeros around an image of a node, where 'same' puts an odd rest at the end."""
    axes = node.weight.ndim - 2 if hasattr(node, "weight") else 2
    if isinstance(node.padding, str):
        reach = np.broadcast_to(node.dilation, axes) * (np.array(node.weight.shape[2:]) - 1)
        return [(n // 2, n - n // 2) if node.padding == "same" else (0, 0) for n in reach]
    return [(int(p), int(p)) for p in np.broadcast_to(node.padding, axes)]


class Chain:
    """A chain of NIR nodes that steps in time: spikes above the threshold, reset to zero, inputs held over a step."""

    def __init__(self, graph: Any, dt: float) -> None:
        after = dict(graph.edges)
        names = ["input"]
        while names[-1] != "output":
            names.append(after[names[-1]])
        self.nodes, self.dt = {name: graph.nodes[name] for name in names[1:-1]}, dt
        self.v: dict[str, Any] = dict.fromkeys(self.nodes, 0.0)
        # The least distance of a membrane to its threshold: rounding must not decide about a spike.
        self.nearest = np.inf
        self.spikes: dict[str, list[np.ndarray]] = {name: [] for name in self.nodes}

    def run(self, xs: np.ndarray) -> np.ndarray:
        return np.array([self._step(x.astype(float)) for x in xs])

    def _step(self, x: np.ndarray) -> np.ndarray:
        for name, node in self.nodes.items():
            x = getattr(self, f"_{type(node).__name__}")(name, node, x)
        return x

    def _conv(self, name: str, node: Any, x: np.ndarray) -> np.ndarray:
        axes = node.weight.ndim - 2
        stride, dilation = (np.broadcast_to(value, axes) for value in (node.stride, node.dilation))
        weight = node.weight.astype(float)
        return convolved(x, weight, node.bias, stride, pads_of(node), dilation, int(node.groups))

    _Conv1d = _Conv2d = _conv

    def _SumPool2d(self, name: str, node: Any, x: np.ndarray) -> np.ndarray:
        return pooled(x, node.kernel_size, node.stride, pads_of(node), mean=False)

    def _AvgPool2d(self, name: str, node: Any, x: np.ndarray) -> np.ndarray:
        return pooled(x, node.kernel_size, node.stride, pads_of(node), mean=True)

    def _Flatten(self, name: str, node: Any, x: np.ndarray) -> np.ndarray:
        return x.reshape(node.output_type["output"])

    def _Linear(self, name: str, node: Any, x: np.ndarray) -> np.ndarray:
        return node.weight.astype(float) @ x + getattr(node, "bias", 0.0)

    _Affine = _Linear

    def _Scale(self, name: str, node: Any, x: np.ndarray) -> np.ndarray:
        return node.scale * x

    def _IF(self, name: str, node: Any, x: np.ndarray) -> np.ndarray:
        return self._fire(name, node, self.v[name] + self.dt * node.r * x)

    def _LIF(self, name: str, node: Any, x: np.ndarray) -> np.ndarray:
        beta = np.exp(-self.dt / node.tau)
        return self._fire(name, node, beta * self.v[name] + (1 - beta) * (node.r * x + node.v_leak))

    def _fire(self, name: str, node: Any, v: np.ndarray) -> np.ndarray:
        # Relative, since a threshold may stand in volts.
        self.nearest = min(self.nearest, float(np.min(np.abs(v / node.v_threshold - 1))))
        spikes = v > node.v_threshold
        self.v[name] = np.where(spikes, 0.0, v)
        self.spikes[name].append(spikes)
        return spikes.astype(float)
