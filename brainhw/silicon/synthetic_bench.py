"""Synthetic bench tables with known true values, for tests of the fits, examples and benchmarks."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import brainunit as u
import numpy as np

from brainhw import _arguments
from brainhw._files import path_text, write_whole
from brainhw.chip import ChipSpec, get_chip
from brainhw.kernel.quantize import lowest_code, stored_grid
from brainhw.silicon.measured import MeasuredChip
from brainhw.silicon.tables import ChargeTable, DecayTable, RateTable

__all__ = ["SyntheticBench", "synthetic_bench"]

# Membrane potential at the start of each decay in mV, which is below every threshold, and duration of a decay in steps.
_START = 60.0
_DECAY_STEPS = 60


@final
@dataclass(frozen=True, eq=False, repr=False)
class SyntheticBench:
    """Tables of a synthetic bench, with the true values.

    Attributes
    ----------
    charge : ChargeTable
        Charges of all codes.
    decays : DecayTable
        Decays at each leak setting. Setting ``k`` of the table has the index ``profiles[k]`` in ``tau_profiles``.
    rates : RateTable
        f-I curves at the largest code, without a column of settings.
    truth : MeasuredChip
        The true values: the spec, and the time constants and the threshold of every neuron.
    profiles : tuple of int
        For each leak setting of the tables, its index in the chip's ``tau_profiles``.
    rates_setting : int
        The leak setting of the f-I curves, numbered as in ``decays``.
    """

    charge: ChargeTable
    decays: DecayTable
    rates: RateTable
    truth: MeasuredChip
    profiles: tuple[int, ...]
    rates_setting: int

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``charge.csv``, ``decay.csv`` and ``fi.csv`` to an existing folder, without the true values."""
        call = "SyntheticBench.save"
        path = Path(path_text(folder, call=call, what="a folder"))
        charge, decays, rates = self.charge, self.decays, self.rates
        tables: dict[str, tuple[list[str], list[np.ndarray], list[str]]] = {
            "charge.csv": (
                ["code", "synapse", "charge_fC"],
                [charge.code, charge.synapse, np.asarray(charge.charge.mantissa)],
                ["d", "d", ".5f"],
            ),
            "decay.csv": (
                ["setting", "neuron", "t_ms", "V_mV"],
                [decays.setting, decays.neuron, np.asarray(decays.t.mantissa), np.asarray(decays.V.mantissa)],
                ["d", "d", "g", ".4f"],
            ),
            "fi.csv": (
                ["neuron", "inputs", "rate_Hz"],
                [rates.neuron, rates.inputs, np.asarray(rates.rate.mantissa)],
                ["d", "d", ".10g"],
            ),
        }
        for name, (header, columns, formats) in tables.items():
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(
                [format(cell, how) for cell, how in zip(row, formats, strict=True)]
                for row in zip(*(column.tolist() for column in columns), strict=True)
            )
            write_whole(path / name, text.getvalue().encode("ascii"), call=call)

    def __repr__(self) -> str:
        return f"SyntheticBench({self.truth.spec.name!r}: {self.charge!r}, {self.decays!r}, {self.rates!r})"


def synthetic_bench(
    chip: ChipSpec | MeasuredChip | str,
    *,
    seed: int,
    neurons: Iterable[int] = range(64),
    profiles: Iterable[int] = (3, 4, 5),
    rates_setting: int = 1,
    synapses: int = 20,
    inputs: Iterable[int] = range(1, 17),
    window: u.Quantity = 1.0 * u.second,
    noise_std: u.Quantity | None = None,
    gain_std: float = 0.03,
    charge_noise: u.Quantity = 0.01 * u.fcoulomb,
    read_noise: u.Quantity = 0.4 * u.mV,
    drive_gains: bool = False,
    dt: u.Quantity = 1.0 * u.ms,
) -> SyntheticBench:
    """Simulate the three measurements of :func:`calibrate` on a chip.

    If ``chip`` is a spec, a chip is sampled from it. Its leak currents vary log-normally and its thresholds normally,
    with the standard deviations of the spec. If ``chip`` is a :class:`MeasuredChip`, such as ``VirtualChip.truth``, its
    neuron values are used. The f-I curves are simulated step by step with ``V' = max(beta V + n q / C + noise, 0)``. If
    ``V' >= V_th``, the neuron spikes and is reset. This simulation is independent of the fits. Decays are ``V_0 exp(-t
    / tau)`` with read noise only, like decays that are averaged over many trials. The default noise levels are taken
    from bench tables of a lab.

    Parameters
    ----------
    chip : ChipSpec, MeasuredChip or str
        Mean values and standard deviations of the chip, or the values of each neuron.
    seed : int
        Seed of all random numbers.
    neurons : iterable of int, optional
        Physical indices of the measured neurons. Default 0 to 63.
    profiles : iterable of int, optional
        Leak settings to measure, as indices of the chip's ``tau_profiles``. Default 3, 4, 5.
    rates_setting : int, optional
        Index in ``profiles`` of the leak setting at which the f-I curves are measured. Default 1.
    synapses : int, optional
        Number of synapses with a measured charge. Default 20.
    inputs : iterable of int, optional
        Numbers of active synapses in the f-I curves. Default 1 to 16.
    window : Quantity, optional
        Time over which spikes are counted. Default 1 s.
    noise_std : Quantity, optional
        Trial noise of the membrane potential per step. Default: the noise of the spec, or 1.5 mV if the spec has none.
    gain_std : float, optional
        Relative standard deviation of the gain of the synapses. Default 0.03.
    charge_noise, read_noise : Quantity, optional
        Standard deviation of the noise of one charge reading (default 0.01 fC), and of one reading of the membrane
        potential (default 0.4 mV).
    drive_gains : bool, optional
        Whether each synapse that drives a neuron in the f-I curves has its own gain. Default False: all have the mean
        gain.
    dt : Quantity, optional
        Time step. Default 1 ms.

    Returns
    -------
    SyntheticBench
        The tables and the true values.

    Raises
    ------
    TypeError
        If an argument has the wrong type or unit.
    ValueError
        If an index does not exist on the chip, or if the chip has NaN for a value that the bench needs.

    Examples
    --------
    >>> import brainhw as bh
    >>> bh.silicon.synthetic_bench("H1v1", seed=0, neurons=range(4)).rates
    RateTable(64 rows: 4 neurons, 1 to 16 inputs)
    """
    call = "synthetic_bench"
    given, chip = (chip, chip.spec) if isinstance(chip, MeasuredChip) else (None, get_chip(chip, call=call))
    if noise_std is None:
        noise_std = 1.5 * u.mV if chip.noise_std is None else chip.noise_std
    rng = np.random.default_rng(_arguments.whole_number(seed, call=call, name="seed"))
    taus = np.asarray(chip.tau_profiles.values.mantissa, float)
    which = _indices(neurons, chip.n_neurons, call=call, name="neurons")
    settings = _indices(profiles, taus.size, call=call, name="profiles")
    place = _arguments.whole_number(rates_setting, call=call, name="rates_setting", most=settings.size - 1)
    n = _indices(inputs, 10**4, call=call, name="inputs")
    n_synapses = _arguments.positive_int(synapses, call=call, name="synapses", most=10**4)
    spread = float(_arguments.number(gain_std, call=call, name="gain_std", nonnegative=True))
    _arguments.flag(drive_gains, call=call, name="drive_gains")
    step, span = _scalar(dt, u.ms, call, "dt"), _scalar(window, u.ms, call, "window")
    noise, reading = (
        _scalar(noise_std, u.mV, call, "noise_std", True),
        _scalar(read_noise, u.mV, call, "read_noise", True),
    )
    charging = _scalar(charge_noise, u.fcoulomb, call, "charge_noise", True)
    n_steps = round(span / step)
    if n_steps < 1:
        raise ValueError(f"{call}: window must be at least one step of {step:g} ms; got {span:g} ms.")

    tau, V_th = _drawn(chip, rng) if given is None else _of_neurons(given, settings, which, call)

    grid = stored_grid(chip, chip.weight_bits)
    codes = np.arange(lowest_code(grid), grid.largest_code + 1)
    q = np.asarray(chip.charge(np.asarray(grid.values(codes.astype(np.float32), np.float32))).mantissa, float)
    gains = 1 + spread * rng.standard_normal(n_synapses)
    charges = q[:, None] * gains + charging * rng.standard_normal((codes.size, n_synapses))

    t = np.arange(_DECAY_STEPS + 1) * step
    decays = _START * np.exp(-t / tau[np.ix_(settings, which)][:, :, None])
    decays = decays + reading * rng.standard_normal(decays.shape)

    drive = q[-1] / float(chip.C.mantissa) * 1000 * np.broadcast_to(n, (which.size, n.size)).astype(float)
    if drive_gains:
        each = 1 + spread * rng.standard_normal((which.size, int(n.max())))
        drive = drive / np.maximum(n, 1) * np.pad(np.cumsum(each, 1), ((0, 0), (1, 0)))[:, n]
    beta = np.exp(-step / tau[settings[place], which])[:, None]
    count = _count(drive, beta, V_th[which][:, None], noise, n_steps, chip.reset == "subtract", rng)

    grids = np.meshgrid(np.arange(settings.size), which, t, indexing="ij")
    return SyntheticBench(
        charge=ChargeTable(
            np.repeat(codes, n_synapses),
            np.tile(np.arange(n_synapses), codes.size),
            u.Quantity(charges.ravel(), unit=u.fcoulomb),
        ),
        decays=DecayTable(
            grids[0].ravel(),
            grids[1].ravel(),
            u.Quantity(grids[2].ravel(), unit=u.ms),
            u.Quantity(decays.ravel(), unit=u.mV),
        ),
        rates=RateTable(
            np.repeat(which, n.size),
            np.tile(n, which.size),
            u.Quantity(count.ravel() / (n_steps * step) * 1000, unit=u.Hz),
            window=u.Quantity(n_steps * step, unit=u.ms),
        ),
        truth=MeasuredChip(
            chip.replace(noise_std=noise * u.mV), u.Quantity(tau, unit=u.ms), u.Quantity(V_th, unit=u.mV)
        ),
        profiles=tuple(settings.tolist()),
        rates_setting=place,
    )


def _drawn(chip: ChipSpec, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return time constants (ms) and thresholds (mV) of every neuron of a chip sampled from a spec."""
    taus = np.asarray(chip.tau_profiles.values.mantissa, float)
    leak = np.broadcast_to(0.0 if chip.leak_mismatch_std is None else np.asarray(chip.leak_mismatch_std), taus.shape)
    # The leak of a neuron deviates by the same normal number at all settings, as in the tables of a lab.
    tau = taus[:, None] * np.exp(-leak[:, None] * rng.standard_normal(chip.n_neurons))
    V_th = float(chip.V_th.mantissa) * (1 + (chip.threshold_mismatch_std or 0.0) * rng.standard_normal(chip.n_neurons))
    return tau, V_th


def _of_neurons(
    chip: MeasuredChip, settings: np.ndarray, which: np.ndarray, call: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return all time constants (ms) and thresholds (mV) of a measured chip.

    Raise ``ValueError`` if a value that the bench needs is NaN.
    """
    tau, V_th = np.asarray(chip.tau.mantissa, float), np.asarray(chip.V_th.mantissa, float)
    for name, values in (("tau", tau[np.ix_(settings, which)]), ("V_th", V_th[which])):
        if np.isnan(values).any():
            raise ValueError(
                f"{call}: chip lacks {int(np.isnan(values).sum())} of the {values.size} values of {name} that the "
                "bench needs. Omit the neurons or profiles without a value, or pass a ChipSpec."
            )
    return tau, V_th


def _count(
    drive: np.ndarray, beta: np.ndarray, V_th: np.ndarray, noise: float, n_steps: int, subtract: bool, rng: Any
) -> np.ndarray:
    """Return the spike count over ``n_steps`` from rest for each neuron and number of inputs. Voltages are in mV."""
    V, count = np.zeros(drive.shape), np.zeros(drive.shape)
    for _ in range(n_steps):
        before = np.maximum(beta * V + drive + noise * rng.standard_normal(drive.shape), 0.0)
        spike = before >= V_th
        count += spike
        V = np.where(spike, np.maximum(before - V_th, 0.0) if subtract else 0.0, before)
    return count


def _scalar(value: u.Quantity, unit: u.Unit, call: str, name: str, zero: bool = False) -> float:
    held = _arguments.quantity(value, unit, call=call, name=name, shapes=[()], positive=not zero, nonnegative=zero)
    return float(held.mantissa)


def _indices(value: Iterable[int], n: int, *, call: str, name: str) -> np.ndarray:
    given = _arguments.several(value, call=call, name=name, of="integers")
    held = [_arguments.whole_number(one, call=call, name=f"{name}[{i}]", most=n - 1) for i, one in enumerate(given)]
    if not held or len(set(held)) < len(held):
        raise ValueError(f"{call}: {name} must contain at least one integer and no duplicates; got {held[:10]}.")
    return np.array(held)
