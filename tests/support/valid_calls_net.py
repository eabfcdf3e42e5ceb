"""Valid calls of everything that takes a whole network: running, initialising, deploying, exporting."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import jax
import numpy as np
from valid_calls import (
    K,
    N,
    add,
    batch,
    chip_net,
    fields,
    fractional_net,
    frontend_net,
    inputs,
    lif_net,
    placement,
    power,
    report,
)

import brainhw as bh
from brainhw.cli import main
from brainhw.interop import nir, stablehlo


def net(make: Any = chip_net) -> dict[str, Any]:
    return {"net": ("net", make())}


@add("rollout", calls=("LIFSynapse.update", "LIFLayer.update", "H1v2Synapse.update"))
def _() -> Any:
    return bh.rollout, {
        **net(lif_net), "xs": ("data", inputs()), "record": ("record", ()), "checkpoint": ("checkpoint", None),
        "pbar": ("optional bar", None), "prepare": ("flag or choice", True), "key": ("optional key", 1),
        "check_finite": ("flag", False), "layerwise": ("flag", True), "recorded": ("optional data", None),
        "lengths": ("recording lengths", None),
    }  # fmt: skip


@add("keep_memory")
def _() -> Any:
    return bh.keep_memory, {"largest": ("short count", 512)}


@add("prepare_net")
def _() -> Any:
    return bh.prepare_net, {
        **net(),
        "batch_size": ("optional count", 2),
        "key": ("optional key", 1),
        "reset": ("flag", True),
    }


@add("stream")
def _() -> Any:
    return bh.stream, {
        **net(lif_net), "batch_size": ("optional count", 2), "record": ("record", ()), "key": ("optional key", 1),
    }  # fmt: skip


@add("Stream.__call__", x="input", calls=("stream",))
def _() -> Any:
    stream = bh.stream(lif_net(), 2)
    stream(inputs()[0])
    return stream, {"x": ("data step", inputs()[0])}


@add("transform.trace_step", x="input", calls=("LIFSynapse.update", "LIFLayer.update", "H1v2Synapse.update"))
def _() -> Any:
    given = lif_net()
    bh.prepare_net(given, 2)
    return bh.transform.trace_step, {
        "net": ("net", given),
        "x": ("data step", inputs()[0]),
        "call": ("call", "trace_step"),
    }


for kind in ("fractional_summary", "get_per_layer_alpha", "get_per_layer_coefficient"):

    @add(kind)
    def _(kind: str = kind) -> Any:
        return getattr(bh, kind), net(fractional_net)


@add("set_fractional_orders")
def _() -> Any:
    return bh.set_fractional_orders, {
        **net(fractional_net), "alpha": ("orders", 0.7), "multi_coefficient": ("optional coefficients", None),
        "alpha_mode": ("choice", "auto"), "learn_alpha": ("flag or list", False),
        "learn_coefficient": ("flag or list", False),
    }  # fmt: skip


@add("sample_chip")
def _() -> Any:
    return bh.sample_chip, {**net(), "key": ("key", 3), "leak": ("spread", 0.1), "synapse": ("spread", False)}


@add("nominal_chip")
def _() -> Any:
    return bh.nominal_chip, net()


# Starting points.


@add("fluct_init")
def _() -> Any:
    return bh.fluct_init, {
        **net(lif_net), "dataloader": ("batches", batch()), "xi_target": ("positive number", 2.0),
        "alpha": ("share", 1.0), "n_batches": ("count", 1), "verbose": ("flag", False), "families": ("choice", "any"),
        "center": ("flag or choice", "auto"), "moments": ("choice", "second"), "in_range": ("flag or choice", False),
        "key": ("key", 0), "return_report": ("flag", True), "lengths": ("recording lengths", None),
    }  # fmt: skip


@add("fluct_report")
def _() -> Any:
    return bh.fluct_report, {
        **net(lif_net), "dataloader": ("batches", batch()), "n_batches": ("count", 1), "families": ("choice", "any"),
        "lengths": ("recording lengths", None),
    }  # fmt: skip


@add("init.frontend_init")
def _() -> Any:
    data = [np.random.default_rng(0).random((2, 40, 16)).astype(np.float32)]
    return bh.init.frontend_init, {
        **net(frontend_net), "dataloader": ("batches", data), "target_rate": ("positive Hz", 50 * u.Hz),
        "n_batches": ("count", 1), "verbose": ("flag", False),
    }  # fmt: skip


@add("init.kaiming_init")
def _() -> Any:
    return bh.init.kaiming_init, {**net(), "initializer": ("optional callable", None), "key": ("key", 0)}


OUTCOME = {
    "xi_target": "positive number", "alpha": "share", "mu_W": "number", "sigma_FF": "nonnegative number",
    "sigma_RC": "optional nonnegative number", "mu_U": "mV", "exhausted": "whole", "evaluations": "whole",
}  # fmt: skip


@add("init.InitOutcome")
def _() -> Any:
    outcome = bh.init.InitOutcome(2.0, 1.0, 0.1, 0.2, None, 0.5 * u.mV, 0, 5)
    return bh.init.InitOutcome, fields(outcome, **OUTCOME)


LAYER = {
    "index": "count", "name": "text", "family": "text", "nu_in": "Hz", "nu_var": "Hz", "nu_out": "Hz",
    "eps_bar": "V s array", "eps_hat": "V2 s array", "mean_weight": "number", "weight_spread": "nonnegative number",
    "recurrent_spread": "optional nonnegative number", "threshold": "mV array", "mean_membrane": "mV array",
    "membrane_sd": "mV array", "xi": "number array", "share_RC": "optional nonnegative number", "rates": "Hz array",
    "dead": "whole", "saturated": "whole", "expected_dead": "nonnegative number", "out_of_range": "whole",
    "largest": "nonnegative number", "weight_limit": "limit", "response": "mV array", "dt": "positive ms",
    "steps": "count", "membrane_sample": "mV array", "init": "optional outcome",
    "signed_input": "flag",
}  # fmt: skip


@add("init.LayerReport")
def _() -> Any:
    return bh.init.LayerReport, fields(report().layers[0], **LAYER)


@add("init.FluctReport")
def _() -> Any:
    return bh.init.FluctReport, {"layers": ("tuple of records", report().layers)}


# Deployment.


@add("check_deployable")
def _() -> Any:
    return bh.check_deployable, {**net(), "data": ("run data", inputs())}


for kind in ("describe", "is_net_deployable", "place", "summary"):

    @add(f"deploy.{kind}")
    def _(kind: str = kind) -> Any:
        return getattr(bh.deploy, kind), net()


@add("deploy.estimate_power", calls=("LIFSynapse.update", "LIFLayer.update", "H1v2Synapse.update"))
def _() -> Any:
    return bh.deploy.estimate_power, {
        **net(), "xs": ("data", inputs()), "lengths": ("recording lengths", None), "progress": ("flag", False),
    }  # fmt: skip


@add("deploy.export_bundle")
def _() -> Any:
    return bh.deploy.export_bundle, {
        **net(), "path": ("path to write", "net.bundle"), "n_classes": ("optional count", 2), "notes": ("text", "mine"),
        "encoding_fingerprint": ("optional fingerprint", "0" * 64),
    }  # fmt: skip


@add("deploy.load_bundle")
def _() -> Any:
    bh.deploy.export_bundle(chip_net(), "read.bundle")
    return bh.deploy.load_bundle, {"path": ("path to read", "read.bundle")}


def step_of_bundle() -> Any:
    bh.deploy.export_bundle(chip_net(), "read.bundle")
    return bh.deploy.firmware("read.bundle")


@add("deploy.firmware")
def _() -> Any:
    step_of_bundle()
    return bh.deploy.firmware, {"path": ("path to read", "read.bundle")}


@add("Firmware.initial_state")
def _() -> Any:
    return step_of_bundle().initial_state, {"batch_size": ("optional short count", 2)}


@add("Firmware.step")
def _() -> Any:
    step = step_of_bundle()
    return step.step, {"state": ("states", step.initial_state(len(inputs()[0]))), "x": ("step of a batch", inputs()[0])}


@add("Firmware.run")
def _() -> Any:
    return step_of_bundle().run, {"xs": ("sequence of a batch", inputs())}


@add("Firmware.write_c")
def _() -> Any:
    return step_of_bundle().write_c, {"path": ("path to write", "net.h"), "name": ("identifier", "tiny")}


@add("BundledNet.update", x="input")
def _() -> Any:
    bh.deploy.export_bundle(chip_net(), "read.bundle")
    loaded = bh.deploy.load_bundle("read.bundle")
    bh.prepare_net(loaded, 2)
    return loaded.update, {"x": ("plain input", inputs()[0])}


def score(net: Any) -> Any:
    return bh.rollout(net, inputs())[0].mean()


@add("deploy.robustness", calls=("sample_chip",))
def _() -> Any:
    return bh.deploy.robustness, {
        **net(), "evaluate": ("callable", score), "n_chips": ("count", 2), "key": ("key or keys", 0),
        "chunk": ("optional count", 2), "max_memory": ("count", 2**30), "devices": ("optional devices", None),
        "pbar": ("flag", False), "leak": ("spread", 0.1),
    }  # fmt: skip


@add("deploy.set_weight_bits")
def _() -> Any:
    return bh.deploy.set_weight_bits, {
        **net(),
        "weight_bits": ("bits or mapping", 5),
        "rounding": ("choice", "nearest"),
    }


@add("deploy.Cost")
def _() -> Any:
    return bh.deploy.Cost, fields(
        power().costs[0], part="text", kind="choice", count="nonnegative number", coefficient="word", energy="energy"
    )


@add("deploy.PowerReport")
def _() -> Any:
    return bh.deploy.PowerReport, fields(
        power(), chip="chip", duration="positive ms", n_samples="count", costs="tuple of records",
        spikes="numbers by name",
        synaptic_events="nonnegative number", synops="nonnegative number", silent="numbers by name",
        weight_bits="whole", by_core="energies by core",
    )  # fmt: skip


@add("PowerReport.energy_of")
def _() -> Any:
    return power().energy_of, {"kind": ("choice", "core")}


VIOLATION = {"rule": "text", "path": "text", "found": "text", "limit": "text", "fix": "text", "where": "places"}


@add("deploy.Violation")
def _() -> Any:
    violation = bh.deploy.Violation("fan-in", "layers.0", "9", "8", "Use fewer.", ((0, 1),))
    return bh.deploy.Violation, fields(violation, **VIOLATION)


@add("deploy.DeployReport")
def _() -> Any:
    made = bh.check_deployable(chip_net())
    return bh.deploy.DeployReport, fields(made, chip="text", rules="words", violations="tuple of records")


@add("deploy.Piece")
def _() -> Any:
    return bh.deploy.Piece, fields(
        placement().pieces[0], layer="text", first="whole", count="count", core="whole", offset="whole", kind="choice"
    )


@add("deploy.Placement")
def _() -> Any:
    return bh.deploy.Placement, fields(placement(), chip="chip", pieces="tuple of records")


@add("Placement.core_of")
def _() -> Any:
    return placement().core_of, {"layer": ("word", placement().pieces[0].layer)}


@add("Placement.physical_of")
def _() -> Any:
    return placement().physical_of, {"layer": ("word", placement().pieces[0].layer)}


@add("Placement.from_list")
def _() -> Any:
    return bh.deploy.Placement.from_list, {
        "chip": ("chip", bh.chip.H1V2), "items": ("plain list", placement().to_list()),
        "layers": ("counts by name", placement().layers),
    }  # fmt: skip


@add("deploy.PlacementError")
def _() -> Any:
    return bh.deploy.PlacementError, {
        "call": ("text", "place"), "reason": ("text", "no room"), "fix": ("text", "Use fewer."),
        "layers": ("words", ("a",)),
    }  # fmt: skip


@add("deploy.RobustnessReport")
def _() -> Any:
    return bh.deploy.RobustnessReport, {
        "scores": ("number array", np.array([0.5, 0.7])), "keys": ("keys", jax.random.split(jax.random.key(0))),
        "nominal": ("number", 0.6), "in_place": ("optional number", 0.6),
        "shares": ("shares of chips", {"silent": np.zeros(2)}), "nominal_shares": ("shares", {"silent": 0.0}),
    }  # fmt: skip


def robust() -> Any:
    return bh.deploy.RobustnessReport(np.array([0.5, 0.7]), jax.random.split(jax.random.key(0)), 0.6)


@add("RobustnessReport.quantile")
def _() -> Any:
    return robust().quantile, {"q": ("share", 0.5)}


@add("RobustnessReport.yield_above")
def _() -> Any:
    return robust().yield_above, {"target": ("number", 0.5)}


@add("deploy.WeightReport")
def _() -> Any:
    return bh.deploy.WeightReport, {
        "path": ("text", "layers.0"), "shape": ("shape", (3, 4)), "on_chip": ("flag", True),
        "bits": ("optional count", 5),
        "rounding": ("text", "nearest"), "step": ("optional positive number", 0.1),
        "levels_used": ("optional count", 4),
        "levels": ("optional count", 31), "at_limit": ("optional share", 0.0),
        "changed": ("optional nonnegative number", 0.5),
    }  # fmt: skip


@add("deploy.QuantizationReport")
def _() -> Any:
    return bh.deploy.QuantizationReport, {"weights": ("tuple of records", bh.deploy.describe(chip_net()).weights)}


@add("deploy.Stage")
def _() -> Any:
    return bh.deploy.Stage, {
        "source": ("text", "input"), "synapse_path": ("text", "layers.0"), "layer_path": ("text", "layers.1"),
        "is_frontend": ("flag", False),
    }  # fmt: skip


# Formats of other tools.


@add("interop.nir.to_nir")
def _() -> Any:
    return nir.to_nir, {
        **net(lif_net), "dt": ("positive ms", 1.0 * u.ms), "voltage_unit": ("voltage unit", u.mV),
        "reset": ("choice", "exact"), "discretisation": ("choice", "exact"), "gain": ("choice", "weights"),
        "weights": ("choice", "float"), "clamp": ("choice", "check"), "sample": ("optional data", inputs()),
        "cuba_order": ("optional choice", None), "if_input": ("choice", "per-second"),
        "as_dt": ("optional positive ms", 0.1 * u.ms), "compatible": ("optional choice", "1.0.4"),
    }  # fmt: skip


@add("interop.nir.from_nir")
def _() -> Any:
    return nir.from_nir, {
        "graph": ("graph", nir.to_nir(lif_net(), dt=1.0 * u.ms)), "dt": ("positive ms", 1.0 * u.ms),
        "voltage_unit": ("optional voltage unit", u.mV), "discretisation": ("optional choice", None),
        "reset": ("optional choice", None), "cuba_order": ("optional choice", None),
        "if_input": ("optional choice", None),
    }  # fmt: skip


@add("NIRNet.update", x="input")
def _() -> Any:
    made = nir.from_nir(nir.to_nir(lif_net(), dt=1.0 * u.ms), dt=1.0 * u.ms)
    bh.prepare_net(made, 2)
    return made.update, {"x": ("plain input", inputs()[0])}


@add("interop.nir.register_export")
def _() -> Any:
    return nir.register_export, {
        "cls": ("module class", type("Mine", (brainstate.nn.Module,), {})), "images": ("flag", False),
    }  # fmt: skip


@add("interop.nir.unroll")
def _() -> Any:
    return nir.unroll, {
        "graph": ("NIR graph", nir.to_nir(lif_net(), dt=1.0 * u.ms)), "merge": ("flag", True),
        "max_numbers": ("count", 2**20),
    }  # fmt: skip


@add("interop.nir.register_import")
def _() -> Any:
    return nir.register_import, {
        "kind": ("identifier", "Mine"), "arrays": ("words", ("weight",)), "fires": ("flag", False),
        "folds": ("flag", False),
    }  # fmt: skip


@add("interop.nir.Weights")
def _() -> Any:
    return nir.Weights, {
        "matrix": ("number array", np.ones((K, N))), "bias": ("optional array", np.zeros(K)), "notes": ("mapping", {}),
        "codes": ("optional codes", None),
    }  # fmt: skip


@add("interop.nir.NIRError")
def _() -> Any:
    return nir.NIRError, {"call": ("text", "to_nir"), "problems": ("words", ["no"])}


FC = {"fc.weight": np.full((K, N), 0.6)}


@add("interop.state_dicts.from_snntorch")
def _() -> Any:
    state = {**FC, "lif.beta": np.array(0.9), "lif.threshold": np.array(1.0), "lif.reset_mechanism_val": np.array(1)}
    return bh.interop.state_dicts.from_snntorch, {
        "state": ("state dict", state), "dt": ("positive ms", 1.0 * u.ms), "order": ("module order", ("fc", "lif")),
        "reset_delay": ("flag", True),
    }  # fmt: skip


@add("StateDictNet.update", x="input")
def _() -> Any:
    state = {**FC, "lif.beta": np.array(0.9), "lif.threshold": np.array(1.0), "lif.reset_mechanism_val": np.array(1)}
    net = bh.interop.state_dicts.from_snntorch(state, 1.0 * u.ms)
    bh.prepare_net(net, 2)
    return net.update, {"x": ("plain input", inputs()[0])}


for kind, node in (("norse", "LIFCell"), ("spikingjelly", "LIFNode")):

    @add(f"interop.state_dicts.from_{kind}")
    def _(kind: str = kind, node: str = node) -> Any:
        return getattr(bh.interop.state_dicts, f"from_{kind}"), {
            "state": ("state dict", FC), "neurons": ("neuron options", {"lif": {"kind": node}}),
            "dt": ("positive ms", 1.0 * u.ms), "order": ("module order", ("fc", "lif")),
        }  # fmt: skip


@add("interop.stablehlo.export_step", x="input", calls=("LIFSynapse.update", "LIFLayer.update", "H1v2Synapse.update"))
def _() -> Any:
    return stablehlo.export_step, {
        **net(lif_net), "x": ("data step", inputs()[0]), "dt": ("optional ms", 1.0 * u.ms), "key": ("optional key", 0),
        "platforms": ("optional platforms", ("cpu",)),
    }  # fmt: skip


def program() -> Any:
    return stablehlo.export_step(lif_net(), inputs()[0], dt=1.0 * u.ms)


@add("interop.stablehlo.load_step")
def _() -> Any:
    program().save("read.step")
    return stablehlo.load_step, {"path": ("path to read", "read.step")}


@add("StepProgram.save")
def _() -> Any:
    return program().save, {"path": ("path to write", "net.step")}


@add("StepProgram.step", x="input")
def _() -> Any:
    made = program()
    return made.step, {"state": ("states", made.initial_state), "x": ("data step", inputs()[0])}


@add("cli.main")
def _() -> Any:
    bh.deploy.export_bundle(chip_net(), "read.bundle")
    return main, {"argv": ("words of a command", ["info", "read.bundle"])}
