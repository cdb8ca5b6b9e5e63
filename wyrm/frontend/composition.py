"""Compositions: functions of nodes that are made of ops, whose results are looked up all at once.

A step of a recurrent layer is half a dozen ops; where a graph is rebuilt for each example, each op costs a node and a look-up.
A composition is called as the function itself, and its results have the structures that the function gives them, so
programs are the same. But what is in between is recorded only once for each structure of the operands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from operator import attrgetter, itemgetter
from typing import Any

from wyrm.frontend.graph import Graph
from wyrm.frontend.node import Node
from wyrm.frontend.order import operands_first
from wyrm.frontend.structure import Structure

__all__ = ["composition"]

#: For how many structures of the operands a composition knows the results before it forgets them all.
_LIMIT = 10_000

_Function = Callable[..., Sequence[Node]]
#: A result's structure, and what takes its parents from the operands and the results before it.
_Result = tuple[Structure, Callable[[list[Node]], tuple[Node, ...]]]
_structure = attrgetter("_structure")


def composition(function: _Function) -> Callable[..., list[Node]]:
    """A decorator for functions of nodes.

    What the function returns has to be made by ops, and to follow from the operands' structures alone. It may look nothing up
    by an index input, whose numbers are checked each time. Where it makes leaves, such as constants, it is called each time.

    Examples
    --------
    >>> import wyrm
    >>> @composition
    ... def average(before, x, weight):
    ...     return [x + weight.sigmoid() * (before - x)]
    >>> weight = wyrm.ParameterNode([[0.0, 0.0]])
    >>> for value in ([[1.0, 3.0]], [[3.0, 5.0]]):
    ...     before, x = wyrm.InputNode((1, 2), [[0.0, 0.0]]), wyrm.InputNode((1, 2), value)
    ...     print(average(before, x, weight)[0].value)
    [[0.5 1.5]]
    [[1.5 2.5]]
    """
    known: dict[tuple[Structure, ...], list[_Result]] = {}

    @wraps(function)
    def composed(*operands: Node) -> list[Node]:
        graph: Graph | None = None
        for operand in operands:
            try:
                other = operand._graph
            except AttributeError:  # an array, which becomes a constant
                return list(function(*operands))
            if other is not graph and other is not None:
                if graph is not None:  # leaves are taken over, op by op
                    return list(function(*operands))
                graph = other
        if graph is None:
            return list(function(*operands))
        structures = tuple(map(_structure, operands))
        found = known.get(structures)
        if found is None:
            leaves = graph.leaves.count
            results = list(function(*operands))
            if graph.leaves.count > leaves:
                return results
            if len(known) >= _LIMIT:
                known.clear()
            found = known[structures] = _results(structures, results)
        nodes = list(operands)
        for structure, parents in found:
            node = Node()
            node._structure = structure
            node._graph = graph
            node._parents = parents(nodes)
            nodes.append(node)
        return nodes[len(operands) :]

    return composed


def _results(operands: tuple[Structure, ...], nodes: list[Node]) -> list[_Result]:
    """For each result, its structure and what it depends on: the result before it, where that adds nothing, and operands."""
    reached: dict[Structure, int] = {}  # bit n: operand n
    for n, operand in enumerate(operands):
        reached[operand] = reached.get(operand, 0) | 1 << n
    structures = list(map(_structure, nodes))
    for structure in operands_first(structures, attrgetter("parents"), reached):
        bits = 0
        for parent in structure.parents:
            bits |= reached[parent]
        reached[structure] = bits
    results: list[_Result] = []
    before = 0
    for n, structure in enumerate(structures):
        rest, places = reached[structure], []
        if before and not before & ~rest:
            rest &= ~before
            places.append(len(operands) + n - 1)
        while rest:
            lowest = rest & -rest
            places.append(lowest.bit_length() - 1)
            rest ^= lowest
        results.append((structure, _taking(places)))
        before = reached[structure]
    return results


def _taking(places: list[int]) -> Callable[[list[Node]], tuple[Node, ...]]:
    """What takes the nodes at these places."""
    take: Any = itemgetter(*places) if len(places) > 1 else lambda nodes: tuple([nodes[place] for place in places])
    return take  # type: ignore[no-any-return]
