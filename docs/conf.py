"""How sphinx builds the site: ``python -m sphinx -W --keep-going -b html docs build/docs``.

It executes the tutorials, two at a time with ``-j 2``; ``-D execute_tutorials=0`` shows them without outputs instead.
Nothing is downloaded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

DOCS = Path(__file__).parent
# Of this clone, whatever version is installed.
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]

from brainhw import __version__  # noqa: E402

project = "brainhw"
author = "the authors of brainhw"
copyright = "the authors of brainhw, Apache-2.0"
version = release = __version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    # In _ext, after what they add to:
    "gallery_pages",
    "mathml",
    "public_names",
    "site_links",
    "tutorial_pages",
]
exclude_patterns = ["_ext", "_gallery", "results/*.json", "**/sg_execution_times.rst", "sg_execution_times.rst"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
show_warning_types = True

# The text of docstrings: NumPy style, a name between single backticks is a reference.
default_role = "py:obj"
add_module_names = False
autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints = "none"  # the types stand in the sections of the docstring
autodoc_preserve_defaults = True
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # but for our own classes, which `public_names` adds as aliases
toc_object_entries_show_parents = "hide"

# Every reference must resolve, but to packages whose inventories are on the network, where a build does not look.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(brainstate|braintools|abc)\..*")]

# MyST, and notebooks that `tutorial_pages` has executed already.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_merge_streams = True

sphinx_gallery_conf = {
    "examples_dirs": "_gallery",
    "gallery_dirs": "gallery",
    "plot_gallery": False,  # the scripts need data and minutes; their figures are kept in images/gallery
    "notebook_extensions": set(),
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
    "within_subsection_order": "gallery_pages.ReadmeOrder",
    "min_reported_time": 1e9,
}

html_theme = "sphinx_book_theme"
html_title = f"brainhw {release}"
html_sourcelink_suffix = ""  # so that the notebook behind a tutorial is downloaded as .ipynb
html_static_path = ["_static"]
html_css_files = ["brainhw.css"]
html_js_files = ["scroll_hint.js"]
html_favicon = "_static/favicon.svg"
html_theme_options = {
    "logo": {"image_light": "_static/logo_light.svg", "image_dark": "_static/logo_dark.svg"},
    "show_navbar_depth": 1,
    "home_page_in_toc": False,
    "navbar_persistent": [],  # the sidebar has a search field
    "footer_content_items": ["copyright"],
    "use_fullscreen_button": False,
    "show_toc_level": 2,
}


def shorten_contents(app: Sphinx, doctree: nodes.document) -> None:
    """Leave the single tables out of the contents list of the speed page, which a script writes."""
    if app.env.current_document.docname == "results/speed":
        app.env.metadata["results/speed"]["tocdepth"] = 2


def setup(app: Sphinx) -> None:
    """Connect what needs the page that is read."""
    app.connect("doctree-read", shorten_contents)
