"""The body of a loop: what a step computes for one position, recorded once and then repeated.

A step is called once, with nodes that stand for a row and for a state at any position (:func:`stand_in`). A :class:`Body` is
what it has recorded. What depends on none of these nodes is the same at each position, and no part of the body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from wyrm.errors import MissingValueError, OptionError
from wyrm.frontend.agreement import is_open
from wyrm.frontend.graph import Graph
from wyrm.frontend.inputs import IndexInputNode, InputNode
from wyrm.frontend.labels import expect_labels, labels_within
from wyrm.frontend.node import Node
from wyrm.frontend.op import Op
from wyrm.frontend.order import operands_first
from wyrm.frontend.random import RandomNode
from wyrm.frontend.structure import Structure, intern_op

__all__ = ["Body", "stand_in"]


class _WithinLoop:
    """What a node is that stands for something inside of a loop."""

    __slots__ = ()
    within_loop = True
    name: str | None

    def set_value(self, value: npt.ArrayLike) -> None:
        """An error: it has another value at each position."""
        raise OptionError(_no_value(self))

    def _missing(self) -> MissingValueError:
        return MissingValueError(_no_value(self))

    def _label(self) -> str:
        return self.name or "node"


class _StandIn(_WithinLoop, InputNode):
    """Real numbers of a row or a state."""

    __slots__ = ()


class _IndexStandIn(_WithinLoop, IndexInputNode):
    """The row number of a row."""

    __slots__ = ()


def _no_value(node: _WithinLoop) -> str:
    return (
        f"{node._label()} has a value inside of the loop only, another one at each position: it can be neither set nor read "
        f"outside. What is needed there is returned by the step, as its output or as part of its state"
    )


def stand_in(node: Node, shape: tuple[int, int], name: str) -> InputNode | IndexInputNode:
    """A node that stands for a row of another one, or for a state, at any position."""
    if node.dtype == "int64":
        return _IndexStandIn(1, name=name)
    return _StandIn(shape, name=name, dtype=None if is_open(node) else node.dtype)


class Body:
    """What a step has recorded.

    Parameters
    ----------
    graph
        That of the stand-ins.
    within
        The stand-ins.
    results
        What the step has returned.
    before
        The key of random numbers that was made last before the step was called: later ones are the step's.
    """

    def __init__(self, graph: Graph, within: Sequence[Node], results: Sequence[Node], before: int) -> None:
        self._graph = graph
        repeated: dict[Node, bool] = dict.fromkeys(within, True)
        #: The nodes to be made again at each position, operands first.
        self._nodes: list[Node] = []
        self._keys: list[RandomNode] = []
        for node in operands_first(results, attrgetter("_parents"), repeated):
            if isinstance(node, RandomNode):
                repeated[node] = node.serial > before
                self._keys += [node] if repeated[node] else []
            else:
                repeated[node] = any(repeated[parent] for parent in node._parents)
                self._nodes += [node] if repeated[node] else []
        self._keys.sort(key=attrgetter("serial"))
        self._seen = {node: self._structure(node) for node in (*within, *self._keys, *self._nodes)}
        again: dict[Structure, bool] = {self._seen[node]: True for node in (*within, *self._keys)}
        #: What these nodes compute, likewise.
        self._structures: list[Structure] = []
        for structure in operands_first([self._seen[node] for node in self._nodes], attrgetter("parents"), again):
            again[structure] = isinstance(structure.op, Op) and any(again[parent] for parent in structure.parents)
            self._structures += [structure] if again[structure] else []
        self._first = True

    def _structure(self, node: Node) -> Structure:
        """What a node computes, as the graph of the loop sees it."""
        return node._structure if node._graph is None else self._graph.bring(node._structure, node._graph)

    def at(self, values: Mapping[Node, Node]) -> dict[Node, Node]:
        """The nodes of the body at the next position, each by the one that was recorded.

        Parameters
        ----------
        values
            The row and the state for each stand-in.
        """
        nodes = dict(values)
        for key in self._keys:  # each position has numbers of its own; the first has those that were recorded
            nodes[key] = key if self._first else RandomNode(self._graph, key.words[0] if key.seeded else None)
        self._first = False
        made = {self._seen[before]: self._structure(now) for before, now in nodes.items()}
        for structure in self._structures:
            parents = tuple([made.get(parent, parent) for parent in structure.parents])
            made[structure] = intern_op(structure.op, parents, structure.attributes)  # type: ignore[arg-type]
        for before in self._nodes:
            now = Node()
            now._structure = made[self._seen[before]]
            now._graph = self._graph
            now._parents = tuple([nodes.get(parent, parent) for parent in before._parents])
            nodes[before] = now
        return nodes

    def pass_on(self, within: Node, rows: Node, nodes: Mapping[Node, Node]) -> None:
        """Let the rows that a node stands for be checked as it would be: against tables, and as labels of losses.

        Parameters
        ----------
        nodes
            Those of one position.
        """
        if isinstance(within, IndexInputNode):
            if within.table is not None:
                rows._restrict(*within.table)  # type: ignore[attr-defined]
            return
        for labels, use in labels_within(within):
            if use in nodes:
                count, width = rows.shape
                places = None
                if labels.places is not None:
                    places = (width * np.arange(count)[:, None] + np.array(labels.places)).ravel()
                expect_labels(rows, labels._replace(places=None), nodes[use], places)
