"""The check of every link of the built site; it needs no network.

A link inside the site must lead to a file, and to an anchor where it names one. A link to another site must be a well
formed address. Nothing that a browser loads by itself, such as scripts, fonts and pictures, may come from another site.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Attributes whose address a browser loads without a click, by tag.
LOADED = {"img": "src", "script": "src", "source": "src", "iframe": "src", "link": "href", "object": "data"}
HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}(?::\d+)?", re.IGNORECASE)


class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the addresses and anchors of a tag."""
        given = {name: value for name, value in attrs if value}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if given.get(LOADED.get(tag, "")) and given.get("rel") not in ("canonical", "author"):
            self.loads.add(given[LOADED[tag]])


def outer_fault(address: str) -> str:
    """Return what is wrong with an address of another site, or nothing."""
    parts = urlsplit(address)
    if parts.scheme in ("mailto", "data", "javascript"):
        return ""
    if parts.scheme not in ("http", "https"):
        return f"unknown scheme {parts.scheme!r}"
    if not HOST.fullmatch(parts.netloc):
        return f"{parts.netloc!r} is not a host"
    if re.search(r"[\s<>\"`{}|\\^]|[.,;:]$", address) or address.count("(") != address.count(")"):
        return "has characters that belong to the text around it"
    return ""


def faults(site: Path) -> list[str]:
    """Return one line for each broken link of a built site."""
    pages = {
        path.resolve(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.relative_to(site).parts
    }
    found = []
    for path, page in pages.items():
        for address in sorted(page.links | page.loads):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                loaded = address in page.loads and parts.scheme != "data"
                fault = "is loaded from another site" if loaded else outer_fault(address)
            else:
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                target = target / "index.html" if target.is_dir() else target
                anchor = unquote(parts.fragment)
                fault = "" if target.exists() else "does not exist"
                if anchor and target in pages and anchor not in pages[target].anchors:
                    fault = "has no such anchor"
            if fault:
                found.append(f"{path.relative_to(site.resolve())}: {address} {fault}")
    return found


def check(app: Sphinx, exception: Exception | None) -> None:
    """End the build if a link of the site is broken."""
    from sphinx.errors import ExtensionError  # here, because the tests use this file without sphinx

    if exception is None and app.builder.format == "html" and (found := faults(Path(app.outdir))):
        raise ExtensionError("broken links:\n" + "\n".join(found))


def setup(app: Sphinx) -> dict[str, Any]:
    """Check when all pages are written."""
    app.connect("build-finished", check, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
