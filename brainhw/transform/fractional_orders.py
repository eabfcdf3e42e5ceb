"""The fractional orders of a whole network: set in one call, read back layer by layer."""

from __future__ import annotations

import warnings
from typing import Any

import brainstate
import jax

from brainhw import _arguments
from brainhw.nn import FractionalLayer
from brainhw.nn.fractional_terms import make_terms
from brainhw.transform.fractional_plan import plan_layers
from brainhw.transform.trace import registered_modules

__all__ = ["fractional_layers", "get_per_layer_alpha", "get_per_layer_coefficient", "set_fractional_orders"]


def set_fractional_orders(
    net: brainstate.nn.Module,
    alpha: Any,
    *,
    multi_coefficient: Any = None,
    alpha_mode: str = "auto",
    learn_alpha: Any = False,
    learn_coefficient: Any = False,
) -> None:
    r"""Give every fractional layer of a network its orders, in place.

    The membrane of each layer then follows

    .. math:: \sum_j w_j \, \tau^{\alpha_j} D^{\alpha_j} V = I - V

    (:math:`I` alone without leak; time counts in ``tau`` unless the layer has a ``time_scale``) with its own orders
    :math:`\alpha_j` and coefficients :math:`w_j`. They are written as for spikeDE's ``SNNWrapper`` (Ge et al. 2026,
    arXiv 2507.16937), and told apart by the same rules:

    ===========================  =====================================================================================
    alpha                        what the layers get
    ===========================  =====================================================================================
    ``0.6``                      every layer that order
    ``[0.3, 0.8]``               with ``alpha_mode='per_layer'`` one order per layer; with ``'multiterm'`` all of them
                                 to every layer, as the terms of one operator; ``'auto'`` see below
    ``[[0.3, 0.5], [0.4]]``      each layer the terms of its own list; a number in place of a list is one order
    ``[array [N], 0.4]``         an array inside the list: one order for each neuron of that layer (not in spikeDE)
    ===========================  =====================================================================================

    Layers count in the order in which they were registered; one that stands in several places counts once.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or a single layer.
    alpha : float, array, or list of floats, arrays and lists
        The orders, each in (0, 1]; see the table. A one-dimensional array is read as the list of its numbers, an array
        of one number as that number. Inside a list an array of ``N`` numbers is what it is for the layer itself: one
        order per neuron, also as a term, ``[[array, 0.4], ...]``.
    multi_coefficient : list or array, optional
        The weights :math:`w_j`. With one list of terms for all layers: one number per term, or one entry per layer.
        With a list per layer: one entry per layer. An entry is a list of one number per term, a number for all terms,
        or ``None`` for ones. Default ones.
    alpha_mode : {'auto', 'per_layer', 'multiterm'}, optional
        How a list of plain numbers is read; without meaning for a single number and for lists inside the list.
        ``'auto'`` (default) takes terms if ``multi_coefficient`` is given; else one order per layer if there are as
        many as layers, terms if not, and warns either way.
    learn_alpha, learn_coefficient : bool, 'raw', or list of them, optional
        What is learnt, for all layers or one entry per layer: True stays in range, ``'raw'`` is unconstrained, as
        spikeDE learns. Default False.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is no module or has no fractional layer, or an argument has the wrong kind, length or range. No layer
        was changed then.

    Warns
    -----
    UserWarning
        If a list of numbers could be read in two ways, coefficients are given where they have no meaning, or a layer
        with another method than ``'gl'`` gets terms as a list: only ``'gl'`` solves operators of several terms, so the
        layer's method becomes that and its states are created anew.

    Notes
    -----
    What is learnt are new parameters: call this before the optimiser registers the parameters of the network, and
    before anything is compiled.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.LIFSynapse(4, 3), bh.nn.FractionalLIFLayer(3), bh.nn.LIFSynapse(3, 2), bh.nn.FractionalLIFLayer(2)
    ... )
    >>> bh.set_fractional_orders(net, [0.3, 0.8], alpha_mode="per_layer", learn_alpha=[False, True])
    >>> [round(float(alpha[0]), 3) for alpha in bh.get_per_layer_alpha(net)]
    [0.3, 0.8]
    >>> bh.set_fractional_orders(net, [0.3, 0.5, 0.7], multi_coefficient=[1.0, 0.5, 0.2])
    >>> [alpha.shape for alpha in bh.get_per_layer_alpha(net)]
    [(3,), (3,)]
    """
    call = "set_fractional_orders"
    named = fractional_layers(net, call=call)
    sizes = [layer.in_size for _, layer in named]
    arguments = (alpha, multi_coefficient, alpha_mode, learn_alpha, learn_coefficient)
    plans, notes = plan_layers(*arguments, sizes=sizes, call=call)
    changes = []
    for (path, layer), plan in zip(named, plans, strict=True):
        where = path or type(layer).__name__
        method = layer.method
        if plan.is_operator and method != "gl":
            notes.append(
                f"{where} gets its orders as the terms of an operator, which method {method!r} cannot solve; its "
                "method becomes 'gl'. Build the layer with method='gl', or give it a single number."
            )
            method = "gl"
        orders, factors, *learnt, names = plan
        terms = make_terms(
            orders, factors, *learnt, size=layer.in_size, method=method, call=f"{call}: layer {where}", names=names
        )
        changes.append((layer, method, terms))
    # Errors, and warnings that are raised as errors, come before the first change: a refused call changes no layer.
    for note in notes:
        warnings.warn(f"{call}: {note}", UserWarning, stacklevel=2)
    for layer, method, terms in changes:
        if layer.method != method:
            layer.method = method
        layer.take_terms(terms)


def get_per_layer_alpha(net: brainstate.nn.Module) -> list[jax.Array]:
    """Return the orders that every fractional layer has now, learnt ones as they stand.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or a single layer.

    Returns
    -------
    list of jax.Array
        One entry per layer in registration order: ``[J]`` for J terms, or ``[J, N]`` with one order per neuron.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is no module or has no fractional layer.

    Examples
    --------
    >>> import brainhw as bh
    >>> bh.get_per_layer_alpha(bh.nn.FractionalLIFLayer(3, alpha=[0.5, 0.25]))[0].tolist()
    [0.5, 0.25]
    """
    return [layer.orders() for _, layer in fractional_layers(net, call="get_per_layer_alpha")]


def get_per_layer_coefficient(net: brainstate.nn.Module) -> list[jax.Array]:
    """Return the coefficients of the terms of every fractional layer, learnt ones as they stand.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or a single layer.

    Returns
    -------
    list of jax.Array
        One entry ``[J]`` per layer, in registration order, for its J terms; ones where none were given.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is no module or has no fractional layer.

    Examples
    --------
    >>> import brainhw as bh
    >>> layer = bh.nn.FractionalLIFLayer(3, alpha=[0.5, 0.25], coefficients=[1.0, 2.0])
    >>> bh.get_per_layer_coefficient(layer)[0].tolist()
    [1.0, 2.0]
    """
    return [layer.term_coefficients() for _, layer in fractional_layers(net, call="get_per_layer_coefficient")]


def fractional_layers(net: Any, *, call: str) -> list[tuple[str, FractionalLayer]]:
    """Return the fractional layers of ``net`` with their paths, in registration order, or raise if there is none."""
    _arguments.check_module(net, call=call)
    modules = registered_modules(net)
    found = [(path, module) for path, module in modules if isinstance(module, FractionalLayer)]
    if not found:
        kinds = ", ".join(dict.fromkeys(type(module).__name__ for path, module in modules if path)) or "nothing"
        raise ValueError(
            f"{call}: the network has no fractional layer, only {kinds}; build it with bh.nn.FractionalLIFLayer or "
            "bh.nn.FractionalIFLayer."
        )
    return found
