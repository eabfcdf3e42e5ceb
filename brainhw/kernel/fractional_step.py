"""One step of a fractional operator, with gradients that remember one number per neuron, not the whole past."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from brainhw.kernel.fractional_weights import FractionalMethod
from brainhw.kernel.leaky import gathered
from brainhw.kernel.past import Past

__all__ = [
    "Operator",
    "Scheme",
    "advance",
    "apply",
    "apply_all",
    "past_sums",
    "placed",
    "scheme_of",
    "sensitivities",
]


class Operator(NamedTuple):
    """The derivatives of ``sum_j w_j D^alpha_j``, one entry per term, each a scalar or ``[N]``.

    Attributes
    ----------
    alpha, coefficients : tuple of jax.Array
        Orders, and the factor of each derivative.
    h, tau : jax.Array
        Time step and time constant, as numbers of the unit in which the derivatives measure time.
    """

    alpha: tuple[jax.Array, ...]
    coefficients: tuple[jax.Array, ...]
    h: jax.Array
    tau: jax.Array


class Scheme(NamedTuple):
    r"""The numbers of one step, each a scalar or ``[N]``.

    .. math:: y_{k+1} = a J_k + b J_{k-1} + c V_k - \sum_q W_q z_q

    with the drive :math:`J`, the voltage :math:`V`, the slots :math:`z` that hold the past and their ``weights``
    :math:`W` (``[slots]`` or ``[slots, N]``). ``before`` is ``None`` where the drive before does not count. A step is
    linear in these numbers, so a step with their derivatives is the derivative of a step.
    """

    drive: jax.Array
    before: jax.Array | None
    voltage: jax.Array
    weights: jax.Array


def scheme_of(
    operator: Operator,
    method: FractionalMethod,
    past: Past,
    leak: float,
) -> Scheme:
    r"""Return the numbers of one step of :math:`\tau \sum_j w_j D^{\alpha_j} V = J - \text{leak} \cdot V`.

    Parameters
    ----------
    operator : Operator
        Orders, coefficients, step and time constant.
    method : FractionalMethod
        The scheme; several terms need one with ``many_terms``.
    past : Past
        What holds the past.
    leak : float
        1 for a leaky neuron, 0 for one that integrates.
    """
    alpha, rate = operator.alpha[0], 1 / operator.tau
    if method.many_terms:
        terms = [w / method.gain(a, operator.h) for a, w in zip(operator.alpha, operator.coefficients, strict=True)]
        total = sum(terms)
        # One order for all neurons may stand beside a time constant for each.
        shares = [c / total for c in terms]
        weights = sum(_times(share, past.weights(method, a)) for a, share in zip(operator.alpha, shares, strict=True))
        gain = 1 / total
    else:
        weights = past.weights(method, alpha)
        gain = method.gain(alpha, operator.h) / operator.coefficients[0]
    if not method.implicit:
        return Scheme(
            drive=gain * rate,
            before=None,
            voltage=-leak * gain * rate,
            weights=_times(-gain, weights) if method.remembers_rate else weights,
        )
    # Solved for the newest value, which the leak at the new time contains as well.
    scale = gain / (1 + leak * gain * rate * (1 - alpha / 2))
    jump = (1 - alpha) / 2
    return Scheme(
        drive=scale * rate * (1 + jump),
        before=-scale * rate * jump,
        voltage=-leak * scale * rate * alpha / 2,
        weights=_times(scale / gain, weights),
    )


def _times(factor: jax.Array, weights: jax.Array) -> jax.Array:
    """Return weights ``[n_slots, ...]`` times a factor that may have axes of neurons which they lack."""
    missing = jnp.ndim(factor) - (weights.ndim - 1)
    return factor * weights.reshape(weights.shape[:1] + (1,) * missing + weights.shape[1:])


def sensitivities(learnt: tuple[bool, ...], operator: Operator, *arguments: Any) -> tuple[Scheme, ...]:
    """Return the derivative of :func:`scheme_of` by every learnt leaf of ``operator``, in the order of the leaves."""
    leaves, structure = jax.tree.flatten(operator)
    found = []
    for i, wanted in enumerate(learnt):
        if wanted:
            # Neurons do not mix in the scheme, so one tangent of ones gives the derivative of every neuron at once.
            tangent = [jnp.ones_like(leaf) if i == j else jnp.zeros_like(leaf) for j, leaf in enumerate(leaves)]
            _, derivative = jax.jvp(lambda o: scheme_of(o, *arguments), (operator,), (structure.unflatten(tangent),))
            found.append(derivative)
    return tuple(found)


def apply(scheme: Scheme, drive: jax.Array, before: jax.Array | None, V: jax.Array, slots: jax.Array) -> jax.Array:
    """Return what one step reaches; :func:`advance` is the same with leaner gradients by what is learnt."""
    return apply_all((scheme,), drive, before, V, slots)[0]


def apply_all(
    schemes: tuple[Scheme, ...], drive: jax.Array, before: jax.Array | None, V: jax.Array, slots: jax.Array
) -> list[jax.Array]:
    """Return what each of several schemes makes of the same values, reading the slots once."""
    reached = []
    for scheme, past in zip(schemes, past_sums([scheme.weights for scheme in schemes], slots), strict=True):
        y = scheme.drive * drive + scheme.voltage * V - past
        reached.append(y if before is None else y + scheme.before * before)
    return reached


def placed(scheme: Scheme, past: Past, position: jax.Array | None) -> Scheme:
    """Return the scheme with its weights in the order of the slots."""
    return scheme._replace(weights=past.placed(scheme.weights, position))


def past_sums(weights: list[jax.Array], slots: jax.Array) -> list[jax.Array]:
    """Return the sum of the slots under each of several weights, ``[..., N]``."""
    # With one order for all neurons the sums of all schemes are one matrix product, which reads the slots once.
    if all(w.ndim == 1 for w in weights):
        sums = jnp.tensordot(jnp.stack(weights), slots, 1)
        return [sums[i] for i in range(len(weights))]
    return [_folded(_spread(w, slots.ndim) * slots) for w in weights]


def _folded(values: jax.Array) -> jax.Array:
    """Return the sum over the first axis, by halves: XLA reduces over it many times slower on a CPU."""
    if not len(values):
        return jnp.zeros(values.shape[1:], values.dtype)
    while len(values) > 1:
        half = len(values) // 2
        rest = values[2 * half :]
        values = values[:half] + values[half : 2 * half]
        values = jnp.concatenate([values, rest]) if len(rest) else values
    return values[0]


def _spread(weights: jax.Array, ndim: int) -> jax.Array:
    """Return weights ``[slots]`` or ``[slots, N]`` so that they broadcast against ``[slots, ..., N]``."""
    between = (1,) * (ndim - weights.ndim)
    return weights.reshape((weights.shape[0], *between, *weights.shape[1:]))


@jax.custom_vjp
def advance(
    learnt: tuple[jax.Array, ...],
    derivatives: tuple[Scheme, ...],
    scheme: Scheme,
    drive: jax.Array,
    before: jax.Array | None,
    V: jax.Array,
    slots: jax.Array,
) -> jax.Array:
    """Return the next value of the remembered quantity's equation, ``[..., N]``.

    Parameters
    ----------
    learnt : tuple of jax.Array
        The learnt leaves of the operator; only their gradient is used.
    derivatives : tuple of Scheme
        The derivative of ``scheme`` by each of them. With it, the backward pass needs one array ``[..., N]`` per
        learnt leaf and none of the slots.
    scheme : Scheme
        The numbers of the step; no gradient flows through them but by ``derivatives``.
    drive, before, V : jax.Array
        ``[..., N]``.
    slots : jax.Array
        ``[n_slots, ..., N]``.
    """
    return apply(scheme, drive, before, V, slots)


def _forward(
    learnt: tuple[jax.Array, ...], derivatives: tuple[Scheme, ...], scheme: Scheme, *values: Any
) -> tuple[jax.Array, Any]:
    # Automatic differentiation would store the slots of each step, [T, n_slots, B, N]. The effect of each learnt number
    # on the value reached is enough: [T, B, N] for each of them.
    reached, *moved = apply_all((scheme, *derivatives), *values)
    return reached, (learnt, derivatives, scheme, moved)


def _backward(saved: Any, g: jax.Array) -> tuple[Any, ...]:
    learnt, derivatives, scheme, moved = saved
    by_learnt = tuple(gathered(part * g, jnp.shape(leaf)) for part, leaf in zip(moved, learnt, strict=True))
    nothing = jax.tree.map(jnp.zeros_like, (derivatives, scheme))
    return (
        by_learnt,
        *nothing,
        scheme.drive * g,
        None if scheme.before is None else scheme.before * g,
        scheme.voltage * g,
        -_spread(scheme.weights, g.ndim + 1) * g,
    )


advance.defvjp(_forward, _backward)
