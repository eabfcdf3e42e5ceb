"""Compute the charge per spike from the trainable weights, and the total charge that each neuron receives."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from brainstate._state import TRACE_CONTEXT
from jax.custom_derivatives import SymbolicZero

from brainhw import _arguments
from brainhw._settings import next_chip_version, note_settings
from brainhw.chip import ChipSpec
from brainhw.chip.family import Family, families
from brainhw.kernel import WeightGrid, signs
from brainhw.kernel.quantize import check_bits
from brainhw.nn.spiking import tall_product

__all__ = [
    "ROUNDINGS",
    "ChipWeight",
    "EffectiveWeight",
    "are_chips_side_by_side",
    "charge_sum",
    "charge_sums",
    "check_pinned",
    "chip_weights",
    "chips_side_by_side",
    "net_chip",
]

Rounding = Literal["nearest", "stochastic"]
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
WeightBits = int | Literal["chip"] | None


class EffectiveWeight(brainstate.nn.Module):
    r"""Charge per spike of every connection; each preparation computes it from the master weights.

    The master weight :math:`w` is dimensionless, trainable, and never rounded. On the chip, a spike adds the charge

    .. math:: q_{ij} = q(w^{*}_{ij}) + q'(0)\, \sigma_w\, \xi_{ij}

    where :math:`w^{*}` is the weight after optional sign annealing and optional rounding to ``weight_bits``, :math:`q`
    is the charge curve of the chip, and :math:`\sigma_w` is the standard deviation of its synapse mismatch. The
    :math:`\xi_{ij}` are standard normal random variables. They are drawn once for each sampled chip, and they are zero
    for the nominal chip.

    For a chip family with a different kind of synapse mismatch, derive a subclass that overrides :meth:`drawn`, and set
    the attribute ``effective_class`` of the family's modules to this subclass. For different weight levels, set
    ``Family.weight_grid``.

    Parameters
    ----------
    master : brainstate.ParamState
        The trainable weights, dimensionless, shape ``[N_in, N_out]`` or ``[N]`` (one-to-one).
    chip : ChipSpec
        The chip that defines the charge curve and the mismatch.
    owner : str
        Name of the calling function, for error messages, such as ``"H1v1Synapse"``.
    weight_bits : int, 'chip' or None, optional
        Number of bits to which the weights are rounded, over the weight range of the chip. ``'chip'`` uses
        ``chip.weight_bits``. ``None`` (default) does not round.
    rounding : {'nearest', 'stochastic'}, optional
        ``'nearest'`` (default) rounds to the nearest level. ``'stochastic'`` rounds up or down at random at each
        preparation inside ``brainstate.environ.context(fit=True)``, and to the nearest level otherwise.

    Attributes
    ----------
    charge : brainstate.ShortTermState
        The charges in fC.
    mismatch : brainstate.LongTermState
        Charge in fC that the mismatch of the current chip adds to each connection. It is zero for the nominal chip and
        is set by :func:`brainhw.sample_chip`.
    sign_alpha : brainstate.LongTermState or None
        Strength of the sign annealing (:class:`brainhw.train.SignAnnealing`), or ``None`` without annealing.

    Notes
    -----
    :func:`brainhw.prepare_net` recomputes the charges, so they are never saved. :meth:`of` raises an error if the
    master weights changed since the preparation, for example in an optimizer step or when weights were loaded. A
    function that was already compiled cannot detect such a change, so call ``prepare_net`` inside it. If the network
    was prepared outside the differentiated function, differentiation raises an error, because the gradient with respect
    to the master weights would be zero.
    """

    # Name of the kind of mismatch, in the chip family, to which the state `mismatch` belongs.
    kind = "synapse"
    chip_version = 0

    def __init__(
        self,
        master: brainstate.ParamState,
        chip: ChipSpec,
        *,
        owner: str,
        weight_bits: WeightBits = None,
        rounding: Rounding = "nearest",
    ) -> None:
        super().__init__()
        _arguments.text(owner, call=type(self).__name__, name="owner", some=True)
        _arguments.instance(chip, ChipSpec, call=owner, name="chip")
        if not isinstance(master, brainstate.State):
            raise TypeError(f"{owner}: master must be a brainstate.ParamState; got {_arguments.describe(master)}.")
        # Do not store `master` here. It belongs to the synapse or layer, whose path names it in checkpoints. A second
        # reference here would change that name or be lost when a network is copied.
        self.chip = chip
        self.owner = owner
        self.charge = brainstate.ShortTermState(jnp.zeros_like(master.value) * u.fcoulomb)
        self.mismatch = brainstate.LongTermState(jnp.zeros_like(master.value) * u.fcoulomb)
        self.sign_alpha: brainstate.LongTermState | None = None
        # Store the shape, because a transformation such as vmap may add an axis to the states.
        self._shape = tuple(master.value.shape)
        self._source: Any = None
        self.set_grid(weight_bits, rounding, call=owner)

    def __pretty_repr_item__(self, name: str, value: Any) -> Any:
        # Do not print weak references, because their text contains an address that differs between runs.
        return None if name in ("_source", "chip_version") else super().__pretty_repr_item__(name, value)

    def set_grid(self, weight_bits: int | str | None, rounding: str, *, call: str) -> None:
        """Set the grid to which the next preparation rounds the weights. Raise if an argument is invalid."""
        before = vars(self).get("grid"), vars(self).get("rounding")
        self.grid = self.grid_of(weight_bits, rounding, call=call)
        self.weight_bits = None if self.grid is None else int(self.grid.bits)
        self.rounding = rounding
        if (self.grid, rounding) != before:
            self.chip_version = next_chip_version()
        self.forget()

    def take_chip(self, chip: ChipSpec, *, call: str) -> None:
        """Replace the chip by a different chip of the same family, and set the mismatch to zero.

        The next preparation uses the new chip.
        """
        self.chip = chip
        self.set_grid(self.weight_bits, self.rounding, call=call)
        self.chip_version = next_chip_version()
        self.mismatch.value = self.nominal_mismatch()

    def grid_of(self, weight_bits: int | str | None, rounding: str, *, call: str) -> Any:
        """Return the grid with ``weight_bits`` bits over the weight range of the chip, or ``None`` for no rounding.

        The module does not change.
        """
        _arguments.choice(rounding, ROUNDINGS, call=call, name="rounding")
        if weight_bits is None:
            if rounding != "nearest":
                raise ValueError(f"{call}: rounding is {rounding!r} but weight_bits is None; pass weight_bits too.")
            return None
        if isinstance(weight_bits, str) and weight_bits != "chip":
            raise ValueError(
                f"{call}: weight_bits must be a number of bits, 'chip' ({self.chip.weight_bits} bits on "
                f"{self.chip.name}), or None for no rounding; got {weight_bits!r}."
            )
        bits = self.chip.weight_bits if isinstance(weight_bits, str) else weight_bits
        bits = check_bits(bits, call=call, name="weight_bits")
        family = self._family()
        if family is None or family.weight_grid is None:
            return WeightGrid(self.chip.weight_limit, bits, self.chip.weight_lowest)
        return family.weight_grid(self.chip, bits)

    def _family(self) -> Family | None:
        # The family of a spec need not be registered, so that this class can be tried out without the other modules.
        return next((family for family in families() if family.name == self.chip.family), None)

    @contextlib.contextmanager
    def unrounded(self) -> Iterator[None]:
        """Context manager that disables rounding and sign annealing. The charges are restored at exit."""
        before = self.grid, self.weight_bits, self.rounding, self.sign_alpha, self._source, self.charge.value
        self.grid = self.weight_bits = self.sign_alpha = None
        self.rounding = "nearest"
        self.forget()
        try:
            yield
        finally:
            self.grid, self.weight_bits, self.rounding, self.sign_alpha, self._source, charge = before
            self.charge.value = charge

    def forget(self) -> None:
        """Mark the charges as outdated. Call this after a change of any value that the charges depend on."""
        self._source = None

    def signed(self, master: jax.Array) -> jax.Array:
        """Return the weights after the sign annealing and before the rounding."""
        if self.sign_alpha is None:
            return master
        chip = self.chip
        limits = None if chip.weight_lowest is None else chip.weight_range
        return signs.fold(master, self.sign_alpha.value, block=chip.sign_block, axis=chip.sign_axis, limits=limits)

    def applied(self, master: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Return the weights programmed into the chip; with a ``key``, they are rounded up or down at random."""
        weights = self.signed(master)
        return weights if self.grid is None else self.grid.quantize(weights, key)

    def refresh(self, weights: brainstate.ParamState, key: jax.Array | None = None) -> None:
        """Recompute the charges, for a chip sampled with ``key``, or for the current chip if ``key`` is ``None``."""
        master = weights.value
        if TRACE_CONTEXT.state_stack:
            note_settings(self)
        rounds = self.rounding == "stochastic" and bool(brainstate.environ.get("fit", default=False))
        # Same order as on the chip: sign, rounding, charge curve, mismatch.
        charge = self.chip.charge(self.applied(master, brainstate.random.split_key() if rounds else None))
        mismatch = pinned = self.mismatch.value
        check_pinned(pinned, self._shape, u.fcoulomb, owner=self.owner, name="mismatch", positive=False)
        if key is not None:
            family = self._family()
            mismatch = self.drawn(key, {} if family is None else family.sizes(self.chip))
        # Add plain arrays. Adding Quantities takes milliseconds, because brainunit formats both for an error message
        # that is rarely shown.
        total = charge.to(u.fcoulomb).mantissa + mismatch.to(u.fcoulomb).mantissa
        self.charge.value = u.Quantity(total, unit=u.fcoulomb)
        # Use weak references, because a traced value must not outlive its trace.
        self._source = weakref.ref(master), weakref.ref(pinned.mantissa)

    def nominal_mismatch(self) -> u.Quantity:
        """Return zeros, because the nominal chip has no mismatch that adds charge to the connections."""
        # Use NumPy. If the network has a different precision, JAX would warn before brainhw raises its clearer error.
        zeros = np.zeros(self._shape, self.charge.value.mantissa.dtype)
        return u.Quantity(jnp.asarray(zeros), unit=u.fcoulomb)

    def drawn(self, key: jax.Array, sizes: Mapping[str, float | None]) -> u.Quantity:
        """Return the charge in fC that the mismatch of one sampled chip adds to each connection.

        ``sizes`` maps each kind of mismatch to its standard deviation. The charges are normally distributed. Their
        standard deviation is the slope of the charge curve at zero times ``sizes["synapse"]`` (in weight units).
        """
        size = sizes.get("synapse")
        if not size:
            return self.nominal_mismatch()
        spread = size * jax.random.normal(key, self._shape, self.charge.value.mantissa.dtype)
        return (self.chip.charge.slope_at_zero * spread).in_unit(u.fcoulomb)

    def pin(self, key: jax.Array | None, sizes: Mapping[str, float | None]) -> None:
        """Use the chip sampled with ``key`` from now on, or the nominal chip if ``key`` is ``None``."""
        self.mismatch.value = self.nominal_mismatch() if key is None else self.drawn(key, sizes)
        self.forget()

    def of(self, weights: brainstate.ParamState) -> u.Quantity:
        """Return the charges of ``weights`` in fC. Raise if ``weights`` changed since :func:`brainhw.prepare_net`."""
        if self._source is None:
            raise RuntimeError(
                f"{self.owner}.update: the network is not prepared; call brainhw.prepare_net(net, batch_size) once "
                "per batch, before the time loop, or use brainhw.rollout, which prepares the network itself."
            )
        for what, state, source in zip(
            ("the weights", "the mismatch of the chip"), (weights, self.mismatch), self._source, strict=True
        ):
            if not any(u.get_mantissa(held) is source() for held in _values_of(state)):
                raise RuntimeError(
                    f"{self.owner}.update: {what} changed since the network was prepared, or the network was prepared "
                    "inside a different compiled function; call brainhw.prepare_net(net, batch_size) again, inside the "
                    "same jit or grad as the time loop."
                )
        charge, master = self.charge.value, weights.value
        if isinstance(master, jax.core.Tracer):
            return u.Quantity(_check_dependence(charge.mantissa, master, self.owner), unit=u.fcoulomb)
        return charge


# Arrays that passed the check, by identity and required sign. They are not checked again, because a network is prepared
# for every batch but its chip seldom changes.
_CHECKED_ARRAYS: dict[tuple[int, bool], Any] = {}


def check_pinned(value: Any, shape: tuple[int, ...], unit: u.Unit, *, owner: str, name: str, positive: bool) -> None:
    """Raise if ``value``, a value of the current chip, has the wrong dimension or shape, or invalid elements.

    All elements must be finite, and greater than zero if ``positive`` is True. The elements of traced values are not
    checked.
    """
    call, fix = f"{owner}.{name}", "Call brainhw.nominal_chip(net), or assign a valid value."
    if not isinstance(value, u.Quantity) or not u.have_same_dim(value, unit):
        named, got = _arguments.unit_name(unit), _arguments.describe(value)
        raise TypeError(f"{call}: the value must be a Quantity with the dimension of {named}; got {got}. {fix}")
    numbers = value.mantissa
    if np.shape(numbers) != shape:
        raise ValueError(f"{call}: the value must have shape {shape}; got shape {np.shape(numbers)}. {fix}")
    # Traced values cannot be checked.
    known = _CHECKED_ARRAYS.get(place := (id(numbers), positive))
    if isinstance(numbers, jax.core.Tracer) or (known is not None and known() is numbers):
        return
    held = np.asarray(numbers, float)
    bad = ~np.isfinite(held) | (positive & (held <= 0))
    if bad.any():
        wanted = "finite and positive" if positive else "finite"
        raise ValueError(
            f"{call}: all values must be {wanted}; got {int(bad.sum())} invalid value(s), the first is "
            f"{held[bad][0]:g}. {fix}"
        )
    # Do not store NumPy arrays, because they may be changed in place.
    if isinstance(numbers, jax.Array):
        _CHECKED_ARRAYS[place] = weakref.ref(numbers, lambda _: _CHECKED_ARRAYS.pop(place, None))


def _values_of(state: brainstate.State) -> Iterator[Any]:
    """Yield the current value of ``state``, and its original value in each active trace that has only read it."""
    # A trace that reads a state replaces its value by a tracer, so the current value alone does not identify the array.
    yield state._value
    for trace in reversed(TRACE_CONTEXT.state_stack):
        for seen, written, before in zip(trace.states, trace.been_writen, trace.original_state_values, strict=True):
            if seen is state:
                if written:
                    return
                yield before


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _check_dependence(charge: jax.Array, master: jax.Array, owner: str) -> jax.Array:
    """Return ``charge``.

    Raise if a gradient with respect to ``master`` is requested but ``charge`` does not depend on ``master``.
    """
    return charge


def _check_dependence_jvp(owner: str, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    of_charge, of_master = (isinstance(tangent, SymbolicZero) for tangent in tangents)
    if of_charge and not of_master:
        raise RuntimeError(
            f"{owner}: the gradient cannot reach the weights, because the network was prepared outside the "
            "differentiated function. Call brainhw.prepare_net(net, batch_size) inside it, or call rollout with "
            "prepare=True. To keep the membrane potentials, pass prepare='weights'."
        )
    return primals[0], tangents[0]


_check_dependence.defjvp(_check_dependence_jvp, symbolic_zeros=True)


_is_vmapped_over_chips: ContextVar[bool] = ContextVar("brainhw_chips_side_by_side", default=False)


def charge_sum(x: jax.Array, charge: u.Quantity) -> u.Quantity:
    """Return ``x [..., N_in] @ charge [N_in, N_out]`` in fC.

    The result of a chip is bitwise the same, whether the chip is simulated alone or together with other chips.
    """
    return _separate_chips(x, charge) @ charge


def charge_sums(xs: jax.Array, charge: u.Quantity) -> u.Quantity:
    """Return the charge sums ``[T, ..., N_out]`` in fC for ``xs [T, ..., N_in]``, as one matrix product."""
    return u.Quantity(tall_product(_separate_chips(xs, charge), charge.to(u.fcoulomb).mantissa), unit=u.fcoulomb)


def _separate_chips(x: jax.Array, charge: u.Quantity) -> jax.Array:
    if not _is_vmapped_over_chips.get():
        return x
    # If all chips share the input, vmap joins their weights into one wide matrix. The product then adds in a different
    # order than for one chip, and spikes differ. The `where` below prevents this: the input depends on the charges of
    # each chip, and XLA cannot simplify the expression.
    return jnp.where(jnp.isnan(charge.mantissa[0, 0]), jnp.nan, x)


def are_chips_side_by_side() -> bool:
    """Return whether the functions that are now being traced are vmapped over chips."""
    return _is_vmapped_over_chips.get()


@contextlib.contextmanager
def chips_side_by_side() -> Iterator[None]:
    """Context manager that declares that functions traced inside it are vmapped over chips."""
    token = _is_vmapped_over_chips.set(True)
    try:
        yield
    finally:
        _is_vmapped_over_chips.reset(token)


class ChipWeight(NamedTuple):
    """Master weights of a synapse or layer, with their chip and charges.

    Attributes
    ----------
    master : brainstate.ParamState
        The trainable weights, dimensionless, ``[N_in, N_out]`` or ``[N]`` (one-to-one).
    chip : ChipSpec
        The chip.
    effective : EffectiveWeight
        The charges computed from the master weights.

    Examples
    --------
    >>> import brainhw as bh
    >>> weight = bh.nn.chip_weights(bh.nn.H1v2Synapse(4, 3))["H1v2Synapse"]
    >>> weight.master.value.shape, weight.chip.weight_limit
    ((4, 3), 1.66)
    """

    master: brainstate.ParamState
    chip: ChipSpec
    effective: EffectiveWeight


def chip_weights(net: brainstate.nn.Module) -> dict[str, ChipWeight]:
    """Return all weights of ``net`` that belong to a chip.

    A weight appears once, even if several attributes refer to its synapse.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.

    Returns
    -------
    dict of str to ChipWeight
        Maps the dotted path of each module to its weights. The dict is empty if the network has no chip modules.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> list(bh.nn.chip_weights(bh.nn.H1v1Layer(3, tau=10 * u.ms, topology="RC")))
    ['H1v1Layer']
    """
    _arguments.check_module(net, call="chip_weights")
    found = {}
    for path, node in net.nodes().items():
        if isinstance(getattr(node, "effective", None), EffectiveWeight):
            name = ".".join(str(part) for part in path) or type(node).__name__
            found[name] = ChipWeight(node.master, node.chip, node.effective)
    return found


def net_chip(net: brainstate.nn.Module, *, call: str) -> ChipSpec | None:
    """Return the chip that all modules of ``net`` share, or ``None`` if the network has no chip modules.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network.
    call : str
        Name of the calling function, for the error message.

    Returns
    -------
    ChipSpec or None
        The chip.

    Raises
    ------
    ValueError
        If modules of ``net`` use different chip families, or different specs of the same family.

    Examples
    --------
    >>> import brainhw as bh
    >>> bh.nn.net_chip(bh.nn.H1v2Synapse(2, 3), call="my function").name
    'H1v2'
    """
    if type(call) is not str or not call or not isinstance(net, brainstate.nn.Module):
        _arguments.check_module(net, call=_arguments.text(call, call="net_chip", name="call", some=True))
    found: dict[str, ChipSpec] = {}
    for path, node in net.nodes().items():
        chip = getattr(node, "chip", None)
        # Skip EffectiveWeight, because the module that it belongs to is in the list.
        if isinstance(chip, ChipSpec) and not isinstance(node, EffectiveWeight):
            found[".".join(str(part) for part in path) or type(node).__name__] = chip
    # Compare specs by identity first, because comparing them by value would take most of the time of a preparation.
    specs = list({id(chip): chip for chip in found.values()}.values())
    specs = list(dict.fromkeys(specs)) if len(specs) > 1 else specs
    if len(specs) <= 1:
        return specs[0] if specs else None
    listed = "; ".join(f"{path}: {chip.name} ({chip.family})" for path, chip in found.items())
    if len({chip.family for chip in specs}) > 1:
        problem = "families are mixed"
    else:
        fields = [
            f.name
            for f in dataclasses.fields(specs[0])
            if f.name != "notes" and len({str(getattr(s, f.name)) for s in specs}) > 1
        ]
        problem = f"the specs of one family differ in {', '.join(fields)}"
    raise ValueError(f"{call}: one network runs on one chip, but {problem} ({listed}). Pass one spec to all modules.")
