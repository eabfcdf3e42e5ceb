"""Put one sampled chip in place of the nominal one, and keep it there."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import brainstate
import jax

from brainhw import _arguments
from brainhw.chip import WIDEST_THRESHOLD
from brainhw.nn import net_chip
from brainhw.nn.preparation import MismatchSizes, OnChip
from brainhw.transform.checks import as_key, check_module, dotted

__all__ = ["keyed", "nominal_chip", "sample_chip"]

_WIDEST = 10.0


def sample_chip(
    net: brainstate.nn.Module,
    key: jax.Array | int,
    *,
    synapse: bool | float = True,
    leak: bool | float = True,
    threshold: bool | float = True,
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
    synapse : bool or float, optional
        Variation of the effective weights: True (default) as large as the chip's spec says (H1v1 has one), False
        none, or a standard deviation in weight units.
    leak : bool or float, optional
        Variation of the leak currents, and so of the time constants, log-normal: as above, or relative.
    threshold : bool or float, optional
        Variation of the thresholds, normal (H1v2 has one): as above, or relative.

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
    sizes = MismatchSizes(
        synapse=_size(synapse, chip.synapse_mismatch_std, call=call, name="synapse"),
        leak=_size(leak, chip.leak_mismatch_std, call=call, name="leak"),
        threshold=_size(threshold, chip.threshold_mismatch_std, call=call, name="threshold"),
    )
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
    _chip(net, "nominal_chip")
    for module, _ in keyed(net, OnChip, None):
        module.pin_chip(None, MismatchSizes(None, None, None))


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
        raise ValueError(f"{call}: the network has no module on a chip; build it with H1v1 or H1v2 modules.")
    return chip


def _size(wanted: bool | float, of_spec: float | None, *, call: str, name: str) -> float | None:
    if isinstance(wanted, bool):
        return of_spec if wanted else None
    size = _arguments.number(wanted, call=call, name=name, nonnegative=True)
    most = WIDEST_THRESHOLD if name == "threshold" else _WIDEST
    if size > most:
        why = "a normal spread would make some thresholds negative" if name == "threshold" else "no chip is so uneven"
        raise ValueError(f"{call}: {name} must be at most {most:g}, beyond it {why}; got {size:g}.")
    return size
