"""Sample the parameters of each neuron and synapse of a virtual chip. Multiply the values of a spec by factors."""

from __future__ import annotations

from typing import Any

import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from brainhw import _arguments
from brainhw.chip import ChargeCurve, ChipSpec, TauProfiles

__all__ = ["HiddenValues", "scaled_chip"]

# Each quantity has its own random stream, so that changing one standard deviation does not change the random numbers of
# the others.
_LEAK, _THRESHOLD, _NEURON_ROWS, _INPUT_ROWS, _FRONTEND, _NOISE, _POOL = range(7)


def scaled_chip(
    chip: ChipSpec, *, gain: float = 1.0, threshold: float = 1.0, tau: float = 1.0, **changes: Any
) -> ChipSpec:
    """Return a spec whose charges, threshold and time constants are multiplied by given factors.

    Parameters
    ----------
    chip : ChipSpec
        The original spec.
    gain, threshold, tau : float, optional
        ``gain`` is the factor of all charges, ``threshold`` is the factor of ``V_th``, and ``tau`` is the factor of all
        ``tau_profiles``. Each must be greater than zero. Default 1.
    **changes
        Other fields to change, as for ``chip.replace``, such as standard deviations and ``noise_std``.

    Returns
    -------
    ChipSpec
        The changed spec. Changed values have the provenance ``"assumed"``.

    Raises
    ------
    TypeError
        If ``chip`` is not a ``ChipSpec``, if a factor is not a number, or if a field is unknown.
    ValueError
        If a factor is not greater than zero.

    Examples
    --------
    A chip that differs strongly from its data sheet:

    >>> import brainhw as bh
    >>> bad = bh.silicon.scaled_chip(
    ...     bh.chip.H1V2, gain=0.65, threshold=1.15, tau=0.7,
    ...     leak_mismatch_std=0.4, threshold_mismatch_std=0.15, synapse_mismatch_std=0.2,
    ... )
    >>> print(bad.V_th, bad.charge, bad.tau_profiles)
    115. mV LinearCharge(gain=0.2925 fC) 0.7, 1.4, 3.5, 7, 14, 35, 70, 140 ms
    """
    call = "scaled_chip"
    _arguments.instance(chip, ChipSpec, call=call, name="chip")
    factors = {"gain": gain, "threshold": threshold, "tau": tau}
    for name, factor in factors.items():
        factors[name] = float(_arguments.number(factor, call=call, name=name, positive=True))
    # Round to fifteen digits, so that 0.7 times 2 is written as 1.4 in files and tables.
    if factors["gain"] != 1:
        curve = chip.charge.to_dict()
        charges = np.asarray(curve[chip.charge.charge_key]) * factors["gain"]
        curve[chip.charge.charge_key] = _decimals(charges)
        changes.setdefault("charge", ChargeCurve.from_dict(curve))
    if factors["threshold"] != 1:
        changes.setdefault("V_th", _decimals(np.asarray(chip.V_th.mantissa * factors["threshold"])) * u.mV)
    if factors["tau"] != 1:
        taus = np.asarray(_decimals(np.asarray(chip.tau_profiles.values.mantissa) * factors["tau"]))
        changes.setdefault("tau_profiles", TauProfiles(taus * u.ms))
    return chip.replace(**changes)


def _decimals(numbers: np.ndarray) -> Any:
    rounded = [float(f"{number:.15g}") for number in numbers.ravel()]
    return rounded if numbers.ndim else rounded[0]


class HiddenValues:
    """Parameters of each neuron and synapse of one chip, sampled from a spec with a PRNG key.

    ``tau [n_settings, n_neurons]`` is in ms, and ``V_th [n_neurons]`` in mV.

    A synapse is identified by its source and by its postsynaptic physical neuron. The source is an input channel, a
    frontend channel or a physical neuron. So the same network uses the same synapses each time it is programmed.
    """

    def __init__(self, chip: ChipSpec, key: jax.Array, gain_std: float) -> None:
        self._seed = [int(word) for word in np.asarray(jax.random.key_data(key)).ravel()]
        self.chip, self.key, self._gain_std, n = chip, key, gain_std, chip.n_neurons
        taus = np.asarray(chip.tau_profiles.values.mantissa, float)
        # The spec has one standard deviation for all leak settings, or one for each.
        leak = np.broadcast_to(np.asarray(_or_zero(chip.leak_mismatch_std), float), taus.shape)
        # brainhw assumes log-normal leak currents and normal thresholds, as in H1Layer.drawn. The leak of a neuron
        # deviates by the same normal number at all settings, because in decays measured by a lab the deviations at
        # different settings correlate by 0.98.
        self.tau = taus[:, None] * np.exp(-leak[:, None] * self._stream(_LEAK).standard_normal(n))
        spread = float(_or_zero(chip.threshold_mismatch_std))
        self.V_th = float(chip.V_th.mantissa) * (1 + spread * self._stream(_THRESHOLD).standard_normal(n))
        self._pool: jax.Array | None = None
        self._rows: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def _stream(self, *place: int) -> np.random.Generator:
        return np.random.default_rng([*self._seed, *place])

    def noise_stream(self, run: int) -> np.random.Generator:
        """Return the random generator for the noise of one run."""
        return self._stream(_NOISE, run)

    def pool(self, n: int, more: int) -> jax.Array:
        """Return ``n`` normal random numbers for the noise of all runs.

        A copy of the first ``more`` numbers is appended at the end.
        """
        if self._pool is None or len(self._pool) != n + more:
            self._pool = jnp.asarray(np.resize(self._stream(_POOL).standard_normal(n, np.float32), n + more))
        return self._pool

    @property
    def has_synapses(self) -> bool:
        """Whether the synapses of the chip deviate from the nominal synapse."""
        return bool(_or_zero(self.chip.synapse_mismatch_std) or self._gain_std)

    def synapses(self, rows: np.ndarray | None, columns: np.ndarray, n_in: int) -> tuple[np.ndarray, np.ndarray]:
        """Return two deviations of each synapse: an additive one in weight units, and a relative one of the gain.

        Both arrays have shape ``[N_in, N_out]``. ``rows`` contains the presynaptic physical neurons, or is ``None`` for
        the input channels. ``columns`` contains the postsynaptic physical neurons.
        """
        kind, places = (_INPUT_ROWS, range(n_in)) if rows is None else (_NEURON_ROWS, rows.tolist())
        held = [self._row(kind, place) for place in places]
        return np.stack([added[columns] for added, _ in held]), np.stack([gain[columns] for _, gain in held])

    def frontend(self) -> tuple[np.ndarray, np.ndarray]:
        """Return two deviations of each frontend channel: an additive one, and a relative one of the gain."""
        added, gain = self._row(_FRONTEND, 0)
        n = self.chip.frontend_channels
        return added[:n], gain[:n]

    def _row(self, kind: int, place: int) -> tuple[np.ndarray, np.ndarray]:
        if (kind, place) not in self._rows:
            draw = self._stream(kind, place).standard_normal((2, max(self.chip.n_neurons, 1)))
            added = float(_or_zero(self.chip.synapse_mismatch_std)) * draw[0]
            self._rows[kind, place] = added, self._gain_std * draw[1]
        return self._rows[kind, place]


def _or_zero(spread: Any) -> Any:
    return 0.0 if spread is None else spread
