"""Modules for NIR nodes that no other module of brainhw represents."""

from __future__ import annotations

from typing import Any, ClassVar

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import surrogate
from brainhw.kernel.leaky import Reset
from brainhw.nn import LIFLayer, LIFSynapse
from brainhw.nn.ranges import Range
from brainhw.nn.spiking import Topology, tall_product, zeros

__all__ = ["BiasedSynapse", "Comparator", "CubaCurrent", "Gain", "IFLayer", "Integrator", "WholeDelay"]


class BiasedSynapse(LIFSynapse):
    r"""Dense synapse with a trainable bias that is added in every step: :math:`x_j = \sum_i s_i W_{ij} + b_j`."""

    def __init__(self, weight: u.Quantity, bias: u.Quantity) -> None:
        super().__init__(*weight.shape, weight_init=weight)
        self.bias = brainstate.ParamState(_with_unit(bias.to(u.mV).mantissa) * u.mV)

    def update(self, x: jax.Array) -> u.Quantity:
        """Return the voltage that one step adds to each target neuron."""
        return x @ self.weight.value + self.bias.value

    def update_sequence(self, xs: jax.Array) -> u.Quantity:
        """Return the result of :meth:`update` for each step, ``[T, ..., out_size]``."""
        product = tall_product(jnp.asarray(xs), self.weight.value.to(u.mV).mantissa)
        return u.Quantity(product + self.bias.value.to(u.mV).mantissa, unit=u.mV)


class Gain(brainstate.nn.Module):
    r"""A trainable factor and an optional constant per channel: :math:`y_i = g_i x_i + b_i`.

    ``unit`` is the unit of the output.
    """

    def __init__(self, factor: np.ndarray, bias: np.ndarray | None = None, unit: u.Unit = u.UNITLESS) -> None:
        super().__init__()
        self.in_size = self.out_size = np.shape(factor)
        self.factor = brainstate.ParamState(_with_unit(factor, unit))
        self.bias = None if bias is None else brainstate.ParamState(_with_unit(bias, unit))

    def update(self, x: jax.Array) -> Any:
        """Return the scaled input, ``[..., n]``."""
        y = x * self.factor.value
        return y if self.bias is None else y + self.bias.value


class IFLayer(LIFLayer):
    """Integrate-and-fire neurons: a LIFLayer with an infinite time constant."""

    parameter_ranges: ClassVar[dict[str, Range]] = {
        name: allowed for name, allowed in LIFLayer.parameter_ranges.items() if name != "tau"
    }

    def __init__(self, V_th: u.Quantity, recurrent_init: u.Quantity | None, reset: Reset = "zero") -> None:
        topology: Topology = "FF" if recurrent_init is None else "RC"
        super().__init__(V_th.shape, 1.0 * u.ms, V_th, reset=reset, topology=topology, recurrent_init=recurrent_init)
        # Set after the call above, because LIFLayer rejects an infinite time constant. The decay factor exp(-dt/inf) is
        # exactly 1.
        self.tau = np.inf * u.ms


class _OneStateModule(brainstate.nn.Dynamics):
    """Base class for modules with one state. ``state_name`` is the name of the state. The state starts at zero."""

    state_name: str

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__(size)
        self.out_size = size
        self.init_state()

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Create the state with the value zero."""
        setattr(self, self.state_name, brainstate.HiddenState(self._resting(batch_size)))

    def reset_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Reset the state to zero."""
        getattr(self, self.state_name).value = self._resting(batch_size)

    def _resting(self, batch_size: int | None) -> jax.Array:
        return zeros(self.in_size, batch_size)


class Integrator(_OneStateModule):
    r"""Dimensionless leaky integrators: :math:`y_t = \beta y_{t-1} + g x_t + b`, with parameters ``[n]``."""

    state_name = "y"

    def __init__(self, beta: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> None:
        super().__init__(np.shape(beta))
        self.beta, self.gain, self.bias = _with_unit(beta), _with_unit(gain), _with_unit(bias)

    def update(self, x: jax.Array) -> jax.Array:
        """Advance one step and return the output, ``[..., n]``."""
        self.y.value = self.beta * self.y.value + self.gain * x + self.bias
        return self.y.value


class CubaCurrent(_OneStateModule):
    r"""Synaptic current. It returns the input of the membrane potential, :math:`h I + d x_t + b` in ``unit``.

    .. math:: I_{t+1} = \beta I_t + (1 - \beta) w x_t

    All parameters are arrays ``[n]``: :math:`w` is ``w_in``, :math:`h` is ``current_factor``, :math:`d` is ``direct``
    and :math:`b` is ``bias``. :math:`I` is the new current :math:`I_{t+1}` for the order ``'current-first'``, otherwise
    the old current :math:`I_t`. :math:`d` already includes :math:`w`, and is zero unless the order is ``'together'``.
    """

    state_name = "I_syn"

    def __init__(
        self,
        beta: np.ndarray,
        w_in: np.ndarray,
        current_factor: np.ndarray,
        direct: np.ndarray,
        bias: np.ndarray,
        unit: u.Unit,
        order: str = "together",
        r: np.ndarray | None = None,
    ) -> None:
        super().__init__(np.shape(beta))
        self.beta, self.input_factor = _with_unit(beta), _with_unit((1 - beta) * w_in)
        self.current_factor, self.direct, self.bias = _with_unit(current_factor), _with_unit(direct), _with_unit(bias)
        self.unit, self.cuba_order = unit, order
        # Only an export uses `w_in` and `r`.
        self.w_in, self.r = w_in, r

    def update(self, x: jax.Array) -> Any:
        """Advance the current by one step, and return the input of the membrane potential."""
        old = self.I_syn.value
        self.I_syn.value = new = self.beta * old + self.input_factor * x
        # For the order "together", `current_factor` multiplies the old current and `direct` the input.
        current = new if self.cuba_order == "current-first" else old
        added = self.current_factor * current + self.direct * x + self.bias
        return added if self.unit == u.UNITLESS else added * self.unit


class Comparator(brainstate.nn.Module):
    """Spikes if the input is at or above a threshold ``[n]``. It has no state."""

    def __init__(self, threshold: np.ndarray) -> None:
        super().__init__()
        self.in_size = self.out_size = np.shape(threshold)
        self.threshold = _with_unit(threshold)
        self.spk_fun = surrogate.fast_sigmoid()

    def update(self, x: jax.Array) -> jax.Array:
        """Return spikes, ``[..., n]``."""
        return self.spk_fun(x - self.threshold)


class WholeDelay(_OneStateModule):
    """Delays each channel by its own number of steps, ``steps [*size]``.

    The output is zero until the first input arrives.
    """

    state_name = "past"

    def __init__(self, steps: np.ndarray) -> None:
        self.steps = np.asarray(steps, int)
        super().__init__(self.steps.shape)

    def _resting(self, batch_size: int | None) -> jax.Array:
        # The state has the length of the longest delay. Each channel reads it at its own position.
        axes = () if batch_size is None else (batch_size,)
        return jnp.zeros((*axes, int(self.steps.max()), *self.in_size), brainstate.environ.dftype())

    def update(self, x: jax.Array) -> jax.Array:
        """Return the input from ``steps`` steps ago, ``[..., *size]``."""
        axis = -1 - len(self.in_size)
        known = jnp.concatenate(
            [self.past.value, jnp.expand_dims(jnp.asarray(x, self.past.value.dtype), axis)], axis=axis
        )
        length = known.shape[axis]
        self.past.value = jax.lax.slice_in_dim(known, 1, length, axis=known.ndim + axis)
        place = np.expand_dims(length - 1 - self.steps, tuple(range(known.ndim - len(self.in_size))))
        return jnp.squeeze(jnp.take_along_axis(known, place, axis=axis), axis=axis)


def _with_unit(value: Any, unit: u.Unit = u.UNITLESS) -> Any:
    numbers = jnp.asarray(value, brainstate.environ.dftype())
    return numbers if unit == u.UNITLESS else u.Quantity(numbers, unit=unit)
