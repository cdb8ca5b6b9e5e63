"""Nodes: values in a graph, recorded as they are written down.

:class:`Node` is what an op returns and what all nodes have in common. Inputs are in :mod:`wyrm.frontend.inputs`, parameters in
:mod:`wyrm.frontend.parameters`, passes in :mod:`wyrm.frontend.passes`, and the ops, with their methods, in
:mod:`wyrm.frontend.ops`.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy.typing as npt

from wyrm.errors import DTypeError, ShapeError, WyrmError
from wyrm.frontend.graph import Graph, current_graph
from wyrm.frontend.op import Leaf, Op
from wyrm.frontend.ops import (
    Cells,
    Choices,
    Comparisons,
    Draws,
    Elementwise,
    Functions,
    Gradients,
    Lookups,
    Products,
    Random,
    Reductions,
    Shapes,
)
from wyrm.frontend.order import operands_first
from wyrm.frontend.passes import Passes
from wyrm.frontend.structure import STORE, Structure, intern_op
from wyrm.program import Attributes, Shape

if TYPE_CHECKING:
    from wyrm.frontend.parameters import ParameterNode

__all__ = ["Node", "NodeLike", "apply"]

Array = npt.NDArray[Any]
N = TypeVar("N", bound="Node")


class Node(
    Passes, Elementwise, Comparisons, Functions, Choices, Products, Reductions, Shapes, Lookups, Cells, Random, Draws, Gradients
):
    """A matrix in a graph: the result of an op, an input or a parameter.

    Nodes are made by ops on other nodes, not by calling this class. A node has its shape as soon as it exists; :meth:`forward`
    gives it a value, and :meth:`backward` gives the parameters behind it their gradients.

    Examples
    --------
    >>> import wyrm
    >>> x = wyrm.InputNode((1, 1))
    >>> y = x * 2.0 + 1.0
    >>> y
    <add (1, 1)>
    >>> x.set_value(3.0)
    >>> y.forward()
    >>> y.value
    array([[7.]], dtype=float32)
    """

    __slots__ = ("__weakref__", "_graph", "_leaves", "_parents", "_structure", "name")

    _structure: Structure
    #: ``None`` for parameters, which belong to no graph.
    _graph: Graph | None
    _parents: tuple[Node, ...]
    #: The leaves behind a node that is trained or evaluated, but for parameters, by their structures in its graph.
    _leaves: dict[Structure, Node]
    name: str | None
    #: NumPy leaves `array * node` to the node.
    __array_ufunc__ = None

    if not TYPE_CHECKING:  # for which a node would be a kind of array

        def __array__(self, dtype=None, copy=None):
            """No array of objects is made of nodes, as NumPy's functions would do."""
            raise DTypeError(
                f"{self._label()} is no array: its numbers are computed later, for each example. Look at them with .value; "
                f"compute with nodes by operators and methods of theirs, such as array @ node in place of array.dot(node)"
            )

    # -- what it is

    @property
    def shape(self) -> Shape:
        """(rows, columns)."""
        return self._structure.shape

    @property
    def dtype(self) -> str:
        """``float32`` or ``float64``; ``int64`` for index inputs."""
        return self._structure.dtype

    @property
    def needs_gradient(self) -> bool:
        """Whether a parameter that is trainable now stands behind it, on a path that gradients take."""
        return self._structure.needs_gradient

    def parameters(self) -> list[ParameterNode]:
        """The parameters behind this node, in the order in which they are first needed; no tables of frequencies."""
        from wyrm.frontend.parameters import ParameterNode

        return [node for node in self._ancestors() if isinstance(node, ParameterNode) and node.dtype != "int64"]

    def _ancestors(self) -> list[Node]:
        """The node and all behind it, operands before results."""
        done: dict[Node, None] = {}
        for node in operands_first([self], attrgetter("_parents"), done):
            done[node] = None
        return list(done)

    def _depends_on(self, other: Node) -> bool:
        """Whether another node is among those behind this one: looked for from here on, since mostly it is near."""
        seen: dict[Node, None] = {self: None}
        waiting: deque[Node] = deque(seen)
        while waiting and other not in seen:
            new = dict.fromkeys(parent for parent in waiting.popleft()._parents if parent not in seen)
            seen |= new
            waiting.extend(new)
        return other in seen

    def _kind(self) -> str:
        return self._structure.op.name

    def _label(self) -> str:
        """How messages call the node."""
        name = getattr(self, "name", None)
        return f"{self._kind()} {name!r}" if isinstance(name, str) and name else f"{self._kind()} {self.shape}"

    def __repr__(self) -> str:
        name = getattr(self, "name", None)
        return f"<{self._kind()} {self.shape}{f' {name!r}' if isinstance(name, str) and name else ''}>"

    @classmethod
    def of(cls: type[N], node: Node) -> N:
        """A node of this class that is another one in all else: for subclasses that add methods to a result.

        Raises
        ------
        DTypeError
            For inputs and parameters, which are no results.
        """
        if isinstance(node._structure.op, Leaf):
            raise DTypeError(f"{cls.__name__}.of: expected the result of an op, got {node!r}")
        result = cls.__new__(cls)
        result._structure, result._graph, result._parents = node._structure, node._graph, node._parents
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        raise DTypeError(
            f"{self._label()} can be neither copied nor pickled: it belongs to its graph. Copy or pickle the parameters "
            f"(see parameters()), and call the function that built the graph again, with the copies"
        )

    # -- making nodes

    def _unary(self, op: Op, attributes: Attributes = ()) -> Node:
        a = self._structure
        node = Node()
        key = (op, a, attributes) if attributes else (op, a)
        node._structure = STORE.get(key) or _interned(op, (self,), (a,), attributes)
        node._graph = self._graph or current_graph()
        node._parents = (self,)
        return node

    def _binary(self, op: Op, other: Any) -> Node:
        a = self._structure
        try:
            b = other._structure
        except AttributeError:
            other = self._constant(other, op)
            b = other._structure
        graph = self._graph
        if graph is not other._graph:
            if graph is None:
                graph = other._graph
            elif other._graph is not None:
                return self._general(op, (other,), ())
        elif graph is None:
            graph = current_graph()
        node = Node()
        node._structure = STORE.get((op, a, b)) or _interned(op, (self, other), (a, b))
        node._graph = graph
        node._parents = (self, other)
        return node

    def _binary_reflected(self, op: Op, other: Any) -> Node:
        return self._constant(other, op)._binary(op, self)

    def _general(self, op: Op, others: tuple[Any, ...], attributes: Attributes) -> Node:
        """The node of an op with attributes, with more operands, or with operands of several graphs."""
        operands = (self, *[other if isinstance(other, Node) else self._constant(other, op) for other in others])
        structures = tuple([operand._structure for operand in operands])
        graphs = {operand._graph for operand in operands if operand._graph is not None}
        if len(graphs) > 1:
            if len({structure.dtype for structure in structures} - {"int64"}) > 1:
                from wyrm.frontend.agreement import agree

                agree(operands)
                structures = tuple([operand._structure for operand in operands])
            # Leaves can be added to a graph that has not been run, without disturbing those who rebuild it.
            graph = next((o._graph for o in operands if o._graph is not None and not o._graph.closed), None) or Graph()
            structures = tuple(
                [s if o._graph is None else graph.bring(s, o._graph) for s, o in zip(structures, operands, strict=True)]
            )
        else:
            graph = graphs.pop() if graphs else current_graph()
        node = Node()
        node._structure = STORE.get((op, *structures, attributes)) or _interned(op, operands, structures, attributes)
        node._graph = graph
        node._parents = operands
        return node

    def _constant(self, value: Any, op: Op) -> Node:
        """A number or array as a node beside this one."""
        from wyrm.frontend.inputs import constant

        try:
            return constant(value, self)
        except WyrmError as error:
            raise type(error)(f"{op.name} with {self._label()}: {error}") from None


#: What stands beside a node in an expression.
NodeLike = Node | float | Array


def apply(op: Op, *operands: Any, attributes: Attributes = ()) -> Node:
    """The node of an op on nodes, numbers and arrays, at least one of which is a node."""
    for first in operands:
        if isinstance(first, Node):
            break
    else:
        raise DTypeError(f"{op.name}: expected at least one node among the operands, got {operands!r}")
    nodes = [operand if isinstance(operand, Node) else first._constant(operand, op) for operand in operands]
    return nodes[0]._general(op, tuple(nodes[1:]), attributes)


def _interned(op: Op, operands: tuple[Node, ...], structures: tuple[Structure, ...], attributes: Attributes = ()) -> Structure:
    """The structure of an op; errors name the nodes."""
    for operand in operands:
        if not isinstance(operand, Node):  # a class of nodes has the attributes that are asked for
            operands[0]._constant(operand, op)
    try:
        return intern_op(op, structures, attributes)
    except (ShapeError, DTypeError) as error:
        from wyrm.frontend.agreement import agree

        if isinstance(error, DTypeError) and agree(operands):
            return _interned(op, operands, tuple([operand._structure for operand in operands]), attributes)
        labels = ", ".join(operand._label() for operand in operands)
        raise type(error)(f"{error} (operands: {labels})") from None
