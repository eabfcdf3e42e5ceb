"""Weights within the limits of the chip: penalties for training, and projections."""

from __future__ import annotations

import brainstate
import jax
import jax.numpy as jnp

from brainhw import _arguments
from brainhw.kernel.signs import nearest, to_blocks
from brainhw.nn import ChipWeight, chip_weights
from brainhw.transform.trace import put_back_on_failure

__all__ = ["clip_weights", "on_chip", "out_of_range", "project_signs", "topology_loss", "weight_magnitude_loss"]


def on_chip(net: brainstate.nn.Module, call: str, *, dense: bool = False) -> dict[str, ChipWeight]:
    """Return the chip weights of ``net`` by path; with ``dense=True``, only weights with two axes.

    Raise ValueError if the network has no such weights.
    """
    _arguments.check_module(net, call=call)
    found = chip_weights(net)
    if not found:
        raise ValueError(f"{call}: the network has no weight on a chip. Build it with modules of a chip family.")
    if dense:
        found = {path: weight for path, weight in found.items() if weight.master.value.ndim == 2}
        if not found:
            raise ValueError(f"{call}: the network has no dense weight on a chip, only one-to-one frontends.")
    return found


def weight_magnitude_loss(net: brainstate.nn.Module) -> jax.Array:
    r"""Penalise weights outside the chip's range.

    .. math:: L = \frac1M \sum_{m=1}^{M} \max(|w_m| - w_{max}, 0)^2

    The mean is over all :math:`M` chip weights of the network: feed-forward, recurrent and frontend weights. If the
    chip has ``weight_lowest``, negative weights are compared with this limit instead.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. Its chip sets the limit :math:`w_{max}`.

    Returns
    -------
    jax.Array
        A dimensionless scalar, zero when every weight is in range.

    Raises
    ------
    ValueError
        If the network has no weight on a chip.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> synapse = bh.nn.H1v1Synapse(2, 1, weight_init=jnp.array([[1.0], [0.5]]))
    >>> round(float(bh.train.weight_magnitude_loss(synapse)), 4)
    0.005
    """
    weights = on_chip(net, "weight_magnitude_loss")
    # As in the vendor's loss, average over all weights and not per layer, so that the weights of small layers do not
    # count more.
    excess = [jnp.sum(jax.nn.relu(_distance_from_range(w)) ** 2) for w in weights.values()]
    return jnp.sum(jnp.stack(excess)) / sum(w.master.value.size for w in weights.values())


def topology_loss(net: brainstate.nn.Module) -> jax.Array:
    r"""Penalise mixed signs within the blocks of weights that must have the same sign on the chip.

    .. math:: L = \frac1{|\mathcal B|} \sum_{b\in\mathcal B} \Big(\sum_{i\in b} |w_i| - \Big|\sum_{i\in b} w_i\Big|\Big)

    A block consists of ``chip.sign_block`` weights from consecutive inputs to one neuron or, with ``sign_axis='post'``,
    from one input to consecutive neurons. The last block may be shorter. One-to-one weights have no blocks.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.

    Returns
    -------
    jax.Array
        A dimensionless scalar, zero when every block has one sign.

    Raises
    ------
    ValueError
        If the network has no dense weight on a chip.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> synapse = bh.nn.H1v1Synapse(3, 1, weight_init=jnp.array([[0.5], [-0.2], [0.1]]))
    >>> round(float(bh.train.topology_loss(synapse)), 4)
    0.4
    """
    # The vendor publishes only that blocks of one sign have zero loss. brainhw assumes the rest of the formula.
    disagreement = []
    for weight in on_chip(net, "topology_loss", dense=True).values():
        blocks = to_blocks(weight.master.value, weight.chip.sign_block, weight.chip.sign_axis)
        disagreement.append(jnp.sum(jnp.abs(blocks), axis=1) - jnp.abs(jnp.sum(blocks, axis=1)))
    return jnp.sum(jnp.stack([d.sum() for d in disagreement])) / sum(d.size for d in disagreement)


def out_of_range(net: brainstate.nn.Module) -> int:
    """Count the weights beyond the chip's range.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.

    Returns
    -------
    int
        Number of weights outside ``chip.weight_range``; a NaN is also counted.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> bh.train.out_of_range(bh.nn.H1v1Synapse(2, 1, weight_init=jnp.array([[1.0], [0.5]])))
    1
    """
    weights = on_chip(net, "out_of_range")
    # Compare the weights with the limits directly, because their difference might be rounded to zero.
    ends = [(w.master.value, *w.chip.weight_range) for w in weights.values()]
    return sum(int(jnp.sum(~((values >= low) & (values <= high)))) for values, low, high in ends)


def _distance_from_range(weight: ChipWeight) -> jax.Array:
    """Return the distance of each weight from the weight range of the chip, negative for weights inside the range."""
    master, (low, high) = weight.master.value, weight.chip.weight_range
    return jnp.abs(master) - high if low == -high else jnp.maximum(master - high, low - master)


def clip_weights(net: brainstate.nn.Module) -> None:
    """Clip every weight to the range of the chip, in place.

    Call it after each optimizer step. The training is then projected gradient descent, and no weight is out of range.
    :func:`weight_magnitude_loss` alone leaves some weights slightly out of range.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. This function may be called inside ``brainstate.transform.jit``.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> synapse = bh.nn.H1v1Synapse(2, 1, weight_init=jnp.array([[1.5], [0.5]]))
    >>> bh.train.clip_weights(synapse)
    >>> [round(float(w), 2) for w in synapse.weight.value[:, 0]]
    [0.9, 0.5]
    """
    weights = on_chip(net, "clip_weights").values()
    with put_back_on_failure(weight.master for weight in weights):
        for weight in weights:
            weight.master.value = jnp.clip(weight.master.value, *weight.chip.weight_range)


def project_signs(net: brainstate.nn.Module) -> None:
    """Give all weights of each block the same sign, in place, with the smallest possible change.

    In each block (see :func:`topology_loss`), the sign with the larger sum of squares is kept, and weights of the other
    sign become zero. The result is the nearest valid weights in the Euclidean norm. A second call changes nothing.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. This function may be called inside ``brainstate.transform.jit``.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is not a module or has no weight on a chip.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> synapse = bh.nn.H1v1Synapse(3, 1, weight_init=jnp.array([[0.5], [-0.2], [0.1]]))
    >>> bh.train.project_signs(synapse)
    >>> [round(float(w), 2) for w in synapse.weight.value[:, 0]]
    [0.5, 0.0, 0.1]
    """
    weights = on_chip(net, "project_signs").values()
    with put_back_on_failure(weight.master for weight in weights):
        for weight in weights:
            if weight.master.value.ndim == 2:
                chip = weight.chip
                weight.master.value = nearest(weight.master.value, block=chip.sign_block, axis=chip.sign_axis)
