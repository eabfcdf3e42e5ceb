"""Fractional-order neurons, whose membrane potential depends on its whole past."""

from __future__ import annotations

from typing import Any

import brainunit as u

from brainhw import _arguments, surrogate
from brainhw.nn.fractional_layer import FractionalLayer

__all__ = ["FractionalIFLayer", "FractionalLIFLayer", "spikede_preset"]


class FractionalLIFLayer(FractionalLayer):
    r"""Leaky integrate-and-fire neurons of fractional order: past inputs fade as a power law, not exponentially.

    .. math:: \tau \sum_j w_j D^{\alpha_j} V = -V + x, \qquad V(0) = 0

    The derivatives are taken with respect to time in units of ``time_scale``, by default ``tau``. With this default and
    a single term of coefficient 1, the equation is :math:`\tau^\alpha D^\alpha V = -V + x`. A neuron fires when its
    voltage reaches ``V_th``. At order 1, the neuron is an ordinary leaky integrate-and-fire neuron, computed with the
    explicit Euler method (or with the trapezoidal rule for ``method='cn'``). Because the neuron starts at rest,
    Riemann-Liouville and Caputo derivatives are equal.

    Parameters
    ----------
    size : int or tuple of int
        Number of neurons ``N``, or the shape of the layer, in which case ``[N]`` below stands for ``[*size]``.
    alpha : float, list, array or brainstate.nn.Param, optional
        Orders :math:`\alpha_j` of the derivatives, greater than 0 and at most 1. A number defines one term, with the
        same order for all neurons. An array ``[N]`` defines one term, with one order per neuron. An array ``[J, N]``
        defines ``J`` such terms. A list defines one term per entry. Each entry is a number or an array ``[N]``. The
        value of a ``Param`` is a number, ``[N]`` or ``[J, N]``. Default 0.5.
    coefficients : list, array or brainstate.nn.Param, optional
        Factors :math:`w_j`, dimensionless, one per term. By default, all are 1.
    tau, V_th : Quantity or brainstate.nn.Param, optional
        Time constant and threshold, scalar or ``[N]``. Default 20 ms and 1 mV.
    time_scale : Quantity, optional
        Unit of time in which the derivatives are taken. Default ``None``, which means ``tau``.
    method : {'gl', 'l1', 'trap', 'pred', 'cn'}, optional
        Numerical scheme. ``'gl'`` (default) is the Gruenwald-Letnikov scheme, the only one that supports several terms.
        ``'l1'`` is the L1 scheme. ``'trap'`` is the same scheme as ``'l1'``, because the neurons start at rest.
        ``'pred'`` is the product rectangle rule. These four are explicit, with a global error of order 1 in the time
        step. ``'cn'`` is the fractional Crank-Nicolson rule, which is implicit and of order 2.
    memory : int, optional
        Number of past steps to keep, for ``kernel='dense'``. Older steps are dropped. By default (``None``), all steps
        are kept.
    kernel : {'soe', 'dense'}, optional
        How the layer stores the past. ``'soe'`` (default) approximates the weights of past steps by a sum of
        exponentials; time per step and memory are then constant. ``'dense'`` stores all past steps and is exact.
    n_exponentials : int, optional
        Number of exponentials, 4 to 128. With the default of 24, :func:`brainhw.kernel.weight_error` is below 2e-6 for
        ``gl``, ``l1`` and ``cn`` over the default horizon. Call :func:`brainhw.kernel.n_exponentials` to find the
        number for a given tolerance.
    horizon : int, optional
        For ``kernel='soe'``, the number of steps over which the exponentials approximate the weights. The effect of
        older steps fades out. The default of 4096 works for runs of any length. For ``kernel='dense'`` without
        ``memory``, ``horizon`` is required and is the number of steps of the longest run. For a longer run,
        :func:`brainhw.rollout` raises an error, and the voltage becomes NaN in other compiled loops.
    reset : {'current', 'subtract', 'zero'}, optional
        Effect of a spike. ``'current'`` (default) subtracts ``V_th`` from the drive of the same step, and this effect
        fades like that of any input. ``'subtract'`` subtracts ``V_th`` from the voltage. ``'zero'`` sets the voltage to
        zero.
    history : {'keep', 'clear'}, optional
        Whether a spike keeps the past (default) or clears it. After ``'clear'``, the neuron starts again from the
        voltage after the reset. ``'clear'`` cannot be combined with ``reset='current'``.
    lookahead : Quantity, optional
        Time by which the voltage before the step is extrapolated. The extrapolated voltage is compared with the
        threshold. By default (``None``), the voltage after the step is compared with the threshold.
    learn_alpha, learn_coefficients : bool or 'raw', optional
        Whether the orders and the coefficients are trainable. ``True`` keeps trainable orders between 0 and 1 and
        trainable coefficients positive. ``'raw'`` sets no bounds. Default False.
    learn_tau : bool, optional
        Whether the time constant is trainable. It is trained on a logarithmic scale and stays positive. Default False.
    detach_reset : bool, optional
        Whether to stop the gradient that flows through the spikes in the reset. Default True.
    memory_rule : {'past', 'spikede'}, optional
        With ``memory=M``, ``'past'`` (default) keeps ``M`` past values. ``'spikede'`` keeps ``M - 1``, as spikeDE does.
    alpha_rule : {'exact', 'spikede'}, optional
        Gradient with respect to ``alpha``. ``'exact'`` (default) is the exact gradient. ``'spikede'`` omits the
        derivative of the Gamma function, as spikeDE does.
    spk_fun : braintools.surrogate.Surrogate, optional
        Spike function of ``(V - V_th) / V_th``. Default ``brainhw.surrogate.fast_sigmoid()``.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    V, spk : brainstate.HiddenState
        Voltage after the step (mV) and spikes, ``[N]`` or ``[B, N]``. Do not assign values to these states, because the
        layer computes them from ``slots``.
    slots : brainstate.HiddenState
        Stored past in mV, ``[slots, N]`` or ``[slots, B, N]``. Some options add the states ``position``, ``V_offset``
        and ``x_before``.

    Raises
    ------
    TypeError
        If an argument has the wrong type or unit. The message names the argument.
    ValueError
        If an argument has the wrong shape, is out of range, or conflicts with another argument. The message names the
        argument.

    Notes
    -----
    The voltage relaxes towards the drive, so a constant drive of ``V_th`` only just reaches the threshold. A drive that
    lasts one step changes the voltage by about :math:`(\Delta t/\tau)^\alpha` times the drive. Weights must therefore
    be larger than for a :class:`LIFLayer`.

    If orders, coefficients or time constants are trainable, only reverse-mode derivatives are available (``grad``, not
    ``jvp``). In a ``Sequential``, :func:`brainhw.rollout` processes the whole sequence in this layer at once if that is
    faster.

    References
    ----------
    W. Teka, T. M. Marinov, F. Santamaria, Neuronal spike timing adaptation described with a fractional leaky
    integrate-and-fire model, PLoS Comput. Biol. 10, 2014. Ge et al., Fractional-order spiking neural network, 2025
    (spikeDE), whose equations :func:`spikede_preset` reproduces term by term.

    Examples
    --------
    At a constant drive, a neuron of low order responds quickly at first and slowly later:

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

    The arguments, attributes and errors are the same as for :class:`FractionalLIFLayer`.

    Examples
    --------
    At order 1, the voltage is the sum of the drives of all steps, times ``dt / tau``:

    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.FractionalIFLayer(1, alpha=1.0, tau=10 * u.ms)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     _, seen = bh.rollout(layer, jnp.ones((5, 1)) * u.mV, record=(".V",))
    >>> print((100 * seen[".V"][:, 0].mantissa).round().astype(int))
    [10 20 30 40 50]
    """

    leak_factor = 0.0


def spikede_preset(time_unit: u.Quantity = 1.0 * u.ms) -> dict[str, Any]:
    """Return the options with which a fractional layer reproduces every term of the equations of spikeDE 0.1.0.

    With these options, derivatives are taken with respect to time in units of ``time_unit``. The voltage is
    extrapolated by ``time_unit`` and then compared with the threshold. A spike subtracts ``V_th`` from the drive. The
    surrogate is an arctan of scale 5. The options also reproduce three faults of spikeDE: ``memory`` is off by one, no
    gradient flows through the Gamma function, and ``l1`` ignores the past at order 1.

    Parameters
    ----------
    time_unit : Quantity, optional
        The time that corresponds to 1 in spikeDE, whose times have no unit. Default 1 ms.

    Returns
    -------
    dict
        Keyword arguments for :class:`FractionalLIFLayer` and :class:`FractionalIFLayer`.

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
