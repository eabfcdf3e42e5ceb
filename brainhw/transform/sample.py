"""Put a sampled chip in place of the nominal chip, and back."""

from __future__ import annotations

import brainstate
import jax

from brainhw import _arguments
from brainhw.chip.family import Mismatch, get_family
from brainhw.chip.spec import ChipSpec
from brainhw.nn import net_chip
from brainhw.transform.prepare import keyed

__all__ = ["nominal_chip", "sample_chip"]


def sample_chip(net: brainstate.nn.Module, key: jax.Array | int, **mismatch: bool | float) -> None:
    """Put one sampled chip in place: every later preparation uses it, until the next call.

    One key is one chip. It stays the same over time, batches, calls and training: the mismatch is added to the present
    weights. Prepare the network after it (:func:`brainhw.rollout` does). A key given to :func:`brainhw.prepare_net` or
    :func:`brainhw.rollout` samples another chip for that call alone.

    Parameters
    ----------
    net : brainstate.nn.Module
        A network with modules on a chip.
    key : jax.Array or int
        Names the chip; ``prepare_net(net, key=key)`` draws the same one.
    **mismatch : bool or float
        One argument for each kind of mismatch of the net's chip family. True (default) is the size in the chip's
        spec, False is none, and a number is the standard deviation. The kinds of H1v1 and H1v2 are

        - ``synapse``: the effective weights, normal, in weight units (the presets: H1v1 only);
        - ``leak``: the leak currents, and so the time constants, log-normal, relative;
        - ``threshold``: the thresholds, normal, relative, at most 0.2 (the presets: H1v2 only).

    Raises
    ------
    TypeError, ValueError
        If an argument is bad, the family has no such kind of mismatch, ``net`` mixes families, or has no module on a
        chip.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> layer = bh.nn.H1v2Layer(3, tau=10 * u.ms)
    >>> bh.sample_chip(layer, 7, threshold=False)
    >>> bh.prepare_net(layer)
    >>> print(layer.threshold())
    [100. 100. 100.] mV
    >>> bool((layer.chip_tau.value == 10 * u.ms).any())
    False
    """
    call = "sample_chip"
    chip = _chip(net, call)
    key = _arguments.as_key(key, call)
    if key is None:
        raise TypeError(f"{call}: key must be a whole number or a jax.random.key; for the nominal chip, nominal_chip.")
    family = get_family(chip.family, call=call)
    kinds = {known.kind: known for known in family.mismatches}
    for kind in mismatch:
        if kind not in kinds:
            listed = ", ".join(repr(known) for known in kinds) or "none"
            raise TypeError(
                f"{call}: {kind} is not a kind of mismatch of the family {family.name} (its kinds: {listed}). "
                "Leave it out."
            )
    # All kinds: one that is not named keeps the size in the spec.
    sizes = family.sizes(chip)
    for kind, wanted in mismatch.items():
        sizes[kind] = _size(wanted, sizes[kind], kinds[kind], call=call)
    for module, own in keyed(net, "pin_chip", key):
        module.pin_chip(own, sizes)


def nominal_chip(net: brainstate.nn.Module) -> None:
    """Put the nominal chip back in place: no mismatch.

    Parameters
    ----------
    net : brainstate.nn.Module
        A network with modules on a chip.

    Raises
    ------
    TypeError, ValueError
        If ``net`` is no module, mixes families, or has no module on a chip.

    Examples
    --------
    >>> import brainhw as bh, brainunit as u
    >>> layer = bh.nn.H1v1Layer(3, tau=10 * u.ms)
    >>> bh.sample_chip(layer, 7)
    >>> bh.nominal_chip(layer)
    >>> bh.prepare_net(layer)
    >>> print(layer.chip_tau.value)
    [10. 10. 10.] ms
    """
    _chip(net, "nominal_chip")
    for module, _ in keyed(net, "pin_chip", None):
        module.pin_chip(None, {})


def _chip(net: brainstate.nn.Module, call: str) -> ChipSpec:
    _arguments.check_module(net, call=call)
    chip = net_chip(net, call=call)
    if chip is None:
        raise ValueError(f"{call}: the network has no module on a chip; build it with modules of a chip family.")
    return chip


def _size(wanted: bool | float, of_spec: float | None, kind: Mismatch, *, call: str) -> float | None:
    # First, because True is a number in Python and would be a standard deviation of 1.
    if isinstance(wanted, bool):
        return of_spec if wanted else None
    size = _arguments.number(wanted, call=call, name=kind.kind, nonnegative=True)
    if size > kind.most:
        raise ValueError(f"{call}: {kind.kind} must be at most {kind.most:g}, beyond it {kind.why}; got {size:g}.")
    return size
