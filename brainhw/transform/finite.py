"""Find the first step at which a state, or the gradient that flows into it, is not finite.

The loss may stay finite in spite of such a fault, because a neuron whose membrane potential is NaN outputs no spikes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.nn.ranges import traced_faults
from brainhw.transform.prepare import is_finite
from brainhw.transform.trace import dotted

__all__ = ["FiniteWatch", "check_states"]


def check_states(net: brainstate.nn.Module, call: str) -> None:
    """Raise if a hidden state is not finite, because the spikes of a run from this state would not show the fault."""
    for path, state in net.states(brainstate.HiddenState).items():
        # Read `_value`, because a surrounding trace would record a read of `.value`.
        if not all(is_finite(leaf) for leaf in jax.tree.leaves(state._value)):
            _arguments.check_finite_tree(
                state._value,
                call=call,
                name=f"the state {dotted(path)}",
                fix="reset it with brainhw.prepare_net(net, batch_size)",
            )


def _any_bad(value: Any) -> jax.Array:
    leaves = [u.get_mantissa(leaf) for leaf in jax.tree.leaves(value, is_leaf=u.math.is_quantity)]
    floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.any(jnp.stack([~jnp.all(jnp.isfinite(leaf)) for leaf in floats])) if floats else jnp.asarray(False)


def _fail_if(bad: Any, message: str, step: Any) -> None:
    if isinstance(bad, jax.core.Tracer) or isinstance(step, jax.core.Tracer):
        # Test `bad` on the host instead of with `lax.cond`, because under vmap both branches of a cond run.
        jax.debug.callback(partial(_fail_if_now, message), bad, step)
    else:
        _fail_if_now(message, bad, step)


def _fail_if_now(message: str, bad: Any, step: Any) -> None:
    if bad:
        raise FloatingPointError(message.format(step=int(step)))


# Return `value` unchanged and check its gradient in the backward pass. `grad` has no other hook for a single step.
@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _guard(value: Any, step: jax.Array, message: str) -> Any:
    return value


def _guard_forward(value: Any, step: jax.Array, message: str) -> tuple[Any, jax.Array]:
    return value, step


def _guard_backward(message: str, step: jax.Array, cotangent: Any) -> tuple[Any, Any]:
    _fail_if(_any_bad(cotangent), message, step)
    return cotangent, np.zeros(step.shape, dtype=jax.dtypes.float0)


_guard.defvjp(_guard_forward, _guard_backward)


class FiniteWatch:
    """Check at each step of a time loop that every hidden state is finite, and in the backward pass its gradient."""

    def __init__(self, net: brainstate.nn.Module) -> None:
        self._net = net
        self._states = {dotted(path): state for path, state in net.states(brainstate.HiddenState).items()}

    def step(self, t: jax.Array) -> dict[str, jax.Array]:
        """Return for each hidden state whether it contains NaN or infinity after step ``t``.

        Also add a check of the gradient of each state to the backward pass.
        """
        bad = {}
        for name, state in self._states.items():
            bad[name] = _any_bad(state.value)
            message = (
                f"rollout: the gradient flowing back into {name} at step {{step}} is not finite. Check first whether "
                "the forward pass alone is finite. If it is, lower the learning rate, use a flatter surrogate, or keep "
                "detach_reset=True."
            )
            state.value = _guard(state.value, t, message)
        return bad

    def report(self, bad: dict[str, jax.Array]) -> None:
        """Raise if a parameter is out of range, or if a state was not finite at one of the steps.

        ``bad`` contains the results of :meth:`step` for all steps, an array ``[T]`` for each state.
        """
        for fault, message in traced_faults(self._net, call="rollout"):
            _fail_if(fault, message, 0)
        for name, flags in bad.items():
            message = (
                f"rollout: {name} is not finite from step {{step}} on. Check the input and the weights of that step "
                "(brainhw.prepare_net refuses weights that are not finite)."
            )
            _fail_if(jnp.any(flags), message, jnp.argmax(flags))
