"""Valid calls of the training loop, and of decisions and reports on a classifier."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import numpy as np
from valid_calls import LABELS, add, axes, spikes, split

import brainhw as bh


def _net() -> brainstate.nn.Module:
    return brainstate.nn.Sequential(
        bh.nn.LIFSynapse(3, 2, weight_init=np.array([[-4.0, -2.0], [29.0, -14.0], [16.0, 24.0]]) * u.mV),
        bh.nn.LIFLayer(2, tau=20 * u.ms),
    )


def _history() -> Any:
    return bh.train.History([{"loss": 2.0}, {"loss": 1.0}], best=1, watched="loss")


@add("train.fit", calls=("hold_out", "Split", "population_votes"))
def _() -> Any:
    def forward(net: Any, batch: Any) -> Any:
        return bh.rollout(net, batch.x)[0]

    return bh.train.fit, {
        "net": ("net", _net()), "train": ("recordings", split()), "validation": ("optional recordings", None),
        "n_classes": ("optional count", 2), "loss": ("own callable", bh.train.classifier_loss(2)),
        "metrics": ("optional callables", None), "epochs": ("count", 1), "batch_size": ("count", 4),
        "learning_rate": ("rate or callable", 1e-3), "max_gradient": ("optional positive number", 1.0),
        "optimizer": ("optional optimizer", None), "forward": ("own callable", forward),
        "sample_chips": ("flag or choice", "auto"), "constrain": ("own callable", "auto"),
        "schedules": ("schedules", ()), "watch": ("optional choice", "loss"), "keep": ("choice", "last"),
        "patience": ("optional count", 3), "callbacks": ("callables", ()), "seed": ("whole", 0),
        "checkpoint": ("optional path to write", None), "mesh": ("optional mesh", None), "progress": ("flag", False),
    }  # fmt: skip


@add("train.History")
def _() -> Any:
    return bh.train.History, {
        "epochs": ("epochs", [{"loss": 2.0}]), "best": ("optional whole", 0), "watched": ("word", "loss"),
        "reason": ("text", ""), "keep": ("choice", "best"), "report": ("optional class report", None),
    }  # fmt: skip


@add("History.column")
def _() -> Any:
    return _history().column, {"name": ("choice", "loss")}


@add("visualize.plot_history")
def _() -> Any:
    return bh.visualize.plot_history, {
        "history": ("history", _history()), "name": ("optional choice", "loss"), "ax": ("optional axes", axes()),
    }  # fmt: skip


@add("visualize.plot_confusion")
def _() -> Any:
    report = bh.train.ClassReport(np.array([[3, 1], [0, 2]]), tied=0, undecided=0, silent=0)
    return bh.visualize.plot_confusion, {
        "report": ("class report", report), "numbers": ("optional flag", None), "ax": ("optional axes", axes()),
    }  # fmt: skip


@add("train.classifier_loss")
def _() -> Any:
    return bh.train.classifier_loss, {
        "n_classes": ("count", 2), "floor": ("nonnegative number", 1.0), "ceiling": ("positive number", 0.3),
        "scale": ("positive number", 1.0),
    }  # fmt: skip


@add("train.decide")
def _() -> Any:
    return bh.train.decide, {
        "spikes": ("spikes", spikes()), "n_classes": ("optional count", 2), "lengths": ("recording lengths", None),
    }  # fmt: skip


for kind in ("class_scores", "class_report"):

    @add(f"train.{kind}")
    def _(kind: str = kind) -> Any:
        return getattr(bh.train, kind), {
            "spikes": ("spikes", spikes()), "labels": ("class labels", LABELS), "n_classes": ("optional count", 2),
            "lengths": ("recording lengths", None),
        }  # fmt: skip


@add("train.ClassReport")
def _() -> Any:
    return bh.train.ClassReport, {
        "confusion": ("square of counts", np.eye(2, dtype=int)), "tied": ("whole", 0), "undecided": ("whole", 0),
        "silent": ("whole", 0), "names": ("optional names of classes", ()),
    }  # fmt: skip


@add("data.hold_out")
def _() -> Any:
    return bh.data.hold_out, {
        "split": ("split", split()), "share": ("share between", 0.5), "seed": ("whole", 0),
        "whole_groups": ("flag", False),
    }  # fmt: skip
