"""PhysioNet QT Database: electrocardiograms encoded as spikes, with the wave segment of each step."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import numpy as np
import scipy.io

from brainhw.data.dataset import Dataset, Split
from brainhw.data.locate import bundled_arrays, locate

__all__ = ["qtdb", "qtdb_excerpt"]

_EXCERPT = resources.files("brainhw.data") / "qtdb_excerpt.npz"
_EXCERPT_SHA256 = "232d45ce836e2b785788a80e29da2ec7b9c7b258653cf89cfe322b887df21508"
_EXCERPT_STEPS = 1301

_FILES = {"train": "QTDB_train.mat", "test": "QTDB_test.mat"}
_N_CHANNELS = 4
_SEGMENTS = ("P wave", "P to QRS", "Q to R", "R to S", "S to T", "T to P")
_HOW_TO_GET = (
    "Get QTDB_train.mat and QTDB_test.mat, the QT Database (PhysioNet, open data) encoded into spikes by Yin, Corradi "
    "and Bohte, from the authors' published code for 'Accurate and efficient time-domain classification with adaptive "
    "spiking recurrent neural networks' (2021)."
)


def _read(file: Path) -> Split:
    if not file.is_file():
        raise FileNotFoundError(
            f"qtdb: {file} is missing; both {' and '.join(_FILES.values())} are required. {_HOW_TO_GET}"
        )
    try:
        content = scipy.io.loadmat(file, variable_names=("x", "y"))
    # SciPy raises many kinds of error for a corrupted file, and none of their messages names the file.
    except Exception as error:
        raise ValueError(
            f"qtdb: {file} is not a readable MATLAB file ({type(error).__name__}: {error}). Get this file again."
        ) from None
    missing = [name for name in ("x", "y") if name not in content]
    if missing:
        raise ValueError(f"qtdb: {file} has no variable {' and '.join(missing)}. Get this file again.")
    x, y = content["x"], content["y"]
    if x.ndim != 3 or x.shape[2] != _N_CHANNELS or y.shape != (*x.shape[:2], len(_SEGMENTS)) or not x.size:
        raise ValueError(
            f"qtdb: {file} contains x of shape {x.shape} and y of shape {y.shape}; expected x [n, T, {_N_CHANNELS}] "
            f"and y [n, T, {len(_SEGMENTS)}]. Get this file again."
        )
    if not (np.isin(x, (-1, 0, 1)).all() and np.isin(y, (0, 1)).all() and (y.sum(axis=2) <= 1).all()):
        raise ValueError(
            f"qtdb: {file} contains values of x other than -1, 0 and 1, or more than one segment label per step in y. "
            "Get this file again."
        )
    # argmax gives 0 for steps without a label. The published accuracies also count these as the first segment.
    return Split(x=x, y=np.argmax(y, axis=2))


def qtdb(root: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the QT Database: electrocardiograms of two leads as spikes, with the wave segment of each step.

    Yin, Corradi and Bohte (2021) cut the two leads into sequences of 1301 steps (5.2 s at 250 Hz) and encoded level
    crossings into four spike channels: one for upward and one for downward crossings of each lead. There are 618
    training and 141 test sequences. Each step belongs to one of six segments between the characteristic points of the
    heart beat.

    Parameters
    ----------
    root
        The folder that contains ``QTDB_train.mat`` and ``QTDB_test.mat``. ``None`` (default) searches the folders of
        :func:`brainhw.data.locate` for ``qtdb``.

    Returns
    -------
    Dataset
        ``x`` is float32 ``[n, T, 4]`` with values 0 and 1; the first channel may be -1 at the last step. ``y`` is int32
        ``[n, T]``, the segment of each step.

    Raises
    ------
    TypeError
        If ``root`` is not a path.
    FileNotFoundError
        If one of the files is missing.
    ValueError
        If a file is corrupted or is not a file of this data set. The message names the file.

    Notes
    -----
    8.2 % of the training steps and 10.4 % of the test steps have no label in the files. Most of these steps (5.7 % and
    7.7 % of all steps) are at the end of a sequence, after its last label. The others are gaps in the annotation. Here
    all these steps have the label of the first segment, as they had for the published accuracies.

    References
    ----------
    P. Laguna et al., A database for evaluation of algorithms for measurement of QT and other waveform intervals in the
    ECG, Computers in Cardiology 24, 1997. B. Yin, F. Corradi, S. M. Bohte, Accurate and efficient time-domain
    classification with adaptive spiking recurrent neural networks, Nature Machine Intelligence 3, 2021.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import scipy.io
    >>> from brainhw.data import qtdb
    >>> rng = np.random.default_rng(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, n in (("train", 3), ("test", 2)):
    ...         x = rng.integers(0, 2, (n, 20, 4))
    ...         y = np.eye(6, dtype=int)[rng.integers(0, 6, (n, 20))]
    ...         scipy.io.savemat(Path(folder) / f"QTDB_{name}.mat", {"x": x, "y": y})
    ...     data = qtdb(folder)
    >>> data.train, data.train.y.shape
    (Split(3 recordings, x [3, 20, 4], lengths 20 to 20), (3, 20))
    """
    if root is not None and not isinstance(root, (str, os.PathLike)):
        raise TypeError(f"qtdb: root must be the path of a folder, or None to search; got {root!r}.")
    folder = locate("qtdb", root, marker=tuple(_FILES.values()), how_to_get=_HOW_TO_GET)
    return _dataset("qtdb", *(_read(folder / _FILES[half]) for half in ("train", "test")))


def qtdb_excerpt() -> Dataset:
    """Load a small part of the QT Database from the package: 124 training and 29 test sequences.

    The excerpt contains every fifth sequence of :func:`qtdb`, unchanged, for tests and demonstrations. Accuracies on
    the excerpt are not comparable with published accuracies. The checksum of the file is verified at each load.

    Returns
    -------
    Dataset
        As from :func:`qtdb`: ``x`` float32 ``[n, 1301, 4]``, ``y`` int32 ``[n, 1301]``, the segment of each step.

    Raises
    ------
    RuntimeError
        If the bundled file is missing or corrupted.

    References
    ----------
    See :func:`qtdb`. Licence: Open Data Commons Attribution License v1.0.

    Examples
    --------
    >>> from brainhw.data import qtdb_excerpt
    >>> qtdb_excerpt()
    Dataset(qtdb_excerpt: 6 classes, licence Open Data Commons Attribution License v1.0 (PhysioNet)
      train Split(124 recordings, x [124, 1301, 4], lengths 1301 to 1301)
      test  Split(29 recordings, x [29, 1301, 4], lengths 1301 to 1301))
    """
    stored = bundled_arrays(_EXCERPT, _EXCERPT_SHA256, call="qtdb_excerpt")
    halves = [_unpack(stored[f"{half}_spikes"], stored[f"{half}_labels"]) for half in ("train", "test")]
    return _dataset("qtdb_excerpt", *halves)


def _unpack(spikes: np.ndarray, labels: np.ndarray) -> Split:
    x = np.unpackbits(spikes, axis=1, count=_EXCERPT_STEPS).astype(np.float32)
    # The first channel of every published sequence ends with -1, which cannot be stored in one bit.
    x[:, -1, 0] = -1
    return Split(x=x, y=labels)


def _dataset(name: str, train: Split, test: Split) -> Dataset:
    return Dataset(
        name=name,
        train=train,
        test=test,
        n_classes=len(_SEGMENTS),
        class_names=_SEGMENTS,
        licence="Open Data Commons Attribution License v1.0 (PhysioNet)",
        citation=(
            "P. Laguna et al., Computers in Cardiology 24, 1997; encoded by B. Yin, F. Corradi, S. M. Bohte, "
            "Nature Machine Intelligence 3, 2021."
        ),
    )
