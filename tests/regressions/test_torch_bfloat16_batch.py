"""A batch of torch.bfloat16 ended in a raw TypeError, for NumPy has no such type (issue 17, item 13)."""

from __future__ import annotations

import numpy as np
import pytest

from brainhw.init.batches import take_batches

X = (np.random.default_rng(0).random((2, 5, 3)) < 0.4).astype(np.float32)


class Bfloat16:
    """What torch does: numpy() refuses the type, float() converts it."""

    dtype = "torch.bfloat16"

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        raise TypeError("Got unsupported ScalarType BFloat16")

    def float(self):
        return Float32()


class Float32:
    def numpy(self):
        return X


def test_a_batch_of_bfloat16_is_read():
    np.testing.assert_array_equal(take_batches([Bfloat16()], 1, n_in=3, call="test"), X)


def test_torch_itself():
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(take_batches([torch.tensor(X).bfloat16()], 1, n_in=3, call="test"), X)
