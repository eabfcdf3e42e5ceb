"""A thousand damaged and forged bundles: each is refused, or means exactly what it says."""

from __future__ import annotations

import copy
import hashlib
import json
import pathlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import brainstate
import brainunit as u
import numpy as np
import pytest

import brainhw as bh
from brainhw._plain_json import text_of
from brainhw.chip.file import chip_from_text
from brainhw.deploy.bundle import BundleError, export_bundle, load_bundle

CASES = {"flip": 250, "cut": 150, "header": 60, "exchange": 120, "add": 70, "reseal": 100, "forge": 250}


@pytest.fixture(scope="module", params=["nominal", "measured"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small bundle with a frontend, a recurrent layer and two layers of one shape."""
    rng = np.random.default_rng(5)
    weights = lambda *shape: rng.uniform(0, 0.9, shape)  # noqa: E731
    net = brainstate.nn.Sequential(
        bh.nn.H1v1Frontend(weight_init=weights(16), weight_bits="chip"),
        bh.nn.H1v1Layer(16, tau=5 * u.ms),
        bh.nn.H1v1Synapse(16, 4, weight_init=weights(16, 4), weight_bits="chip"),
        bh.nn.H1v1Layer(4, tau=[5, 10, 20, 5] * u.ms, topology="RC", recurrent_init=weights(4, 4), weight_bits="chip"),
        bh.nn.H1v1Synapse(4, 4, weight_init=weights(4, 4), weight_bits="chip"),
        bh.nn.H1v1Layer(4, tau=50 * u.ms),
    )
    if request.param == "measured":
        tau = np.outer([1, 2, 5, 10, 20, 50, 100, 200], rng.uniform(0.7, 1.4, 256))
        tau[:, ::3] = np.nan
        chip = bh.chip.H1V1.replace(noise_std=1.5 * u.mV, weight_lowest=-0.85, provenance="measured")
        measured = bh.silicon.MeasuredChip(chip, tau * u.ms, rng.uniform(90, 110, 256) * u.mV)
        bh.silicon.put_chip(net, measured)
    path = tmp_path_factory.mktemp("fuzz") / "net"
    with brainstate.environ.context(dt=1.0 * u.ms):
        export_bundle(net, path, n_classes=2, notes="fuzz")
    return path.read_bytes()


def sealed(payload: bytes) -> bytes:
    checksum = hashlib.sha256(payload).hexdigest().encode()
    return b"brainhw-bundle 1 %s %d\n" % (checksum, len(payload)) + payload


def payload_of(whole: bytes) -> bytes:
    return whole.partition(b"\n")[2]


def flip(whole: bytes, rng: random.Random) -> bytes:
    """One to four bits turned, one in three times near the head."""
    data = bytearray(whole)
    end = 120 if rng.random() < 0.33 else len(data)
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(data)


def cut(whole: bytes, rng: random.Random) -> bytes:
    """Cut short anywhere: in the head, at the end of a line, in the last bytes, or a piece from the middle."""
    kind = rng.randrange(4)
    if kind == 0:
        return whole[: rng.randrange(100)]
    if kind == 1:
        return whole[: rng.choice([i + 1 for i, byte in enumerate(whole[:-1]) if byte == 10])]
    if kind == 2:
        return whole[: -rng.randint(1, 20)]
    start = rng.randrange(len(whole) - 1)
    return whole[:start] + whole[start + rng.randint(1, 50) :]


def header(whole: bytes, rng: random.Random) -> bytes:
    """Characters of the first line replaced by ones that might stand there."""
    line, end, rest = whole.partition(b"\n")
    data = bytearray(line)
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(len(data))] = rng.choice(b"0123456789abcdef -\n")
    return bytes(data) + end + rest


def exchange(whole: bytes, rng: random.Random) -> bytes:
    """Two bytes, or two stretches, in each other's place."""
    n = rng.choice([1, 1, 2, 8, 40])
    a, b = sorted(rng.sample(range(0, len(whole) - n, n), 2))
    return whole[:a] + whole[b : b + n] + whole[a + n : b] + whole[a : a + n] + whole[b + n :]


def add(whole: bytes, rng: random.Random) -> bytes:
    """Bytes at the end, the start or in between."""
    more = rng.choice([b"\n", b" ", b"\0", b"}", b"\xef\xbb\xbf", rng.randbytes(rng.randint(1, 30)), whole])
    at = rng.choice([0, len(whole), rng.randrange(len(whole))])
    return whole[:at] + more + whole[at:]


def reseal(whole: bytes, rng: random.Random) -> bytes:
    """Damage of the JSON under a checksum that fits it."""
    damage = rng.choice([flip, cut, exchange, add])
    return sealed(damage(payload_of(whole), rng))


def forge(whole: bytes, rng: random.Random) -> bytes:
    """JSON that says something else, under a checksum that fits it."""
    data = json.loads(payload_of(whole))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        rng.choice([_replace, _replace, _delete, _rename, _repeat, _swap, _swap_codes, _rewrite_chip])(data, rng)
    text = text_of(data) if rng.random() < 0.5 else json.dumps(data)
    return sealed(text.encode())


ODD = (None, True, False, -1, 0, 1, 2, 15, 16, 99, 2**70, 0.5, 1.0, 1e300, "", "x", "input", "layers.1", [], {}, [[0]])


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container and key, but of the long lists of text only a few."""
    keys = list(data) if isinstance(data, dict) else range(min(len(data), 8))
    for key in keys:
        yield data, key
        if isinstance(data[key], (dict, list)):
            yield from _places(data[key])


def _place(data: Any, rng: random.Random) -> tuple[Any, Any]:
    return rng.choice(list(_places(data)) or [({"": 0}, "")])


def _replace(data: Any, rng: random.Random) -> None:
    holder, key = _place(data, rng)
    holder[key] = copy.deepcopy(rng.choice(ODD))


def _delete(data: Any, rng: random.Random) -> None:
    holder, key = _place(data, rng)
    del holder[key]


def _rename(data: Any, rng: random.Random) -> None:
    holder, key = _place(data, rng)
    if isinstance(holder, dict):
        holder[rng.choice(["x", "layers.9", f"{key} ", f"{key}.0", "input", "update", "", "\0"])] = holder.pop(key)


def _repeat(data: Any, rng: random.Random) -> None:
    holder, key = _place(data, rng)
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))


def _swap(data: Any, rng: random.Random) -> None:
    (one, a), (other, b) = _place(data, rng), _place(data, rng)
    one[a], other[b] = copy.deepcopy(other[b]), copy.deepcopy(one[a])


def _swap_codes(data: Any, rng: random.Random) -> None:
    """What stands for the weights of two layers, or two neurons, in each other's place."""
    try:
        one, other = data["synapses"]["layers.4"], data["layers"]["layers.3"]["recurrent"]
        if rng.random() < 0.5:
            one["codes"], other["codes"] = other["codes"], one["codes"]
        else:
            rng.shuffle(one["codes"])
            rng.shuffle(data["layers"]["layers.3"]["tau_profiles"])
    except (KeyError, TypeError):  # another change came first
        pass


def _rewrite_chip(data: Any, rng: random.Random) -> None:
    """Another value in a line of the chip's text."""
    lines = data.get("chip")
    if isinstance(lines, list):
        at = rng.choice([i for i, line in enumerate(lines) if isinstance(line, str) and " = " in line] or [0])
        name = str(lines[at]).partition(" = ")[0]
        lines[at] = f"{name} = {rng.choice(VALUES)}"


VALUES = (
    "0",
    "-1",
    "1",
    "2.5",
    "7",
    "1e-45",
    "1e39",
    "1e308",
    "nan",
    "true",
    '"x"',
    '"ms"',
    "[]",
    "[1, 2]",
    "[1e308, 2]",
)


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    f.__name__: f for f in (flip, cut, header, exchange, add, reseal, forge)
}


def means_what_it_says(net: Any, data: bytes) -> bool:
    """Whether the net is what a plain reading of the file gives, weight by weight."""
    said = json.loads(payload_of(data))
    got = net.content.to_plain()
    # A comment or a unit in the chip's text may be written otherwise; the chip may not.
    assert chip_from_text("\n".join(said.pop("chip"))) == net.chip
    del got["chip"]
    said["placement"].sort(key=lambda piece: (piece["core"], piece["offset"]))
    assert text_of(got) == text_of(said)
    taus = net.chip.tau_profiles.values.mantissa
    for path, codes in net.content.weights():
        weight = bh.nn.chip_weights(net)[path]
        entry = said["synapses"][path] if path in said["synapses"] else said["layers"][path]["recurrent"]
        step = net.chip.weight_limit / (2 ** (entry["bits"] - 1) - 1)
        np.testing.assert_allclose(weight.effective.applied(weight.master.value), np.array(entry["codes"]) * step, 1e-6)
        np.testing.assert_array_equal(codes.values, entry["codes"])
    for node in net.nodes().values():
        if isinstance(node, bh.nn.H1Layer):
            assert node.n_neurons == len(np.ravel(node.tau.mantissa))
    layers = {".".join(map(str, path)): node for path, node in net.nodes().items() if isinstance(node, bh.nn.H1Layer)}
    for path, entry in said["layers"].items():
        np.testing.assert_allclose(layers[path].tau.mantissa, taus[entry["tau_profiles"]], 1e-6)
        assert layers[path].topology == entry["topology"]
    return True


def test_there_are_a_thousand_cases() -> None:
    assert sum(CASES.values()) == 1000
    assert set(CASES) == set(DAMAGES)


@pytest.mark.no_dt
@pytest.mark.parametrize("kind", CASES)
def test_a_damaged_or_forged_bundle_is_refused_or_means_what_it_says(
    whole: bytes, kind: str, tmp_path: pathlib.Path
) -> None:
    rng, path = random.Random(kind), tmp_path / "net"
    cases = CASES[kind] // 2  # of each of the two bundles
    refused = loaded = 0
    for case in range(cases):
        data = DAMAGES[kind](whole, rng)
        while data == whole:
            data = DAMAGES[kind](whole, rng)
        path.write_bytes(data)
        try:
            net = load_bundle(path)
        except BundleError as error:
            refused += 1
            message = str(error)
            assert message.startswith("load_bundle: "), (case, message)
            assert str(path) in message, (case, message)
            assert "\n" not in message, (case, message)
        else:
            loaded += 1
            assert kind in ("reseal", "forge"), case
            assert means_what_it_says(net, data), case
    assert refused > cases / 2
    assert (loaded > 0) == (kind in ("reseal", "forge"))
