"""What the public names of brainhw are, links to them from docstrings and from prose, and a check that none is missing.

A name has one home, the page that documents it; the other paths by which it can be reached lead there.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from numpydoc.xref import DEFAULT_LINKS
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.inventory import InventoryFile

import brainhw

WINGS = (
    "chip", "kernel", "surrogate", "nn", "nn.protocols", "transform", "init", "train", "data", "deploy", "interop",
    "interop.nir", "interop.stablehlo", "silicon", "visualize", "cli",
)  # fmt: skip


@cache
def homes() -> dict[str, str]:
    """Return the home of every public path: ``brainhw.rollout`` of ``brainhw.transform.rollout``."""
    top = [name for name in brainhw.__all__ if name not in WINGS and not name.startswith("_")]
    # The page of `transform` documents its functions at the top level; other names are documented in their subpackage.
    of_transform = [name for name in top if hasattr(importlib.import_module("brainhw.transform"), name)]
    paths = [f"brainhw.{name}" for name in of_transform]
    for wing in WINGS:
        names = getattr(importlib.import_module(f"brainhw.{wing}"), "__all__", ())
        paths += [f"brainhw.{wing}.{name}" for name in names if f"{wing}.{name}" not in WINGS]
    paths += [f"brainhw.{name}" for name in top if name not in of_transform]
    found: dict[str, str] = {}
    first: dict[int, str] = {}
    for path in paths:
        thing = resolve(path)
        # Numbers and tuples may be the same object by chance.
        found[path] = first.setdefault(id(thing), path) if callable(thing) else path
    return found


def resolve(path: str) -> Any:
    """Return what a dotted path means, or ``None``."""
    thing: Any = brainhw
    for name in path.split(".")[1:]:
        try:
            thing = getattr(thing, name)
        except AttributeError:
            return None
    return thing


def home_of(text: str) -> str | None:
    """Return where a name is documented: a path that may begin with ``bh.`` or lead to a method, or a unique name."""
    text = re.sub(r"^bh\.", "brainhw.", text)
    if not text.startswith("brainhw."):
        found = {home for path, home in homes().items() if path.rpartition(".")[2] == text.partition(".")[0]}
        return found.pop() + text[len(text.partition(".")[0]) :] if len(found) == 1 else None
    path, rest = text, ""
    while path not in homes() and "." in path:
        path, _, last = path.rpartition(".")
        rest = f".{last}{rest}"
    if path in homes():
        return homes()[path] + rest
    thing = resolve(text)
    if inspect.ismodule(thing):
        return text
    return next((home for home in homes().values() if callable(thing) and resolve(home) is thing), None)


def link(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.Element | None:
    """Resolve a reference that sphinx could not, by its home."""
    if node.get("refdomain") != "py":
        return None
    return to_home(env, app, node["refdoc"], node["reftarget"], content)


def to_home(env: BuildEnvironment, app: Sphinx, page: str, text: str, content: nodes.Element) -> nodes.Element | None:
    """Return a link from ``page`` to the home of a name, or ``None``."""
    home = home_of(text.strip())
    if home is None:
        return None
    xref = pending_xref("", refdomain="py", reftype="obj", reftarget=home, refdoc=page)
    return (
        env.domains.python_domain.resolve_any_xref(env, page, app.builder, home, xref, content)[0][1]
        if known(env, home)
        else None
    )


def known(env: BuildEnvironment, home: str) -> bool:
    """Say whether a page documents it."""
    objects = env.domains.python_domain
    return home in objects.objects or home in objects.modules


class LinkLiterals(SphinxPostTransform):
    """Make links of code in prose that is a name of brainhw, or the path of a page, a tutorial or a gallery script."""

    default_priority = 20

    def run(self, **kwargs: Any) -> None:
        """Go through the literals that are no links or titles yet."""
        for node in list(self.document.findall(nodes.literal)):
            if isinstance(node.parent, (nodes.reference, nodes.title, pending_xref)) or "xref" in node["classes"]:
                continue
            reference = self.to_name(node) if node.astext().startswith(("bh.", "brainhw.")) else self.to_page(node)
            if reference is not None:
                node.replace_self(reference)

    def to_name(self, node: nodes.literal) -> nodes.Element | None:
        """Return a link to the reference."""
        name = re.match(r"[\w.]*\w", node.astext())
        rest = node.astext()[name.end() :]
        if rest and not rest.startswith("("):
            return None
        return to_home(self.env, self.app, self.env.docname, name.group(), node.deepcopy())

    def to_page(self, node: nodes.literal) -> nodes.Element | None:
        """Return a link to a page, with its title."""
        path = re.fullmatch(r"(docs|tutorials|gallery)/([\w/]+)\.(md|py)", node.astext())
        if path is None:
            return None
        page = path.group(2) if path.group(1) == "docs" else f"{path.group(1)}/{path.group(2)}"
        if page not in self.env.found_docs or page == self.env.docname:
            return None
        # Readers of the source and of docstrings can open a path; readers of the site want a title.
        uri = self.app.builder.get_relative_uri(self.env.docname, page)
        return nodes.reference("", self.env.titles[page].astext(), internal=True, refuri=uri)


def skip(app: Sphinx, what: str, name: str, thing: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples that have no words of their own."""
    return True if (inspect.getdoc(thing) or "").startswith("Alias for field number") else None


def constructor(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Show what ``__init__`` takes, as it is written, where a metaclass hides it."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    maker = ast.parse(textwrap.dedent(inspect.getsource(thing.__init__))).body[0]
    taken = maker.args
    del taken.args[0]
    for argument in (*taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg):
        if argument is not None:
            argument.annotation = None
    return f"({ast.unparse(taken)})", returns


def public_bases(app: Sphinx, name: str, thing: type, _: Any, bases: list[type]) -> None:
    """Leave out bases that share code but are no public names."""
    known = [resolve(home) for home in homes().values()]
    # Without any base, autodoc would print "Bases:" and nothing after it.
    bases[:] = [base for base in bases if not base.__module__.startswith("brainhw.") or base in known] or [object]


def words_of_data(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Give a number or an instance the words below its assignment, not those of its class."""
    if what != "data":
        return
    wing, _, own = name.rpartition(".")
    for module in [module for module in sys.modules if module.startswith(wing)]:
        found = ModuleAnalyzer.for_module(module).find_attr_docs().get(("", own))
        if found:
            lines[:] = found


def aliases(app: Sphinx, config: Config) -> None:
    """Let numpydoc make links of our own classes where they stand as types, and of nothing on the network."""
    DEFAULT_LINKS.clear()
    classes = {path.rpartition(".")[2]: home for path, home in homes().items() if isinstance(resolve(path), type)}
    config.numpydoc_xref_aliases = classes


def check(app: Sphinx, exception: Exception | None) -> None:
    """Fail if the inventory of the finished site lacks a public name."""
    if exception is not None or app.builder.format != "html":
        return
    listed = InventoryFile.loads(Path(app.outdir, "objects.inv").read_bytes(), uri="").data
    names = {name for kind, items in listed.items() if kind.startswith("py:") for name in items}
    missing = sorted(set(homes().values()) - names)
    if missing:
        raise ExtensionError(f"on no page of the reference: {', '.join(missing)}")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect all of it."""
    app.connect("config-inited", aliases, priority=100)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", words_of_data, priority=100)
    app.connect("autodoc-process-signature", constructor)
    app.connect("autodoc-process-bases", public_bases)
    app.connect("missing-reference", link)
    app.connect("build-finished", check)
    app.add_post_transform(LinkLiterals)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
