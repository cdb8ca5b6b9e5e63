"""Programs: from the graphs of a model to what workers run, each program made once, whatever the number of feeds."""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from wyrm.backend import Backend, Executable
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import Trace, trace
from wyrm.frontend.op import INPUTS, PARAMETER
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.structure import Structure
from wyrm.memory import Sink
from wyrm.program import Buffer, Program, Purpose
from wyrm.training.arrangement import Arrangement
from wyrm.training.assignment import Assignment, Schedules
from wyrm.training.feed import Data
from wyrm.training.models import Model, Traced
from wyrm.training.runners import Part

__all__ = ["EvaluatingPrograms", "Programs", "TrainingPrograms", "uncollected"]


class _Made(NamedTuple):
    """A program, the structures of its inputs, and the numbers of its parameters."""

    executable: Executable
    leaves: list[Structure]
    numbers: list[int]


class Programs(ABC):
    """The programs of a model for one purpose on one backend.

    Parameters
    ----------
    roots
        Which of the model's roots are computed.
    """

    def __init__(self, model: Model, roots: str, backend: Backend) -> None:
        self.model, self.backend, self._roots = model, backend, roots
        self._made: dict[Traced, _Made] = {}

    @abstractmethod
    def _lower(self, traced: Trace, nodes: list[ParameterNode]) -> tuple[Program, list[int]]:
        """The program of a trace over parameters, and their numbers."""

    @abstractmethod
    def _shared(self, program: Program, numbers: Sequence[int]) -> Mapping[Buffer, Any]:
        """What the program shares with others."""

    def _make(self, traced: Traced) -> _Made:
        if traced not in self._made:
            records, structures, _ = trace(traced.structures, _storage)
            nodes = [structures[n].live_parameter() for n in records.leaves(PARAMETER)]
            program, numbers = self._lower(records, nodes)
            leaves = [structures[n] for n in records.leaves(*INPUTS)]
            self._made[traced] = _Made(compiled(program, self.backend), leaves, numbers)
        return self._made[traced]

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
            Where an index lies outside its table, naming the example.
        """
        with uncollected():
            return [self._part(data, *part, seed, schedules, sinks) for part in arrangement.parts]

    def _part(
        self, data: Data, structure: int, examples: int, seed: int, schedules: Schedules | None, sinks: Sequence[Sink]
    ) -> Part:
        traced = self.model.traced(data, structure, examples, self._roots)
        executable, leaves, numbers = self._make(traced)
        program = executable.program
        sources = []
        for leaf, expected in zip(leaves, program.inputs, strict=False):
            place = traced.place(leaf)
            if place is None:
                sources.append(traced.kept(leaf, seed))
                continue
            name, position = place
            column = data.columns[name]
            if column.index and not column.within(expected.limit):
                column.check_range(expected.limit, data.examples(structure), position)
            sources.append(column.source(position))
        if schedules is not None:
            sources += schedules.sources(program)
        return Part(executable, sources, sinks, examples, self._shared(program, numbers), numbers)


class TrainingPrograms(Programs):
    """Programs of which each run is a step, or one of several that make one."""

    def __init__(self, model: Model, roots: str, assignment: Assignment, purpose: Purpose) -> None:
        super().__init__(model, roots, assignment.backend)
        self.assignment, self._purpose = assignment, purpose
        #: Whether any of them has a parameter that is trained.
        self.any_trained = False
        #: The dtype of the model.
        self.dtype = ""

    def _lower(self, traced: Trace, nodes: list[ParameterNode]) -> tuple[Program, list[int]]:
        training, numbers = self.assignment.of(nodes, self._purpose == "train")
        self.any_trained |= any(training[: len(nodes)])
        self.dtype = traced.dtype
        return lower(traced, self._purpose, self.backend.capabilities.kernels, training), numbers

    def _shared(self, program: Program, numbers: Sequence[int]) -> Mapping[Buffer, Any]:
        return self.assignment.buffers(program, numbers)


class EvaluatingPrograms(Programs):
    """Programs that run forward only."""

    def __init__(self, model: Model, roots: str, backend: Backend) -> None:
        super().__init__(model, roots, backend)
        self._nodes: dict[Any, int] = {}

    def _lower(self, traced: Trace, nodes: list[ParameterNode]) -> tuple[Program, list[int]]:
        numbers = [self._nodes.setdefault(node.storage, len(self._nodes)) for node in nodes]
        return lower(traced, "evaluate", self.backend.capabilities.kernels), numbers

    def _shared(self, program: Program, numbers: Sequence[int]) -> Mapping[Buffer, Any]:
        storages = list(self._nodes)
        return {buffer: storages[numbers[buffer.number]].value for buffer in program.buffers if buffer.kind == "value"}

    def catch_up(self) -> None:
        """Bring up to date the rows that optimizers have left behind."""
        for storage in self._nodes:
            storage.catch_up()


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
