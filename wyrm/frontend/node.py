"""Nodes: values in a graph, recorded as they are written down.

:class:`Node` is what an op returns and what all nodes have in common. Inputs are in :mod:`wyrm.frontend.inputs`, parameters in
:mod:`wyrm.frontend.parameters`, and the ops, with their methods, in :mod:`wyrm.frontend.ops`.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy.typing as npt

from wyrm.errors import DTypeError, MissingValueError, ShapeError, WyrmError
from wyrm.frontend.binding import Binding, Workspace
from wyrm.frontend.current import TIME, check_backward, is_current
from wyrm.frontend.graph import Graph, current_graph, no_value
from wyrm.frontend.mode import is_evaluating
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
from wyrm.frontend.structure import STORE, Structure, intern_op
from wyrm.frontend.threads import begin, end
from wyrm.program import Attributes, Shape
from wyrm.selection import get_backend

if TYPE_CHECKING:
    from wyrm.backend import Backend
    from wyrm.frontend.parameters import ParameterNode

__all__ = ["Node", "NodeLike", "apply"]

Array = npt.NDArray[Any]
N = TypeVar("N", bound="Node")


class Node(
    Elementwise, Comparisons, Functions, Choices, Products, Reductions, Shapes, Lookups, Cells, Random, Draws, Gradients
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

    __slots__ = ("__weakref__", "_graph", "_inputs", "_kept", "_parents", "_structure", "_workspace", "name")

    _structure: Structure
    #: ``None`` for parameters, which belong to no graph.
    _graph: Graph | None
    _parents: tuple[Node, ...]
    _workspace: Workspace
    #: The inputs behind a node that is fed, by their structures in its graph.
    _inputs: dict[Structure, Node]
    #: Programs that stay bound for calls of :func:`wyrm.fit` and :func:`wyrm.evaluate` with little data.
    _kept: dict[Any, Any]
    name: str | None
    #: NumPy leaves `array * node` to the node.
    __array_ufunc__ = None

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
        return f"{self._kind()} {name!r}" if name else f"{self._kind()} {self.shape}"

    def __repr__(self) -> str:
        name = getattr(self, "name", None)
        return f"<{self._kind()} {self.shape}{f' {name!r}' if name else ''}>"

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

    # -- passes

    def forward(self, backend: str | Backend | None = None) -> None:
        """Compute the value, from the inputs and the parameters as they are now.

        Parameters
        ----------
        backend
            Where to compute, by name; without, where this node was computed before, or on the default backend.

        Raises
        ------
        MissingValueError
            Where an input has been given no value.
        UnknownBackendError, BackendError
            Where there is no such backend, or it cannot be loaded.
        """
        graph: Any = self._graph
        try:
            workspace = self._workspace
        except AttributeError:
            return self._forward(backend)
        if graph.ready is not workspace or backend is not None:
            return self._forward(backend)
        graph.ready = None  # nobody else is to disturb it
        try:
            workspace.date = TIME.now = TIME.now + 1.0
            status = workspace.forward()
            if status:
                workspace = self._recovered(workspace, status)
        except BaseException:
            workspace.date, graph.fresh = -1.0, None
            raise
        finally:
            graph.ready = workspace
        graph.fresh = workspace

    def _forward(self, backend: str | Backend | None) -> None:
        """A pass that may not begin at once."""
        graph = self._graph
        assert graph is not None
        ready = begin(graph, self)
        workspace = getattr(self, "_workspace", None)
        try:
            if workspace is None or backend is not None:
                workspace = self._bind(backend)
            workspace = self._prepared(workspace)
            status = workspace.forward()
            if status:
                workspace = self._recovered(workspace, status)
            ready, graph.fresh = workspace, None if graph.imports else workspace
        except BaseException:
            graph.fresh = None
            if workspace is not None:
                workspace.date = -1.0
            raise
        finally:
            end(graph, ready)

    def _recovered(self, workspace: Workspace, status: int) -> Workspace:
        """Make good what stopped a pass, and run it to its end; returns where it has run."""
        while status:
            if workspace.binding.expired:
                workspace = self._prepared(self._bind(workspace.binding.backend))
            else:
                workspace.recover(status)
            status = workspace.forward()
        return workspace

    def _prepared(self, workspace: Workspace) -> Workspace:
        """The workspace in which a pass that is about to begin is to run, which is taken note of."""
        graph = self._graph
        assert graph is not None
        if not graph.plain:
            workspace = self._bind(workspace.binding.backend)
        graph.note_pass(workspace)
        workspace.date = TIME.now = TIME.now + 1.0
        return workspace

    def backward(self, weight: float = 1.0) -> None:
        """Add ``weight`` times the gradient of this node (of the sum of its elements) to the parameters' gradients.

        Differentiates the last forward pass of this node. If there was none, or ``trainable`` of a parameter was set after it,
        runs one first. It may be called several times after one forward pass: gradients add up. If no parameter behind the node
        is trainable, there is nothing to add.

        Parameters
        ----------
        weight
            A factor; exact for any number. Gradients of several calls add up until the optimizer's step, and so do those of the
            rows of a loss: for the mean of B examples, ``1 / B``.

        Raises
        ------
        StaleError
            If an input on which the node depends was set after its last forward pass, or the value of a parameter by this
            thread. No gradient has changed then.
        DTypeError
            If ``weight`` is no number.
        """
        try:
            workspace = self._workspace
        except AttributeError:
            self.forward()
            workspace = self._workspace
        graph: Any = self._graph
        ready = graph.ready
        if graph.fresh is not workspace or ready is None or TIME.change > workspace.date:
            return self._backward(weight)
        graph.ready = None
        try:
            status = workspace.backward(weight)
        except TypeError:
            raise self._no_weight(weight) from None
        finally:
            graph.ready = ready
        if status:
            self._backward(weight)

    def _backward(self, weight: float) -> None:
        """A pass that may not begin at once, or has been stopped by something that can be made good."""
        graph, workspace = self._graph, self._workspace
        assert graph is not None
        if workspace.binding.expired_backward:
            check_backward(self, workspace)
            self.forward()
            workspace = self._workspace
        ready = begin(graph, self)
        try:
            if graph.fresh is not workspace or TIME.change > workspace.date:
                check_backward(self, workspace)
            status = workspace.backward(weight)
            while status:
                workspace.recover(status)
                status = workspace.backward(weight)
        except TypeError:
            raise self._no_weight(weight) from None
        finally:
            end(graph, ready)

    def _no_weight(self, weight: object) -> DTypeError:
        return DTypeError(f"backward of {self._label()}: expected a number as weight, got {weight!r}")

    @property
    def value(self) -> Array:
        """What the last pass that held this node computed, as a copy.

        A forward pass is run first if there was none, or if since then an input was set on which this node depends, or a
        parameter was changed by ``set_value``, a load or :func:`wyrm.fit`. Inside :func:`wyrm.evaluating`, one is also run if
        the last was of training and something random is behind the node. An optimizer's step alone changes nothing: after it,
        a loss is still the one that was trained on. Nor does what others write into an array that a parameter adopted
        (``copy=False``), or into :attr:`HogwildParameter.value`: call :meth:`forward` then.
        """
        assert self._graph is not None
        found = self._graph.last_pass(self._structure)
        if found is None or not is_current(self, found[0]):
            self.forward()
            found = self._graph.last_pass(self._structure)
            assert found is not None
        ready = begin(self._graph, self)
        try:
            workspace, structure = found
            return workspace.value(structure)
        finally:
            end(self._graph, ready)

    def zero_gradient(self) -> None:
        """Set the gradients of all parameters behind this node back to zero."""
        for parameter in self.parameters():
            parameter.zero_gradient()

    def _bind(self, backend: str | Backend | None) -> Workspace:
        """Get a workspace for this node's program on a backend."""
        chosen = get_backend(backend)
        graph, structure = self._graph, self._structure
        assert graph is not None
        if graph.traced:
            raise MissingValueError(no_value(self._label(), graph.traced))
        key = chosen, graph.random > 0 and is_evaluating()
        binding = structure.bindings.get(key)
        if binding is None or binding.expired:
            binding = Binding(structure, *key)
            graph.workspaces = [workspace for workspace in graph.workspaces if not workspace.binding.expired]
        if graph.imports:
            graph.refresh()
        if graph.unset:
            self._check_inputs(binding, graph)
        for workspace in graph.workspaces:
            if workspace.binding is binding:
                break
        else:
            workspace = binding.lease(graph.leaves)
            graph.workspaces.append(workspace)
        graph.closed = True
        self._workspace = workspace
        return workspace

    def _check_inputs(self, binding: Binding, graph: Graph) -> None:
        """Raise where an input of the program has no value."""
        from wyrm.frontend.agreement import has_changed

        if graph.unset.isdisjoint(binding.cells):
            return
        for node in self._ancestors():
            if isinstance(node._structure.op, Leaf) and getattr(node, "is_set", True) is False:
                raise MissingValueError(f"{node._label()} has no value yet; call its set_value before running {self._label()}")
        raise MissingValueError(has_changed(self._label()))

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
    try:
        return intern_op(op, structures, attributes)
    except (ShapeError, DTypeError) as error:
        from wyrm.frontend.agreement import agree

        if isinstance(error, DTypeError) and agree(operands):
            return _interned(op, operands, tuple([operand._structure for operand in operands]), attributes)
        labels = ", ".join(operand._label() for operand in operands)
        raise type(error)(f"{error} (operands: {labels})") from None
