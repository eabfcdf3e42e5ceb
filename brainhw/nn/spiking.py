"""Base class for leaky integrate-and-fire layers: states, update, and checks of the input."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from brainstate._state import TRACE_CONTEXT

from brainhw import _arguments
from brainhw._settings import note_settings
from brainhw.kernel.events import event_product
from brainhw.kernel.leaky import RESETS, Firing, LeakyParameters, LeakyRules, LeakyState, per_sample, run
from brainhw.kernel.precision import as_dtype, narrowed, state_dtype, wide
from brainhw.kernel.recorded import membrane_after
from brainhw.nn.protocols import Slot, tap, tapped_now
from brainhw.nn.recorded import recorded_for, recorded_now
from brainhw.surrogate.forward import forward_of

__all__ = [
    "TOPOLOGIES",
    "RestingStates",
    "SpikingLayer",
    "check_spike_function",
    "checked_batch",
    "checked_drive",
    "checked_spikes",
    "drives_over_time",
    "no_spikes",
    "reads_own_states",
    "step_size",
    "tall_product",
    "zeros",
]

Topology = Literal["FF", "RC"]
TOPOLOGIES: tuple[Topology, ...] = get_args(Topology)


class RestingStates(brainstate.nn.Dynamics):
    """A module whose states are all reset to their resting values before each batch."""

    @abc.abstractmethod
    def resting_values(self, batch_size: int | None = None) -> dict[str, Any]:
        """Return a dict from the name of each state to its resting value."""

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Create the states at rest, ``[*size]`` or ``[batch_size, *size]``, or reset existing states."""
        resting = self.resting_values(checked_batch(batch_size, self, "init_state"))
        # Outside traces, keep the existing state objects, because compiled functions continue to use them. Traces and
        # brainstate's mapping over states need new objects.
        reuses_states = (
            not TRACE_CONTEXT.state_stack and not TRACE_CONTEXT.new_state_catcher and _arguments.is_concrete(resting)
        )
        for name, value in resting.items():
            state: Any = getattr(self, name, None)
            if reuses_states and type(state) is brainstate.HiddenState and not state.stack_level and not state.tag:
                state.value = value
            else:
                setattr(self, name, brainstate.HiddenState(value))

    def reset_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Reset the states to their resting values, ``[*size]`` or ``[batch_size, *size]``."""
        batch_size = checked_batch(batch_size, self, "reset_state")
        for name, value in self.resting_values(batch_size).items():
            getattr(self, name).value = value


class SpikingLayer(RestingStates):
    r"""Base class for layers with leaky integration, threshold and reset; subclasses define the parameters.

    One step with the drive :math:`x_t` computes

    .. math::
        V' &= \beta V_{t-1} + g(x_t + s_{t-1} R) \quad\text{(at least 0 if the membrane is clamped)} \\
        s_t &= H((V' - V_{th}) / V_{th}) \\
        V_t &= \text{reset}(V', s_t)

    A subclass defines the decay factor :math:`\beta` (``decay``), the linear map :math:`g` from drive to voltage
    (``to_voltage``), the recurrent weights :math:`R` (``recurrent_matrix``), the threshold :math:`V_{th}`
    (``threshold``), and whether the membrane potential is ``clamped`` at zero. Override ``firing`` for a different
    reset, and ``refractory_steps`` for a refractory period. If a subclass overrides only members in ``sequence_hooks``,
    it can process a whole sequence at once (``update_sequence``). Otherwise, it runs step by step.

    Parameters
    ----------
    size : int or tuple of int
        Number of neurons, or the shape of the layer, such as ``(14, 14, 12)``.
    topology : {'FF', 'RC'}
        ``'RC'`` adds dense recurrent weights; the layer must then have one axis.
    reset : {'subtract', 'zero', 'none'}
        Whether a spike subtracts the threshold from the membrane potential, sets the potential to zero, or does not
        reset it.
    spk_fun : callable
        Spike function of ``(V' - V_th) / V_th``.
    detach_reset : bool
        Whether to stop the gradient that flows through the spikes in the reset.
    name : str or None
        Name of the module.

    Attributes
    ----------
    V : brainstate.HiddenState
        Membrane potential after the reset, mV, ``[*size]`` or ``[B, *size]``. The potential before the reset can be
        recorded as ``V_pre``.
    spk : brainstate.HiddenState
        Spikes of the last step, 0 or 1, with the shape of ``V``.
    wait : brainstate.HiddenState or None
        Remaining steps of the refractory period, with the shape of ``V``. ``None`` without a refractory period.

    Examples
    --------
    A layer whose neurons reset to a fifth of the threshold and have a refractory period of two steps:

    >>> from dataclasses import dataclass
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> @dataclass(frozen=True)
    ... class ToRest(bh.kernel.Firing):
    ...     def after(self, V, spk, V_th):
    ...         return jnp.where(spk > 0, 0.2 * V_th, V)
    >>> class RestingLayer(bh.nn.LIFLayer):
    ...     refractory_steps = 2
    ...     def firing(self):
    ...         return ToRest(self.spk_fun, self.reset, self.detach_reset, self.clamped, self.refractory_steps)
    >>> layer = RestingLayer(1, tau=10 * u.ms)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     print([float(layer(jnp.array([1.0]) * u.mV)[0]) for _ in range(4)], layer.V.value)
    [1.0, 0.0, 0.0, 1.0] [0.2] mV
    """

    drive_unit: u.Unit
    drive_word: str
    clamped: bool
    refractory_steps: int = 0
    """Number of steps after a spike during which the neuron ignores its drive and does not fire.

    A subclass must set it before it calls the constructor of this class.
    """

    wait: brainstate.HiddenState | None = None

    def __init__(
        self,
        size: int | tuple[int, ...],
        *,
        topology: str,
        reset: str,
        spk_fun: Callable[[jax.Array], jax.Array],
        detach_reset: bool,
        name: str | None,
    ) -> None:
        call = type(self).__name__
        shape = _arguments.sizes(size, call=call, name="size")
        super().__init__(shape, name=_arguments.module_name(name, call=call))
        self.spk_fun = check_spike_function(spk_fun, call)
        self.topology = _arguments.choice(topology, TOPOLOGIES, call=call, name="topology")
        if topology == "RC" and len(shape) > 1:
            raise ValueError(
                f"{call}: topology='RC' requires a size with one axis, because recurrent weights are dense; got size "
                f"{shape}. Use topology='FF', or size={math.prod(shape)}."
            )
        self.reset = _arguments.choice(reset, RESETS, call=call, name="reset")
        self.detach_reset = _arguments.flag(detach_reset, call=call, name="detach_reset")
        # Do not call `self.init_state()`. A subclass may override it and need attributes that its constructor sets
        # later.
        RestingStates.init_state(self)

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return math.prod(self.in_size)

    @abc.abstractmethod
    def decay(self, dt: u.Quantity) -> jax.Array:
        """Return the decay factor of the membrane potential per step, scalar or ``[*size]``."""

    @abc.abstractmethod
    def threshold(self) -> u.Quantity:
        """Return the firing threshold in mV, scalar or ``[*size]``."""

    @abc.abstractmethod
    def to_voltage(self, drive: u.Quantity) -> u.Quantity:
        """Return the voltage in mV that a drive adds to the membrane potential; it must be linear in the drive."""

    @abc.abstractmethod
    def recurrent_matrix(self) -> u.Quantity:
        """Return the drive per spike of each recurrent connection, ``[N, N]``; only called for ``'RC'``."""

    def recurrent_drive(self, spk: jax.Array) -> u.Quantity:
        """Return the drive that the spikes of the previous step cause; only called for ``'RC'``."""
        return spk @ self.recurrent_matrix()

    def recurrent_slot(self) -> Slot | None:
        """Return a :class:`Slot` for the recurrent weights, or ``None`` for ``topology='FF'``."""
        if self.topology == "FF":
            return None
        raise NotImplementedError(
            f"{type(self).__name__}.recurrent_slot: a layer with topology 'RC' must override this method. "
            "Return a brainhw.nn.protocols.Slot of the recurrent weight."
        )

    def firing(self) -> Firing:
        """Return the object that computes the spikes and applies the reset."""
        return Firing(self.spk_fun, self.reset, self.detach_reset, self.clamped, self.refractory_steps)

    def resting_values(self, batch_size: int | None = None) -> dict[str, Any]:
        """Return a dict from the name of each state to its resting value."""
        resting = {"V": zeros(self.in_size, batch_size, u.mV), "spk": no_spikes(self.in_size, batch_size)}
        return resting | ({"wait": zeros(self.in_size, batch_size)} if self.refractory_steps else {})

    def integrate(self, V: u.Quantity, drive: u.Quantity, dt: u.Quantity) -> u.Quantity:
        """Return the membrane potential one step later, from leak and drive only, without clamp, spike or reset."""
        return per_sample(self.decay(dt), V) * V + self.to_voltage(drive)

    def subthreshold(self, xs: u.Quantity) -> u.Quantity:
        """Return the membrane potential ``[T, ..., *size]`` in mV that the drives ``xs [T, ..., *size]`` cause.

        The potential starts at rest and is computed without clamp, spikes and reset. The states of the layer do not
        change.
        """
        call = f"{type(self).__name__}.subthreshold"
        dt = _arguments.time_step(call=call)
        xs = drives_over_time(xs, self.drive_unit, size=self.in_size, call=call)

        # Call `integrate` instead of the kernel, so that a subclass may override `integrate`.
        def one_step(V: u.Quantity, drive: u.Quantity) -> tuple[u.Quantity, jax.Array]:
            V = self.integrate(V, drive, dt)
            return V, V.mantissa

        rest = jnp.zeros(xs.shape[1:], wide(xs.dtype)) * u.mV
        return u.Quantity(brainstate.transform.scan(one_step, rest, xs)[1], unit=u.mV)

    def update(self, x: u.Quantity) -> jax.Array:
        """Advance one step and return the spikes, 0 or 1, with the shape of ``x``.

        Parameters
        ----------
        x : Quantity
            The drive that arrives in this step, ``[*size]`` or ``[B, *size]``.
        """
        drive, dt = self._checked(x, f"{type(self).__name__}.update")
        # Recurrent input comes from the spikes of the previous step, because those of this step do not exist yet.
        if self.topology == "RC":
            drive = drive + self.recurrent_drive(as_dtype(jnp.asarray(self.spk.value), self.V.value.dtype))
        charged = self.integrate(self.V.value, drive, dt).to(u.mV).mantissa
        wait = None if self.wait is None else self.wait.value
        recorded = () if recorded_now.get() is None else recorded_for(self)
        V_pre, spk, V, wait = self.firing().advance(
            self.V.value.mantissa, charged, self.threshold().mantissa, wait, recorded
        )
        if tapped_now.get() is not None:
            tap(self, "V_pre", V_pre * u.mV)
        self.V.value = u.Quantity(V, unit=u.mV)
        self.spk.value = spk = as_dtype(spk, jnp.result_type(self.spk.value))
        if self.wait is not None:
            self.wait.value = wait
        return spk

    sequence_records = ("V", "V_pre", "spk")
    can_be_cut = True
    # `recurrent_drive` and `integrate` are not listed, because `update_sequence` does not call them.
    _hooks: ClassVar[tuple[str, ...]] = (
        "clamped",
        "decay",
        "drive_unit",
        "drive_word",
        "family",
        "firing",
        "init_state",
        "pin_chip",
        "prepare",
        "preset",
        "quiet",
        "recurrent_matrix",
        "recurrent_slot",
        "refractory_steps",
        "reset_state",
        "resting_values",
        "subthreshold",
        "threshold",
        "to_voltage",
    )

    @property
    def sequence_hooks(self) -> tuple[str, ...]:
        """Members that a subclass may override without invalidating `update_sequence`.

        Their results must not change from step to step.
        """
        states = {name for name, state in vars(self).items() if isinstance(state, brainstate.HiddenState)}
        # In a layer with an additional state, such as an adaptive threshold, the result of a hook may change from step
        # to step, but `update_sequence` calls each hook only once.
        known = states <= {"V", "spk", "wait"}
        called = ("threshold", "recurrent_matrix") if self.topology == "RC" else ("threshold",)
        return self._hooks if known and not reads_own_states(self, *called) else ()

    def gains_from_sequence(self) -> bool:
        """Return True, because processing a whole sequence at once saves memory in the backward pass."""
        return True

    def update_sequence(self, xs: u.Quantity) -> jax.Array:
        """Return the outputs of :meth:`update` for all steps of ``xs [T, ..., *size]``, and update the states."""
        # Check all steps at once. Inside `jit`, the check takes no time; outside, it reads the data only once.
        drives, dt = self._checked(xs, f"{type(self).__name__}.update_sequence", steps=True)
        V, spk = self.V.value.to(u.mV).mantissa, jnp.asarray(self.spk.value)
        # The time loop computes in the precision of the membrane potential, even if weights and spikes have half
        # precision.
        V_th = as_dtype(jnp.asarray(self.threshold().mantissa), V.dtype)
        firing = self.firing()
        is_step = self.topology == "RC" and forward_of(firing.spk_fun) == "step"
        rules = LeakyRules(firing, self._millivolts, is_step=is_step)
        recurrent = None
        if self.topology == "RC":
            recurrent = as_dtype(self.recurrent_matrix().to(self.drive_unit).mantissa, V.dtype)
        parameters = LeakyParameters(as_dtype(jnp.asarray(self.decay(dt)), V.dtype), V_th, recurrent)
        precision, spk = spk.dtype, as_dtype(spk, V.dtype)
        wait = None if self.wait is None else self.wait.value
        recorded = () if recorded_now.get() is None else recorded_for(self)
        state, trace = run(rules, parameters, LeakyState(V, spk, wait), drives.mantissa, recorded)
        if tapped_now.get() is not None:
            tap(self, "V_pre", trace.V_pre * u.mV)
            V = trace.V
            if V is None:
                V = jax.vmap(lambda V_pre, spk: rules.firing.after(V_pre, spk, V_th))(trace.V_pre, trace.spk)
                V = membrane_after(recorded, V, V_th) if recorded else V
            tap(self, "V", V * u.mV)
            tap(self, "spk", as_dtype(trace.spk, precision))
        self.V.value = u.Quantity(state.V, unit=u.mV)
        self.spk.value = as_dtype(state.spk, precision)
        if self.wait is not None:
            self.wait.value = state.wait
        return as_dtype(trace.spk, precision)

    def _millivolts(self, drive: jax.Array) -> jax.Array:
        return self.to_voltage(u.Quantity(drive, unit=self.drive_unit)).to(u.mV).mantissa

    def _checked(self, x: Any, call: str, *, steps: bool = False) -> tuple[u.Quantity, u.Quantity]:
        dt = step_size(call)
        drive = checked_drive(
            x,
            self.drive_unit,
            self.drive_word,
            size=self.in_size,
            state_shape=np.shape(self.V.value.mantissa),
            call=call,
            source="Pass spikes through a synapse of the same family first.",
            steps=steps,
        )
        return narrowed(drive, self.V.value.dtype), dt


# The functions below check dt, input and drive. They handle the usual case without a call to `_arguments`, because
# outside `jit` they run in every step.


def step_size(call: str) -> u.Quantity:
    """Return dt from ``brainstate.environ`` in ms. If it is not set, raise an error that explains how to set it."""
    dt = brainstate.environ.get("dt", default=None)
    plain = isinstance(dt, u.Quantity) and type(dt.mantissa) in (int, float) and dt.unit == u.ms
    if plain and 0 < dt.mantissa < math.inf:
        if TRACE_CONTEXT.state_stack:
            note_settings()
        return u.Quantity(float(dt.mantissa), unit=u.ms)
    return _arguments.time_step(call=call)


def check_spike_function(
    spk_fun: Any, call: str, example: str = "brainhw.surrogate.fast_sigmoid()"
) -> Callable[..., jax.Array]:
    """Return ``spk_fun``. Raise TypeError if it is not callable, or if it is a class instead of an instance."""
    # Reject classes, although they are callable. They would take the membrane potential as the argument ``slope``.
    if not callable(spk_fun) or isinstance(spk_fun, type):
        raise TypeError(
            f"{call}: spk_fun must be a spike function, for example {example}; got {_arguments.describe(spk_fun)}."
        )
    return spk_fun


def checked_drive(
    x: Any,
    unit: u.Unit,
    word: str,
    *,
    size: tuple[int, ...],
    state_shape: tuple[int, ...],
    call: str,
    source: str,
    steps: bool = False,
) -> u.Quantity:
    """Return the drive ``x`` in ``unit``. Raise if it is invalid for states of shape ``state_shape``.

    In error messages, ``word`` describes the drive, and ``source`` explains which module computes it. With
    ``steps=True``, ``x`` is a whole sequence.
    """
    fits = isinstance(x, u.Quantity) and x.unit == unit and np.shape(x.mantissa)[1 if steps else 0 :] == state_shape
    if fits and _is_finite(x.mantissa):
        return x
    if not isinstance(x, u.Quantity) or not u.have_same_dim(x, unit):
        raise TypeError(
            f"{call}: the input must be a Quantity with the dimension of {unit} ({word}); "
            f"got {_arguments.describe(x)}. {source}"
        )
    _arguments.check_axes(x, size, call=call, name="the input", steps=steps)
    shape = np.shape(x.mantissa)[1:] if steps else np.shape(x.mantissa)
    if shape != state_shape:
        batch = shape[0] if len(shape) > len(size) else None
        raise ValueError(
            f"{call}: the input has shape {x.shape} but the state was prepared for {state_shape}; "
            f"call brainhw.prepare_net(net, batch_size={batch}) before the time loop."
        )
    _arguments.check_finite(x, call=call, name="the input")
    return u.Quantity(_arguments.as_array(x.mantissa, call=call, name="the input"), unit=x.unit).in_unit(unit)


def reads_own_states(module: brainstate.nn.Module, *members: str) -> bool:
    """Return whether a method of ``module`` that is named in ``members`` reads a hidden state of ``module``.

    The result of such a method can change from step to step, but ``update_sequence`` calls it only once. Methods that
    brainhw defines are not tested. If a method raises an error, the result is True, so that the layer runs step by step
    and raises the error there.
    """
    own = {id(state) for state in vars(module).values() if isinstance(state, brainstate.HiddenState)}
    for name in members:
        method = getattr(module, name)
        if str(getattr(method, "__module__", "")).split(".")[0] == "brainhw":
            continue
        with brainstate.StateTraceStack() as reads:
            try:
                method()
            # User code may raise any error.
            except Exception:
                return True
        if any(id(state) in own for state in reads.states):
            return True
    return False


def checked_batch(value: Any, module: Any, method: str) -> int | None:
    """Check a batch size and return it; ``None`` means one sample without a batch axis."""
    # Return early in the usual case, because every layer runs this check before each batch.
    if value is None or (type(value) is int and 0 < value <= _arguments.LONGEST_AXIS):
        return value
    call = f"{type(module).__name__}.{method}"
    return _arguments.positive_int(value, call=call, name="batch_size", most=_arguments.LONGEST_AXIS)


def drives_over_time(xs: Any, unit: u.Unit, *, size: tuple[int, ...], call: str) -> u.Quantity:
    """Return the drives ``xs [T, ..., *size]`` in ``unit``. Raise if they are invalid.

    The number of batch axes is not restricted.
    """
    if not isinstance(xs, u.Quantity) or not u.have_same_dim(xs, unit):
        raise TypeError(f"{call}: xs must be a Quantity with the dimension of {unit}; got {_arguments.describe(xs)}.")
    shape = np.shape(xs.mantissa)
    if len(shape) <= len(size) or shape[-len(size) :] != tuple(size) or 0 in shape:
        axes = ", ".join(map(str, size))
        raise ValueError(f"{call}: xs must have shape [T, ..., {axes}] without an axis of length 0; got shape {shape}.")
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(f"{call}: xs must contain real numbers; got {_arguments.describe(xs)}.")
    _arguments.check_finite(xs, call=call, name="xs")
    return xs.in_unit(unit)


def checked_spikes(x: Any, n: int, *, call: str) -> Any:
    """Return the input ``[..., n]`` of a synapse as a plain array. Raise if it is invalid."""
    if isinstance(x, jax.Array) and x.ndim and x.shape[-1] == n and _is_finite(x):
        return jnp.asarray(x)
    return _arguments.step_input(x, n, call=call)


def _is_finite(numbers: Any) -> bool:
    """Return whether all elements of an array are finite; real traced values count as finite."""
    if isinstance(numbers, jax.core.Tracer):
        return numbers.dtype.kind != "c"
    # Return False for dtypes that NumPy cannot test (keys, small floats) or that JAX cannot read (other byte order), so
    # that the caller runs the full check.
    return numbers.dtype.kind in "fiub" and numbers.dtype.isnative and bool(np.isfinite(np.asarray(numbers)).all())


def zeros(size: int | tuple[int, ...], batch_size: int | None, unit: u.Unit = u.UNITLESS) -> Any:
    """Return zeros for a state, ``[*size]`` or ``[batch_size, *size]``, in float32 or wider."""
    mantissa = jnp.zeros(_batched(size, batch_size), dtype=state_dtype())
    return mantissa if unit == u.UNITLESS else u.Quantity(mantissa, unit=unit)


def no_spikes(size: int | tuple[int, ...], batch_size: int | None) -> jax.Array:
    """Return zeros for spikes, ``[*size]`` or ``[batch_size, *size]``, in the precision of the network."""
    return jnp.zeros(_batched(size, batch_size), dtype=brainstate.environ.dftype())


def _batched(size: int | tuple[int, ...], batch_size: int | None) -> tuple[int, ...]:
    shape = (size,) if isinstance(size, int) else tuple(size)
    return shape if batch_size is None else (batch_size, *shape)


def tall_product(xs: jax.Array, weights: jax.Array) -> jax.Array:
    """Return ``xs [..., N_in] @ weights [N_in, N_out]``, computed as one product of two-dimensional matrices."""
    # With two-dimensional matrices, the gradient is a single matrix product too. The sizes are explicit, because NumPy
    # cannot infer a size of -1 for an empty sequence.
    rows = math.prod(xs.shape[:-1])
    product = event_product(xs.reshape(rows, xs.shape[-1]), weights)
    return product.reshape(*xs.shape[:-1], weights.shape[-1])
