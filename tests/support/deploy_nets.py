"""Small nets that break no rule, and the means to break some."""

from __future__ import annotations

import itertools

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import brainhw as bh

assert bh.nn  # the families get their modules when it is imported
MODULES = {
    family.name: tuple(family.modules[role] for role in ("synapse", "layer", "frontend"))
    for family in bh.chip.families()
    if family.package == "brainhw"
}


class Chain(brainstate.nn.Module):
    """Perhaps a frontend, then dense stages ``syn0, layer0, syn1, ...``; clean unless something is injected."""

    def __init__(self, family: str, sizes: list[int], *, topologies: list[str], frontend: bool, seed: int = 0) -> None:
        super().__init__()
        self.family, self.n_stages, self.gain_before = family, len(sizes) - 1, -1
        synapse, layer, ears = MODULES[family]
        rng = np.random.default_rng(seed)
        self.has_frontend = frontend
        if frontend:
            self.ears, self.frontend = ears(weight_init=clean(rng, family, (16,))), layer(16, tau=5.0 * u.ms)
            sizes = [16, *sizes[1:]]
        for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            setattr(self, f"syn{i}", synapse(n_in, n_out, weight_init=clean(rng, family, (n_in, n_out))))
            recurrent = topologies[i] == "RC"
            init = {"recurrent_init": clean(rng, family, (n_out, n_out))} if recurrent else {}
            setattr(self, f"layer{i}", layer(n_out, tau=20.0 * u.ms, topology=topologies[i], **init))

    def update(self, x: jax.Array) -> jax.Array:
        if self.has_frontend:
            x = self.frontend(self.ears(x))
        for i in range(self.n_stages):
            x = x * 1.0 if i == self.gain_before else x
            x = getattr(self, f"layer{i}")(getattr(self, f"syn{i}")(x))
        return x


def clean(rng: np.random.Generator, family: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights on the 5-bit grid, none zero, of one sign in every block of five rows."""
    limit = bh.chip.get_chip(family).weight_limit
    codes = rng.integers(1, 15, shape)
    if len(shape) == 2:
        codes = codes * rng.choice([-1, 1], (-(-shape[0] // 5), shape[1])).repeat(5, axis=0)[: shape[0]]
    return codes * (limit / 15)


def strong(family: str, *, recurrent: bool = True, frontend: bool = False, seed: int = 1) -> Chain:
    """Return a clean net whose neurons fire on :func:`lively` input."""
    net = Chain(family, [16, 12, 6], topologies=["RC" if recurrent else "FF", "FF"], frontend=frontend, seed=seed)
    for state in net.states(brainstate.ParamState).values():
        # Mostly excitatory, or nothing would reach the second layer.
        state.value = jnp.where(jnp.arange(state.value.shape[-1]) % 4 > 0, jnp.abs(state.value), state.value)
    return net


def lively(n_steps: int = 40, batch: int = 3, seed: int = 0, scale: float = 0.5) -> jax.Array:
    """Input ``[T, B, 16]`` that makes the clean nets spike now and then; a frontend needs a scale of 12."""
    return jnp.asarray(np.random.default_rng(seed).random((n_steps, batch, 16)) * scale, jnp.float32)
