"""Options were typed as ``str``, so that neither an editor nor a type checker knew the words.

Each option is a ``Literal``, and the words that a call accepts are those of its type.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import nonsense_roster
import pytest
from valid_calls import CALLS, arguments_of, public_callables

assert nonsense_roster  # it fills CALLS

# Words that depend on other arguments or on data: names of metrics, of fields, of layers.
OPEN = {
    ("History.column", "name"),
    ("chip.ChipSpec", "sign_axis"),
    ("chip.ChipSpec", "reset"),
    ("deploy.Cost", "kind"),
    ("deploy.Piece", "kind"),
    ("train.fit", "watch"),
}


def hint_of(function: Any, name: str) -> Any:
    """Return the type of one argument; the others may name things that are imported for type checkers only."""
    text = inspect.get_annotations(function)[name]
    if not isinstance(text, str):
        return text
    scope = vars(sys.modules[function.__module__])
    return eval(text, scope)


def words_of(hint: Any) -> tuple[str, ...] | None:
    """Return the words of a Literal, also inside of a union."""
    if get_origin(hint) is Literal:
        return tuple(word for word in get_args(hint) if isinstance(word, str))
    if get_origin(hint) in (typing.Union, types.UnionType):
        found = [words for part in get_args(hint) if (words := words_of(part)) is not None]
        return found[0] if found else None
    return None


def options() -> Iterator[tuple[str, str]]:
    public = public_callables()
    for call, make in CALLS.items():
        name = call.split(":")[0]
        if name not in public:
            continue
        own = arguments_of(public[name])
        for argument, (kind, _) in make().given.items():
            if "choice" in kind and argument in own and (name, argument) not in OPEN:
                yield call, argument


OPTIONS = sorted(set(options()))


def test_there_are_as_many_options_as_were_counted() -> None:
    assert len(OPTIONS) >= 40
    assert {name for name, _ in OPEN} <= set(public_callables())


@pytest.mark.parametrize(("call", "argument"), OPTIONS)
def test_an_option_accepts_the_words_of_its_type(call: str, argument: str, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    thing = public_callables()[call.split(":", maxsplit=1)[0]]
    words = words_of(hint_of(thing.__init__ if inspect.isclass(thing) else thing, argument))
    assert words, f"{call}({argument}) is not typed as a Literal"
    with pytest.raises((ValueError, TypeError)) as caught:
        CALLS[call]().run(**{argument: "no such word"})
    text = str(caught.value)
    assert argument in text
    listed = re.search(r"must be one of ((?:'[^']+'(?:, )?)+)", text)
    if listed:  # only words are allowed
        assert re.findall(r"'([^']+)'", listed[1]) == list(words)
    else:
        assert all(word in text for word in words)
