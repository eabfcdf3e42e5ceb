"""The tutorials of ``tutorials/`` as notebooks with outputs, in ``docs/tutorials``, for the pages and to download.

This is the one execution of all of them. An error in a cell, an error made of any warning that arises in brainhw or in
a cell, and any other warning that a reader would see end the build.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
SOURCES, PAGES = ROOT / "tutorials", DOCS / "tutorials"
SECONDS_A_CELL = 600
logger = logging.getLogger(__name__)


def environment() -> dict[str, str]:
    """Return what kernels run in: on the CPU, and with the warnings of brainhw and of the cells as errors."""
    # A filter names whole modules, so each of them gets one.
    files = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "brainhw").rglob("*.py"))
    modules = sorted(".".join(path.parts).removesuffix(".__init__") for path in files)
    filters = ",".join(f"error:::{module}" for module in ("__main__", *modules))
    return {
        # A backend that somebody chose for scripts would keep the figures out of the notebooks.
        **{name: value for name, value in os.environ.items() if name != "MPLBACKEND"},
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONWARNINGS": filters,
    }


def run(notebook: nbformat.NotebookNode, name: str) -> None:
    """Fill in the outputs of a notebook."""
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS_A_CELL,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=ERROR"],
        )
        try:
            client.execute(env=environment())
        except CellExecutionError as error:
            raise ExtensionError(f"tutorials/{name}.py fails:\n{error}") from error
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr" and re.search(r"Warning\b|WARNING", output.text):
                raise ExtensionError(f"tutorials/{name}.py warns:\n{output.text}")


def write(source: Path, *, execute: bool) -> str:
    """Write the notebook of a tutorial, unless it is there with the outputs of the same text; say what was done."""
    text = source.read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    page = PAGES / f"{source.stem}.ipynb"
    if page.exists():
        known = nbformat.read(page, as_version=4).metadata.get("brainhw", {})
        if known.get("source") == digest and (known["executed"] or not execute):
            return "is as it was"
    notebook = jupytext.reads(text, fmt="py:percent")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            # From tutorials/ the pages lie in ../docs, on the site they are one folder up.
            cell.source = cell.source.replace("](../docs/", "](../")
    if execute:
        run(notebook, source.stem)
    notebook.metadata["brainhw"] = {"source": digest, "executed": execute}
    nbformat.write(notebook, page)
    return "executed" if execute else "converted"


def write_all(app: Sphinx) -> None:
    """Write every notebook, as many at a time as sphinx may use processes."""
    PAGES.mkdir(exist_ok=True)
    sources = sorted(SOURCES.glob("[0-9]*.py"))
    for page in PAGES.glob("*.ipynb"):
        if page.stem not in {source.stem for source in sources}:
            page.unlink()
    with ThreadPoolExecutor(max(1, app.parallel)) as pool:
        for source, done in zip(
            sources, pool.map(lambda source: write(source, execute=app.config.execute_tutorials), sources), strict=True
        ):
            logger.info("tutorials/%s %s", source.name, done)


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the notebooks before sphinx looks for pages."""
    app.add_config_value("execute_tutorials", True, "", types=(bool, str, int))
    app.connect("builder-inited", write_all, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
