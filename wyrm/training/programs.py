"""Programs: from the graphs of a model to what workers run, each program made once, whatever the number of feeds."""

from __future__ import annotations

import gc
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wyrm.backend import Backend, Executable
from wyrm.errors import OptionError
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.bounds import LEAF
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import Trace, trace
from wyrm.frontend.op import INPUT, INPUTS, PARAMETER
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.storage import HogwildParameter
from wyrm.frontend.structure import Structure
from wyrm.memory import Sink
from wyrm.program import Buffer, Program, Purpose
from wyrm.training.arrangement import Arrangement
from wyrm.training.assignment import Assignment, Schedules
from wyrm.training.feed import Data
from wyrm.training.models import Model, Traced
from wyrm.training.runners import Part

__all__ = ["EvaluatingPrograms", "Programs", "TrainingPrograms", "are_large", "uncollected"]

_logger = logging.getLogger("wyrm.fit")
_VALUE, _CLOCK = Buffer("value"), Buffer("clock")


#: A program, the numbers of its parameters, and what makes a part of it that looks at gradients more closely.
_Lowered = tuple[Program, list[int], Callable[[Part], Part] | None]


class _Made(NamedTuple):
    """A program, the structures of its inputs, the nodes of its parameters and their numbers; and what looks more closely."""

    executable: Executable
    leaves: list[Structure]
    nodes: list[ParameterNode]
    numbers: list[int]
    closely: Callable[[Part], Part] | None


class Programs(ABC):
    """The programs of a model for one purpose on one backend.

    Parameters
    ----------
    roots
        Which of the model's roots are computed.
    """

    def __init__(self, model: Model, roots: str, backend: Backend) -> None:
        self.model: Any = model
        self.backend, self._roots = backend, roots
        self._made: dict[Traced, _Made] = {}

    def note(self, nodes: Sequence[ParameterNode]) -> None:
        """Take note of the nodes of a structure's parameters, of which several may share storage."""
        return

    @abstractmethod
    def _lower(self, traced: Trace, nodes: list[ParameterNode], examples: int, large: bool) -> _Lowered:
        """The program of a trace over parameters for runs of so many examples, the parameters' numbers, and ``Part.closely``.

        ``large``: constants are larger than :mod:`wyrm.frontend.lowering.bounds` takes inputs to be.
        """

    @abstractmethod
    def _shared(self, program: Program, numbers: Sequence[int]) -> Mapping[Buffer, Any]:
        """What the program shares with others."""

    def _make(self, traced: Traced) -> _Made:
        if traced not in self._made:
            records, structures, known = trace(traced.structures, _storage)
            self.note([structure.live_parameter() for structure in known if structure.op is PARAMETER])
            nodes = [structures[n].live_parameter() for n in records.leaves(PARAMETER)]
            leaves = [structures[n] for n in records.leaves(*INPUTS)]
            constants = [traced.kept(leaf, 0).array for leaf in leaves if leaf.op is INPUT and traced.place(leaf) is None]
            large = are_large(constants, records.dtype)
            program, numbers, closely = self._lower(records, nodes, traced.examples, large)
            self._made[traced] = _Made(compiled(program, self.backend), leaves, nodes, numbers, closely)
        return self._made[traced]

    def end(self) -> None:
        """Let go of the model and its graphs, of which programs that have been bound know nothing."""
        self.model = None
        self._made.clear()

    def leaves(self, traced: Traced) -> list[Structure]:
        """The structures of the inputs of a graph's program, in its order."""
        return self._make(traced).leaves

    def parts(
        self,
        data: Data,
        arrangement: Arrangement,
        seed: int = 0,
        schedules: Schedules | None = None,
        sinks: Sequence[Sink] = (),
    ) -> list[Part]:
        """The parts of an arrangement.

        Parameters
        ----------
        seed
            Of random numbers for which the graph names none.
        schedules
            Where the scalars of steps come from.
        sinks
            Where the values of the roots go.

        Raises
        ------
        OutOfRangeError
            If an index lies outside its table, naming the example.
        LabelError
            If a loss does not take what it is fed as a label.
        """
        with uncollected():
            return [self._part(data, *part, seed, schedules, sinks) for part in arrangement.parts]

    def _part(
        self, data: Data, structure: int, examples: int, seed: int, schedules: Schedules | None, sinks: Sequence[Sink]
    ) -> Part:
        traced = self.model.traced(data, structure, examples, self._roots)
        executable, leaves, _, numbers, closely = self._make(traced)
        program = executable.program
        sources = []
        for leaf, expected in zip(leaves, program.inputs, strict=False):
            place = traced.place(leaf)
            if place is None:
                sources.append(traced.kept(leaf, seed))
                continue
            name, position = place
            column = data.columns[name]
            column.check(program.dtype, expected.limit, traced.labels(leaf), partial(data.examples, structure), position)
            sources.append(column.source(position, expected.slot.shape[0] // examples))
        if schedules is not None:
            sources += schedules.sources(program)
        return Part(executable, sources, sinks, examples, self._shared(program, numbers), numbers, closely)


class TrainingPrograms(Programs):
    """Programs of which each run is a step, or one of several that make one.

    Parameters
    ----------
    mean
        Whether a step is made by the mean of its examples' gradients; else by their sum.
    checked
        Whether a gradient that is not finite ends training before its update.

    Attributes
    ----------
    changes
        How often what is trained has changed: the programs that were made before are out of date.
    """

    def __init__(self, model: Model, roots: str, assignment: Assignment, purpose: Purpose, mean: bool, checked: bool) -> None:
        super().__init__(model, roots, assignment.backend)
        self.assignment, self._purpose, self._mean, self.checked = assignment, purpose, mean, checked
        self.changes = 0
        self._nodes: dict[ParameterNode, None] = {}
        #: The parameters that no optimizer has, of which a warning has been given.
        self._told: set[ParameterNode] = set()
        #: The number of changes at which a warning has been given that nothing is trained.
        self._idle = -1
        #: The number of changes at which there was nothing to warn of.
        self._quiet = -1
        for node in assignment.nodes:
            node._trained_by(self)
        #: The dtype of the model.
        self.dtype = ""

    def _lower(self, traced: Trace, nodes: list[ParameterNode], examples: int, large: bool) -> _Lowered:
        training, numbers = self.assignment.of(nodes, self._purpose == "train")
        self.dtype = traced.dtype
        share: float | None = 1.0
        if self._mean:  # of a batch of several runs, it depends on what else is in the batch
            share = 1 / examples if self._purpose == "train" else None
        storages = [self.assignment.nodes[number].storage for number in numbers]
        kernels = self.backend.capabilities.kernels

        def maker() -> Callable[..., Program]:
            lazy = tuple(storage.lazy for storage in storages)
            given = traced, self._purpose, kernels, training, lazy
            return partial(lower, *given, share=share, checked=self.checked, large=large)

        made = maker()()
        whole = {made.buffers[i.operands[0].buffer].number for i in made.instructions if i.kernel == "current"}
        for p in whole:  # each step brings all of it up to date, so that no run has to copy it
            storages[p].keep_up()
        closely = partial(_closer, maker(), self.backend, self.assignment, numbers) if self.checked else None
        return maker()() if whole else made, numbers, closely

    def begin(self, model: Model) -> None:
        """Go on with a model that is as the one before, for another call, which has warnings of its own."""
        self.model, self._idle = model, -1
        self._told.clear()

    def expire(self) -> None:
        """Have the programs made anew: what is trained has changed."""
        self._made.clear()
        self.changes += 1

    def note(self, nodes: Sequence[ParameterNode]) -> None:
        """As for other programs."""
        for node in nodes:
            if node not in self._nodes and node.dtype != "int64":
                self._nodes[node], self._quiet = None, -1
                node._trained_by(self)

    def check_optimizers(self) -> None:
        """Warn of parameters of the model that no optimizer has, once of each; and where none is trained.

        Raises
        ------
        OptionError
            Where that is all of them.
        """
        if self._quiet == self.changes:
            return
        without = [node for node in self._nodes if not self.assignment.owns(node)]
        if len(without) == len(self._nodes):
            raise OptionError("fit: no optimizer has a parameter of the loss")
        loud = [node for node in without if node.trainable]
        told = [node for node in loud if node not in self._told]
        if told:
            labels = ", ".join(node._label() for node in told)
            _logger.warning("no optimizer has %s: training leaves it as it is; if that is meant, set trainable=False", labels)
            self._told.update(told)
        if self._idle != self.changes and not any(map(self.assignment.trains, self._nodes)):
            _logger.warning("no parameter of the loss that an optimizer has is trainable: training changes nothing")
            self._idle = self.changes
        if not loud and self._idle != self.changes:
            self._quiet = self.changes

    def _shared(self, program: Program, numbers: Sequence[int]) -> Mapping[Buffer, Any]:
        return self.assignment.buffers(program, numbers)


class EvaluatingPrograms(Programs):
    """Programs that run forward only.

    Of a parameter of which rows may be behind, they compute those that they look up as these would be. If they read it as a
    whole, they read a copy, in which all rows are up to date.
    """

    def __init__(self, model: Model, roots: str, backend: Backend) -> None:
        super().__init__(model, roots, backend)
        #: Each parameter, in the order of their numbers, and how it was kept as programs were made.
        self._storages: dict[HogwildParameter, tuple[Any, ...]] = {}
        #: What is read of parameters as they are: themselves, or copies.
        self._values: dict[HogwildParameter, Any] = {}

    def _lower(self, traced: Trace, nodes: list[ParameterNode], examples: int, large: bool) -> _Lowered:
        storages = [node.storage for node in nodes]
        for storage in storages:
            self._storages.setdefault(storage, _state(storage))
        lazy = [storage.lazy for storage in storages]
        kernels = self.backend.capabilities.kernels
        made = lower(traced, "evaluate", kernels, lazy=tuple(lazy))
        whole = {made.buffers[i.operands[0].buffer].number for i in made.instructions if i.kernel == "current"}
        if whole:
            made = lower(traced, "evaluate", kernels, lazy=tuple(None if p in whole else lazy[p] for p in range(len(lazy))))
        places = list(self._storages)
        return made, [places.index(storage) for storage in storages], None

    def _shared(self, program: Program, numbers: Sequence[int]) -> Mapping[Buffer, Any]:
        storages = list(self._storages)
        behind = {buffer.number for buffer in program.buffers if buffer.kind == "clock"}
        shared: dict[Buffer, Any] = {}
        for buffer in program.buffers:
            if buffer.kind in ("value", "state", "clock"):
                storage = storages[numbers[buffer.number]]
                shared[buffer] = storage.buffer(buffer) if buffer.number in behind else self._value(storage)
        return shared

    def _value(self, storage: HogwildParameter) -> Any:
        if storage not in self._values:
            self._values[storage] = storage.read()
            self._values[storage].flags.writeable = True
        return self._values[storage]

    @property
    def reads_copies(self) -> bool:
        """Whether programs are bound to copies of parameters, which have to be brought up to date before each run."""
        return any(array is not storage.buffer(_VALUE) for storage, array in self._values.items())

    def refresh(self) -> bool:
        """Bring the copies up to date; whether programs have to be bound anew, as parameters are kept in another way now."""
        expired = any(now is not then for s, made in self._storages.items() for now, then in zip(_state(s), made, strict=True))
        for storage, array in self._values.items():
            if array is not storage.buffer(_VALUE):
                array[...] = storage.value
            elif storage.lazy is not None and len(storage.behind()):
                expired = True
        if expired:
            self._made.clear()
            self._storages.clear()
            self._values.clear()
        return expired


def _state(storage: HogwildParameter) -> tuple[Any, ...]:
    """What programs that read a parameter depend on."""
    return storage.buffer(_VALUE), storage.buffer(_CLOCK), storage.lazy


def _closer(
    maker: Callable[..., Program], backend: Backend, assignment: Assignment, numbers: Sequence[int], part: Part
) -> Part:
    """The part of a program that looks at each gradient itself, with all else that a part has."""
    executable = compiled(maker(closely=True), backend)
    return replace(part, executable=executable, shared=assignment.buffers(executable.program, numbers), closely=None)


def are_large(constants: Iterable[npt.NDArray[Any]], dtype: str) -> bool:
    """Whether constants are larger than inputs are taken to be: then more gradients have to be looked at."""
    return any(not (np.abs(array) < 2.0 ** LEAF[dtype]).all() for array in constants)


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the garbage collector: graphs and programs are many objects that live on, to be gone over again and again.

    In the end all objects count as old, as those do that have been gone over; what has frozen objects keeps them so.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def _storage(structure: Structure) -> int:
    """Nodes that share storage are one parameter."""
    return id(structure.live_parameter().storage)
