"""Which optimizer updates which parameter, and what programs find in their buffers because of it.

The parameters of a whole model are numbered here, those of the optimizers first: programs of different structures, which have
different parameters, name the same gradient by the same number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.backend import Backend, Executable
from wyrm.errors import OptionError
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.updates import Training, lower_update
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.storage import HogwildParameter
from wyrm.memory import Source, aligned
from wyrm.optim import Optimizer
from wyrm.optim.group import RunningGroup
from wyrm.program import Buffer, Program
from wyrm.training.runners import Part

__all__ = ["Assignment", "Schedules"]


class Assignment:
    """Optimizers over the parameters of a model.

    Attributes
    ----------
    nodes
        A node for each parameter, by its number.

    Raises
    ------
    OptionError
        Where a parameter belongs to two optimizers.
    """

    def __init__(self, optimizers: Sequence[Optimizer], backend: Backend) -> None:
        self.optimizers, self.backend = optimizers, backend
        #: Each group with the number of its optimizer; its own number is that of its scalars.
        self.groups: list[tuple[RunningGroup, int]] = []
        self.nodes: list[ParameterNode] = []
        self._numbers: dict[HogwildParameter, int] = {}
        #: The group that trains each storage, by number, and the node that the optimizer has.
        self._owners: dict[HogwildParameter, tuple[int, ParameterNode]] = {}
        for number, optimizer in enumerate(optimizers):
            for group in optimizer.groups:
                self.groups.append((group, number))
                for node in group.parameters:
                    if node.storage in self._owners:
                        raise OptionError(f"fit: {node!r} belongs to two optimizers; give each parameter to one")
                    self._owners[node.storage] = len(self.groups) - 1, node
                    self._number(node)
        self._updates: dict[Any, Executable] = {}
        #: Those that an update sees to, by number.
        self._updated = range(len(self.nodes))

    def begin(self) -> None:
        """Make the parameters ready for steps."""
        for group, _ in self.groups:
            for node in group.parameters:
                node.storage.follow(group.rule_of(node), group.scalars)

    def check_adopted(self) -> None:
        """Raise if an array that a parameter has adopted is not what it was."""
        for node in self.nodes:
            node.storage.check_adopted()

    def settle(self, steps: int) -> None:
        """Bring the rows up to date that an epoch has left behind: what is done with the parameters next need not do so.

        Of a parameter with more rows than steps were made, few rows were needed, and few may be needed next: so they stay.
        """
        for group, _ in self.groups:
            for node in group.parameters:
                if node.storage.lazy is not None and steps >= node.shape[0]:
                    node.storage.settle()

    def _number(self, node: ParameterNode) -> int:
        if node.storage not in self._numbers:
            self._numbers[node.storage] = len(self.nodes)
            self.nodes.append(node)
        return self._numbers[node.storage]

    def owns(self, node: ParameterNode) -> bool:
        """Whether an optimizer has a parameter, be it trainable now or not."""
        return node.storage in self._owners

    def trains(self, node: ParameterNode) -> bool:
        """Whether an optimizer changes a parameter now."""
        _, owned = self._owners.get(node.storage, (0, None))
        return owned is not None and owned.trainable

    def _training(self, node: ParameterNode) -> Training | None:
        number, owned = self._owners.get(node.storage, (0, None))
        if owned is None or not owned.trainable:
            return None
        group, optimizer = self.groups[number]
        return Training(group.rule_of(owned), number, optimizer, group.schedule is not None)

    def of(self, nodes: Sequence[ParameterNode], steps: bool) -> tuple[tuple[Training | None, ...], list[int]]:
        """What happens to the parameters of a program, and their numbers.

        Parameters
        ----------
        nodes
            Those of the program's structure.
        steps
            Whether each run is a step. Then there are further parameters, which a step passes over, as their rules notice.
        """
        numbers = [self._number(node) for node in nodes]
        training = [self._training(node) for node in nodes]
        if steps:
            for number in self._updated:
                how = self._training(self.nodes[number])
                if number not in numbers and how is not None and how.rule.catch_up is not None:
                    numbers.append(number)
                    training.append(how._replace(shape=self.nodes[number].shape))
        return tuple(training), numbers

    def buffers(self, program: Program, numbers: Sequence[int]) -> dict[Buffer, Any]:
        """What a program shares with others, by its buffers; ``numbers`` are those of its parameters."""
        shared: dict[Buffer, Any] = {}
        for buffer in program.buffers:
            if buffer.kind == "scalars":
                shared[buffer] = self.groups[buffer.number][0].scalars
            elif buffer.kind in ("value", "state", "clock"):
                shared[buffer] = self.nodes[numbers[buffer.number]].storage.buffer(buffer)
        return shared

    def update(self, dtype: str, schedules: Schedules, shards: int = 1) -> Part:
        """The step that follows a batch, over the gradients of so many shards, each of which has all parameters' gradients."""
        pairs = [(n, self._training(self.nodes[n])) for n in self._updated if self.nodes[n].dtype == dtype]
        trained = [(number, how) for number, how in pairs if how is not None]
        numbers = [number for number, _ in trained]
        key = dtype, shards, tuple(trained)
        if key not in self._updates:
            shapes = [self.nodes[number].shape for number in numbers]
            program = lower_update(shapes, [how for _, how in trained], dtype, self.backend.capabilities.kernels, shards)
            self._updates[key] = compiled(program, self.backend)
        executable = self._updates[key]
        program = executable.program
        return Part(executable, schedules.sources(program), (), 1, self.buffers(program, numbers), numbers)


class Schedules:
    """Inputs of programs by position: the scalars of an epoch's steps, if they follow schedules; the shares of its runs.

    The share of a run is 1 by the number of examples in its batch: gradients that are multiplied with it add up to the mean of
    the examples' gradients, whatever the length of the batch and of its runs.

    Parameters
    ----------
    runs, batch_size
        How many runs an epoch has, and how many make a step.
    """

    def __init__(self, assignment: Assignment, runs: int, batch_size: int) -> None:
        self._assignment, self._runs, self._batch_size = assignment, runs, batch_size
        self._rows: dict[tuple[int | None, int], npt.NDArray[Any]] = {}

    def sources(self, program: Program) -> list[Source]:
        """Those of a program, whose positions are runs; those of an update are batches."""
        sources = []
        batch = 1 if program.purpose == "update" else self._batch_size
        for expected in program.inputs:
            if expected.kind == "schedule":
                key = expected.rule, batch
                if key not in self._rows:
                    length = self._runs if program.purpose != "update" else -(-self._runs // self._batch_size)
                    self._rows[key] = aligned((length, expected.slot.shape[1]), program.dtype)
                sources.append(Source(self._rows[key], by_position=True))
        return sources

    @property
    def any(self) -> bool:
        """Whether programs read any."""
        return bool(self._rows)

    def begin(self, examples: npt.NDArray[np.int64]) -> None:
        """Fill them for the steps that come next; ``examples`` says how many each run has."""
        for (number, batch), rows in self._rows.items():
            if number is None:
                counts = np.add.reduceat(examples, np.arange(0, len(examples), batch))
                rows[:, 0] = np.repeat(1 / counts, batch)[: len(rows)]
                continue
            group, optimizer = self._assignment.groups[number]
            first = self._assignment.optimizers[optimizer].steps
            if batch == 1:
                group.rows(first, rows)
                continue
            steps = np.zeros((-(-len(rows) // batch), rows.shape[1]), rows.dtype)
            group.rows(first, steps)
            rows[...] = np.repeat(steps, batch, axis=0)[: len(rows)]
