"""Modules for NIR nodes that no layer of brainhw stands for; each holds its own state and steps by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import surrogate
from brainhw.nn import LIFSynapse, SpikingLayer
from brainhw.nn.protocols import Slot
from brainhw.nn.spiking import tall_product, zeros

__all__ = ["BiasedSynapse", "Comparator", "CubaCurrent", "Gain", "IFLayer", "Integrator", "WholeDelay"]


class BiasedSynapse(LIFSynapse):
    r"""Dense synapse that adds a constant voltage at every step: :math:`x_j = \sum_i s_i W_{ij} + b_j`.

    Parameters
    ----------
    weight, bias : Quantity
        ``[in, out]`` and ``[out]``, voltages; both are learnt.
    """

    def __init__(self, weight: u.Quantity, bias: u.Quantity) -> None:
        super().__init__(*weight.shape, weight_init=weight)
        self.bias = brainstate.ParamState(_held(bias.to(u.mV).mantissa) * u.mV)

    def update(self, x: jax.Array) -> u.Quantity:
        """Return the voltage that the input and the bias add to each target neuron."""
        return x @ self.weight.value + self.bias.value

    def update_sequence(self, xs: jax.Array) -> u.Quantity:
        """Return what :meth:`update` returns at each step, ``[T, ..., out_size]``."""
        product = tall_product(jnp.asarray(xs), self.weight.value.to(u.mV).mantissa)
        return u.Quantity(product + self.bias.value.to(u.mV).mantissa, unit=u.mV)


class Gain(brainstate.nn.Module):
    r"""One factor for each channel, and perhaps a constant: :math:`y_i = g_i x_i + b_i`.

    Parameters
    ----------
    factor, bias : array
        ``[n]``; without a ``bias`` none is added. Both are learnt.
    unit : brainunit.Unit
        Unit of the factors: mV where a membrane is driven, ``u.UNITLESS`` elsewhere.
    """

    def __init__(self, factor: np.ndarray, bias: np.ndarray | None = None, unit: u.Unit = u.UNITLESS) -> None:
        super().__init__()
        self.in_size = self.out_size = (len(factor),)
        self.factor = brainstate.ParamState(_held(factor, unit))
        self.bias = None if bias is None else brainstate.ParamState(_held(bias, unit))

    def update(self, x: jax.Array) -> Any:
        """Return the scaled input, ``[..., n]``."""
        y = x * self.factor.value
        return y if self.bias is None else y + self.bias.value


class IFLayer(SpikingLayer):
    r"""Integrate-and-fire neurons without leak: :math:`V' = V_{t-1} + x_t`, to zero after a spike.

    Parameters
    ----------
    V_th : Quantity
        Thresholds ``[N]``.
    recurrent_weight : Quantity or None
        ``[N, N]`` voltages, presynaptic neuron first, fed by the spikes of the previous step.
    """

    drive_unit = u.mV
    drive_word = "a voltage step"
    clamped = False

    def __init__(self, V_th: u.Quantity, recurrent_weight: u.Quantity | None = None) -> None:
        topology = "FF" if recurrent_weight is None else "RC"
        spk_fun = surrogate.fast_sigmoid()
        super().__init__(V_th.shape[0], topology=topology, reset="zero", spk_fun=spk_fun, detach_reset=True, name=None)
        self.V_th = _held(V_th.to(u.mV).mantissa, u.mV)
        if recurrent_weight is not None:
            self.recurrent_weight = brainstate.ParamState(_held(recurrent_weight.to(u.mV).mantissa, u.mV))

    def decay(self, dt: u.Quantity) -> jax.Array:
        """Return one: nothing leaks."""
        return jnp.ones((), brainstate.environ.dftype())

    def threshold(self) -> u.Quantity:
        """Return the thresholds in mV."""
        return self.V_th

    def to_voltage(self, drive: u.Quantity) -> u.Quantity:
        """Return the drive itself: it is a voltage step."""
        return drive

    def recurrent_slot(self) -> Slot | None:
        """Return the recurrent weight, ``None`` without recurrence."""
        return Slot(self.recurrent_weight, u.mV) if self.topology == "RC" else None

    def recurrent_matrix(self) -> u.Quantity:
        """Return the voltage steps that the previous spikes bring back, ``[N, N]``."""
        return self.recurrent_weight.value


class _Stepping(brainstate.nn.Dynamics):
    """A module with one hidden state, at zero to begin with."""

    state_name: str
    width: tuple[int, ...]

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Create the state at zero."""
        setattr(self, self.state_name, brainstate.HiddenState(self._resting(batch_size)))

    def reset_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Write the state back to zero."""
        getattr(self, self.state_name).value = self._resting(batch_size)

    def _resting(self, batch_size: int | None) -> jax.Array:
        return zeros(self.in_size[-1], batch_size)


class Integrator(_Stepping):
    r"""Leaky integrators of a plain input: :math:`y_t = \beta y_{t-1} + g x_t + b`, numbers without a unit.

    Parameters
    ----------
    beta, gain, bias : numpy.ndarray
        ``[n]`` each.
    """

    state_name = "y"

    def __init__(self, beta: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> None:
        super().__init__((len(beta),))
        self.out_size = (len(beta),)
        self.beta, self.gain, self.bias = _held(beta), _held(gain), _held(bias)
        self.init_state()

    def update(self, x: jax.Array) -> jax.Array:
        """Advance one step and return the output, ``[..., n]``."""
        self.y.value = self.beta * self.y.value + self.gain * x + self.bias
        return self.y.value


class CubaCurrent(_Stepping):
    r"""What a current-based neuron adds to its membrane: :math:`h I_t + d x_t + b`, with :math:`I` leaking by itself.

    .. math:: I_{t+1} = \beta I_t + (1 - \beta) w x_t

    Parameters
    ----------
    beta, w_in, held, direct, bias : numpy.ndarray
        ``[n]`` each: :math:`\beta, w, h, d, b`; ``direct`` includes ``w_in``.
    unit : brainunit.Unit
        Unit of what is added.
    """

    state_name = "I_syn"

    def __init__(
        self,
        beta: np.ndarray,
        w_in: np.ndarray,
        held: np.ndarray,
        direct: np.ndarray,
        bias: np.ndarray,
        unit: u.Unit,
    ) -> None:
        super().__init__((len(beta),))
        self.out_size = (len(beta),)
        self.beta, self.into = _held(beta), _held((1 - beta) * w_in)
        self.held, self.direct, self.bias = _held(held), _held(direct), _held(bias)
        self.unit = unit
        self.init_state()

    def update(self, x: jax.Array) -> Any:
        """Return what the current and the input add in this step, and advance the current."""
        added = self.held * self.I_syn.value + self.direct * x + self.bias
        self.I_syn.value = self.beta * self.I_syn.value + self.into * x
        return added if self.unit == u.UNITLESS else added * self.unit


class Comparator(brainstate.nn.Module):
    """Spikes wherever the input is at or above a threshold, without a state.

    Parameters
    ----------
    threshold : numpy.ndarray
        ``[n]``, without a unit.
    spk_fun : callable, optional
        Spike function of ``x - threshold``. Default ``brainhw.surrogate.fast_sigmoid()``.
    """

    def __init__(self, threshold: np.ndarray, spk_fun: Callable[[jax.Array], jax.Array] | None = None) -> None:
        super().__init__()
        self.in_size = self.out_size = (len(threshold),)
        self.threshold = _held(threshold)
        self.spk_fun = surrogate.fast_sigmoid() if spk_fun is None else spk_fun

    def update(self, x: jax.Array) -> jax.Array:
        """Return spikes, ``[..., n]``."""
        return self.spk_fun(x - self.threshold)


class WholeDelay(_Stepping):
    """Hand every channel on a whole number of steps later, zero until then.

    Parameters
    ----------
    steps : numpy.ndarray
        Whole numbers ``[n]``.
    """

    state_name = "past"

    def __init__(self, steps: np.ndarray) -> None:
        super().__init__((len(steps),))
        self.out_size = (len(steps),)
        self.steps = np.asarray(steps, int)
        self.init_state()

    def _resting(self, batch_size: int | None) -> jax.Array:
        axes = () if batch_size is None else (batch_size,)
        return jnp.zeros((*axes, int(self.steps.max()), len(self.steps)), brainstate.environ.dftype())

    def update(self, x: jax.Array) -> jax.Array:
        """Return what came in ``steps`` steps ago, ``[..., n]``."""
        known = jnp.concatenate([self.past.value, jnp.asarray(x, self.past.value.dtype)[..., None, :]], axis=-2)
        self.past.value = known[..., 1:, :]
        return known[..., known.shape[-2] - 1 - self.steps, np.arange(len(self.steps))]


def _held(value: Any, unit: u.Unit = u.UNITLESS) -> Any:
    numbers = jnp.asarray(value, brainstate.environ.dftype())
    return numbers if unit == u.UNITLESS else u.Quantity(numbers, unit=unit)
