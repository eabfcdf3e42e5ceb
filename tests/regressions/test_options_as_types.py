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
    ("visualize.plot_history", "name"),
    ("visualize.plot_robustness", "linestyle"),
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
        return tuple(word for words in found for word in words) or None
    return None


def options() -> Iterator[tuple[str, str, Any, Any]]:
    """Yield each option: call, argument, the function with the type, and a call that passes everything."""
    public = public_callables()
    for call, make in CALLS.items():
        thing = public.get(call.split(":")[0])
        if thing is None:
            continue
        valid = make()
        for argument, (kind, _) in valid.given.items():
            if "choice" in kind and argument in arguments_of(thing) and (call.split(":")[0], argument) not in OPEN:
                yield call, argument, thing.__init__ if inspect.isclass(thing) else thing, valid


def test_an_option_accepts_the_words_of_its_type(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen, wrong = set(), []
    for call, argument, function, valid in options():
        seen.add((call.split(":")[0], argument))
        words = words_of(hint_of(function, argument))
        if not words:
            wrong.append(f"{call}({argument}) is not typed as a Literal")
            continue
        with pytest.raises((ValueError, TypeError)) as caught:
            valid.run(**{argument: "no such word"})
        text = str(caught.value)
        listed = re.search(r"must be one of ((?:'[^']+'(?:, )?)+)", text)
        # Without a list of words, other values than words are allowed too, and the message names all of them.
        named = all(word in text for word in words)
        if listed:
            named = set(re.findall(r"'([^']+)'", listed[1])) == set(words)
        if argument not in text or not named:
            wrong.append(f"{call}({argument}) has the words {words}: {text}")
    assert not wrong, "\n".join(wrong)
    assert len(seen) >= 40
    assert {name for name, _ in OPEN} <= set(public_callables())
