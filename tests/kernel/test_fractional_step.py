"""Whole runs of the schemes against spikeDE's in double precision, and against the exact solution."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainhw as bh
from brainhw.kernel.fractional_sequence import run_steps

GOLDEN = Path(__file__).parents[1] / "golden" / "spikede" / "g09_relaxation_float64.npz"
METHODS = bh.kernel.METHODS
ALPHAS = np.array([0.3, 0.5, 0.7, 0.9])
END = 2.0


@functools.cache
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def voltages(alpha: Any, h: Any, drive: np.ndarray, **options: Any) -> np.ndarray:
    """Return the voltages ``[T, N]`` after each step of ``D^alpha y = drive - y`` in double precision, without spikes.

    ``h`` may differ between neurons: time is measured in ``tau``, and ``dt`` is 1 ms.
    """
    with jax.enable_x64(True), brainstate.environ.context(precision=64):
        layer = bh.nn.FractionalLIFLayer(
            drive.shape[1],
            alpha=alpha,
            tau=1 / np.asarray(h) * u.ms,
            V_th=1e9 * u.mV,
            **options,
        )
        _, trace = run_steps(
            layer.rules(), layer.parameters(1.0 * u.ms), layer.state(), jnp.asarray(drive), keep_V=True
        )
        assert not trace.spk.any()
        return np.asarray(trace.V)


def relaxation(alpha: float, t: np.ndarray | float) -> np.ndarray:
    r"""Return :math:`1 - E_\alpha(-t^\alpha)` for ``t > 0``, the solution of :math:`D^\alpha y = 1 - y`, y(0) = 0.

    This is the inverse Laplace transform along the cut on the negative axis: :math:`E_\alpha(-t^\alpha)` is a mixture
    of :math:`e^{-rt}` (Gorenflo and Mainardi, Fractional calculus, 1997). In the logarithm of the rate the integrand is
    analytic and decays at both ends, where the trapezoidal rule converges exponentially.
    """
    x = np.linspace(-45 / alpha, 12, 4000)
    r = np.exp(x)
    density = np.sin(alpha * np.pi) / np.pi * r**alpha / (r ** (2 * alpha) + 2 * r**alpha * np.cos(alpha * np.pi) + 1)
    return 1 - (np.exp(-np.multiply.outer(t, r)) * density).sum(axis=-1) * (x[1] - x[0])


def test_exact_solution_of_the_tests() -> None:
    for alpha in ALPHAS:
        np.testing.assert_allclose(
            relaxation(alpha, golden()["t_grid"][1:]), golden()[f"exact_a{alpha}"], rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("method", ["gl", "l1", "trap", "pred"])
def test_relaxation_of_spikede(method: str) -> None:
    drive = np.ones((64, 4))
    found = voltages(ALPHAS, golden()["h"], drive, method=method, kernel="dense", horizon=64)
    expected = np.stack([golden()[f"{method}_a{alpha}"] for alpha in ALPHAS], axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_relaxation_of_spikede_with_three_terms() -> None:
    data = golden()
    found = voltages(
        [float(alpha) for alpha in data["glmulti_alpha"]],
        data["h"],
        np.ones((64, 1)),
        coefficients=data["glmulti_coef"],
        kernel="dense",
        horizon=64,
    )
    np.testing.assert_allclose(found[:, 0], data["glmulti"], rtol=0, atol=1e-12)


def errors_at_the_end(method: str, drive: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps ``h``, and the errors ``[alphas, steps]`` at the end for a drive with the given jumps.

    All runs are neurons of one layer, each with its own order and step.
    """
    counts = np.array([64, 128, 256, 512])
    h = END / counts
    orders, steps = (grid.ravel() for grid in np.meshgrid(ALPHAS, h, indexing="ij"))
    times = np.arange(counts[-1])[:, None] * steps
    held = sum(size * (times >= start) for start, size in drive)
    V = voltages(orders, steps, held, method=method, kernel="dense", horizon=int(counts[-1]))
    reached = np.stack([V[count - 1, i::4] for i, count in enumerate(counts)], axis=1)
    exact = np.array([sum(size * relaxation(alpha, END - start) for start, size in drive) for alpha in ALPHAS])
    return h, np.abs(reached - exact[:, None])


def slopes(h: np.ndarray, errors: np.ndarray) -> np.ndarray:
    return np.polyfit(np.log(h), np.log(errors).T, 1)[0]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "trap"])
def test_order_of_the_method_at_a_fixed_time(method: str) -> None:
    h, errors = errors_at_the_end(method, [(0.0, 1.0)])
    np.testing.assert_allclose(slopes(h, errors), METHODS[method].order, rtol=0, atol=0.15)


def test_second_order_through_jumps() -> None:
    # A drive that is constant over each step jumps at grid points. After each jump, as after the start, the solution
    # moves like t^alpha, and a rule of second order for smooth solutions falls back to first order. In cn a jump counts
    # more in its first step, by the share (1 - alpha)/2, which keeps the order. The share follows from comparing
    # generating functions. With zeta = exp(-z), z = s h, and the drive as F(zeta) = sum_k F_k zeta^(k+1), the scheme
    # is
    #     (((1 - zeta)/h)^alpha + 1 - alpha/2 + alpha/2 zeta) Y = F
    # and the equation for a unit jump is (s^alpha + 1) y = 1/s. Since ((1 - zeta)/h)^alpha equals
    # s^alpha (1 - alpha/2 + alpha/2 zeta) (1 + O(z^2)), Y is y/h (1 + O(z^2)) if
    #     F / (1 - alpha/2 + alpha/2 zeta) = (1/z) (1 + O(z^2)).
    # The held drive alone, F = zeta/(1 - zeta), gives (1/z)(1 - (1 - alpha)/2 z); adding (1 - alpha)/2 zeta fixes it.
    z, alpha = np.array([1e-3, 5e-4]), 0.4
    zeta = np.exp(-z)
    for correction, power in ((0.0, 1), ((1 - alpha) / 2, 2)):
        F = zeta / (1 - zeta) + correction * zeta
        off = np.abs(z * F / (1 - alpha / 2 + alpha / 2 * zeta) - 1)
        assert np.log2(off[0] / off[1]) == pytest.approx(power, abs=0.01)

    # The scheme has that F: in steps much shorter than tau only the drive acts, so the first two voltages show it.
    h = 1e-12
    first, second = voltages(ALPHAS, h, np.ones((2, 4)), method="cn", kernel="dense", horizon=2)
    np.testing.assert_allclose(first / h**ALPHAS, 1 + (1 - ALPHAS) / 2, rtol=2e-3)
    np.testing.assert_allclose((second - ALPHAS * first) / h**ALPHAS, 1, rtol=2e-3)

    # The order is kept.
    steps, errors = errors_at_the_end("cn", [(0.0, 1.0), (0.5, -1.7), (1.25, 2.3), (1.75, 0.4)])
    np.testing.assert_allclose(slopes(steps, errors), 2, rtol=0, atol=0.15)
    # At the finest step no other scheme comes close.
    _, of_gl = errors_at_the_end("gl", [(0.0, 1.0), (0.5, -1.7), (1.25, 2.3), (1.75, 0.4)])
    assert np.all(errors[:, -1] < 0.1 * of_gl[:, -1])
