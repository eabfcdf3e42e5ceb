"""Validation of ``fluct_init`` against its theory on H1v1, H1v2 and LIF neurons.

``python -m benchmarks.fluct_validation`` measures on random spikes, writes ``docs/results/fluct_validation.json`` and
prints a Markdown table. It fails if a criterion is not met. Membrane potentials and silent neurons are measured with
the modules only, without ``brainhw.init``. Unless a row of the table states otherwise, the measurements use data that
the initialisation has not seen.
"""

from __future__ import annotations

import dataclasses
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import brainhw as bh
from benchmarks.fluct_systems import (
    BATCH,
    DT,
    RATES,
    STEPS,
    SYSTEMS,
    System,
    initialised,
    membrane,
    millivolts,
    silent,
    spikes,
)
from benchmarks.machine import save
from brainhw.init.circuit import Circuit
from brainhw.init.pair import Draw, FluctSettings, PairInitializer
from brainhw.init.response import Response, input_moments, measure_response, silent_fraction

NEURONS = 256
KERNEL_TAUS = (1, 2, 5, 10, 20, 50, 100, 200)  # ms: the leak profiles of the chips
PAPER_NEURONS, PAPER_STEPS = 1024, 1000
PAPER_POINTS = ((10.0, 2.0), (50.0, 2.0), (50.0, 3.0))  # Hz, xi
RECURRENT_STEPS = 600
BEYOND = ((100.0, 1.0), (10.0, 2.0), (392.0, 1.0))  # Hz, xi


@dataclasses.dataclass(frozen=True)
class Finding:
    """Result of one check on one system. ``met`` is ``None`` if there is no criterion."""

    check: str
    criterion: str
    measured: dict[Any, Any]
    text: str
    met: bool | None

    @property
    def missed(self) -> bool:
        """True if there is a criterion that is not met."""
        return self.met is not None and not self.met


def kernel_of(system: System, tau: float) -> Response:
    return measure_response(Circuit(*system.net(2, 1, tau).layers), 1e3 * DT * u.ms, STEPS)


def listed(values: Any, digits: int = 2) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def within(values: Any, low: float, high: float) -> bool:
    return bool(np.all((np.asarray(values) >= low) & (np.asarray(values) <= high)))


# ---------------------------------------------------------------------------------------------- the checks


def kernel(system: System) -> Iterator[Finding]:
    """Compare integrals of the response with geometric sums, and responses to a probe with those to half of it."""
    errors = {}
    for tau in KERNEL_TAUS:
        got = kernel_of(system, tau)
        layer = system.net(2, 1, tau).layers[1]
        first = 1.0 if not system.on_chip else float(millivolts(layer.chip.charge.slope_at_zero / layer.chip.C))
        decay = np.exp(-1e3 * DT / tau)
        wanted = DT * first / (1 - decay), DT * first**2 / (1 - decay**2)
        errors[f"{tau} ms"] = _worst(got, wanted)
    if not system.on_chip:
        # Current-based neurons update in the opposite order. Their response has two exponentials, and an input decays
        # once before it changes the membrane potential.
        for tau_mem, tau_syn in ((20, 10), (20, 20), (50, 10)):
            layer = bh.nn.CubaLIFLayer(1, tau_mem=tau_mem * u.ms, tau_syn=tau_syn * u.ms)
            got = measure_response(Circuit(bh.nn.LIFSynapse(2, 1), layer), 1e3 * DT * u.ms, STEPS)
            a, b = np.exp(-1e3 * DT / tau_mem), np.exp(-1e3 * DT / tau_syn)
            square = DT * b**2 * (1 + a * b) / ((1 - a**2) * (1 - b**2) * (1 - a * b))
            errors[f"current-based, {tau_mem} and {tau_syn} ms"] = _worst(got, (DT * b / ((1 - a) * (1 - b)), square))
    worst = max(errors, key=errors.__getitem__)
    yield Finding(
        "response compared with its closed form, for every τ from 1 to 200 ms (for LIF, also current-based neurons)",
        "relative error < 1e-5",
        {"relative_error": errors},
        f"{errors[worst]:.1e} ({worst})",
        errors[worst] < 1e-5,
    )

    circuit = Circuit(*system.net(1, 1, system.tau).layers)
    scale = min(circuit.weight_limit, float(circuit.threshold()[0]))

    def slope(weight: float) -> float:
        return float(circuit.drive(jnp.full((1, 1), weight), jnp.ones((1, 1, 1))).mantissa[0, 0, 0]) / weight

    changes = {share: abs(slope(share * scale) / slope(share * scale / 2) - 1) for share in (1e-3, 1e-2, 1e-1)}
    yield Finding(
        "response per unit weight, for a probe and half of it (probes of 0.001, 0.01, 0.1 of the weight range)",
        "change < 1 %",
        {"relative_change": changes},
        ", ".join(f"{change:.0e}" for change in changes.values()),
        max(changes.values()) < 0.01,
    )


def _worst(got: Response, wanted: tuple[float, float]) -> float:
    return max(abs(float(a[0]) / b - 1) for a, b in zip((got.integral, got.square_integral), wanted, strict=True))


def fluctuation(system: System) -> Iterator[Finding]:
    """Compare variance, threshold distance and means of membrane potentials with the target, for centred weights."""
    exact, second, median, spread, fresh_spread = [], [], {}, {}, {}
    for rate, weak_xi in zip(RATES, system.weak_xi, strict=True):
        x, fresh = (spikes(rate, system.n_in, seed=seed) for seed in (0, 1))
        for xi in (1.0, 2.0, 3.0) if rate == 100 else (2.0,):
            net = system.net(system.n_in, NEURONS, system.tau)
            initialised(net, x, xi_target=xi)
            mean, variance = membrane(net, fresh)
            if xi == 2:
                exact.append(float(variance.mean() * xi**2))
            if rate == 100:
                median[xi] = float(np.median((1 - mean) / np.sqrt(variance)))
                spread[xi], fresh_spread[xi] = float(membrane(net, x)[0].std()), float(mean.std())
        net = system.net(system.n_in, NEURONS, system.tau)
        initialised(net, x, xi_target=weak_xi, moments="second")
        second.append(float(membrane(net, fresh)[1].mean() * weak_xi**2))
    rates = ", ".join(f"{rate:g}" for rate in RATES) + " Hz"
    yield Finding(
        f"variance of the membrane potential divided by its target, ξ 2, {rates}",
        "0.93 to 1.07",
        dict(zip(RATES, exact, strict=True)),
        listed(exact),
        within(exact, 0.93, 1.07),
    )
    left_out = [1 - rate * DT for rate in RATES]
    yield Finding(
        f'variance divided by its target with `moments="second"`; theory {listed(left_out)}',
        "1 - ν dt, ±5 %",
        dict(zip(RATES, second, strict=True)),
        f"{listed(second)} (ξ {listed(system.weak_xi, 0)})",
        within(np.divide(second, left_out), 0.95, 1.05),
    )
    yield Finding(
        "median of the measured ξ, centred weights, target ξ 1, 2, 3, 100 Hz",
        "target ±5 %",
        median,
        listed(median.values()),
        within([got / xi for xi, got in median.items()], 0.95, 1.05),
    )
    yield Finding(
        "standard deviation of the mean membrane potential over neurons, centred weights, target ξ 1, 2, 3, 100 Hz, "
        "on the data of the initialisation (on new data)",
        "< 0.05 V_th",
        {"on_its_data": spread, "on_fresh_data": fresh_spread},
        f"{listed(spread.values(), 3)} ({listed(fresh_spread.values(), 3)})",
        max(spread.values()) < 0.05,
    )


def analog(system: System) -> Iterator[Finding]:
    """Check layers with twelve analog inputs that have a new value in each step.

    Twelve inputs are enough to centre the weights, but so few that the differences between random draws are visible.
    """
    median, spread = {}, {}
    for xi in (1.0, 2.0, 3.0):
        x, fresh = (4 * np.random.default_rng(seed).random((BATCH, STEPS, 12), np.float32) for seed in (0, 1))
        net = system.net(12, NEURONS, system.tau)
        initialised(net, x, xi_target=xi)
        mean, variance = membrane(net, fresh)
        median[xi] = float(np.median((1 - mean) / np.sqrt(variance)))
        spread[xi] = float(membrane(net, x)[0].std())
    yield Finding(
        "median of the measured ξ, 12 analog inputs uniform in 0 to 4, target ξ 1, 2, 3 (standard deviation of the "
        "means over neurons in V_th, data of the initialisation)",
        "target ±10 %",
        {"xi": median, "spread_of_means": spread},
        f"{listed(median.values())} ({listed(spread.values())})",
        within([got / xi for xi, got in median.items()], 0.9, 1.1),
    )


def paper(system: System) -> Iterator[Finding]:
    """Draw weights by the paper's formula. Check the standard deviation of means and the number of silent neurons."""
    response = kernel_of(system, system.tau)
    integral, square = float(response.integral[0]), float(response.square_integral[0])
    k = response.response[:, 0]
    correlation = float(k[1:] @ k[:-1] / (k @ k))
    ratios, unclamped, clamped, free, reflected = {}, {}, {}, {}, {}
    nested = True
    for rate, xi in PAPER_POINTS:
        net = system.net(system.n_in, PAPER_NEURONS, system.tau)
        synapse, layer = net.layers
        theta = float(millivolts(layer.threshold()).max())
        sigma = theta / xi / np.sqrt(system.n_in * rate * square)
        weight = sigma * np.random.default_rng(2).standard_normal((system.n_in, PAPER_NEURONS)).astype(np.float32)
        synapse.weight.value = jnp.asarray(weight) * (1 if system.on_chip else u.mV)
        x = spikes(rate, system.n_in, seed=0, steps=PAPER_STEPS)
        point = f"{rate:g} Hz, ξ {xi:g}"
        means = membrane(net, x)[0]
        ratios[point] = float(means.std() * theta / (np.sqrt(system.n_in) * sigma * rate * integral))

        # With at most one spike in each step, the input fluctuates less than the Poisson spike trains of the paper.
        thinned = 1 - rate * DT
        quenched = rate * integral**2 / square / thinned
        seconds = BATCH * PAPER_STEPS * DT
        distance = xi / np.sqrt(thinned)
        free[point] = silent_fraction(distance, correlation, DT, seconds, quenched=quenched)
        reflected[point] = silent_fraction(distance, correlation, DT, seconds, quenched=quenched, mean_above_floor=0.0)
        as_built = silent(net, x)
        clamped[point] = float(as_built.mean())
        if system.on_chip:
            layer.clamped = False
            without = silent(net, x)
            nested = nested and not np.any(as_built & ~without)
            unclamped[point] = float(without.mean())
    seen = unclamped or clamped
    yield Finding(
        "standard deviation of the means over neurons divided by theory, weights by the paper's formula, "
        + "; ".join(ratios),
        "1 ±10 %",
        ratios,
        listed(ratios.values()),
        within(list(ratios.values()), 0.9, 1.1),
    )
    yield Finding(
        "share of silent neurons (predicted share), same weights, without the clamp at zero",
        "predicted ±0.07",
        {"seen": seen, "predicted": free},
        _pairs(seen, free),
        all(abs(seen[point] - free[point]) <= 0.07 for point in seen),
    )
    yield Finding(
        "share of silent neurons on the chip, with the clamp at zero (predicted share with reflection at zero)",
        "not more than without the clamp",
        {"seen": clamped, "predicted": reflected} if system.on_chip else {},
        _pairs(clamped, reflected) if system.on_chip else "-",
        nested if system.on_chip else None,
    )


def _pairs(seen: dict[str, float], predicted: dict[str, float]) -> str:
    return ", ".join(f"{seen[point]:.3f} ({predicted[point]:.3f})" for point in seen)


class RecordedSearch(PairInitializer):
    """The search, with a record of each mean weight that it tries and of the number of silent neurons."""

    tried: list[tuple[float, int]]

    def _draw(self, level: float) -> Draw:
        draw = super()._draw(level)
        self.tried.append((level, draw.dead))
        return draw


def search(system: System) -> Iterator[Finding]:
    """Check the search of the vendor's procedure for the smallest mean weight without silent neurons."""
    net = system.net(system.n_in, NEURONS, system.tau)
    circuit = Circuit(*net.layers)
    x = spikes(100, system.n_in, seed=0, steps=PAPER_STEPS)
    settings = FluctSettings(xi=2.0, alpha=1.0, center=False, exact=False, in_range=False)
    response = measure_response(circuit, 1e3 * DT * u.ms, PAPER_STEPS)
    solver = RecordedSearch(circuit, x, response, input_moments(x, DT), settings, jax.random.key(0))
    solver.tried = []
    draw = solver.solve()
    awake = [level for level, dead in solver.tried[:-1] if dead == 0]
    bracket = min(awake)
    below = max(level for level, dead in solver.tried[:-1] if dead and level < bracket)
    margin = draw.level / bracket
    dead = int(silent(net, x).sum())
    yield Finding(
        "search of the vendor's procedure, 100 Hz, ξ 2: silent neurons at its end, mean weight divided by the "
        "smallest mean without silent neurons, width of that bracket",
        "0, 1.10 to 1e-3, ≤ 1 %",
        {"silent": dead, "margin": margin, "bracket_width": bracket / below - 1},
        f"{dead}, {margin:.4f}, {100 * (bracket / below - 1):.1f} %",
        dead == 0 and abs(margin - 1.1) < 1e-3 and bracket <= below / 0.99,
    )
    exhausted = draw.sizes.exhausted
    floor = draw.sizes.sigma_FF[exhausted] / draw.sizes.mu_W[exhausted]
    error = float(np.abs(floor - 0.1).max()) if exhausted.any() else float("nan")
    yield Finding(
        "standard deviation divided by mean of the weights, for neurons without remaining variance (their number)",
        "0.100 to 1e-6",
        {"exhausted": int(exhausted.sum()), "largest_error": error},
        f"{floor.mean():.7f} ({int(exhausted.sum())} of {NEURONS})",
        error < 1e-6,
    )


def single_input(system: System) -> Iterator[Finding]:
    """Check layers with one input.

    Their weights cannot be centred, so the mean membrane potential must reach the threshold.
    """
    net = system.net(1, 32, system.single_tau)
    x = spikes(50, 1, seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bh.init.fluct_init(net, [x], xi_target=2.0, verbose=False, families="any")
    warned = any("no variance is left" in str(warning.message) for warning in caught)
    weight = net.layers[0].weight.value
    different = len(np.unique(np.asarray(weight if system.on_chip else weight.mantissa)))
    dead = int(silent(net, x).sum())
    yield Finding(
        "one input at 50 Hz, ξ 2, 32 neurons: a warning, silent neurons, different weights",
        "yes, 0, all",
        {"warns": warned, "silent": dead, "different_weights": different},
        f"{'yes' if warned else 'no'}, {dead}, {different} (τ {system.single_tau:g} ms)",
        warned and dead == 0 and different == 32,
    )


def recurrence(system: System) -> Iterator[Finding]:
    """Measure the fraction of the variance that recurrent spikes cause."""
    # This measurement does not require small weights, so fewer inputs are enough.
    n_in, tau = min(system.n_in, 256), 20.0
    x, fresh = (spikes(100, n_in, seed=seed, steps=RECURRENT_STEPS) for seed in (0, 1))
    for moments, alphas in (("exact", (0.85, 0.9)), ("second", (0.85,))):
        shares = {}
        for alpha in alphas:
            for xi in (1.0, 2.0):
                net = system.net(n_in, 128, tau, "RC")
                initialised(net, x, xi_target=xi, alpha=alpha, moments=moments)
                share = bh.init.fluct_report(net, [fresh]).layers[0].share_RC
                assert share is not None
                shares[f"α {alpha:g}, ξ {xi:g}"] = share / (1 - alpha)
        how = "" if moments == "exact" else ', `moments="second"`'
        yield Finding(
            f"recurrent share of the variance divided by 1 - α, 100 Hz, {'; '.join(shares)}{how}",
            "0.7 to 1.8",
            shares,
            f"{listed(shares.values())} ({n_in} inputs, τ {tau:g} ms)",
            within(list(shares.values()), 0.7, 1.8),
        )


def beyond(system: System) -> Iterator[Finding]:
    """Measure layers with too few inputs for the weight range of a chip."""
    for rate, xi in BEYOND:
        x, fresh = (spikes(rate, 128, seed=seed) for seed in (0, 1))
        net = system.net(128, NEURONS, 20.0)
        report = initialised(net, x, xi_target=xi)
        mean, variance = membrane(net, fresh)
        own_mean = membrane(net, x)[0]
        measured = {
            "xi": float(np.median((1 - mean) / np.sqrt(variance))),
            "spread_of_means": float(own_mean.std()),
            "out_of_range": report.out_of_range / (128 * NEURONS),
        }
        out = f", {100 * measured['out_of_range']:.0f} % out" if system.on_chip else ""
        yield Finding(
            f"128 inputs at {rate:g} Hz, τ 20 ms, ξ {xi:g}: median ξ, standard deviation of the means over neurons, "
            "weights out of range",
            "none",
            measured,
            f"{measured['xi']:.2f}, {measured['spread_of_means']:.2f} V_th{out}",
            None,
        )


CHECKS: tuple[Callable[[System], Iterator[Finding]], ...] = (
    kernel,
    fluctuation,
    analog,
    paper,
    search,
    single_input,
    recurrence,
    beyond,
)


# ---------------------------------------------------------------------------------------------- the table


def heading(system: System) -> str:
    return f"{system.name} ({system.n_in} inputs, τ {system.tau:g} ms)"


def table(found: dict[str, list[Finding]]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| check | criterion | " + " | ".join(heading(system) for system in SYSTEMS) + " |"]
    lines.append("| --- " * (2 + len(SYSTEMS)) + "|")
    for row in zip(*found.values(), strict=True):
        cells = [finding.text + (" **missed**" if finding.missed else "") for finding in row]
        lines.append(f"| {row[0].check} | {row[0].criterion} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all checks, save the results as JSON, and print the table."""
    brainstate.environ.set(dt=1e3 * DT * u.ms)
    start = time.perf_counter()
    found: dict[str, list[Finding]] = {system.name: [] for system in SYSTEMS}
    for system in SYSTEMS:
        for check in CHECKS:
            found[system.name] += check(system)
            seconds = time.perf_counter() - start
            print(f"{seconds:5.0f} s  {system.name}  {check.__name__}", file=sys.stderr, flush=True)
    systems = {
        system.name: {"inputs": system.n_in, "tau_ms": system.tau, "single_input_tau_ms": system.single_tau}
        for system in SYSTEMS
    }
    checks = [
        {
            "check": row[0].check,
            "criterion": row[0].criterion,
            **{
                name: {"measured": f.measured, "met": None if f.met is None else not f.missed}
                for name, f in zip(found, row, strict=True)
            },
        }
        for row in zip(*found.values(), strict=True)
    ]
    save("fluct_validation", {"systems": systems, "checks": checks})
    print(table(found))
    missed = sum(finding.missed for findings in found.values() for finding in findings)
    if missed:
        raise SystemExit(f"fluct_validation: {missed} criteria are not met. The table marks them.")


if __name__ == "__main__":
    main()
