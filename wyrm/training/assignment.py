"""Which optimizer updates which parameter of a training program, and what runners share because of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wyrm.backend import Backend
from wyrm.errors import OptionError
from wyrm.frontend.lowering.updates import Training
from wyrm.frontend.node import Node
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.storage import HogwildParameter
from wyrm.memory import Source, aligned
from wyrm.optim import Optimizer
from wyrm.optim.group import RunningGroup
from wyrm.program import Buffer, Program
from wyrm.training.runners import Worker

__all__ = ["Assignment"]


class Assignment:
    """Optimizers over the parameters of a loss.

    Attributes
    ----------
    training
        What happens to each parameter of the program, in order.

    Raises
    ------
    OptionError
        Where a parameter belongs to two optimizers, or none of them has one of the loss.
    """

    def __init__(self, loss: Node, nodes: Sequence[ParameterNode], optimizers: Sequence[Optimizer]) -> None:
        self.nodes, self.optimizers = nodes, optimizers
        #: Each group with the number of its optimizer; its own number is that of its scalars.
        self._groups: list[tuple[RunningGroup, int]] = []
        owners: dict[HogwildParameter, int] = {}
        for number, optimizer in enumerate(optimizers):
            if not isinstance(optimizer, Optimizer):
                raise OptionError(f"fit: expected an optimizer or several, got {optimizer!r}")
            for group in optimizer.groups:
                self._groups.append((group, number))
                for node in group.parameters:
                    if owners.setdefault(node.storage, len(self._groups) - 1) != len(self._groups) - 1:
                        raise OptionError(f"fit: {node!r} belongs to two optimizers; give each parameter to one")
        self.training: tuple[Training | None, ...] = tuple(
            self._training(owners[node.storage]) if node.storage in owners and node.trainable else None for node in nodes
        )
        if not any(self.training):
            raise OptionError(f"fit: no optimizer has a parameter of {loss!r}; its parameters are {list(nodes)!r}")
        used = {node.storage for node in nodes}
        #: Parameters of the optimizers that the loss does not depend on: a step passes over them, and some rules notice.
        self._others = [(group, node) for group, _ in self._groups for node in group.parameters if node.storage not in used]
        self._scalars: list[tuple[RunningGroup, int, Any]] = []
        self._made = 0

    def _training(self, number: int) -> Training:
        group, optimizer = self._groups[number]
        return Training(group.rule, number, optimizer, group.schedule is not None)

    def schedules(self, program: Program, length: int) -> list[Source]:
        """The sources of scalars that change with the steps of an epoch of so many examples."""
        sources = []
        for expected in program.inputs:
            if expected.kind == "schedule":
                group, _ = self._groups[expected.rule]
                rows = aligned((length, group.scalars.shape[1]), program.dtype)
                self._scalars.append((group, expected.lag, rows))
                sources.append(Source(rows, by_position=True))
        return sources

    def begin(self, backend: Backend) -> dict[Buffer, Any]:
        """Make the parameters ready for steps on a backend; returns what workers share, by buffer."""
        shared: dict[Buffer, Any] = {}
        for number, (group, _) in enumerate(self._groups):
            shared[Buffer("scalars", number)] = group.scalars
            for node in group.parameters:
                node.storage.follow(group.rule, group.scalars, backend)
        for p, (node, training) in enumerate(zip(self.nodes, self.training, strict=True)):
            node.storage.catch_up()
            wanted = [Buffer("value", p)]
            if training is not None:
                rule = training.rule
                wanted += [Buffer("state", p, f"{rule.name}.{state.name}") for state in rule.states]
                wanted += [Buffer("clock", p, rule.name)] if rule.catch_up is not None else []
            for buffer in wanted:
                shared[buffer] = node.storage.buffer(buffer)
        return shared

    def begin_epoch(self, workers: Sequence[Worker]) -> None:
        """Bring the scalars, and the numbers of steps that random numbers depend on, up to the steps made."""
        first = self.optimizers[0].steps
        self._made = sum(worker.examples for worker in workers)
        for worker in workers:
            worker.runner.first_step = first
        steps = {id(group): optimizer.steps for optimizer in self.optimizers for group in optimizer.groups}
        for group, lag, rows in self._scalars:
            group.rows(steps[id(group)] - lag, rows)

    def end_epoch(self, workers: Sequence[Worker]) -> None:
        """Count the steps that have been made."""
        made = sum(worker.examples for worker in workers) - self._made
        for optimizer in self.optimizers:
            optimizer.advance(made)
        for group, node in self._others:
            if group.rule.catch_up is not None:
                node.storage.clock(group.rule).header[0] += made
