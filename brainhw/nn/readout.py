"""Readout outside the chip: leaky integrators, without a threshold, that sum weighted spikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp

from brainhw import _arguments
from brainhw.kernel.leaky import per_sample
from brainhw.kernel.precision import is_half, narrowed
from brainhw.nn.leak import decay_factor
from brainhw.nn.parameter import neuron_parameter, weight_state
from brainhw.nn.protocols import tap
from brainhw.nn.ranges import DENSE_NUMBER, TIME_CONSTANT, Range
from brainhw.nn.spiking import RestingStates, tall_product, zeros

__all__ = ["LeakyReadout"]


class LeakyReadout(RestingStates):
    r"""Leaky integrators that sum weighted spikes; their outputs are logits.

    .. math:: y_t = e^{-\Delta t/\tau} y_{t-1} + x_t W + b

    The readout models a computation outside the chip, on the computer that receives the spikes.

    Parameters
    ----------
    in_size, out_size : int
        Number of inputs and of outputs.
    tau : Quantity or brainstate.nn.Param
        Time constant, scalar or ``[out_size]``. For a trainable time constant, pass a ``Param``.
    weight_init : callable or array, optional
        Initializer called with ``(in_size, out_size)``, or the weights themselves, dimensionless.
        Default ``braintools.init.KaimingNormal()``.
    bias : bool, optional
        Whether to add one trainable bias per output. The biases are initially zero. Default False.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    y : brainstate.HiddenState
        Output, ``[out_size]`` or ``[B, out_size]``, dimensionless.
    weight : brainstate.ParamState
        Weights, ``[in_size, out_size]``, dimensionless.

    Raises
    ------
    TypeError
        If an argument has the wrong type or unit. The message names the argument.
    ValueError
        If an argument has the wrong shape or is out of range. The message names the argument.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> readout = bh.nn.LeakyReadout(2, 1, tau=10 * u.ms, weight_init=jnp.ones((2, 1)))
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     ys = [float(readout(jnp.array([1.0, s]))[0]) for s in (0.0, 1.0)]
    >>> [round(y, 4) for y in ys]
    [1.0, 2.9048]
    """

    parameter_ranges: ClassVar[dict[str, Range]] = {"tau": TIME_CONSTANT, "weight": DENSE_NUMBER}

    def __init__(
        self,
        in_size: int,
        out_size: int,
        tau: u.Quantity | brainstate.nn.Param,
        *,
        weight_init: Callable[..., Any] | jax.Array | None = None,
        bias: bool = False,
        name: str | None = None,
    ) -> None:
        call = type(self).__name__
        _arguments.flag(bias, call=call, name="bias")
        n_in = _arguments.size(in_size, call=call, name="in_size")
        n_out = _arguments.size(out_size, call=call, name="out_size")
        super().__init__((n_in,), name=_arguments.module_name(name, call=call))
        self.out_size = (n_out,)
        self.tau = neuron_parameter(tau, TIME_CONSTANT, n_out, call=call, name="tau")
        init = braintools.init.KaimingNormal() if weight_init is None else weight_init
        self.weight = weight_state(init, (n_in, n_out), call=call, name="weight_init")
        self.bias = brainstate.ParamState(jnp.zeros(n_out, brainstate.environ.dftype())) if bias else None
        RestingStates.init_state(self)

    def resting_values(self, batch_size: int | None = None) -> dict[str, Any]:
        """Return the resting value of the output ``y``, zeros ``[out_size]`` or ``[batch_size, out_size]``."""
        return {"y": zeros(self.out_size[-1], batch_size)}

    def update(self, x: jax.Array) -> jax.Array:
        """Advance one step and return the output, ``[out_size]`` or ``[B, out_size]``.

        Parameters
        ----------
        x : jax.Array
            Spikes or dimensionless values, ``[in_size]`` or ``[B, in_size]``.
        """
        drive, decay = self._drive_and_decay(x, f"{type(self).__name__}.update")
        y = decay * self.y.value + drive
        self.y.value = y
        return self._returned(y)

    sequence_records = ("y",)
    can_be_cut = True

    def gains_from_sequence(self) -> bool:
        """Return False, because a readout alone does not justify processing whole sequences."""
        return False

    def update_sequence(self, xs: jax.Array) -> jax.Array:
        """Return the outputs of :meth:`update` for ``xs [T, ..., in_size]``, with one matrix product for all steps."""
        drives, decay = self._drive_and_decay(xs, f"{type(self).__name__}.update_sequence", steps=True)

        # No custom backward pass is needed. The step is linear in `y`, so JAX stores no values per step unless `tau` is
        # trainable.
        def one_step(y: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
            y = decay * y + drive
            return y, y

        self.y.value, ys = jax.lax.scan(one_step, jnp.asarray(self.y.value), drives)
        tap(self, "y", ys)
        return self._returned(ys)

    def _returned(self, y: jax.Array) -> jax.Array:
        """Convert the output ``y`` to half precision if the weights have half precision; the state stays in float32."""
        precision = self.weight.value.dtype
        return y.astype(precision) if is_half(precision) else y

    def _drive_and_decay(self, x: Any, call: str, *, steps: bool = False) -> tuple[jax.Array, jax.Array]:
        """Return the weighted input plus the bias, and the factor by which the output decays per step."""
        dt = _arguments.time_step(call=call)
        x = _arguments.step_input(x, self.in_size[-1], call=call, ndims=(2, 3) if steps else (1, 2))
        weight = self.weight.value
        # For a whole sequence, compute one matrix product for all steps. The leaky integration still needs a time loop.
        drive = tall_product(x, weight) if steps else x @ weight
        shape = x.shape[1:] if steps else x.shape
        if (*shape[:-1], self.out_size[-1]) != self.y.value.shape:
            raise ValueError(
                f"{call}: the input has shape {shape} but the state was prepared for {self.y.value.shape}; call "
                f"brainhw.prepare_net(net, batch_size={shape[0] if len(shape) == 2 else None}) before the time loop."
            )
        if self.bias is not None:
            drive = drive + per_sample(self.bias.value, drive)
        return narrowed(drive, self.y.value.dtype), per_sample(decay_factor("taus", self.tau, dt), self.y.value)
