"""Tables as plain text, independent of window width, terminal and notebook."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from brainhw._printing import printable

__all__ = ["plain_table"]


def plain_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, left: Sequence[str] = ()) -> str:
    """Return an aligned table; the columns named in ``left`` are flush left, the others flush right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(printable(heading), justify="left" if heading in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # plain text: a bracket in a cell is not markup
    text = io.StringIO()
    Console(file=text, width=1000, color_system=None, force_terminal=False, force_jupyter=False).print(table)
    # A second pass for the lines that rich draws; each character becomes one character, so columns stay aligned.
    return printable("\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip()))
