"""MNIST-1D data set, generated with the authors' package."""

from __future__ import annotations

import hashlib
import random

import numpy as np

from brainhw.data.dataset import Dataset, Split

__all__ = ["mnist1d"]

# Checksum of the published numbers, rounded to thousandths, because the last bits may differ between computers.
_SHA256 = "f5c80757e99bfe3f9fe7f4be1f47c3859562856fa03aa91e205ce5383895c963"
_CLASSES = 10


def _generated() -> dict[str, np.ndarray]:
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError as error:
        raise ImportError(
            f"mnist1d: the package that generates the data cannot be imported ({error}). "
            'Run: pip install "brainhw[mnist1d]"'
        ) from error
    # The package seeds the global generators of Python and NumPy. Restore their states, so that the user's random
    # numbers do not change.
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        return make_dataset(get_dataset_args())
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _fingerprint(content: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in ("x", "y", "x_test", "y_test"):
        digest.update(np.rint(np.asarray(content[name], np.float64) * 1000).astype("<i4").tobytes())
    return digest.hexdigest()


def mnist1d() -> Dataset:
    """Generate MNIST-1D: distorted, shifted and noisy series of 40 values, each with one of ten shapes.

    The shapes are templates of 12 points that resemble the digits. There are 4000 training and 1000 test series. The
    authors' package generates the series with its default arguments and seed in about a second. A checksum confirms
    that they equal the published series.

    Returns
    -------
    Dataset
        ``x`` is float32 ``[n, 40, 1]``, with mean 0 and standard deviation 1 over the whole data set. ``y`` is int32
        ``[n]``.

    Raises
    ------
    ImportError
        If the package ``mnist1d`` is missing. Install it with ``pip install "brainhw[mnist1d]"``.
    RuntimeError
        If the installed package generates data that differ from the published ones.

    Notes
    -----
    Published test accuracies: logistic regression 0.32, multilayer perceptron 0.68, GRU 0.91, CNN 0.94, human 0.96.

    References
    ----------
    S. Greydanus, D. Kobak, Scaling Down Deep Learning with MNIST-1D, ICML 2024 (arXiv 2011.14439, 2020). Licence of
    the package: Apache-2.0.

    Examples
    --------
    >>> from brainhw.data import mnist1d
    >>> mnist1d()  # doctest: +SKIP
    Dataset(mnist1d: 10 classes, licence Apache-2.0
      train Split(4000 recordings, x [4000, 40, 1], lengths 40 to 40)
      test  Split(1000 recordings, x [1000, 40, 1], lengths 40 to 40))
    """
    content = _generated()
    found = _fingerprint(content)
    if found != _SHA256:
        raise RuntimeError(
            f"mnist1d: the installed package does not generate the published data (SHA-256 {found[:12]}..., "
            f'expected {_SHA256[:12]}...). Run: pip install "brainhw[mnist1d]".'
        )
    return Dataset(
        name="mnist1d",
        train=Split(content["x"][:, :, None], content["y"]),
        test=Split(content["x_test"][:, :, None], content["y_test"]),
        n_classes=_CLASSES,
        class_names=tuple(f"digit {number}" for number in range(_CLASSES)),
        licence="Apache-2.0",
        citation="S. Greydanus, D. Kobak, Scaling Down Deep Learning with MNIST-1D, ICML 2024 (arXiv 2011.14439).",
    )
