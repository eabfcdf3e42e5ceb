"""Trained classifiers on a chip: predictions, reports and files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw._files import path_text
from brainhw.data.labels import indices_of
from brainhw.deploy import BundledNet, export_bundle, load_bundle
from brainhw.recipe.encoding import Encoding
from brainhw.train.class_report import ClassReport, count, report_on
from brainhw.train.decision import decide
from brainhw.train.history import History
from brainhw.transform import rollout

__all__ = ["ChipClassifier", "load_classifier"]

_AT_ONCE = 64


@final
@dataclasses.dataclass(frozen=True, eq=False)
class ChipClassifier:
    """A network for a chip, together with the input encoding and the names of the classes.

    Attributes
    ----------
    net : brainstate.nn.Module
        Network that satisfies all rules of its chip.
    encoding : Encoding
        Encoder that computes the inputs of the chip.
    classes : tuple of str
        Name of each class, as in the training labels.
    dt : Quantity
        Time step, ms.
    history : History or None
        Training history; None for a loaded classifier.
    """

    net: brainstate.nn.Module
    encoding: Encoding
    classes: tuple[str, ...]
    dt: u.Quantity
    history: History | None = None

    def inputs(self, x: Any, lengths: Any = None) -> np.ndarray:
        """Return the inputs of the chip, ``[n, n_steps, n_rows]``. The input of a recording is the same in all steps.

        Parameters
        ----------
        x, lengths
            Recordings and their lengths, as for :class:`Encoding`.

        Returns
        -------
        ndarray
            Inputs for ``python -m brainhw run`` and for a chip on a bench.
        """
        return np.repeat(self.encoding(x, lengths)[:, None], self.encoding.n_steps, axis=1)

    def predict(self, x: Any, lengths: Any = None) -> np.ndarray:
        """Return the predicted class name of each recording.

        Parameters
        ----------
        x, lengths
            Recordings and their lengths, as for :class:`Encoding`.

        Returns
        -------
        ndarray
            Class names, ``[n]``.
        """
        rows = self.encoding(x, lengths)
        found = [np.asarray(decide(spikes, len(self.classes)).predicted) for spikes in self._spikes(rows)]
        return np.array(self.classes)[np.concatenate(found)]

    def report(self, x: Any, y: Any, lengths: Any = None) -> ClassReport:
        """Compute a report on the predictions for labelled recordings.

        Parameters
        ----------
        x, lengths
            Recordings and their lengths, as for :class:`Encoding`.
        y : array
            Class name of each recording, ``[n]``. Each name must be one of ``classes``.

        Returns
        -------
        ClassReport
            Confusion matrix, recall of each class, number of silent recordings, and number of tied recordings.
        """
        call = "ChipClassifier.report"
        labels, _ = label_indices(y, self.classes, call=call)
        n, counts, start = len(self.classes), [], 0
        rows = self.encoding(x, lengths)
        if len(labels) != len(rows):
            raise ValueError(
                f"{call}: x contains {len(rows)} recordings, but y contains {len(labels)} labels. Pass one label per "
                "recording."
            )
        for spikes in self._spikes(rows):
            of_part = labels[start : (start := start + spikes.shape[1])]
            counts.append(count(decide(spikes, n), jnp.asarray(of_part), n))
        return dataclasses.replace(report_on(counts), names=self.classes)

    def save(self, path: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Write the network to ``NAME.bundle`` and its encoding to ``NAME.encoding``.

        Parameters
        ----------
        path : path
            Name of the files, without extension.

        Returns
        -------
        tuple of pathlib.Path
            Paths of the bundle and of the encoding. ``python -m brainhw`` can read the bundle.
        """
        stem = stem_of(path, call="ChipClassifier.save", name="path")
        bundle, encoding = Path(f"{stem}.bundle"), Path(f"{stem}.encoding")
        with brainstate.environ.context(dt=self.dt):
            export_bundle(
                self.net,
                bundle,
                n_classes=len(self.classes),
                notes="\n".join(self.classes),
                encoding_fingerprint=self.encoding.fingerprint,
            )
        self.encoding.save(encoding)
        return bundle, encoding

    def _spikes(self, rows: np.ndarray) -> Iterator[jax.Array]:
        for start in range(0, len(rows), _AT_ONCE):
            part = jnp.asarray(rows[start : start + _AT_ONCE])
            # Call rollout outside of jit. Then rollout can reuse its compiled program at the next call to `predict`.
            with brainstate.environ.context(dt=self.dt):
                yield rollout(self.net, jnp.broadcast_to(part, (self.encoding.n_steps, *part.shape)))[0]


def stem_of(path: Any, *, call: str, name: str) -> str:
    """Return ``path`` without the extension ``.bundle`` or ``.encoding``. Raise if no file name remains.

    ``name`` is the name of the argument in the error message.
    """
    empty = isinstance(path, str) and not path
    stem = "" if empty else path_text(path, call=call, what="a classifier")
    stem = stem.removesuffix(".bundle").removesuffix(".encoding")
    # With the names "." and "..", the files would be hidden.
    if not os.path.basename(stem).strip(". "):
        raise ValueError(f"{call}: {name} must be a file name without an extension, such as digits; got {stem!r}.")
    return stem


def label_indices(y: Any, classes: tuple[str, ...] | None = None, *, call: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the class index of each recording ``[n]`` and the names of the classes. Raise for invalid labels."""
    fix = "Remove the recordings of other classes, or train the classifier with them."
    indices, names = indices_of(y, classes, call=call, name="y", fix=fix)
    if indices.ndim != 1:
        raise ValueError(f"{call}: y must contain one label for each recording, [n]; got shape {indices.shape}.")
    return indices, names


def load_classifier(path: str | os.PathLike[str]) -> ChipClassifier:
    """Read the two files that :meth:`ChipClassifier.save` wrote.

    Parameters
    ----------
    path : path
        Name of the files, without extension.

    Returns
    -------
    ChipClassifier
        The classifier, with the network of the bundle.

    Raises
    ------
    ValueError
        If a file is missing or corrupted, or the two files do not belong together.
    """
    call = "load_classifier"
    stem = stem_of(path, call=call, name="path")
    return with_encoding(load_bundle(f"{stem}.bundle"), f"{stem}.encoding", call=call)


def with_encoding(net: BundledNet, encoding: str, *, call: str) -> ChipClassifier:
    """Build a classifier from a network and an encoding file. Raise if they do not belong together."""
    stage = Encoding.load(encoding)
    classes = tuple(net.notes.split("\n"))
    if net.in_size != (stage.n_rows,):
        raise ValueError(
            f"{call}: the encoding {encoding!r} computes {stage.n_rows} inputs, but the network of the bundle has "
            f"{net.in_size[0]} inputs. Pass the encoding file that was saved with this bundle."
        )
    # A bundle that was not written by ChipClassifier.save may have no fingerprint.
    if net.encoding_fingerprint not in (None, stage.fingerprint):
        raise ValueError(
            f"{call}: the encoding {encoding!r} has the fingerprint {stage.fingerprint[:8]}, but the bundle was saved "
            f"with the encoding {net.encoding_fingerprint[:8]}. Pass the encoding file that was saved with this bundle."
        )
    if net.n_classes != len(classes):
        raise ValueError(
            f"{call}: the bundle names {len(classes)} classes in its notes, but its network has {net.n_classes}. "
            "Pass a bundle that train_classifier wrote, and its encoding."
        )
    return ChipClassifier(net, stage, classes, net.dt)
