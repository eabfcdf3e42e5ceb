"""Encoding of raw recordings as inputs of a network that the command ``train`` wrote."""

from __future__ import annotations

from typing import Literal

import numpy as np

from brainhw.cli.data import known_lengths, read_recordings
from brainhw.deploy.bundled_net import BundledNet
from brainhw.recipe.chip_classifier import label_indices, with_encoding

__all__ = ["encoded_inputs", "encoded_recordings"]


def encoded_inputs(
    net: BundledNet, encoding: str, data: str, labels: str | None, *, call: str
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Return the chip inputs for the recordings in the file ``data``, their class indices, and all class names.

    The class indices are ``None`` if the file has no labels.
    """
    if labels is not None:
        raise ValueError(f"{call}: --labels cannot be used with --encoding. Put the classes into `y` of DATA.")
    x, y, classes = encoded_recordings(net, encoding, data, call=call, labels="optional")
    return x, None if y is None else label_indices(y, classes, call=call)[0], classes


def encoded_recordings(
    net: BundledNet, encoding: str, data: str, *, call: str, labels: Literal["optional", "ignored"]
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Return the chip inputs for the recordings in the file ``data``, their labels, and all class names."""
    classifier = with_encoding(net, encoding, call=call)
    x, y, lengths = read_recordings(data, call=call, labels=labels)
    lengths = known_lengths(data, x, lengths, classifier.encoding.in_shape, call=call)
    return classifier.inputs(x, lengths), y, classifier.classes
