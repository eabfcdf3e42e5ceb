"""Compiled simulation of a sampled chip. Programs of the same shape share one compiled function."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw.deploy.bundle_content import DTYPES, BundleContent
from brainhw.deploy.bundled_net import BundledNet
from brainhw.deploy.survey import INPUT
from brainhw.kernel.leaky import per_sample
from brainhw.kernel.precision import as_dtype, narrowed
from brainhw.kernel.quantize import stored_grid
from brainhw.nn import H1Layer
from brainhw.nn.effective import EffectiveWeight
from brainhw.nn.protocols import runs_whole_sequence
from brainhw.silicon.hidden import HiddenValues
from brainhw.silicon.program import ChipProgram
from brainhw.transform.trace import registered_modules

__all__ = ["POOL", "CompiledRun", "settings_of", "shape_of"]

# Size of a table of normal random numbers, which are drawn once. Each step of a run adds two windows of this table, at
# random positions. This takes 0.2 ms for 116 steps of 54 samples and 145 neurons on a CPU. Drawing new numbers would
# take 4 ms, as long as a training step.
POOL = 2**20


def settings_of(content: BundleContent) -> contextlib.AbstractContextManager[Any]:
    """Return a context manager that sets the time step and precision of a program."""
    # Set `fit` to False, so that a device neither rounds stochastically nor compiles again inside a training context.
    return brainstate.environ.context(dt=content.dt, precision=DTYPES[content.dtype], fit=False)


def shape_of(content: BundleContent) -> Any:
    """Return the cache key of the compiled run of a program. Programs with the same key share one compiled run.

    The key does not contain codes, leak settings and positions, because they are arguments of the compiled run.
    """
    layers = content.layers
    stages = tuple(
        (wire, content.synapses[wire.synapse].frontend, content.synapses[wire.synapse].weight.values.shape,
         layers[wire.layer].topology, len(layers[wire.layer].profiles))
        for wire in content.wires
    )  # fmt: skip
    bits = tuple(codes.bits for _, codes in content.weights())
    return stages, bits, float(content.dt.mantissa), content.dtype, content.output


class CompiledRun:
    """Compiled simulation of one sampled chip, for all programs of one shape.

    The codes and the neuron values are arguments of the compiled function.
    """

    def __init__(self, content: BundleContent, hidden: HiddenValues, *, membranes: bool, call: str) -> None:
        self._content, self._hidden = content, hidden
        used = {path for wire in content.wires for path in (wire.synapse, wire.layer)}
        self._modules = {path: module for path, module in registered_modules(BundledNet(content)) if path in used}
        self._layers, self._membranes = [wire.layer for wire in content.wires], membranes
        self._dtype = jnp.dtype(content.dtype)
        for path, module in self._modules.items():
            _refuse_other_steps(module, path, call)
        noise = hidden.chip.noise_std
        # The sum of two normal random numbers has twice the variance of one.
        self._noise = 0.0 if noise is None else float(noise.mantissa) / np.sqrt(2)
        self._compiled: dict[Any, Callable[..., dict[str, jax.Array]]] = {}
        # Keep the neuron values of the previous program, because most programs differ only in their codes.
        self._known: tuple[Any, dict[str, Any]] = (None, {})

    def __call__(self, values: dict[str, Any], x: np.ndarray, offsets: np.ndarray) -> tuple[Any, Any]:
        """Return spikes and membrane potentials by layer for ``x [T, B, N_in]``.

        ``offsets [2, layers, T]`` contains the start positions of the noise windows in the table.
        """
        widest = max(len(layer.profiles) for layer in self._content.layers.values())
        # The table must be long enough for a window that starts at the last position.
        noise = (offsets, self._hidden.pool(POOL, x.shape[1] * widest)) if self._noise else None
        with settings_of(self._content):
            if x.shape[:2] not in self._compiled:
                self._compiled[x.shape[:2]] = _without_states(self._run, values, x, noise)
            found = self._compiled[x.shape[:2]](values, x, noise)
        spikes = {layer: np.asarray(found[f"{layer}.spk"]) for layer in self._layers}
        membranes = {
            layer: u.Quantity(np.asarray(found[f"{layer}.V"]), unit=u.mV)
            for layer in self._layers
            if f"{layer}.V" in found
        }
        return spikes, membranes

    def values_of(self, program: ChipProgram) -> dict[str, Any]:
        """Return the arguments of a run: the codes of a program and the values of its neurons."""
        content = program.content
        # Compare by identity, because programs that differ only in their codes share these objects.
        place = (content.placement, *(layer.profiles for layer in content.layers.values()))
        known, values = self._known
        if known is None or len(known) != len(place) or any(a is not b for a, b in zip(known, place, strict=True)):
            values = self._neurons(program)
            self._known = place, values
        codes = {path: np.asarray(codes.values, np.int32) for path, codes in content.weights()}
        return {**values, "codes": codes}

    def _neurons(self, program: ChipProgram) -> dict[str, Any]:
        hidden, kind = self._hidden, np.float64 if self._content.dtype == "float64" else np.float32
        at = {layer: program.physical(layer) for layer in self._layers}
        deviations: dict[str, Any] = {}
        pinned: dict[str, dict[str, Any]] = {}
        for wire in self._content.wires:
            synapse, there = self._content.synapses[wire.synapse], at[wire.layer]
            if hidden.has_synapses:
                rows = None if wire.source == INPUT else at[wire.source]
                drawn = hidden.frontend() if synapse.frontend else hidden.synapses(rows, there, program.n_in)
                deviations[wire.synapse] = drawn
                if self._content.layers[wire.layer].recurrent is not None:
                    deviations[wire.layer] = hidden.synapses(there, there, len(there))
            pinned[wire.layer] = {"tau": hidden.tau[program.leak(wire.layer), there], "V_th": hidden.V_th[there]}
        # Put the values on the JAX device, where they stay for all runs of this program.
        with settings_of(self._content):
            return jax.tree.map(
                lambda numbers: jnp.asarray(numbers, kind), {"deviations": deviations, "pinned": pinned}
            )

    def _run(self, values: dict[str, Any], x: jax.Array, noise: Any) -> dict[str, jax.Array]:
        self._write(values)
        spikes, records = {INPUT: jnp.asarray(x, self._dtype)}, {}
        for i, wire in enumerate(self._content.wires):
            drives = self._modules[wire.synapse].update_sequence(spikes[wire.source])
            windows = None if noise is None else (noise[0][:, i].T, noise[1])
            spk, V = self._steps(self._modules[wire.layer], drives, windows)
            spikes[wire.layer], records[f"{wire.layer}.spk"] = spk.astype(self._dtype), spk
            if self._membranes:
                records[f"{wire.layer}.V"] = V.astype(jnp.float32)
        return records

    def _write(self, values: dict[str, Any]) -> None:
        """Write the codes and the values of the sampled chip into the modules, and compute the charges."""
        chip = self._hidden.chip
        for path, codes in self._content.weights():
            module = self._modules[path]
            weights = stored_grid(chip, codes.bits).values(values["codes"][path], self._dtype)
            module.master.value = weights
            if path in values["deviations"]:
                added, gain = values["deviations"][path]
                extra = (chip.charge(weights) * gain + chip.charge.slope_at_zero * added).to(u.fcoulomb).mantissa
                module.effective.mismatch.value = u.Quantity(extra.astype(self._dtype), unit=u.fcoulomb)
        for path, named in values["pinned"].items():
            for name, nominal in self._modules[path].nominal().items():
                numbers = jnp.asarray(named[name], nominal.mantissa.dtype)
                getattr(self._modules[path], f"pinned_{name}").value = u.Quantity(numbers, unit=nominal.unit)
        for module in self._modules.values():
            module.prepare()

    def _steps(self, layer: Any, drives: u.Quantity, noise: Any) -> tuple[jax.Array, jax.Array]:
        """Run a layer from rest. Return its spikes and its membrane potentials after the reset in mV, ``[T, B, N]``.

        The computation is the same as in ``SpikingLayer.update_sequence``, but with noise and without a backward pass.
        """
        batch_size = drives.shape[1]
        resting = layer.resting_values(batch_size)
        V = resting["V"].to(u.mV).mantissa
        drives = narrowed(drives, V.dtype)
        decay = per_sample(as_dtype(jnp.asarray(layer.decay(self._content.dt)), V.dtype), V)
        V_th = as_dtype(jnp.asarray(layer.threshold().to(u.mV).mantissa), V.dtype)
        firing, recurrent = layer.firing(), None
        if layer.topology == "RC":
            recurrent = as_dtype(layer.recurrent_matrix().to(layer.drive_unit).mantissa, V.dtype)

        def step(state: Any, given: Any) -> Any:
            V, spk, wait = state
            drive, starts = given
            if recurrent is not None:
                drive = drive + spk @ recurrent
            charged = decay * V + layer.to_voltage(u.Quantity(drive, unit=layer.drive_unit)).to(u.mV).mantissa
            if noise is not None:
                # Add the noise before the clamp, as part of the membrane potential of this step.
                first, second = (jax.lax.dynamic_slice(noise[1], (start,), (V.size,)) for start in starts)
                charged = charged + (self._noise * (first + second)).reshape(V.shape).astype(V.dtype)
            _, spk, V, wait = firing.advance(V, charged, V_th, wait)
            # Spikes stored as bytes need a quarter of the memory of float32. This matters because on a CPU, writing the
            # spikes takes as long as computing the steps.
            return (V, spk, wait), (spk.astype(jnp.uint8), V)

        rest = V, jnp.zeros_like(V), resting.get("wait")
        xs = drives.to(layer.drive_unit).mantissa, None if noise is None else noise[0]
        _, (spk, V) = jax.lax.scan(step, rest, xs)
        return spk, V


def _refuse_other_steps(module: Any, path: str, call: str) -> None:
    """Raise ``ValueError`` if a module defines its own update or mismatch, which a virtual chip does not simulate."""
    own = set(module.nominal()) - {"tau", "V_th"} if isinstance(module, H1Layer) else set()
    drawn = module.effective_class.drawn is EffectiveWeight.drawn
    if own or not drawn or not runs_whole_sequence(module, call=call):
        raise ValueError(
            f"{call}: {type(module).__name__} at {path!r} defines its own update or mismatch, which a virtual chip "
            "does not simulate. Write a model of this chip as a CallableDevice."
        )


def _without_states(run: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """Compile ``run`` as a pure function. Each call starts from the states at the time of compilation.

    A compiled function that takes and returns the states would take 0.5 ms more per call, a fifth of the time of a run.
    """
    function = brainstate.transform.StatefulFunction(run, name="virtual chip")
    key = function.get_arg_cache_key(*arguments, compile_if_miss=True)
    jaxpr, trace = function.get_jaxpr_by_cache(key), function.get_state_trace_by_cache(key)
    states, tree = jax.tree.leaves(trace.get_state_values()), function.get_out_treedef_by_cache(key)

    @jax.jit
    def compiled(consts: Any, states: Any, *arguments: Any) -> Any:
        flat = jax.core.eval_jaxpr(jaxpr.jaxpr, consts, *jax.tree.leaves(arguments), *states)
        return jax.tree.unflatten(tree, flat)[0]

    return functools.partial(compiled, jaxpr.consts, states)
