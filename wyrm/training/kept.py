"""Programs that stay bound to memory of their own from one call to the next, for data that are little.

Who trains or evaluates with one example after the other waits for programs to be bound, not for arithmetic. So the first node
of a model keeps the last few bindings. Data of the same layout, which is the inputs that are fed, their dtypes and the number
of examples, are checked as ever and copied to where the programs read them. A binding refers to no node that depends on inputs,
so it goes with the node that keeps it. It is taken out while it is in use, and put back if all went well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from wyrm.frontend.inputs import InputNode
from wyrm.frontend.labels import Labels
from wyrm.frontend.node import Node
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.random import RandomNode
from wyrm.training.assignment import Assignment
from wyrm.training.crews import Hogwild
from wyrm.training.feed import Data
from wyrm.training.models import GraphModel, Traced, kept_value, seen_from
from wyrm.training.order import key_seed
from wyrm.training.programs import Programs, TrainingPrograms, are_large
from wyrm.training.runners import Part

__all__ = ["HeldFeed", "KeptTraining", "key_of", "put_back", "take_out"]

Array = npt.NDArray[Any]
#: How many numbers a feed has at most for which programs stay bound, and how many bindings a node keeps.
_SMALL, _MOST_KEPT = 4096, 4


def key_of(model: Any, data: Data, *options: Any) -> tuple[Any, ...] | None:
    """What a binding is found by; ``None`` if none is kept for such a model or so much data."""
    if not isinstance(model, GraphModel) or model.weighted or data.size > _SMALL:
        return None
    first = model.nodes[0]
    layouts = [(seen_from(first, node), column.layout) for node, column in data.columns.items()]
    return *options, *[seen_from(first, node) for node in model.nodes[1:]], *layouts


def take_out(node: Node, key: tuple[Any, ...]) -> Any:
    """What the node keeps under a key, which nobody else has then; ``None`` if there is nothing."""
    try:
        return node._kept.pop(key, None)
    except AttributeError:
        return None


def put_back(node: Node, key: tuple[Any, ...], kept: Any) -> None:
    """Have a node keep something."""
    try:
        bindings = node._kept
    except AttributeError:
        bindings = node._kept = {}
    if len(bindings) >= _MOST_KEPT:
        bindings.clear()
    bindings[key] = kept


class HeldFeed:
    """A feed in memory of its own, of which others of the same layout take the place.

    Attributes
    ----------
    data
        What programs are bound to.
    """

    def __init__(self, data: Data) -> None:
        self.data = Data({name: column.own() for name, column in data.columns.items()}, data.length)
        self._columns = list(self.data.columns.values())
        #: For each input that is fed, the number of its column, what indices lie below, and what labels losses take.
        self._checks: list[tuple[int, int, list[Labels]]] = []
        #: Inputs that keep their values, or are random, and where programs read these.
        self._constants: list[tuple[Node, Array]] = []

    def watch(self, programs: Programs, traced: Traced, part: Part) -> None:
        """Take note of what has to be checked and brought up to date for a part that is bound to it."""
        numbers = {name: number for number, name in enumerate(self.data.columns)}
        inputs = zip(programs.leaves(traced), part.executable.program.inputs, part.sources, strict=False)
        for leaf, expected, source in inputs:
            place, owner = traced.place(leaf), traced.owner(leaf)
            if place is not None:
                self._checks.append((numbers[place[0]], expected.limit, traced.labels(leaf)))
            elif isinstance(owner, (InputNode, RandomNode)):
                self._constants.append((owner, source.array))

    def has_room(self, data: Data) -> bool:
        """Whether data of the same layout can take its place."""
        return all(own.has_room(column) for own, column in zip(self._columns, data.columns.values(), strict=True))

    @property
    def random(self) -> bool:
        """Whether programs read keys of random numbers."""
        return any(isinstance(node, RandomNode) for node, _ in self._constants)

    def has_large(self, dtype: str) -> bool:
        """Whether constants, as they are now, are larger than programs of a dtype take inputs to be."""
        return are_large([kept_value(node, 0) for node, _ in self._constants if isinstance(node, InputNode)], dtype)

    def replace(self, data: Data, seed: int = 0) -> None:
        """Let data of the same layout take its place, after they have been checked; random inputs follow a seed."""
        columns = list(data.columns.values())
        for number, limit, all_labels in self._checks:
            column = columns[number]
            if column.index and not column.within(limit):
                column.check_range(limit)
            for labels in all_labels:
                column.check_labels(labels)
        for own, column in zip(self._columns, columns, strict=True):
            own.replace(column)
        for node, array in self._constants:
            array[...] = kept_value(node, seed)


class KeptTraining:
    """The programs of steps, one example a run, on one thread.

    Parameters
    ----------
    feed
        What they are bound to.
    """

    def __init__(self, feed: HeldFeed, programs: TrainingPrograms, traced: Traced, part: Part, crew: Hogwild) -> None:
        self.part, self.crew = part, crew
        self._feed, self._reason = feed, crew.reason
        self._nodes, self._all = programs.parameters(traced), programs.noted
        self._trainable = [node.trainable for node in self._all]
        self._training, self._numbers = programs.assignment.of(self._nodes, True)
        feed.watch(programs, traced, part)
        self._large = feed.has_large(programs.dtype)

    @staticmethod
    def may_be(programs: TrainingPrograms, part: Part, crew: Hogwild) -> bool:
        """Whether programs may stay bound: nothing in them belongs to one call alone."""
        scheduled = any(expected.kind == "schedule" for expected in part.executable.program.inputs)
        return crew.num_threads == 1 and not scheduled and not _may_be_behind(programs.assignment, programs.noted)

    def fits(self, data: Data, assignment: Assignment) -> bool:
        """Whether data of the same layout fit, and the same is trained, in the same memory."""
        if not self._feed.has_room(data) or _may_be_behind(assignment, self._all):
            return False
        if [node.trainable for node in self._all] != self._trainable:
            return False
        if self._feed.has_large(self.part.executable.program.dtype) != self._large:  # which gradients are looked at
            return False
        training, numbers = assignment.of(self._nodes, True)
        if training != self._training or numbers != self._numbers:
            return False
        shared = assignment.buffers(self.part.executable.program, numbers)
        return all(memory is self.part.shared[buffer] for buffer, memory in shared.items())

    def begin(self, data: Data, programs: TrainingPrograms, seed: int) -> None:
        """Get ready for data."""
        self._feed.replace(data, key_seed(seed) if self._feed.random else 0)
        programs.note(self._all)
        programs.dtype = self.part.executable.program.dtype
        self.crew.reason = self._reason
        for worker in self.crew.workers:
            worker.examples = worker.steps = 0


def _may_be_behind(assignment: Assignment, nodes: Sequence[ParameterNode]) -> bool:
    """Whether there may be rows of parameters that optimizers leave behind."""
    return any(node.storage.lazy for node in (*nodes, *assignment.nodes))
