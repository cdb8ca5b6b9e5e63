"""Feeds: the data for a graph's inputs, checked and brought into the form that runners read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import DTypeError, FeedError, OutOfRangeError
from wyrm.frontend.bags import BagInputNode, Bags
from wyrm.frontend.inputs import ConstantNode, IndexInputNode, InputNode
from wyrm.frontend.node import Node
from wyrm.frontend.random import RandomNode
from wyrm.frontend.structure import Structure
from wyrm.frontend.values import as_indices, as_reals, is_native
from wyrm.memory import BagSource, Source
from wyrm.program import Program

__all__ = ["Feed", "read_feed"]

Array = npt.NDArray[Any]
#: Elements that are checked at a time, so that data on disk is never in memory as a whole.
_CHUNK = 1 << 20
#: Inputs that a feed has data for.
_FED = (InputNode, IndexInputNode, BagInputNode)


class Feed:
    """Sources for the inputs of a program, in its order.

    Attributes
    ----------
    length
        The number of examples.
    """

    def __init__(self, sources: Sequence[Source], length: int) -> None:
        self.sources = list(sources)
        self.length = length


def read_feed(
    nodes: Sequence[Node], leaves: Sequence[Structure], program: Program, feed: Mapping[Any, Any], seed: int = 0
) -> Feed:
    """Check a feed against a program.

    Parameters
    ----------
    nodes
        The nodes that are computed.
    leaves
        The structures of the program's inputs, in order.
    feed
        Arrays by input node. An array has shape (N, *node shape); where the node has one row or one column, that axis may be
        left out. For bags: :class:`wyrm.Bags`, a CSR matrix or lists, as many bags for each example as the input has.
    seed
        Of random numbers for which the graph names none.

    Raises
    ------
    FeedError
        Where an input is missing, something is no input of these nodes, or arrays have the wrong shape, different lengths, no
        example at all, or NaN.
    DTypeError, OutOfRangeError
        Where values are not real numbers, or indices lie outside their table.
    """
    if not isinstance(feed, Mapping):
        raise FeedError(f"feed: expected a mapping from input nodes to arrays, got {type(feed).__name__}")
    owners = _owners(nodes)
    arrays: dict[Structure, tuple[Node, Any]] = {}
    for node, array in feed.items():
        leaf = seen_from(nodes[0], node) if isinstance(node, _FED) else None
        if leaf is None or leaf not in leaves:
            raise FeedError(f"feed: {_describe(node)} is not an input of {nodes[0]!r}; its inputs are {_names(owners, leaves)}")
        arrays[leaf] = (node, array)
    sources: list[Source] = []
    lengths: dict[int, Node] = {}
    for number, leaf in enumerate(leaves):
        owner = owners[leaf]
        if isinstance(owner, ConstantNode) or (leaf not in arrays and getattr(owner, "constant", False)):
            sources.append(Source(np.ascontiguousarray(owner.value.reshape(1, -1)), constant=True))
            continue
        if isinstance(owner, RandomNode):
            own, stream = owner.words
            sources.append(Source(np.array([[own if owner.seeded else seed, stream]]), constant=True))
            continue
        if leaf not in arrays:
            raise FeedError(f"feed: {_describe(owner)} is an input of {nodes[0]!r} and missing; add an array for it")
        node, array = arrays[leaf]
        source = _source(node, array, program.inputs[number].limit)
        lengths.setdefault(len(source), node)
        sources.append(source)
    if len(lengths) > 1:
        parts = ", ".join(f"{length} for {_describe(node)}" for length, node in lengths.items())
        raise FeedError(f"feed: all arrays need the same number of examples, got {parts}")
    if not lengths:
        raise FeedError(f"feed: {nodes[0]!r} has no inputs to feed; run it with forward and backward instead")
    length = next(iter(lengths))
    if length == 0:
        raise FeedError("feed: there are no examples; every array has length 0")
    for node in nodes:
        if node._graph is not None:
            node._graph.closed = True
    return Feed(sources, length)


def _owners(nodes: Sequence[Node]) -> dict[Structure, Node]:
    """The leaf node behind each leaf structure of the first node's graph."""
    owners: dict[Structure, Node] = {}
    for node in nodes:
        for ancestor in node._ancestors():
            if isinstance(ancestor, (*_FED, ConstantNode, RandomNode)):
                owners[seen_from(nodes[0], ancestor)] = ancestor
    return owners


def seen_from(node: Node, other: Node) -> Structure:
    """The structure of a node as another node's graph sees it."""
    if node._graph is None or other._graph is None:  # a parameter
        return other._structure
    return node._graph.bring(other._structure, other._graph)


def _describe(node: Any) -> str:
    return node._label() if isinstance(node, Node) else repr(node)


def _names(owners: Mapping[Structure, Node], leaves: Sequence[Structure]) -> str:
    nodes = [owners[leaf] for leaf in leaves if isinstance(owners[leaf], _FED)]
    return ", ".join(_describe(node) for node in nodes) or "none"


def _source(node: Node, array: Any, limit: int) -> Source:
    """An input's data as rows that native code can read."""
    label = f"feed for {node._label()}"
    if isinstance(node, BagInputNode):
        return _bag_source(node, array, limit, label)
    if isinstance(node, IndexInputNode):
        return Source(_check_indices(_rows(node, _index_array(array, label), label), limit, label))
    values = as_reals(array, label)
    if not is_native(values):
        values = values.astype(node.dtype)
    rows = _rows(node, values, label)
    if rows.dtype.kind == "f":
        for start in range(0, len(rows), max(1, _CHUNK // max(1, rows.shape[1]))):
            chunk = rows[start : start + max(1, _CHUNK // max(1, rows.shape[1]))]
            wrong = np.isnan(chunk).any(axis=1)
            if wrong.any():
                raise FeedError(f"{label}: example {start + int(wrong.argmax())} holds NaN")
    return Source(rows)


def _bag_source(node: BagInputNode, data: Any, limit: int, label: str) -> Source:
    bags = Bags.of(data, label)
    rows = node.shape[0]
    if rows == 0 or len(bags) % rows:
        raise FeedError(f"{label}: expected {rows} bags for each example, got {len(bags)} in all")
    _check_indices(bags.values.reshape(-1, 1), limit, label)
    return Source(bags.offsets[:-1].reshape(-1, rows), bags=BagSource(bags.values, bags.offsets, bags.weights))


def _index_array(array: Any, label: str) -> Array:
    values = as_reals(array, label)
    if values.dtype.kind == "i" and is_native(values):
        return values
    return as_indices(values, label)


def _rows(node: Node, array: Array, label: str) -> Array:
    """``array`` with one row for each example; a view wherever it can be one."""
    shape = node.shape
    forms = {shape, tuple(length for length in shape if length != 1), *((length,) for length in shape if 1 in shape)}
    if isinstance(node, IndexInputNode):
        forms = {(shape[0],), shape, *([()] if shape[0] == 1 else [])}
    if array.ndim == 0 or array.shape[1:] not in forms:
        raise FeedError(f"{label}: expected shape (N, {', '.join(map(str, shape))}), got {array.shape}")
    rows = array.reshape(len(array), shape[0] * shape[1])
    if rows.shape[1] > 1 and rows.strides[1] != rows.itemsize:
        rows = np.ascontiguousarray(rows)
    return rows


def _check_indices(rows: Array, limit: int, label: str) -> Array:
    for start in range(0, len(rows), max(1, _CHUNK // max(1, rows.shape[1]))):
        chunk = rows[start : start + max(1, _CHUNK // max(1, rows.shape[1]))]
        if chunk.size and (chunk.min() < 0 or chunk.max() >= limit):
            example, column = (int(n[0]) for n in np.nonzero((chunk < 0) | (chunk >= limit)))
            raise OutOfRangeError(
                f"{label}: example {start + example}, column {column} holds {int(chunk[example, column])}; "
                f"expected at least 0 and below {limit}, the rows of the smallest table that it looks up"
            )
    return rows


def check_integer(value: Any, name: str) -> int:
    """An option that counts something."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise DTypeError(f"{name}: expected a whole number, got {value!r}")
    return int(value)
