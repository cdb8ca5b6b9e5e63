"""Bindings and workspaces: a structure's interactive program on one backend, and the memory that live graphs run it in.

A workspace belongs to one graph at a time; when the graph is gone it goes back to the pool of its binding. The pool is
emptied when a parameter that it is bound to is gone: nothing here keeps a table alive. A binding expires when its program no
longer does what it should: because an optimizer has begun to leave rows behind, or what is trained has changed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from wyrm.backend import Backend
from wyrm.borrowed import CHANGED, watched
from wyrm.errors import BackendError, OutOfRangeError
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.op import INPUTS, PARAMETER
from wyrm.frontend.recent import LIMIT
from wyrm.frontend.structure import Structure
from wyrm.gradient_use import IN_USE, gradients_of, guarded, in_use, using
from wyrm.leaves import Leaves
from wyrm.memory import BagBuffer, GradientBuffer, Memory, Report, address
from wyrm.program import ParameterSlot
from wyrm.turns import at_once

if TYPE_CHECKING:
    from wyrm.frontend.parameters import ParameterNode

__all__ = ["Binding", "Workspace"]

Array = npt.NDArray[Any]

#: How many workspaces a pool keeps.
_POOL_LIMIT = 64
#: What the passes of expired workspaces return, beside the statuses of :class:`wyrm.memory.Report`.
_EXPIRED = -1


class Binding:
    """The interactive program of a structure on a backend.

    Attributes
    ----------
    evaluating
        Whether it leaves out what is random in training.
    root
        The structure.
    expired, expired_backward
        Whether another one has to be made for the next forward pass; and for the next backward pass, too.
    """

    def __init__(self, structure: Structure, backend: Backend, evaluating: bool = False) -> None:
        traced, structures, numbers = trace([structure])
        self.backend = backend
        self.evaluating = evaluating
        self.expired = self.expired_backward = False
        self._parameters = [structures[n] for n in traced.leaves(PARAMETER)]
        for parameter in self.parameters():
            parameter._bound_by(self)  # before their rules are asked for: from now on it is told when they change
        lazy = tuple(parameter.storage.lazy for parameter in self.parameters())
        kernels, looks = backend.capabilities.kernels, backend.looks_at_gradients
        self.program = lower(traced, "interactive", kernels, lazy=lazy, evaluating=evaluating, checked=looks)
        self.executable = compiled(self.program, backend)
        self.root = structure
        #: The numbers of the structures whose values the program holds.
        self.numbers = {structure: number for structure, number in numbers.items() if number in self.program.values}
        #: The numbers of the inputs in their graph.
        self.cells = tuple(structures[n].number for n in traced.leaves(*INPUTS))
        self._pool: list[Workspace] = []
        self._workspaces: weakref.WeakSet[Workspace] = weakref.WeakSet()
        self._retired = False
        self._place = structure.bindings, (backend, evaluating)
        self._place[0][self._place[1]] = self
        _keep(self)

    def parameters(self) -> list[ParameterNode]:
        """The nodes of the program's parameters, in its order."""
        return [structure.live_parameter() for structure in self._parameters]

    def is_alive(self) -> bool:
        """Whether all of its parameters are still there."""
        return all(structure.parameter is not None and structure.parameter() is not None for structure in self._parameters)

    def lease(self, leaves: Leaves) -> Workspace:
        """A workspace attached to a graph's leaves."""
        if self._pool:
            workspace = self._pool.pop()
        else:
            workspace = Workspace(self, self.parameters())
            self._workspaces.add(workspace)
        workspace.attach(leaves)
        return workspace

    def give_back(self, workspace: Workspace) -> None:
        """Take a workspace into the pool."""
        if not self._retired and len(self._pool) < _POOL_LIMIT:
            self._pool.append(workspace)

    def retire(self) -> None:
        """Let go of all pooled memory: a parameter is gone, or others were needed since."""
        self._retired = True
        _RECENT.pop(self, None)
        bindings, key = self._place
        if bindings.get(key) is self:
            del bindings[key]
        self._pool.clear()

    @property
    def in_use(self) -> bool:
        """Whether a graph that is there has been run by it."""
        return len(self._workspaces) > len(self._pool)

    def expire(self, backward: bool) -> None:
        """Have whoever runs a forward pass, or a backward pass as well, ask for a new binding."""
        self.expired = True
        self.expired_backward |= backward
        self.retire()
        for workspace in list(self._workspaces):
            workspace.stop_passes()


#: The bindings that are kept for graphs to come, in the order in which they were made.
_RECENT: dict[Binding, None] = {}


def _keep(binding: Binding) -> None:
    """Keep a binding, and let the oldest go that no graph uses."""
    _RECENT[binding] = None
    for oldest in list(_RECENT)[: len(_RECENT) - LIMIT]:
        _RECENT.pop(oldest, None)
        if oldest.in_use:
            _RECENT[oldest] = None
        else:
            oldest.retire()


def _expired(*weight: float) -> int:
    return _EXPIRED


class Workspace:
    """The buffers of one live graph for one program.

    Attributes
    ----------
    forward, backward
        The passes, as functions of nothing and of the weight; they return a status.
    forward_at_once, backward_at_once
        The same, if they may begin at once (:mod:`wyrm.turns`).
    is_fresh
        Whether neither an input of the program nor any parameter was set since the last forward pass.
    value_at_once
        A copy of what the root was computed to be, or ``None``, if that may not be read at once.
    """

    __slots__ = (
        "__weakref__",
        "_gradients",
        "_leaves",
        "_pass",
        "_views",
        "backward",
        "backward_at_once",
        "binding",
        "forward",
        "forward_at_once",
        "is_fresh",
        "memory",
        "name",
        "value_at_once",
    )

    binding: Binding

    forward: Callable[[], int]
    backward: Callable[[float], int]
    forward_at_once: Callable[[], int]
    backward_at_once: Callable[[float], int]
    is_fresh: Callable[[], bool]
    value_at_once: Callable[[], Array | None]

    def __init__(self, binding: Binding, parameters: list[ParameterNode]) -> None:
        program = binding.program
        self.binding = binding
        #: The gradient buffers that take rows, and how many a pass may add beside those of bags.
        self._gradients: list[tuple[GradientBuffer, int]] = []
        buffers: list[Any] = Memory.own(program)
        for buffer in program.buffers[2:]:
            if buffer.kind == "bag":
                buffers.append(BagBuffer(program.inputs[buffer.number].slot.shape[0], program.dtype))
            elif buffer.kind == "gradient":
                buffers.append(self._gradient(parameters[buffer.number], program.parameters[buffer.number]))
            else:
                buffers.append(parameters[buffer.number].storage.buffer(buffer))
        for node in parameters:
            node._backend = binding.backend
        adopted = [node.storage.adopted for node in parameters if node.storage.adopted is not None]
        self.memory = Memory(program, buffers, adopted=adopted)
        #: What it is called in a graph's words: the address of its date.
        self.name = address(self.memory.date)
        self._pass = binding.executable.bind(self.memory, binding.cells)
        self._leaves: Leaves | None = None
        #: The memory of values that have been read.
        self._views: dict[Structure, Array] = {}

    def _gradient(self, node: ParameterNode, use: ParameterSlot) -> GradientBuffer:
        gradient = node._gradient_buffer()
        if self.binding.program.look is None:
            gradient.doubt(always=True)
        if use.gradient == "rows":
            with using(gradient, node._label()):
                gradient.reserve(use.rows_per_pass)
            self._gradients.append((gradient, use.rows_per_pass))
        return gradient

    def attach(self, leaves: Leaves) -> None:
        """Let the passes read these leaves: mostly those of the last graph, which are used again as the workspace is."""
        if leaves is not self._leaves:
            self._leaves = leaves
            self.forward, self.backward = self._pass.attached(leaves)
            if not self._pass.guards_memory:
                self.forward = watched(self.forward, self.memory.adopted)
                self.backward = watched(guarded(self.backward, gradients_of(self.memory)), self.memory.adopted)
            passes = self.forward, self.backward
            ways = self._pass.at_once(leaves) or at_once(passes, self.memory, leaves, self.binding.cells)
            self.forward_at_once, self.backward_at_once, self.is_fresh, copying = ways
            self.value_at_once = copying(self._view(self.binding.root))
            self.stop_passes()

    def stop_passes(self) -> None:
        """Let passes for which the binding has expired return that status."""
        if self.binding.expired:
            self.forward = self.forward_at_once = _expired
        if self.binding.expired_backward:
            self.backward = self.backward_at_once = _expired

    @property
    def date(self) -> int:
        """Of the last forward pass; 0 if there was none, or it failed."""
        return self.memory.date[0]

    @date.setter
    def date(self, date: int) -> None:
        self.memory.date[0] = date

    def release(self) -> None:
        """Give the workspace back to its pool."""
        self.date = 0
        self.binding.give_back(self)

    def value(self, structure: Structure) -> Array:
        """A copy of what the last pass computed for a structure that the program holds."""
        copy: Array = self._view(structure).copy()
        return copy

    def _view(self, structure: Structure) -> Array:
        """Where the value of a structure stands."""
        view = self._views.get(structure)
        if view is None:
            slot = self.binding.program.values[self.binding.numbers[structure]]
            flat: Array = self.memory.buffers[slot.buffer].reshape(-1)[slot.offset :]
            strides = (slot.stride * flat.itemsize, flat.itemsize)
            view = self._views[structure] = np.lib.stride_tricks.as_strided(flat, slot.shape, strides)
        return view

    def recover(self, status: int) -> None:
        """Make good what stopped a pass, so that it can be tried again, or raise."""
        needed = int(self.memory.report.words[3])
        if status == Report.ROWS_FULL:
            full = False
            for gradient, rows in self._gradients:  # each of them
                with using(gradient, "a parameter"):
                    full |= gradient.reserve(max(rows, needed))
            if full:
                return
        elif status == Report.BAG_FULL:
            slot = self.binding.program.inputs[int(self.memory.report.words[1])].slot
            bag: BagBuffer = self.memory.buffers[slot.buffer]
            if needed > len(bag.indices):
                bag.reserve(needed + needed // 2)
                return
        self._fail(status)

    def _fail(self, status: int) -> NoReturn:
        """Raise what a status stands for."""
        if status == IN_USE:
            busy = [node._label() for node in self.binding.parameters() if node._gradient_buffer().busy[0]]
            raise in_use(" or ".join(busy) or "a parameter")
        if status == CHANGED:
            for node in self.binding.parameters():
                node.storage.check_adopted()
        report = self.memory.report.words
        if status == Report.INDEX_OUT_OF_RANGE:
            number, position, index = (int(word) for word in report[1:4])
            limit = self.binding.program.inputs[number].limit
            raise OutOfRangeError(
                f"index input {number}: position {position} holds {index}, which is outside the table of {limit} rows"
            )
        raise BackendError(f"backend {self.binding.backend.name!r} returned status {status}: {report.tolist()}")


def retire_all(bindings: list[weakref.ref[Binding]]) -> None:
    """Retire the bindings that are still there."""
    for reference in bindings:
        binding = reference()
        if binding is not None:
            binding.retire()
