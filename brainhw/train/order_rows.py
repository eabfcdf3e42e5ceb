"""Reordering of neurons so that weights of the same sign are adjacent."""

from __future__ import annotations

from typing import Any

import brainunit as u
import numpy as np
from scipy.optimize import linear_sum_assignment

from brainhw import _arguments

__all__ = ["order_rows"]


def order_rows(weight: Any, *, block: int, starts: int = 20, seed: int = 0) -> tuple[np.ndarray, float]:
    r"""Find an order of the rows of a weight matrix in which the weights of each block mostly have the same sign.

    On a chip, the weights from ``block`` consecutive rows to one neuron must have the same sign. :func:`project_signs`
    therefore sets the weights of the minority sign to zero. The neurons of a hidden layer can be reordered, and so can
    the inputs that are wired to the chip. The more weights of a block have the same sign, the less
    :func:`project_signs` changes the block. The function maximises the fraction of the sum of squared weights that
    remains after :func:`project_signs`,

    .. math:: \frac12 \Big(1 + \frac{\sum_{b, j} \big|\sum_{i \in b} w_{ij} |w_{ij}|\big|}{\sum_{ij} w_{ij}^2}\Big)

    where :math:`b` are the blocks and :math:`j` the neurons. For given signs of the blocks, the best order is the
    solution of an assignment problem (``scipy.optimize.linear_sum_assignment``). For a given order, the best sign of a
    block is the sign of :math:`\sum_{i \in b} w_{ij} |w_{ij}|`. From each of several starting orders, the function
    alternates these two steps until the fraction no longer grows. The result is a local optimum and at least as good as
    the given order.

    Use this function for a network that is already trained. If you train the network further with one sign per block,
    reordering does not improve the result. ``docs/deploy.md`` shows measured accuracies.

    Parameters
    ----------
    weight : array
        Weight matrix ``[n_rows, n_columns]``; each row is an input. For a chip with ``sign_axis='post'``, pass the
        transposed matrix.
    block : int
        Number of rows in a block, ``chip.sign_block``. The last block may be shorter.
    starts : int, optional
        Number of random starting orders, in addition to the given order. Default 20.
    seed : int, optional
        Seed of the random orders. Default 0.

    Returns
    -------
    order : numpy.ndarray
        Order of the rows, int64 ``[n_rows]``. ``weight[order]`` is the reordered matrix.
    share : float
        Value of the fraction above, from 0.5 to 1.

    Raises
    ------
    TypeError, ValueError
        If ``weight`` is not a finite matrix, or a number is out of range.

    Examples
    --------
    >>> import brainhw as bh, numpy as np
    >>> weight = np.array([[0.5], [-0.2], [0.1], [-0.4]])
    >>> order, share = bh.train.order_rows(weight, block=2)
    >>> bool(np.sign(weight[order][0]) == np.sign(weight[order][1])), share
    (True, 1.0)

    To reorder a layer between two synapses ``first`` and ``second``, apply the same order to the columns of ``first``,
    to the parameters of the layer and to the rows of ``second``: ``first.weight.value[:, order]``, ``tau[order]`` and
    ``second.weight.value[order]``.
    """
    call = "order_rows"
    if isinstance(weight, u.Quantity):
        raise TypeError(f"{call}: weight must be an array without a unit; got values in {weight.unit}.")
    rows = np.asarray(_arguments.as_array(weight, call=call, name="weight"), float)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"{call}: weight must be a matrix [n_rows, n_columns]; got shape {rows.shape}.")
    _arguments.check_finite(rows, call=call, name="weight")
    block = min(_arguments.positive_int(block, call=call, name="block"), len(rows))
    starts = _arguments.whole_number(starts, call=call, name="starts", most=10_000)
    rng = np.random.default_rng(_arguments.whole_number(seed, call=call, name="seed", most=2**32 - 1))
    largest = np.abs(rows).max()
    rows = rows / largest if largest else rows  # so that squares neither overflow nor underflow
    energy = rows * np.abs(rows)
    n_rows = len(rows)
    first, block_of = np.arange(0, n_rows, block), np.arange(n_rows) // block
    best, most = np.arange(n_rows), -1.0
    for start in range(starts + 1):
        order = rng.permutation(n_rows) if start else np.arange(n_rows)
        reached = -1.0
        while True:
            sums = np.add.reduceat(energy[order], first)  # [block, column]
            before, reached = reached, float(np.abs(sums).sum())
            if reached > most:
                best, most = order, reached
            # Ignore smaller gains, which may be rounding errors of sums in a different order.
            if reached <= before * (1 + 1e-9):
                break
            gain = energy @ np.where(sums < 0, -1.0, 1.0).T  # [row, block]
            order = linear_sum_assignment(gain[:, block_of].T, maximize=True)[1]
    total = float(np.abs(energy).sum())
    return best, (1 + most / total) / 2 if total else 1.0
