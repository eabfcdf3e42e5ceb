"""Valid calls of the recipe; the network in them is small and untrained, for a training takes a while."""

from __future__ import annotations

from typing import Any

import brainstate
import brainunit as u
import numpy as np
from recipe_sets import recordings
from valid_calls import add

import brainhw as bh

CLASSES = ("fall", "rise", "swing")


def _encoding() -> Any:
    from brainhw.recipe.encoding import fit_encoding

    x, _, lengths = recordings(9, 0)
    return fit_encoding(x.astype(float), lengths, (2,), block=5, n_steps=20)[0]


def _classifier() -> Any:
    encoding = _encoding()
    weights = np.zeros((encoding.n_rows, 3))
    weights[::5] = 0.5
    net = brainstate.nn.Sequential(
        bh.nn.H1v2Synapse(encoding.n_rows, 3, weight_init=weights, weight_bits="chip"),
        bh.nn.H1v2Layer(3, tau=20 * u.ms),
    )
    bh.train.SignAnnealing(net, 1).finish()
    return bh.recipe.ChipClassifier(net, encoding, CLASSES, 1.0 * u.ms)


def _recordings() -> dict[str, Any]:
    x, _, lengths = recordings(6, 1)
    return {"x": ("recordings", x), "lengths": ("recording lengths", lengths)}


@add("Encoding.__call__")
def _() -> Any:
    return _encoding().__call__, _recordings()


@add("Encoding.save")
def _() -> Any:
    return _encoding().save, {"path": ("path to write", "a.encoding")}


@add("Encoding.load", path="Give a file")
def _() -> Any:
    _encoding().save("b.encoding")
    return bh.recipe.Encoding.load, {"path": ("path to read", "b.encoding")}


for kind in ("inputs", "predict"):

    @add(f"ChipClassifier.{kind}", calls=("Encoding",))
    def _(kind: str = kind) -> Any:
        return getattr(_classifier(), kind), _recordings()


@add("ChipClassifier.report", calls=("Encoding",))
def _() -> Any:
    given = _recordings()
    return _classifier().report, {"x": given["x"], "y": ("names", recordings(6, 1)[1]), "lengths": given["lengths"]}


@add("ChipClassifier.save", calls=("export_bundle",), path="give a file")
def _() -> Any:
    return _classifier().save, {"path": ("stem to write", "c")}


@add("recipe.load_classifier", calls=("load_bundle",), path="bundle")
def _() -> Any:
    _classifier().save("d")
    return bh.recipe.load_classifier, {"path": ("path to read", "d")}
