"""Links with titles instead of paths: ``docs/deploy.md`` in a text becomes a link with the title of that page.

Texts in the repository name pages by their paths, which readers of the source and of docstrings can open.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

# A page, tutorial or script of the gallery, as the repository names it.
PATH = re.compile(r"(?:docs/(?P<page>[\w/]+)\.md|(?P<other>(?:tutorials|gallery)/\w+)\.py)")


def link_titles(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace each path of a page, outside of headings and links, by a link."""
    for literal in list(doctree.findall(nodes.literal)):
        found = PATH.fullmatch(literal.astext())
        target = (found["page"] or found["other"]) if found else None
        if target not in app.env.titles or isinstance(literal.parent, (nodes.title, nodes.reference)):
            continue
        title = app.env.titles[target].astext()
        address = app.builder.get_relative_uri(docname, target)
        literal.replace_self(nodes.reference("", title, internal=True, refuri=address))


def setup(app: Sphinx) -> dict[str, Any]:
    """Replace when all titles are known."""
    app.connect("doctree-resolved", link_titles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
