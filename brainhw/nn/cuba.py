"""Current-based leaky integrate-and-fire neurons with several synapses per neuron."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.kernel.broadcasting import broadcasting
from brainhw.kernel.currents import CurrentParameters, CurrentRules, CurrentState, run
from brainhw.kernel.precision import as_dtype, narrowed, wide
from brainhw.kernel.recorded import membrane_after, substitute
from brainhw.nn.leak import LEAKS, LeakForm, decay_factor, leak_parameter, mode_arguments
from brainhw.nn.parameter import current_value, drawn_weights, neuron_parameter, weight_state
from brainhw.nn.protocols import Slot, tap, tapped_now
from brainhw.nn.ranges import THRESHOLD, VOLTAGE, Range
from brainhw.nn.recorded import recorded_for, recorded_now
from brainhw.nn.spiking import (
    RestingStates,
    check_spike_function,
    checked_drive,
    drives_over_time,
    no_spikes,
    reads_own_states,
    zeros,
)
from brainhw.surrogate import MultiSpike, StepPWL
from brainhw.surrogate.forward import forward_of
from brainhw.surrogate.multi_spike import spike_limit

__all__ = ["CubaLIFLayer"]

_MOST_SYNAPSES = 2**20
_NOISE = Range(0.0, includes_low=True, unit=u.mV / u.second**0.5)


class CubaLIFLayer(RestingStates):
    r"""Current-based leaky integrate-and-fire neurons with several synapses per neuron and several spikes per step.

    .. math::
        I_t &= \beta \, (I_{t-1} + x_t + s_{t-1} W_{rec}) \\
        p_t &= \alpha V_{t-1} + \textstyle\sum_k I_{t,k} + \sigma \sqrt{\Delta t} \, \xi_t + b \\
        s_t &= \text{spikes}(p_t, V_{th}) \\
        V_t &= p_t - s_t V_{th}

    where :math:`\alpha = e^{-\Delta t/\tau_{mem}}` and :math:`\beta = e^{-\Delta t/\tau_{syn}}`. This is the exact
    solution of two exponential leaks in series. As in Rockpool's ``LIFTorch`` (Muir et al., Rockpool, 2019), an input
    already decays in the step in which it arrives. The unit of a current is mV, the voltage that the current adds to
    the membrane potential in one step.

    Parameters
    ----------
    size : int or tuple of int
        Number of neurons ``N``, or the shape of the layer. A layer with more than one axis requires ``n_synapses=1``
        and no ``w_rec``. Its input has the shape ``[*size]``, and ``[N]`` below stands for ``[*size]``.
    n_synapses : int, optional
        Number of synapses per neuron, ``S``. Default 1.
    tau_mem, tau_syn : Quantity or brainstate.nn.Param, optional
        Time constants, for ``leak='taus'``. ``tau_mem`` is a scalar or ``[N]``. ``tau_syn`` is a scalar, ``[N]``,
        ``[1, S]``, ``[N, S]`` or ``[N * S]``. An array of shape ``[N]`` has one value per neuron, even if ``N == S``.
        Default 20 ms.
    bias, V_th : Quantity or brainstate.nn.Param, optional
        ``bias`` is the voltage added in every step. ``V_th`` is the threshold, which each spike subtracts from the
        membrane potential. Each is a scalar or has the shape ``[N]``. Default 0 mV and 1 mV.
    w_rec : Quantity, callable, True, brainstate.nn.Param or None, optional
        Recurrent weights in mV, which multiply the spikes of the previous step. Pass an array of shape ``[N, N * S]``
        (row: presynaptic neuron; column: ``post * S + synapse``) or ``[N, N, S]``, or an initializer that is called
        with ``(N, N * S)`` and returns voltages. ``True`` draws the weights uniformly between plus and minus
        ``sqrt(6 / (N * S))`` mV. The weights are trainable. To freeze or transform them, pass a ``brainstate.nn.Const``
        or a ``Param`` of shape ``[N, N * S]``. Default ``None``: the layer has no recurrence.
    noise_std : Quantity, optional
        Strength of the membrane noise in mV per square root of a second, scalar or ``[N]``. Without leak, this is the
        standard deviation of the summed noise after one second. In every step, the noise is drawn from
        ``brainstate.random``. Default ``None``: no noise.
    max_spikes_per_step : int, optional
        Maximum number of spikes per neuron and step, up to 2**24. The reset subtracts ``V_th`` at most this many times
        per step. ``None`` (default) and ``inf`` mean no limit. Without a limit, the number of spikes in a strongly
        recurrent network can grow until the membrane potential is NaN.
    spk_fun : MultiSpike or braintools.surrogate.Surrogate, optional
        Spike function. Default ``brainhw.surrogate.StepPWL()``. If it is a ``Surrogate``, it is called with
        ``(V - V_th)/V_th``, and neurons fire at most once per step.
    detach_reset : bool, optional
        Whether to stop the gradient that flows through the spikes in the reset. Default False.
    leak : {'taus', 'decays', 'bitshifts'}, optional
        Parametrisation of the leak. Default ``'taus'``.
    alpha, beta : float, array or brainstate.nn.Param, optional
        Decay factors per step, 0 to 1, for ``leak='decays'``. ``alpha`` accepts the same shapes as ``tau_mem``, and
        ``beta`` the same shapes as ``tau_syn``. Default 0.5.
    dash_mem, dash_syn : float, array or brainstate.nn.Param, optional
        Bit shifts, for ``leak='bitshifts'``. The decay factor is ``1 - 2**-dash``. Default 1.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    V, I_syn, spk : brainstate.HiddenState
        Membrane potential after the reset (mV, ``[N]``), synaptic currents after the decay (mV, ``[N, S]``) and number
        of spikes (``[N]``). A batch adds a leading axis ``[B]``. You may assign ``V`` and ``I_syn`` in any unit of
        voltage.
    recurrent_weight : brainstate.ParamState, brainstate.nn.Param or None
        Recurrent weights.

    Raises
    ------
    TypeError
        If an argument has the wrong type or unit. The message names the argument.
    ValueError
        If an argument has the wrong shape, is out of range, conflicts with another argument, or belongs to a different
        ``leak`` mode. The message names the argument.

    Notes
    -----
    To make a parameter trainable, pass a ``brainstate.nn.Param`` with a transform that keeps it in range. For example,
    ``brainstate.nn.Param(20. * u.ms, t=brainstate.nn.SoftplusT(1. * u.ms))`` stays above 1 ms. Without a transform,
    training can move a threshold to zero or below, where spikes are undefined. ``prepare_net`` then raises an error.
    Inside a compiled function, the spikes become NaN, which ``rollout(..., check_finite=True)`` reports.

    The values ``V_pre`` (membrane potential before the reset) and ``irec`` (recurrent input before the decay) can be
    recorded in addition to the states.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.CubaLIFLayer(1, 2, leak="decays", alpha=0.5, beta=[[0.5, 1.0]])
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     spikes, seen = bh.rollout(layer, jnp.array([[2.0, 1.5], [0.0, 0.0]]) * u.mV, record=(".I_syn", ".V"))
    >>> print(spikes[:, 0], seen[".I_syn"][:, 0, 0], seen[".V"][:, 0])
    [2. 2.] [1.  0.5] mV [0.5  0.25] mV
    """

    parameter_ranges: ClassVar[dict[str, Range]] = {
        **{name: leak.within for leak in LEAKS.values() for name in leak.names},
        "bias": VOLTAGE,
        "V_th": THRESHOLD,
        "noise_std": _NOISE,
        "recurrent_weight": Range(unit=u.mV, shape=lambda layer: (layer.n_neurons, layer.n_neurons * layer.n_synapses)),
    }

    def __init__(
        self,
        size: int | tuple[int, ...],
        n_synapses: int = 1,
        *,
        tau_mem: u.Quantity | brainstate.nn.Param | None = None,
        tau_syn: u.Quantity | brainstate.nn.Param | None = None,
        bias: u.Quantity | brainstate.nn.Param = 0.0 * u.mV,
        V_th: u.Quantity | brainstate.nn.Param = 1.0 * u.mV,
        w_rec: Any = None,
        noise_std: u.Quantity | None = None,
        max_spikes_per_step: int | None = None,
        spk_fun: Callable[..., jax.Array] | None = None,
        detach_reset: bool = False,
        leak: LeakForm = "taus",
        alpha: Any = None,
        beta: Any = None,
        dash_mem: Any = None,
        dash_syn: Any = None,
        name: str | None = None,
    ) -> None:
        call = type(self).__name__
        n_syn = _arguments.positive_int(n_synapses, call=call, name="n_synapses", most=_MOST_SYNAPSES)
        shape = _layer_shape(size, n_syn, w_rec, call)
        # Neurons and synapses share one axis of the input, as in Rockpool, because the output of a dense synapse has
        # one axis. The channel is neuron * S + synapse.
        super().__init__(
            shape if len(shape) > 1 else (shape[0] * n_syn,),
            name=_arguments.module_name(name, call=call),
        )
        self.out_size = shape
        self.n_synapses = n_syn
        self.leak = leak
        leaks = {"tau_mem": tau_mem, "tau_syn": tau_syn, "alpha": alpha, "beta": beta}
        leaks |= {"dash_mem": dash_mem, "dash_syn": dash_syn}
        per_neuron = self._per_neuron
        for argument, value in mode_arguments(leak, leaks, call=call).items():
            shapes = per_neuron if argument == LEAKS[leak].names[0] else self._per_synapse
            setattr(self, argument, leak_parameter(leak, value, shapes, call=call, name=argument))
        for argument, value in (("bias", bias), ("V_th", V_th), ("w_rec", w_rec)):
            _arguments.check_transform(value, call=call, name=argument)
        self.bias = neuron_parameter(bias, VOLTAGE, shape, call=call, name="bias", shapes=per_neuron)
        self.V_th = neuron_parameter(V_th, THRESHOLD, shape, call=call, name="V_th", shapes=per_neuron)
        self.noise_std = None
        if noise_std is not None:
            self.noise_std = _arguments.quantity(
                noise_std, _NOISE.unit, call=call, name="noise_std", shapes=per_neuron, nonnegative=True
            )
        self.recurrent_weight = _recurrent_weights(w_rec, shape[0], n_syn, call)
        example = "brainhw.surrogate.StepPWL() or brainhw.surrogate.fast_sigmoid()"
        self.spk_fun = StepPWL() if spk_fun is None else check_spike_function(spk_fun, call, example)
        self.max_spikes_per_step = _spike_limit(max_spikes_per_step, self.spk_fun, call)
        self.detach_reset = _arguments.flag(detach_reset, call=call, name="detach_reset")
        RestingStates.init_state(self)

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return math.prod(self.out_size)

    @property
    def _per_neuron(self) -> list[tuple[int, ...]]:
        return [(), self.out_size] if len(self.out_size) > 1 else [(), (1,), self.out_size]

    @property
    def _per_synapse(self) -> list[tuple[int, ...]]:
        if len(self.out_size) > 1:
            return [*self._per_neuron, (*self.out_size, 1)]
        n, n_syn = self.n_neurons, self.n_synapses
        return [*self._per_neuron, (1, n_syn), (n, n_syn), (n * n_syn,)]

    def own_current(self, spk: jax.Array, dt: u.Quantity) -> u.Quantity | None:
        """Return the current in mV that each neuron's previous spikes cause in the neuron itself.

        The call advances this current by one step. A layer without such a current returns ``None``. A subclass that
        returns a current must add the state of the current to :meth:`resting_values`.
        """
        return None

    def resting_values(self, batch_size: int | None = None) -> dict[str, Any]:
        """Return a dict from the name of each state to its resting value."""
        size = self.out_size
        return {
            "V": zeros(size, batch_size, u.mV),
            "I_syn": zeros((*size, self.n_synapses), batch_size, u.mV),
            "spk": no_spikes(size, batch_size),
        }

    def recurrent_slot(self) -> Slot | None:
        """Return a :class:`Slot` for the recurrent weights, or ``None`` if the layer has no recurrence."""
        return None if self.recurrent_weight is None else Slot(self.recurrent_weight, unit=u.mV)

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Context manager that disables the noise."""
        before, self.noise_std = self.noise_std, None
        try:
            yield
        finally:
            self.noise_std = before

    def threshold(self) -> u.Quantity:
        """Return the firing threshold in mV, scalar or ``[N]``."""
        return current_value(self.V_th).in_unit(u.mV)

    def recurrent_drive(self, spk: jax.Array) -> u.Quantity:
        """Return the recurrent input ``[..., N * S]`` in mV for spikes ``[..., N]``; requires ``w_rec``."""
        return spk @ self.recurrent_matrix()

    @broadcasting
    def subthreshold(self, xs: u.Quantity) -> u.Quantity:
        """Return the membrane potential ``[T, ..., N]`` in mV that inputs and bias cause, without spikes and noise.

        The potential starts at rest. ``xs`` is the input of each synapse in mV, ``[T, ..., N * S]``. The states of the
        layer do not change.
        """
        call = f"{type(self).__name__}.subthreshold"
        xs = drives_over_time(xs, u.mV, size=self.in_size, call=call)
        alpha, beta = self._decay_factors(_arguments.time_step(call=call))
        bias = current_value(self.bias).in_unit(u.mV)
        inputs = self._by_synapse(xs)

        def one_step(carry: tuple[u.Quantity, u.Quantity], x: u.Quantity) -> tuple[Any, jax.Array]:
            V, I_syn = carry
            I_syn = beta * (I_syn + x)
            V = alpha * V + _total(I_syn, None) + bias
            return (V, I_syn), V.mantissa

        rest = jnp.zeros(inputs.shape[1:], wide(inputs.dtype)) * u.mV
        return u.Quantity(brainstate.transform.scan(one_step, (rest[..., 0], rest), inputs)[1], unit=u.mV)

    @broadcasting
    def update(self, x: u.Quantity) -> jax.Array:
        """Advance one step and return the number of spikes of each neuron, ``[N]`` or ``[B, N]``.

        Parameters
        ----------
        x : Quantity
            Input of each synapse in this step, mV, ``[N * S]`` or ``[B, N * S]``. Channel ``neuron * S + syn`` is
            synapse ``syn`` of ``neuron``.
        """
        call = f"{type(self).__name__}.update"
        dt = _arguments.time_step(call=call)
        V = self.voltage_state("V")
        arriving = self._checked(x, V, call)
        I_syn = self.voltage_state("I_syn", self.n_synapses) + self._by_synapse(narrowed(arriving, V.dtype))
        alpha, beta = self._decay_factors(dt)
        spk = jnp.asarray(_arguments.as_array(self.spk.value, call=call, name="the state spk"))
        self._check_state_shape("spk", spk.shape, V.shape, call)
        precision, spk = spk.dtype, as_dtype(spk, V.dtype)

        # As in Rockpool, all inputs decay in the step in which they arrive, and recurrent spikes arrive one step later.
        if self.recurrent_weight is not None:
            irec = self._by_synapse(self.recurrent_drive(spk))
            tap(self, "irec", irec)
            I_syn = I_syn + irec
        else:
            tap(self, "irec", u.math.zeros_like(I_syn))
        I_syn = beta * I_syn
        ahp = self.own_current(spk, dt)
        # Add in the same order as Rockpool, because in float32 a different order rounds differently and changes spikes.
        V = alpha * V + _total(I_syn, ahp)
        if self.noise_std is not None:
            # The variances of independent draws add up. With the factor sqrt(dt), the noise after one second does not
            # depend on dt.
            std = (self.noise_std * dt**0.5).to(u.mV)
            V = V + std * brainstate.random.randn(*V.shape, dtype=V.dtype)
        V = V + current_value(self.bias).in_unit(u.mV)
        tap(self, "V_pre", V)

        V_th = self.threshold()
        recorded = () if recorded_now.get() is None else recorded_for(self)
        spk = self._spikes(V.mantissa, V_th.mantissa)
        if recorded:
            spk = substitute(spk, recorded[0])
        # By default, gradients flow through the reset as in Rockpool, because the tests compare with its gradients.
        V = V - (jax.lax.stop_gradient(spk) if self.detach_reset else spk) * V_th
        if recorded:
            V = u.Quantity(membrane_after(recorded, V.to(u.mV).mantissa, V_th.mantissa), unit=u.mV)
        self.write_voltage("V", V)
        self.write_voltage("I_syn", I_syn)
        self.spk.value = spk = as_dtype(spk, precision)
        return spk

    sequence_records = ("V", "V_pre", "spk")
    can_be_cut = True
    # `recurrent_drive` and `own_current` are not listed, because `update_sequence` does not call them.
    _hooks: ClassVar[tuple[str, ...]] = (
        "init_state",
        "quiet",
        "recurrent_matrix",
        "recurrent_slot",
        "reset_state",
        "resting_values",
        "subthreshold",
        "threshold",
    )

    @property
    def sequence_hooks(self) -> tuple[str, ...]:
        """Members that a subclass may override without invalidating `update_sequence`.

        Their results must not change from step to step.
        """
        states = {name for name, state in vars(self).items() if isinstance(state, brainstate.HiddenState)}
        known = states <= {"V", "I_syn", "I_ahp", "spk"}
        called = ("threshold",) if self.recurrent_weight is None else ("threshold", "recurrent_matrix")
        return self._hooks if known and not reads_own_states(self, *called) else ()

    def gains_from_sequence(self) -> bool:
        """Return True, because processing a whole sequence at once saves memory in the backward pass."""
        return True

    @broadcasting
    def update_sequence(self, xs: u.Quantity) -> jax.Array:
        """Return the outputs of :meth:`update` for all steps of ``xs [T, ..., N * S]``, and update the states."""
        if self.noise_std is not None:
            # Every step draws new noise from `brainstate.random`, which the loop below does not support.
            return brainstate.transform.for_loop(self.update, xs)
        call = f"{type(self).__name__}.update_sequence"
        dt = _arguments.time_step(call=call)
        V = self.voltage_state("V")
        drives = self._by_synapse(narrowed(self._checked(xs, V, call, steps=True), V.dtype))
        spk = jnp.asarray(_arguments.as_array(self.spk.value, call=call, name="the state spk"))
        self._check_state_shape("spk", spk.shape, V.shape, call)
        precision, spk = spk.dtype, as_dtype(spk, V.dtype)
        gamma, w_ahp = self._ahp_decay_and_weight(dt)
        state = CurrentState(
            V.mantissa,
            as_dtype(self.voltage_state("I_syn", self.n_synapses).mantissa, V.dtype),
            spk,
            None if gamma is None else as_dtype(self.voltage_state("I_ahp").mantissa, V.dtype),
        )
        alpha, beta = self._decay_factors(dt)
        recurrent = None if self.recurrent_weight is None else self.recurrent_matrix()
        numbers = {"alpha": alpha, "beta": beta, "V_th": self.threshold(), "bias": current_value(self.bias)}
        numbers |= {"recurrent": recurrent, "gamma": gamma, "w_ahp": w_ahp}
        plain: dict[str, Any] = {
            name: None if value is None else as_dtype(jnp.asarray(_millivolts(value)), V.dtype)
            for name, value in numbers.items()
        }
        parameters = CurrentParameters(**plain)
        recorded = () if recorded_now.get() is None else recorded_for(self)
        # If a subclass overrides `_spikes`, its forward pass is unknown.
        known = type(self)._spikes is CubaLIFLayer._spikes
        forward = forward_of(self.spk_fun) if known else None
        rules = CurrentRules(self._spikes, self.detach_reset, forward, self.max_spikes_per_step)
        state, trace = run(rules, parameters, state, drives.mantissa, recorded)
        tap(self, "V_pre", trace.V_pre * u.mV)
        if tapped_now.get() is not None:
            V_th = jnp.broadcast_to(parameters.V_th, trace.V_pre.shape)
            after = trace.V_pre - (jax.lax.stop_gradient(trace.spk) if self.detach_reset else trace.spk) * V_th
            tap(self, "V", (membrane_after(recorded, after, V_th) if recorded else after) * u.mV)
            tap(self, "spk", as_dtype(trace.spk, precision))
        self.write_voltage("V", state.V * u.mV)
        self.write_voltage("I_syn", state.current * u.mV)
        if state.ahp is not None:
            self.write_voltage("I_ahp", state.ahp * u.mV)
        self.spk.value = as_dtype(state.spk, precision)
        return as_dtype(trace.spk, precision)

    def _ahp_decay_and_weight(self, dt: u.Quantity) -> tuple[Any, Any]:
        """Return the decay factor of :meth:`own_current` and the voltage that each spike adds to it.

        Both are ``None`` for a layer without such a current.
        """
        return None, None

    def _checked(self, x: Any, V: u.Quantity, call: str, *, steps: bool = False) -> u.Quantity:
        return checked_drive(
            x,
            u.mV,
            "the voltage that each synapse receives",
            size=self.in_size,
            state_shape=(*V.shape[: V.ndim - len(self.out_size)], *self.in_size),
            call=call,
            source="Pass spikes through a LIFSynapse first, or multiply by u.mV.",
            steps=steps,
        )

    def voltage_state(self, name: str, *per_neuron: int) -> u.Quantity:
        """Return the value of the state ``name`` in mV.

        Raise an error unless it is a voltage of shape ``[..., N, *per_neuron]``, where ``...`` are the batch axes of
        ``V``.
        """
        call, value = f"{type(self).__name__}.update", getattr(self, name).value
        if not isinstance(value, u.Quantity) or not u.have_same_dim(value, u.mV):
            raise TypeError(
                f"{call}: the state {name} must be a Quantity with the dimension of mV; "
                f"got {_arguments.describe(value)}. Assign a voltage in u.mV, or call brainhw.prepare_net."
            )
        shape, of_V = np.shape(value.mantissa), np.shape(u.get_mantissa(self.V.value))
        self._check_state_shape(
            name, shape, (*of_V[: len(of_V) - len(self.out_size)], *self.out_size, *per_neuron), call
        )
        return value.in_unit(u.mV)

    def write_voltage(self, name: str, value: u.Quantity) -> None:
        """Set the state ``name`` to ``value``.

        The value is converted to the unit and dtype of the state, because they must not change in a time loop.
        """
        state = getattr(self, name)
        state.value = as_dtype(value.in_unit(u.get_unit(state.value)), state.value.dtype)

    def _check_state_shape(self, name: str, shape: tuple[int, ...], expected: tuple[int, ...], call: str) -> None:
        if shape != expected:
            raise ValueError(
                f"{call}: the state {name} must have shape {expected}; got shape {shape}. "
                "Assign values of that shape, or call brainhw.prepare_net."
            )

    def _spikes(self, V: jax.Array, V_th: jax.Array) -> jax.Array:
        """Return the spikes for membrane potentials and thresholds in mV."""
        if isinstance(self.spk_fun, MultiSpike):
            return self.spk_fun(V, V_th, self.max_spikes_per_step)
        # A threshold that training moved below zero would change the sign of the argument of the spike function. Return
        # NaN instead of wrong spikes.
        return jnp.where(V_th > 0, self.spk_fun((V - V_th) / V_th), jnp.nan)

    def _decay_factors(self, dt: u.Quantity) -> tuple[Any, Any]:
        membrane, synapse = (getattr(self, argument) for argument in LEAKS[self.leak].names)
        return decay_factor(self.leak, membrane, dt), self.per_synapse(decay_factor(self.leak, synapse, dt))

    def recurrent_matrix(self) -> u.Quantity:
        """Return the recurrent weights ``[N, N * S]`` in mV; requires ``w_rec``."""
        return Slot(self.recurrent_weight, unit=u.mV).quantity.in_unit(u.mV)

    def per_synapse(self, value: Any) -> Any:
        """Reshape a parameter of the synapses so that it broadcasts with ``[..., N, S]``."""
        one_each = np.ndim(value) == len(self.out_size) and np.size(value) > 1
        return value.reshape((*self.out_size, -1)) if one_each else value

    def _by_synapse(self, flat: u.Quantity) -> u.Quantity:
        return flat.reshape((*flat.shape[: flat.ndim - len(self.in_size)], *self.out_size, self.n_synapses))


def _total(I_syn: u.Quantity, ahp: u.Quantity | None) -> u.Quantity:
    # Add the terms one by one instead of with a reduction, so that `ahp` is added in the same order as the current of
    # an additional synapse.
    n_syn = I_syn.shape[-1]
    terms = [term[..., 0] * u.mV for term in jax.lax.split(I_syn.mantissa, [1] * n_syn, axis=I_syn.ndim - 1)]
    return functools.reduce(operator.add, terms if ahp is None else [*terms, ahp])


def _millivolts(value: Any) -> Any:
    return value.to(u.mV).mantissa if isinstance(value, u.Quantity) else value


def _layer_shape(size: Any, n_syn: int, w_rec: Any, call: str) -> tuple[int, ...]:
    shape = _arguments.sizes(size, call=call, name="size")
    if len(shape) > 1 and (n_syn > 1 or w_rec is not None):
        given = f"n_synapses is {n_syn}" if n_syn > 1 else "w_rec is passed"
        raise ValueError(
            f"{call}: size must have one axis if {given}; got size {shape}. "
            f"Pass size={math.prod(shape)}, or omit n_synapses and w_rec."
        )
    return shape


def _recurrent_weights(w_rec: Any, n: int, n_syn: int, call: str) -> Any:
    if w_rec is None:
        return None
    shape = (n, n * n_syn)
    if w_rec is True:
        # Rockpool's `kaiming_uniform_` uses this bound (measured: 0.1225 for 200 x 400).
        bound = math.sqrt(6 / (n * n_syn))
        w_rec = braintools.init.Uniform(-bound * u.mV, bound * u.mV)
    elif isinstance(w_rec, (bool, brainstate.State)):
        raise TypeError(
            f"{call}: w_rec must be None, True, an initializer, voltages of shape {shape} or a brainstate.nn.Param; "
            f"got {_arguments.describe(w_rec)}."
        )
    trainable, drawn = isinstance(w_rec, brainstate.nn.Param), isinstance(w_rec, Callable)  # type: ignore[arg-type]
    value = w_rec.value() if trainable else drawn_weights(w_rec, shape, call, "w_rec") if drawn else w_rec
    if drawn and not trainable and not isinstance(value, u.Quantity):
        raise TypeError(
            f"{call}: the initializer of w_rec must return voltages; got {_arguments.describe(value)}. Use an "
            "initializer with the unit mV, for example braintools.init.Normal(0. * u.mV, 0.1 * u.mV)."
        )
    value = _arguments.quantity(value, u.mV, call=call, name="w_rec")
    if value.shape == (n, n, n_syn) and not trainable:
        value = value.reshape(shape)
    if value.shape != shape:
        raise ValueError(
            f"{call}: w_rec must have shape {shape} (row: presynaptic neuron, column: postsynaptic neuron * n_synapses "
            f"+ synapse); got shape {value.shape}."
        )
    return w_rec if trainable else weight_state(value, shape, unit=u.mV, call=call, name="w_rec")


def _spike_limit(limit: Any, spk_fun: Callable[..., jax.Array], call: str) -> int | None:
    limit = spike_limit(limit, call=call, name="max_spikes_per_step")
    if limit is not None and limit > 1 and not isinstance(spk_fun, MultiSpike):
        raise ValueError(
            f"{call}: max_spikes_per_step is {limit}, but {_arguments.describe(spk_fun)} allows one spike per step. "
            "Pass spk_fun=brainhw.surrogate.StepPWL() or PeriodicExponential(), or omit max_spikes_per_step."
        )
    return limit
