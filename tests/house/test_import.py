"""import brainhw: light, and yet everything public is there."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys

import pytest

import brainhw as bh

pytestmark = pytest.mark.no_dt

WINGS = (
    "chip", "data", "deploy", "init", "interop", "kernel", "nn", "recipe", "silicon", "surrogate", "train",
    "transform", "visualize",
)  # fmt: skip
HEAVY = ("brainstate", "braintools", "brainunit", "jax", "matplotlib", "numpy", "rich", "scipy", "tqdm")


def fresh(code: str) -> str:
    """What a new interpreter writes."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def loaded_by(code: str) -> set[str]:
    lines = fresh(f"import sys; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))").split()
    return {name for name in lines if name.partition(".")[0] in {*HEAVY, "brainhw"}}


def test_import_loads_nothing_but_the_version() -> None:
    assert loaded_by("import brainhw; brainhw.__version__; dir(brainhw)") == {"brainhw", "brainhw._version"}


def test_after_jax_and_brainstate_no_braintools_matplotlib_or_scipy_is_added() -> None:
    loaded = fresh(
        "import sys, jax, brainstate; before = set(sys.modules)\n"
        "import brainhw\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    ).split()
    assert loaded == ["brainhw"]


def test_help_and_mistakes_on_the_command_line_load_nothing_heavy() -> None:
    code = (
        "import contextlib, io\n"
        "from brainhw.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        "    codes = [main(words.split()) for words in ('--help', 'run --help', '--version', 'nonsense')]\n"
        "assert codes == [0, 0, 0, 2]"
    )
    light = {"brainhw", "brainhw._closest", "brainhw._version", "brainhw.cli", "brainhw.cli.main", "brainhw.cli.parser"}
    assert loaded_by(code) == light


@pytest.mark.slow
@pytest.mark.parametrize("wing", ["chip", "nn", "transform"])
def test_a_wing_is_loaded_when_it_is_named_however_that_is_written(wing: str) -> None:
    ways = (
        f"import brainhw; w = brainhw.{wing}",
        f"import brainhw.{wing}; w = brainhw.{wing}",
        f"from brainhw import {wing} as w",
    )
    code = f"\nimport sys\nassert w is sys.modules['brainhw.{wing}']\nprint(set(w.__all__) <= set(dir(w)))"
    for way in ways if wing == "chip" else ways[:1]:
        assert fresh(way + code).strip() == "True"


def test_every_public_name_resolves_to_what_its_wing_holds() -> None:
    for name in bh.__all__:
        value = getattr(bh, name)
        if name in WINGS:
            assert value is importlib.import_module(f"brainhw.{name}")
            assert all(hasattr(value, public) for public in value.__all__)
        elif name != "__version__":
            assert any(value is getattr(wing, name, None) for wing in (bh.transform, bh.init, bh.deploy))
            assert callable(value)
    assert set(WINGS) < set(bh.__all__)


def test_the_first_functions_of_a_user_stand_at_the_top_and_load_their_wing_alone() -> None:
    assert bh.fluct_init is bh.init.fluct_init
    assert bh.fluct_report is bh.init.fluct_report
    assert bh.check_deployable is bh.deploy.check_deployable
    loaded = loaded_by("from brainhw import rollout, fluct_init, fluct_report")
    assert not loaded & {"brainhw.deploy", "brainhw.visualize", "brainhw.interop"}


def test_dir_lists_every_public_name() -> None:
    assert set(bh.__all__) < set(dir(bh))
    assert dir(bh) == sorted(dir(bh))


def test_a_name_that_does_not_exist_is_the_usual_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'brainhw' has no attribute 'rolout'$") as caught:
        bh.rolout  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("rolout", bh)
    with pytest.raises(ImportError, match="cannot import name 'rolout' from 'brainhw'"):
        from brainhw import rolout  # noqa: F401
    assert not hasattr(bh, "__path_of_nothing__")


def test_star_import_gives_every_public_name() -> None:
    names: dict[str, object] = {}
    exec("from brainhw import *", names)
    assert set(bh.__all__) <= set(names)
    assert names["rollout"] is bh.rollout


def test_public_functions_and_classes_pickle_by_name() -> None:
    for thing in (bh.rollout, bh.stream, bh.prepare_net, bh.nn.LIFLayer, bh.chip.ChipSpec):
        assert pickle.loads(pickle.dumps(thing)) is thing
        assert copy.deepcopy(thing) is thing


def test_a_pickled_chip_loads_where_nothing_is_imported_yet() -> None:
    text = pickle.dumps(bh.chip.H1V1).hex()
    assert fresh(f"import pickle; print(pickle.loads(bytes.fromhex('{text}')).name)").strip() == bh.chip.H1V1.name
