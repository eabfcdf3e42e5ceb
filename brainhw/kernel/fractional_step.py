"""One step of a fractional neuron: operator, threshold and reset.

For the gradients, a step stores one value per neuron and trainable parameter instead of all past values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from brainhw.kernel.broadcasting import broadcasting
from brainhw.kernel.fractional_weights import FractionalMethod
from brainhw.kernel.leaky import sum_over_samples
from brainhw.kernel.past import Past, expand

__all__ = [
    "Event",
    "NeuronParameters",
    "NeuronRules",
    "NeuronState",
    "Operator",
    "Scheme",
    "Trace",
    "past_sums",
    "schemes_of",
    "step",
]


class Operator(NamedTuple):
    """The operator ``tau * sum_j w_j D^alpha_j``, with orders ``alpha`` and ``coefficients`` ``w``.

    Both have one entry per term. Each entry is a scalar or ``[N]``. ``h`` is the time step and ``tau`` is the time
    constant. They are plain arrays in the time unit of the derivatives.
    """

    alpha: tuple[jax.Array, ...]
    coefficients: tuple[jax.Array, ...]
    h: jax.Array
    tau: jax.Array


class Scheme(NamedTuple):
    r"""Coefficients of one step, each a scalar or ``[N]``.

    .. math:: y_{k+1} = a J_k + b J_{k-1} + c V_k - \sum_q W_q z_q

    Here :math:`J` is the drive, :math:`V` is the voltage, and :math:`z` are the slots, which store past values. The
    fields ``drive``, ``before`` and ``voltage`` are :math:`a`, :math:`b` and :math:`c`, and ``weights`` is :math:`W`
    (``[slots]`` or ``[slots, N]``). ``before`` is ``None`` if the scheme does not use the previous drive. A step is
    linear in the coefficients. To compute the derivative of a step, replace the coefficients by their derivatives.
    """

    drive: jax.Array
    before: jax.Array | None
    voltage: jax.Array
    weights: jax.Array


class NeuronRules(NamedTuple):
    """Properties of a neuron layer that do not change during a run, such as its numerical scheme and its reset."""

    method: FractionalMethod
    past: Past
    leak: float  # 1 for a leaky neuron, 0 for an integrator
    reset: str
    clears: bool  # whether a spike clears the past
    detach_reset: bool
    looks_ahead: bool  # whether spikes are computed before the step, from an extrapolated voltage
    spk_fun: Callable[[jax.Array], jax.Array]
    is_step: bool  # whether `spk_fun` is 1 for an argument of at least 0, otherwise 0
    trainable: tuple[bool, ...]  # for each leaf of the operator, whether it is trainable

    @property
    def has_offset(self) -> bool:
        """Whether an offset is needed, because the voltage can jump without a change of the stored past."""
        return self.clears or (self.method.remembers_rate and self.reset != "current")

    def fire(self, V: jax.Array, V_th: jax.Array) -> jax.Array:
        """Return the spikes for voltages ``V`` and thresholds ``V_th``."""
        return self.spk_fun((V - V_th) / V_th)


class NeuronParameters(NamedTuple):
    """Operator, threshold, and the look-ahead time as a multiple of ``operator.tau``."""

    operator: Operator
    V_th: jax.Array
    lookahead: jax.Array | None


class NeuronState(NamedTuple):
    """Voltage, offset, stored past values, and previous drive.

    The operator acts on the voltage minus the offset. ``slots`` stores the past values. ``position`` is the position of
    the next value. Fields that a neuron with these rules does not need are ``None``.
    """

    V: jax.Array
    offset: jax.Array | None
    slots: jax.Array
    position: jax.Array | None
    before: jax.Array | None


class Event(NamedTuple):
    """Spikes of one step, the voltage ``V_compared`` that was compared with the threshold, and derivatives.

    ``sensitivities`` contains the derivatives of the voltage before the reset with respect to the trainable parameters.
    """

    spk: jax.Array
    V_compared: jax.Array
    sensitivities: tuple[jax.Array, ...]


class Trace(NamedTuple):
    """Spikes, voltages after each step (or ``None``), and voltages compared with the threshold, ``[T, ..., N]``."""

    spk: jax.Array
    V: jax.Array | None
    V_compared: jax.Array


def schemes_of(rules: NeuronRules, operator: Operator) -> tuple[Scheme, ...]:
    """Return the scheme of a step, followed by its derivatives with respect to the trainable leaves of the operator."""
    # The derivatives are used in a custom gradient and are not differentiated again.
    leaves, structure = jax.tree.flatten(jax.lax.stop_gradient(operator))
    derivatives = []
    for i, wanted in enumerate(rules.trainable):
        if wanted:
            # The coefficients of a neuron depend only on its own parameters. So one tangent of ones computes the
            # derivatives for all neurons.
            tangent = [jnp.ones_like(leaf) if i == j else jnp.zeros_like(leaf) for j, leaf in enumerate(leaves)]
            at, along = structure.unflatten(leaves), structure.unflatten(tangent)
            derivatives.append(jax.jvp(partial(_scheme, rules), (at,), (along,))[1])
    return (_scheme(rules, operator), *derivatives)


def _scheme(rules: NeuronRules, operator: Operator) -> Scheme:
    r"""Return the coefficients of one step of :math:`\tau \sum_j w_j D^{\alpha_j} V = J - \text{leak} \cdot V`."""
    method, past, leak = rules.method, rules.past, rules.leak
    alpha, rate = operator.alpha[0], 1 / operator.tau
    if method.many_terms:
        terms = [w / method.gain(a, operator.h) for a, w in zip(operator.alpha, operator.coefficients, strict=True)]
        total = sum(terms)
        # All neurons may share one order and still have different time constants.
        shares = [c / total for c in terms]
        weights = sum(
            _scale_weights(share, past.weights(method, a)) for a, share in zip(operator.alpha, shares, strict=True)
        )
        gain = 1 / total
    else:
        weights = past.weights(method, alpha)
        gain = method.gain(alpha, operator.h) / operator.coefficients[0]
    if not method.implicit:
        return Scheme(
            drive=gain * rate,
            before=None,
            voltage=-leak * gain * rate,
            weights=_scale_weights(-gain, weights) if method.remembers_rate else weights,
        )
    # Implicit scheme: solve for the new voltage, because the leak at the new time depends on it.
    scale = gain / (1 + leak * gain * rate * (1 - alpha / 2))
    jump = (1 - alpha) / 2
    return Scheme(
        drive=scale * rate * (1 + jump),
        before=-scale * rate * jump,
        voltage=-leak * scale * rate * alpha / 2,
        weights=_scale_weights(scale / gain, weights),
    )


def _scale_weights(factor: jax.Array, weights: jax.Array) -> jax.Array:
    """Return weights ``[slots]`` or ``[slots, N]`` times a factor, which is a scalar or ``[N]``."""
    return factor * expand(weights, max(weights.ndim, jnp.ndim(factor) + 1))


def _step_results(
    schemes: tuple[Scheme, ...], drive: jax.Array, before: jax.Array | None, V: jax.Array, slots: jax.Array
) -> list[jax.Array]:
    """Apply one step of each scheme to the same state, and return the results ``[..., N]``.

    The slots are read only once for all schemes.
    """
    results = []
    for scheme, past in zip(schemes, past_sums([scheme.weights for scheme in schemes], slots), strict=True):
        y = scheme.drive * drive + scheme.voltage * V - past
        results.append(y if before is None else y + scheme.before * before)
    return results


def past_sums(weights: list[jax.Array], slots: jax.Array) -> list[jax.Array]:
    """Return the weighted sum of the slots, ``[..., N]``, for each set of weights."""
    # If all neurons have the same order, one matrix product computes the sums of all schemes and reads the slots once.
    if all(w.ndim == 1 for w in weights):
        sums = jnp.tensordot(jnp.stack(weights), slots, 1)
        return [sums[i] for i in range(len(weights))]
    return [_pairwise_sum(expand(w, slots.ndim) * slots) for w in weights]


def _pairwise_sum(values: jax.Array) -> jax.Array:
    """Return the sum over the first axis, computed by repeatedly adding the two halves of the array.

    A reduction of XLA over this axis is many times slower on a CPU.
    """
    if not len(values):
        return jnp.zeros(values.shape[1:], values.dtype)
    while len(values) > 1:
        half = len(values) // 2
        rest = values[2 * half :]
        values = values[:half] + values[half : 2 * half]
        values = jnp.concatenate([values, rest]) if len(rest) else values
    return values[0]


@jax.custom_vjp
def _advance(
    trainable: tuple[jax.Array, ...],
    schemes: tuple[Scheme, ...],
    drive: jax.Array,
    before: jax.Array | None,
    V: jax.Array,
    slots: jax.Array,
) -> jax.Array:
    """Return the value ``[..., N]`` that the first scheme computes.

    The other schemes are the derivatives of the first scheme with respect to the trainable leaves of the operator. The
    backward pass computes the gradients of these leaves from the results of the other schemes. It needs one array
    ``[..., N]`` for each leaf, and not the slots ``[n_slots, ..., N]``.
    """
    return _step_results(schemes[:1], drive, before, V, slots)[0]


@broadcasting
def _forward(trainable: tuple[jax.Array, ...], schemes: tuple[Scheme, ...], *values: Any) -> tuple[jax.Array, Any]:
    # Automatic differentiation would store the slots of each step, [T, n_slots, B, N]. Instead, store the derivative of
    # the result with respect to each trainable parameter, [T, B, N] each.
    result, *sensitivities = _step_results(schemes, *values)
    return result, (trainable, schemes, sensitivities)


@broadcasting
def _backward(saved: Any, g: jax.Array) -> tuple[Any, ...]:
    trainable, schemes, sensitivities = saved
    scheme = schemes[0]
    return (
        tuple(sum_over_samples(part * g, jnp.shape(leaf)) for part, leaf in zip(sensitivities, trainable, strict=True)),
        jax.tree.map(jnp.zeros_like, schemes),
        scheme.drive * g,
        None if scheme.before is None else scheme.before * g,
        scheme.voltage * g,
        -expand(scheme.weights, g.ndim + 1) * g[None],
    )


_advance.defvjp(_forward, _backward)


def step(
    rules: NeuronRules,
    parameters: NeuronParameters,
    schemes: tuple[Scheme, ...],
    state: NeuronState,
    drive: jax.Array,
    *,
    with_sensitivities: bool = False,
) -> tuple[NeuronState, Event]:
    """Return the state after one step, and its ``Event``. ``schemes`` is the result of :func:`schemes_of`.

    With ``with_sensitivities``, the event contains the derivatives of the voltage with respect to each trainable
    parameter, for use in a custom backward pass. Without it, JAX can differentiate the step itself with respect to
    these parameters.
    """
    operator, V_th = parameters.operator, parameters.V_th
    V, offset, slots, position, before = state
    # The operator acts on the change of the voltage since rest, or since the past was cleared.
    y = V if offset is None else V - offset
    source = drive if offset is None else drive - rules.leak * offset
    schemes = tuple(scheme._replace(weights=rules.past.slot_weights(scheme.weights, position)) for scheme in schemes)
    scheme = schemes[0]
    values = (source, before, y, slots)
    sensitivities: list[jax.Array] = []
    if with_sensitivities:
        V_new, *sensitivities = _step_results(schemes, *values)
    elif len(schemes) > 1:
        trainable = tuple(
            leaf for leaf, wanted in zip(jax.tree.leaves(operator), rules.trainable, strict=True) if wanted
        )
        V_new = _advance(trainable, jax.lax.stop_gradient(schemes), *values)
    else:
        (V_new,) = _step_results(schemes, *values)
    V_new = V_new if offset is None else V_new + offset

    V_compared = V + parameters.lookahead * (drive - rules.leak * V) if rules.looks_ahead else V_new
    spk = rules.fire(V_compared, V_th)
    fired = jax.lax.stop_gradient(spk) if rules.detach_reset else spk
    if rules.reset == "current":
        # The reset is an input of -V_th in this step. It passes through the operator, so its effect decays like the
        # effect of any other input.
        source = source - fired * V_th
        jump = scheme.drive * fired * V_th
    else:
        jump = fired * (V_th if rules.reset == "subtract" else V_new)
    V = V_new - jump

    # Use the rate at the old voltage, because `pred` is explicit and integrates the rates of past steps.
    rate = (source - rules.leak * y) / operator.tau
    if offset is not None:
        if rules.method.remembers_rate:
            offset = offset - jump
        if rules.clears:
            # Whether the past is cleared is a discrete decision, so it has no gradient.
            silent = 1 - jax.lax.stop_gradient(spk)
            offset = jnp.where(silent > 0, offset, V)
            slots, rate, source = slots * silent, rate * silent, source * silent
    remembered = rate if rules.method.remembers_rate else V if offset is None else V - offset
    state = NeuronState(
        V=V,
        offset=offset,
        slots=rules.past.push(slots, remembered, position),
        position=rules.past.advance(position),
        before=None if before is None else source,
    )
    return state, Event(spk, V_compared, tuple(sensitivities))
