"""Calls of a model that is a function: the nodes that it gets, and what it returns for several examples.

A function gets a node for each argument, or a list of nodes of a sequence's positions. It describes all examples of a run then,
as rows of these nodes. If a sequence is the rows of one node (:class:`wyrm.Ragged` with ``rows=True``), it describes one
example: for a run of several, it is called for each of them, and what it returns is put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wyrm.errors import OptionError, ShapeError
from wyrm.frontend.bag_inputs import BagInputNode
from wyrm.frontend.graph import TracedGraph, current_graph
from wyrm.frontend.inputs import InputNode
from wyrm.frontend.node import Node
from wyrm.frontend.ops.shapes import stack
from wyrm.training.feed import WEIGHTS, Data

__all__ = ["Arguments"]


class Arguments:
    """The nodes that stand for the data of a structure.

    Parameters
    ----------
    data, structure, examples
        Of which data, and of how many examples in a run.
    dtype
        Of nodes for real numbers; ``None``: that of what they meet.

    Attributes
    ----------
    fed
        For each node, its column and its position there.
    by_name
        What a function gets that describes all examples of a run.
    """

    def __init__(self, data: Data, structure: int, examples: int, dtype: str | None) -> None:
        self._data, self._structure, self._examples, self._dtype = data, structure, examples, dtype
        self.fed: dict[Node, tuple[Any, int]] = {}
        self.by_name: dict[str, Node | list[Node]] = {}
        self._of_one_example = False
        lengths = iter(data.structures[structure])
        for name, column in data.columns.items():
            if name == WEIGHTS:
                continue
            length = 1 if column.offsets is None else next(lengths)
            if column.offsets is None or column.by_rows:
                self.by_name[name] = node = column.node(name, examples, dtype, length)
                self.fed[node] = name, 0
                self._of_one_example |= column.by_rows
            else:
                self.by_name[name] = nodes = [column.node(f"{name}[{n}]", examples, dtype, length) for n in range(length)]
                self.fed.update((node, (name, position)) for position, node in enumerate(nodes))

    def call(self, function: Callable[..., Any]) -> Any:
        """What the function returns for a run.

        Raises
        ------
        OptionError
            If it describes one example, a run has several, and there are bags, which are not told apart.
        ShapeError
            If it describes one example, and returns other things for one than for another.
        """
        if not self._of_one_example or self._examples == 1:
            return function(**self.by_name)
        if self._dtype is None:
            self._take_dtypes(function)
        return _together([function(**self._of(example)) for example in range(self._examples)])

    def _take_dtypes(self, function: Callable[..., Any]) -> None:
        """Let the nodes take the dtypes that those of one example take where they meet others: parts of nodes take none."""
        with TracedGraph(current_graph().traced):
            single = Arguments(self._data, self._structure, 1, None)
            function(**single.by_name)
        for node, other in zip(self.fed, single.fed, strict=True):
            if node.dtype != other.dtype and isinstance(node, InputNode):
                node.take_dtype(other.dtype)

    def _of(self, example: int) -> dict[str, Node | list[Node]]:
        """The arguments for one example of a run."""
        return {
            name: [self._part(node, example) for node in nodes] if isinstance(nodes, list) else self._part(nodes, example)
            for name, nodes in self.by_name.items()
        }

    def _part(self, node: Node, example: int) -> Node:
        if isinstance(node, BagInputNode):
            raise OptionError(
                f"{node._label()} holds bags, and a sequence beside it is the rows of a node: a run takes one example then; "
                f"leave out rows=, or feed the sequence as a list of nodes, without rows=True"
            )
        rows = node.shape[0] // self._examples
        return node[example * rows : (example + 1) * rows]


def _together(results: list[Any]) -> Any:
    """What was returned for each example, as one node, or several; what is neither is refused as that of one example is."""
    if all(isinstance(result, Node) for result in results):
        return _below(results)
    if not all(isinstance(result, (list, tuple)) and len(result) == len(results[0]) for result in results):
        return results[0]
    return [_below(nodes) for nodes in zip(*results, strict=True)]


def _below(nodes: Sequence[Any]) -> Any:
    """Nodes of one shape, one below the other."""
    if not all(isinstance(node, Node) for node in nodes):
        return nodes[0]
    if len({node.shape for node in nodes}) > 1:
        raise ShapeError(f"expected a result of one shape for each example of a run, got {', '.join(map(repr, nodes))}")
    return stack(nodes)
