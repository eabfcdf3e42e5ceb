"""Base class for layers of fractional-order neurons: arguments, states, and update of one step or a sequence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from brainhw import _arguments, surrogate
from brainhw.kernel.broadcasting import broadcasting
from brainhw.kernel.exponentials import check_count
from brainhw.kernel.fractional_sequence import is_linear, passes_state_gradients, run, run_steps
from brainhw.kernel.fractional_step import NeuronParameters, NeuronRules, NeuronState, Operator, schemes_of, step
from brainhw.kernel.fractional_weights import METHODS, FractionalMethod, Method
from brainhw.kernel.past import LagBuffer, LeakySums, Past
from brainhw.kernel.precision import as_dtype, state_dtype, widened
from brainhw.nn.fractional_terms import Terms, make_terms
from brainhw.nn.parameter import current_value, neuron_parameter
from brainhw.nn.protocols import Slot, tap, tapped_now
from brainhw.nn.ranges import DURATION, FACTOR, ORDER, THRESHOLD, Range
from brainhw.nn.spiking import (
    RestingStates,
    check_spike_function,
    checked_batch,
    checked_drive,
    drives_over_time,
    no_spikes,
    zeros,
)
from brainhw.surrogate.forward import forward_of

__all__ = ["FractionalLayer"]

DEFAULT_HORIZON = 4096
# The explicit Gruenwald-Letnikov scheme for one term is unstable for dt > 2 tau. Its characteristic equation is
# (1 - 1/z)^alpha = -(dt/tau)^alpha / z, and z = -1 is a root at dt = 2 tau.
_EXPLICIT = dataclasses.replace(
    DURATION,
    per_step=lambda ratio: f"dt/tau = {ratio:.3g}; explicit steps are unstable above 2" if ratio > 2 else None,
)
_COARSE = dataclasses.replace(
    DURATION, per_step=lambda ratio: f"dt/tau = {ratio:.3g}; the time step is too coarse" if ratio > 5 else None
)


class FractionalLayer(RestingStates):
    r"""Neurons whose equation contains a weighted sum of fractional derivatives of the membrane potential.

    .. math:: \tau \sum_j w_j D^{\alpha_j} V = x - \lambda V, \qquad V(0) = 0

    The derivatives are taken with respect to time in units of ``time_scale``. :math:`\lambda` is the ``leak_factor`` of
    the subclass, 1 or 0. For the arguments, see :class:`FractionalLIFLayer`.
    """

    leak_factor: ClassVar[float]
    # Exists only if the past values are stored in a buffer.
    position: Any
    sequence_records = ("V", "V_pre", "spk")
    # The response to a spike decays as a power law, not exponentially.
    never_forgets = True

    def __init__(
        self,
        size: int | tuple[int, ...],
        *,
        alpha: Any = 0.5,
        coefficients: Any = None,
        tau: u.Quantity | brainstate.nn.Param = 20.0 * u.ms,
        V_th: u.Quantity | brainstate.nn.Param = 1.0 * u.mV,
        time_scale: u.Quantity | None = None,
        method: Method = "gl",
        memory: int | None = None,
        kernel: Literal["soe", "dense"] = "soe",
        n_exponentials: int = 24,
        horizon: int | None = None,
        reset: Literal["current", "subtract", "zero"] = "current",
        history: Literal["keep", "clear"] = "keep",
        lookahead: u.Quantity | None = None,
        learn_alpha: bool | Literal["raw"] = False,
        learn_coefficients: bool | Literal["raw"] = False,
        learn_tau: bool = False,
        detach_reset: bool = True,
        memory_rule: Literal["past", "spikede"] = "past",
        alpha_rule: Literal["exact", "spikede"] = "exact",
        spk_fun: Callable[[jax.Array], jax.Array] | None = None,
        name: str | None = None,
    ) -> None:
        call = type(self).__name__
        shape = _arguments.sizes(size, call=call, name="size")
        super().__init__(shape, name=_arguments.module_name(name, call=call))
        self.V_th = neuron_parameter(V_th, THRESHOLD, shape, call=call, name="V_th")
        self.tau = _time_constant(tau, learn_tau, shape, call)
        self.time_scale = self.lookahead = None
        if time_scale is not None:
            self.time_scale = _arguments.quantity(
                time_scale, u.ms, call=call, name="time_scale", shapes=[()], positive=True
            )
        if lookahead is not None:
            self.lookahead = _arguments.quantity(
                lookahead, u.ms, call=call, name="lookahead", shapes=[()], nonnegative=True
            )
        self._method = _arguments.choice(method, METHODS, call=call, name="method")
        self.kernel = _arguments.choice(kernel, ("soe", "dense"), call=call, name="kernel")
        self.reset = _arguments.choice(reset, ("current", "subtract", "zero"), call=call, name="reset")
        self.history = _arguments.choice(history, ("keep", "clear"), call=call, name="history")
        if self.history == "clear" and self.reset == "current":
            raise ValueError(
                f"{call}: history='clear' cannot be combined with reset='current', whose effect is part of the "
                "history. Pass reset='subtract' or 'zero'."
            )
        self.memory_rule = _arguments.choice(memory_rule, ("past", "spikede"), call=call, name="memory_rule")
        self.alpha_rule = _arguments.choice(alpha_rule, ("exact", "spikede"), call=call, name="alpha_rule")
        self.memory, self.horizon = _steps(memory, call, "memory"), _steps(horizon, call, "horizon")
        self.n_exponentials = check_count(n_exponentials, call=call, name="n_exponentials")
        if kernel == "soe" and memory is not None:
            raise ValueError(
                f"{call}: memory={memory} requires kernel='dense', but kernel is 'soe'. Pass kernel='dense', or omit "
                "memory to keep all past steps."
            )
        if kernel == "dense" and (memory is None) == (horizon is None):
            raise ValueError(
                f"{call}: kernel='dense' requires exactly one of horizon and memory, because it stores past steps. Set "
                "horizon to the number of steps of the longest run, or memory to the number of past steps to keep."
            )
        self.detach_reset = _arguments.flag(detach_reset, call=call, name="detach_reset")
        self.spk_fun = surrogate.fast_sigmoid() if spk_fun is None else check_spike_function(spk_fun, call)
        self.take_terms(
            make_terms(alpha, coefficients, learn_alpha, learn_coefficients, size=shape, method=method, call=call)
        )
        FractionalLayer.init_state(self)

    @property
    def parameter_ranges(self) -> dict[str, Range]:
        """Range of each parameter."""
        # Trainable coefficients have no range, because they may be negative with `learn_coefficients='raw'`.
        factors = {} if isinstance(self.coefficients, brainstate.nn.Param) else {"coefficients": FACTOR}
        explicit = self.time_scale is None and not self.scheme().implicit
        # Without a leak, tau only scales the drive, so the time step may be longer than tau.
        tau = DURATION if not self.leak_factor else _EXPLICIT if explicit else _COARSE
        return {"alpha": ORDER, "tau": tau, "V_th": THRESHOLD, "time_scale": DURATION, **factors}

    def set_orders(
        self,
        alpha: Any,
        coefficients: Any = None,
        *,
        learn_alpha: bool | Literal["raw"] = False,
        learn_coefficients: bool | Literal["raw"] = False,
    ) -> None:
        """Replace the orders and the coefficients; the arguments are the same as in the constructor.

        Functions that are already compiled may continue to use the old values. If an optimizer contains the old
        parameters, create a new optimizer.
        """
        call = f"{type(self).__name__}.set_orders"
        options: dict[str, Any] = {"size": self.in_size, "method": self._method, "call": call}
        self.take_terms(make_terms(alpha, coefficients, learn_alpha, learn_coefficients, **options))

    def take_terms(self, terms: Terms) -> None:
        """Set the orders and the coefficients to ``terms``.

        They are not checked here. ``make_terms`` must have checked them for the shape and the numerical scheme of
        this layer.
        """
        self.alpha, self.coefficients, self._alpha_per_neuron = terms

    def orders(self) -> jax.Array:
        """Return the current orders of the ``J`` terms, ``[J]``, or ``[J, *size]`` with one order per neuron."""
        value = current_value(self.alpha)
        return value.reshape((-1, *self.in_size)) if self._alpha_per_neuron else jnp.atleast_1d(value)

    def term_coefficients(self) -> jax.Array:
        """Return the current coefficients of the ``J`` terms, ``[J]``."""
        return jnp.atleast_1d(current_value(self.coefficients))

    @property
    def learns_alpha(self) -> bool:
        """True if the orders are trainable."""
        return Slot(self.alpha).trainable

    @property
    def learns_coefficients(self) -> bool:
        """True if the coefficients are trainable."""
        return Slot(self.coefficients).trainable

    @property
    def method(self) -> str:
        """Name of the numerical scheme.

        Assigning a name resets the states and removes their batch axis. Then prepare and compile the network again.
        """
        return self._method

    @method.setter
    def method(self, name: str) -> None:
        call = f"{type(self).__name__}.method"
        name = _arguments.choice(name, METHODS, call=call, name="method")
        if len(self.orders()) > 1 and not METHODS[name].many_terms:
            raise ValueError(
                f"{call}: {name!r} supports only one term, but alpha has {len(self.orders())} terms. Use 'gl'."
            )
        self._method = name
        FractionalLayer.init_state(self)

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return math.prod(self.in_size)

    def scheme(self) -> FractionalMethod:
        """Return the numerical scheme of the derivatives."""
        return METHODS[self._method](compatible=self.alpha_rule == "spikede")

    def past(self) -> Past:
        """Return the object that represents the past values of the neurons: a buffer, or sums of exponentials."""
        if self.kernel == "soe":
            return LeakySums(self.scheme(), self.n_exponentials, self.horizon or DEFAULT_HORIZON)
        if self.memory is None:
            return LagBuffer(self.horizon or 1, whole=True)
        # spikeDE also counts the current value. With memory=M+1, it produces the same result as torchfde with memory=M,
        # to within 5e-9.
        return LagBuffer(self.memory - 1 if self.memory_rule == "spikede" else self.memory)

    def rules(self) -> NeuronRules:
        """Return the settings of these neurons that are fixed at compile time, for :mod:`brainhw.kernel`."""
        tau_trainable = Slot(self.tau).trainable
        n_terms = len(self.orders())
        return NeuronRules(
            method=self.scheme(),
            past=self.past(),
            leak=self.leak_factor,
            reset=self.reset,
            clears=self.history == "clear",
            detach_reset=self.detach_reset,
            looks_ahead=self.lookahead is not None,
            spk_fun=self.spk_fun,
            is_step=forward_of(self.spk_fun) == "step",
            trainable=(
                *[self.learns_alpha] * n_terms,
                *[self.learns_coefficients] * n_terms,
                tau_trainable and self.time_scale is None,
                tau_trainable and self.time_scale is not None,
            ),
        )

    def parameters(self, dt: u.Quantity) -> NeuronParameters:
        """Return the current parameter values of these neurons, for :mod:`brainhw.kernel`."""
        dtype = state_dtype()
        tau = jnp.asarray(current_value(self.tau).to(u.ms).mantissa, dtype=dtype)
        scale = tau if self.time_scale is None else jnp.asarray(self.time_scale.mantissa, dtype=dtype)
        operator = Operator(
            alpha=tuple(widened(self.orders())),
            coefficients=tuple(widened(self.term_coefficients())),
            h=jnp.asarray(dt.to(u.ms).mantissa, dtype=dtype) / scale,
            tau=tau / scale if self.time_scale is not None else jnp.ones_like(tau),
        )
        V_th = jnp.asarray(self.threshold().mantissa, dtype=dtype)
        # The lookahead is in units of tau, because the extrapolation uses the derivative (x - V) / tau.
        return NeuronParameters(operator, V_th, None if self.lookahead is None else self.lookahead.mantissa / tau)

    def resting_values(self, batch_size: int | None = None) -> dict[str, Any]:
        """Return a dict from the name of each state to its resting value.

        Which states exist depends on the arguments of the constructor, such as ``method`` and ``kernel``.
        """
        rules = self.rules()
        rest = zeros(self.in_size, batch_size, u.mV)
        slots = jnp.zeros((rules.past.n_slots, *rest.shape), dtype=rest.dtype) * u.mV
        resting = {"V": rest, "spk": no_spikes(self.in_size, batch_size), "slots": slots}
        if isinstance(rules.past, LagBuffer):
            resting["position"] = jnp.zeros((), dtype=jnp.int32)
        if rules.has_offset:
            resting["V_offset"] = rest
        if rules.method.implicit:
            resting["x_before"] = rest
        return resting

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Create the states at rest, ``[*size]`` or ``[batch_size, *size]``."""
        batch_size = checked_batch(batch_size, self, "init_state")
        self._dt_of_past: float | None = None
        for name in {"position", "V_offset", "x_before"} - self.resting_values(batch_size).keys():
            # These states belong to a method that was set before.
            setattr(self, name, None)
        super().init_state(batch_size)

    def reset_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Reset the states to their resting values, ``[*size]`` or ``[batch_size, *size]``."""
        batch_size = checked_batch(batch_size, self, "reset_state")
        self._dt_of_past = None
        super().reset_state(batch_size)

    def state(self) -> NeuronState:
        """Return the current states of the layer as plain arrays in mV, for :mod:`brainhw.kernel`."""
        V, held = self.V.value, self.slots.value.shape[1:]
        if not isinstance(V, u.Quantity) or not u.have_same_dim(V, u.mV) or V.shape != held:
            raise ValueError(
                f"{type(self).__name__}: the state V must be a voltage of shape {held}; got {_arguments.describe(V)}. "
                "Do not assign V, because it is computed from slots. Call brainhw.prepare_net to reset it."
            )
        states = {name: getattr(self, name) for name in ("slots", "V_offset", "position", "x_before")}
        return _plain({"V": V.to(u.mV)} | {name: state.value for name, state in states.items() if state is not None})

    def write(self, state: NeuronState, spk: jax.Array) -> None:
        """Set the states of the layer to ``state`` and its spikes to ``spk``."""
        self.V.value = state.V * u.mV
        self.slots.value = state.slots * u.mV
        self.spk.value = as_dtype(spk, jnp.result_type(self.spk.value))
        if self.V_offset is not None:
            self.V_offset.value = state.offset * u.mV
        if self.position is not None:
            self.position.value = state.position
        if self.x_before is not None:
            self.x_before.value = state.before * u.mV

    @property
    def steps_left(self) -> float:
        """Number of steps that ``kernel='dense'`` can still store; infinite for other kernels."""
        if self.kernel != "dense" or self.horizon is None:
            return math.inf
        position = self.position.value
        return self.horizon - (int(position) if _arguments.is_concrete(position) else 0)

    def limit_reached(self, call: str, n_steps: int) -> ValueError:
        """Return the error to raise for a run whose length ``n_steps`` is greater than ``steps_left``."""
        horizon = self.horizon or 0
        return ValueError(
            f"{call}: {type(self).__name__} stores {horizon} past steps (kernel='dense', horizon={horizon}), but this "
            f"run reaches step {n_steps + horizon - self.steps_left:.0f}. Increase horizon, pass memory= instead of "
            "horizon= to drop old steps, or use kernel='soe', which supports runs of any length."
        )

    def threshold(self) -> u.Quantity:
        """Return the firing threshold in mV, scalar or ``[*size]``."""
        return current_value(self.V_th).in_unit(u.mV)

    @broadcasting
    def subthreshold(self, xs: u.Quantity) -> u.Quantity:
        """Return the voltage ``[T, ..., *size]`` in mV that would be compared with the threshold if no neuron fired.

        The voltage starts at rest. ``xs`` are the drives in mV, ``[T, ..., *size]``. The states of the layer do not
        change.
        """
        call = f"{type(self).__name__}.subthreshold"
        xs = drives_over_time(xs, u.mV, size=self.in_size, call=call)
        dt = _arguments.time_step(call=call)
        state = _plain(self.resting_values(*xs.shape[1 : xs.ndim - len(self.in_size)]))
        rules = self.rules()._replace(spk_fun=jnp.zeros_like, is_step=False)
        _, trace = run_steps(rules, self.parameters(dt), state, xs.to(u.mV).mantissa)
        return u.Quantity(trace.V_compared, unit=u.mV)

    @broadcasting
    def update(self, x: u.Quantity) -> jax.Array:
        """Advance one step and return the spikes, 0 or 1, with the shape of ``x``.

        Parameters
        ----------
        x : Quantity
            Voltage towards which the membrane potential relaxes, in mV, ``[*size]`` or ``[B, *size]``.
        """
        drive, dt = self._checked(x, f"{type(self).__name__}.update")
        rules, parameters = self.rules(), self.parameters(dt)
        state, event = step(rules, parameters, schemes_of(rules, parameters.operator), self.state(), drive)
        tap(self, "V_pre", event.V_compared * u.mV)
        self.write(state, event.spk)
        return self.spk.value

    @property
    def can_be_cut(self) -> bool:
        """Whether :meth:`update_sequence` computes the gradients that flow between pieces of a sequence."""
        return passes_state_gradients(self.rules())

    def gains_from_sequence(self) -> bool:
        """Return whether processing a whole sequence at once saves memory in the backward pass.

        This is the case if the update is linear for given spikes.
        """
        return is_linear(self.rules())

    @broadcasting
    def update_sequence(self, xs: u.Quantity) -> jax.Array:
        """Return the outputs of :meth:`update` for all steps of ``xs [T, ..., *size]``, and update the states.

        If :meth:`gains_from_sequence` returns True, the backward pass is one transposed causal convolution and stores
        no past values. Otherwise, the steps are differentiated one by one.
        """
        drives, dt = self._checked(xs, f"{type(self).__name__}.update_sequence", steps=True)
        rules = self.rules()
        runner = run if is_linear(rules) else run_steps
        state, trace = runner(rules, self.parameters(dt), self.state(), drives, keep_V=tapped_now.get() is not None)
        spk = as_dtype(trace.spk, jnp.result_type(self.spk.value))
        if tapped_now.get() is not None:
            tap(self, "V_pre", trace.V_compared * u.mV)
            tap(self, "V", trace.V * u.mV)
            tap(self, "spk", spk)
        self.write(state, spk[-1])
        return spk

    def _checked(self, x: Any, call: str, *, steps: bool = False) -> tuple[jax.Array, u.Quantity]:
        dt = self._uniform_step(call)
        drive = checked_drive(
            x,
            u.mV,
            "the voltage towards which the membrane potential relaxes",
            size=self.in_size,
            state_shape=self.slots.value.shape[1:],
            call=call,
            source="Pass spikes through a LIFSynapse first.",
            steps=steps,
        )
        return as_dtype(drive.mantissa, self.slots.value.dtype), dt

    def _uniform_step(self, call: str) -> u.Quantity:
        dt = _arguments.time_step(call=call)
        if not _arguments.is_concrete(dt.mantissa):
            return dt
        held = self._dt_of_past
        if held is not None and dt.mantissa != held:
            raise ValueError(
                f"{call}: dt is {dt.mantissa:g} ms, but the past steps were stored with dt = {held:g} ms, and a "
                "fractional derivative requires equal time steps. Use the previous dt, or call "
                "brainhw.prepare_net(net, batch_size) to reset the stored history."
            )
        self._dt_of_past = dt.mantissa
        return dt


def _steps(value: Any, call: str, name: str) -> int | None:
    most = _arguments.LONGEST_AXIS
    return None if value is None else _arguments.positive_int(value, call=call, name=name, most=most)


def _time_constant(tau: Any, learn: Any, size: tuple[int, ...], call: str) -> Any:
    parameter = neuron_parameter(tau, DURATION, size, call=call, name="tau")
    if not _arguments.flag(learn, call=call, name="learn_tau"):
        return parameter
    if isinstance(parameter, brainstate.nn.Param):
        raise ValueError(f"{call}: tau is a Param, so it is already trainable. Omit learn_tau.")
    # Train tau on a logarithmic scale, so that one update changes 2 ms and 2 s by the same factor.
    value = u.Quantity(jnp.asarray(parameter.mantissa, dtype=brainstate.environ.dftype()), unit=u.ms)
    return brainstate.nn.Param(value, t=brainstate.nn.ExpT(0.0 * u.ms))


def _plain(states: Mapping[str, Any]) -> NeuronState:
    """Convert a dict of states in mV to plain arrays; a state that is not in the dict becomes ``None``."""
    V, offset, slots, position, before = (
        u.get_mantissa(states.get(name)) for name in ("V", "V_offset", "slots", "position", "x_before")
    )
    return NeuronState(V, offset, slots, position, before)
