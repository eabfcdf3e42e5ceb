"""Placement of the neurons of a network on the cores of its chip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import brainstate
import numpy as np

from brainhw import _arguments
from brainhw._drawn import Drawn
from brainhw._shown import Shown
from brainhw._table import Table
from brainhw.chip import ChipSpec
from brainhw.deploy.packing import FRONTEND, RECURRENT, Need, Piece, PlacementError, arrange
from brainhw.deploy.survey import Survey, survey
from brainhw.nn import net_chip

__all__ = [
    "Need",
    "Piece",
    "Placement",
    "PlacementError",
    "needs_of",
    "pieces_at",
    "place",
    "place_layers",
    "placement_of",
]

# The vendor publishes that each of the 16 frontend filters drives one neuron, but not which neurons these are.
_ASSUMED = (
    "ASSUMED: the neurons of the frontend are the first of core 0 and count against it; their place is not published."
)


@final
@dataclass(frozen=True)
class Placement(Shown, Drawn):
    """The position of every neuron of a network on the chip; ``print`` it for a table.

    The vendor documents that a feed-forward layer may be split over several cores and a recurrent layer may not.
    brainhw assumes that the neurons of the frontend are the first neurons of core 0, so that fewer neurons of core 0
    are left for other layers. This assumption is safe, because such a placement also fits on a chip that has separate
    neurons for the frontend.

    Parameters
    ----------
    chip : ChipSpec
        The chip.
    pieces : tuple of Piece
        The pieces of all layers. They are stored in the order of core and position.

    Raises
    ------
    TypeError
        If ``chip`` is not a ``ChipSpec``, or if ``pieces`` is not a tuple of ``Piece``.
    ValueError
        If pieces overlap or do not fit on their core, if a neuron of a layer has no position or several positions, if a
        recurrent layer is on several cores, or if the layer that the frontend drives is not at the start of core 0.

    Examples
    --------
    >>> import brainhw as bh
    >>> from brainhw.deploy.placement import Need, place_layers
    >>> placement = place_layers(
    ...     bh.chip.H1V2, [Need("ears", 16, frontend=True), Need("hidden", 90, recurrent=True), Need("out", 30)]
    ... )
    >>> placement.core_of("out")[:5], placement.free
    (array([0, 0, 0, 0, 0]), (4, 50, 10))
    """

    chip: ChipSpec
    pieces: tuple[Piece, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.chip, ChipSpec):
            raise TypeError(f"Placement: chip must be a ChipSpec; got {_arguments.describe(self.chip)}.")
        if not isinstance(self.pieces, (tuple, list)):
            raise TypeError(f"Placement: pieces must be a tuple of Piece; got {_arguments.describe(self.pieces)}.")
        for piece in self.pieces:
            if not isinstance(piece, Piece):
                raise TypeError(
                    f"Placement: every element of pieces must be a Piece; got {_arguments.describe(piece)}."
                )
        # Check the pieces, because placements are also read from files and built by hand.
        _check(self.chip, self.pieces, call="Placement")
        object.__setattr__(self, "pieces", tuple(sorted(self.pieces, key=lambda piece: (piece.core, piece.offset))))

    @property
    def layers(self) -> dict[str, int]:
        """Number of neurons of each layer, by its path."""
        sizes: dict[str, int] = {}
        for piece in self.pieces:
            sizes[piece.layer] = sizes.get(piece.layer, 0) + piece.count
        return sizes

    @property
    def cores_used(self) -> tuple[int, ...]:
        """The cores that have at least one neuron in use."""
        return tuple(sorted({piece.core for piece in self.pieces}))

    @property
    def split(self) -> tuple[str, ...]:
        """The layers that are split into several pieces."""
        return tuple(layer for layer in self.layers if sum(piece.layer == layer for piece in self.pieces) > 1)

    @property
    def free(self) -> tuple[int, ...]:
        """Number of free neurons of each core."""
        free = list(self.chip.cores)
        for piece in self.pieces:
            free[piece.core] -= piece.count
        return tuple(free)

    def core_of(self, layer: str) -> np.ndarray:
        """Return the core of each neuron of a layer, integers ``[N]``.

        Parameters
        ----------
        layer : str
            Path of the layer.

        Raises
        ------
        ValueError
            If the placement has no such layer.
        """
        sizes = self.layers
        _arguments.choice(layer, sizes, call="Placement.core_of", name="layer")
        cores = np.zeros(sizes[layer], int)
        for piece in self.pieces:
            if piece.layer == layer:
                cores[piece.first : piece.first + piece.count] = piece.core
        return cores

    def physical_of(self, layer: str) -> np.ndarray:
        """Return, for each neuron of a layer, the index of the neuron on the chip, integers ``[N]``.

        The index is ``sum(cores[:core]) + position``, where ``position`` is the position on the core.

        Parameters
        ----------
        layer : str
            Path of the layer.

        Raises
        ------
        ValueError
            If the placement has no such layer.
        """
        sizes = self.layers
        _arguments.choice(layer, sizes, call="Placement.physical_of", name="layer")
        physical = np.zeros(sizes[layer], int)
        for piece in self.pieces:
            if piece.layer == layer:
                start = sum(self.chip.cores[: piece.core]) + piece.offset
                physical[piece.first : piece.first + piece.count] = np.arange(start, start + piece.count)
        return physical

    def table(self) -> str:
        """Return a text table of the layers on each core, with the assumption about the frontend."""
        return str(self)

    def _parts(self) -> Iterator[str | Table]:
        sizes, rows = self.layers, []
        for core, (room, free) in enumerate(zip(self.chip.cores, self.free, strict=True)):
            for piece in (piece for piece in self.pieces if piece.core == core):
                whole = f"{_span(piece.first, piece.count)} of {sizes[piece.layer]}"
                rows.append((f"{core}", _span(piece.offset, piece.count), piece.layer, piece.kind, whole))
            if free:
                rows.append((f"{core}", f"{free} of {room} free", "-", "-", "-"))
        used = f"{sum(sizes.values())} of {self.chip.n_neurons} neurons of {self.chip.name}"
        cores = f"{len(self.cores_used)} of {len(self.chip.cores)} cores"
        split = f"; split over cores: {', '.join(self.split)}" if self.split else ""
        headings = ("core", "its neurons", "layer", "kind", "neurons of the layer")
        yield f"{used}, {cores}{split}"
        yield Table(headings, rows, left=("layer", "kind"))
        if any(piece.kind == FRONTEND for piece in self.pieces):
            yield _ASSUMED

    def to_list(self) -> list[dict[str, int | str]]:
        """Return the pieces as dicts of numbers and strings, which can be written to a file."""
        return [asdict(piece) for piece in self.pieces]

    @staticmethod
    def from_list(chip: ChipSpec, items: Any, layers: Mapping[str, int]) -> Placement:
        """Build a placement from the result of :meth:`to_list`; every value is checked.

        Parameters
        ----------
        chip : ChipSpec
            The chip.
        items : list of dict
            One dict per piece: ``layer``, ``first``, ``count``, ``core``, ``offset``, ``kind``.
        layers : mapping
            The number of neurons of each layer of the network, by its path.

        Returns
        -------
        Placement
            The placement. It contains exactly the neurons of ``layers``.

        Raises
        ------
        ValueError
            If ``items`` is invalid; the message names the entry.
        """
        call = "Placement.from_list"
        _arguments.instance(chip, ChipSpec, call=call, name="chip")
        if not isinstance(layers, Mapping):
            raise TypeError(
                f"{call}: layers must be a mapping from path to number of neurons; got {_arguments.describe(layers)}."
            )
        for layer, count in layers.items():
            _arguments.whole_number(count, call=call, name=f"layers[{layer!r}]")
        # The list may come from a file, so every fault in it raises a ValueError that names the entry.
        if not isinstance(items, (list, tuple)):
            raise ValueError(f"{call}: items must be a list of pieces; got {_arguments.describe(items)}.")
        pieces = [_read(item, f"{call}: piece {index}", layers) for index, item in enumerate(items)]
        _check(chip, pieces, call=call)
        for layer, count in layers.items():
            placed = sum(piece.count for piece in pieces if piece.layer == layer)
            if placed != count:
                got = f"layer {layer!r} has {count} neuron(s), but {placed} are placed"
                raise ValueError(f"{call}: {got}. Use the list that was made for this network.")
        return Placement(chip, tuple(pieces))


def place(net: brainstate.nn.Module) -> Placement:
    """Assign every neuron of a network to a position on the chip.

    A recurrent layer (``topology='RC'``) stays on one core. A feed-forward layer may be split over cores. The vendor
    documents both rules. brainhw assumes that the neurons that the frontend drives are the first neurons of core 0.

    The search is exact: it finds a placement if one exists. Among all placements it chooses one that splits the fewest
    feed-forward layers and, among these, one that uses the fewest cores. The cores in use are core 0 and the cores
    directly after it. A split layer fills the free neurons in the order of the cores. The search also avoids full cores
    between the parts of a split layer. For a placement on up to 5 cores, it tries every order in which these cores can
    be filled. For more cores, it tries only two orders. The same network always gets the same placement.

    If the current chip is measured (:func:`brainhw.silicon.put_chip`), there is no search: the network keeps the
    placement of that chip.

    Parameters
    ----------
    net : brainstate.nn.Module
        The network. One step of the network is traced to find the layer that the frontend drives. The network itself is
        not modified.

    Returns
    -------
    Placement
        The placement. ``print`` it for a table, or call ``plot()`` for a figure.

    Raises
    ------
    PlacementError
        If no placement exists. The message states the reason: the network has too many neurons, a recurrent layer is
        larger than a core, or the recurrent layers do not all fit on the chip. ``PlacementError`` is a subclass of
        ``ValueError``.
    TypeError
        If ``net`` is not a module.
    ValueError
        If ``net`` contains no module on a chip or modules of different chips, or if it is unclear which layer its
        frontend drives.
    RuntimeError
        If called inside ``jit``.

    Examples
    --------
    >>> import brainhw as bh, brainstate, brainunit as u
    >>> from brainhw.deploy.placement import place
    >>> net = brainstate.nn.Sequential(
    ...     bh.nn.H1v1Frontend(), bh.nn.H1v1Layer(16, tau=10 * u.ms),
    ...     bh.nn.H1v1Synapse(16, 60), bh.nn.H1v1Layer(60, tau=10 * u.ms, topology="RC"),
    ...     bh.nn.H1v1Synapse(60, 80), bh.nn.H1v1Layer(80, tau=20 * u.ms),
    ... )
    >>> print(place(net))
    156 of 256 neurons of H1v1, 3 of 4 cores; split over cores: layers.5
     core    its neurons  layer     kind      neurons of the layer
     ──────────────────────────────────────────────────────────────
        0           0-15  layers.1  frontend            0-15 of 16
        0          16-63  layers.5  FF                  0-47 of 80
        1           0-31  layers.5  FF                 48-79 of 80
        1  32 of 64 free  -         -                            -
        2           0-59  layers.3  RC                  0-59 of 60
        2   4 of 64 free  -         -                            -
        3  64 of 64 free  -         -                            -
    ASSUMED: the neurons of the frontend are the first of core 0 and count against it; their place is not published.
    """
    found = survey(net, call="place")
    chip = net_chip(net, call="place")
    assert chip is not None  # the survey rejects a network without a chip
    wired = {stage.synapse_path for stage in found.stages}
    for path in found.frontends:
        if path not in wired:
            why = found.failure or found.tangles.get(path, "the layer was not seen")
            raise ValueError(
                f"place: the traced step does not show which layer the frontend {path!r} drives ({why}), but this "
                "layer must be at the start of core 0. Pass the output of the frontend to one layer, unchanged."
            )
    return placement_of(found, call="place")


def placement_of(found: Survey, *, call: str) -> Placement:
    """Return the placement of the current chip if this chip is measured, otherwise the result of the search."""
    needs = needs_of(found)
    kept: dict[str, Any] = {path: getattr(layer, "physical", None) for path, layer in found.layers.items()}
    if all(physical is None for physical in kept.values()):
        return place_layers(found.chip, needs, call=call)
    missing = [path for path, physical in kept.items() if physical is None]
    if missing:
        raise ValueError(
            f"{call}: the layer {missing[0]!r} was added after the measured chip was put into the network, so the "
            "layer has no position on the chip. Call brainhw.silicon.put_chip again."
        )
    pieces = [piece for need in needs for piece in pieces_at(found.chip, need, kept[need.name])]
    return Placement(found.chip, tuple(pieces))


def pieces_at(chip: ChipSpec, need: Need, physical: np.ndarray) -> list[Piece]:
    """Return the pieces of the layer ``need``, whose neurons have the indices ``physical [N]`` on the chip."""
    ends = np.cumsum(chip.cores)
    cores = np.searchsorted(ends, physical, side="right")
    # A piece ends if the next neuron of the layer is on another core, or not at the next position of the same core.
    breaks = np.flatnonzero((np.diff(physical) != 1) | (np.diff(cores) != 0)) + 1
    found = []
    for part in np.split(np.arange(len(physical)), breaks):
        first, core = int(part[0]), int(cores[part[0]])
        offset = int(physical[first] - (ends[core] - chip.cores[core]))
        found.append(Piece(need.name, first, len(part), core, offset, need.kind))
    return found


def needs_of(found: Survey) -> list[Need]:
    """Return the number of neurons that each layer of a network needs, in registration order."""
    from_frontend = {stage.layer_path for stage in found.stages if stage.is_frontend}
    return [
        Need(path, found.n_neurons(path), recurrent=found.is_recurrent(path), frontend=path in from_frontend)
        for path in found.layers
    ]


def place_layers(chip: ChipSpec, needs: Sequence[Need], *, call: str = "place_layers") -> Placement:
    """Find a placement for layers given by their sizes, as :func:`place` does for a network."""
    if not isinstance(chip, ChipSpec):
        raise TypeError(f"{call}: chip must be a ChipSpec; got {_arguments.describe(chip)}.")
    checked: list[Need] = []
    for need in needs:
        if not isinstance(need, Need):
            raise TypeError(f"{call}: every element of needs must be a Need; got {_arguments.describe(need)}.")
        if any(need.name == other.name for other in checked):
            raise ValueError(f"{call}: two layers have the name {need.name!r}. Give the layers different names.")
        count = _arguments.positive_int(need.count, call=call, name=f"neurons of {need.name}")
        checked.append(replace(need, count=count))
    return Placement(chip, tuple(arrange(chip, checked, call=call)))


def _span(first: int, count: int) -> str:
    return f"{first}-{first + count - 1}" if count > 1 else f"{first}"


def _read(item: Any, call: str, layers: Mapping[str, int]) -> Piece:
    names = ("layer", "kind", "first", "count", "core", "offset")
    if not isinstance(item, Mapping) or set(item) != set(names):
        raise ValueError(f"{call} must have exactly the keys {', '.join(names)}; got {_arguments.describe(item)}.")
    _arguments.choice(item["layer"], layers, call=call, name="layer")
    try:
        return Piece(**item)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{call}: {str(error).removeprefix('Piece: ')}") from None


def _check(chip: ChipSpec, pieces: Iterable[Piece], *, call: str) -> None:
    """Raise ``ValueError`` unless the pieces fit on the chip, do not overlap, and form complete, allowed layers."""
    by_place = sorted(pieces, key=lambda piece: (piece.core, piece.offset))
    before: Piece | None = None
    for piece in by_place:
        what = f"neurons {_span(piece.first, piece.count)} of layer {piece.layer!r}"
        if piece.core >= len(chip.cores):
            raise ValueError(
                f"{call}: {what} are on core {piece.core}, but the last core of {chip.name} is {len(chip.cores) - 1}."
            )
        if piece.offset + piece.count > chip.cores[piece.core]:
            raise ValueError(
                f"{call}: {what} are at positions {_span(piece.offset, piece.count)} of core {piece.core}, but the "
                f"core has only {chip.cores[piece.core]} neurons."
            )
        if before is not None and before.core == piece.core and before.offset + before.count > piece.offset:
            raise ValueError(
                f"{call}: {what} overlap layer {before.layer!r} at position {piece.offset} of core {piece.core}."
            )
        before = piece
    by_layer: dict[str, list[Piece]] = {}
    for piece in sorted(by_place, key=lambda piece: piece.first):
        by_layer.setdefault(piece.layer, []).append(piece)
    for layer, parts in by_layer.items():
        _check_layer(layer, parts, call)


def _check_layer(layer: str, parts: list[Piece], call: str) -> None:
    following = 0
    for piece in parts:
        if piece.first != following:
            fault = "has no position" if piece.first > following else "has two positions"
            raise ValueError(f"{call}: neuron {min(piece.first, following)} of layer {layer!r} {fault}.")
        following += piece.count
    kinds = {piece.kind for piece in parts}
    if len(kinds) > 1:
        raise ValueError(f"{call}: all pieces of layer {layer!r} must be of one kind; got {', '.join(sorted(kinds))}.")
    if kinds == {RECURRENT} and len({piece.core for piece in parts}) > 1:
        raise ValueError(f"{call}: the recurrent layer {layer!r} is on several cores. Place it on one core.")
    if kinds == {FRONTEND} and [(piece.core, piece.offset) for piece in parts] != [(0, 0)]:
        raise ValueError(f"{call}: the frontend's layer {layer!r} must be one piece at the start of core 0.")
