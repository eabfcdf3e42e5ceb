"""Write what the package says of itself into ``docs/chips.md`` and ``docs/cli.md``: presets, and words of ``--help``.

``python tools/pages.py`` from the root of a clone. Only what stands between the marks of a page is written; a test
fails where a page is behind the package.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from brainhw.chip import ChipSpec, families  # noqa: E402
from brainhw.chip.fields import info_of, sourced_fields  # noqa: E402
from brainhw.cli import main as command_line  # noqa: E402

PRESETS = tuple(family.preset for family in families() if family.package == "brainhw")
FIELDS = info_of(ChipSpec)
COMMANDS = ("train", "info", "check", "power", "run", "calibrate", "compare", "firmware")


def documented() -> str:
    """Return the table of what the vendor publishes of both presets."""
    rows = [name for name in sourced_fields(ChipSpec) if _sources(name) == {"documented"}]
    return _table(("field", "what it is", *(chip.name for chip in PRESETS)), [_cells(name) for name in rows])


def assumed() -> str:
    """Return the table of what is assumed of one preset or of both."""
    rows = [name for name in sourced_fields(ChipSpec) if _sources(name) != {"documented"}]
    return _table(("field", "what it is", *(chip.name for chip in PRESETS)), [_cells(name) for name in rows])


def limits() -> str:
    """Return what a note restricts of a documented field."""
    return _reasons(name for name in sourced_fields(ChipSpec) if _sources(name) == {"documented"})


def reasons() -> str:
    """Return what the assumed numbers rest on."""
    return _reasons(name for name in sourced_fields(ChipSpec) if _sources(name) != {"documented"})


def usage() -> str:
    """Return the help of the command line and of each command, as it is printed 80 columns wide."""
    parts = []
    for command in ((), *((name,) for name in COMMANDS)):
        printed = io.StringIO()
        with mock.patch.dict(os.environ, COLUMNS="80", NO_COLOR="1"), contextlib.redirect_stdout(printed):
            command_line([*command, "--help"])
        parts.append(f"## {' '.join(('python -m brainhw', *command))}\n\n```text\n{printed.getvalue().strip()}\n```")
    return "\n\n".join(parts)


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "chips": {"documented": documented, "limits": limits, "assumed": assumed, "reasons": reasons},
    "cli": {"usage": usage},
}


def filled(page: str) -> str:
    """Return a page with what stands between its marks made anew."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for name, write in PAGES[page].items():
        begin, end = f"<!-- {name}: written by tools/pages.py -->", f"<!-- {name}: end -->"
        between = re.compile(f"(?<={re.escape(begin)}).*(?={re.escape(end)})", re.DOTALL)
        text, found = between.subn(lambda _, write=write: f"\n\n{write()}\n\n", text)
        if found != 1:
            raise ValueError(f"docs/{page}.md must have the marks {begin!r} and {end!r} once.")
    return text


def _sources(name: str) -> set[str]:
    return {chip.provenance[name] for chip in PRESETS}


def _cells(name: str) -> tuple[str, ...]:
    meaning = re.sub(r'"(\w+)"', r"`\1`", FIELDS[name].meaning)
    return (f"`{name}`", meaning, *(_value(chip, name) for chip in PRESETS))


def _value(chip: ChipSpec, name: str) -> str:
    # In a row where the presets differ, the one that is documented says so.
    differ = len(_sources(name)) > 1 and chip.provenance[name] != "assumed"
    # The space lets a narrow column break the text of a charge curve.
    text = FIELDS[name].text(getattr(chip, name)).replace("Charge(", "Charge (")
    return text + (f" ({chip.provenance[name]})" if differ else "")


def _reasons(names: Iterable[str]) -> str:
    """Return a list of the notes, each with all fields that it is the note of."""
    fields: dict[str, list[str]] = {}
    for name in names:
        notes = {chip.name: chip.notes.get(name, "") for chip in PRESETS}
        if len(set(notes.values())) == 1:
            text = next(iter(notes.values()))
        else:
            text = " ".join(f"{chip}: {note}" for chip, note in notes.items() if note)
        if text:
            fields.setdefault(text, []).append(f"`{name}`")
    return "\n".join(f"- {', '.join(of)}: {text}" for text, of in fields.items())


def _table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, ("---",) * len(heading), *rows))


def main() -> None:
    """Write the pages."""
    for page in PAGES:
        (ROOT / "docs" / f"{page}.md").write_text(filled(page), encoding="utf-8")


if __name__ == "__main__":
    main()
