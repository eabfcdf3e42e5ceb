"""Step number ``i`` and time ``t`` in ``brainstate.environ``, set as in brainstate's own loops."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Var

__all__ = ["Clock", "now", "reads_last_argument"]


class Clock:
    """Count the steps of a loop, starting from the surrounding ``i`` and ``t``, or from 0 if they are not set.

    Parameters
    ----------
    settings : dict
        The settings of ``brainstate.environ`` around the loop.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._i, self._t, self._dt = settings.get("i", 0), settings.get("t"), settings.get("dt")

    def at(self, step: Any) -> dict[str, Any]:
        """Return ``i`` and ``t`` at a step of the loop. ``t`` is included only if a time step is set."""
        now = {"i": self._i + step}
        if isinstance(self._dt, u.Quantity):
            # Convert explicitly, for users who forbid implicit type promotion in JAX.
            steps = jnp.asarray(now["i"] if self._t is None else step).astype(jnp.result_type(float))
            now["t"] = steps * self._dt if self._t is None else self._t + steps * self._dt
        return now

    def like(self) -> dict[str, Any]:
        """Return shapes and types of ``i`` and ``t``, to trace a step for any time."""
        return jax.eval_shape(self.at, jnp.zeros((), jnp.int32))  # type: ignore[no-any-return]


def now() -> Clock:
    """Return a clock that starts at the current settings."""
    return Clock(brainstate.environ.all())


def reads_last_argument(jaxpr: ClosedJaxpr, first: Any, last: Any) -> bool:
    """Return whether any output or operation of a traced function of two arguments uses the second one."""
    before = len(jax.tree.leaves(first))
    time = set(jaxpr.jaxpr.invars[before : before + len(jax.tree.leaves(last))])
    used = [*jaxpr.jaxpr.outvars, *(atom for eqn in jaxpr.jaxpr.eqns for atom in eqn.invars)]
    return any(isinstance(atom, Var) and atom in time for atom in used)
