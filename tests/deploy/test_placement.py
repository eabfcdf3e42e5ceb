"""Placement on the cores: exact, of every neuron once, with the fewest splits, and words where there is none."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Sequence

import brainstate
import brainunit as u
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainhw as bh
from brainhw.chip import H1V1, H1V2, ChipSpec
from brainhw.deploy.packing import pack
from brainhw.deploy.placement import Need, Piece, Placement, PlacementError, place, place_layers

often = settings(derandomize=True, deadline=None, max_examples=150)

layer_sizes = st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["RC", "FF"])), min_size=1, max_size=6)
small_cores = st.lists(st.integers(2, 6), min_size=1, max_size=4)


def needs_from(sizes: Sequence[tuple[int, str]], ears: int = 0) -> list[Need]:
    needs = [Need("ears", ears, frontend=True)] if ears else []
    return needs + [Need(f"layer{i}", count, recurrent=kind == "RC") for i, (count, kind) in enumerate(sizes)]


def small_chip(cores: Sequence[int]) -> ChipSpec:
    return H1V2.replace(cores=tuple(cores))


def can_be_whole(cores: Sequence[int], needs: Sequence[Need], whole: Sequence[Need]) -> bool:
    """Try every core for every layer that shall be whole; the others may be cut as finely as one likes."""
    room = list(cores)
    room[0] -= sum(need.count for need in needs if need.frontend)
    if min(room) < 0 or sum(need.count for need in needs) > sum(cores):
        return False
    for homes in itertools.product(range(len(cores)), repeat=len(whole)):
        left = list(room)
        for need, core in zip(whole, homes, strict=True):
            left[core] -= need.count
        if min(left) >= 0:
            return True
    return False


def fewest_splits(cores: Sequence[int], needs: Sequence[Need]) -> int | None:
    """Try every set of feed-forward layers for those that are split, small sets first."""
    free = [need for need in needs if not need.frontend]
    forward = [need for need in free if not need.recurrent]
    for n_split in range(len(forward) + 1):
        for cut in itertools.combinations(forward, n_split):
            if can_be_whole(cores, needs, [need for need in free if need not in cut]):
                return n_split
    return None


def check_placement(placement: Placement, needs: Sequence[Need]) -> None:
    """Count neuron by neuron, without what the placement says of itself."""
    on_chip, of_layers = [], []
    for piece in placement.pieces:
        for k in range(piece.count):
            on_chip.append((piece.core, piece.offset + k))
            of_layers.append((piece.layer, piece.first + k))
    assert len(set(on_chip)) == len(on_chip)
    assert all(neuron < placement.chip.cores[core] for core, neuron in on_chip)
    assert sorted(of_layers) == sorted((need.name, k) for need in needs for k in range(need.count))
    for need in needs:
        places = [(p.core, p.offset) for p in placement.pieces if p.layer == need.name]
        if need.recurrent or need.frontend:
            assert len(places) == 1
        if need.frontend:
            assert places == [(0, 0)]
        # Pieces of one layer that lie side by side are one piece.
        assert len({core for core, _ in places}) == len(places)


@often
@given(cores=small_cores, sizes=layer_sizes, ears=st.integers(0, 3))
def test_a_placement_is_found_where_there_is_one_with_the_fewest_splits(
    cores: list[int], sizes: list[tuple[int, str]], ears: int
) -> None:
    needs, chip = needs_from(sizes, ears), small_chip(cores)
    wanted = fewest_splits(cores, needs)
    if wanted is None:
        with pytest.raises(PlacementError):
            place_layers(chip, needs)
        return
    placement = place_layers(chip, needs)
    check_placement(placement, needs)
    assert len(placement.split) == wanted
    assert placement == place_layers(chip, needs)
    # No fewer of the first cores would do.
    n = placement.cores_used[-1]
    assert n == 0 or fewest_splits(cores[:n], needs) not in range(wanted + 1)


@often
@given(sizes=st.lists(st.integers(1, 9), max_size=7), rooms=st.lists(st.integers(0, 16), max_size=4), data=st.data())
def test_packing_agrees_with_trying_every_room_for_every_item(
    sizes: list[int], rooms: list[int], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(rooms))))
    every = itertools.product(range(len(rooms)), repeat=len(sizes))
    held = lambda homes: [sum(s for s, home in zip(sizes, homes, strict=True) if home == r) for r in range(len(rooms))]  # noqa: E731
    fits = lambda homes: all(h <= room for h, room in zip(held(homes), rooms, strict=True))  # noqa: E731
    found = pack(sizes, rooms, order)
    assert (found is not None) == any(fits(homes) for homes in every)
    assert found is None or fits(found)


@often
@given(cores=small_cores, sizes=layer_sizes, ears=st.integers(0, 3))
def test_the_layers_that_the_proof_names_suffice_and_none_is_idle(
    cores: list[int], sizes: list[tuple[int, str]], ears: int
) -> None:
    needs = needs_from(sizes, ears)
    try:
        place_layers(small_chip(cores), needs)
    except PlacementError as error:
        guilty = [need for need in needs if need.name in error.layers and not need.frontend]
        always = [need for need in needs if need.frontend]
        assert fewest_splits(cores, always + guilty) is None
        if error.reason.startswith("the recurrent layers"):
            for idle in guilty:
                assert can_be_whole(cores, always, [need for need in guilty if need is not idle])


def test_a_chip_may_be_filled_to_its_last_neuron() -> None:
    for chip, sizes in (
        (H1V1, [(64, "RC"), (64, "RC"), (48, "RC"), (64, "RC")]),
        (H1V1, [(180, "FF"), (60, "FF")]),
        (H1V2, [(50, "RC"), (100, "RC"), (34, "FF")]),
        (H1V2, [(30, "RC"), (40, "FF"), (60, "RC"), (54, "FF")]),
    ):
        needs = needs_from(sizes, 16)
        placement = place_layers(chip, needs)
        check_placement(placement, needs)
        assert placement.free == (0,) * len(chip.cores)
        with pytest.raises(PlacementError, match=rf"have {chip.n_neurons + 1} neurons in total, 1 more than"):
            place_layers(chip, [*needs, Need("one more", 1)])


def test_the_two_examples_of_the_chips() -> None:
    placement = place_layers(H1V1, needs_from([(180, "FF"), (50, "FF")], 16))
    assert [(p.layer, p.first, p.count, p.core, p.offset) for p in placement.pieces] == [
        ("ears", 0, 16, 0, 0),
        ("layer0", 0, 48, 0, 16),
        ("layer0", 48, 64, 1, 0),
        ("layer0", 112, 64, 2, 0),
        ("layer0", 176, 4, 3, 0),
        ("layer1", 0, 50, 3, 4),
    ]
    assert [p.kind for p in placement.pieces] == ["frontend", "FF", "FF", "FF", "FF", "FF"]
    assert (placement.free, placement.cores_used, placement.split) == ((0, 0, 0, 10), (0, 1, 2, 3), ("layer0",))
    np.testing.assert_array_equal(placement.core_of("layer0"), [0] * 48 + [1] * 64 + [2] * 64 + [3] * 4)
    assert placement.core_of("ears").dtype.kind == "i"
    with pytest.raises(
        ValueError, match=r"Placement.core_of: layer must be one of 'ears', 'layer0', 'layer1'; got 'x'"
    ):
        placement.core_of("x")
    placement = place_layers(H1V2, needs_from([(150, "FF"), (30, "FF")], 16))
    assert (placement.free, placement.split) == ((0, 0, 4), ("layer0",))


def test_cores_are_filled_in_order_and_a_split_layer_jumps_over_none() -> None:
    assert place_layers(H1V1, needs_from([(30, "FF"), (30, "RC")])).cores_used == (0,)
    assert place_layers(H1V1, []).cores_used == ()
    beside = place_layers(H1V1, needs_from([(64, "RC"), (100, "FF")], 16))
    assert beside.free == (0, 12, 0, 64)
    assert set(beside.core_of("layer1")) == {0, 1}
    # The largest core must take one recurrent layer, core 1 the other: what is left lies on both sides of it.
    apart = place_layers(H1V2, needs_from([(50, "RC"), (90, "RC"), (40, "FF")], 16))
    assert [set(apart.core_of(f"layer{i}")) for i in range(3)] == [{1}, {2}, {0, 2}]


def test_many_layers_are_placed_as_exactly_as_few() -> None:
    needs = needs_from([(count, "RC") for count in (3, 5, 7, 9, 11)] * 7, 16)
    assert sum(need.count for need in needs) == 261
    needs = needs[:1] + needs[2:]
    needs[-1] = Need(needs[-1].name, 9, recurrent=True)
    assert sum(need.count for need in needs) == H1V1.n_neurons
    check_placement(place_layers(H1V1, needs), needs)
    sixes = needs_from([(6, "RC")] * 40)
    check_placement(place_layers(H1V1, sixes), sixes)
    with pytest.raises(PlacementError, match=r"cores 0, 1, 2 and 3 \(64 neurons each\) have room for 10 of them each"):
        place_layers(H1V1, needs_from([(6, "RC")] * 41))


@pytest.mark.parametrize(
    ("chip", "sizes", "ears", "words"),
    [
        (
            H1V1,
            [(200, "FF"), (70, "RC")],
            0,
            "the layers have 270 neurons in total, 14 more than H1v1 has (64 + 64 + 64 + 64 = 256); make layers",
        ),
        (
            H1V1,
            [(70, "RC")],
            0,
            "'layer0' has 70 neurons, which must be on one core, but the largest core of H1v1 has 64",
        ),
        (
            H1V2.replace(cores=(100, 50)),
            [(90, "RC")],
            16,
            "core 0 of H1v2 has 84 beside the frontend's 16 and the other cores at most 50; make it smaller",
        ),
        (
            H1V2.replace(cores=(9, 80)),
            [],
            16,
            "brainhw assumes that all 16 neurons of the frontend's layer 'ears' must be on core 0, but core 0 of",
        ),
        (
            H1V2,
            [(40, "RC"), (3, "RC"), (40, "RC"), (40, "RC"), (40, "RC")],
            16,
            "the recurrent layers 'layer0' (40), 'layer2' (40), 'layer3' (40) and 'layer4' (40) must each be on one "
            "core, but they do not all fit: core 0 (34 neurons beside the frontend's 16) has room for "
            "none of them, core 1 (50 neurons) has room for 1 of them and core 2 (100 neurons) has room for 2 of them; "
            "make some of them smaller, or feed-forward (topology='FF'), which may be split.",
        ),
        (
            H1V2,
            [(60, "RC"), (45, "RC"), (45, "RC"), (45, "RC")],
            0,
            "in every arrangement, one layer does not fit, for example: core 0 with 'layer1' has 5 neurons left, core "
            "1 with 'layer2' has 5 neurons left and core 2 with 'layer0' has 40 neurons left, too few for 'layer3'",
        ),
    ],
)
def test_the_error_proves_in_words_why_there_is_no_place(
    chip: ChipSpec, sizes: list[tuple[int, str]], ears: int, words: str
) -> None:
    with pytest.raises(PlacementError) as caught:
        place_layers(chip, needs_from(sizes, ears), call="my call")
    assert words in str(caught.value)
    assert str(caught.value) == f"my call: {caught.value.reason}; {caught.value.fix}."
    assert isinstance(caught.value, ValueError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_chip_has_one_frontend() -> None:
    with pytest.raises(
        PlacementError, match=r"2 layers are driven by a frontend \('a' and 'b'\), but the chip has only one"
    ):
        place_layers(H1V1, [Need("a", 16, frontend=True), Need("b", 16, frontend=True)])


def test_bad_needs_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"place_layers: two layers have the name 'a'. Give the layers different names"
    ):
        place_layers(H1V1, [Need("a", 1), Need("a", 2)])
    with pytest.raises(ValueError, match=r"place_layers: neurons of a must be at least 1; got 0"):
        place_layers(H1V1, [Need("a", 0)])
    with pytest.raises(TypeError, match=r"every element of needs must be a Need; got tuple \('a', 3\)"):
        place_layers(H1V1, [("a", 3)])
    with pytest.raises(TypeError, match="chip must be a ChipSpec; got 'h1v1'"):
        place_layers("h1v1", [Need("a", 1)])


@pytest.fixture(scope="module")
def deep_net() -> brainstate.nn.Module:
    return brainstate.nn.Sequential(
        bh.nn.H1v1Frontend(),
        bh.nn.H1v1Layer(16, tau=10 * u.ms, topology="RC"),
        bh.nn.H1v1Synapse(16, 60),
        bh.nn.H1v1Layer(60, tau=10 * u.ms, topology="RC"),
        bh.nn.H1v1Synapse(60, 80),
        bh.nn.H1v1Layer(80, tau=10 * u.ms),
    )


def test_a_net_is_placed_by_its_layers_and_stays_as_it_was(deep_net: brainstate.nn.Module) -> None:
    before = {path: np.array(u.get_mantissa(state.value)) for path, state in deep_net.states().items()}
    placement = place(deep_net)
    after = deep_net.states()
    assert set(after) == set(before)
    for path, value in before.items():
        np.testing.assert_array_equal(u.get_mantissa(after[path].value), value)
    assert placement.chip == H1V1
    assert list(placement.layers.values()) == [16, 80, 60]
    assert [(p.kind, p.count, p.core) for p in placement.pieces] == [
        ("frontend", 16, 0),
        ("FF", 48, 0),
        ("FF", 32, 1),
        ("RC", 60, 2),
    ]
    paths = [path for path, module in deep_net.nodes(bh.nn.H1Layer).items()]
    assert set(placement.layers) == {".".join(map(str, path)) for path in paths}


def test_a_net_that_cannot_be_placed_or_judged_is_refused(deep_net: brainstate.nn.Module) -> None:
    layer = bh.nn.H1v1Layer
    with pytest.raises(PlacementError, match=r"place: the layers have 300 neurons in total, 44 more than H1v1 has"):
        place(brainstate.nn.Sequential(bh.nn.H1v1Synapse(2, 300), layer(300, tau=10 * u.ms)))
    with pytest.raises(ValueError, match="place: the network has no module on a chip"):
        place(bh.nn.LIFSynapse(2, 2))
    with pytest.raises(TypeError, match="place"):
        place("net")
    with pytest.raises(ValueError, match="place: one network runs on one chip, but families are mixed"):
        place(brainstate.nn.Sequential(bh.nn.H1v2Synapse(2, 3), layer(3, tau=10 * u.ms)))
    lost = brainstate.nn.Sequential(bh.nn.H1v1Frontend(), lambda charge: charge * 2, layer(16, tau=10 * u.ms))
    with pytest.raises(ValueError, match=r"place: the traced step does not show which layer the frontend '.*' drives"):
        place(lost)
    assert place(bh.nn.H1v1Synapse(2, 3)).pieces == ()


def test_the_table_shows_every_piece_and_what_is_assumed() -> None:
    placement = place_layers(
        H1V2, [Need("ears", 16, frontend=True), Need("[b]a[/b]", 90, recurrent=True), Need("o", 60)]
    )
    text = placement.table()
    assert str(placement) == text
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("166 of 200 neurons of H1v2, 3 of 3 cores; split over cores: o\n")
    assert ["0", "0-15", "ears", "frontend", "0-15", "of", "16"] in lines
    assert ["0", "16-49", "o", "FF", "0-33", "of", "60"] in lines
    assert ["1", "0-25", "o", "FF", "34-59", "of", "60"] in lines
    assert ["1", "24", "of", "50", "free", "-", "-", "-"] in lines
    assert ["2", "0-89", "[b]a[/b]", "RC", "0-89", "of", "90"] in lines
    assert text.splitlines()[-1].startswith("ASSUMED: the neurons of the frontend are the first of core 0")
    assert "ASSUMED" not in place_layers(H1V2, [Need("o", 1)]).table()


@often
@given(cores=small_cores, sizes=layer_sizes, ears=st.integers(0, 3))
def test_a_list_of_plain_values_gives_the_same_placement_back(
    cores: list[int], sizes: list[tuple[int, str]], ears: int
) -> None:
    needs, chip = needs_from(sizes, ears), small_chip(cores)
    try:
        placement = place_layers(chip, needs)
    except PlacementError:
        return
    items = placement.to_list()
    assert {type(value) for item in items for value in item.values()} == {int, str}
    layers = {need.name: need.count for need in needs}
    assert Placement.from_list(chip, items[::-1], layers) == placement
    assert placement.layers == {name: layers[name] for name in placement.layers}
    assert hash(placement) == hash(Placement(chip, placement.pieces[::-1]))


SIZES = {"ears": 2, "loop": 3, "out": 5}


def changed(index: int, **values: object) -> Callable[[list[dict]], object]:
    def change(items: list[dict]) -> list[dict]:
        items[index].update(values)
        return items

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda items: {"pieces": items}, "items must be a list of pieces; got dict"),
        (lambda items: None, "items must be a list of pieces; got None"),
        (
            lambda items: [*items, 3],
            "piece 4 must have exactly the keys layer, kind, first, count, core, offset; got 3",
        ),
        (
            lambda items: [{**items[0], "note": ""}],
            "piece 0 must have exactly the keys layer, kind, first, count, core, offset",
        ),
        (
            lambda items: [*items[:2], dict(items[2], count=2), items[3]],
            "layer 'out' has 5 neuron(s), but 4 are placed. Use the list that was made for this network",
        ),
        (lambda items: items[:1] + items[2:], "neuron 0 of layer 'out' has no position"),
        (lambda items: [], "layer 'ears' has 2 neuron(s), but 0 are placed"),
        (
            lambda items: [*items, dict(items[0], core=1, offset=3, count=1)],
            "neuron 0 of layer 'ears' has two positions",
        ),
        (changed(0, layer="else"), "piece 0: layer must be one of 'ears', 'loop', 'out'; got 'else'"),
        (changed(0, layer=["ears"]), "piece 0: layer must be one of 'ears', 'loop', 'out'; got list"),
        (changed(1, first=True), "piece 1: first must be at least 0; got True"),
        (changed(1, count=True), "piece 1: count must be at least 1; got True"),
        (changed(1, count=0), "piece 1: count must be at least 1; got 0"),
        (changed(1, core=1.0), "piece 1: core must be an integer; got 1.0"),
        (changed(1, core="1"), "piece 1: core must be an integer; got '1'"),
        (changed(1, offset=-1), "piece 1: offset must be at least 0; got -1"),
        (changed(1, offset=None), "piece 1: offset must be an integer; got None"),
        (changed(1, kind="recurrent"), "piece 1: kind must be one of 'frontend', 'RC', 'FF'; got 'recurrent'"),
        (changed(3, core=3), "neurons 0-2 of layer 'loop' are on core 3, but the last core of H1v2 is 2"),
        (changed(3, count=10**30), "of core 2, but the core has only 4 neurons"),
        (changed(2, offset=3), "are at positions 3-5 of core 1, but the core has only 4 neurons"),
        (changed(1, offset=1), "neurons 0-1 of layer 'out' overlap layer 'ears' at position 1 of core 0"),
        (changed(2, kind="RC"), "layer 'out' must be of one kind; got FF, RC"),
        (changed(3, kind="frontend"), "the frontend's layer 'loop' must be one piece at the start of core 0"),
        (lambda items: [dict(item, kind="RC") for item in items], "the recurrent layer 'out' is on several cores"),
    ],
)
def test_a_list_from_elsewhere_is_trusted_in_nothing(change: Callable[[list[dict]], object], words: str) -> None:
    chip = H1V2.replace(cores=(4, 4, 4))
    items = [
        {"layer": "ears", "first": 0, "count": 2, "core": 0, "offset": 0, "kind": "frontend"},
        {"layer": "out", "first": 0, "count": 2, "core": 0, "offset": 2, "kind": "FF"},
        {"layer": "out", "first": 2, "count": 3, "core": 1, "offset": 0, "kind": "FF"},
        {"layer": "loop", "first": 0, "count": 3, "core": 2, "offset": 0, "kind": "RC"},
    ]
    with pytest.raises(ValueError, match=r"^Placement\.from_list: ") as caught:
        Placement.from_list(chip, change(items), SIZES)
    assert words in str(caught.value)


def test_a_placement_cannot_be_built_wrong() -> None:
    with pytest.raises(TypeError, match="Placement: chip must be a ChipSpec; got 3"):
        Placement(3, ())
    with pytest.raises(TypeError, match="Placement: every element of pieces must be a Piece; got 3"):
        Placement(H1V1, (3,))
    with pytest.raises(ValueError, match="Placement: neuron 0 of layer 'a' has no position"):
        Placement(H1V1, (Piece("a", 1, 2, 0, 0),))
    with pytest.raises(ValueError, match="Placement: the frontend's layer 'b' must be one piece at the start"):
        Placement(H1V1, (Piece("a", 0, 2, 0, 0, "frontend"), Piece("b", 0, 2, 0, 2, "frontend")))
