"""MNIST-1D: ten shapes in series of 40 numbers, generated on this computer."""

from __future__ import annotations

import hashlib
import random

import numpy as np

from brainhw.data.dataset import Dataset, Split

__all__ = ["mnist1d"]

# Of the published file. Thousandths: the last bits of the numbers may differ from one computer to the next.
_SHA256 = "f5c80757e99bfe3f9fe7f4be1f47c3859562856fa03aa91e205ce5383895c963"
_CLASSES = 10


def _generated() -> dict[str, np.ndarray]:
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError as error:
        raise ImportError(
            f"mnist1d: the package that generates the data cannot be imported ({error}); "
            'run: pip install "brainhw[mnist1d]"'
        ) from error
    # The package seeds both global generators; who calls a loader does not expect that.
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
    """Generate MNIST-1D: ten shapes, each stretched, shifted, tilted and hidden in noise, to be told apart.

    Every series starts from one of ten templates of 12 points that recall the digits; the template lies somewhere among
    the 40 steps. 4000 series are for training and 1000 for testing. Nothing is downloaded or stored: the authors'
    package generates the set with its default arguments and seed in about a second, and a checksum says that it is the
    published one.

    Returns
    -------
    Dataset
        ``x`` float32 ``[n, 40, 1]``, mean 0 and standard deviation 1 over the whole set, ``y`` int32 ``[n]``.

    Raises
    ------
    ImportError
        Where the package ``mnist1d`` is missing; it comes with ``pip install "brainhw[mnist1d]"``.
    RuntimeError
        Where the installed package generates another set.

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
            f"mnist1d: the installed package generates another set than the published one (SHA-256 {found[:12]}..., "
            f'expected {_SHA256[:12]}...); install the version that pip install "brainhw[mnist1d]" takes.'
        )
    train, test = (
        Split(x[:, :, None], y, np.full(len(y), x.shape[1], np.int32))
        for x, y in ((content["x"], content["y"]), (content["x_test"], content["y_test"]))
    )
    return Dataset(
        name="mnist1d",
        train=train,
        test=test,
        n_classes=_CLASSES,
        class_names=tuple(f"digit {number}" for number in range(_CLASSES)),
        licence="Apache-2.0",
        citation="S. Greydanus, D. Kobak, Scaling Down Deep Learning with MNIST-1D, ICML 2024 (arXiv 2011.14439).",
    )
