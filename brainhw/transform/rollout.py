"""Run a network over time, with bounded memory where that is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.nn.preparation import StepCounting
from brainhw.nn.tap import listening
from brainhw.transform.checks import check_module
from brainhw.transform.finite import FiniteWatch
from brainhw.transform.layerwise import chain_of, offers, run_layerwise
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
) -> tuple[Any, dict[str, Any]]:
    """Prepare a network, run it over a time-major input, and return its outputs and what was recorded.

    Equal, to the last bit, to ``prepare_net(net, B)`` followed by ``brainstate.transform.for_loop(net, xs)``.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network; ``net(x)`` advances it by one step.
    xs : array, Quantity or pytree of them
        Input, time first: ``[T, N]`` for one sample or ``[T, B, N]`` for a batch.
    record : sequence of str, optional
        What to keep at every step besides the output: ``"hidden.V"`` is the state ``V`` of ``net.hidden`` (after the
        reset), ``"hidden.V_pre"`` the membrane before it, ``"hidden.spk"`` its spikes.
    checkpoint : 'auto', int or None, optional
        ``None`` (default) keeps what the backward pass needs of every step. An int keeps it of every so-many-th step
        and recomputes the rest; ``'auto'`` chooses about ``sqrt(T)``: memory falls from ``T`` to about ``2 sqrt(T)``
        stored steps for about one more forward pass. Outputs are the same to the last bit run eagerly; inside ``jit``
        XLA may round a membrane otherwise by one unit in the last place.
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
    A ``Sequential`` of fractional layers and other modules of brainhw, each in one place, runs layer by layer, each
    over the whole sequence, which gives the same spikes with a leaner backward pass (and no forward-mode derivatives);
    not with ``checkpoint``, ``pbar`` or ``check_finite``, nor where what is recorded only exists step by step.

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
    n_steps, batch_size = _time_and_batch(xs, call)
    _arguments.check_finite_tree(xs, call=call, name="xs")
    segment = _segment_length(checkpoint, n_steps, call)
    recorder = Recorder(net, record)
    if prepare:
        prepare_net(net, batch_size, key=key)
    elif key is not None:
        raise ValueError(f"{call}: key samples a chip while preparing, but prepare is False; leave one of them out.")
    for module in net.nodes().values():
        if isinstance(module, StepCounting):
            module.expect_steps(n_steps)
    if segment is None and pbar is None and not check_finite:
        chain = chain_of(net)
        if chain is not None and all(offers(*target) for target in recorder.targets.values()):
            if not recorder.targets:
                return run_layerwise(chain, xs), {}
            with listening() as heard:
                outputs = run_layerwise(chain, xs)
            return outputs, recorder.collect(heard)
    watch = FiniteWatch(net) if check_finite else None

    def step(t: jax.Array, x: Any) -> tuple[Any, dict[str, Any], dict[str, jax.Array]]:
        with listening() as heard:
            out = _advance(net, x)
        return out, recorder.read(heard), watch.step(t) if watch is not None else {}

    outputs, records, bad = _loop(step, (jnp.arange(n_steps), xs), n_steps, segment, pbar)
    if watch is not None:
        watch.report(bad)
    return outputs, records


def _advance(net: brainstate.nn.Module, x: Any) -> Any:
    try:
        return net(x)
    except brainstate.BrainStateError as error:
        # Containers such as Sequential wrap what went wrong in a printout of the module; the reason is what helps.
        reason: BaseException = error
        while type(reason) is brainstate.BrainStateError and reason.__cause__ is not None:
            reason = reason.__cause__
        raise reason from None


def _time_and_batch(xs: Any, call: str) -> tuple[int, int | None]:
    leaves = jax.tree.leaves(xs, is_leaf=lambda leaf: isinstance(leaf, u.Quantity))
    for leaf in leaves:
        if not hasattr(leaf, "shape"):
            raise TypeError(
                f"{call}: xs must be an array of shape [T, N] or [T, B, N], or a pytree of them; got a "
                f"{type(xs).__name__} that holds {_arguments.describe(leaf)}. Make arrays of lists first."
            )
    shapes = {np.shape(u.get_mantissa(leaf)) for leaf in leaves}
    if not shapes or any(len(shape) not in (2, 3) for shape in shapes):
        raise ValueError(f"{call}: xs must have shape [T, N] or [T, B, N]; got {_shapes(shapes)}.")
    leading = {shape[:-1] for shape in shapes}
    if len(leading) > 1:
        raise ValueError(f"{call}: all inputs must share their time and batch axes; got {_shapes(shapes)}.")
    (axes,) = leading
    if 0 in axes:
        raise ValueError(f"{call}: xs must hold at least one step and one sample; got {_shapes(shapes)}.")
    return axes[0], axes[1] if len(axes) == 2 else None


def _shapes(shapes: set[tuple[int, ...]]) -> str:
    return "shape " + " and ".join(str(shape) for shape in sorted(shapes)) if shapes else "nothing"


def _segment_length(checkpoint: int | str | None, n_steps: int, call: str) -> int | None:
    if checkpoint is None:
        return None
    if checkpoint == "auto":
        # A length that divides T needs no extra piece at the end, so one near sqrt(T) is preferred.
        root = max(1, math.isqrt(n_steps))
        near = [k for k in range(max(1, root // 2), 2 * root + 1) if n_steps % k == 0]
        return min(near, key=lambda k: abs(k - root)) if near else root
    if isinstance(checkpoint, str):
        raise ValueError(f"{call}: checkpoint must be None, 'auto' or a number of steps; got {checkpoint!r}.")
    return min(_arguments.positive_int(checkpoint, call=call, name="checkpoint"), n_steps)


def _loop(step: Callable[..., Any], xs: Any, n_steps: int, segment: int | None, pbar: Any) -> Any:
    if segment is None:
        return brainstate.transform.for_loop(step, *xs, pbar=pbar)

    run_segment = brainstate.transform.checkpoint(lambda *chunk: brainstate.transform.for_loop(step, *chunk))
    n_whole = n_steps // segment
    whole = n_whole * segment
    head = jax.tree.map(lambda x: x[:whole].reshape(n_whole, segment, *x.shape[1:]), xs)
    done = brainstate.transform.for_loop(run_segment, *head, pbar=pbar)
    done = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), done)
    if whole == n_steps:
        return done
    rest = run_segment(*jax.tree.map(lambda x: x[whole:], xs))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), done, rest)
