"""An order of neurons in which weights of one sign stand together."""

from __future__ import annotations

from typing import Any

import brainunit as u
import numpy as np
from scipy.optimize import linear_sum_assignment

from brainhw import _arguments

__all__ = ["order_rows"]


def order_rows(weight: Any, *, block: int, starts: int = 20, seed: int = 0) -> tuple[np.ndarray, float]:
    r"""Find an order of the rows of a weight matrix in which blocks of rows agree in their signs.

    On a chip, the weights of ``block`` consecutive rows into one neuron share a sign, and :func:`project_signs` sets
    the others to zero. Neurons of a hidden layer can change places, and so can inputs that are wired to the chip: an
    order of like rows loses less. Of the squares of all weights, the share

    .. math:: \frac12 \Big(1 + \frac{\sum_{b, j} \big|\sum_{i \in b} w_{ij} |w_{ij}|\big|}{\sum_{ij} w_{ij}^2}\Big)

    survives :func:`project_signs`, with :math:`b` the blocks and :math:`j` the neurons. For given signs of the blocks
    the best order is an assignment problem (``scipy.optimize.linear_sum_assignment``), for a given order the best
    signs are those of the sums: the two steps alternate until nothing changes, from several orders. The result is a
    local optimum, and no worse than the given order.

    It helps a finished net. One that is trained on, with its signs, gains nothing; ``docs/deploy.md`` has the numbers.

    Parameters
    ----------
    weight : array
        ``[n_rows, n_columns]``, rows are inputs. On a chip with ``sign_axis='post'`` give the transpose.
    block : int
        Rows that share a sign, ``chip.sign_block``; a last block may be shorter.
    starts : int, optional
        Random orders to start from, besides the given one. Default 20.
    seed : int, optional
        Seed of these. Default 0.

    Returns
    -------
    order : numpy.ndarray
        ``weight[order]`` is the ordered matrix; int64 ``[n_rows]``.
    share : float
        The share above, 0.5 to 1.

    Raises
    ------
    TypeError, ValueError
        If ``weight`` is no finite matrix, or a number is out of range.

    Examples
    --------
    >>> import brainhw as bh, numpy as np
    >>> weight = np.array([[0.5], [-0.2], [0.1], [-0.4]])
    >>> order, share = bh.train.order_rows(weight, block=2)
    >>> bool(np.sign(weight[order][0]) == np.sign(weight[order][1])), share
    (True, 1.0)

    For a net ``synapse, layer, synapse`` the columns before a layer, the layer's own numbers and the rows behind it
    move together: ``first.weight.value[:, order]``, ``tau[order]`` and ``second.weight.value[order]``.
    """
    call = "order_rows"
    if isinstance(weight, u.Quantity):
        raise TypeError(f"{call}: weight must be plain numbers, as weights on a chip are; got {weight.unit} numbers.")
    rows = np.asarray(_arguments.as_array(weight, call=call, name="weight"), float)
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"{call}: weight must be a matrix [n_rows, n_columns]; got shape {rows.shape}.")
    _arguments.check_finite(rows, call=call, name="weight")
    block = min(_arguments.positive_int(block, call=call, name="block"), len(rows))
    starts = _arguments.whole_number(starts, call=call, name="starts", most=10_000)
    rng = np.random.default_rng(_arguments.whole_number(seed, call=call, name="seed", most=2**32 - 1))
    largest = np.abs(rows).max()
    rows = rows / largest if largest else rows  # squares must neither overflow nor vanish
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
            # Sums in another order may differ in their last digits.
            if reached <= before * (1 + 1e-9):
                break
            gain = energy @ np.where(sums < 0, -1.0, 1.0).T  # of a row in each block
            order = linear_sum_assignment(gain[:, block_of].T, maximize=True)[1]
    total = float(np.abs(energy).sum())
    return best, (1 + most / total) / 2 if total else 1.0
