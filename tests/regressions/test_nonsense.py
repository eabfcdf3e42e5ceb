"""Public calls took nonsense or failed in the words of JAX, numpy or Python.

Seen in a walk over the public callables with 14,582 calls: nine flags took any object, `accuracy` of NaN spikes was
0.25, records took anything, paths of None and lists ended in raw errors.
"""

from __future__ import annotations

from collections.abc import Iterator

import nonsense_judged as judged
import pytest
from matplotlib import pyplot as plt
from nonsense_left_out import LEFT_OUT
from nonsense_roster import Outcome, outcomes, table
from nonsense_values import NONSENSE
from valid_calls import CALLS, arguments_of, public_callables

LEAST = 14_000


@pytest.fixture(autouse=True)
def no_figures() -> Iterator[None]:
    yield
    plt.close("all")


def wrong(found: list[Outcome]) -> list[str]:
    """Return every outcome that is neither a clear refusal nor stands in the judged lists."""
    lines = []
    for one in found:
        fine = {
            "clear": lambda one: True,
            "accepted": lambda one: one.value in judged.ACCEPTED.get(one.kind, ((), ""))[0],
            "warned": lambda one: one.kind in judged.WARNED or one.value in judged.ACCEPTED.get(one.kind, ((), ""))[0],
            "unclear": lambda one: one.value in judged.OWN_ERRORS.get(one.kind, ((), ""))[0],
            "changed": lambda one: (one.call, one.argument, one.value) in judged.CHANGED,
        }[one.verdict]
        if not fine(one):
            lines.append(f"{one.verdict}: {one.call}({one.argument}={one.value}) <{one.kind}>: {one.text}")
    return lines


def test_every_public_callable_has_a_valid_call_with_all_of_its_arguments(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # some valid calls write the file that they read
    public = public_callables()
    assert not [name for name in public if name not in CALLS and name not in LEFT_OUT]
    assert not [name for name in LEFT_OUT if name in CALLS or name not in public]
    given: dict[str, set[str]] = {}
    kinds: set[str] = set()
    for name, make in CALLS.items():
        valid = make().given
        given.setdefault(name.split(":")[0], set()).update(valid)
        kinds.update(kind for kind, _ in valid.values())
        plt.close("all")
    # A subclass has the arguments of its base as **options.
    missing = {name: set(arguments_of(thing)) - given[name] for name, thing in public.items() if name in given}
    assert not {name: names for name, names in missing.items() if names}
    assert not [kind for kind in judged.ACCEPTED if kind not in kinds]


@pytest.mark.filterwarnings("ignore:fluct_init|frontend_init:UserWarning")
def test_the_valid_calls_work(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, make in CALLS.items():
        valid = make()
        if valid.works:
            try:
                valid.run()
            except Exception as error:
                pytest.fail(f"{name}: {type(error).__name__}: {error}")


def test_some_nonsense_at_every_argument_is_refused_in_clear_words() -> None:
    # Other values at each call, so that together they are many; the slow test tries all of them everywhere.
    labels, found = list(NONSENSE), []
    for i, name in enumerate(CALLS):
        found += outcomes([name], [labels[(7 * i + 11 * j) % len(labels)] for j in range(5)])
    assert len(found) > 3000
    assert not wrong(found), "\n".join([table(found), *wrong(found)])


@pytest.mark.slow
def test_all_nonsense_at_every_argument_is_refused_in_clear_words() -> None:
    found = list(outcomes())
    assert len(found) >= LEAST
    assert not wrong(found), "\n".join([table(found), *wrong(found)])
