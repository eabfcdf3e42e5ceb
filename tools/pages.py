"""Generate the tables of presets in ``docs/chips.md`` and the help texts in ``docs/cli.md``.

Run ``python tools/pages.py`` in the root of a clone of the repository. It replaces only the text between the marks of a
page. A test fails if a page is out of date.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from brainhw.chip import ChipSpec, families  # noqa: E402
from brainhw.chip.fields import info_of, sourced_fields  # noqa: E402
from brainhw.cli import main as command_line  # noqa: E402
from brainhw.cli.schema import SCHEMA  # noqa: E402

PRESETS = tuple(family.preset for family in families() if family.package == "brainhw")
FIELDS = info_of(ChipSpec)
COMMANDS = ("train", "info", "check", "power", "run", "calibrate", "compare", "firmware", "completion")


def documented() -> str:
    """Return the table of the fields that the vendor publishes for both presets."""
    rows = [name for name in sourced_fields(ChipSpec) if _sources(name) == {"documented"}]
    return _table(("field", "meaning", *(chip.name for chip in PRESETS)), [_cells(name) for name in rows])


def assumed() -> str:
    """Return the table of the fields that are assumed for at least one preset."""
    rows = [name for name in sourced_fields(ChipSpec) if _sources(name) != {"documented"}]
    return _table(("field", "meaning", *(chip.name for chip in PRESETS)), [_cells(name) for name in rows])


def limits() -> str:
    """Return the notes that restrict documented fields."""
    return _reasons(name for name in sourced_fields(ChipSpec) if _sources(name) == {"documented"})


def reasons() -> str:
    """Return the notes that explain assumed values."""
    return _reasons(name for name in sourced_fields(ChipSpec) if _sources(name) != {"documented"})


def usage() -> str:
    """Return the help text of the command line and of each command, 80 columns wide."""
    parts = []
    for command in ((), *((name,) for name in COMMANDS)):
        printed = io.StringIO()
        with mock.patch.dict(os.environ, COLUMNS="80", NO_COLOR="1"), contextlib.redirect_stdout(printed):
            command_line([*command, "--help"])
        parts.append(f"## {' '.join(('brainhw', *command))}\n\n```text\n{printed.getvalue().strip()}\n```")
    return "\n\n".join(parts)


def schema() -> str:
    """Return the keys of the JSON document of each command."""
    parts = []
    for command, keys in SCHEMA.items():
        rows = [(f"`{key}`", meaning) for key, meaning in keys.items()]
        parts.append(f"### {command}\n\n{_table(('key', 'meaning'), rows)}")
    return "\n\n".join(parts)


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "chips": {"documented": documented, "limits": limits, "assumed": assumed, "reasons": reasons},
    "cli": {"usage": usage, "schema": schema},
}


def filled(page: str) -> str:
    """Return the text of a page with new tables or help texts between its marks."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for name, write in PAGES[page].items():
        begin, end = f"<!-- {name}: written by tools/pages.py -->", f"<!-- {name}: end -->"
        between = re.compile(f"(?<={re.escape(begin)}).*(?={re.escape(end)})", re.DOTALL)

        def new(_: re.Match[str], write: Callable[[], str] = write) -> str:
            return f"\n\n{write()}\n\n"

        text, found = between.subn(new, text)
        if found != 1:
            raise ValueError(f"docs/{page}.md must contain the marks {begin!r} and {end!r} exactly once.")
    return text


def _sources(name: str) -> set[str]:
    return {chip.provenance[name] for chip in PRESETS}


def _cells(name: str) -> tuple[str, ...]:
    meaning = re.sub(r'"(\w+)"', r"`\1`", FIELDS[name].meaning)
    return (f"`{name}`", meaning, *(_value(chip, name) for chip in PRESETS))


def _value(chip: ChipSpec, name: str) -> str:
    # If the provenance of the presets differs, mark the documented value.
    differ = len(_sources(name)) > 1 and chip.provenance[name] != "assumed"
    # Insert a space, so that the text of a charge curve can wrap in a narrow column.
    text = FIELDS[name].text(getattr(chip, name)).replace("Charge(", "Charge (")
    return text + (f" ({chip.provenance[name]})" if differ else "")


def _reasons(names: Iterable[str]) -> str:
    """Return a list of the notes, each with all fields that have this note."""
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


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, ("---",) * len(heading), *rows))


def main() -> None:
    """Write the pages."""
    for page in PAGES:
        (ROOT / "docs" / f"{page}.md").write_text(filled(page), encoding="utf-8")


if __name__ == "__main__":
    main()
