"""Valid calls of chip descriptions, data, training and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax
import numpy as np
from valid_calls import (
    LABELS,
    M,
    add,
    axes,
    chip_net,
    fields,
    fractional_net,
    lif_net,
    placement,
    power,
    report,
    spikes,
    split,
)

import brainhw as bh

NET = ("net", None)


def net(make: Any = chip_net) -> dict[str, Any]:
    return {"net": ("net", make())}


# Chips.

SPEC = {
    "name": "line", "family": "line", "weight_limit": "positive number", "cores": "counts",
    "frontend_channels": "whole",
    "sign_block": "count", "sign_axis": "choice", "reset": "choice", "V_th": "positive mV", "C": "positive fF",
    "charge": "charge curve", "tau_profiles": "profiles", "weight_bits": "bit count",
    "synapse_mismatch_std": "optional spread", "leak_mismatch_std": "optional spread",
    "threshold_mismatch_std": "optional spread", "core_power": "power", "spike_energy": "energy",
    "event_energy": "energy", "frontend_channel_power": "power", "weight_lowest": "optional lowest",
    "noise_std": "optional noise", "provenance": "provenance", "notes": "texts",
}  # fmt: skip


@add("chip.ChipSpec")
def _() -> Any:
    return bh.chip.ChipSpec, fields(bh.chip.H1V2, **SPEC)


@add("ChipSpec.replace")
def _() -> Any:
    return bh.chip.H1V2.replace, {
        "provenance": ("provenance word", "measured"), "V_th": ("positive mV", 90 * u.mV), "name": ("line", "lab"),
    }  # fmt: skip


@add("ChipSpec.save", calls=("save_chip",))
def _() -> Any:
    return bh.chip.H1V2.save, {"path": ("path to write", "chip.toml")}


@add("chip.save_chip")
def _() -> Any:
    return bh.chip.save_chip, {"spec": ("chip", bh.chip.H1V2), "path": ("path to write", "chip.toml")}


@add("ChipSpec.load", calls=("load_chip",))
def _() -> Any:
    bh.chip.H1V2.save("read.toml")
    return bh.chip.ChipSpec.load, {"path": ("path to read", "read.toml")}


@add("chip.load_chip")
def _() -> Any:
    bh.chip.H1V2.save("read.toml")
    return bh.chip.load_chip, {"path": ("path to read", "read.toml")}


@add("ChipSpec.table")
def _() -> Any:
    return bh.chip.H1V2.table, {"notes": ("flag", True)}


def rule(survey: Any) -> Any:
    yield from ()


@add("chip.Family")
def _() -> Any:
    preset = bh.chip.H1V2.replace(name="x", family="X9")
    return bh.chip.Family, {
        "name": ("family name", "X9"), "presets": ("presets", (preset,)),
        "mismatches": ("mismatches", bh.chip.H1V2_FAMILY.mismatches), "rules": ("rules", {"a": rule}),
        "without_rules": ("words", ("fan-in",)), "weight_grid": ("optional callable or class", rule),
        "package": ("package", "x9"),
    }  # fmt: skip


@add("Family.module")
def _() -> Any:
    return bh.chip.H1V2_FAMILY.module, {"role": ("choice", "layer")}


@add("Family.sizes")
def _() -> Any:
    return bh.chip.H1V2_FAMILY.sizes, {"chip": ("chip", bh.chip.H1V2)}


@add("chip.Mismatch")
def _() -> Any:
    return bh.chip.Mismatch, {
        "kind": ("identifier", "leak"), "field": ("identifier", "leak_mismatch_std"), "most": ("positive number", 1.0),
        "why": ("text", "so"),
    }  # fmt: skip


@add("chip.get_chip")
def _() -> Any:
    return bh.chip.get_chip, {"chip": ("chip or name", "H1v2"), "call": ("call", "get_chip")}


@add("chip.get_family", name="family")
def _() -> Any:
    return bh.chip.get_family, {
        "name": ("family name", "H1v2"), "call": ("call", "get_family"), "package": ("optional text", "brainhw"),
    }  # fmt: skip


@add("chip.register_family")
def _() -> Any:
    return bh.chip.register_family, {"family": ("family", bh.chip.H1V2_FAMILY)}


@add("chip.spec_field")
def _() -> Any:
    return bh.chip.spec_field, {
        "meaning": ("text", "a number"), "unit": ("optional unit", u.mV), "choices": ("words", ()),
        "whole": ("flag", False),
        "many": ("flag", False), "optional": ("flag", True), "positive": ("flag", True), "nonnegative": ("flag", False),
        "most": ("optional number", 5.0), "why": ("text", "so"), "kind": ("optional class", None),
    }  # fmt: skip


@add("chip.LinearCharge")
def _() -> Any:
    return bh.chip.LinearCharge, {"gain": ("positive fC", 1.0 * u.fcoulomb)}


@add("chip.SaturatingCharge")
def _() -> Any:
    return bh.chip.SaturatingCharge, {"gain": ("positive fC", 1.0 * u.fcoulomb), "saturation": ("positive number", 1.0)}


@add("chip.TabulatedCharge")
def _() -> Any:
    return bh.chip.TabulatedCharge, {
        "weights": ("table", np.array([0.0, 1.0, 2.0])),
        "charges": ("table fC", np.array([0.0, 1.0, 3.0]) * u.fcoulomb),
    }  # fmt: skip


@add("ChargeCurve.__call__")
def _() -> Any:
    return bh.chip.LinearCharge(1.0 * u.fcoulomb), {"weights": ("array", np.ones(3))}


@add("ChargeCurve.from_dict", data="")
def _() -> Any:
    return bh.chip.ChargeCurve.from_dict, {
        "data": ("plain dict", bh.chip.LinearCharge(1.0 * u.fcoulomb).to_dict()), "call": ("call", "from_dict"),
    }  # fmt: skip


@add("chip.TauProfiles")
def _() -> Any:
    return bh.chip.TauProfiles, {"values": ("increasing ms", [1.0, 2.0, 5.0] * u.ms)}


@add("TauProfiles.snap")
def _() -> Any:
    return bh.chip.H1V2.tau_profiles.snap, {"tau": ("positive ms array", [5.0, 9.0] * u.ms), "call": ("call", "snap")}


@add("chip.TauSnap")
def _() -> Any:
    snap = bh.chip.H1V2.tau_profiles.snap([5.0, 9.0] * u.ms)
    return bh.chip.TauSnap, fields(
        snap, tau="ms array", index="whole array", moved="flag", requested="ms array", profiles="profiles"
    )


@add("TauSnap.message")
def _() -> Any:
    return bh.chip.H1V2.tau_profiles.snap([5.0, 9.0] * u.ms).message, {"call": ("call", "message")}


# Data.


@add("data.Split")
def _() -> Any:
    return bh.data.Split, {
        "x": ("frames", split().x), "y": ("labels", split().y), "lengths": ("optional lengths", split().lengths),
        "groups": ("optional groups", np.array(["a", "b", "c", "d"])),
    }  # fmt: skip


@add("Split.take")
def _() -> Any:
    return split().take, {"indices": ("indices", [2, 0])}


@add("data.Dataset")
def _() -> Any:
    return bh.data.Dataset, {
        "name": ("text", "toy"), "train": ("split", split()), "test": ("split", split()), "n_classes": ("count", 2),
        "class_names": ("names", ("a", "b")), "licence": ("text", "CC0"), "citation": ("text", "me"),
        "rate": ("optional rate", 8.0 * u.kHz),
    }  # fmt: skip


@add("data.batches")
def _() -> Any:
    return bh.data.batches, {
        "split": ("split", split()), "batch_size": ("count", 2), "seed": ("whole", 0), "epoch": ("whole", 1),
        "shuffle": ("flag", True), "drop_last": ("flag", True),
    }  # fmt: skip


@add("data.ChannelScale")
def _() -> Any:
    return bh.data.ChannelScale, {
        "mean": ("numbers", np.zeros(3, np.float32)),
        "std": ("positive numbers", np.ones(3, np.float32)),
    }


@add("ChannelScale.apply")
def _() -> Any:
    return bh.data.fit_channel_scale(split()).apply, {"split": ("split", split())}


@add("data.fit_channel_scale")
def _() -> Any:
    return bh.data.fit_channel_scale, {"train": ("split", split())}


@add("data.split_on_off")
def _() -> Any:
    return bh.data.split_on_off, {"x": ("array", np.ones((4, 3)))}


@add("data.repeat_frames")
def _() -> Any:
    return bh.data.repeat_frames, {
        "x": ("array of frames", np.ones((4, 3))),
        "times": ("count", 2),
        "axis": ("axis", -2),
    }


@add("data.delayed_copies")
def _() -> Any:
    return bh.data.delayed_copies, {"x": ("array of frames", np.ones((4, 3))), "delays": ("delays", (0, 2))}


@add("data.hold")
def _() -> Any:
    return bh.data.hold, {"x": ("array", np.ones(3)), "n_steps": ("short count", 5), "axis": ("axis", -2)}


@add("data.rate_spikes")
def _() -> Any:
    return bh.data.rate_spikes, {
        "x": ("unit array", np.ones((4, 3))), "n_steps": ("optional short count", 5), "key": ("key", 0),
        "max_rate": ("optional rate", None),
    }  # fmt: skip


@add("data.latency_spikes")
def _() -> Any:
    return bh.data.latency_spikes, {
        "x": ("unit array", np.ones((4, 3))), "n_steps": ("short count", 5), "threshold": ("share", 0.1),
    }  # fmt: skip


@add("data.delta_spikes")
def _() -> Any:
    return bh.data.delta_spikes, {"x": ("array of frames", np.ones((4, 3))), "threshold": ("positive number", 0.1)}


@add("data.population_currents")
def _() -> Any:
    return bh.data.population_currents, {
        "x": ("array", np.ones((4, 3))), "n_neurons": ("short count", 3), "low": ("number", 0.0),
        "high": ("positive number", 2.0), "width": ("optional positive number", 0.5),
    }  # fmt: skip


@add("data.class_indices")
def _() -> Any:
    return bh.data.class_indices, {
        "labels": ("raw labels", ["a", "b", "a"]), "names": ("optional class names", ("a", "b")),
    }  # fmt: skip


def events(n: int = 3) -> Any:
    t = np.arange(n) * 700.0 * u.us
    return bh.data.Events(t, np.arange(n), np.zeros(n, int), np.arange(n) % 2)


def event_array() -> np.ndarray:
    return events().to_array()


COUNTED = {
    "sensor_size": ("sensor", (4, 2, 2)), "dt": ("positive ms", 1.0 * u.ms), "n_steps": ("optional short count", 5),
    "window": ("optional positive ms", 2.0 * u.ms), "start": ("optional signed ms", 0.0 * u.ms),
    "polarity": ("choice", "keep"), "binary": ("flag", True), "layout": ("choice", "flat"), "pool": ("short count", 2),
    "off_sensor": ("choice", "drop"), "off_time": ("choice", "drop"),
}  # fmt: skip


@add("data.events_to_frames")
def _() -> Any:
    made = events()
    return bh.data.events_to_frames, {
        "t": ("event times", made.t), "x": ("event places", made.x), "y": ("optional event places", made.y),
        "p": ("optional event places", made.p), **COUNTED,
    }  # fmt: skip


@add("data.frames_to_events")
def _() -> Any:
    return bh.data.frames_to_events, {
        "frames": ("count frames", np.ones((3, 8))), "dt": ("positive ms", 1.0 * u.ms),
        "start": ("signed ms", 0.0 * u.ms), "layout": ("choice", "flat"), "sensor_size": ("sensor", (2, 2, 2)),
    }  # fmt: skip


@add("data.events_from_array")
def _() -> Any:
    return bh.data.events_from_array, {"array": ("event array", event_array()), "unit": ("unit of time", u.us)}


@add("data.split_from_events", calls=("Split",))
def _() -> Any:
    return bh.data.split_from_events, {
        "recordings": ("recordings of events", [events(), event_array()] * 2), "y": ("labels", [0, 1, 0, 1]),
        **COUNTED,
        "groups": ("optional groups", None),
    }  # fmt: skip


@add("data.split_from_frames", calls=("Split",))
def _() -> Any:
    return bh.data.split_from_frames, {
        "frames": ("event frames", np.ones((4, 3, 2, 4, 4))), "y": ("labels", [0, 1, 0, 1]),
        "layout": ("choice", "flat"), "lengths": ("optional lengths", [3, 2, 1, 3]),
        "groups": ("optional groups", None),
    }  # fmt: skip


@add("data.read_aedat", works=False)
def _() -> Any:
    return bh.data.read_aedat, {"path": ("path to read", "recording.aedat4")}


BANK = {
    "n_channels": ("count", 2), "f_min": ("positive Hz", 100 * u.Hz), "f_max": ("positive Hz", 3000 * u.Hz),
    "spacing": ("choice", "mel"),
}  # fmt: skip


@add("data.filterbank")
def _() -> Any:
    audio = np.sin(np.arange(400) * 0.5).astype(np.float32)
    return bh.data.filterbank, {
        "audio": ("audio", audio), "rate": ("positive Hz", 8.0 * u.kHz), "dt": ("positive ms", 1.0 * u.ms),
        "duration": ("optional ms", 40.0 * u.ms), **BANK, "order": ("count", 2),
        "smoothing": ("optional ms", 5.0 * u.ms),
    }  # fmt: skip


@add("data.filterbank_design")
def _() -> Any:
    return bh.data.filterbank_design, BANK


@add("data.FilterbankDesign")
def _() -> Any:
    design = bh.data.filterbank_design(n_channels=2)
    return bh.data.FilterbankDesign, fields(design, centre="Hz array", edges="Hz array")


for kind in ("fashion_mnist", "fsdd", "qtdb"):

    @add(f"data.{kind}", works=False)
    def _(kind: str = kind) -> Any:
        return getattr(bh.data, kind), {"root": ("optional folder", "nowhere")}


@add("data.locate", calls=("beeps",))
def _() -> Any:
    folder = Path("beeps")
    folder.mkdir(exist_ok=True)
    (folder / "a.csv").touch()
    return bh.data.locate, {
        "name": ("word", "beeps"), "root": ("optional folder", "beeps"), "marker": ("patterns", "*.csv"),
        "how_to_get": ("text", "Record some."), "extra": ("folders", ()),
    }  # fmt: skip


@add("data.randman")
def _() -> Any:
    return bh.data.randman, {
        "n_classes": ("count", 2), "n_units": ("count", 3), "n_steps": ("count", 6), "n_train": ("count", 4),
        "n_test": ("count", 4), "manifold_dim": ("count", 1), "alpha": ("positive number", 2.0), "seed": ("whole", 0),
    }  # fmt: skip


# Training.


def lengths() -> dict[str, Any]:
    return {"lengths": ("recording lengths", None)}


@add("train.accuracy")
def _() -> Any:
    return bh.train.accuracy, {"spikes": ("spikes", spikes()), "labels": ("class labels", LABELS), **lengths()}


@add("train.accuracy_population")
def _() -> Any:
    return bh.train.accuracy_population, {
        "spikes": ("spikes", spikes()), "labels": ("class labels", LABELS), "n_classes": ("count", 2),
        **lengths(),
    }  # fmt: skip


@add("train.population_votes")
def _() -> Any:
    return bh.train.population_votes, {"spikes": ("spikes", spikes()), "n_classes": ("count", 2), **lengths()}


@add("train.balanced_population_mse")
def _() -> Any:
    return bh.train.balanced_population_mse, {
        "spikes": ("spikes", spikes()), "labels": ("class labels", LABELS), "n_classes": ("count", 2),
        "high": ("count target", 3.0), "low": ("count target", 1.0), **lengths(),
    }  # fmt: skip


@add("train.firing_rate_bounds_loss")
def _() -> Any:
    return bh.train.firing_rate_bounds_loss, {
        "spikes": ("spikes", spikes()), "lower": ("optional bound", 10 * u.Hz), "upper": ("optional bound", 50 * u.Hz),
        "scale": ("positive Hz", 100 * u.Hz), **lengths(),
    }  # fmt: skip


@add("train.firing_rate_target_mse_loss")
def _() -> Any:
    return bh.train.firing_rate_target_mse_loss, {
        "spikes_list": ("list of spikes", [spikes()]), "offsets": ("list of rates", [20 * u.Hz]),
        "multipliers": ("list of times", [50 * u.ms]), **lengths(),
    }  # fmt: skip


@add("train.BoundsReg")
def _() -> Any:
    return bh.train.BoundsReg, {
        "lower": ("optional bound", 1 * u.ms), "upper": ("optional bound", 5 * u.ms),
        "scale": ("optional ms", 1 * u.ms),
        "weight": ("positive number", 1.0),
    }  # fmt: skip


@add("BoundsReg.loss", value="parameter")
def _() -> Any:
    return bh.train.BoundsReg(1 * u.ms, 5 * u.ms).loss, {"value": ("ms array", [0.5, 7.0] * u.ms)}


@add("BoundsReg.sample_init")
def _() -> Any:
    return bh.train.BoundsReg(1 * u.ms, 5 * u.ms).sample_init, {"shape": ("shape", (3,))}


@add("train.SignAnnealing")
def _() -> Any:
    return bh.train.SignAnnealing, {
        **net(), "total_epochs": ("count", 5), "alpha_start": ("positive number", 0.5),
        "alpha_end": ("positive number", 20.0),
    }  # fmt: skip


@add("SignAnnealing.step")
def _() -> Any:
    return bh.train.SignAnnealing(chip_net(), 5).step, {"epoch": ("whole", 1)}


@add("train.SurrogateSchedule")
def _() -> Any:
    return bh.train.SurrogateSchedule, {
        **net(lif_net), "parameter": ("word", "slope"), "total_epochs": ("count", 5), "start": ("positive number", 1.0),
        "end": ("positive number", 5.0),
    }  # fmt: skip


@add("SurrogateSchedule.step")
def _() -> Any:
    return bh.train.SurrogateSchedule(lif_net(), "slope", 5, start=1.0, end=5.0).step, {"epoch": ("whole", 1)}


for kind in ("clip_weights", "out_of_range", "topology_loss", "weight_magnitude_loss"):

    @add(f"train.{kind}")
    def _(kind: str = kind) -> Any:
        return getattr(bh.train, kind), net()


@add("train.order_rows")
def _() -> Any:
    return bh.train.order_rows, {
        "weight": ("plain matrix", np.array([[0.5, 0.1], [-0.2, 0.3], [0.1, -0.3]])),
        "block": ("count", 2),
        "starts": ("whole", 2),
        "seed": ("whole", 0),
    }


@add("deploy.project_signs")
def _() -> Any:
    return bh.deploy.project_signs, net()


# Figures.


AX = {"ax": ("optional axes", None)}


def ax() -> dict[str, Any]:
    axes().clear()
    return {"ax": ("optional axes", axes())}


@add("visualize.plot_fluct_report")
def _() -> Any:
    return bh.visualize.plot_fluct_report, {"report": ("report", report())}


@add("visualize.plot_fractional_orders")
def _() -> Any:
    return bh.visualize.plot_fractional_orders, {
        **net(fractional_net), "start": ("optional orders", 0.5), "bins": ("count", 4), **ax(),
    }  # fmt: skip


@add("visualize.plot_layer_rates")
def _() -> Any:
    return bh.visualize.plot_layer_rates, {"source": ("report or spikes", [np.ones((5, 2))]), **ax()}


@add("visualize.plot_membrane")
def _() -> Any:
    V = np.full((5, 2), 0.5) * u.mV
    return bh.visualize.plot_membrane, {
        "V": ("membranes", V), "V_pre": ("optional membranes", V), "V_th": ("optional mV", 1.0 * u.mV),
        "spikes": ("optional spikes", np.zeros((5, 2))), "neurons": ("optional neurons", 1), **ax(),
    }  # fmt: skip


@add("visualize.plot_raster")
def _() -> Any:
    return bh.visualize.plot_raster, {
        "spikes": ("raster", np.ones((5, 2))), **ax(), "color": ("colour", "C1"), "first": ("whole", 3),
    }  # fmt: skip


for kind in ("plot_membrane_distribution", "plot_response"):

    @add(f"visualize.{kind}")
    def _(kind: str = kind) -> Any:
        bins = {"bins": ("count", 5)} if kind == "plot_membrane_distribution" else {}
        return getattr(bh.visualize, kind), {"report": ("report", report().layers[0]), **bins, **ax()}


@add("visualize.plot_placement")
def _() -> Any:
    return bh.visualize.plot_placement, {"placement": ("report", placement()), **ax()}


@add("visualize.plot_power")
def _() -> Any:
    return bh.visualize.plot_power, {"report": ("report", power()), **ax()}


@add("visualize.plot_robustness")
def _() -> Any:
    robust = bh.deploy.RobustnessReport(np.array([0.5, 0.7]), jax.random.split(jax.random.key(0)), 0.6)
    return bh.visualize.plot_robustness, {
        "report": ("report", robust), **ax(), "label": ("optional text", "here"), "color": ("colour", "C1"),
        "linestyle": ("choice", "--"),
    }  # fmt: skip


@add("visualize.plot_sign_blocks")
def _() -> Any:
    return bh.visualize.plot_sign_blocks, {"synapse": ("net", bh.nn.H1v2Synapse(M, M)), **ax()}


@add("visualize.plot_weight_histogram")
def _() -> Any:
    return bh.visualize.plot_weight_histogram, {**net(), **ax(), "bins": ("optional count", 4)}


assert brainstate
