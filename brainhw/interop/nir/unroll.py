"""Conversion of convolution, pooling and flatten to dense matrices, for targets that only support matrices."""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from brainhw import _arguments
from brainhw.interop.nir.errors import Problems, nir_package
from brainhw.interop.nir.graph import Edge, read_graph
from brainhw.interop.nir.node_kinds import MATRICES, NODES, Shape, kind_of
from brainhw.interop.nir.windows import Window, conv_window, pool_window

__all__ = ["unroll", "window_matrix"]

Shapes = dict[str, tuple[Shape, Shape]]

WINDOWS = ("Conv1d", "Conv2d", "SumPool2d", "AvgPool2d")
FIX = "Pass a larger max_numbers, or use smaller images."


def unroll(graph: Any, *, merge: bool = True, max_numbers: int = 2**26) -> Any:
    r"""Replace convolution, pooling and flatten nodes in a NIR graph by ``Linear`` and ``Affine`` nodes.

    A convolution is linear in its input. It can therefore be written as a matrix. This matrix contains each weight of
    the kernel once per output position:

    .. math:: y_{(o, p)} = \sum_{c, q} M_{(o, p), (c, q)} x_{(c, q)},
              \qquad M_{(o, p), (c, s p + d k - \text{pad})} = W_{o c k}

    All images become flat arrays with channels first (C order), including input, output and the arrays of neurons.

    Parameters
    ----------
    graph : nir.NIRGraph
        A graph that :func:`from_nir` accepts, for example from :func:`to_nir` or ``nir.read``. The function does not
        change it.
    merge : bool, optional
        Whether to merge two consecutive weight matrices into their product if at least one of them was unrolled from a
        convolution or pooling layer. A network for a chip requires this, because a chip cannot apply two matrices
        without neurons between them. Default True.
    max_numbers : int, optional
        Maximum total number of elements in the new matrices. Default 2**26, which is half a gigabyte in double
        precision.

    Returns
    -------
    nir.NIRGraph
        A graph in the current format that computes the same output up to rounding. Nodes keep their names. A product of
        matrices has the name of its last node.

    Raises
    ------
    NIRError
        If the graph cannot be run, or if its matrices would be too large. The message then lists their sizes.
    TypeError, ValueError
        If an argument is invalid.
    ImportError
        If the packages nir and h5py are not installed.

    Examples
    --------
    >>> import nir, numpy as np
    >>> from brainhw.interop.nir import unroll
    >>> conv = nir.Conv1d(4, np.array([[[1.0, 2.0]]]), 1, 0, 1, 1, np.zeros(1))
    >>> dense = unroll(nir.NIRGraph.from_list(conv))
    >>> dense.nodes["conv1d"].weight
    array([[1., 2., 0., 0.],
           [0., 1., 2., 0.],
           [0., 0., 1., 2.]])
    """
    call = "unroll"
    _arguments.flag(merge, call=call, name="merge")
    most = _arguments.positive_int(max_numbers, call=call, name="max_numbers")
    nir = nir_package(call)
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"{call}: graph must be a nir.NIRGraph; got {_arguments.describe(graph)}.")
    problems = Problems(call)
    flat = read_graph(graph, problems)
    for words in flat.warnings:
        warnings.warn(f"{call}: {words}", UserWarning, stacklevel=2)
    shapes = flat.shapes
    _check_windows(graph, "", shapes, most, problems)
    problems.raise_any()
    content = _convert(graph, "", shapes, merge)
    _check_sizes(content, most, problems)
    problems.raise_any()
    return _build_graph(nir, content)


class _Matrix(NamedTuple):
    """A matrix ``[out, in]`` of the new graph, as a dense or sparse array.

    ``new`` is True if the matrix was unrolled from a node without a matrix, or is a product of two matrices.
    """

    matrix: Any
    bias: np.ndarray | None
    metadata: dict[str, Any]
    new: bool


class _GraphContent(NamedTuple):
    """Content of a new graph, from which ``_build_graph`` builds the NIR graph.

    ``nodes`` contains NIR nodes, ``_Matrix`` objects, and a ``_GraphContent`` for each nested graph.
    """

    nodes: dict[str, Any]
    edges: list[Edge]
    metadata: dict[str, Any]


def _convert(graph: Any, prefix: str, shapes: Shapes, merge: bool) -> _GraphContent:
    """Convert the nodes of a graph, and return the content of the new graph.

    The paths of the nodes in ``shapes`` are ``prefix + name``.
    """
    nodes: dict[str, Any] = {}
    edges = [(str(a), str(b)) for a, b in graph.edges]
    for name, node in graph.nodes.items():
        path, kind = f"{prefix}{name}", kind_of(node)
        if kind == "NIRGraph":
            nodes[name] = _convert(node, f"{path}.", shapes, merge)
        elif path not in shapes:  # read_graph removed it, because it has no edges
            continue
        elif kind in MATRICES:
            nodes[name] = _Matrix(node.weight, getattr(node, "bias", None), node.metadata, new=False)
        elif kind in WINDOWS:
            nodes[name] = _as_matrix(node, *shapes[path])
        elif kind != "Flatten":
            nodes[name] = _flat(node, shapes[path])
        elif not _bypass(name, edges):
            n = math.prod(shapes[path][0] or ())
            nodes[name] = _Matrix(sparse.csr_array(sparse.identity(n, np.float32)), None, node.metadata, new=True)
    if merge:
        _merge(nodes, edges)
    return _GraphContent(nodes, edges, graph.metadata)


def _bypass(name: str, edges: list[Edge]) -> bool:
    """Remove a node and connect its sources to its targets. Return False if this would duplicate an edge."""
    joined = [(a, b) for a, flat in edges if flat == name for flat, b in edges if flat == name]
    if any(edge in edges for edge in joined):
        return False
    edges[:] = [edge for edge in edges if name not in edge] + joined
    return True


def _merge(nodes: dict[str, Any], edges: list[Edge]) -> None:
    """Merge two consecutive matrices into their product if at least one of them is new.

    The first must have no other target, and the second no other source.
    """
    waiting = list(edges)
    while waiting:
        a, b = waiting.pop()
        first, second = nodes.get(a), nodes.get(b)
        if not (isinstance(first, _Matrix) and isinstance(second, _Matrix) and (first.new or second.new)):
            continue
        if a == b or [x for x, _ in edges].count(a) > 1 or [y for _, y in edges].count(b) > 1:
            continue
        bias = None if first.bias is None else second.matrix @ first.bias
        if second.bias is not None:
            bias = second.bias if bias is None else bias + second.bias
        nodes[b] = _Matrix(second.matrix @ first.matrix, bias, second.metadata, new=True)
        del nodes[a]
        # Connect the sources of `a` to `b` and remove the edge (a, b). This can create new pairs, so all edges are
        # examined again.
        edges[:] = [(x, b if y == a else y) for x, y in edges if (x, y) != (a, b)]
        waiting = list(edges)


def _flat(node: Any, shapes: tuple[Shape, Shape]) -> Any:
    """Return a copy of a node in which all image arrays are flat."""
    flat, (before, after) = copy.copy(node), shapes
    # In a graph for nir 1.0.4, a node has its own `to_dict`, which would write the original arrays.
    vars(flat).pop("to_dict", None)
    for field in NODES[kind_of(node)].arrays:
        value = getattr(node, field, None)
        if value is not None:  # nodes of nir 1.0.4 have no v_reset
            # A scalar parameter applies to every neuron.
            setattr(flat, field, np.ravel(value if np.ndim(value) else np.broadcast_to(value, before or ())))
    flat.input_type = {"input": np.array([math.prod(before or ())])}
    flat.output_type = {"output": np.array([math.prod(after or ())])}
    return flat


def _as_matrix(node: Any, before: Shape, after: Shape) -> _Matrix:
    assert before is not None
    assert after is not None
    if kind_of(node) in ("Conv1d", "Conv2d"):
        weight = np.asarray(node.weight, np.result_type(node.weight.dtype, np.float32))
        matrix = window_matrix(weight, conv_window(node), before, int(np.ravel(node.groups)[0]))
        bias = np.repeat(node.bias, math.prod(after[1:])) if np.any(node.bias) else None
        return _Matrix(matrix, bias, node.metadata, new=True)
    window = pool_window(node)
    if kind_of(node) == "SumPool2d":
        weight = np.ones((before[0], 1, *window.kernel), np.float32)
    else:
        weight = np.full((before[0], 1, *window.kernel), 1 / math.prod(window.kernel))
    return _Matrix(window_matrix(weight, window, before, before[0]), None, node.metadata, new=True)


def window_matrix(weight: np.ndarray, window: Window, before: tuple[int, ...], groups: int) -> sparse.csr_array:
    """Return a convolution as a sparse matrix over flat images: ``[out * places, in * space]``.

    Parameters
    ----------
    weight : numpy.ndarray
        ``[out, in/groups, *kernel]``.
    window : Window
        Kernel, stride, padding and dilation.
    before : tuple of int
        Shape of the input, ``(in, *space)``.
    groups : int
        Number of groups of channels that are convolved separately.
    """
    n_out, n_in, space = len(weight), weight.shape[1], before[1:]
    places = window.places(space)
    out = np.arange(n_out)
    # The input channels that each output channel uses, [out, in/groups].
    channels = (out // (n_out // groups) * n_in)[:, None] + np.arange(n_in)
    rows, columns, values = [], [], []
    for offsets in itertools.product(*(_offsets(window, axis, space[axis]) for axis in range(len(space)))):
        at, outputs, inputs = zip(*offsets, strict=True)
        p = np.ravel_multi_index(np.meshgrid(*outputs, indexing="ij"), places).ravel()
        q = np.ravel_multi_index(np.meshgrid(*inputs, indexing="ij"), space).ravel()
        shape = (n_out, n_in, len(p))
        rows.append(np.broadcast_to(out[:, None, None] * math.prod(places) + p, shape).ravel())
        columns.append(np.broadcast_to(channels[:, :, None] * math.prod(space) + q, shape).ravel())
        values.append(np.broadcast_to(weight[:, :, *at][:, :, None], shape).ravel())
    size = (n_out * math.prod(places), math.prod(before))
    if not values:  # every window lies in the padding
        return sparse.csr_array(size, dtype=weight.dtype)
    found = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_array(found, shape=size)


def _offsets(window: Window, axis: int, n: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """List the positions in the kernel along one axis with ``n`` inputs, except those that lie only in the padding.

    Each tuple contains the position, the indices of the windows in which this position is inside the input, and the
    index of the input in each of these windows.
    """
    place = np.arange(window.places((n,) * len(window.kernel))[axis])
    found = []
    for k in range(window.kernel[axis]):
        position = place * window.stride[axis] - window.pads[axis][0] + window.dilation[axis] * k
        inside = (position >= 0) & (position < n)
        if inside.any():
            found.append((k, place[inside], position[inside]))
    return found


def _check_windows(graph: Any, prefix: str, shapes: Shapes, most: int, problems: Problems) -> None:
    """Add a problem for each node whose matrix alone exceeds the limit for all matrices."""
    for name, node in graph.nodes.items():
        path, kind = f"{prefix}{name}", kind_of(node)
        if kind == "NIRGraph":
            _check_windows(node, f"{path}.", shapes, most, problems)
        elif kind in WINDOWS and path in shapes:
            after = shapes[path][1] or ()
            each = math.prod(node.weight.shape[1:]) if hasattr(node, "weight") else math.prod(pool_window(node).kernel)
            if math.prod(after) * each > most:
                why = f"becomes a matrix with {math.prod(after)} x {each} weights, but max_numbers is {most}. {FIX}"
                problems.add(path, kind, why)


def _check_sizes(content: _GraphContent, most: int, problems: Problems) -> None:
    """Add a problem that lists all new matrices if they contain more than ``most`` elements in total."""
    sizes = dict(_sizes(content, ""))
    if sum(math.prod(shape) for shape in sizes.values()) > most:
        listed = ", ".join(f"{path} {rows} x {columns}" for path, (rows, columns) in sizes.items())
        total = sum(math.prod(shape) for shape in sizes.values())
        problems.add(
            "the graph", "NIRGraph", f"becomes {total} matrix elements ({listed}), but max_numbers is {most}. {FIX}"
        )


def _sizes(content: _GraphContent, prefix: str) -> Iterator[tuple[str, tuple[int, int]]]:
    for name, node in content.nodes.items():
        if isinstance(node, _GraphContent):
            yield from _sizes(node, f"{prefix}{name}.")
        elif isinstance(node, _Matrix) and node.new:
            yield f"{prefix}{name}", node.matrix.shape


def _build_graph(nir: Any, content: _GraphContent) -> Any:
    """Build a NIR graph from its content."""
    nodes = {}
    for name, node in content.nodes.items():
        if isinstance(node, _GraphContent):
            nodes[name] = _build_graph(nir, node)
        elif isinstance(node, _Matrix):
            weight = node.matrix.toarray() if sparse.issparse(node.matrix) else node.matrix
            made = nir.Linear(weight=weight) if node.bias is None else nir.Affine(weight=weight, bias=node.bias)
            made.metadata = node.metadata
            nodes[name] = made
        else:
            nodes[name] = node
    # No type check by nir, because it rejects some valid graphs with feedback. `read_graph` checked the graph already.
    return nir.NIRGraph(nodes=nodes, edges=content.edges, metadata=content.metadata, type_check=False)
