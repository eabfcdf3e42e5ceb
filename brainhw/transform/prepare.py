"""Once per batch, before the time loop: states at rest, effective weights fresh."""

from __future__ import annotations

import brainstate
import jax

from brainhw import _arguments
from brainhw.nn import net_chip
from brainhw.nn.charge_sum import are_chips_side_by_side
from brainhw.nn.preparation import Preparable
from brainhw.transform.checks import as_key, check_module, dotted
from brainhw.transform.sample import keyed

__all__ = ["prepare_net"]


def prepare_net(
    net: brainstate.nn.Module, batch_size: int | None = None, *, key: jax.Array | int | None = None
) -> None:
    """Reset every state of a network and refresh every effective weight, in place.

    Call it once per batch, before the time loop; :func:`brainhw.rollout` does so. It may stand inside
    ``brainstate.transform.jit``, and inside a loss under ``grad``: gradients then reach the master weights.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network, or a single module.
    batch_size : int, optional
        States become ``[batch_size, N]``; ``None`` (default) means one sample, ``[N]``.
    key : jax.Array or int, optional
        Samples one chip: each mismatch that the chip's spec lists is drawn from it and stays frozen until the next
        call. The same key is the same chip, whatever the batch. ``None`` (default) is the chip in place: the nominal
        one, or that of :func:`brainhw.sample_chip`.

    Raises
    ------
    TypeError
        If ``net`` is no module, ``batch_size`` no whole number or ``key`` no key.
    ValueError
        If modules of two chip families stand in ``net``, or a weight is NaN or infinite; nothing was changed
        then. (Inside ``jit`` weights cannot be looked at; ``rollout(check_finite=True)`` finds what they lead to.)
    RuntimeError
        If a module from elsewhere has states that were never created, and the call stands inside a compiled function.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u
    >>> net = brainstate.nn.Sequential(bh.nn.H1v1Synapse(4, 3), bh.nn.H1v1Layer(3, tau=10 * u.ms))
    >>> bh.prepare_net(net, batch_size=8)
    >>> net.layers[1].V.value.shape
    (8, 3)
    """
    call = "prepare_net"
    check_module(net, call=call)
    if batch_size is not None:
        batch_size = _arguments.positive_int(batch_size, call=call, name="batch_size")
    key = as_key(key, call)
    if key is not None and are_chips_side_by_side():
        raise ValueError(
            f"{call}: a key stands inside the evaluate of robustness, which puts the chips itself; every chip would be "
            "the one of that key. Leave it out."
        )
    net_chip(net, call=call)
    for path, weights in net.states(brainstate.ParamState).items():
        # `_value` and not `.value`: a read would tell the surrounding grad that the loss depends on this parameter.
        _arguments.check_finite_tree(
            weights._value, call=call, name=f"the parameter {dotted(path)}", fix="load or initialise it again"
        )

    _reset(net, batch_size, call)
    for module, own in keyed(net, Preparable, key):
        module.prepare(own)


def _reset(net: brainstate.nn.Module, batch_size: int | None, call: str) -> None:
    base = brainstate.nn.Module
    for path, node in net.nodes().items():
        kind = type(node)
        if isinstance(node, base) and kind.init_state is not base.init_state and kind.reset_state is base.reset_state:
            raise TypeError(
                f"{call}: {kind.__name__} at {dotted(path)!r} has init_state but no reset_state, so its states cannot "
                "be put back to rest; give it a reset_state(batch_size) that writes them."
            )
    try:
        brainstate.nn.reset_all_states(net, batch_size)
    except AttributeError as error:
        # A module from elsewhere whose states were never created: there is nothing to reset yet.
        if _arguments.inside_jit():
            raise RuntimeError(
                f"{call}: a module has no states yet ({error}), and states created inside a compiled function are lost "
                "after it; call brainhw.prepare_net(net, batch_size) once before."
            ) from error
        brainstate.nn.init_all_states(net, batch_size)
