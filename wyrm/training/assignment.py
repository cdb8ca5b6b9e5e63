"""Which optimizer updates which parameter of a training program, and what runners share because of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from wyrm.backend import Backend
from wyrm.errors import OptionError
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.updates import Training, lower_update
from wyrm.frontend.node import Node
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.storage import HogwildParameter
from wyrm.memory import Source, aligned
from wyrm.optim import Optimizer
from wyrm.optim.group import RunningGroup
from wyrm.program import Buffer, Program
from wyrm.training.crews import Crew
from wyrm.training.runners import Part

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
        #: Scalars of the steps of an epoch: by their number, how much they lag, their length and how often each stands there.
        self._scalars: dict[tuple[int, int, int, int], Any] = {}
        self._made = 0

    def _training(self, number: int) -> Training:
        group, optimizer = self._groups[number]
        return Training(group.rule, number, optimizer, group.schedule is not None)

    def schedules(self, program: Program, runs: int, batch_size: int = 1) -> list[Source]:
        """The sources of scalars that change with the steps of an epoch of so many runs.

        A program that makes steps reads those of its own position; one that gathers gradients, of the batch that its position
        belongs to.
        """
        each = batch_size if program.purpose == "accumulate" else 1
        length = -(-runs // batch_size) if program.purpose == "update" else runs
        sources = []
        for expected in program.inputs:
            if expected.kind == "schedule":
                key = expected.rule, expected.lag, length, each
                if key not in self._scalars:
                    width = self._groups[expected.rule][0].scalars.shape[1]
                    self._scalars[key] = aligned((length, width), program.dtype)
                sources.append(Source(self._scalars[key], by_position=True))
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

    def update(self, shared: Mapping[Buffer, Any], backend: Backend, runs: int, batch_size: int) -> Callable[[int], Part]:
        """The step after each batch of an epoch of so many runs, by the number of shards that gradients come in.

        Parameters
        ----------
        shared
            What :meth:`begin` returned.
        """
        trained = [p for p, training in enumerate(self.training) if training is not None]
        training = [training for training in self.training if training is not None]
        shapes = [self.nodes[p].shape for p in trained]
        own = {buffer: value for buffer, value in shared.items() if buffer.kind == "scalars"}
        for buffer, value in shared.items():
            if buffer.kind != "scalars" and buffer.number in trained:
                own[replace(buffer, number=trained.index(buffer.number))] = value

        def part(shards: int) -> Part:
            program = lower_update(shapes, training, self.nodes[0].dtype, backend.capabilities.kernels, shards)
            executable = compiled(program, backend)
            return Part(executable, self.schedules(program, runs, batch_size), (), 1, own, trained)

        return part

    def begin_epoch(self, crew: Crew) -> None:
        """Bring the scalars, and the numbers of steps that random numbers depend on, up to the steps made."""
        crew.begin_epoch(self.optimizers[0].steps * crew.batch_size)
        self._made = crew.steps
        for (number, lag, length, each), rows in self._scalars.items():
            group, optimizer = self._groups[number]
            steps = rows if each == 1 else aligned((-(-length // each), rows.shape[1]), rows.dtype)
            group.rows(self.optimizers[optimizer].steps - lag, steps)
            if each > 1:
                rows[...] = steps.repeat(each, axis=0)[:length]

    def end_epoch(self, crew: Crew) -> None:
        """Count the steps that have been made."""
        made = crew.steps - self._made
        for optimizer in self.optimizers:
            optimizer.advance(made)
        for group, node in self._others:
            if group.rule.catch_up is not None:
                node.storage.clock(group.rule).header[0] += made

    def settle(self) -> None:
        """Catch up with the rows left behind, so that it makes no difference to what follows whether anybody looks now."""
        for group, _ in self._groups:
            for node in group.parameters:
                node.storage.catch_up()
