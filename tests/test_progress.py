"""Progress bars: a widget where tqdm finds a notebook, text elsewhere, and nothing where none is wanted."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tqdm.auto

from brainhw._progress import progress_bar

pytestmark = pytest.mark.no_dt


def test_the_bar_is_that_of_tqdm_auto_which_knows_notebooks() -> None:
    with progress_bar(3, desc="fit", shown=False) as bar:
        assert isinstance(bar, tqdm.auto.tqdm)


@pytest.mark.parametrize(
    ("options", "shown"), [({}, True), ({"shown": False}, False), ({"only_terminal": True}, False)]
)
def test_a_bar_on_a_file(options: dict[str, bool], shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(3, desc="fit", unit="epoch", **options) as bar:
        bar.update(3)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("fit: 100%" in err) == shown


# A kernel without ipywidgets: tqdm warns when it is imported.
NOTEBOOK = """
import sys, types, warnings
warnings.simplefilter("error")
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
ipython = types.ModuleType("IPython"); ipython.get_ipython = lambda: shell
sys.modules["IPython"] = ipython
for name in ("ipywidgets", "IPython.display", "IPython.html"):
    sys.modules[name] = None
from brainhw._progress import progress_bar
with progress_bar(2, desc="fit") as bar:
    bar.update(2)
"""


def test_a_notebook_without_widgets_gets_text_and_no_warning() -> None:
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], check=True, capture_output=True, text=True)
    assert "fit: 100%" in done.stderr
    assert "Warning" not in done.stderr
