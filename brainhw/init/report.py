"""The numbers of an initialisation, or of any network on given data: per layer, printable and plottable."""

from __future__ import annotations

import dataclasses
from typing import Any

import brainunit as u
import numpy as np

from brainhw._table import plain_table
from brainhw.init.circuit import Circuit
from brainhw.init.crossing import silent_fraction
from brainhw.init.kernel import Kernel
from brainhw.init.measure import Measured
from brainhw.init.moments import InputMoments, MembraneBasis

__all__ = ["FluctReport", "InitOutcome", "LayerReport", "report_layer"]


@dataclasses.dataclass(frozen=True)
class InitOutcome:
    """What only an initialisation knows of a layer.

    Attributes
    ----------
    xi_target, alpha : float
        What was asked for.
    mu_W, sigma_FF, sigma_RC : float
        Mean and spread from which the weights were drawn, spread of the recurrent ones (``None`` without).
    mu_U : Quantity
        Mean membrane aimed at, the mean over neurons, mV.
    exhausted : int
        Neurons whose spread is held at the floor of a tenth of the mean weight.
    evaluations : int
        How many times the layer was run.
    """

    xi_target: float
    alpha: float
    mu_W: float
    sigma_FF: float
    sigma_RC: float | None
    mu_U: u.Quantity
    exhausted: int
    evaluations: int


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One layer on the data. Weights are plain numbers, in mV where a family's weights are voltages.

    Attributes
    ----------
    index : int
        Number of the layer, from 1.
    name, family : str
        Path of the layer in the network, and its kind of neuron.
    nu_in, nu_var, nu_out : Quantity
        Mean input rate, second moment of the input as a rate, mean output rate, Hz.
    eps_bar, eps_hat : Quantity
        Integrals of the membrane's response to one spike per unit of weight, and of its square, ``[n]`` in V s and
        V^2 s, averaged over the synapses of a neuron.
    mean_weight, weight_spread, recurrent_spread : float
        Mean and standard deviation of the weights, standard deviation of the recurrent ones (``None`` without).
    threshold, mean_membrane, membrane_sd : Quantity
        Threshold, and mean and standard deviation over the data of the sub-threshold membrane, ``[n]`` in mV.
    xi : numpy.ndarray
        Distance from the mean to threshold in standard deviations, measured, ``[n]``.
    share_RC : float or None
        Share of the membranes' variance that the layer's own spikes bring.
    rates : Quantity
        Output rate of each neuron, ``[n]`` in Hz.
    dead, saturated : int
        Neurons that never spike on the data; neurons that spike in more than half of all steps.
    expected_dead : float
        Neurons that would stay silent by chance on so little data, fluctuating at the distances measured.
    out_of_range : int
        Weights beyond the chip's limit (0 without a chip).
    largest : float
        Largest absolute weight.
    weight_limit : float
        What the chip takes; infinite without a chip.
    response : Quantity
        Membrane after one spike per unit of weight, ``[L, n]`` in mV.
    dt : Quantity
        Time step, ms.
    steps : int
        Steps of all samples together.
    membrane_sample : Quantity
        Some values of the sub-threshold membrane, ``[samples, n]`` in mV.
    init : InitOutcome or None
        What the initialisation aimed at; ``None`` for a network that was only measured.
    """

    index: int
    name: str
    family: str
    nu_in: u.Quantity
    nu_var: u.Quantity
    nu_out: u.Quantity
    eps_bar: u.Quantity
    eps_hat: u.Quantity
    mean_weight: float
    weight_spread: float
    recurrent_spread: float | None
    threshold: u.Quantity
    mean_membrane: u.Quantity
    membrane_sd: u.Quantity
    xi: np.ndarray
    share_RC: float | None
    rates: u.Quantity
    dead: int
    saturated: int
    expected_dead: float
    out_of_range: int
    largest: float
    weight_limit: float
    response: u.Quantity
    dt: u.Quantity
    steps: int
    membrane_sample: u.Quantity
    init: InitOutcome | None

    @property
    def xi_median(self) -> float:
        """Median over neurons of the measured distance to threshold."""
        return float(np.median(self.xi))

    @property
    def xi_quartiles(self) -> tuple[float, float]:
        """Quartiles over neurons of the measured distance to threshold."""
        low, high = np.quantile(self.xi, [0.25, 0.75], method="nearest")  # some may be infinite
        return float(low), float(high)

    @property
    def xi_words(self) -> str:
        """Median and quartiles of the measured distance to threshold, such as ``2.00 (1.91 to 2.12)``."""
        # A layer that hardly gets any input is thousands of deviations away, and the digits of that say nothing.
        low, high = self.xi_quartiles
        shown = [f"{xi:.2f}" if xi < 1000 else "over 1000" for xi in (self.xi_median, low, high)]
        return f"{shown[0]} ({shown[1]} to {shown[2]})"

    @property
    def n_neurons(self) -> int:
        """Number of neurons."""
        return len(self.xi)

    def line(self) -> str:
        """Return the line that ``fluct_init(verbose=True)`` prints."""
        assert self.init is not None
        unit = "" if np.isfinite(self.weight_limit) else "mV"
        recurrent = "" if self.init.sigma_RC is None else f" σ_RC={self.init.sigma_RC:.4f}{unit}"
        # A chip's membranes are printed in volt, as its vendor does.
        mean = self.init.mu_U.to(u.mV).mantissa
        mean_U = f"{mean:.3f}mV" if unit else f"{mean / 1000:.3f}"
        return (
            f"  Layer {self.index} | ν_in={self.nu_in.to(u.Hz).mantissa:.1f}Hz µ_W={self.init.mu_W:.4f}{unit} "
            f"σ_FF={self.init.sigma_FF:.4f}{unit}{recurrent} µ_U={mean_U}"
        )


@dataclasses.dataclass(frozen=True)
class FluctReport:
    """A network on given data, layer by layer: what ``fluct_init`` aimed at and what was measured.

    ``print`` it for a table; :func:`brainhw.visualize.plot_fluct_report` draws it.

    Attributes
    ----------
    layers : tuple of LayerReport
        One for each dense pair, in order.
    """

    layers: tuple[LayerReport, ...]

    def __str__(self) -> str:
        """Return the table."""
        return plain_table(tuple(_COLUMNS), [[column(layer) for column in _COLUMNS.values()] for layer in self.layers])


_COLUMNS: dict[str, Any] = {
    "layer": lambda r: f"{r.index} {r.name}",
    "neurons": lambda r: f"{r.n_neurons} {r.family}",
    "ν in": lambda r: f"{r.nu_in.to(u.Hz).mantissa:.1f} Hz",
    "ν out": lambda r: f"{r.nu_out.to(u.Hz).mantissa:.1f} Hz",
    "weights": lambda r: f"{r.mean_weight:.3f}±{r.weight_spread:.3f}",
    "recurrent": lambda r: "-" if r.recurrent_spread is None else f"±{r.recurrent_spread:.3f}",
    "µ_U": lambda r: f"{float(np.mean(r.mean_membrane.to(u.mV).mantissa)):.2g} mV",
    "V_th": lambda r: f"{float(np.mean(r.threshold.to(u.mV).mantissa)):.3g} mV",
    "ξ wanted": lambda r: "-" if r.init is None else f"{r.init.xi_target:g}",
    "ξ (quartiles)": lambda r: r.xi_words,
    "dead": lambda r: f"{r.dead}",
    "saturated": lambda r: f"{r.saturated}",
    "exhausted": lambda r: "-" if r.init is None else f"{r.init.exhausted}",
    "out of range": lambda r: f"{r.out_of_range}",
    "runs": lambda r: "-" if r.init is None else f"{r.init.evaluations}",
}


def report_layer(
    index: int,
    name: str,
    circuit: Circuit,
    kernel: Kernel,
    moments: InputMoments,
    basis: MembraneBasis,
    measured: Measured,
    counts: np.ndarray,
    steps: int,
    init: InitOutcome | None,
) -> LayerReport:
    """Put the numbers of one layer together."""
    dt, n = moments.dt, circuit.n_neurons
    weight = np.asarray(circuit.weight, dtype=float)
    recurrent = None if circuit.recurrent is None else np.asarray(circuit.recurrent, dtype=float)
    weights = [w for w in (weight, recurrent) if w is not None]
    theta = circuit.threshold()
    xi = measured.xi(theta)
    rates = counts / (steps * dt)
    above = measured.mean / np.maximum(measured.sd, 1e-30) if circuit.clamped else None
    volts = 1e-3  # from mV
    per_neuron = (-1, n, circuit.n_synapses)
    return LayerReport(
        index=index,
        name=name,
        family=circuit.family,
        nu_in=moments.nu_mean * u.Hz,
        nu_var=moments.nu_var * u.Hz,
        nu_out=float(rates.mean()) * u.Hz,
        eps_bar=volts * kernel.integral.reshape(per_neuron[1:]).mean(axis=1) * (u.volt * u.second),
        eps_hat=volts**2 * kernel.square_integral.reshape(per_neuron[1:]).mean(axis=1) * (u.volt2 * u.second),
        mean_weight=float(weight.mean()),
        weight_spread=float(weight.std()),
        recurrent_spread=None if recurrent is None else float(recurrent.std()),
        threshold=theta * u.mV,
        mean_membrane=measured.mean * u.mV,
        membrane_sd=measured.sd * u.mV,
        xi=xi,
        share_RC=None if measured.sd_RC is None else float(np.mean(measured.sd_RC**2) / np.mean(measured.sd**2)),
        rates=rates * u.Hz,
        dead=int(np.sum(counts == 0)),
        saturated=int(np.sum(counts > 0.5 * steps)),
        expected_dead=n * silent_fraction(xi, basis.step_correlation, dt, steps * dt, mean_above_floor=above),
        out_of_range=sum(int(np.sum(np.abs(w) > circuit.weight_limit)) for w in weights),
        largest=max(float(np.abs(w).max()) for w in weights),
        weight_limit=circuit.weight_limit,
        response=kernel.response.reshape(per_neuron).mean(axis=2) * u.mV,
        dt=1000 * dt * u.ms,
        steps=steps,
        membrane_sample=measured.sample * u.mV,
        init=init,
    )
