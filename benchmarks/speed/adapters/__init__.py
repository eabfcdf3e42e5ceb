"""Adapters, by their names on the command line. A library is imported only when its network is built."""

from __future__ import annotations

from benchmarks.speed.adapters import (
    brainhw,
    brainpy,
    jax,
    norse,
    products,
    rockpool,
    snntorch,
    spikede,
    spikingjelly,
    spyx,
)
from benchmarks.speed.contract import Adapter

__all__ = ["ADAPTERS"]

ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        brainhw.ADAPTER,
        products.ADAPTER,
        jax.ADAPTER,
        jax.AHEAD,
        spyx.ADAPTER,
        spyx.AHEAD,
        brainpy.ADAPTER,
        snntorch.ADAPTER,
        snntorch.IMMEDIATE,
        norse.ADAPTER,
        spikingjelly.ADAPTER,
        rockpool.ADAPTER,
        spikede.ADAPTER,
    )
}
