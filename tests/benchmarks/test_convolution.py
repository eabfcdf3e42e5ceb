"""The convolutional net of the benchmark learns from ``fluct_init`` where default weights stay at chance."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks import convolution  # noqa: E402


@pytest.mark.slow
def test_fluct_init_makes_a_convolutional_net_learn_where_default_weights_do_not() -> None:
    chance = math.log(10)
    default = convolution.learn(False)
    np.testing.assert_allclose(default, chance, atol=0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 12 steps are too few to tell silent neurons from dead ones
        learnt = convolution.learn(True)
    assert np.mean(learnt[-5:]) < 0.7 * chance
