"""Silent neurons and largest weights of layers with few inputs after ``fluct_init``.

``python -m benchmarks.fluct_few_inputs`` prints a table for both chip families. The layers have 32 neurons, 1, 2, 4 or
8 inputs at 20, 50, 150 or 300 Hz, and time constants of 5, 20 or 50 ms. ``fluct_init`` gets 8 recordings of 250 ms and
default arguments. The table also shows whether a neuron can fire at all with weights within the range of the chip, or
with larger weights.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator

import brainstate
import brainunit as u
import jax.numpy as jnp
import numpy as np

import brainhw as bh
from benchmarks.machine import machine

FAMILIES = {"H1v1": (bh.nn.H1v1Synapse, bh.nn.H1v1Layer), "H1v2": (bh.nn.H1v2Synapse, bh.nn.H1v2Layer)}
INPUTS, RATES, TAUS = (1, 2, 4, 8), (20, 50, 150, 300), (5, 20, 50)  # Hz, ms
N, RECORDINGS, STEPS = 32, 8, 250
ANY_WEIGHT = (1.5, 2.0, 3.0, 5.0, 10.0, 100.0)


@dataclasses.dataclass(frozen=True)
class Cell:
    """Result of ``fluct_init`` for one layer, and whether any weights can make its neurons fire."""

    family: str
    n_in: int
    rate: int
    tau: int
    wakes_in_range: bool
    wakes_at_all: bool
    dead: int
    largest: float
    out_of_range: int
    distinct: int
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        place = "in range" if not self.out_of_range else f"up to {self.largest:.3g}"
        can = "" if self.wakes_in_range else " (not in range)" if self.wakes_at_all else " (no weight wakes)"
        return f"{self.dead} silent, {place}{can}"


def spikes(n_in: int, rate: int) -> np.ndarray:
    """Return Bernoulli spikes ``[recordings, steps, inputs]``. They are the same for each family and time constant."""
    rng = np.random.default_rng(1000 * n_in + rate)
    return (rng.random((RECORDINGS, STEPS, n_in)) < 1e-3 * rate).astype(np.float32)


def fires(net: brainstate.nn.Sequential, x: np.ndarray, weight: float) -> bool:
    """Return whether a neuron fires if all weights have this value."""
    net.layers[0].weight.value = jnp.full_like(net.layers[0].weight.value, weight)
    return bool(bh.rollout(net, np.swapaxes(x, 0, 1))[0].any())


def cell(family: str, n_in: int, rate: int, tau: int) -> Cell:
    """Initialise one layer, and find out whether any weights can make its neurons fire."""
    synapse, layer = FAMILIES[family]
    net = brainstate.nn.Sequential(synapse(n_in, N), layer(N, tau=tau * u.ms))
    x, limit = spikes(n_in, rate), net.layers[0].chip.weight_limit
    in_range = fires(net, x, limit)
    at_all = in_range or any(fires(net, x, weight) for weight in ANY_WEIGHT)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = bh.init.fluct_init(net, [x], verbose=False, return_report=True)
    assert report is not None
    drawn = np.asarray(net.layers[0].weight.value)
    return Cell(
        family,
        n_in,
        rate,
        tau,
        in_range,
        at_all,
        report.layers[0].dead,
        float(np.abs(drawn).max()),
        report.layers[0].out_of_range,
        len({tuple(column) for column in drawn.T}),
        tuple(str(warning.message) for warning in caught),
    )


def grid(family: str) -> Iterator[list[Cell]]:
    """Yield the rows of a family. A row has one number of inputs, one rate, and all time constants."""
    for n_in in INPUTS:
        for rate in RATES:
            yield [cell(family, n_in, rate, tau) for tau in TAUS]


def main() -> None:
    """Print the table."""
    with brainstate.environ.context(dt=1.0 * u.ms):
        print("| chip | inputs | rate | " + " | ".join(f"τ {tau} ms" for tau in TAUS) + " |")
        print("| --- | --- | --- |" + " --- |" * len(TAUS))
        for family in FAMILIES:
            for row in grid(family):
                print(
                    f"| {family} | {row[0].n_in} | {row[0].rate} Hz | " + " | ".join(map(str, row)) + " |", flush=True
                )
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
