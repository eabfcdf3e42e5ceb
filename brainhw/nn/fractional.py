"""Fractional-order neurons, whose membrane depends on its whole past."""

from __future__ import annotations

from typing import Any

import brainunit as u

from brainhw import _arguments, surrogate
from brainhw.nn.fractional_layer import FractionalLayer

__all__ = ["FractionalIFLayer", "FractionalLIFLayer", "spikede_preset"]


class FractionalLIFLayer(FractionalLayer):
    r"""Leaky integrate-and-fire neurons of fractional order, whose memory decays as a power law, not exponentially.

    .. math:: \tau \sum_j w_j D^{\alpha_j} V = -V + x, \qquad V(0) = 0

    Time is measured in ``time_scale``, by default ``tau``; one term then reads
    :math:`\tau^\alpha D^\alpha V = -V + x`. A neuron fires when its voltage reaches ``V_th``. At order 1 it is the
    ordinary neuron (explicit Euler; the trapezoidal rule for ``method='cn'``). From rest, the derivatives of
    Riemann-Liouville and of Caputo are equal.

    Parameters
    ----------
    size : int or tuple of int
        Number of neurons ``N``, or the shape of the layer; ``[N]`` below is then ``[*size]``.
    alpha : float, list, array or brainstate.nn.Param, optional
        Orders, above 0 and at most 1. A number is one term for all neurons. A list holds one entry per term: a number
        or an array ``[N]``. An array ``[N]`` is one term with one order per neuron, an array ``[J, N]`` holds ``J``
        such terms. A ``Param`` holds a number, ``[N]`` or ``[J, N]``. Default 0.5.
    coefficients : list, array or brainstate.nn.Param, optional
        Factors :math:`w_j`, dimensionless, one per term. Default: ones.
    tau, V_th : Quantity or brainstate.nn.Param, optional
        Time constant and threshold, scalar or ``[N]``. Default 20 ms and 1 mV.
    time_scale : Quantity, optional
        Unit of time of the derivatives. Default ``None``: ``tau``.
    method : {'gl', 'l1', 'trap', 'pred', 'cn'}, optional
        Numerical scheme. ``'gl'`` (default): Gruenwald-Letnikov, the only one for several terms. ``'l1'``: L1;
        ``'trap'`` is equal to it from rest. ``'pred'``: product rectangle rule. These are explicit and of order 1 in
        the step. ``'cn'``: fractional Crank-Nicolson rule, implicit and of order 2.
    memory : int, optional
        With ``kernel='dense'``: number of past steps to keep; older ones are dropped. Default ``None``: keep all.
    kernel : {'soe', 'dense'}, optional
        Representation of the past: a sum of exponentials that approximates the weights (default; constant time and
        memory), or all past steps, exact.
    n_exponentials : int, optional
        Number of exponentials, 4 to 128. Default 24: for ``gl``, ``l1`` and ``cn`` a
        :func:`brainhw.kernel.weight_error` below 2e-6 over the default horizon. For a tolerance,
        :func:`brainhw.kernel.n_exponentials` finds the number.
    horizon : int, optional
        Number of steps over which the exponentials approximate the weights; older steps fade out. Default 4096, for
        runs of any length. With ``kernel='dense'`` and no ``memory`` it is required: the number of steps of the
        longest run. :func:`brainhw.rollout` refuses a longer run; in other compiled loops the voltage becomes NaN.
    reset : {'current', 'subtract', 'zero'}, optional
        ``'current'`` (default): a spike subtracts ``V_th`` from the drive of its step, and this effect fades like that
        of any input. ``'subtract'``: it subtracts ``V_th`` from the voltage. ``'zero'``: it sets the voltage to zero.
    history : {'keep', 'clear'}, optional
        Keep the past at a spike (default), or clear it and start from the voltage after the reset. ``'clear'`` does not
        work with ``reset='current'``.
    lookahead : Quantity, optional
        Decide a spike before the step, at the voltage extrapolated by this time. Default ``None``: decide it at the
        voltage after the step.
    learn_alpha, learn_coefficients : bool or 'raw', optional
        Learn them: ``True`` keeps orders between 0 and 1 and coefficients above 0, ``'raw'`` sets no bounds. Default
        False.
    learn_tau : bool, optional
        Learn the time constant on a logarithmic scale, above 0. Default False.
    detach_reset : bool, optional
        Stop the gradient through the spikes of the reset. Default True.
    memory_rule : {'past', 'spikede'}, optional
        ``'past'`` (default): ``memory=M`` keeps ``M`` past values. ``'spikede'``: it keeps ``M - 1``, as in spikeDE.
    alpha_rule : {'exact', 'spikede'}, optional
        ``'exact'`` (default): the exact gradient with respect to ``alpha``. ``'spikede'``: without the derivative of
        the Gamma function, as in spikeDE.
    spk_fun : braintools.surrogate.Surrogate, optional
        Spike function of ``(V - V_th) / V_th``. Default ``brainhw.surrogate.fast_sigmoid()``.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    V, spk : brainstate.HiddenState
        Voltage after the step (mV) and spikes, ``[N]`` or ``[B, N]``; do not write them, ``slots`` determines them.
    slots : brainstate.HiddenState
        The past, mV, ``[slots, N]`` or ``[slots, B, N]``. Some options add ``position``, ``V_offset`` and ``x_before``.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong unit, shape or range, or conflicts with another; the message names it.

    Notes
    -----
    The voltage relaxes towards its drive: a constant drive of ``V_th`` just reaches the threshold. One step of drive
    contributes about :math:`(\Delta t/\tau)^\alpha`, so weights must be larger than for a :class:`LIFLayer`.

    With learnt orders, coefficients or time constants only reverse-mode derivatives are available (``grad``, not
    ``jvp``). In a ``Sequential``, :func:`brainhw.rollout` runs the layer over the whole sequence at once if that is
    faster.

    References
    ----------
    W. Teka, T. M. Marinov, F. Santamaria, Neuronal spike timing adaptation described with a fractional leaky
    integrate-and-fire model, PLoS Comput. Biol. 10, 2014. Ge et al., Fractional-order spiking neural network, 2025
    (spikeDE), whose equations :func:`spikede_preset` reproduces term by term.

    Examples
    --------
    At a constant drive, a neuron of low order responds fast at first and slowly later:

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
    """Return the options that make a fractional layer reproduce spikeDE 0.1.0, term by term.

    Time is measured in ``time_unit``, a spike is decided one unit ahead, the reset acts through the current, and the
    surrogate is an arctan of scale 5. Three faults of spikeDE are reproduced: ``memory`` is off by one, no gradient
    flows through the Gamma function, and ``l1`` has no memory at order 1.

    Parameters
    ----------
    time_unit : Quantity, optional
        Unit of time of the numbers in spikeDE. Default 1 ms.

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
