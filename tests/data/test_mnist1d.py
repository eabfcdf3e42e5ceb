from __future__ import annotations

import importlib
import random
import sys

import numpy as np
import pytest

from brainhw.data import mnist1d

# The function shadows its module as an attribute of the package.
MODULE = importlib.import_module("brainhw.data.mnist1d")


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mnist1d", "mnist1d.data"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'mnist1d: .*pip install "brainhw\[mnist1d\]"'):
        mnist1d()


def test_the_published_set() -> None:
    pytest.importorskip("mnist1d")
    data = mnist1d()
    for split, n, counts, moments in (
        (data.train, 4000, [398, 396, 411, 394, 394, 402, 401, 404, 402, 398], (-0.000324, 0.997648)),
        (data.test, 1000, [102, 104, 89, 106, 106, 98, 99, 96, 98, 102], (0.001295, 1.009352)),
    ):
        assert (split.x.shape, split.x.dtype, split.y.dtype) == ((n, 40, 1), np.float32, np.int32)
        assert np.bincount(split.y).tolist() == counts
        np.testing.assert_allclose((split.x.mean(dtype=float), split.x.std(dtype=float)), moments, atol=2e-6)
        assert (split.lengths == 40).all()
    assert data.n_classes == len(data.class_names) == 10


def test_global_generators_are_left_as_they_were() -> None:
    pytest.importorskip("mnist1d")
    states = random.getstate(), np.random.get_state()[1].copy()
    mnist1d()
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])


def test_another_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    other = {
        name: rng.normal(size=(n, 40)) if name[0] == "x" else rng.integers(0, 10, n)
        for name, n in (("x", 8), ("y", 8), ("x_test", 2), ("y_test", 2))
    }
    monkeypatch.setattr(MODULE, "_generated", lambda: other)
    with pytest.raises(RuntimeError, match=r"does not generate the published data"):
        mnist1d()
