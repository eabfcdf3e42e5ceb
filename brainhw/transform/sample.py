"""Put one sampled chip in place of the nominal one, and keep it there."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import brainstate
import jax

from brainhw import _arguments
from brainhw.chip import Mismatch, get_family
from brainhw.nn import net_chip
from brainhw.nn.preparation import OnChip
from brainhw.transform.checks import as_key, check_module, dotted

__all__ = ["keyed", "nominal_chip", "sample_chip"]


def sample_chip(
    net: brainstate.nn.Module,
    key: jax.Array | int,
    **mismatch: bool | float,
) -> None:
    """Put one sampled chip in place: every later preparation uses it, until another chip is put.

    One key is one chip. It stays the same over time, batches and calls, whatever is trained meanwhile: what varies
    from chip to chip is added to whatever weights there are. Prepare the network after it (:func:`brainhw.rollout`
    does). A key given to :func:`brainhw.prepare_net` or :func:`brainhw.rollout` is another chip for that call alone.

    Parameters
    ----------
    net : brainstate.nn.Module
        A network with modules on a chip.
    key : jax.Array or int
        Which chip; the same one that ``prepare_net(net, key=key)`` draws.
    **mismatch : bool or float, optional
        Variation by kind: True (default for every kind) as large as the chip's spec says, False for none, or a
        standard deviation. The kinds of H1v1 and H1v2 are ``synapse`` (effective weights, in weight units), ``leak``
        (leak currents, and so time constants, log-normal, relative) and ``threshold`` (normal, relative).

    Raises
    ------
    TypeError, ValueError
        If an argument is bad, families are mixed, or ``net`` has no module on a chip.

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
    key = as_key(key, call)
    if key is None:
        raise TypeError(f"{call}: key must be a whole number or a jax.random.key; for the nominal chip, nominal_chip.")
    family = get_family(chip.family, call=call)
    kinds = {kind.kind: kind for kind in family.mismatches}
    for name in mismatch:
        if name not in kinds:
            raise TypeError(
                f"{call}: {name!r} is not a kind of mismatch of {family.name}; use {', '.join(kinds) or 'none'}."
            )
    sizes = {
        name: _size(mismatch.get(name, True), of_spec, kinds[name], call=call)
        for name, of_spec in family.sizes(chip).items()
    }
    for module, own in keyed(net, OnChip, key):
        module.pin_chip(own, sizes)


def nominal_chip(net: brainstate.nn.Module) -> None:
    """Put the nominal chip back in place: nothing varies.

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
    chip = _chip(net, "nominal_chip")
    sizes = dict.fromkeys(get_family(chip.family, call="nominal_chip").sizes(chip))
    for module, _ in keyed(net, OnChip, None):
        module.pin_chip(None, sizes)


def keyed(net: brainstate.nn.Module, kind: Any, key: jax.Array | None) -> Iterator[tuple[Any, jax.Array | None]]:
    """Yield every module of a kind with a key of its own, or with ``None`` if there is none."""
    for path, node in net.nodes().items():
        if isinstance(node, kind):
            # The draw of a module depends on its path alone, so that adding one elsewhere changes no other.
            yield node, None if key is None else jax.random.fold_in(key, zlib.crc32(dotted(path).encode()))


def _chip(net: brainstate.nn.Module, call: str) -> Any:
    check_module(net, call=call)
    chip = net_chip(net, call=call)
    if chip is None:
        raise ValueError(f"{call}: the network has no module on a chip; build it with modules of a chip family.")
    return chip


def _size(wanted: bool | float, of_spec: float | None, kind: Mismatch, *, call: str) -> float | None:
    if isinstance(wanted, bool):
        return of_spec if wanted else None
    size = _arguments.number(wanted, call=call, name=kind.kind, nonnegative=True)
    if size > kind.most:
        raise ValueError(f"{call}: {kind.kind} must be at most {kind.most:g}, beyond it {kind.why}; got {size:g}.")
    return size
