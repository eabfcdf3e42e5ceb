"""Sign annealing: a gradual transition from free signs to blocks of one sign during training."""

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
    r"""Harden the sign of every block of weights, epoch by epoch.

    While it is attached, the chip applies, instead of the master weights :math:`w_i` of a block,

    .. math:: w_i\,(1 - 2 |\sigma_b|) \text{ where } w_i \sigma_b < 0, \quad w_i \text{ elsewhere}, \qquad
              \sigma_b = \tanh\!\Big(\alpha\, \frac{\sum_{i \in b} w_i |w_i|}{\sum_{i \in b} w_i^2}\Big)

    so the weights of the weaker sign change sign as :math:`\alpha` grows; at infinite :math:`\alpha` every weight has
    its magnitude and the sign of its block. No magnitude grows, so weights stay in the chip's range. Nearly balanced
    blocks change last. Blocks are those of :func:`topology_loss`; frontends have no blocks and do not change.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. Attach before compiling a training step; the compiled step stays valid after :meth:`finish`.
    total_epochs : int
        Number of epochs with soft signs; from epoch ``total_epochs`` on the signs are hard.
    alpha_start, alpha_end : float, optional
        :math:`\alpha` in the first and in the last of these epochs, dimensionless; it grows by a constant factor per
        epoch. Default 0.5 and 20.

    Attributes
    ----------
    alpha : float
        Present value; infinite when the signs are hard.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, ``alpha_end`` is below ``alpha_start``, or the network has no dense chip weight.

    Notes
    -----
    A new annealing replaces the attached one. To harden a copy of a network during training, call
    ``SignAnnealing(copy, 1).finish()``.

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
                f"{call}: alpha_end must be at least alpha_start, because signs only harden; got {self.alpha_end:g} "
                f"and {self.alpha_start:g}."
            )
        self.alpha = self.alpha_start
        weights = on_chip(net, call, dense=True).values()
        alphas = [brainstate.LongTermState(jnp.full((), self.alpha, brainstate.environ.dftype())) for _ in weights]
        self._attached: list[tuple[ChipWeight, brainstate.LongTermState]] = list(zip(weights, alphas, strict=True))
        for weight, alpha in self._attached:
            weight.effective.sign_alpha = alpha
            weight.effective.forget()

    def step(self, epoch: int) -> None:
        """Set the hardness for an epoch, counted from 0; the signs are hard from ``total_epochs`` on."""
        epoch = _arguments.whole_number(epoch, call="SignAnnealing.step", name="epoch")
        self._check_attached("step")
        if epoch >= self.total_epochs:
            new = float("inf")
        else:
            new = geometric(self.alpha_start, self.alpha_end, epoch, self.total_epochs)
        with put_back_on_failure(alpha for _, alpha in self._attached):
            # A state, not an attribute, so that an already compiled training step reads the new value.
            for weight, alpha in self._attached:
                alpha.value = jnp.full_like(alpha.value, new)
                # The charges were computed with the previous alpha.
                weight.effective.forget()
        self.alpha = new

    def constrain(self) -> None:
        """Write hard signs into the master weights; call it after each optimizer step.

        Without it, a weight that the optimizer moves past zero changes its sign only when it outweighs its block. While
        the signs are soft, this does nothing. It may be called inside ``brainstate.transform.jit``.
        """
        self._check_attached("constrain")
        with put_back_on_failure(weight.master for weight, _ in self._attached):
            self._write(jnp.isinf)

    def finish(self) -> None:
        """Make the signs permanently hard: write them into the master weights and detach.

        The network then applies the same weights as with hard signs, without annealing.
        """
        self._check_attached("finish")
        with put_back_on_failure(state for weight, alpha in self._attached for state in (weight.master, alpha)):
            self._write(lambda alpha: True)
            for _, alpha in self._attached:
                alpha.value = jnp.zeros_like(alpha.value)  # functions compiled before still read it
        for weight, _ in self._attached:
            weight.effective.sign_alpha = None
            weight.effective.forget()
        self._attached = []

    def _write(self, when: Callable[[jax.Array], jax.Array | bool]) -> None:
        # `where`, because inside jit alpha is traced and `if` cannot decide.
        for weight, alpha in self._attached:
            chip, master = weight.chip, weight.master.value
            limits = None if chip.weight_lowest is None else chip.weight_range
            hard = fold(master, jnp.inf, block=chip.sign_block, axis=chip.sign_axis, limits=limits)
            weight.master.value = jnp.where(when(alpha.value), hard, master)

    def _check_attached(self, method: str) -> None:
        if not self._attached:
            raise RuntimeError(f"SignAnnealing.{method}: the annealing is finished; make a new one to anneal again.")
        if any(weight.effective.sign_alpha is not alpha for weight, alpha in self._attached):
            raise RuntimeError(f"SignAnnealing.{method}: another SignAnnealing has replaced this one; use that.")
