"""What fluct_init did to one layer, in numbers and in the printed line."""

from __future__ import annotations

import dataclasses

__all__ = ["LayerReport"]


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """The outcome for one dense pair.

    Attributes
    ----------
    index : int
        Number of the layer, from 1.
    nu_in, nu_out : float
        Mean input and output rate in Hz.
    mu_W, sigma_FF, sigma_RC : float
        Mean and spread of the feed-forward weights, spread of the recurrent ones (``None`` without), averaged over
        neurons; dimensionless.
    mu_U : float
        Mean membrane that follows, in volt, averaged over neurons.
    dead, saturated : int
        Neurons that never spike on the data; neurons that spike in more than half of all steps.
    exhausted : int
        Neurons whose spread is held at the floor of a tenth of the mean.
    out_of_range : int
        Weights beyond the chip's limit.
    largest : float
        Largest absolute weight.
    evaluations : int
        How many times the layer was run.
    """

    index: int
    nu_in: float
    nu_out: float
    mu_W: float
    sigma_FF: float
    sigma_RC: float | None
    mu_U: float
    dead: int
    saturated: int
    exhausted: int
    out_of_range: int
    largest: float
    evaluations: int

    def line(self) -> str:
        """Return the line that ``verbose`` prints."""
        recurrent = "" if self.sigma_RC is None else f" σ_RC={self.sigma_RC:.4f}"
        return (
            f"  Layer {self.index} | ν_in={self.nu_in:.1f}Hz µ_W={self.mu_W:.4f} σ_FF={self.sigma_FF:.4f}{recurrent} "
            f"µ_U={self.mu_U:.3f}"
        )
