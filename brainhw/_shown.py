"""Base class for reports, which ``print`` shows as text and notebooks show as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator

from brainhw._printing import printable
from brainhw._table import Table, plain_table

__all__ = ["Shown", "as_html", "as_text"]

Parts = Iterable[str | Table]


class Shown:
    """Base class for reports that ``print`` shows as text and a notebook shows as HTML.

    A subclass defines ``_parts``, which yields the lines and tables.
    """

    def _parts(self) -> Parts:
        """Yield the content of the report from top to bottom, as lines of text and tables."""
        raise NotImplementedError

    def __str__(self) -> str:
        """Return the report as text."""
        return as_text(self._parts())

    def _repr_html_(self) -> str:
        """Return the report as HTML. Notebooks call this method."""
        return as_html(self._parts())


def as_text(parts: Parts) -> str:
    """Return lines and tables as text, with only those characters that the standard output can encode."""
    return printable("\n".join(_text(part) for part in parts))


def as_html(parts: Parts) -> str:
    """Return lines and tables as HTML."""
    return f"<div>{''.join(_html(part) for part in parts)}</div>"


def _text(part: str | Table) -> str:
    return part if isinstance(part, str) else plain_table(part.headings, part.rows, left=part.left)


def _html(part: str | Table) -> str:
    # Set no colours, so that the text is readable in notebooks with a light theme or a dark theme.
    if isinstance(part, str):
        return f'<div style="white-space:pre-wrap">{html.escape(part)}</div>'
    align = ["left" if heading in part.left else "right" for heading in part.headings]
    head = "".join(_cells("th", part.headings, align))
    body = "".join(f"<tr>{''.join(_cells('td', row, align))}</tr>" for row in part.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(tag: str, cells: Iterable[str], align: list[str]) -> Iterator[str]:
    for cell, side in zip(cells, align, strict=True):
        yield f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>'
