"""Adaptive leaky integrate-and-fire neurons, in which each spike triggers an after-hyperpolarising current."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.nn.cuba import CubaLIFLayer
from brainhw.nn.leak import LEAKS, LeakForm, decay_factor, leak_parameter
from brainhw.nn.parameter import current_value, neuron_parameter
from brainhw.nn.protocols import Slot
from brainhw.nn.ranges import DECAY, TIME_CONSTANT, VOLTAGE, Range
from brainhw.nn.spiking import zeros

__all__ = ["ALIFLayer"]


class ALIFLayer(CubaLIFLayer):
    r"""Adaptive leaky integrate-and-fire neurons: each spike triggers a hyperpolarising current.

    .. math::
        I_t &= \beta \, (I_{t-1} + x_t + s_{t-1} W_{rec}) \\
        a_t &= \gamma \, (a_{t-1} + w_{ahp} s_{t-1}) \\
        p_t &= \alpha V_{t-1} + \textstyle\sum_k I_{t,k} + a_t + \sigma \sqrt{\Delta t} \, \xi_t + b \\
        s_t &= \text{spikes}(p_t, V_{th}) \\
        V_t &= p_t - s_t V_{th}

    where :math:`\alpha`, :math:`\beta` and :math:`\gamma` are the decay factors :math:`e^{-\Delta t/\tau}` of the
    membrane, the synapses and the after-hyperpolarisation. These are the equations of Rockpool's ``aLIFTorch``. The
    spikes are identical to those of Rockpool 3.1.0. The threshold is constant.

    Parameters
    ----------
    size, n_synapses, leak
        See :class:`CubaLIFLayer`.
    tau_ahp : Quantity or brainstate.nn.Param, optional
        Time constant of the after-hyperpolarisation, scalar or ``[N]``; accepted with every ``leak``. Default 20 ms.
    w_ahp : Quantity or brainstate.nn.Param, optional
        Voltage that each spike adds to the after-hyperpolarisation, scalar or ``[N]``. A negative value lowers the
        membrane potential. Default -0.9 mV.
    gamma : float, array or brainstate.nn.Param, optional
        Decay factor of the after-hyperpolarisation per step, 0 to 1. It replaces ``tau_ahp`` and requires
        ``leak='decays'``.
    **options
        All other arguments of :class:`CubaLIFLayer`: ``tau_mem``, ``tau_syn``, ``bias``, ``V_th``, ``w_rec``,
        ``noise_std``, ``max_spikes_per_step``, ``spk_fun``, ``detach_reset``, ``alpha``, ``beta``, ``dash_mem``,
        ``dash_syn``, ``name``.

    Attributes
    ----------
    V, I_syn, I_ahp, spk : brainstate.HiddenState
        Membrane potential after the reset (mV, ``[N]``), synaptic currents after the decay (mV, ``[N, S]``),
        after-hyperpolarisation (mV, ``[N]``) and number of spikes (``[N]``). A batch adds a leading axis ``[B]``.
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
    See :class:`CubaLIFLayer` for how to make parameters trainable, what happens if a trainable threshold reaches zero,
    how to limit the number of spikes, and which values can be recorded.

    Examples
    --------
    A spike in the first step appears in the after-hyperpolarisation one step later:

    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.ALIFLayer(1)
    >>> x = jnp.zeros((6, 1)).at[0].set(1.2) * u.mV
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     spikes, seen = bh.rollout(layer, x, record=(".I_ahp",))
    >>> print(spikes[:, 0], [round(float(a), 3) for a in seen[".I_ahp"][:3, 0] / u.mV])
    [1. 0. 0. 0. 0. 1.] [0.0, -0.856, -0.814]
    """

    parameter_ranges: ClassVar[dict[str, Range]] = {
        **CubaLIFLayer.parameter_ranges,
        "tau_ahp": TIME_CONSTANT,
        "gamma": DECAY,
        "w_ahp": VOLTAGE,
    }

    def __init__(
        self,
        size: int | tuple[int, ...],
        n_synapses: int = 1,
        *,
        tau_ahp: u.Quantity | brainstate.nn.Param | None = None,
        w_ahp: u.Quantity | brainstate.nn.Param = -0.9 * u.mV,
        leak: LeakForm = "taus",
        gamma: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(size, n_synapses, leak=leak, **options)
        call, shapes = type(self).__name__, self._per_neuron
        if gamma is not None and (leak != "decays" or tau_ahp is not None):
            reason = "tau_ahp is also passed" if leak == "decays" else f"leak is {leak!r}"
            raise ValueError(
                f"{call}: gamma replaces tau_ahp and requires leak='decays', but {reason}. "
                "Omit gamma, or pass leak='decays' without tau_ahp."
            )
        self.tau_ahp = self.gamma = None
        if gamma is None:
            tau_ahp = LEAKS["taus"].default if tau_ahp is None else tau_ahp
            self.tau_ahp = leak_parameter("taus", tau_ahp, shapes, call=call, name="tau_ahp")
        else:
            self.gamma = leak_parameter("decays", gamma, shapes, call=call, name="gamma")
        _arguments.check_transform(w_ahp, call=call, name="w_ahp")
        self.w_ahp = neuron_parameter(w_ahp, VOLTAGE, (), call=call, name="w_ahp", shapes=shapes)

    def resting_values(self, batch_size: int | None = None) -> dict[str, Any]:
        """Return a dict from the name of each state to its resting value."""
        return {**super().resting_values(batch_size), "I_ahp": zeros(self.out_size, batch_size, u.mV)}

    def own_current(self, spk: jax.Array, dt: u.Quantity) -> u.Quantity:
        """Advance the after-hyperpolarisation by one step and return it in mV; ``spk`` are the previous spikes."""
        w_ahp = current_value(self.w_ahp).in_unit(u.mV)
        # Add the spikes before the decay, as for inputs. Otherwise, the after-hyperpolarisation would not be equivalent
        # to an additional synapse.
        own = self._ahp_decay(dt) * (self.voltage_state("I_ahp") + spk * w_ahp)
        self.write_voltage("I_ahp", own)
        return own

    def _ahp_decay_and_weight(self, dt: u.Quantity) -> tuple[Any, Any]:
        return self._ahp_decay(dt), current_value(self.w_ahp)

    def as_lif_with_ahp_synapses(self) -> CubaLIFLayer:
        r"""Return an equivalent :class:`CubaLIFLayer` that models the after-hyperpolarisation by an additional synapse.

        The additional synapse of each neuron is its last synapse, with index ``S``. For neuron ``i``, this synapse has
        the time constant ``tau_ahp[i]``. It receives recurrent input only from neuron ``i``, with weight ``w_ahp[i]``:

        .. math:: \tau'_{i,S} = \tau_{ahp,i}, \qquad W'_{i,\; j(S+1)+S} = w_{ahp,i} \, \delta_{ij}

        All other parameters are unchanged. The columns of the recurrent weights are sorted by neuron, then by synapse.
        Use the new layer for hardware that has ``S + 1`` synapses per neuron but no adaptation. :meth:`widen_input`
        converts inputs of this layer to inputs of the new layer.

        Returns
        -------
        CubaLIFLayer
            The new layer, at rest, with ``S + 1`` synapses per neuron and the present parameter values. Parameters that
            are trainable in this layer are trainable in the new layer. Fixed or frozen parameters
            (``brainstate.nn.Const``, ``Param(..., fit=False)``) stay fixed.

        Notes
        -----
        The two layers agree up to rounding. XLA may round ``s @ W`` and ``exp`` differently for arrays of a different
        shape. A neuron whose membrane potential is within rounding error of its threshold may therefore fire in only
        one of the layers.

        The leak parameter of the membrane, ``bias`` and ``V_th`` keep their transform and regulariser. The leak
        parameters of the synapses and of the after-hyperpolarisation are joined into one parameter with one value per
        neuron and synapse. ``w_rec`` and ``w_ahp`` are joined into one weight matrix. Joined parameters have no
        transform and no regulariser, and entries that were fixed stay fixed. Of the added weights, only
        ``W'_{i, i(S+1)+S}`` are trainable, and only if ``w_ahp`` is trainable in this layer.

        If ``leak`` is ``'decays'`` or ``'bitshifts'`` and the layer has a ``tau_ahp``, ``dt`` must be set in
        ``brainstate.environ``. The method needs it to compute the decay factor of the after-hyperpolarisation.

        Examples
        --------
        >>> import brainhw as bh, brainunit as u
        >>> lif = bh.nn.ALIFLayer(2, tau_syn=10.0 * u.ms, tau_ahp=[50.0, 80.0] * u.ms).as_lif_with_ahp_synapses()
        >>> print(lif.tau_syn)
        [[10. 50.]
         [10. 80.]] ms
        """
        self._check_one_axis("as_lif_with_ahp_synapses")
        n, n_syn = self.n_neurons, self.n_synapses
        of_membrane, of_synapses = LEAKS[self.leak].names
        synapses = self.per_synapse(_value(getattr(self, of_synapses)))
        last = u.math.broadcast_to(self._ahp_as_synapse().reshape((-1, 1)), (n, 1))
        joined = u.math.concatenate([u.math.broadcast_to(synapses, (n, n_syn)), last], axis=1)
        trainable = np.full((n, n_syn + 1), Slot(getattr(self, of_synapses)).trainable)
        trainable[:, n_syn] = Slot(self._ahp_parameter).trainable
        leaks = {
            of_membrane: _copy(getattr(self, of_membrane)),
            of_synapses: _partly_trainable(joined, trainable) if trainable.any() else joined,
        }
        return CubaLIFLayer(
            n,
            n_syn + 1,
            **leaks,
            leak=self.leak,
            bias=_copy(self.bias),
            V_th=_copy(self.V_th),
            w_rec=self._weights_with_ahp(),
            noise_std=self.noise_std,
            max_spikes_per_step=self.max_spikes_per_step,
            spk_fun=self.spk_fun,
            detach_reset=self.detach_reset,
        )

    def widen_input(self, x: u.Quantity) -> u.Quantity:
        """Convert an input of this layer to an input of the layer from :meth:`as_lif_with_ahp_synapses`.

        Parameters
        ----------
        x : Quantity
            Input of this layer in mV, ``[..., N * S]``. Channel ``neuron * S + syn`` is synapse ``syn`` of ``neuron``.

        Returns
        -------
        Quantity
            Input of the new layer in mV, ``[..., N * (S + 1)]``. Channel ``neuron * S + syn`` becomes channel
            ``neuron * (S + 1) + syn``. The added synapse, which is the last synapse of every neuron, receives zero.

        Examples
        --------
        >>> import brainhw as bh, brainunit as u, jax.numpy as jnp
        >>> print(bh.nn.ALIFLayer(2).widen_input(jnp.array([1.0, 2.0]) * u.mV))
        [1. 0. 2. 0.] mV
        """
        call = self._check_one_axis("widen_input")
        x = _arguments.quantity(x, u.mV, call=call, name="x")
        n, n_syn = self.n_neurons, self.n_synapses
        _arguments.check_last_axis(x, n * n_syn, call=call, name="x")
        split = jnp.reshape(x.mantissa, (*x.shape[:-1], n, n_syn))
        wide = jnp.pad(split, [(0, 0)] * (split.ndim - 1) + [(0, 1)])
        return wide.reshape(*x.shape[:-1], n * (n_syn + 1)) * u.mV

    def _check_one_axis(self, method: str) -> str:
        call = f"{type(self).__name__}.{method}"
        if len(self.out_size) > 1:
            raise ValueError(
                f"{call}: the layer must have one axis, because each neuron gets an additional synapse; got size "
                f"{self.out_size}. Build it with size={self.n_neurons}."
            )
        return call

    def _weights_with_ahp(self) -> brainstate.nn.Param:
        n, n_syn = self.n_neurons, self.n_synapses
        block, flat = (n, n, n_syn), (n, n * (n_syn + 1))
        others = jnp.zeros(block) * u.mV if self.recurrent_weight is None else self.recurrent_matrix().reshape(block)
        w_ahp = u.math.diag(u.math.broadcast_to(_value(self.w_ahp).in_unit(u.mV), (n,)))
        joined = u.math.concatenate([others, w_ahp[:, :, None]], axis=2).reshape(flat)
        trainable = np.full((n, n, n_syn + 1), Slot(self.recurrent_weight).trainable)
        trainable[:, :, n_syn] = np.eye(n, dtype=bool) & Slot(self.w_ahp).trainable
        return _partly_trainable(joined, trainable.reshape(flat))

    @property
    def _ahp_parameter(self) -> Any:
        return self.tau_ahp if self.gamma is None else self.gamma

    def _ahp_decay(self, dt: u.Quantity) -> Any:
        return decay_factor("taus" if self.gamma is None else "decays", self._ahp_parameter, dt)

    def _ahp_as_synapse(self) -> Any:
        if self.leak == "taus":
            return _value(self.tau_ahp)
        call = f"{type(self).__name__}.as_lif_with_ahp_synapses"
        decay = _value(self.gamma) if self.gamma is not None else self._ahp_decay(_arguments.time_step(call=call))
        # For bit shifts, solve decay = 1 - 2**-shift for the shift, which need not be an integer.
        return decay if self.leak == "decays" else -jnp.log2(1 - decay)


def _value(parameter: Any) -> Any:
    return jax.tree.map(jnp.asarray, current_value(parameter))


def _copy(parameter: Any) -> Any:
    if not isinstance(parameter, brainstate.nn.Param):
        return parameter
    # Copy the untransformed value. Near a bound, applying the transform and its inverse would lose precision.
    held = parameter.val.value if parameter.fit else parameter.val
    copy = brainstate.nn.Param(held, reg=parameter.reg, precompute=parameter.precompute, fit=parameter.fit)
    copy.t = parameter.t
    return copy


def _partly_trainable(value: Any, trainable: np.ndarray) -> brainstate.nn.Param:
    """Return a parameter that is trainable where ``trainable`` is True and fixed at ``value`` elsewhere."""
    if not trainable.any():
        return brainstate.nn.Const(value)
    held = None if trainable.all() else functools.partial(_hold, value, trainable)
    return brainstate.nn.Param(value, precompute=held)


def _hold(value: Any, trainable: np.ndarray, moved: Any) -> Any:
    # Insert the fixed values at every use. A zero gradient would not keep them fixed, because weight decay also changes
    # parameters whose gradient is zero.
    return u.math.where(trainable, moved, value)
