"""Compute the step number ``i`` and the time ``t`` of ``brainstate.environ``, as brainstate's own loops do."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Var

__all__ = ["Clock", "now", "reads_last_argument"]


class Clock:
    """Compute the step number ``i`` and the time ``t`` for each step of a time loop.

    ``i`` and ``t`` start from their values in ``settings``. If ``i`` is not set, it starts from 0. If ``t`` is not set,
    it is the product of ``i`` and the time step.

    Parameters
    ----------
    settings : dict
        The settings of ``brainstate.environ`` when the loop starts.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._i, self._t, self._dt = settings.get("i", 0), settings.get("t"), settings.get("dt")

    def at(self, step: Any) -> dict[str, Any]:
        """Return the number and the time of the loop's step ``step``, as ``i`` and ``t`` of ``brainstate.environ``.

        The time is included only if a time step is set.
        """
        now = {"i": self._i + step}
        if isinstance(self._dt, u.Quantity):
            # Convert explicitly, because a user may have disabled JAX's implicit type promotion.
            steps = jnp.asarray(now["i"] if self._t is None else step).astype(jnp.result_type(float))
            now["t"] = steps * self._dt if self._t is None else self._t + steps * self._dt
        return now

    def like(self) -> dict[str, Any]:
        """Return the shapes and dtypes of ``i`` and ``t``, which suffice to trace a step."""
        return jax.eval_shape(self.at, jnp.zeros((), jnp.int32))  # type: ignore[no-any-return]


def now() -> Clock:
    """Return a clock that starts from the current settings of ``brainstate.environ``."""
    return Clock(brainstate.environ.all())


def reads_last_argument(jaxpr: ClosedJaxpr, first: Any, last: Any) -> bool:
    """Return whether a traced function of two arguments uses the second one, in an operation or as an output."""
    before = len(jax.tree.leaves(first))
    time = set(jaxpr.jaxpr.invars[before : before + len(jax.tree.leaves(last))])
    used = [*jaxpr.jaxpr.outvars, *(atom for eqn in jaxpr.jaxpr.eqns for atom in eqn.invars)]
    return any(isinstance(atom, Var) and atom in time for atom in used)
