"""Equations as MathML, which browsers draw themselves: no script, and nothing fetched from the network."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

# Sizes are what MathML finds out by itself.
SIZES = re.compile(r"\\(?:textstyle|displaystyle|[bB]igg?[lr]?)(?![a-zA-Z])")


def mathml(node: nodes.Element, source: str, *, as_block: bool) -> str:
    """Return the markup, or a warning and the source."""
    try:
        return tex2mathml(SIZES.sub("", source).replace(r"\dots", r"\ldots"), as_block=as_block)
    except MathError as error:
        logger.warning("%s in %s", error, source, location=node)
        return f"<code>{escape(source)}</code>"


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    """Write an equation in a line of text."""
    self.body.append(mathml(node, node.astext(), as_block=False))
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write an equation on lines of its own."""
    source = node.astext()
    if "&" in source or r"\\" in source:  # several lines, aligned at their ampersands
        source = r"\begin{aligned}" + source + r"\end{aligned}"
    self.body.append(self.starttag(node, "div", CLASS="math") + mathml(node, source, as_block=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Make it the renderer of equations."""
    app.add_html_math_renderer("mathml", inline_renderers=(visit_math, None), block_renderers=(visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
