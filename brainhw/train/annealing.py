"""Sign annealing: during training, the weights of each block gradually take a common sign."""

from __future__ import annotations

from collections.abc import Callable

import brainstate
import jax
import jax.numpy as jnp

from brainhw import _arguments
from brainhw.kernel.signs import fold
from brainhw.nn import ChipWeight
from brainhw.train.surrogate_schedule import geometric
from brainhw.train.weights import on_chip
from brainhw.transform.trace import put_back_on_failure

__all__ = ["SignAnnealing"]


class SignAnnealing:
    r"""Bring the weights of each block to a common sign, gradually over the epochs of training.

    Until :meth:`finish` is called, the network replaces the master weights :math:`w_i` of each block :math:`b` by

    .. math:: w_i\,(1 - 2 |\sigma_b|) \text{ where } w_i \sigma_b < 0, \quad w_i \text{ elsewhere}, \qquad
              \sigma_b = \tanh\!\Big(\alpha\, \frac{\sum_{i \in b} w_i |w_i|}{\sum_{i \in b} w_i^2}\Big)

    As :math:`\alpha` grows, the weights of the minority sign shrink to zero and then change their sign. At infinite
    :math:`\alpha` each weight has the magnitude of its master weight and the sign of its block. Magnitudes never exceed
    those of the master weights, so the weights stay in the chip's range. Blocks in which both signs are nearly equally
    strong change last. The blocks are those of :func:`topology_loss`. Frontend weights have no blocks and do not
    change.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. Create the ``SignAnnealing`` object before you compile a training step. The compiled step remains
        valid after :meth:`finish`.
    total_epochs : int
        Number of epochs with finite :math:`\alpha` (soft signs). From epoch ``total_epochs`` on, :math:`\alpha` is
        infinite (hard signs).
    alpha_start, alpha_end : float, optional
        :math:`\alpha` in the first and in the last epoch with soft signs, dimensionless. In between, :math:`\alpha`
        grows by a constant factor per epoch. Defaults: 0.5 and 20.

    Attributes
    ----------
    alpha : float
        Current value of :math:`\alpha`; infinite when the signs are hard.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, ``alpha_end`` is below ``alpha_start``, or the network has no dense chip weight.

    Notes
    -----
    If the network already has a sign annealing, the new object replaces it. To obtain a network with hard signs during
    training, copy the network, and call ``SignAnnealing(copy, 1).finish()`` for the copy.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(bh.nn.H1v1Synapse(3, 1), bh.nn.H1v1Layer(1, tau=10 * u.ms))
    >>> net.layers[0].weight.value = jnp.array([[0.5], [-0.2], [0.1]])
    >>> annealing = bh.train.SignAnnealing(net, total_epochs=10)
    >>> for epoch in range(12):
    ...     annealing.step(epoch)  # and train for an epoch
    >>> annealing.finish()
    >>> [round(float(w), 2) for w in net.layers[0].weight.value[:, 0]]
    [0.5, 0.2, 0.1]
    """

    def __init__(
        self,
        net: brainstate.nn.Module,
        total_epochs: int,
        alpha_start: float = 0.5,
        alpha_end: float = 20.0,
    ) -> None:
        call = type(self).__name__
        self.total_epochs = _arguments.positive_int(total_epochs, call=call, name="total_epochs")
        self.alpha_start = _arguments.number(alpha_start, call=call, name="alpha_start", positive=True)
        self.alpha_end = _arguments.number(alpha_end, call=call, name="alpha_end", positive=True)
        if self.alpha_end < self.alpha_start:
            raise ValueError(
                f"{call}: alpha_end must be at least alpha_start; got alpha_end {self.alpha_end:g} and alpha_start "
                f"{self.alpha_start:g}."
            )
        self.alpha = self.alpha_start
        weights = on_chip(net, call, dense=True).values()
        alphas = [brainstate.LongTermState(jnp.full((), self.alpha, brainstate.environ.dftype())) for _ in weights]
        self._attached: list[tuple[ChipWeight, brainstate.LongTermState]] = list(zip(weights, alphas, strict=True))
        for weight, alpha in self._attached:
            weight.effective.sign_alpha = alpha
            weight.effective.forget()

    def step(self, epoch: int) -> None:
        """Set ``alpha`` for an epoch, counted from 0. From epoch ``total_epochs`` on, ``alpha`` is infinite."""
        epoch = _arguments.whole_number(epoch, call="SignAnnealing.step", name="epoch")
        self._check_attached("step")
        if epoch >= self.total_epochs:
            new = float("inf")
        else:
            new = geometric(self.alpha_start, self.alpha_end, epoch, self.total_epochs)
        with put_back_on_failure(alpha for _, alpha in self._attached):
            # alpha is a state, not an attribute, so that an already compiled training step reads the new value.
            for weight, alpha in self._attached:
                alpha.value = jnp.full_like(alpha.value, new)
                # Discard the charges, which were computed with the previous alpha.
                weight.effective.forget()
        self.alpha = new

    def constrain(self) -> None:
        """Write hard signs into the master weights; call this after each optimizer step.

        While the signs are soft, this method does nothing. It may be called inside ``brainstate.transform.jit``.
        Without this call, a master weight changes its sign if the optimizer moves it past zero. The network still
        applies this weight with the sign of its block. The sign of the block changes if the weights of the other sign
        reach the larger sum of squares.
        """
        self._check_attached("constrain")
        with put_back_on_failure(weight.master for weight, _ in self._attached):
            self._write(jnp.isinf)

    def finish(self) -> None:
        """End the annealing: write hard signs into the master weights permanently.

        The network then applies the master weights. They equal the weights that it applies at infinite ``alpha``.
        """
        self._check_attached("finish")
        with put_back_on_failure(state for weight, alpha in self._attached for state in (weight.master, alpha)):
            self._write(lambda alpha: True)
            for _, alpha in self._attached:
                alpha.value = jnp.zeros_like(alpha.value)  # functions that were compiled before read it
        for weight, _ in self._attached:
            weight.effective.sign_alpha = None
            weight.effective.forget()
        self._attached = []

    def _write(self, when: Callable[[jax.Array], jax.Array | bool]) -> None:
        # Use `where`, because alpha is a tracer inside jit and `if` cannot test it.
        for weight, alpha in self._attached:
            chip, master = weight.chip, weight.master.value
            limits = None if chip.weight_lowest is None else chip.weight_range
            hard = fold(master, jnp.inf, block=chip.sign_block, axis=chip.sign_axis, limits=limits)
            weight.master.value = jnp.where(when(alpha.value), hard, master)

    def _check_attached(self, method: str) -> None:
        if not self._attached:
            raise RuntimeError(f"SignAnnealing.{method}: the annealing is finished. Create a new one to anneal again.")
        if any(weight.effective.sign_alpha is not alpha for weight, alpha in self._attached):
            raise RuntimeError(f"SignAnnealing.{method}: a new SignAnnealing has replaced this one. Use the new one.")
