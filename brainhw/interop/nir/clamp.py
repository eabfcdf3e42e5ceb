"""Whether the clamp of chip neurons at zero, which NIR has no form for, does anything on given data."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

from brainhw.interop.nir.errors import Problems
from brainhw.nn.tap import Wires, listening
from brainhw.transform.prepare import prepare_net

__all__ = ["check_clamp"]


def check_clamp(net: brainstate.nn.Module, layers: dict[str, Any], sample: Any, problems: Problems) -> None:
    """Note every clamped layer whose membranes would fall below zero without the clamp, on a sample ``[T, ...]``.

    Without a sample every clamped layer is noted. The caller puts the states back.
    """
    if not layers:
        return
    advice = "pass clamp='ignore' to export neurons without it, which then differ there"
    if sample is None:
        for path, layer in layers.items():
            problems.add(
                path,
                type(layer).__name__,
                "holds its membrane at zero or above, which NIR has no form for; pass sample=, an input [T, N] or "
                f"[T, B, N] on which it is checked that this changes nothing, or {advice}.",
            )
        return
    shape = np.shape(u.get_mantissa(sample))
    prepare_net(net, shape[1] if len(shape) == 3 else None)
    paths = {id(layer): path for path, layer in layers.items()}

    def step(x: Any) -> dict[str, Any]:
        wires = Wires()
        with listening(wires):
            net(x)
        return {paths[owner]: _share_below(layers[paths[owner]], wire) for owner, wire in wires.calls if owner in paths}

    for path, shares in brainstate.transform.for_loop(step, sample).items():
        share = float(np.mean(np.asarray(shares)))
        if share > 0:
            problems.add(
                path,
                type(layers[path]).__name__,
                f"holds its membrane at zero in {share:.2%} of all steps and neurons of the sample, which NIR has no "
                f"form for; train without inhibition that reaches below zero, or {advice}.",
            )


def _share_below(layer: Any, wire: Any) -> Any:
    drive = wire.given
    if layer.topology == "RC":
        drive = drive + layer.recurrent_drive(wire.before["spk"])
    free = layer.integrate(wire.before["V"], drive, wire.dt).to(u.mV).mantissa
    return jnp.mean(free < 0)
