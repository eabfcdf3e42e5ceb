"""Run a network over time, with bounded memory where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.kernel.leaky_sequence import KEPT
from brainhw.transform.checks import check_module, registered_modules, step_limit
from brainhw.transform.finite import FiniteWatch
from brainhw.transform.layerwise import in_pieces, layers_of, segment_length
from brainhw.transform.prepare import prepare_net
from brainhw.transform.record import Recorder

__all__ = ["rollout"]


def rollout(
    net: brainstate.nn.Module,
    xs: Any,
    *,
    record: Sequence[str] = (),
    checkpoint: int | str | None = None,
    pbar: Any = None,
    prepare: bool = True,
    key: jax.Array | int | None = None,
    check_finite: bool = False,
    layerwise: bool = True,
) -> tuple[Any, dict[str, Any]]:
    """Prepare a network, run it over a time-major input, and return its outputs and what was recorded.

    The same as ``prepare_net(net, B)`` followed by ``brainstate.transform.for_loop(net, xs)``, and faster where the net
    can run layer by layer (see Notes).

    Parameters
    ----------
    net : brainstate.nn.Module
        The network; ``net(x)`` advances it by one step.
    xs : array, Quantity or pytree of them
        Input, time first: ``[T, ...]`` for one sample or ``[T, B, ...]`` for a batch (see Notes).
    record : sequence of str, optional
        What to keep at every step besides the output: ``"hidden.V"`` is the state ``V`` of ``net.hidden`` (after the
        reset), ``"hidden.V_pre"`` the membrane before it, ``"hidden.spk"`` its spikes.
    checkpoint : 'auto', int or None, optional
        ``None`` (default) keeps what the backward pass needs of every step. An int keeps it of every so-many-th step
        and recomputes the rest; ``'auto'`` chooses about ``sqrt(T) / 2``: memory falls from ``T`` to some ``3 sqrt(T)``
        stored steps for about one more forward pass. XLA may round a membrane otherwise by one unit in the last place.
    pbar : int or brainstate.transform.ProgressBar, optional
        Progress bar over steps (over segments with ``checkpoint``).
    prepare : bool, optional
        Call :func:`brainhw.prepare_net` first. Default True; ``False`` goes on from the present states, so that a
        stream fed in chunks gives what one long run gives.
    key : jax.Array or int, optional
        Sampled chip, see :func:`brainhw.prepare_net`. Only with ``prepare=True``.
    check_finite : bool, optional
        Raise ``FloatingPointError`` (inside a compiled function: ``JaxRuntimeError`` with the same words) naming the
        state and the step at which a hidden state, or under ``grad`` the gradient that flows into it, stops being
        finite. A debugging aid, off by default: it costs time.
    layerwise : bool, optional
        Run layer by layer where the net allows it (see Notes). Default True; ``False`` runs every net step by step,
        which is slower and has forward-mode derivatives too.

    Returns
    -------
    outputs : array, Quantity or pytree
        What ``net`` returned, stacked: ``[T, ...]``.
    records : dict
        The recorded values by name, ``[T, ...]``.

    Raises
    ------
    TypeError, ValueError
        If ``xs`` is empty, ragged or not finite, a recorded name does not exist, or an option is unknown.

    Notes
    -----
    A net runs layer by layer over many steps at once if all that changes in a step are the states of LIF, H1 or
    fractional layers, leaky readouts and other modules with an ``update_sequence``, and if what stands between them
    (synapses, scaling, skip connections, units, convolutions, pooling) depends on the same step alone. Synapses are
    one matrix product then, and neurons have a leaner backward pass but no forward-mode derivatives. One traced step
    shows whether this holds. Spikes and gradients are those of the steps; where a library sums a large product in
    another order than a small one, a membrane may be rounded otherwise by some units in the last place. Any other net
    runs step by step, as does one with ``pbar`` or ``check_finite``, or where something is recorded that only exists
    step by step.

    Two axes are ``[T, N]``, three ``[T, B, N]``, more ``[T, B, ...]``. Images without a batch are recognised by the
    ``in_size`` of the network or of a module in it: ``[T, 28, 28, 1]`` for ``in_size=(28, 28, 1)``.

    ``dt`` is baked into a compiled function: compile one for each. So is whether the net was prepared outside of it, so
    a function compiled with ``prepare=False`` cannot notice that weights have changed since.

    Outside ``brainstate.transform.jit`` every call compiles the loop anew; put training and evaluation steps in
    ``jit``. A not finite ``xs`` can only be seen there where it is not traced; use ``check_finite`` inside.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> net = brainstate.nn.Sequential(bh.nn.LIFSynapse(2, 3), bh.nn.LIFLayer(3, tau=10 * u.ms))
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     spikes, seen = bh.rollout(net, jnp.ones((50, 4, 2)), record=("layers.1.V",))
    >>> spikes.shape, seen["layers.1.V"].shape
    ((50, 4, 3), (50, 4, 3))
    """
    call = "rollout"
    check_module(net, call=call)
    n_steps, batch_size = time_and_batch(net, xs, call=call)
    _arguments.check_finite_tree(xs, call=call, name="xs")
    segment = segment_length(checkpoint, n_steps, call=call)
    recorder = Recorder(net, record, call=call)
    if prepare:
        prepare_net(net, batch_size, key=key)
    elif key is not None:
        raise ValueError(f"{call}: key samples a chip while preparing, but prepare is False; leave one of them out.")
    limit = step_limit(net, call)
    if limit is not None and limit.steps_left < n_steps:
        raise limit.limit_reached(call, n_steps)
    layers = None
    if _arguments.flag(layerwise, call=call, name="layerwise") and pbar is None and not check_finite:
        layers = layers_of(net, jax.tree.map(lambda x: x[0], xs), call=call)
    if layers is not None and all(layers.offer(*target) for target in recorder.targets.values()):

        def layer_by_layer(xs: Any) -> tuple[Any, dict[str, Any]]:
            with recorder.hearing() as heard:
                outputs = layers(xs)
            return outputs, recorder.collect(heard)

        if layers.can_be_cut:
            length = segment or layers.steps_at_once(n_steps)
            if length == n_steps and segment is None and not layers.is_plain:
                return layer_by_layer(xs)  # keeps what the links computed, for the backward pass
            return in_pieces(layer_by_layer, (xs,), n_steps, length, keeps=() if segment else (KEPT,))
        if segment is None:
            return layer_by_layer(xs)
    watch = FiniteWatch(net) if check_finite else None

    def step(t: jax.Array, x: Any) -> tuple[Any, dict[str, Any], dict[str, jax.Array]]:
        return *recorder.step(x), watch.step(t) if watch is not None else {}

    timed = jnp.arange(n_steps), xs
    if segment is None:
        outputs, records, bad = brainstate.transform.for_loop(step, *timed, pbar=pbar)
    else:
        steps = partial(brainstate.transform.for_loop, step)
        outputs, records, bad = in_pieces(steps, timed, n_steps, segment, pbar=pbar)
    if watch is not None:
        watch.report(bad)
    return outputs, records


def time_and_batch(net: brainstate.nn.Module, xs: Any, *, call: str) -> tuple[int, int | None]:
    """Return the number of steps and the batch size of an input; the batch size is ``None`` for one sample.

    A module of ``net`` decides whose ``in_size`` has several axes and equals the last axes of the input, such as
    ``(28, 28, 1)`` of a ``Conv2d``: what stands in front of them is ``[T]`` or ``[T, B]``. Otherwise an input of two
    axes is ``[T, N]``, one of three ``[T, B, N]``, and one of more ``[T, B, ...]``.
    """
    leaves = jax.tree.leaves(xs, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))
    for leaf in leaves:
        if not hasattr(leaf, "shape"):
            raise TypeError(
                f"{call}: xs must be an array of shape [T, ...] or [T, B, ...], or a pytree of them; got a "
                f"{type(xs).__name__} that holds {_arguments.describe(leaf)}. Make arrays of lists first."
            )
    shapes = {np.shape(u.get_mantissa(leaf)) for leaf in leaves}
    if not shapes or any(len(shape) < 2 for shape in shapes):
        raise ValueError(f"{call}: xs must have shape [T, ...] or [T, B, ...]; got {_shapes(shapes)}.")
    leading = {shape[: _leading_axes(net, shape)] for shape in shapes}
    if len(leading) > 1:
        raise ValueError(f"{call}: all inputs must share their time and batch axes; got {_shapes(shapes)}.")
    (axes,) = leading
    if 0 in axes:
        raise ValueError(f"{call}: xs must hold at least one step and one sample; got {_shapes(shapes)}.")
    return axes[0], axes[1] if len(axes) == 2 else None


def _leading_axes(net: brainstate.nn.Module, shape: tuple[int, ...]) -> int:
    if len(shape) > 2:
        sizes = (getattr(module, "in_size", None) for _, module in registered_modules(net))
        for size in sizes:
            n = len(shape) - len(size) if isinstance(size, tuple) and len(size) > 1 else 0
            if n in (1, 2) and shape[n:] == size:
                return n
    return 1 if len(shape) == 2 else 2


def _shapes(shapes: set[tuple[int, ...]]) -> str:
    return "shape " + " and ".join(str(shape) for shape in sorted(shapes)) if shapes else "nothing"
