"""Leaky integrate-and-fire neurons and their synapse, for networks that do not run on a chip."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, ClassVar

import brainstate
import braintools
import brainunit as u
import jax

from brainhw import _arguments, surrogate
from brainhw.kernel.leaky import Reset
from brainhw.kernel.precision import is_half, widened
from brainhw.nn.parameter import neuron_parameter, weight_state
from brainhw.nn.protocols import SequenceSynapse, Slot
from brainhw.nn.ranges import DENSE_VOLTAGE, THRESHOLD, TIME_CONSTANT, Range
from brainhw.nn.spiking import SpikingLayer, Topology, checked_spikes, tall_product

__all__ = ["LIFLayer", "LIFSynapse"]


class LIFSynapse(SequenceSynapse, brainstate.nn.Module):
    r"""Dense synapse: each spike adds the weight, which is a voltage, to the membrane potential of the target neuron.

    .. math:: x_j = \sum_i s_i W_{ij}

    Parameters
    ----------
    in_size, out_size : int
        Number of inputs and of target neurons.
    weight_init : callable or Quantity, optional
        Initializer called with ``(in_size, out_size)``, or the weights themselves. Weights are voltages.
        Default ``braintools.init.KaimingNormal(unit=u.mV)``.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    weight : brainstate.ParamState
        Weights, ``[in_size, out_size]`` in mV.

    Raises
    ------
    TypeError
        If a size is not an integer, or if the weights have the wrong type or unit.
    ValueError
        If a size is not positive, or if the weights have the wrong shape or are not finite.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u, jax.numpy as jnp
    >>> synapse = bh.nn.LIFSynapse(3, 2, weight_init=jnp.ones((3, 2)) * 0.5 * u.mV)
    >>> print(synapse(jnp.array([1.0, 0.0, 1.0])))
    [1. 1.] mV
    """

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        weight_init: Callable[..., Any] | u.Quantity | None = None,
        name: str | None = None,
    ) -> None:
        call = type(self).__name__
        super().__init__(name=_arguments.module_name(name, call=call))
        n_in = _arguments.size(in_size, call=call, name="in_size")
        n_out = _arguments.size(out_size, call=call, name="out_size")
        self.in_size, self.out_size = (n_in,), (n_out,)
        init = braintools.init.KaimingNormal(unit=u.mV) if weight_init is None else weight_init
        self.weight = weight_state(init, (n_in, n_out), unit=u.mV, call=call, name="weight_init")

    parameter_ranges: ClassVar[dict[str, Range]] = {"weight": DENSE_VOLTAGE}
    # Only initialisers and checks call `weight_slot`. The update reads `weight` directly.
    sequence_hooks: ClassVar[tuple[str, ...]] = ("weight_slot",)

    def weight_slot(self) -> Slot:
        """Return a :class:`Slot` for the weights, which are in mV."""
        return Slot(self.weight, unit=u.mV)

    def update(self, x: jax.Array) -> u.Quantity:
        """Return the voltage that each target neuron receives, ``[..., out_size]`` in mV.

        Parameters
        ----------
        x : jax.Array
            Spikes or dimensionless analog values, ``[..., in_size]``.
        """
        x = checked_spikes(x, self.in_size[-1], call=f"{type(self).__name__}.update")
        return x @ self.weight.value

    def update_sequence(self, xs: jax.Array) -> u.Quantity:
        """Return the outputs of :meth:`update` for all steps, ``[T, ..., out_size]``, as one matrix product."""
        xs = checked_spikes(xs, self.in_size[-1], call=f"{type(self).__name__}.update_sequence")
        return u.Quantity(tall_product(xs, self.weight.value.to(u.mV).mantissa), unit=u.mV)


def _orthogonal_millivolts(size: tuple[int, int]) -> u.Quantity:
    # All singular values are 0.2, so that the recurrent input is initially small compared with a threshold of 1 mV.
    # Multiply by the unit, because braintools has deprecated the argument `unit` of the initializer.
    # Compute in float32 or wider, because the matrix decomposition does not support half precision. The layer converts
    # the result.
    half = is_half(brainstate.environ.dftype())
    with brainstate.environ.context(precision=32) if half else contextlib.nullcontext():
        return braintools.init.Orthogonal(scale=0.2)(size) * u.mV


class LIFLayer(SpikingLayer):
    r"""Leaky integrate-and-fire neurons with an exact exponential leak.

    .. math::
        V' &= e^{-\Delta t/\tau} V_{t-1} + x_t \;(+\; s_{t-1} W_{rec}) \\
        s_t &= H((V' - V_{th})/V_{th})

    A spike then resets the membrane potential. The first equation is the exact solution of :math:`\tau \dot V = -V` if
    each input changes the voltage instantaneously (Gerstner et al., Neuronal Dynamics, 2014, chapter 1.3).

    Parameters
    ----------
    size : int or tuple of int
        Number of neurons ``N``, or the shape of the layer, such as ``(14, 14, 12)``.
    tau : Quantity or brainstate.nn.Param
        Membrane time constant, scalar or ``[*size]``. For a trainable time constant, pass a ``Param`` with a transform
        that keeps it positive, such as ``Param(20 * u.ms, t=brainstate.nn.SoftplusT(1 * u.ms))``.
    V_th : Quantity or brainstate.nn.Param, optional
        Threshold, scalar or ``[*size]``. For a trainable threshold, pass a ``Param``. Default 1 mV.
    reset : {'subtract', 'zero', 'none'}, optional
        Whether a spike subtracts the threshold from the membrane potential, sets the potential to zero, or does not
        reset it. Default ``'subtract'``.
    topology : {'FF', 'RC'}, optional
        ``'RC'`` adds all-to-all recurrent weights, which multiply the spikes of the previous step. The layer must then
        have one axis. Default ``'FF'``.
    recurrent_init : callable or Quantity, optional
        Initializer of the recurrent weights, or the weights themselves, ``[N, N]``. Weights are voltages. Default
        ``braintools.init.Orthogonal(scale=0.2)`` in mV.
    spk_fun : braintools.surrogate.Surrogate, optional
        Spike function of ``(V' - V_th)/V_th``. Default ``brainhw.surrogate.fast_sigmoid()``.
    detach_reset : bool, optional
        Whether to stop the gradient that flows through the spikes in the reset. Default True.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    V, spk : brainstate.HiddenState
        Membrane potential (mV) and spikes, ``[*size]`` or ``[B, *size]``.
    recurrent_weight : brainstate.ParamState
        Recurrent weights, ``[N, N]`` in mV, presynaptic neuron first. Exists only for ``'RC'``.

    Raises
    ------
    TypeError
        If an argument has the wrong type or unit. The message names the argument.
    ValueError
        If an argument has the wrong shape, is out of range, or conflicts with another argument. The message names the
        argument.

    Examples
    --------
    Without spikes, a drive of 0.5 mV in every step would raise the membrane potential towards
    ``0.5/(1 - exp(-dt/tau))`` mV. It crosses the threshold of 1 mV in the third step:

    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.LIFLayer(1, tau=10 * u.ms)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     spikes = [float(layer(jnp.array([0.5]) * u.mV)[0]) for _ in range(4)]
    >>> spikes
    [0.0, 0.0, 1.0, 0.0]
    """

    drive_unit = u.mV
    drive_word = "a voltage step"
    clamped = False
    parameter_ranges: ClassVar[dict[str, Range]] = {
        "tau": TIME_CONSTANT,
        "V_th": THRESHOLD,
        "recurrent_weight": DENSE_VOLTAGE,
    }

    def __init__(
        self,
        size: int | tuple[int, ...],
        tau: u.Quantity | brainstate.nn.Param,
        V_th: u.Quantity | brainstate.nn.Param = 1.0 * u.mV,
        *,
        reset: Reset = "subtract",
        topology: Topology = "FF",
        recurrent_init: Callable[..., Any] | u.Quantity | None = None,
        spk_fun: Callable[[jax.Array], jax.Array] | None = None,
        detach_reset: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            size,
            topology=topology,
            reset=reset,
            spk_fun=surrogate.fast_sigmoid() if spk_fun is None else spk_fun,
            detach_reset=detach_reset,
            name=name,
        )
        call = type(self).__name__
        self.tau = neuron_parameter(tau, TIME_CONSTANT, self.in_size, call=call, name="tau")
        self.V_th = neuron_parameter(V_th, THRESHOLD, self.in_size, call=call, name="V_th")
        if topology == "RC":
            init = _orthogonal_millivolts if recurrent_init is None else recurrent_init
            self.recurrent_weight = weight_state(init, self.in_size * 2, unit=u.mV, call=call, name="recurrent_init")
        elif recurrent_init is not None:
            raise ValueError(
                f"{call}: recurrent_init is passed but topology is 'FF'. Pass topology='RC', or omit recurrent_init."
            )

    def decay(self, dt: u.Quantity) -> jax.Array:
        """Return the decay factor of the membrane potential per step, ``exp(-dt/tau)``."""
        # This factor is exact for every dt, whereas the Euler factor 1 - dt/tau is negative for dt > tau.
        tau = self.tau.value() if isinstance(self.tau, brainstate.nn.Param) else self.tau
        return u.math.exp(-dt / widened(tau))

    def threshold(self) -> u.Quantity:
        """Return the threshold in mV."""
        # Convert to mV for the step, because a trainable threshold keeps the unit that the user passed.
        V_th = self.V_th.value() if isinstance(self.V_th, brainstate.nn.Param) else self.V_th
        return V_th.in_unit(u.mV)

    def to_voltage(self, drive: u.Quantity) -> u.Quantity:
        """Return ``drive`` unchanged, because the drive is already a voltage."""
        return drive

    def recurrent_matrix(self) -> u.Quantity:
        """Return the recurrent weights, ``[N, N]``; a weight is the voltage that a spike adds."""
        return self.recurrent_weight.value

    def recurrent_slot(self) -> Slot | None:
        """Return a :class:`Slot` for the recurrent weights in mV, or ``None`` for ``topology='FF'``."""
        return Slot(self.recurrent_weight, unit=u.mV) if self.topology == "RC" else None
