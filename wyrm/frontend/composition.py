"""Compositions: functions of nodes that are made of ops, whose results are looked up all at once.

A step of a recurrent layer is half a dozen ops; where a graph is rebuilt for each example, each op costs a node and a look-up.
A composition is called as the function itself, and its results have the structures that the function gives them, so
programs are the same. But what is in between is recorded only once for each structure of the operands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from operator import attrgetter, itemgetter

from wyrm.errors import DTypeError
from wyrm.frontend.node import Node
from wyrm.frontend.op import Leaf
from wyrm.frontend.order import operands_first
from wyrm.frontend.structure import Structure, note_dependent

__all__ = ["composition"]

#: For how many structures of the operands a composition knows the results before it forgets them all.
_LIMIT = 10_000

_Function = Callable[..., Sequence[Node]]
#: A result's structure, and its parents' places among the operands and the results before it: of the first parent, and what
#: takes all of them where there are several.
_Result = tuple[Structure, int, Callable[[list[Node]], tuple[Node, ...]] | None]
_graph, _structure = attrgetter("_graph"), attrgetter("_structure")


def composition(function: _Function) -> Callable[..., list[Node]]:
    """A decorator for functions that make nodes of nodes, by which graphs that are rebuilt for each example are built faster.

    The function is called once for each structure of its operands; after that, its results are looked up. So what it does has
    to follow from these structures, such as the operands' shapes: neither from their values nor from anything that changes.

    Parameters
    ----------
    function
        Of any number of nodes; it returns a list or tuple of the nodes that it makes. Where these depend on leaves that are no
        operands, such as constants or dropout, or where row numbers or bags are among the operands, it is called each time.

    Returns
    -------
    function
        The same function; its results are a list.

    Raises
    ------
    DTypeError
        When it is called, where the function returns anything but a list or tuple of nodes.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> @wyrm.composition
    ... def step(hidden, x, weights):
    ...     return [(wyrm.stack([hidden, x], axis=1) @ weights).tanh()]
    >>> weights = wyrm.ParameterNode(np.eye(4, 2) + np.eye(4, 2, -2))
    >>> for sequence in ([[1.0, 2.0], [0.0, 1.0]], [[2.0, 3.0]], [[0.0, 1.0]]):
    ...     hidden = wyrm.InputNode((1, 2), [[0.0, 0.0]])
    ...     for x in sequence:
    ...         (hidden,) = step(hidden, wyrm.InputNode((1, 2), [x]), weights)
    ...     print(hidden.value.round(2))
    [[0.64 0.96]]
    [[0.96 1.  ]]
    [[0.   0.76]]
    """
    #: Nothing, where the function is to be called.
    known: dict[tuple[Structure, ...], Sequence[_Result]] = {}

    @wraps(function)
    def composed(*operands: Node) -> list[Node]:
        try:
            graphs = set(map(_graph, operands))
        except AttributeError:  # an array, which becomes a constant
            return _called(function, operands)
        graphs.discard(None)
        if len(graphs) != 1:  # leaves of several graphs are taken over, op by op
            return _called(function, operands)
        (graph,) = graphs
        structures = tuple(map(_structure, operands))
        found = known.get(structures)
        if not found:
            made = _called(function, operands)
            if found is None:
                if len(known) >= _LIMIT:
                    known.clear()
                found = known[structures] = _results(structures, made)
                note_dependent(known, structures, structures)
            if not found:
                return made
        nodes = list(operands)
        for structure, place, several in found:
            node = Node()
            node._structure = structure
            node._graph = graph
            node._parents = several(nodes) if several else (nodes[place],)
            nodes.append(node)
        return nodes[len(operands) :]

    return composed


def _called(function: _Function, operands: Sequence[Node]) -> list[Node]:
    """What the function makes."""
    made = function(*operands)
    if not isinstance(made, (list, tuple)) or not all(isinstance(node, Node) for node in made):
        name = getattr(function, "__name__", repr(function))
        raise DTypeError(f"composition {name}: expected the function to return a list or tuple of nodes, got {made!r}")
    return list(made)


def _results(operands: tuple[Structure, ...], made: list[Node]) -> list[_Result]:
    """For each result, its structure and what it depends on: the result before it, where that adds nothing, and operands.

    Nothing, where the results are not functions of the operands' structures alone.
    """
    structures = list(map(_structure, made))
    if any(type(node) is not Node for node in made) or any(operand.dtype == "int64" for operand in operands):
        return []
    reached: dict[Structure, int] = {}  # bit n: operand n
    for n, operand in enumerate(operands):
        reached[operand] = reached.get(operand, 0) | 1 << n
    for structure in operands_first(structures, attrgetter("parents"), reached):
        if isinstance(structure.op, Leaf):
            return []
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
        results.append((structure, places[0], itemgetter(*places) if len(places) > 1 else None))
        before = reached[structure]
    return results
