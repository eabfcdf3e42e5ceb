"""Print the size of ``brainhw`` and the number of files in which each common call runs functions.

Run ``python tools/house_numbers.py``. ``tests/house/test_house_numbers.py`` checks the numbers against limits.
"""

from __future__ import annotations

import ast
import io
import os
import sys
import tokenize
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "brainhw"
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


class Lines(NamedTuple):
    """Number of lines of the package by kind. Comments at the end of a line of code are not counted."""

    total: int
    code: int
    docstring: int
    comment: int

    @property
    def comment_share(self) -> float:
        """Number of comment lines per line of code."""
        return self.comment / self.code


def lines() -> Lines:
    """Count the lines of the package."""
    total = code = docstring = comment = 0
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        written = source.splitlines()
        documented = {line for first, last in _docstrings(ast.parse(source)) for line in range(first, last + 1)}
        commented = {
            token.start[0]
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT and written[token.start[0] - 1].lstrip().startswith("#")
        }
        filled = {number for number, line in enumerate(written, 1) if line.strip()}
        total, docstring, comment = total + len(written), docstring + len(documented), comment + len(commented)
        code += len(filled - documented - commented)
    return Lines(total, code, docstring, comment)


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, int]]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            yield node.body[0].lineno, node.body[0].end_lineno or 0


def class_tests() -> list[str]:
    """Return each ``isinstance`` or ``issubclass`` test on a module class of the package, as ``file:line code``."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    modules = _module_classes(trees)
    found = []
    for path, tree in trees.items():
        # The second argument of isinstance may be the name of a tuple of classes.
        groups = {
            target.id: _names(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) in ("isinstance", "issubclass") and len(node.args) == 2:
                asked = _names(node.args[1])
                if modules & asked.union(*(groups.get(name, set()) for name in asked)):
                    found.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {ast.unparse(node)}")
    return found


def _module_classes(trees: dict[Path, ast.Module]) -> set[str]:
    """Return the names of the classes that derive from a module of brainstate, directly or through another class."""
    bases = {
        node.name: {_last(base) for base in node.bases}
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {name for name, above in bases.items() if above & {"Dynamics", "Module"}}
    while more := {name for name, above in bases.items() if name not in found and above & found}:
        found |= more
    return found


def _names(node: ast.AST) -> set[str]:
    return {_last(part) for part in ast.walk(node) if isinstance(part, (ast.Name, ast.Attribute))}


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def files_entered(call: Callable[[], Any]) -> list[str]:
    """Return the files of the package in which a call runs functions, ordered by their first call."""
    files: dict[str, None] = {}
    # Compare texts, because this runs for each function call, and objects for paths are slow.
    folder = f"{PACKAGE}{os.sep}"

    def hear(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(folder):
            files.setdefault(Path(name.removeprefix(folder)).as_posix())

    before = sys.getprofile()
    sys.setprofile(hear)
    try:
        call()
    finally:
        sys.setprofile(before)
    return list(files)


def entered() -> dict[str, list[str]]:
    """Return the files in which each common call runs functions. A first call, which also imports, is not counted."""
    import brainstate
    import brainunit as u
    import jax.numpy as jnp
    import numpy as np

    import brainhw as bh

    def chain(synapse: Any, layer: Any, n_in: int, n_out: int, **options: Any) -> Any:
        return brainstate.nn.Sequential(synapse(n_in, n_out, **options), layer(n_out, tau=20 * u.ms))

    lif, h1 = (bh.nn.LIFSynapse, bh.nn.LIFLayer), (bh.nn.H1v1Synapse, bh.nn.H1v1Layer)
    layer, drive = bh.nn.LIFLayer(3, tau=20 * u.ms), jnp.full(3, 0.3) * u.mV
    # Build the modules here, so that the files of the constructors are not counted.
    fluct_net = chain(*h1, 16, 8)
    lif_net, h1_net = chain(*lif, 4, 3), chain(*h1, 4, 3, weight_bits="chip")
    xs = jnp.ones((20, 2, 4))
    batches = [(np.random.default_rng(0).random((4, 60, 16)) < 0.3).astype(np.float32)]
    calls: dict[str, Callable[[], Any]] = {
        "LIF step": lambda: layer(drive),
        "prepare_net": lambda: bh.prepare_net(h1_net),
        "H1 step": lambda: h1_net(jnp.ones(4)),
        "rollout LIF": lambda: bh.rollout(lif_net, xs, record=("layers.1.V",)),
        "rollout H1": lambda: bh.rollout(h1_net, xs),
        "fluct_init": lambda: bh.fluct_init(fluct_net, batches, verbose=False),
    }
    found = {}
    with brainstate.environ.context(dt=1.0 * u.ms), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, call in calls.items():
            call()
            found[name] = files_entered(call)
    return found


def main() -> None:
    """Print all numbers."""
    counted = lines()
    print(f"lines of brainhw: {counted.total} ({counted.code} code, {counted.docstring} docstring)")
    print(f"comment lines: {counted.comment}, {100 * counted.comment_share:.1f} % of code")
    tests = class_tests()
    print(f"tests for the class of a module: {len(tests)}", *tests, sep="\n  ")
    for name, files in entered().items():
        print(f"{name}: {len(files)} files: {' > '.join(files)}")


if __name__ == "__main__":
    main()
