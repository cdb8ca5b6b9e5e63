"""Passes of nodes that are driven from Python: computing values, gathering gradients, and reading what was computed.

A node that has run before has a workspace, with programs bound to memory. A pass that may begin at once (:mod:`wyrm.turns`) is
one native call, and so is reading what the last one computed. ``_forward``, ``_backward`` and ``_value`` do everything else:
they bind programs, refuse other threads, and recover from statuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from wyrm.errors import DTypeError, MissingValueError
from wyrm.frontend.binding import Binding, Workspace
from wyrm.frontend.current import check_backward, is_current
from wyrm.frontend.graph import Graph, no_value
from wyrm.frontend.mode import is_evaluating
from wyrm.frontend.op import Leaf
from wyrm.frontend.threads import begin, end
from wyrm.selection import get_backend
from wyrm.turns import NOW, TIME

if TYPE_CHECKING:
    from wyrm.backend import Backend
    from wyrm.frontend.node import Node
    from wyrm.frontend.parameters import ParameterNode
    from wyrm.frontend.structure import Structure

__all__ = ["Passes"]

Array = npt.NDArray[Any]


class Passes:
    """The methods of nodes that run passes or read their results."""

    __slots__ = ("_workspace",)

    #: Where it ran last.
    _workspace: Workspace

    if TYPE_CHECKING:
        _structure: Structure
        _graph: Graph | None

        def parameters(self) -> list[ParameterNode]: ...  # noqa: D102
        def _ancestors(self) -> list[Node]: ...
        def _label(self) -> str: ...

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
        try:
            run = self._workspace.forward_at_once
        except AttributeError:
            return self._forward(backend)
        if backend is not None or run():
            self._forward(backend)

    def _forward(self, backend: str | Backend | None) -> None:
        """A pass that may not begin at once, or has been stopped by something that can be made good."""
        graph = self._graph
        assert graph is not None
        ready = begin(graph, self)
        workspace = getattr(self, "_workspace", None)
        try:
            if workspace is None or backend is not None:
                workspace = self._bind(backend)
            workspace = self._prepared(workspace)
            try:
                status = workspace.forward()
                while status:
                    if workspace.binding.expired:
                        workspace = self._prepared(self._bind(workspace.binding.backend))
                    else:
                        workspace.recover(status)
                    status = workspace.forward()
            except BaseException:
                workspace.date = ready = 0
                raise
            ready = workspace.name
        finally:
            end(graph, ready)

    def _prepared(self, workspace: Workspace) -> Workspace:
        """The workspace in which a pass that is about to begin is to run, which is taken note of."""
        graph = self._graph
        assert graph is not None
        if not graph.plain:
            workspace = self._bind(workspace.binding.backend)
        graph.note_pass(workspace)
        TIME[NOW] += 1
        workspace.date = TIME[NOW]
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
        ThreadError
            If another thread uses the graph, or is at work on the gradient of a parameter; nothing has changed then.
        DTypeError
            If ``weight`` is no number.
        """
        try:
            run = self._workspace.backward_at_once
        except AttributeError:
            self.forward()
            run = self._workspace.backward_at_once
        try:
            status = run(weight)
        except (OverflowError, TypeError):
            raise self._no_weight(weight) from None
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
            if not workspace.is_fresh():
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
        try:
            value = self._workspace.value_at_once()
        except AttributeError:  # it has not run yet
            value = None
        return self._value() if value is None else value

    def _value(self) -> Array:
        """The value, if it may not be read at once."""
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
                if getattr(node, "within_loop", False):
                    raise node._missing()  # type: ignore[attr-defined]
                raise MissingValueError(f"{node._label()} has no value yet; call its set_value before running {self._label()}")
        raise MissingValueError(has_changed(self._label()))
