"""Run a network in real time: one step a call, compiled once, with states that the stream keeps to itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import brainstate
import jax
from brainstate._state import TRACE_CONTEXT

from brainhw import _arguments
from brainhw.transform.prepare import one_thread_at_a_time, prepare_net, step_limit
from brainhw.transform.record import Recorder
from brainhw.transform.stream_step import Numbers, StreamStep, as_step_input, refuse_inside_jit
from brainhw.transform.trace import try_step

__all__ = ["Stream", "stream"]

# What brainstate.environ takes for the whole process alone.
_PROCESS_WIDE = ("platform", "host_device_count")


def stream(
    net: brainstate.nn.Module,
    batch_size: int | None = 1,
    *,
    record: Sequence[str] = (),
    key: jax.Array | int | None = None,
) -> Stream:
    """Prepare a network and return a function that advances it by one step a call, as real time demands.

    Step by step it gives what :func:`brainhw.rollout` gives for the whole input.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network; ``net(x)`` advances it by one step.
    batch_size : int or None, optional
        The input of one step is ``[batch_size, ...]``, default 1, or ``[...]`` with ``None``.
    record : sequence of str, optional
        What to keep of the last step besides the output, named as for :func:`brainhw.rollout`; read it in
        ``stream.records``.
    key : jax.Array or int, optional
        Sampled chip, see :func:`brainhw.prepare_net`; the same one after each ``reset``.

    Returns
    -------
    Stream
        Call it with the input of one step.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is no module or cannot be prepared, an argument is bad, or no module has a recorded path.
    RuntimeError
        If no time step is set, or the call stands inside a compiled function.

    See Also
    --------
    brainhw.rollout : A whole sequence in one call; faster a step, and with gradients.

    Notes
    -----
    The first call compiles, which takes some tenths of a second; where that is too late, feed one step and ``reset``.
    It also settles the structure, shape, unit and number type of the input. Later inputs are checked for all of these,
    but not for NaN, which would cost more than the check may. Units are converted, NumPy's numbers too, and what a
    NumPy array holds is copied, so that a buffer may be filled anew as soon as the call returns.

    The settings of ``brainstate.environ``, ``dt`` among them, are those that held when the stream was made. A step may
    ask for its number ``i`` and its time ``t``: they count from those settings, otherwise from 0, and ``reset`` starts
    them anew.

    Several threads may call one stream: each call is one step, in the order in which they come.

    The stream owns its states, in memory that each step reuses. Those of the network stay at rest until
    ``write_back`` copies the stream's into them, and several streams on one network do not see each other. Preparing
    the network, which this call, the first step and ``reset`` do, puts its own states to rest.

    Weights are arguments of the compiled step, and not constants in it: the first step and ``reset`` take up what the
    weights, the chip in place and ``weight_bits`` are then, and a change in between has no effect. All else that is
    fixed about a layer, such as a time constant that is not learnt, a reset or the orders of ``set_orders``, is
    compiled in; for a change of that make a new stream.

    Random numbers that a step draws come from a branch of their generator, a new one for each stream and each
    ``reset``, so that no two share any.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(bh.nn.LIFSynapse(2, 3), bh.nn.LIFLayer(3, tau=10 * u.ms))
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     step = bh.stream(net, record=("layers.1.V",))
    >>> for _ in range(50):
    ...     spikes = step(jnp.ones((1, 2)))
    >>> step.steps, spikes.shape, step.records["layers.1.V"].shape
    (50, (1, 3), (1, 3))
    >>> step.reset()
    >>> step.steps
    0
    """
    call = "stream"
    _arguments.check_module(net, call=call)
    if batch_size is not None:
        batch_size = _arguments.positive_int(batch_size, call=call, name="batch_size", most=_arguments.LONGEST_AXIS)
    refuse_inside_jit(call)
    _arguments.time_step(call=call)
    return Stream(net, batch_size, Recorder(net, record, call=call), _arguments.as_key(key, call))


class Stream:
    """A network that advances by one step a call; :func:`stream` makes it.

    Attributes
    ----------
    steps : int
        Number of steps since the start or the last ``reset``.
    records : dict
        What was to be recorded, by name, as it is after the last step; empty before the first.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, numpy as np
    >>> layer = bh.nn.LIFLayer(3, tau=10 * u.ms)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     step = bh.stream(layer, batch_size=None)
    >>> spikes = step(np.array([0.5, 1.0, 2.0]) * u.mV)
    >>> step.write_back()
    >>> [f"{V:.2f}" for V in layer.V.value.mantissa]
    ['0.50', '0.00', '1.00']
    """

    def __init__(
        self, net: brainstate.nn.Module, batch_size: int | None, recorder: Recorder, key: jax.Array | None
    ) -> None:
        self._net, self._batch_size, self._recorder, self._key = net, batch_size, recorder, key
        self._settings = {k: v for k, v in brainstate.environ.all().items() if k not in _PROCESS_WIDE}
        self._step: StreamStep | None = None
        self._steps = 0
        self._moving: Numbers = ()
        self._fixed: Numbers = ()
        self._seen: Numbers | None = None
        self._limit: Any = None
        # A step donates its states: two threads in one step would both hand on the same memory.
        self._turn = threading.RLock()
        self._prepare()

    def __call__(self, x: Any) -> Any:
        """Advance by one step.

        Parameters
        ----------
        x : array, Quantity or pytree of them
            The input of this step, ``[batch_size, ...]`` or ``[...]``.

        Returns
        -------
        array, Quantity or pytree
            What the network returns. It may still be being computed, as ever in JAX; ``jax.block_until_ready`` waits.

        Raises
        ------
        TypeError, ValueError
            If the input does not have the structure, shape, unit or type of that of the first step, or a layer with
            ``kernel='dense'`` holds no more steps.
        RuntimeError
            If the call stands inside a compiled function, or the step before was interrupted.
        """
        # Only a look at a list, because this runs at every step in real time.
        if TRACE_CONTEXT.state_stack:
            refuse_inside_jit("stream")
        with self._turn:
            return self._advance(x)

    def _advance(self, x: Any) -> Any:
        step = self._step
        if step is None:
            step = self._start(x)
        if self._limit is not None and self._steps >= self._limit.steps_left:  # the network itself stays at rest
            raise self._limit.limit_reached("stream", self._steps + 1)
        leaves = step.input.leaves(x)
        try:
            self._moving, out, self._seen = step.run(self._moving, self._fixed, leaves)
        # The states were donated to a step that did not end; JAX raises either type when they are used again.
        except (RuntimeError, ValueError) as error:
            if any(leaf.is_deleted() for leaf in self._moving):
                raise RuntimeError(
                    "stream: the states are lost, because the step before was interrupted; call reset()."
                ) from error
            raise
        self._steps += 1
        return step.out_tree.unflatten(out)

    @property
    def steps(self) -> int:
        """Number of steps since the start or the last ``reset``."""
        return self._steps

    @property
    def records(self) -> dict[str, Any]:
        """What was to be recorded, as it is after the last step; empty before the first."""
        if self._step is None or self._seen is None:
            return {}
        return self._step.seen_tree.unflatten(self._seen)

    def reset(self) -> None:
        """Put the states back to rest and take up the present weights and the chip in place.

        Nothing is compiled anew, unless the network's states were replaced or have another shape or type now.

        Raises
        ------
        ValueError
            If a weight is NaN or infinite.
        RuntimeError
            If the call stands inside a compiled function.
        """
        refuse_inside_jit("stream.reset")
        with self._turn, one_thread_at_a_time():
            self._prepare()
            self._steps, self._seen = 0, None
            # The compiled step holds the states themselves, not their names: replaced ones would never be read.
            if self._step is not None and not self._step.fits(self._net):
                self._step = None
            if self._step is not None:
                self._moving, self._fixed = self._step.numbers()

    def write_back(self) -> None:
        """Copy the states of the stream into the network, which may be read there, or run on by :func:`rollout`.

        Random generators are left alone. The stream goes on as before; call it again to see later states.

        Raises
        ------
        RuntimeError
            If the call stands inside a compiled function.
        """
        refuse_inside_jit("stream.write_back")
        with self._turn, one_thread_at_a_time():
            if self._step is not None:
                self._step.write(self._moving)

    def _prepare(self) -> None:
        with brainstate.environ.context(**self._settings), one_thread_at_a_time():
            prepare_net(self._net, self._batch_size, key=self._key)
            self._limit = step_limit(self._net, "stream")

    def _start(self, x: Any) -> StreamStep:
        refuse_inside_jit("stream")
        with brainstate.environ.context(**self._settings), one_thread_at_a_time():
            self._prepare()  # others may have used the network since this stream was made
            x = as_step_input(x, self._batch_size)
            try_step(self._net, x, call="stream")  # a step that would give wrong numbers in silence is refused
            step = StreamStep(self._net, self._recorder.step, x, self._settings)
            self._moving, self._fixed = step.numbers()
            step.compile(self._moving, self._fixed, x)
        self._step = step
        return step
