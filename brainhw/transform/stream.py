"""Run a network in real time, one step per call. The step is compiled once, and a stream has its own states."""

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
from brainhw.transform.stream_step import Arrays, StreamStep, as_step_input, refuse_inside_jit
from brainhw.transform.trace import try_step

__all__ = ["Stream", "stream"]

# Settings that brainstate.environ accepts only for the whole process.
_PROCESS_WIDE = ("platform", "host_device_count")


def stream(
    net: brainstate.nn.Module,
    batch_size: int | None = 1,
    *,
    record: Sequence[str] = (),
    key: jax.Array | int | None = None,
) -> Stream:
    """Prepare a network for real time, and return a function that advances it by one step per call.

    The outputs of all steps equal those of :func:`brainhw.rollout` on the whole input.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network; ``net(x)`` advances it by one step.
    batch_size : int or None, optional
        Number of samples, default 1. The input of one step is ``[batch_size, ...]``, or ``[...]`` for ``None``.
    record : sequence of str, optional
        Names of values to record, as for :func:`brainhw.rollout`. ``records`` of the stream contains the values of the
        last step.
    key : jax.Array or int, optional
        PRNG key or seed of a sampled chip, see :func:`brainhw.prepare_net`. Each ``reset`` uses the same chip.

    Returns
    -------
    Stream
        Call it with the input of one step.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is not a module or cannot be prepared, if an argument is invalid, or if ``record`` names a module
        that does not exist.
    RuntimeError
        If no time step is set, or if it is called inside a compiled function.

    See Also
    --------
    brainhw.rollout : Runs a whole sequence in one call. It is faster per step and has gradients.

    Notes
    -----
    The first call compiles the step, which takes some tenths of a second. If that is too slow in real time, run one
    step beforehand and call ``reset``. The first call also fixes the structure, shape, unit and dtype of the input.
    Later inputs must match these. Inputs are not checked for NaN, because that check would take too long. An input in a
    different unit of the same dimension is converted. NumPy arrays are converted and copied, so you may refill a buffer
    as soon as the call returns.

    The stream uses the settings that ``brainstate.environ`` had when the stream was created, such as ``dt``. A step may
    read its number ``i`` and its time ``t``. They start from the values in those settings. If ``i`` is not set, it
    starts from 0. If ``t`` is not set, it is ``i * dt``. ``reset`` sets both back to the start.

    Several threads may call one stream. Each call is one step, in the order of the calls.

    The stream has its own states, and each step reuses their memory. A step does not change the states of the network;
    ``write_back`` copies the stream's states into them. Several streams on one network do not affect each other.
    ``stream``, the first step and ``reset`` prepare the network. Each preparation resets the network's own states.

    Weights are arguments of the compiled step, not constants. The first step and ``reset`` read the current weights,
    chip and ``weight_bits``; changes in between have no effect. Other fixed properties of a layer become constants of
    the compiled step, such as a time constant that is not trainable, the kind of reset, or the orders of
    ``set_orders``. If you change one of these, create a new stream.

    If a step uses random generators, each new stream and each ``reset`` splits a new key from every generator.
    Different streams therefore draw different random numbers, and so does a stream after a ``reset``.

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
    """A network that advances by one step per call, returned by :func:`stream`.

    Attributes
    ----------
    steps : int
        Number of steps since the start or the last ``reset``.
    records : dict
        Recorded values after the last step, by name; empty before the first step.

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
        self._written: Arrays = ()
        self._read_only: Arrays = ()
        self._last_records: Arrays | None = None
        self._limit: Any = None
        # A step reuses the memory of its states, so two threads must not run a step at the same time.
        self._lock = threading.RLock()
        self._prepare()

    def __call__(self, x: Any) -> Any:
        """Advance by one step.

        Parameters
        ----------
        x : array, Quantity or pytree of them
            Input of this step, ``[batch_size, ...]`` or ``[...]``.

        Returns
        -------
        array, Quantity or pytree
            Output of the network. JAX may still be computing it; ``jax.block_until_ready`` waits for the result.

        Raises
        ------
        TypeError, ValueError
            If the input does not have the structure, shape, unit and number type of the first input, or if a layer with
            ``kernel='dense'`` cannot store more steps.
        RuntimeError
            If it is called inside a compiled function, or if the previous step was interrupted.
        """
        # This runs at every step in real time, so make the full check only if this quick test of a list finds a trace.
        if TRACE_CONTEXT.state_stack:
            refuse_inside_jit("stream")
        with self._lock:
            return self._advance(x)

    def _advance(self, x: Any) -> Any:
        step = self._step
        if step is None:
            step = self._start(x)
        # Compare with the steps of this stream, because the network's own step count does not advance.
        if self._limit is not None and self._steps >= self._limit.steps_left:
            raise self._limit.limit_reached("stream", self._steps + 1)
        leaves = step.input.leaves(x)
        try:
            self._written, out, self._last_records = step.run(self._written, self._read_only, leaves)
        # An interrupted step has lost its donated states. JAX raises one of these errors when they are used again.
        except (RuntimeError, ValueError) as error:
            if any(leaf.is_deleted() for leaf in self._written):
                raise RuntimeError(
                    "stream: the states are lost, because the previous step was interrupted. Call reset()."
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
        """Recorded values after the last step, by name; empty before the first step."""
        if self._step is None or self._last_records is None:
            return {}
        return self._step.records_tree.unflatten(self._last_records)

    def reset(self) -> None:
        """Reset the states, and read the current weights and chip of the network.

        The step is recompiled only if the network's states were replaced, or have a different shape or dtype.

        Raises
        ------
        ValueError
            If a weight is NaN or infinite.
        RuntimeError
            If it is called inside a compiled function.
        """
        refuse_inside_jit("stream.reset")
        with self._lock, one_thread_at_a_time():
            self._prepare()
            self._steps, self._last_records = 0, None
            # The compiled step refers to the state objects, so it would never read states that replaced them.
            if self._step is not None and not self._step.fits(self._net):
                self._step = None
            if self._step is not None:
                self._written, self._read_only = self._step.state_arrays()

    def write_back(self) -> None:
        """Copy the states of the stream into the network, to read them there or to continue with :func:`rollout`.

        Random generators are not copied. The stream continues as before; call this again to see later states.

        Raises
        ------
        RuntimeError
            If it is called inside a compiled function.
        """
        refuse_inside_jit("stream.write_back")
        with self._lock, one_thread_at_a_time():
            if self._step is not None:
                self._step.write(self._written)

    def _prepare(self) -> None:
        with brainstate.environ.context(**self._settings), one_thread_at_a_time():
            prepare_net(self._net, self._batch_size, key=self._key)
            self._limit = step_limit(self._net, "stream")

    def _start(self, x: Any) -> StreamStep:
        refuse_inside_jit("stream")
        with brainstate.environ.context(**self._settings), one_thread_at_a_time():
            self._prepare()  # the network may have been used elsewhere since this stream was created
            x = as_step_input(x, self._batch_size)
            try_step(self._net, x, call="stream")  # refuse a step that would silently give wrong results
            step = StreamStep(self._net, self._recorder.step, x, self._settings)
            self._written, self._read_only = step.state_arrays()
            step.compile(self._written, self._read_only, x)
        self._step = step
        return step
