"""Export of one step of a network as a StableHLO program."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import brainstate
import brainunit as u
import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw._files import versions
from brainhw.interop.stablehlo.program import StepProgram
from brainhw.interop.stablehlo.safety import faults
from brainhw.kernel.events import dense_products
from brainhw.transform.prepare import prepare_net, states_restored, step_limit
from brainhw.transform.record import advance
from brainhw.transform.stream_step import StepState, StreamStep

__all__ = ["export_step"]

Platform = Literal["cpu", "cuda", "rocm", "tpu"]
PLATFORMS: tuple[Platform, ...] = get_args(Platform)


def export_step(
    net: brainstate.nn.Module,
    x: Any,
    *,
    dt: u.Quantity | None = None,
    key: jax.Array | int | None = None,
    platforms: Sequence[Platform] | None = None,
) -> StepProgram:
    """Export one step of a network as a StableHLO program. The program runs without the network and its code.

    If you start from ``initial_state``, the outputs of the program are bit-identical to those of
    :func:`brainhw.stream`. They also equal the outputs of :func:`brainhw.rollout` with ``layerwise=False``, except that
    XLA may round differently inside a time loop. The export prepares the network as these functions do, and restores
    the network afterwards.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. ``net(x)`` must advance the network by one step.
    x : array or Quantity
        Example input of one step, ``[N]`` for one sample or ``[B, N]`` for a batch. The program accepts inputs of the
        same shape, dtype and unit. The values of the example do not matter.
    dt : Quantity, optional
        Time step. Default: the time step of ``brainstate.environ``.
    key : jax.Array or int, optional
        PRNG key or seed for sampling a chip, see :func:`brainhw.prepare_net`. Default: the current chip, sampled or
        nominal.
    platforms : sequence of {'cpu', 'cuda', 'rocm', 'tpu'}, optional
        Platforms on which the program can run. They need not be available on this machine. Duplicates are ignored.
        Default: the current platform of JAX.

    Returns
    -------
    StepProgram
        The program. Run it with ``step(state, x)`` from ``initial_state``, or write it to a file with ``save(path)``.

    Raises
    ------
    TypeError
        If an argument has an invalid type. If the output is not an array, a Quantity, or a tuple, list or dict (with
        string keys) of them.
    ValueError
        If an argument has an invalid value or the network cannot be prepared. If a step draws random numbers, calls
        back into Python, or calls an external library, as ``jax.numpy.linalg`` does. If a step reads ``t`` or ``i``
        from ``brainstate.environ``. If a layer can run only for a limited number of steps.
    RuntimeError
        If no time step is set, or if the call is inside a compiled function.

    Notes
    -----
    Values that a step writes are state: membrane potentials, spikes and currents. The state is an argument and a result
    of the program. Values that a step only reads are constants in the program: time constants, thresholds, ``dt``, and
    the effective weights, to which sign annealing, rounding, charge curve and mismatch are already applied. After
    further training, you must export again. The program has no gradients.

    The program contains no names of source files of this machine. The export restores the global random state.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> from brainhw.interop.stablehlo import export_step
    >>> net = brainstate.nn.Sequential(bh.nn.H1v1Synapse(4, 3), bh.nn.H1v1Layer(3, tau=10 * u.ms))
    >>> export_step(net, jnp.zeros((8, 4)), dt=1.0 * u.ms, platforms=("cpu",))
    StepProgram for cpu, dt 1 ms
      input: float32[8, 4] dimensionless
      state layers.1.V: float32[8, 3] mV
      state layers.1.spk: float32[8, 3] dimensionless
      output: float32[8, 3] dimensionless
    """
    call = "export_step"
    _arguments.check_module(net, call=call)
    if _arguments.inside_jit():
        raise RuntimeError(
            f"{call}: a program cannot be exported inside jit, because it is compiled separately. Call export_step "
            "outside of jit."
        )
    x = _example(x, call)
    key = _arguments.as_key(key, call)
    chosen = _platforms(platforms, call)
    if dt is None:
        dt = _arguments.time_step(call=call)
    else:
        dt = _arguments.quantity(dt, u.ms, call=call, name="dt", shapes=[()], positive=True)
    with (
        brainstate.environ.context(dt=dt),
        jax.disable_jit(False),  # jax.export needs a compiled function
        dense_products(),  # compiled numba loops exist only in this process
        _random_state_restored(),
        states_restored(net, keep_weights=False),
    ):
        prepare_net(net, x.shape[0] if x.ndim == 2 else None, key=key)
        _check_endless(net, call)
        step = StreamStep(net, lambda x: (_checked_output(advance(net, x), call), {}), x, {"dt": dt}, call=call)
        names, units = _states(step.held, call)
        if step.reads_time:
            raise ValueError(
                f"{call}: the step reads t or i from brainstate.environ, but an exported program does not count time "
                "steps. Pass the time as part of x."
            )
        written, constants = step.state_arrays()
        output_units: list[u.Unit | None] = []

        def pure(state: dict[str, jax.Array], x: jax.Array) -> tuple[dict[str, jax.Array], Any]:
            # The barriers prevent constant folding, because the compiler may round an exponential differently from the
            # processor. Each constant has its own barrier, so that JAX can remove constants that only training reads.
            barred_constants = tuple(map(jax.lax.optimization_barrier, constants))
            new_state, out, _ = step.pure(tuple(state[name] for name in names), barred_constants, [x])
            leaves, tree = jax.tree.flatten(step.out_tree.unflatten(out), is_leaf=_is_quantity)
            output_units[:] = [_unit(leaf) for leaf in leaves]
            return dict(zip(names, new_state, strict=True)), tree.unflatten([u.get_mantissa(leaf) for leaf in leaves])

        initial_state = dict(zip(names, written, strict=True))
        try:
            with _without_locations():
                # With keep_unused, each state is an argument, even if a step only writes this state. For example, a
                # step only writes the spikes of a layer without recurrent weights.
                step_once = jax.jit(pure, keep_unused=True)
                exported = jax.export.export(step_once, platforms=chosen)(initial_state, u.get_mantissa(x))
        except (ValueError, NotImplementedError) as error:
            if str(error).startswith(call):
                raise
            raise ValueError(
                f"{call}: JAX cannot export this step ({error}). Remove calls to Python and to external libraries."
            ) from error
    _check_effects(exported, call)
    if (found := next(faults(exported), None)) is not None:
        raise ValueError(
            f"{call}: the step cannot be exported as a program: {found}. Remove the operation that causes this, such "
            "as a function of jax.numpy.linalg."
        )
    return StepProgram(
        exported,
        dict(zip(names, units, strict=True)),
        _unit(x),
        tuple(output_units),
        dt,
        versions(),
        {name: np.asarray(value) for name, value in initial_state.items()},
    )


@contextlib.contextmanager
def _random_state_restored() -> Iterator[None]:
    """Context manager that restores the global random state on exit.

    Preparing a network and tracing a step with ``fit=True`` change this state.
    """
    state = brainstate.random.DEFAULT
    before = state.value
    try:
        yield
    finally:
        state.value = before


@contextlib.contextmanager
def _without_locations() -> Iterator[None]:
    """Context manager in which exported programs contain no paths of source files.

    These paths contain the names of users and folders.
    """
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _example(x: Any, call: str) -> Any:
    """Convert the example input to a JAX array. Raise an error if it is not the input of one step."""
    if isinstance(x, u.Quantity):
        example = u.Quantity(jnp.asarray(x.mantissa), unit=x.unit)
    else:
        example = jnp.asarray(_arguments.as_array(x, call=call, name="x"))
    if example.ndim not in (1, 2) or 0 in example.shape:
        raise ValueError(
            f"{call}: x must be the input of one step, [N] or [B, N], with N and B at least 1; got shape "
            f"{example.shape}."
        )
    return example


def _platforms(platforms: Any, call: str) -> tuple[str, ...]:
    if platforms is None:
        return (jax.export.default_export_platform(),)
    if isinstance(platforms, str) or not isinstance(platforms, Sequence) or not platforms:
        raise TypeError(
            f"{call}: platforms must be a sequence of names such as ('cpu',); got {_arguments.describe(platforms)}."
        )
    names = [_arguments.choice(name, PLATFORMS, call=call, name="each entry of platforms") for name in platforms]
    return tuple(dict.fromkeys(names))


def _check_endless(net: brainstate.nn.Module, call: str) -> None:
    limit = step_limit(net, call)
    if limit is not None and not math.isinf(most := limit.steps_left):
        raise ValueError(
            f"{call}: a layer with kernel='dense' can run for only {most:.0f} time steps, but a program does not count "
            "its time steps. Use kernel='soe', which can run for any number of time steps, or truncate the memory with "
            "memory=."
        )


def _states(held: list[StepState], call: str) -> tuple[list[str], list[u.Unit | None]]:
    """Return the names and the units of all arrays in the states that a step writes.

    Raise a ``ValueError`` if the step draws random numbers.
    """
    names: list[str] = []
    units: list[u.Unit | None] = []
    for one in held:
        value = one.state.value
        if isinstance(one.state, brainstate.random.RandomState) or any(impl is not None for impl in one.key_impls):
            raise ValueError(
                f"{call}: a step draws random numbers ({one.path or type(one.state).__name__}), but an exported "
                "program is deterministic. Export outside of brainstate.environ.context(fit=True), or remove the noise."
            )
        if not one.is_written:
            continue
        path = one.path or f"{type(one.state).__name__}{len(names)}"
        for where, leaf in jax.tree_util.tree_leaves_with_path(value, is_leaf=_is_quantity):
            names.append(path + jax.tree_util.keystr(where))
            units.append(_unit(leaf))
    return names, units


def _checked_output(out: Any, call: str) -> Any:
    """Return ``out`` unchanged. Raise an error unless it is an array, a Quantity, or a tuple, list or dict of them."""
    if type(out) is dict:
        # JAX sorts the keys of a dict, which fails for keys of different types.
        bad = [name for name in out if not isinstance(name, str)]
        if bad:
            raise TypeError(
                f"{call}: the keys of a dict that a step returns must be strings; got the key "
                f"{_arguments.describe(bad[0])}."
            )
    # Subclasses such as a NamedTuple are rejected, because a file does not contain the code of their class.
    if type(out) in (tuple, list, dict):
        for part in out.values() if type(out) is dict else out:
            _checked_output(part, call)
    elif not (out is None or _is_quantity(out) or jax.tree_util.all_leaves([out])):
        raise TypeError(
            f"{call}: a step must return an array, a Quantity, or tuples, lists and dicts of them; it returns "
            f"{_arguments.describe(out)}."
        )
    return out


def _check_effects(exported: jax.export.Exported, call: str) -> None:
    effects = [*exported.ordered_effects, *exported.unordered_effects]
    if effects:
        raise ValueError(
            f"{call}: a step calls back into Python ({', '.join(map(str, effects))}), which an exported program cannot "
            "do. Remove prints and callbacks."
        )


def _unit(value: Any) -> u.Unit | None:
    return u.get_unit(value) if _is_quantity(value) else None


def _is_quantity(value: Any) -> bool:
    return isinstance(value, u.Quantity)
