"""The neurons of the H1 chips: charge in, spikes out."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp

from brainhw import _arguments, surrogate
from brainhw.chip import H1V1, H1V2, ChipSpec
from brainhw.nn.effective import EffectiveWeight
from brainhw.nn.family import chip_of_family
from brainhw.nn.parameter import weight_state
from brainhw.nn.preparation import MismatchSizes
from brainhw.nn.protocols import Slot
from brainhw.nn.spiking import SpikingLayer

__all__ = ["H1Layer", "H1v1Layer", "H1v2Layer"]


class H1Layer(SpikingLayer):
    r"""Chip neurons; use :class:`H1v1Layer` or :class:`H1v2Layer`, which name the family.

    .. math::
        V' &= \max(e^{-\Delta t/\tau} V_{t-1} + Q_t / C,\; 0) \\
        s_t &= H((V' - V_{th})/V_{th}) \\
        V_t &= V'(1 - s_t) \;\text{(reset to zero)} \quad\text{or}\quad \max(V' - s_t V_{th}, 0)
               \;\text{(subtraction and clamp)}

    :math:`Q_t` is the charge of this step, for ``'RC'`` with what the spikes of the previous step bring back. That the
    membrane is never negative and how it resets is documented by the vendor; ``V_th``, ``C`` and the leak profiles
    are assumptions of the :class:`~brainhw.chip.ChipSpec` (print it to see which).

    Parameters
    ----------
    size : int
        Number of neurons ``N``.
    tau : Quantity
        Membrane time constant, scalar or ``[N]``. It snaps to the nearest leak profile of the chip; a move of more than
        1 % is reported in one ``UserWarning``.
    topology : {'FF', 'RC'}, optional
        ``'RC'`` adds all-to-all recurrent weights. Default ``'FF'``.
    chip : ChipSpec, optional
        The chip; default the preset of the family. It holds threshold, capacitance and reset: they are not arguments.
    recurrent_init : callable or array, optional
        Initializer or ``[N, N]`` numbers. Default ``braintools.init.KaimingNormal(scale=0.1)``.
    weight_bits : int, 'chip' or None, optional
        Round the applied recurrent weights to a grid of so many bits over the chip's range; ``'chip'`` takes the
        chip's own number. Default ``None``: no rounding. The master weights are never rounded, so small updates add up.
    rounding : {'nearest', 'stochastic'}, optional
        ``'stochastic'`` rounds up or down at random, once per preparation, inside
        ``brainstate.environ.context(fit=True)``; outside it, as by default, to the nearest level.
    spk_fun : braintools.surrogate.Surrogate, optional
        Spike function; sees ``(V' - V_th)/V_th``. Default ``brainhw.surrogate.fast_sigmoid(slope=5.0)``.
    detach_reset : bool, optional
        Stop the gradient through the spikes of the reset. Default True.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    V, spk : brainstate.HiddenState
        Membrane (mV) and spikes, ``[N]`` or ``[B, N]``.
    tau : Quantity
        The profiles taken, ``[N]`` in ms.
    recurrent_weight : brainstate.ParamState
        Master weights ``[N, N]``, presynaptic neuron first, dimensionless; only for ``'RC'``.
    chip_tau, chip_V_th : brainstate.ShortTermState
        What the neurons run with since the last preparation, ``[N]``.
    pinned_tau, pinned_V_th : brainstate.LongTermState
        What the chip in place has, ``[N]``: the nominal values until :func:`brainhw.sample_chip` puts another.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong unit, shape or range, or the chip another family; the message names it.
    """

    family: str
    preset: ChipSpec
    drive_unit = u.fcoulomb
    drive_word = "a charge"
    clamped = True

    def __init__(
        self,
        size: int | tuple[int],
        tau: u.Quantity,
        *,
        topology: str = "FF",
        chip: ChipSpec | None = None,
        recurrent_init: Callable[..., Any] | jax.Array | None = None,
        weight_bits: int | str | None = None,
        rounding: str = "nearest",
        spk_fun: Callable[[jax.Array], jax.Array] | None = None,
        detach_reset: bool = True,
        name: str | None = None,
        **other: Any,
    ) -> None:
        call = type(self).__name__
        _refuse_other(other, self, call)
        chip = chip_of_family(chip, self, call=call)
        super().__init__(
            size,
            topology=topology,
            reset=chip.reset,
            spk_fun=surrogate.fast_sigmoid(slope=5.0) if spk_fun is None else spk_fun,
            detach_reset=detach_reset,
            name=name,
        )
        self.chip = chip
        n = self.n_neurons
        if isinstance(tau, (brainstate.nn.Param, brainstate.State)):
            raise TypeError(
                f"{call}: tau cannot be learnt, the chip offers fixed leak profiles ({chip.tau_profiles}); "
                "pass a Quantity, or learn time constants on a brainhw.nn.LIFLayer."
            )
        wanted = _arguments.quantity(tau, u.ms, call=call, name="tau", shapes=[(), (n,)], positive=True)
        snap = chip.tau_profiles.snap(wanted)
        if snap.moved:
            warnings.warn(snap.message(call), UserWarning, stacklevel=3)  # beyond the metaclass of brainstate
        dtype = brainstate.environ.dftype()
        self._tau = u.Quantity(jnp.broadcast_to(jnp.asarray(snap.tau.to(u.ms).mantissa, dtype), (n,)), unit=u.ms)
        self.chip_tau = brainstate.ShortTermState(self.tau)
        self.chip_V_th = brainstate.ShortTermState(self._nominal_threshold())
        self.pinned_tau = brainstate.LongTermState(self.tau)
        self.pinned_V_th = brainstate.LongTermState(self._nominal_threshold())
        if topology == "RC":
            init = braintools.init.KaimingNormal(scale=0.1) if recurrent_init is None else recurrent_init
            self.recurrent_weight = weight_state(init, (n, n), call=call, name="recurrent_init")
            self.effective = EffectiveWeight(
                self.recurrent_weight, chip, owner=call, weight_bits=weight_bits, rounding=rounding
            )
            return
        given = {
            "recurrent_init": recurrent_init is not None,
            "weight_bits": weight_bits is not None,
            "rounding": rounding != "nearest",
        }
        for argument, is_given in given.items():
            if is_given:
                raise ValueError(
                    f"{call}: {argument} is given but topology is 'FF', without recurrent weights; pass "
                    "topology='RC' or leave it out (the incoming weights belong to the synapse)."
                )

    def _nominal_threshold(self) -> u.Quantity:
        V_th = self.chip.V_th.to(u.mV).mantissa
        return u.Quantity(jnp.full((self.n_neurons,), V_th, brainstate.environ.dftype()), unit=u.mV)

    @property
    def tau(self) -> u.Quantity:
        """The leak profiles taken, ``[N]`` in ms; they are what the constructor was given, and cannot be changed."""
        return self._tau

    @property
    def master(self) -> brainstate.ParamState:
        """The learnt recurrent weights."""
        return self.recurrent_weight

    def prepare(self, key: jax.Array | None = None) -> None:
        """Take the leak and threshold of the chip in place, or with a ``key`` those of one sampled for this time.

        The leak current varies log-normally from neuron to neuron (so ``tau`` does, inversely), the threshold normally,
        each by the relative size that the spec gives; ``None`` in the spec means no variation.
        """
        tau, V_th, key_rc = self.pinned_tau.value, self.pinned_V_th.value, None
        if key is not None:
            tau, V_th, key_rc = self._drawn(key, self.chip.leak_mismatch_std, self.chip.threshold_mismatch_std)
        self.chip_tau.value = tau
        self.chip_V_th.value = V_th
        if self.topology == "RC":
            self.effective.refresh(self.recurrent_weight, key_rc)

    def pin_chip(self, key: jax.Array | None, sizes: MismatchSizes) -> None:
        """Put the chip of ``key`` in place, or with ``None`` the nominal one."""
        tau, V_th, key_rc = self.tau, self._nominal_threshold(), None
        if key is not None:
            tau, V_th, key_rc = self._drawn(key, sizes.leak, sizes.threshold)
        self.pinned_tau.value = self.chip_tau.value = tau
        self.pinned_V_th.value = self.chip_V_th.value = V_th
        if self.topology == "RC":
            self.effective.pin(key_rc, sizes.synapse)

    def _drawn(
        self, key: jax.Array, leak: float | None, threshold: float | None
    ) -> tuple[u.Quantity, u.Quantity, jax.Array]:
        """Return the time constants and thresholds of one chip, and the key of its recurrent weights."""
        tau, V_th = self.tau, self._nominal_threshold()
        key_leak, key_th, key_rc = jax.random.split(key, 3)
        n, dtype = self.n_neurons, tau.mantissa.dtype
        if leak:
            tau = tau * jnp.exp(-leak * jax.random.normal(key_leak, (n,), dtype))
        if threshold:
            V_th = V_th * (1 + threshold * jax.random.normal(key_th, (n,), dtype))
        return tau, V_th, key_rc

    def decay(self, dt: u.Quantity) -> jax.Array:
        """Return ``exp(-dt/tau)`` with the time constants of the prepared chip, ``[N]``."""
        return u.math.exp(-dt / self.chip_tau.value)

    def threshold(self) -> u.Quantity:
        """Return the thresholds of the prepared chip, ``[N]`` in mV."""
        return self.chip_V_th.value

    def to_voltage(self, drive: u.Quantity) -> u.Quantity:
        """Return the charge over the membrane capacitance."""
        return (drive / self.chip.C).in_unit(u.mV)

    def recurrent_slot(self) -> Slot | None:
        """Return the recurrent weight, ``None`` for topology ``"FF"``."""
        if self.topology == "FF":
            return None
        return Slot(self.recurrent_weight, limit=self.chip.weight_limit, grid=self.effective.grid)

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context without rounding and sign annealing."""
        return self.effective.unrounded() if self.topology == "RC" else contextlib.nullcontext()

    def recurrent_matrix(self) -> u.Quantity:
        """Return the charge that the previous spikes bring back, ``[N, N]``."""
        return self.effective.of(self.recurrent_weight)


class H1v1Layer(H1Layer):
    """Neurons of the H1v1 family: a spike resets the membrane to zero.

    Parameters, attributes and errors as in :class:`H1Layer`.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.H1v1Layer(1, tau=10 * u.ms)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     spikes = [float(layer(jnp.array([6.0]) * u.fcoulomb)[0]) for _ in range(4)]
    >>> spikes, float(layer.V.value.mantissa[0])
    ([0.0, 1.0, 0.0, 1.0], 0.0)
    """

    family = "H1v1"
    preset = H1V1


class H1v2Layer(H1Layer):
    """Neurons of the H1v2 family: a spike subtracts the threshold, and the membrane stays at zero or above.

    Parameters, attributes and errors as in :class:`H1Layer`.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.H1v2Layer(1, tau=10 * u.ms)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     spikes = [float(layer(jnp.array([12.0]) * u.fcoulomb)[0]) for _ in range(2)]
    >>> spikes, round(float(layer.V.value.mantissa[0]), 3)
    ([1.0, 1.0], 38.097)
    """

    family = "H1v2"
    preset = H1V2


def _refuse_other(other: dict[str, Any], layer: H1Layer, call: str) -> None:
    """Say of what a LIF layer takes and the chip fixes where it belongs."""
    for name in other:
        if name in ("V_th", "C", "reset"):
            raise TypeError(
                f"{call}: {name} is fixed by the chip for all its neurons and no argument of a layer; for a chip that "
                f"differs, pass chip=brainhw.chip.{layer.preset.family.upper()}.replace({name}=...)."
            )
        raise TypeError(f"{call}: got an unexpected keyword argument {name!r}.")
