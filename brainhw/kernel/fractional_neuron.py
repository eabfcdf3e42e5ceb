"""One step of a fractional neuron as a function of its state and its drive: operator, threshold, reset."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from brainhw.kernel.fractional_step import Operator, Scheme, advance, apply, apply_all, placed, scheme_of, sensitivities
from brainhw.kernel.fractional_weights import FractionalMethod
from brainhw.kernel.past import Past

__all__ = ["Event", "NeuronNumbers", "NeuronParameters", "NeuronRules", "NeuronState", "numbers_of", "step"]


class NeuronRules(NamedTuple):
    """What is fixed about a neuron.

    Attributes
    ----------
    method, past : FractionalMethod, Past
        The scheme, and what holds the past.
    leak : float
        1 for a leaky neuron, 0 for one that integrates.
    reset : {'current', 'subtract', 'zero'}
        What a spike does.
    clears : bool
        Whether a spike empties the past.
    detach_reset : bool
        Whether the gradient stops at the spikes of the reset.
    looks_ahead : bool
        Whether the spike is decided before the step, at an extrapolated voltage, not at the voltage the step reaches.
    spk_fun : callable
        Spike function of ``(V - V_th) / V_th``.
    learnt : tuple of bool
        Which leaves of the operator are learnt.
    """

    method: FractionalMethod
    past: Past
    leak: float
    reset: str
    clears: bool
    detach_reset: bool
    looks_ahead: bool
    spk_fun: Callable[[jax.Array], jax.Array]
    learnt: tuple[bool, ...]

    @property
    def has_offset(self) -> bool:
        """Whether a jump of the voltage can lie outside of what is remembered."""
        return self.clears or (self.method.remembers_rate and self.reset != "current")


class NeuronParameters(NamedTuple):
    """The numbers: operator, threshold, and the look-ahead in units of ``operator.tau``."""

    operator: Operator
    V_th: jax.Array
    lookahead: jax.Array | None


class NeuronState(NamedTuple):
    """Voltage, what of it the operator does not see, slots of the past and their position, and the drive before."""

    V: jax.Array
    offset: jax.Array | None
    slots: jax.Array
    position: jax.Array | None
    before: jax.Array | None


class Event(NamedTuple):
    """Spikes, the voltage at which they were decided, and how each learnt number moved the voltage reached."""

    spk: jax.Array
    decided: jax.Array
    moved: tuple[jax.Array, ...]


class NeuronNumbers(NamedTuple):
    """The scheme of a step, and its derivatives by what is learnt; the same at every step of a sequence."""

    scheme: Scheme
    derivatives: tuple[Scheme, ...]


def numbers_of(rules: NeuronRules, operator: Operator) -> NeuronNumbers:
    """Return the numbers of every step under an operator."""
    arguments = (rules.method, rules.past, rules.leak)
    # The derivatives are a means to a gradient; nobody differentiates them again.
    fixed = jax.lax.stop_gradient(operator)
    return NeuronNumbers(scheme_of(operator, *arguments), sensitivities(rules.learnt, fixed, *arguments))


def step(
    rules: NeuronRules,
    parameters: NeuronParameters,
    numbers: NeuronNumbers,
    state: NeuronState,
    drive: jax.Array,
    *,
    effects: bool = False,
) -> tuple[NeuronState, Event]:
    """Return the state one step later, and what happened.

    With ``effects`` the event says how each learnt number moved the voltage, for a backward pass of one's own; without,
    the step is differentiable by them.
    """
    operator, V_th = parameters.operator, parameters.V_th
    V, offset, slots, position, before = state
    # The operator acts on what has moved since rest, or since the past was cleared.
    y = V if offset is None else V - offset
    source = drive if offset is None else drive - rules.leak * offset
    scheme = placed(numbers.scheme, rules.past, position)
    derivatives = tuple(placed(derivative, rules.past, position) for derivative in numbers.derivatives)
    values = (source, before, y, slots)
    moved: list[jax.Array] = []
    if effects:
        reached, *moved = apply_all((scheme, *derivatives), *values)
    elif derivatives:
        learnt = tuple(leaf for leaf, wanted in zip(jax.tree.leaves(operator), rules.learnt, strict=True) if wanted)
        reached = advance(learnt, derivatives, jax.lax.stop_gradient(scheme), *values)
    else:
        reached = apply(scheme, *values)
    reached = reached if offset is None else reached + offset

    decided = V + parameters.lookahead * (drive - rules.leak * V) if rules.looks_ahead else reached
    spk = rules.spk_fun((decided - V_th) / V_th)
    fired = jax.lax.stop_gradient(spk) if rules.detach_reset else spk
    if rules.reset == "current":
        # An input of -V_th in this step: it passes through the operator, so its trace fades like that of any input.
        source = source - fired * V_th
        jump = scheme.drive * fired * V_th
    else:
        jump = fired * (V_th if rules.reset == "subtract" else reached)
    V = reached - jump

    # The rate at the old voltage: `pred` is explicit and integrates the rates of the steps that are over.
    rate = (source - rules.leak * y) / operator.tau
    if offset is not None:
        if rules.method.remembers_rate:
            offset = offset - jump
        if rules.clears:
            # Which past remains is a decision, so no gradient passes through it.
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
    return state, Event(spk, decided, tuple(moved))
