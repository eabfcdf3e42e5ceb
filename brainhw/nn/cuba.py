"""Current-based leaky integrate-and-fire neurons with several synapses each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax

from brainhw.nn.multisynapse import MultiSynapseLayer

__all__ = ["CubaLIFLayer"]


class CubaLIFLayer(MultiSynapseLayer):
    r"""Current-based leaky integrate-and-fire neurons with several synapses each, firing once or more a step.

    .. math::
        I_t &= \beta \, (I_{t-1} + x_t + s_{t-1} W_{rec}) \\
        p_t &= \alpha V_{t-1} + \textstyle\sum_k I_{t,k} + \sigma \sqrt{\Delta t} \, \xi_t + b \\
        s_t &= \text{spikes}(p_t, V_{th}) \\
        V_t &= p_t - s_t V_{th}

    with :math:`\alpha = e^{-\Delta t/\tau_{mem}}` and :math:`\beta = e^{-\Delta t/\tau_{syn}}`: the exact leak of two
    exponentials in series, with input that is decayed once as it arrives (the neuron that Rockpool calls ``LIFTorch``;
    Muir et al., Rockpool, 2019). Currents are in mV: what they add to the membrane in one step.

    Parameters
    ----------
    size : int
        Number of neurons ``N``.
    n_synapses : int, optional
        Synapses of each neuron ``S``. Default 1.
    tau_mem : Quantity or brainstate.nn.Param, optional
        Membrane time constant, scalar or ``[N]``. Default 20 ms. Only with ``leak='taus'``.
    tau_syn : Quantity or brainstate.nn.Param, optional
        Synaptic time constant, scalar, ``[N]``, ``[1, S]``, ``[N, S]`` or flat ``[N * S]``. Default 20 ms. Only with
        ``leak='taus'``. One axis means neurons, also where ``N == S``; for one value a synapse write ``[1, S]``.
    bias : Quantity or brainstate.nn.Param, optional
        Voltage added at every step, scalar or ``[N]``. Default 0 mV.
    V_th : Quantity or brainstate.nn.Param, optional
        Threshold, and what a spike subtracts, scalar or ``[N]``. Default 1 mV.
    w_rec : Quantity, callable, True, brainstate.nn.Param or None, optional
        Recurrent weights ``[N, N * S]`` (presynaptic neuron; ``post * S + synapse``) in mV, fed by the spikes of the
        previous step, or as ``[N, N, S]``; an initializer that returns voltages, called with ``(N, N * S)``; ``True``
        draws them uniformly within ``sqrt(6 / (N * S))`` mV. All are learnt; pass ``brainstate.nn.Const`` or a
        ``Param`` of shape ``[N, N * S]`` to freeze or transform them. Default ``None``: no recurrence.
    noise_std : Quantity, optional
        Membrane noise, mV per square-root second, scalar or ``[N]``: without leak its standard deviation after one
        second. Drawn anew at every step from ``brainstate.random``. Default ``None``: nothing is drawn.
    max_spikes_per_step : int, optional
        The most spikes of one neuron in one step, up to 2**24; what is left stays on the membrane. Default ``None``: no
        limit. Each spike of a strongly recurrent net can then cause more than one, and counts grow without end until
        they are infinite and the membrane NaN; a limit is the cure.
    spk_fun : MultiSpike or braintools.surrogate.Surrogate, optional
        Default ``brainhw.surrogate.StepPWL()``. An ordinary surrogate makes a neuron that fires at most once a step,
        where ``V >= V_th``; it sees ``(V - V_th)/V_th``.
    detach_reset : bool, optional
        Stop the gradient through the spikes of the reset. Default False.
    leak : {'taus', 'decays', 'bitshifts'}, optional
        What says how fast things decay. Default ``'taus'``.
    alpha, beta : float, array or brainstate.nn.Param, optional
        With ``leak='decays'``: what is left of membrane and current after one step, 0 to 1, shapes of ``tau_mem`` and
        ``tau_syn``. Default 0.5.
    dash_mem, dash_syn : float, array or brainstate.nn.Param, optional
        With ``leak='bitshifts'``: ``1 - 2**-dash`` is left after one step. Default 1.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    V, I_syn, spk : brainstate.HiddenState
        Membrane after the reset (mV, ``[N]``), currents after the decay (mV, ``[N, S]``) and spike counts (``[N]``),
        each with a leading ``[B]`` for a batch. Values in any unit of voltage may be written into them; another
        dimension or shape is refused at the next step.
    recurrent_weight : brainstate.ParamState, brainstate.nn.Param or None
        Recurrent weights.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong unit, shape or range, or belongs to another leak mode; the message names it.

    Notes
    -----
    Any parameter is learnt by passing a ``brainstate.nn.Param``; with a transform it cannot leave its range:
    ``brainstate.nn.Param(20. * u.ms, t=brainstate.nn.SoftplusT(1. * u.ms))`` stays above 1 ms.
    Without one, a threshold can be learnt to zero or below, where counting spikes makes no sense: ``prepare_net`` then
    refuses the layer, and inside a compiled function its spikes and membrane become NaN, which
    ``rollout(..., check_finite=True)`` names.

    ``V_pre`` (membrane before the reset) and ``irec`` (recurrent input before the decay) can be recorded as well.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.CubaLIFLayer(1, 2, leak="decays", alpha=0.5, beta=[[0.5, 1.0]])
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     spikes, seen = bh.rollout(layer, jnp.array([[2.0, 1.5], [0.0, 0.0]]) * u.mV, record=(".I_syn", ".V"))
    >>> print(spikes[:, 0], seen[".I_syn"][:, 0, 0], seen[".V"][:, 0])
    [2. 2.] [1.  0.5] mV [0.5  0.25] mV
    """

    def __init__(
        self,
        size: int | tuple[int],
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
        leak: str = "taus",
        alpha: Any = None,
        beta: Any = None,
        dash_mem: Any = None,
        dash_syn: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            size,
            n_synapses,
            leak=leak,
            leak_arguments={
                "tau_mem": tau_mem,
                "tau_syn": tau_syn,
                "alpha": alpha,
                "beta": beta,
                "dash_mem": dash_mem,
                "dash_syn": dash_syn,
            },
            bias=bias,
            V_th=V_th,
            w_rec=w_rec,
            noise_std=noise_std,
            max_spikes_per_step=max_spikes_per_step,
            spk_fun=spk_fun,
            detach_reset=detach_reset,
            name=name,
        )

    def own_current(self, spk: jax.Array, dt: u.Quantity) -> None:
        """Return ``None``: these neurons leave no current behind."""
        return
