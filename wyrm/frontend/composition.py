"""Compositions: functions of nodes that are made of ops, whose structures are looked up all at once.

A step of a recurrent layer is half a dozen ops; where a graph is rebuilt for each example, each op costs a node and a look-up.
A composition is called as the function itself, and its results have the structures that the function gives them, so
programs are the same. But what is in between is recorded only once for each structure of the operands.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from wyrm.frontend.graph import Graph
from wyrm.frontend.node import Node
from wyrm.frontend.structure import STORE_LIMIT, Structure

__all__ = ["Composition"]

#: The structures of results, by the composition and the structures of its operands; bounded as the store of structures is.
_RESULTS: dict[tuple[Composition | Structure, ...], tuple[Structure, ...]] = {}
_structure = attrgetter("_structure")


class Composition:
    """A function of nodes, as a decorator.

    What it returns is to follow from the operands' structures alone, and each result is to depend on every operand. A function
    that makes leaves, such as constants, is called each time.

    Examples
    --------
    >>> import wyrm
    >>> @Composition
    ... def averaged(before, x, weight):
    ...     return (x + weight.sigmoid() * (before - x),)
    >>> x = wyrm.InputNode((1, 2), [[1.0, 3.0]])
    >>> for _ in range(2):
    ...     (result,) = averaged(x * 0.0, x, wyrm.ParameterNode([[0.0, 0.0]]))
    >>> result.value
    array([[0.5, 1.5]], dtype=float32)
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., tuple[Node, ...]]) -> None:
        self._function = function

    def __call__(self, *operands: Node) -> tuple[Node, ...]:
        try:
            key = (self, *map(_structure, operands))
        except AttributeError:  # an array among them becomes a constant
            return self._function(*operands)
        graph: Graph | None = None
        for operand in operands:
            other = operand._graph
            if other is not graph and other is not None:
                if graph is not None:  # leaves are taken over, op by op
                    return self._function(*operands)
                graph = other
        found = _RESULTS.get(key)
        if found is None:
            return self._record(key, graph, operands)
        nodes = []
        for structure in found:
            node = Node()
            node._structure = structure
            node._graph = graph
            node._parents = operands
            nodes.append(node)
        return tuple(nodes)

    def _record(
        self, key: tuple[Composition | Structure, ...], graph: Graph | None, operands: tuple[Node, ...]
    ) -> tuple[Node, ...]:
        if graph is None:
            return self._function(*operands)
        leaves = graph.leaves.count
        results = self._function(*operands)
        if graph.leaves.count == leaves:
            if len(_RESULTS) >= STORE_LIMIT:
                _RESULTS.clear()
            _RESULTS[key] = tuple(map(_structure, results))
        return results
