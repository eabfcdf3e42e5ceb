"""Fractional neurons, whose membrane follows derivatives of fractional order and remembers all of its past."""

from __future__ import annotations

from typing import Any

import brainunit as u

from brainhw import _arguments, surrogate
from brainhw.nn.fractional_layer import FractionalLayer

__all__ = ["FractionalIFLayer", "FractionalLIFLayer", "spikede_preset"]


class FractionalLIFLayer(FractionalLayer):
    r"""Leaky integrate-and-fire neurons of fractional order: the past fades as a power of time, not exponentially.

    .. math:: \tau \sum_j w_j D^{\alpha_j} V = -V + x, \qquad V(0) = 0

    with time measured in ``time_scale``. By default that is ``tau`` itself, and one term reads
    :math:`\tau^\alpha D^\alpha V = -V + x`. A neuron fires where its voltage reaches ``V_th``. At order 1 it is the
    ordinary neuron (explicit Euler; the trapezoidal rule for ``method='cn'``). From rest, the derivatives of
    Riemann-Liouville and of Caputo are the same.

    Parameters
    ----------
    size : int or tuple of int
        Number of neurons ``N``, or the shape of the layer; ``[N]`` below is then ``[*size]``.
    alpha : float, list, array or brainstate.nn.Param, optional
        Orders, above 0 and at most 1. A number is one term for all neurons; a list holds one entry per term, a number
        or an array ``[N]``; an array ``[N]`` is one term with an order per neuron, ``[J, N]`` both. A ``Param`` holds a
        number, ``[N]`` or ``[J, N]``. Default 0.5.
    coefficients : list, array or brainstate.nn.Param, optional
        The factors :math:`w_j`, dimensionless, one per term. Default ones.
    tau, V_th : Quantity or brainstate.nn.Param, optional
        Time constant and threshold, scalar or ``[N]``. Default 20 ms and 1 mV.
    time_scale : Quantity, optional
        The time in which the derivatives are measured. Default ``None``: ``tau``.
    method : {'gl', 'l1', 'trap', 'pred', 'cn'}, optional
        The scheme: Gruenwald-Letnikov (default; the only one for several terms), L1 (``'trap'`` is the same from rest),
        the product rectangle rule, all explicit and of order 1 in the step; or a fractional Crank-Nicolson rule,
        implicit and of order 2.
    memory : int, optional
        With ``kernel='dense'``: forget all steps but the last this many. Default ``None``: forget nothing.
    kernel : {'soe', 'dense'}, optional
        Hold the past as leaky sums whose exponentials add up to the weights (default; constant time and memory), or
        step by step, exactly.
    n_exponentials : int, optional
        Number of leaky sums, 4 to 128. Default 24: for ``gl``, ``l1`` and ``cn`` a :func:`brainhw.kernel.weight_error`
        below 2e-6 over the default horizon. :func:`brainhw.kernel.n_exponentials` finds the number for a tolerance.
    horizon : int, optional
        Number of steps over which the leaky sums follow the weights; beyond them the past fades. Default 4096 for runs
        of any length. ``kernel='dense'`` needs it: the steps of the longest run. :func:`brainhw.rollout` refuses a
        longer one; in other compiled loops the voltage becomes NaN.
    reset : {'current', 'subtract', 'zero'}, optional
        A spike subtracts ``V_th`` from the drive of its step, so that its trace fades like that of any input (default);
        or subtracts ``V_th`` from the voltage; or sets the voltage to zero.
    history : {'keep', 'clear'}, optional
        Remember the past over a spike (default), or start anew from the voltage after the reset; not with
        ``reset='current'``.
    lookahead : Quantity, optional
        Decide a spike before the step, at the voltage extrapolated by this time. Default ``None``: decide it at the
        voltage that the step reaches.
    learn_alpha, learn_coefficients : bool or 'raw', optional
        Learn them: ``True`` keeps orders between 0 and 1 and coefficients above 0, ``'raw'`` does not. Default False.
    learn_tau : bool, optional
        Learn the time constant, by shares, above 0. Default False.
    detach_reset : bool, optional
        Stop the gradient through the spikes of the reset. Default True.
    memory_rule : {'past', 'spikede'}, optional
        Whether ``memory=M`` keeps ``M`` past values (default) or ``M - 1`` as spikeDE does.
    alpha_rule : {'exact', 'spikede'}, optional
        Whether the gradient by ``alpha`` is right (default) or leaves out the Gamma function as spikeDE does.
    spk_fun : braintools.surrogate.Surrogate, optional
        Spike function of ``(V - V_th) / V_th``. Default ``brainhw.surrogate.fast_sigmoid()``.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    V, spk : brainstate.HiddenState
        Voltage after the step (mV) and spikes, ``[N]`` or ``[B, N]``; only for reading, ``slots`` determine them.
    slots : brainstate.HiddenState
        The past, mV, ``[slots, N]`` or ``[slots, B, N]``; some options add ``position``, ``V_offset`` and ``x_before``.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong unit, shape or range, or does not go with another; the message names it.

    Notes
    -----
    The neuron moves towards its drive: a constant drive of ``V_th`` just reaches threshold. One step of drive counts
    about :math:`(\Delta t/\tau)^\alpha`, so weights must be larger than for a :class:`LIFLayer`.

    With learnt orders, coefficients or time constants only reverse-mode derivatives exist (``grad``, not ``jvp``).
    In a ``Sequential``, :func:`brainhw.rollout` runs the layer over the whole sequence at once where that is faster.

    References
    ----------
    W. Teka, T. M. Marinov, F. Santamaria, Neuronal spike timing adaptation described with a fractional leaky
    integrate-and-fire model, PLoS Comput. Biol. 10, 2014. Ge et al., Fractional-order spiking neural network, 2025
    (spikeDE), whose equations :func:`spikede_preset` gives term by term.

    Examples
    --------
    At a constant drive, a neuron of low order moves fast at first and slowly later:

    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.FractionalLIFLayer(2, alpha=jnp.array([0.5, 1.0]), tau=10 * u.ms, V_th=2 * u.mV)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     _, seen = bh.rollout(layer, jnp.ones((40, 2)) * u.mV, record=(".V",))
    >>> print((100 * seen[".V"][jnp.array([0, 9, 39])].mantissa).round().astype(int))
    [[32 10]
     [58 65]
     [75 99]]
    """

    leak_factor = 1.0


class FractionalIFLayer(FractionalLayer):
    r"""Integrate-and-fire neurons of fractional order, without a leak.

    .. math:: \tau \sum_j w_j D^{\alpha_j} V = x, \qquad V(0) = 0

    Arguments, attributes and errors are those of :class:`FractionalLIFLayer`.

    Examples
    --------
    At order 1 the voltage is the sum of the drive:

    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.FractionalIFLayer(1, alpha=1.0, tau=10 * u.ms)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     _, seen = bh.rollout(layer, jnp.ones((5, 1)) * u.mV, record=(".V",))
    >>> print((100 * seen[".V"][:, 0].mantissa).round().astype(int))
    [10 20 30 40 50]
    """

    leak_factor = 0.0


def spikede_preset(time_unit: u.Quantity = 1.0 * u.ms) -> dict[str, Any]:
    """Return the options with which a fractional layer does what spikeDE 0.1.0 does, term by term.

    Time is measured in ``time_unit``; a spike is decided one unit ahead and resets through the current; the surrogate
    is an arctan of scale 5. Three faults are repeated: ``memory`` is off by one, no gradient flows through the Gamma
    function, and ``l1`` forgets everything at order 1.

    Parameters
    ----------
    time_unit : Quantity, optional
        The time that spikeDE's numbers count. Default 1 ms.

    Returns
    -------
    dict
        Keyword arguments of :class:`FractionalLIFLayer` and :class:`FractionalIFLayer`.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> layer = bh.nn.FractionalLIFLayer(4, alpha=0.6, tau=2 * u.ms, **bh.nn.spikede_preset())
    >>> layer.reset, layer.memory_rule, layer.alpha_rule
    ('current', 'spikede', 'spikede')
    """
    time_unit = _arguments.quantity(
        time_unit, u.ms, call="spikede_preset", name="time_unit", shapes=[()], positive=True
    )
    return {
        "time_scale": time_unit,
        "lookahead": time_unit,
        "reset": "current",
        "memory_rule": "spikede",
        "alpha_rule": "spikede",
        "spk_fun": surrogate.atan(5.0),
    }
