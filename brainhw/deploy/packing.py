"""Bin packing of layers into cores by an exact search. If no packing exists, the error contains a proof."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

from brainhw import _arguments
from brainhw.chip import ChipSpec

__all__ = ["KINDS", "Need", "Piece", "PlacementError", "arrange", "pack"]

# Up to this number of cores, every order of cores (at most 120) is tried, to find an order in which no full core lies
# between the parts of a split layer.
_CORES_TO_PERMUTE = 5

FRONTEND, RECURRENT, FORWARD = KINDS = ("frontend", "RC", "FF")


@final
@dataclass(frozen=True)
class Need:
    """A layer that must be placed on the cores: its path ``name`` and its number of neurons ``count``.

    A recurrent layer must be on one core. The layer that the frontend drives must start at neuron 0 of core 0.
    """

    name: str
    count: int
    recurrent: bool = False
    frontend: bool = False

    @property
    def kind(self) -> str:
        """Kind of the layer. It is ``'frontend'`` if the frontend drives the layer, even if the layer is recurrent."""
        return FRONTEND if self.frontend else RECURRENT if self.recurrent else FORWARD


@final
@dataclass(frozen=True)
class Piece:
    """Consecutive neurons of one layer on one core.

    Attributes
    ----------
    layer : str
        Path of the layer.
    first, count : int
        Index of the first neuron of this piece within the layer, counted from 0, and number of neurons of the piece.
    core : int
        The core, counted from 0.
    offset : int
        Position of neuron ``first`` on the core, counted from 0.
    kind : {'frontend', 'RC', 'FF'}
        ``'frontend'`` if the frontend drives the layer, otherwise the layer's topology.
    """

    layer: str
    first: int
    count: int
    core: int
    offset: int
    kind: str = FORWARD

    def __post_init__(self) -> None:
        # Convert to Python ints, because JSON cannot write NumPy ints.
        for name in ("first", "count", "core", "offset"):
            check = _arguments.positive_int if name == "count" else _arguments.whole_number
            object.__setattr__(self, name, check(getattr(self, name), call="Piece", name=name))
        _arguments.choice(self.kind, KINDS, call="Piece", name="kind")
        _arguments.text(self.layer, call="Piece", name="layer")


class PlacementError(ValueError):
    """Raised if the layers cannot be placed on the cores; the message proves that no placement exists.

    Attributes
    ----------
    call : str
        Name of the function that raised the error.
    reason : str
        The proof, as a clause without a full stop.
    fix : str
        A change of the network that can make a placement possible.
    layers : tuple of str
        Paths of the layers that the proof names.
    """

    def __init__(self, call: str, reason: str, fix: str, layers: tuple[str, ...]) -> None:
        for name, value in (("call", call), ("reason", reason), ("fix", fix)):
            _arguments.text(value, call="PlacementError", name=name)
        layers = tuple(
            _arguments.text(one, call="PlacementError", name="layers")
            for one in _arguments.several(layers, call="PlacementError", name="layers", of="paths")
        )
        super().__init__(call, reason, fix, layers)
        self.call, self.reason, self.fix, self.layers = call, reason, fix, layers

    def __str__(self) -> str:
        return f"{self.call}: {self.reason}; {self.fix}."


def pack(sizes: Sequence[int], capacities: Sequence[int], order: Iterable[int] | None = None) -> tuple[int, ...] | None:
    """Solve a bin-packing problem. Return the bin of each item, or ``None`` if the items do not fit into the bins.

    An item is a layer that must be on one core, and its size is its number of neurons. A bin is a core, and its
    capacity is its number of free neurons. The search is depth-first and exhaustive. It fills the bins in the given
    ``order``.
    """
    order = tuple(range(len(capacities)) if order is None else order)
    # Items of equal size are interchangeable, so the search counts them instead of permuting them.
    kinds = sorted(set(sizes), reverse=True)
    # If the remaining items do not fit into the later bins, it does not matter how the earlier bins are filled. So the
    # search stores each failure and does not repeat it.
    failed: set[tuple[int, tuple[int, ...]]] = set()

    def fill(depth: int, counts: tuple[int, ...], spare: int) -> list[tuple[int, ...]] | None:
        """Return how many items of each size to put into each bin from ``order[depth]`` on.

        Return ``None`` if the items do not fit.
        """
        if not any(counts):
            return []
        if depth == len(order) or (depth, counts) in failed:
            return None
        capacity = capacities[order[depth]]
        # If all remaining bins have equal capacity, they are interchangeable. Putting the largest item into the first
        # of them then skips equivalent arrangements.
        alike = all(capacities[other] == capacity for other in order[depth:])
        for taken in _fillings(kinds, counts, capacity, spare, with_largest=alike):
            held = sum(map(operator.mul, kinds, taken))
            rest = fill(depth + 1, tuple(map(operator.sub, counts, taken)), spare - (capacity - held))
            if rest is not None:
                return [taken, *rest]
        failed.add((depth, counts))
        return None

    spare = sum(capacities) - sum(sizes)
    fillings = fill(0, tuple(sizes.count(kind) for kind in kinds), spare) if spare >= 0 else None
    if fillings is None:
        return None
    bins_of: dict[int, list[int]] = {kind: [] for kind in kinds}
    for i, taken in zip(order, fillings, strict=False):  # fillings is shorter than order if the last bins are empty
        for kind, count in zip(kinds, taken, strict=True):
            bins_of[kind] += [i] * count
    return tuple(bins_of[size].pop(0) for size in sizes)


def _fillings(
    kinds: Sequence[int], counts: Sequence[int], capacity: int, spare: int, *, with_largest: bool
) -> Iterator[tuple[int, ...]]:
    """Yield fillings of a bin that leave at most ``spare`` neurons free, with the largest items first.

    A filling is skipped if one more item would fit. Adding this item never makes it harder to place the remaining
    items.
    """
    # Bit n of reach[i] is set if some items of kinds[i:] have the total size n.
    reach = [1]
    for kind, count in zip(reversed(kinds), reversed(counts), strict=True):
        sums = reach[-1]
        for _ in range(count):
            sums |= (sums << kind) & ((2 << capacity) - 1)
        reach.append(sums)
    reach.reverse()
    largest = next(i for i, count in enumerate(counts) if count)

    def extended(taken: tuple[int, ...], left: int) -> Iterator[tuple[int, ...]]:
        i = len(taken)
        # Bits left - spare to left stand for the total sizes that leave at most `spare` neurons free.
        if not reach[i] & ((2 << left) - 1) >> max(left - spare, 0):
            return
        if i == len(kinds):
            if all(n == count or kind > left for kind, n, count in zip(kinds, taken, counts, strict=True)):
                yield taken
            return
        fewest = 1 if with_largest and i == largest else 0
        for n in range(min(counts[i], left // kinds[i]), fewest - 1, -1):
            yield from extended((*taken, n), left - n * kinds[i])

    yield from extended((), capacity)


def arrange(chip: ChipSpec, needs: Sequence[Need], *, call: str) -> list[Piece]:
    """Return the pieces of a placement with the fewest split layers, ordered by core.

    A split layer fits into any free neurons, so only the layers that are not split have to be packed. A smaller layer
    fits wherever a larger one fits. So if ``k`` feed-forward layers are not split, the ``k`` smallest ones are the best
    choice. The search tries each ``k``, from the largest down, until these layers can be packed.
    """
    total = sum(need.count for need in needs)
    of_kind: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for i, need in enumerate(needs):
        of_kind[need.kind].append(i)
    frontends, recurrent, forward = (of_kind[kind] for kind in KINDS)
    _check_simple_limits(chip, needs, total, [needs[i] for i in frontends], call)
    capacities = list(chip.cores)
    for i in frontends:
        capacities[0] -= needs[i].count
    if pack([needs[i].count for i in recurrent], capacities) is None:
        raise _packing_error(chip, [needs[i] for i in recurrent], capacities, call)
    forward.sort(key=lambda i: needs[i].count)
    for n_whole in range(len(forward), -1, -1):
        whole = recurrent + forward[:n_whole]
        sizes = [needs[i].count for i in whole]
        if pack(sizes, capacities) is not None:
            break
    # Use as few cores as possible, because every core in use costs static power.
    first_cores = range(1, len(capacities) + 1)
    used = next(n for n in first_cores if total <= sum(chip.cores[:n]) and pack(sizes, capacities[:n]) is not None)
    split = [(i, needs[i].count) for i in sorted(forward[n_whole:])]
    cores = _fewest_gaps(split, list(zip(whole, sizes, strict=True)), capacities[:used])
    pieces = []
    for core, held in enumerate(cores):
        at_head = [(i, 0, needs[i].count) for i in frontends if core == 0]
        offset = 0
        for i, first, count in at_head + sorted(held):
            pieces.append(Piece(needs[i].name, first, count, core, offset, needs[i].kind))
            offset += count
    return pieces


# For each core, a list of (layer index, first neuron in this core, number of neurons).
_Cores = list[list[tuple[int, int, int]]]


def _fewest_gaps(split: list[tuple[int, int]], whole: list[tuple[int, int]], capacities: list[int]) -> _Cores:
    """Return the layers on each core, with as few full cores as possible between two parts of the same layer."""
    forwards = range(len(capacities))
    # If layers that are not split are on the last cores, a split layer gets consecutive cores at the start.
    orders: Iterable[Iterable[int]] = (forwards[::-1], forwards)
    if not split:
        orders = (forwards,)
    elif len(capacities) <= _CORES_TO_PERMUTE:
        orders = itertools.permutations(forwards[::-1])
    best: _Cores = []
    fewest = None
    for order in orders:
        homes = pack([size for _, size in whole], capacities, order)
        assert homes is not None
        cores: _Cores = [[] for _ in capacities]
        for (i, size), core in zip(whole, homes, strict=True):
            cores[core].append((i, 0, size))
        gaps = _add_split(split, cores, capacities)
        if fewest is None or gaps < fewest:
            best, fewest = cores, gaps
        if not fewest:
            break
    return best


def _add_split(split: list[tuple[int, int]], cores: _Cores, capacities: list[int]) -> int:
    """Fill the free neurons with the split layers, core by core.

    Return the number of full cores that lie between two parts of the same layer.
    """
    left = [capacity - sum(count for _, _, count in held) for capacity, held in zip(capacities, cores, strict=True)]
    gaps = 0
    for i, size in split:
        first, last_core = 0, None
        for core in range(len(capacities)):
            count = min(left[core], size - first)
            if not count:
                continue
            gaps += 0 if last_core is None else core - last_core - 1
            cores[core].append((i, first, count))
            left[core] -= count
            first, last_core = first + count, core
    return gaps


def _check_simple_limits(chip: ChipSpec, needs: Sequence[Need], total: int, frontends: list[Need], call: str) -> None:
    if total > chip.n_neurons:
        raise PlacementError(
            call,
            f"the layers have {total} neurons in total, {total - chip.n_neurons} more than {chip.name} has "
            f"({' + '.join(map(str, chip.cores))} = {chip.n_neurons})",
            "make layers smaller",
            tuple(need.name for need in needs),
        )
    if len(frontends) > 1:
        raise PlacementError(
            call,
            f"{len(frontends)} layers are driven by a frontend ({_listed(f'{need.name!r}' for need in frontends)}), "
            "but the chip has only one",
            "feed all but one of them through a synapse",
            tuple(need.name for need in frontends),
        )
    for need in frontends:
        if need.count > chip.cores[0]:
            raise PlacementError(
                call,
                f"brainhw assumes that all {need.count} neurons of the frontend's layer {need.name!r} must be on core "
                f"0, but core 0 of {chip.name} has only {chip.cores[0]}",
                "use a chip with a larger first core",
                (need.name,),
            )


def _packing_error(chip: ChipSpec, recurrent: list[Need], capacities: list[int], call: str) -> PlacementError:
    """Return the error for a minimal set of layers that cannot be packed."""
    # Remove small layers first, so that the minimal set consists of large layers. Making a large layer smaller helps
    # more.
    minimal = sorted(recurrent, key=lambda need: -need.count)
    for need in minimal[::-1]:
        without = [other for other in minimal if other is not need]
        if pack([other.count for other in without], capacities) is None:
            minimal = without
    names = tuple(need.name for need in minimal)
    if len(minimal) == 1:
        fix = "make it smaller, or feed-forward (topology='FF'), which may be split"
        return PlacementError(call, _too_large(chip, minimal[0], capacities), fix, names)
    fix = "make some of them smaller, or feed-forward (topology='FF'), which may be split"
    layers = _listed(f"{need.name!r} ({need.count})" for need in minimal)
    # If the n smallest layers are too large for a core, no n layers fit on it. These upper bounds are the proof if
    # their sum is less than the number of layers. Otherwise the message contains an example.
    ascending = list(itertools.accumulate(sorted(need.count for need in minimal)))
    takes = [sum(size <= capacity for size in ascending) for capacity in capacities]
    why = (
        _text_of_capacity(chip, capacities, takes)
        if sum(takes) < len(minimal)
        else _text_of_example(minimal, capacities)
    )
    reason = f"the recurrent layers {layers} must each be on one core, but they do not all fit: {why}"
    return PlacementError(call, reason, fix, names)


def _too_large(chip: ChipSpec, need: Need, capacities: list[int]) -> str:
    start = f"the recurrent layer {need.name!r} has {need.count} neurons, which must be on one core, but "
    if need.count > max(chip.cores):
        return f"{start}the largest core of {chip.name} has {max(chip.cores)}"
    # A second core exists here: on a chip with a single core, the total of all layers would exceed the chip, which is
    # checked earlier.
    beside = f"has {capacities[0]} beside the frontend's {chip.cores[0] - capacities[0]}"
    return f"{start}core 0 of {chip.name} {beside} and the other cores at most {max(capacities[1:])}"


def _text_of_capacity(chip: ChipSpec, capacities: list[int], takes: list[int]) -> str:
    """Return text that states how many of the recurrent layers fit on each core. Equal cores are listed together."""
    alike: dict[tuple[int, int, bool], list[int]] = {}
    for core, (capacity, most) in enumerate(zip(capacities, takes, strict=True)):
        alike.setdefault((capacity, most, capacity < chip.cores[core]), []).append(core)
    parts = []
    for (capacity, most, shared), cores in alike.items():
        several, number = len(cores) > 1, most or "none"
        beside = f" beside the frontend's {chip.cores[0] - capacity}" if shared else ""
        parts.append(
            f"core{'s' * several} {_listed(map(str, cores))} ({capacity} neurons{' each' * several}{beside}) "
            f"{'have' if several else 'has'} room for {number} of them{' each' * (several and most > 0)}"
        )
    return _listed(parts)


def _text_of_example(minimal: list[Need], capacities: list[int]) -> str:
    """Return text that describes, as an example, an arrangement of the layers in which one layer does not fit."""
    *others, last = minimal
    homes = pack([need.count for need in others], capacities)
    assert homes is not None  # the set is minimal, so it fits without any one of its layers
    held: list[list[Need]] = [[] for _ in capacities]
    for need, core in zip(others, homes, strict=True):
        held[core].append(need)
    parts = []
    for core, (layers, capacity) in enumerate(zip(held, capacities, strict=True)):
        left = capacity - sum(need.count for need in layers)
        holds = f" with {_listed(repr(need.name) for need in layers)}" if layers else ""
        parts.append(f"core {core}{holds} has {left} neurons left")
    return f"in every arrangement, one layer does not fit, for example: {_listed(parts)}, too few for {last.name!r}"


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
