"""Penalties on firing rates and parameters outside their bounds."""

from __future__ import annotations

import functools
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from brainhw import _arguments
from brainhw.train.rates import counted, mean_over_steps

__all__ = ["BoundsReg", "firing_rate_bounds_loss"]


def _check_order(lower: Any, upper: Any, call: str) -> None:
    if lower is None and upper is None:
        raise ValueError(f"{call}: lower and upper are both missing. Pass at least one of them.")
    if lower is not None and upper is not None and not lower <= upper:
        raise ValueError(f"{call}: lower must not exceed upper; got {lower} and {upper}.")


def _excess(value: Any, lower: Any, upper: Any) -> jax.Array:
    below = 0.0 if lower is None else jax.nn.relu(lower - value)
    above = 0.0 if upper is None else jax.nn.relu(value - upper)
    return below + above


def firing_rate_bounds_loss(
    spikes: jax.Array,
    lower: u.Quantity | None = None,
    upper: u.Quantity | None = None,
    *,
    scale: u.Quantity = 100.0 * u.Hz,
    lengths: jax.Array | None = None,
) -> jax.Array:
    r"""Penalise neurons whose firing rate is outside the bounds.

    .. math:: L = \frac1N \sum_j \Big(\frac{\max(r_{min} - r_j, 0) + \max(r_j - r_{max}, 0)}{\text{scale}}\Big)^2

    where :math:`r_j` is the rate of neuron :math:`j`, averaged over all steps and samples. This loss penalises each
    neuron separately, whereas :func:`firing_rate_target_mse_loss` penalises the mean rate of a layer.

    Parameters
    ----------
    spikes : jax.Array
        Spikes or spike counts, ``[T, ..., N]``.
    lower, upper : Quantity, optional
        Bounds on the rate, such as ``1 * u.Hz``. ``None`` means no bound. Pass at least one.
    scale : Quantity, optional
        Rate by which the distance from a bound is divided. Default 100 Hz.
    lengths : jax.Array, optional
        Number of steps of each sample without padding. Its shape is that of ``spikes`` without the first and the last
        axis. Rates are averaged over these steps. Default: all steps.

    Returns
    -------
    jax.Array
        A dimensionless scalar, zero if every neuron is within its bounds.

    Raises
    ------
    TypeError, ValueError
        If a bound is not a rate, both bounds are missing, ``lower`` exceeds ``upper``, or ``spikes`` is empty or not
        finite. The values of traced spikes are not checked.

    Examples
    --------
    The spikes have ten steps of 1 ms. One neuron fires in every step, the other never fires.

    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> spikes = jnp.ones((10, 1, 2)) * jnp.array([1.0, 0.0])
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     loss = bh.train.firing_rate_bounds_loss(spikes, 100 * u.Hz, 800 * u.Hz)
    >>> round(float(loss), 3)
    2.5
    """
    call = "firing_rate_bounds_loss"
    hertz = functools.partial(_arguments.quantity, unit=u.Hz, call=call, shapes=[()])
    low = None if lower is None else hertz(lower, name="lower", nonnegative=True).mantissa
    high = None if upper is None else hertz(upper, name="upper", nonnegative=True).mantissa
    per_miss = hertz(scale, name="scale", positive=True).mantissa
    _check_order(low, high, call)
    spikes = counted(spikes, call=call, name="spikes")
    if spikes.ndim < 2:
        raise ValueError(f"{call}: spikes must be [T, ..., N]; got shape {spikes.shape}.")
    if not spikes.size:
        raise ValueError(
            f"{call}: spikes must contain at least one step, sample and neuron, because rates are averaged; "
            f"got shape {spikes.shape}."
        )
    seconds = _arguments.time_step(call=call).to(u.second).mantissa
    # Average each neuron separately, so that a silent neuron is penalised even in a layer with a high mean rate.
    rates = mean_over_steps(spikes, lengths, call=call) / seconds
    return jnp.mean((_excess(rates, low, high) / per_miss) ** 2)


class BoundsReg(brainstate.nn.Regularization):
    r"""Regulariser of a ``brainstate.nn.Param``: zero between two bounds, quadratic outside.

    .. math:: L = w \sum_i \big(\max(l - x_i, 0) + \max(x_i - h, 0)\big)^2

    where the parameter and the bounds are divided by ``scale``. Pass the regulariser to the ``Param`` as ``reg=``;
    ``net.reg_loss()`` then includes it. A transform such as ``brainstate.nn.SigmoidT`` enforces bounds, but its
    gradient vanishes near them. This penalty does not enforce the bounds, but its gradient does not vanish outside
    them.

    Parameters
    ----------
    lower, upper : Quantity or float, optional
        Bounds, with the dimension of the parameter. ``None`` means no bound. Pass at least one.
    scale : Quantity or float, optional
        Value by which the distance from a bound is divided. Default: 1 in the unit of the bounds.
    weight : float, optional
        Weight :math:`w`, positive. Default 1.

    Raises
    ------
    TypeError, ValueError
        If both bounds are missing, ``lower`` exceeds ``upper``, or the dimensions of the bounds differ.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> bounds = bh.train.BoundsReg(5.0 * u.ms, 100.0 * u.ms)
    >>> layer = bh.nn.ALIFLayer(3, tau_mem=brainstate.nn.Param(np.array([3.0, 20.0, 101.0]) * u.ms, reg=bounds))
    >>> float(layer.reg_loss())
    5.0
    """

    def __init__(self, lower: Any = None, upper: Any = None, *, scale: Any = None, weight: float = 1.0) -> None:
        call = type(self).__name__
        super().__init__()
        units = [u.get_unit(b) for b in (lower, upper, scale) if isinstance(b, u.Quantity)]
        self.unit = units[0] if units else u.UNITLESS
        self.lower = None if lower is None else self._number(lower, call, "lower")
        self.upper = None if upper is None else self._number(upper, call, "upper")
        self.scale = 1.0 if scale is None else self._number(scale, call, "scale", positive=True)
        self.weight = _arguments.number(weight, call=call, name="weight", positive=True)
        _check_order(self.lower, self.upper, call)

    def _number(self, value: Any, call: str, name: str, *, positive: bool = False) -> float:
        if self.unit == u.UNITLESS:
            return _arguments.number(value, call=call, name=name, positive=positive)
        return _arguments.quantity(value, self.unit, call=call, name=name, shapes=[()], positive=positive).mantissa

    def loss(self, value: Any) -> jax.Array:
        """Return the penalty of a parameter, a dimensionless scalar."""
        call = type(self).__name__
        if self.unit != u.UNITLESS:
            value = _arguments.quantity(value, self.unit, call=call, name="the parameter").mantissa
        elif isinstance(value, u.Quantity):
            raise TypeError(
                f"{call}: the bounds have no unit, but the parameter is {_arguments.describe(value)}. Pass bounds of "
                f"its dimension, for example {call}(upper=1. * u.{_arguments.unit_name(u.get_unit(value))})."
            )
        else:
            value = _arguments.as_array(value, call=call, name="the parameter")
        return self.weight * jnp.sum((_excess(jnp.asarray(value), self.lower, self.upper) / self.scale) ** 2)

    def sample_init(self, shape: tuple[int, ...]) -> Any:
        """Draw values from a uniform distribution between the bounds. Raise if a bound is missing."""
        call = type(self).__name__
        if self.lower is None or self.upper is None:
            raise ValueError(f"{call}: lower and upper are both required to sample initial values. Pass both.")
        given = (
            [shape] if not hasattr(shape, "__len__") else _arguments.several(shape, call=call, name="shape", of="sizes")
        )
        shape = tuple(_arguments.whole_number(n, call=call, name="shape", most=_arguments.LONGEST_AXIS) for n in given)
        drawn = brainstate.random.uniform(self.lower, self.upper, shape)
        return drawn if self.unit == u.UNITLESS else drawn * self.unit

    def reset_value(self) -> Any:
        """Return the value within the bounds that is nearest to zero."""
        value = max(self.lower if self.lower is not None else 0.0, 0.0)
        value = min(value, self.upper) if self.upper is not None else value
        return value if self.unit == u.UNITLESS else value * self.unit
