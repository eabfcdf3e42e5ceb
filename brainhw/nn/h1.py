"""Modules of the H1 chips: dense synapse, frontend and neurons. Other chip families can subclass them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from brainstate._state import TRACE_CONTEXT

from brainhw import _arguments, surrogate
from brainhw._settings import next_chip_version, note_settings
from brainhw.chip import H1V1, H1V2, ChipSpec, get_chip
from brainhw.chip.family import families, get_family
from brainhw.chip.presets import H1V1_FAMILY, H1V2_FAMILY
from brainhw.kernel.precision import state_dtype, widened
from brainhw.nn.effective import EffectiveWeight, Rounding, WeightBits, charge_sum, charge_sums, check_pinned
from brainhw.nn.known import keep_known
from brainhw.nn.parameter import weight_state
from brainhw.nn.protocols import SequenceSynapse, Slot
from brainhw.nn.ranges import DENSE_NUMBER, THRESHOLD, TIME_CONSTANT, Range
from brainhw.nn.spiking import SpikingLayer, Topology, checked_batch, checked_spikes

__all__ = [
    "H1Frontend",
    "H1Layer",
    "H1Synapse",
    "H1v1Frontend",
    "H1v1Layer",
    "H1v1Synapse",
    "H1v2Frontend",
    "H1v2Layer",
    "H1v2Synapse",
]


def _chip_of(chip: ChipSpec | str | None, owner: Any, role: str, *, call: str) -> ChipSpec:
    """Return the chip of a module, by default the preset of its family. Raise if the chip is of a different family."""
    name = getattr(owner, "family", None)
    if name is None:
        built = [family.modules[role].__name__ for family in families() if role in family.modules]
        raise TypeError(
            f"{call}: this class is the base class for all chip families. Use the class of one family, such as "
            f"{' or '.join(built)}."
        )
    if chip is None:
        preset = getattr(owner, "preset", None)
        return get_family(name, call=call).preset if preset is None else preset
    # Reject chips of a different family. Its equations differ, so its parameters would give wrong spikes without an
    # error.
    chip = get_chip(chip, call=call)
    if chip.family != name:
        raise ValueError(
            f"{call}: chip must be of family {name!r}; got {chip.name!r} of family {chip.family!r}. "
            f"Use the module of that family, or pass a chip of {name!r}."
        )
    return chip


class _ChipSynapse(SequenceSynapse, brainstate.nn.Module):
    """Base class for the dense synapse and the frontend. Each of them has one array of chip weights."""

    # The decorator `Family.module` sets this attribute on each class of a family.
    family: str
    preset: ChipSpec
    effective_class: ClassVar[type[EffectiveWeight]] = EffectiveWeight
    sequence_hooks: ClassVar[tuple[str, ...]] = (
        "effective_class",
        "family",
        "init_state",
        "master",
        "pin_chip",
        "prepare",
        "preset",
        "quiet",
        "weight_slot",
    )

    def _create_weight(self, init: Any, shape: tuple[int, ...], weight_bits: WeightBits, rounding: Rounding) -> None:
        call = type(self).__name__
        self.weight = weight_state(init, shape, call=call, name="weight_init")
        # Use the class attribute, so that families from other packages can define a different mismatch.
        self.effective = self.effective_class(
            self.weight, self.chip, owner=call, weight_bits=weight_bits, rounding=rounding
        )

    @property
    def master(self) -> brainstate.ParamState:
        """The trainable weights."""
        return self.weight

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Compute the charges, so that the module can be called after ``brainstate.nn.init_all_states``."""
        checked_batch(batch_size, self, "init_state")
        self.prepare()

    def prepare(self, key: jax.Array | None = None) -> None:
        """Recompute the charges, for a chip sampled with ``key``, or for the current chip if ``key`` is ``None``."""
        if key is not None:
            key = _arguments.as_key(key, f"{type(self).__name__}.prepare")
        self.effective.refresh(self.weight, key)

    def pin_chip(self, key: jax.Array | None, sizes: Mapping[str, float | None]) -> None:
        """Use the chip sampled with ``key`` from now on, or the nominal chip if ``key`` is ``None``."""
        self.effective.pin(key, sizes)

    def take_chip(self, chip: ChipSpec) -> None:
        """Replace the chip by a different chip of the same family, and set the mismatch to zero.

        The next preparation uses the new chip.
        """
        call = f"{type(self).__name__}.take_chip"
        self.chip = _chip_of(chip, self, "synapse", call=call)
        self.effective.take_chip(chip, call=call)

    def weight_slot(self) -> Slot:
        """Return a :class:`Slot` for the master weights, with the weight limit and the grid of the chip."""
        # One-to-one weights have no input axis.
        axis = -1 if self.weight.value.ndim > 1 else None
        return Slot(self.weight, limit=_symmetric_limit(self.chip), grid=self.effective.grid, out_axis=axis)

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context manager that disables rounding and sign annealing."""
        return self.effective.unrounded()


class H1Synapse(_ChipSynapse):
    r"""Base class for the dense synapses on a chip; use :class:`H1v1Synapse` or :class:`H1v2Synapse`.

    .. math:: Q_j = \sum_i x_i\, q_{ij}

    where :math:`q_{ij}` is the charge per spike of the connection (:class:`~brainhw.nn.EffectiveWeight`), computed once
    per batch by :func:`brainhw.prepare_net`. To support another chip family, derive a subclass with its own ``family``.

    Parameters
    ----------
    in_size, out_size : int
        Number of inputs and of target neurons.
    chip : ChipSpec, optional
        The chip. Default is the preset of the family.
    weight_init : callable or array, optional
        Initializer called with ``(in_size, out_size)``, or the weights themselves, dimensionless.
        Default ``braintools.init.KaimingNormal()``. :func:`brainhw.init.fluct_init` computes better initial weights.
    weight_bits : int, 'chip' or None, optional
        Number of bits to which the applied weights are rounded, over the weight range of the chip. ``'chip'`` uses
        ``chip.weight_bits``. ``None`` (default) does not round. The master weights are never rounded, so small updates
        accumulate.
    rounding : {'nearest', 'stochastic'}, optional
        ``'nearest'`` (default) rounds to the nearest level. ``'stochastic'`` rounds up or down at random at each
        preparation inside ``brainstate.environ.context(fit=True)``, and to the nearest level otherwise.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    weight : brainstate.ParamState
        Master weights ``[in_size, out_size]``, dimensionless. The chip accepts magnitudes up to ``chip.weight_limit``.
        Training does not enforce this limit, but :func:`brainhw.train.weight_magnitude_loss` penalises larger weights.

    Raises
    ------
    TypeError
        If an argument has the wrong type, or if the weights have a unit. The message names the argument.
    ValueError
        If a size is not positive, if the weights have the wrong shape or are not finite, if ``weight_bits`` or
        ``rounding`` is invalid, or if ``chip`` is unknown or of a different family. The message names the argument.
    """

    parameter_ranges: ClassVar[dict[str, Range]] = {"weight": DENSE_NUMBER}

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        chip: ChipSpec | None = None,
        weight_init: Callable[..., Any] | jax.Array | None = None,
        weight_bits: WeightBits = None,
        rounding: Rounding = "nearest",
        name: str | None = None,
    ) -> None:
        call = type(self).__name__
        super().__init__(name=_arguments.module_name(name, call=call))
        self.chip = _chip_of(chip, self, "synapse", call=call)
        n_in = _arguments.size(in_size, call=call, name="in_size")
        n_out = _arguments.size(out_size, call=call, name="out_size")
        self.in_size, self.out_size = (n_in,), (n_out,)
        init = braintools.init.KaimingNormal() if weight_init is None else weight_init
        self._create_weight(init, (n_in, n_out), weight_bits, rounding)

    def update(self, x: jax.Array) -> u.Quantity:
        """Return the charge that each target neuron receives, ``[..., out_size]`` in fC.

        Parameters
        ----------
        x : jax.Array
            Spikes or dimensionless analog values of one step or of a whole sequence, ``[..., in_size]``.
        """
        x = checked_spikes(x, self.in_size[-1], call=f"{type(self).__name__}.update")
        return charge_sum(x, self.effective.of(self.weight))

    def update_sequence(self, xs: jax.Array) -> u.Quantity:
        """Return the outputs of :meth:`update` for all steps, ``[T, ..., out_size]``, as one matrix product."""
        xs = checked_spikes(xs, self.in_size[-1], call=f"{type(self).__name__}.update_sequence")
        return charge_sums(xs, self.effective.of(self.weight))


@H1V1_FAMILY.module("synapse")
class H1v1Synapse(H1Synapse):
    """Dense synapse of the H1v1 family, with a nonlinear charge curve, weights in [-0.9, 0.9] and synaptic mismatch.

    See :class:`H1Synapse` for parameters, attributes and errors.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> synapse = bh.nn.H1v1Synapse(2, 1, weight_init=jnp.array([[0.9], [-0.9]]))
    >>> bh.prepare_net(synapse)
    >>> print(f"{float(synapse(jnp.array([1.0, 0.0])).mantissa[0]):.3f} fC")
    0.860 fC
    """


@H1V2_FAMILY.module("synapse")
class H1v2Synapse(H1Synapse):
    """Dense synapse of the H1v2 family, with a linear charge curve, weights in [-1.66, 1.66] and no synaptic mismatch.

    See :class:`H1Synapse` for parameters, attributes and errors.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> synapse = bh.nn.H1v2Synapse(2, 1, weight_init=jnp.array([[1.0], [-1.0]]))
    >>> bh.prepare_net(synapse)
    >>> print(f"{float(synapse(jnp.array([1.0, 0.0])).mantissa[0]):.3f} fC")
    0.450 fC
    """


class H1Frontend(_ChipSynapse):
    r"""Base class for the frontends, which connect each filter channel to one neuron; use the class of one family.

    .. math:: Q_i = x_i\, q(w_i)

    On the chip, the frontend is a 16 x 16 synapse with a diagonal weight matrix. The module stores only the diagonal.
    The next module must be a layer of ``chip.frontend_channels`` neurons. With the H1v1 preset, default weights,
    tau = 10 ms and dt = 1 ms, the neuron of a channel fires if the input is constant and above about 2.1.

    Parameters
    ----------
    chip : ChipSpec, optional
        The chip. Default is the preset of the family.
    weight_init : callable or array, optional
        Initializer called with ``(channels,)``, or the diagonal itself, dimensionless. By default, every weight is half
        of ``chip.weight_limit``.
    weight_bits, rounding
        See :class:`H1Synapse`.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    weight : brainstate.ParamState
        Diagonal of the weight matrix, ``[channels]``, dimensionless.

    Raises
    ------
    TypeError
        If an argument has the wrong type, or if the weights have a unit. The message names the argument.
    ValueError
        If the weights have the wrong shape or are not finite, if ``weight_bits`` or ``rounding`` is invalid, or if
        ``chip`` is unknown or of a different family. The message names the argument.
    """

    parameter_ranges: ClassVar[dict[str, Range]] = {"weight": Range(shape=lambda frontend: frontend.in_size)}

    def __init__(
        self,
        *,
        chip: ChipSpec | None = None,
        weight_init: Callable[..., Any] | jax.Array | None = None,
        weight_bits: WeightBits = None,
        rounding: Rounding = "nearest",
        name: str | None = None,
    ) -> None:
        call = type(self).__name__
        super().__init__(name=_arguments.module_name(name, call=call))
        self.chip = _chip_of(chip, self, "frontend", call=call)
        self.in_size = self.out_size = (self.chip.frontend_channels,)
        init = braintools.init.Constant(0.5 * self.chip.weight_limit) if weight_init is None else weight_init
        self._create_weight(init, self.in_size, weight_bits, rounding)

    def update(self, x: jax.Array) -> u.Quantity:
        """Return the charge of each channel, ``[..., channels]`` in fC.

        Parameters
        ----------
        x : jax.Array
            Output of the filter bank for one step or for a whole sequence, dimensionless, ``[..., channels]``.
        """
        x = checked_spikes(x, self.in_size[-1], call=f"{type(self).__name__}.update")
        # This product is elementwise, so the order of additions that `charge_sum` fixes does not matter here.
        return x * self.effective.of(self.weight)

    def update_sequence(self, xs: jax.Array) -> u.Quantity:
        """Return the outputs of :meth:`update` for all steps, ``[T, ..., channels]``."""
        return self.update(xs)


@H1V1_FAMILY.module("frontend")
class H1v1Frontend(H1Frontend):
    """Frontend of the H1v1 family. See :class:`H1Frontend` for parameters, attributes and errors.

    Examples
    --------
    >>> import brainhw as bh, jax.numpy as jnp
    >>> frontend = bh.nn.H1v1Frontend()
    >>> bh.prepare_net(frontend)
    >>> frontend(jnp.ones((100, 8, 16))).shape
    (100, 8, 16)
    """


@H1V2_FAMILY.module("frontend")
class H1v2Frontend(H1Frontend):
    """Frontend of the H1v2 family. See :class:`H1Frontend` for parameters, attributes and errors.

    Examples
    --------
    >>> import brainhw as bh
    >>> bh.nn.H1v2Frontend().weight.value.shape
    (16,)
    """


class H1Layer(SpikingLayer):
    r"""Base class for the neuron layers on a chip; use :class:`H1v1Layer` or :class:`H1v2Layer`.

    .. math::
        V' &= \max(e^{-\Delta t/\tau} V_{t-1} + Q_t / C,\; 0) \\
        s_t &= H((V' - V_{th})/V_{th}) \\
        V_t &= V'(1 - s_t) \;\text{(reset to zero)} \quad\text{or}\quad \max(V' - s_t V_{th}, 0)
               \;\text{(subtraction and clamp)}

    where :math:`Q_t` is the charge that a neuron receives in this step. For ``topology='RC'``, this includes the charge
    that the spikes of the previous step cause through the recurrent weights. The vendor documents the clamp at zero and
    the reset. The values of ``V_th``, ``C`` and the leak profiles are assumed. Print the
    :class:`~brainhw.chip.ChipSpec` to see which values are documented and which are assumed.

    To support another chip family, derive a subclass with its own ``family``. If the family has different kinds of
    mismatch, override :meth:`nominal` and :meth:`drawn`. For each value that these methods return, the layer creates
    two states, ``chip_<name>`` and ``pinned_<name>``. The class attribute ``pinned_kinds`` maps the name of each value
    to its kind of mismatch. For ``firing`` and ``refractory_steps``, see :class:`SpikingLayer`.

    Parameters
    ----------
    size : int or tuple of int
        Number of neurons ``N``, or the shape of the layer, such as ``(8, 8, 2)``.
    tau : Quantity
        Membrane time constant, scalar or ``[*size]``. It is rounded to the nearest leak profile of the chip, with a
        ``UserWarning`` if a value changes by more than 1 %.
    topology : {'FF', 'RC'}, optional
        ``'RC'`` adds all-to-all recurrent weights; the layer must then have one axis. Default ``'FF'``.
    chip : ChipSpec, optional
        The chip. Default is the preset of the family. The chip defines threshold, capacitance and reset, so the layer
        has no arguments for them.
    recurrent_init : callable or array, optional
        Initializer of the recurrent weights, or the weights themselves, ``[N, N]``, dimensionless. Default
        ``braintools.init.KaimingNormal(scale=0.1)``.
    weight_bits, rounding
        Rounding of the recurrent weights, see :class:`H1Synapse`.
    spk_fun : braintools.surrogate.Surrogate, optional
        Spike function of ``(V' - V_th)/V_th``. Default ``brainhw.surrogate.fast_sigmoid(slope=5.0)``.
    detach_reset : bool, optional
        Whether to stop the gradient that flows through the spikes in the reset. Default True.
    name : str, optional
        Name of the module.

    Attributes
    ----------
    V, spk : brainstate.HiddenState
        Membrane potential (mV) and spikes, ``[*size]`` or ``[B, *size]``.
    tau : Quantity
        Nominal time constants after rounding to the leak profiles, ``[*size]`` in ms.
    recurrent_weight : brainstate.ParamState
        Recurrent master weights ``[N, N]``, presynaptic neuron first, dimensionless. Exists only for ``'RC'``.
    chip_tau, chip_V_th : brainstate.ShortTermState
        Time constants and thresholds that the last preparation set, ``[*size]``. The steps use these values.
    pinned_tau, pinned_V_th : brainstate.LongTermState
        Time constants and thresholds of the current chip, ``[*size]``. They are nominal until
        :func:`brainhw.sample_chip` changes them or you assign measured values to ``.value``. A preparation raises an
        error for values of the wrong shape, dimension or sign.

    Raises
    ------
    TypeError
        If an argument has the wrong type or unit, or if ``tau`` is trainable. The message names the argument.
    ValueError
        If an argument has the wrong shape, is out of range, or conflicts with another argument, or if ``chip`` is
        unknown or of a different family. The message names the argument.
    """

    family: str
    preset: ChipSpec
    effective_class: ClassVar[type[EffectiveWeight]] = EffectiveWeight
    pinned_kinds: ClassVar[Mapping[str, str]] = {"tau": "leak", "V_th": "threshold"}
    # Result of measuring a chip. `known` maps the name of a value to a mask ``[*size]``, which is True for the neurons
    # whose value was measured. `physical` holds the index of each neuron on the chip.
    known: Mapping[str, np.ndarray]
    physical: np.ndarray | None
    chip_version: int
    drive_unit = u.fcoulomb
    drive_word = "a charge"
    clamped = True
    parameter_ranges: ClassVar[dict[str, Range]] = {
        "pinned_tau": TIME_CONSTANT,
        "pinned_V_th": THRESHOLD,
        "recurrent_weight": DENSE_NUMBER,
    }
    # `drawn` and `nominal` may be overridden, because only a preparation calls them. The time loop reads the states.
    _hooks = (*SpikingLayer._hooks, "drawn", "effective_class", "master", "nominal")

    def __init__(
        self,
        size: int | tuple[int, ...],
        tau: u.Quantity,
        *,
        topology: Topology = "FF",
        chip: ChipSpec | None = None,
        recurrent_init: Callable[..., Any] | jax.Array | None = None,
        weight_bits: WeightBits = None,
        rounding: Rounding = "nearest",
        spk_fun: Callable[[jax.Array], jax.Array] | None = None,
        detach_reset: bool = True,
        name: str | None = None,
        **other: Any,
    ) -> None:
        call = type(self).__name__
        _refuse_other(other, self, call)
        chip = _chip_of(chip, self, "layer", call=call)
        # Set the chip before the states are created, because a subclass may read its refractory period from the chip.
        self.chip = chip
        self.known, self.physical, self.chip_version = {}, None, 0
        super().__init__(
            size,
            topology=topology,
            reset=chip.reset,
            spk_fun=surrogate.fast_sigmoid(slope=5.0) if spk_fun is None else spk_fun,
            detach_reset=detach_reset,
            name=name,
        )
        if isinstance(tau, (brainstate.nn.Param, brainstate.State)):
            raise TypeError(
                f"{call}: tau cannot be a trainable parameter, because the chip has fixed leak profiles "
                f"({chip.tau_profiles}). Pass a Quantity, or use a brainhw.nn.LIFLayer to train time constants."
            )
        wanted = _arguments.quantity(tau, u.ms, call=call, name="tau", shapes=[(), self.in_size], positive=True)
        snap = chip.tau_profiles.snap(wanted)
        if snap.moved:
            # The stack level skips the metaclass of brainstate.
            warnings.warn(snap.message(call), UserWarning, stacklevel=3)
        # Use the full shape from the start. Otherwise, sampling a chip would change it and cause a recompilation.
        self.profiles = np.broadcast_to(np.asarray(snap.index), self.in_size)
        self._tau = self._taus(state_dtype())
        # `chip_` and `pinned_` are separate states, because `prepare_net` with a key samples a chip for one preparation
        # and must not change the current chip.
        for varied, value in self.nominal().items():
            setattr(self, f"chip_{varied}", brainstate.ShortTermState(value))
            setattr(self, f"pinned_{varied}", brainstate.LongTermState(value))
        if topology == "RC":
            init = braintools.init.KaimingNormal(scale=0.1) if recurrent_init is None else recurrent_init
            self.recurrent_weight = weight_state(init, self.in_size * 2, call=call, name="recurrent_init")
            self.effective = self.effective_class(
                self.recurrent_weight, chip, owner=call, weight_bits=weight_bits, rounding=rounding
            )
            return
        # Do not ignore these arguments. A user who sets `weight_bits` here expects rounded weights.
        given = {
            "recurrent_init": recurrent_init is not None,
            "weight_bits": weight_bits is not None,
            "rounding": rounding != "nearest",
        }
        for argument, is_given in given.items():
            if is_given:
                raise ValueError(
                    f"{call}: {argument} is passed but topology is 'FF', which has no recurrent weights. Pass "
                    "topology='RC', or omit the argument. Incoming weights are set in the synapse."
                )

    def __pretty_repr_item__(self, name: str, value: Any) -> Any:
        # Do not print attributes that describe a measured chip, because they are not settings.
        return None if name in ("known", "physical", "chip_version") else super().__pretty_repr_item__(name, value)

    @property
    def tau(self) -> u.Quantity:
        """Nominal time constants, rounded to the leak profiles of the chip, ``[*size]`` in ms."""
        return self._tau

    def _taus(self, dtype: Any) -> u.Quantity:
        milliseconds = np.asarray(self.chip.tau_profiles.values.to(u.ms).mantissa)
        return u.Quantity(jnp.asarray(milliseconds[self.profiles], dtype), unit=u.ms)

    def take_chip(self, chip: ChipSpec) -> None:
        """Replace the chip by a different chip of the same family.

        The new chip must have the same number of leak profiles.
        """
        call = f"{type(self).__name__}.take_chip"
        self.chip = _chip_of(chip, self, "layer", call=call)
        self._tau = self._taus(self._tau.mantissa.dtype)
        self.known, self.chip_version = {}, next_chip_version()
        for name, value in self.nominal().items():
            for state in (getattr(self, f"chip_{name}"), getattr(self, f"pinned_{name}")):
                # Keep the precision of the network, which may differ from the current precision of `environ`.
                numbers = value.mantissa.astype(state.value.mantissa.dtype)
                state.value = u.Quantity(numbers, unit=value.unit)
        if self.topology == "RC":
            self.effective.take_chip(chip, call=call)

    @property
    def master(self) -> brainstate.ParamState:
        """The trainable recurrent weights."""
        return self.recurrent_weight

    def nominal(self) -> dict[str, u.Quantity]:
        """Return a dict from the name of each parameter that varies between chips to its nominal values ``[*size]``."""
        V_th = jnp.full(self.in_size, self.chip.V_th.to(u.mV).mantissa, state_dtype())
        return {"tau": self.tau, "V_th": u.Quantity(V_th, unit=u.mV)}

    def drawn(self, key: jax.Array, sizes: Mapping[str, float | None]) -> dict[str, u.Quantity]:
        """Return the parameter values of one sampled chip, as a dict with the same keys as :meth:`nominal`.

        The leak current of the neurons has a log-normal distribution, and ``tau`` is inversely proportional to it. The
        threshold has a normal distribution. ``sizes`` maps each kind of mismatch to its relative standard deviation;
        ``None`` or 0 means no variation.
        """
        # Always split into three keys, so that disabling one kind of mismatch does not change the draws of the others.
        key_leak, key_th, _ = jax.random.split(key, 3)
        # Do not call `self.nominal()`, because a subclass that adds values must draw them itself.
        values = H1Layer.nominal(self)
        dtype = values["tau"].mantissa.dtype
        if leak := sizes.get("leak"):
            # A tuple has one standard deviation for each leak profile.
            if isinstance(leak, tuple):
                leak = jnp.asarray(np.asarray(leak)[self.profiles], dtype)
            values["tau"] = values["tau"] * jnp.exp(-leak * jax.random.normal(key_leak, self.in_size, dtype))
        if threshold := sizes.get("threshold"):
            values["V_th"] = values["V_th"] * (1 + threshold * jax.random.normal(key_th, self.in_size, dtype))
        return values

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        """Create the states at rest, ``[*size]`` or ``[batch_size, *size]``, and prepare the current chip."""
        super().init_state(batch_size)
        self.prepare()

    def prepare(self, key: jax.Array | None = None) -> None:
        """Set the time constants, thresholds and charges that the steps use.

        They are those of the current chip or, with ``key``, of a chip that is sampled for this preparation only.
        """
        if TRACE_CONTEXT.state_stack:
            note_settings(self)
        if key is None:
            values = {name: self._current_chip_value(name, nominal) for name, nominal in self.nominal().items()}
        else:
            key = _arguments.some_key(key, f"{type(self).__name__}.prepare")
            values = self.drawn(key, get_family(self.family).sizes(self.chip))
            values = keep_known(self, values) if self.known else values
        for name, value in values.items():
            getattr(self, f"chip_{name}").value = value
        if self.topology == "RC":
            self.effective.refresh(self.recurrent_weight, _recurrent_key(key))

    def _current_chip_value(self, name: str, nominal: u.Quantity) -> u.Quantity:
        value, owner = getattr(self, f"pinned_{name}").value, type(self).__name__
        check_pinned(value, nominal.shape, nominal.unit, owner=owner, name=f"pinned_{name}", positive=True)
        # Measured values may have a different unit, but a state must keep its unit.
        return value.in_unit(nominal.unit)

    def pin_chip(self, key: jax.Array | None, sizes: Mapping[str, float | None]) -> None:
        """Use the chip sampled with ``key`` from now on, or the nominal chip if ``key`` is ``None``."""
        if TRACE_CONTEXT.state_stack:
            note_settings(self)
        values = self.nominal() if key is None else self.drawn(key, sizes)
        if key is None:
            self.physical = None
        if self.known and key is None:
            self.known, self.chip_version = {}, next_chip_version()
        elif self.known:
            values = keep_known(self, values)
        for name, value in values.items():
            getattr(self, f"pinned_{name}").value = value
            getattr(self, f"chip_{name}").value = value
        if self.topology == "RC":
            self.effective.pin(_recurrent_key(key), sizes)

    def recurrent_slot(self) -> Slot | None:
        """Return a :class:`Slot` for the recurrent master weights, or ``None`` for ``topology='FF'``."""
        if self.topology == "FF":
            return None
        return Slot(self.recurrent_weight, limit=_symmetric_limit(self.chip), grid=self.effective.grid)

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context manager that disables rounding and sign annealing of the recurrent weights."""
        return self.effective.unrounded() if self.topology == "RC" else contextlib.nullcontext()

    def decay(self, dt: u.Quantity) -> jax.Array:
        """Return the decay factor of the membrane potential per step, ``exp(-dt/tau)``, for the prepared chip."""
        return u.math.exp(-dt / widened(self.chip_tau.value))

    def threshold(self) -> u.Quantity:
        """Return the thresholds of the prepared chip, ``[*size]`` in mV."""
        return self.chip_V_th.value

    def to_voltage(self, drive: u.Quantity) -> u.Quantity:
        """Return the voltage in mV that a charge adds to the membrane potential: charge divided by capacitance."""
        if TRACE_CONTEXT.state_stack:
            note_settings(self)
        # fC / fF is V, but membrane potentials are stored in mV.
        return (drive / self.chip.C).in_unit(u.mV)

    def recurrent_matrix(self) -> u.Quantity:
        """Return the charge per spike of each recurrent connection, ``[N, N]``."""
        return self.effective.of(self.recurrent_weight)


@H1V1_FAMILY.module("layer")
class H1v1Layer(H1Layer):
    """Neurons of the H1v1 family, in which a spike resets the membrane potential to zero.

    See :class:`H1Layer` for parameters, attributes and errors.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.H1v1Layer(1, tau=10 * u.ms)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     spikes = [float(layer(jnp.array([6.0]) * u.fcoulomb)[0]) for _ in range(4)]
    >>> spikes, float(layer.V.value.mantissa[0])
    ([0.0, 1.0, 0.0, 1.0], 0.0)
    """


@H1V2_FAMILY.module("layer")
class H1v2Layer(H1Layer):
    """Neurons of the H1v2 family, in which a spike subtracts the threshold and potentials are clamped at zero.

    See :class:`H1Layer` for parameters, attributes and errors.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u, jax.numpy as jnp
    >>> layer = bh.nn.H1v2Layer(1, tau=10 * u.ms)
    >>> with brainstate.environ.context(dt=1.0 * u.ms):
    ...     spikes = [float(layer(jnp.array([12.0]) * u.fcoulomb)[0]) for _ in range(2)]
    >>> spikes, round(float(layer.V.value.mantissa[0]), 3)
    ([1.0, 1.0], 38.097)
    """


def _symmetric_limit(chip: ChipSpec) -> float:
    """Return the largest magnitude that both positive and negative weights may have."""
    return chip.weight_limit if chip.weight_lowest is None else min(chip.weight_limit, -chip.weight_lowest)


def _recurrent_key(key: jax.Array | None) -> jax.Array | None:
    # Use the third part of the key of a layer, because `drawn` uses the other two.
    return None if key is None else jax.random.split(key, 3)[2]


def _refuse_other(other: dict[str, Any], layer: H1Layer, call: str) -> None:
    """Raise TypeError if ``other`` contains an argument. If the chip fixes this argument, explain how to change it."""
    for name in other:
        # Users may try these arguments here, because `LIFLayer` has them.
        if name in ("V_th", "C", "reset"):
            preset = getattr(layer, "preset", None)
            own = f"brainhw.chip.{preset.family.upper()}" if preset in (H1V1, H1V2) else "spec"
            raise TypeError(
                f"{call}: {name} is fixed by the chip and is not an argument of a layer. To use a chip with a "
                f"different value, pass chip={own}.replace({name}=...)."
            )
        raise TypeError(f"{call}: got an unexpected keyword argument {name!r}.")
