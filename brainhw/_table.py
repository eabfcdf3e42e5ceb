"""Format tables as plain text that does not depend on window width, terminal or notebook."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from brainhw._printing import printable

__all__ = ["Table", "plain_table"]


class Table(NamedTuple):
    """The cells of a table. The columns named in ``left`` are left-aligned, and the others are right-aligned."""

    headings: Sequence[str]
    rows: Iterable[Sequence[str]]
    left: Sequence[str] = ()


def plain_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, left: Sequence[str] = ()) -> str:
    """Return a table as text. The columns named in ``left`` are left-aligned, and the others are right-aligned."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(printable(heading), justify="left" if heading in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            *(Text(printable(cell)) for cell in row)
        )  # `Text` shows brackets in a cell as they are, not as markup
    text = io.StringIO()
    Console(file=text, width=1000, color_system=None, force_terminal=False, force_jupyter=False).print(table)
    # Also replace the lines that rich draws. Each character is replaced by one character, so columns stay aligned.
    return printable("\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip()))
