"""Compositions: functions of nodes that are made of ops, whose results are looked up all at once.

A step of a recurrent layer is half a dozen ops; where a graph is rebuilt for each example, each op costs a node and a look-up.
A composition is called as the function itself, and its results have the structures that the function gives them, so
programs are the same. But what is in between is recorded only once for each structure of the operands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from operator import attrgetter

from wyrm.frontend.graph import Graph
from wyrm.frontend.node import Node
from wyrm.frontend.structure import STORE_LIMIT, Structure

__all__ = ["composition"]

Function = Callable[..., tuple[Node, ...]]
_structure = attrgetter("_structure")


def composition(function: Function) -> Function:
    """A decorator for functions of nodes.

    What the function returns has to follow from the operands' structures alone, and each result has to depend on every operand.
    It may look nothing up by an index input, whose numbers are checked each time. Where it makes leaves, such as constants,
    it is called each time.

    Examples
    --------
    >>> import wyrm
    >>> @composition
    ... def averaged(before, x, weight):
    ...     return (x + weight.sigmoid() * (before - x),)
    >>> weight = wyrm.ParameterNode([[0.0, 0.0]])
    >>> for value in ([[1.0, 3.0]], [[3.0, 5.0]]):
    ...     before, x = wyrm.InputNode((1, 2), [[0.0, 0.0]]), wyrm.InputNode((1, 2), value)
    ...     (result,) = averaged(before, x, weight)
    ...     print(result.value)
    [[0.5 1.5]]
    [[1.5 2.5]]
    """
    #: The results' structures by the operands'; bounded as the store of structures is.
    known: dict[tuple[Structure, ...], tuple[Structure, ...]] = {}

    @wraps(function)
    def composed(*operands: Node) -> tuple[Node, ...]:
        graph: Graph | None = None
        for operand in operands:
            try:
                other = operand._graph
            except AttributeError:  # an array, which becomes a constant
                return function(*operands)
            if other is not graph and other is not None:
                if graph is not None:  # leaves are taken over, op by op
                    return function(*operands)
                graph = other
        if graph is None:
            return function(*operands)
        structures = tuple(map(_structure, operands))
        found = known.get(structures)
        if found is None:
            leaves = graph.leaves.count
            results = function(*operands)
            if graph.leaves.count == leaves:
                if len(known) >= STORE_LIMIT:
                    known.clear()
                known[structures] = tuple(map(_structure, results))
            return results
        nodes = []
        for structure in found:
            node = Node()
            node._structure = structure
            node._graph = graph
            node._parents = operands
            nodes.append(node)
        return tuple(nodes)

    return composed
